//! Recording a run, and replaying it on fresh machines (SPEC 11.5-11.10).
//!
//! With [`crate::JobConfig::record`] every event of a protocol machine is recorded, with its
//! verdict and its effects. The trace also holds what the machines do not see: bytes that became
//! durable, commit calls, records between barriers. [`replay`] feeds the events to fresh machines
//! and stops at the first difference, or at what no machine could have led to.
//!
//! ```
//! use snapline::connect::{MemorySink, MemorySource};
//! use snapline::trace::{MemoryTrace, RunTrace, replay};
//! use snapline::{Dataflow, JobConfig};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let (flow, trace) = (Dataflow::new("recorded"), MemoryTrace::new());
//! flow.source("in", MemorySource::new(vec![1, 2, 3])).sink("out", MemorySink::new());
//! flow.build(JobConfig::new().record(trace.clone()))?.run()?;
//!
//! let files = trace.files();
//! let runs = files.iter().map(|(name, bytes)| RunTrace::read(name, bytes));
//! let replayed = replay(&runs.collect::<Result<Vec<_>, _>>()?)?;
//! assert_eq!(replayed.tally.checkpoints, 1, "the one at the end");
//! # Ok(())
//! # }
//! ```

mod event;
pub mod format;
mod read;
mod record;
mod replay;

pub(crate) use format::{Marker, What};
pub use read::{ReadError, RunTrace, Wrong};
pub(crate) use record::Recorder;
pub use record::{MemoryTrace, Recording};
pub use replay::{Difference, Replayed, Rule, Stand, Tally, replay, replay_telling};
