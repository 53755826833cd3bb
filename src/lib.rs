//! An embeddable, exactly-once stream-processing runtime whose checkpoint protocol is model-checked.

mod channel;
pub mod connect;
mod dataflow;
mod engine;
mod error;
pub mod state;
pub mod store;
mod sync;

pub use dataflow::*;
pub use engine::failure::TaskFailure;
pub use engine::handle::{CheckpointFailed, Ended, JobError, JobHandle, Outcome};
pub use engine::status::{
    CheckpointStats, JobPhase, JobStatus, SubtaskStats, TaskStatus, UnderWayStatus,
};
pub use error::BoxError;
pub use snapline_protocol as protocol;
