//! The broken twins: files that the build script has made. With no twin switched on they equal the
//! runtime.
#![allow(
    missing_docs,
    unsafe_code,
    reason = "made of files that are documented where they are from; a twin may break more than they"
)]

include!(concat!(env!("OUT_DIR"), "/broken.rs"));
