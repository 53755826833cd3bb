//! The kit for sources and sinks: the crate's own pass, and wrong ones are detected, each by the
//! law that it breaks.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

#[path = "../../examples/custom_sink.rs"]
#[allow(dead_code, reason = "the example's own job is run by tests/examples")]
mod custom_sink;
mod ours;
mod wrong_sinks;
mod wrong_sources;
