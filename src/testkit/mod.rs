//! Tests for custom sources and sinks: crashed at every step of the protocol, replayed, and checked
//! against what they declare.
//!
//! Whether a sink is exactly once depends on its behaviour when something fails at the worst
//! moment. A test that writes some records and reads them back sees none of it. The kit plays the
//! runtime for one sink: it opens, fences, writes, closes, prepares, commits and rolls back as in
//! SPEC 6. It ends each life of the sink at every step in turn and in several ways, and begins the
//! next. After each step it checks what the sink's readers can see. No job runs and no time passes,
//! so every finding is reproducible.
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
//! A source is simpler: from each of its positions it has to give what it gave before, see
//! [`source`].
//!
//! # Tests of whole jobs
//! A job under test runs like any other, between [`MemorySource`](crate::connect::MemorySource) and
//! [`MemorySink`](crate::connect::MemorySink). The order of its output across keys may differ from
//! run to run, since each job draws the seed of its hashes. Sort the actual and the expected output
//! before comparing them.
//!
//! # What it does not see
//! One thread makes all calls, one after the other: concurrent work of a sink's own threads is not
//! tested. A crash falls between two calls, never into one. A *killed* life is one whose
//! destructors do not run, in the same process: its files stay open, and locks of the process stay
//! locked. Unsynced writes are not lost, as they may be when a machine fails. A job keeps its
//! parallelism.

mod laws;
mod sink;
mod source;

use serde::Serialize;
use serde::de::DeserializeOwned;

pub use laws::{Law, Report, Violation};
pub use sink::{SinkCheck, SinkUnderTest, sink};
pub use source::{SourceCheck, source};

use crate::state::codec;

/// The bytes of a value in a checkpoint.
fn written<T: Serialize>(value: &T) -> Result<Vec<u8>, String> {
    let mut bytes = Vec::new();
    let written = codec::write(value, &mut bytes);
    written.map(|()| bytes).map_err(|error| format!("it cannot be written: {error}"))
}

/// Reads a value from its bytes in a checkpoint.
fn read<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, String> {
    codec::read(bytes).map_err(|error| format!("it cannot be read again: {error}"))
}
