//! Tests for sources and sinks of your own: crashed at every step of the protocol, replayed, and held against what they declare.
//!
//! A sink that is exactly once is so because of what it does when something fails, at the worst moment; a test that writes some records
//! and reads them back sees none of it. The kit plays the runtime for one sink: it opens, fences, writes, closes, prepares, commits and
//! rolls back as SPEC 6 has it, ends each life of the sink at every step in turn and in several ways, and begins the next; behind each step
//! it looks at what the sink's readers can see. No job runs and no time passes: what it finds, it finds again.
//!
//! ```
//! use snapline::BoxError;
//! use snapline::connect::MemorySink;
//! use snapline::testkit::{self, SinkUnderTest};
//!
//! /// An external system of its own for each run.
//! struct InMemory(MemorySink<u64>);
//!
//! impl SinkUnderTest for InMemory {
//!     type Sink = MemorySink<u64>;
//!
//!     fn sink(&self) -> MemorySink<u64> {
//!         self.0.clone()
//!     }
//!
//!     fn record(&self, number: u64) -> u64 {
//!         number
//!     }
//!
//!     fn visible(&self) -> Result<Vec<u64>, BoxError> {
//!         Ok(self.0.committed())
//!     }
//! }
//!
//! let report = testkit::sink(|| InMemory(MemorySink::new())).check().unwrap_or_else(|violation| panic!("{violation}"));
//! assert!(report.crashes > 100);
//! ```
//!
//! A source is simpler: from each of its positions it has to give what it gave before, see [`source`].
//!
//! # Tests of whole jobs
//! A job under test runs like any other, between [`MemorySource`](crate::connect::MemorySource) and
//! [`MemorySink`](crate::connect::MemorySink). Its output across keys may come in another order in every run, since each job draws the seed of
//! its hashes; sort what came and what was expected before they are compared.
//!
//! # What it does not see
//! One thread makes all calls, one after the other: what a sink's own threads do at the same time is not tried. A crash falls between two
//! calls, never into one; a *killed* life is one whose destructors do not run, in the same process: files that it holds stay open, and locks of
//! the process stay locked. What was written without a sync is not lost, as it may be when a machine fails. A job keeps its parallelism.

mod laws;
mod sink;
mod source;

use serde::Serialize;
use serde::de::DeserializeOwned;

pub use laws::{Law, Report, Violation};
pub use sink::{SinkCheck, SinkUnderTest, sink};
pub use source::{SourceCheck, source};

use crate::state::codec;

/// What a checkpoint would hold of a value.
fn written<T: Serialize>(value: &T) -> Result<Vec<u8>, String> {
    let mut bytes = Vec::new();
    let written = codec::write(value, &mut bytes);
    written.map(|()| bytes).map_err(|error| format!("it cannot be written: {error}"))
}

/// A value out of what a checkpoint would hold of it.
fn read<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, String> {
    codec::read(bytes).map_err(|error| format!("it cannot be read again: {error}"))
}
