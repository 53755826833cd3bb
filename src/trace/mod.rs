//! Recording a run (SPEC 11.5-11.7).
//!
//! With [`crate::JobConfig::record`] every event that a machine of the protocol takes is written down, with its verdict and its effects,
//! and beside them what the machines do not see: bytes that became durable, commit calls, records between barriers.

pub mod format;
mod record;

pub(crate) use format::{Marker, What};
pub(crate) use record::Recorder;
pub use record::{MemoryTrace, Recording};
