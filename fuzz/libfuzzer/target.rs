//! A target of `snapline-fuzz`, by the name of the binary, for libFuzzer.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| snapline_fuzz::run(env!("CARGO_BIN_NAME"), bytes));
