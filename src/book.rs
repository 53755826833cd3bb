//! The Rust snippets of the README and of the book (`docs/book`), compiled as documentation tests.
//!
//! One struct holds each text, under the features that its snippets need. `tests/book.rs` fails if
//! a chapter with a Rust snippet is not here.

#[doc = include_str!("../README.md")]
struct Readme;

#[doc = include_str!("../docs/book/src/start.md")]
struct Start;

#[doc = include_str!("../docs/book/src/guarantees.md")]
struct Guarantees;

#[cfg(feature = "formats")]
#[doc = include_str!("../docs/book/src/connectors.md")]
struct Connectors;

#[doc = include_str!("../docs/book/src/state.md")]
struct State;

#[cfg(feature = "testkit")]
#[doc = include_str!("../docs/book/src/sink.md")]
struct Sink;

#[cfg(feature = "sim")]
#[doc = include_str!("../docs/book/src/ci.md")]
struct Ci;

#[doc = include_str!("../docs/book/src/counterexample.md")]
struct Counterexample;

#[cfg(feature = "dashboard")]
#[doc = include_str!("../docs/book/src/operating.md")]
struct Operating;

#[cfg(feature = "settings")]
#[doc = include_str!("../docs/book/src/settings.md")]
struct Settings;

#[cfg(feature = "prometheus")]
#[doc = include_str!("../docs/book/src/metrics.md")]
struct Metrics;
