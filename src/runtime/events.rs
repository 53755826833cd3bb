//! The events that reach the driver of the coordinator.

use std::time::{Duration, Instant};

use snapline_protocol::coordinator::{Stop, StoreOp, StoreResult};
use snapline_protocol::ids::{Attempt, CheckpointId, SubtaskId};
use snapline_protocol::message::ToCoordinator;
use snapline_protocol::recovery::{Decision, RecoveryError};

use crate::runtime::failure::TaskFailure;
use crate::runtime::handle::CheckpointFailed;
use crate::store::{SnapshotRef, StoreError};

/// What accompanies an acknowledgement outside the protocol: what the manifest lists, and the
/// times.
#[derive(Clone, Debug)]
pub(crate) struct AckDetails {
    pub(crate) snapshot: SnapshotRef,
    pub(crate) first_barrier: Instant,
    pub(crate) taken: Instant,
    pub(crate) sync: Duration,
    pub(crate) writing: Duration,
}

/// Why a checkpoint did not complete.
#[derive(Clone, Debug)]
pub(crate) struct Cause {
    pub(crate) text: String,
    /// Whether a restart is known not to help.
    pub(crate) permanent: bool,
}

impl Cause {
    /// A cause that may be gone the next time.
    pub(crate) const fn passing(text: String) -> Self {
        Self { text, permanent: false }
    }
}

/// What accompanies a task's message outside the protocol.
#[derive(Clone, Debug)]
pub(crate) enum Beside {
    Nothing,
    /// With an acknowledgement.
    AckDetails(Box<AckDetails>),
    /// With a decline.
    Cause(Cause),
}

/// An event for the coordinator's driver.
pub(crate) enum DriverEvent {
    /// A message of a task.
    Report(ToCoordinator, Beside),
    /// A task failed.
    Failed(Box<TaskFailure>),
    /// A source has no more records.
    SourceEnded { attempt: Attempt, subtask: SubtaskId },
    /// The result of a write.
    Stored { op: StoreOp, result: StoreResult, error: Option<StoreError> },
    /// The claim was granted: ids from the first up to the second.
    Claimed(CheckpointId, CheckpointId),
    /// The facts were read.
    Recovered(Result<Decision, RecoveryError>, Vec<(CheckpointId, StoreError)>),
    /// The facts could not be read.
    Unread(StoreError),
    /// The tasks of an attempt have ended, and their writes with them.
    Concluded(Attempt),
    /// A user's command.
    UserCommand(UserCommand),
}

/// A user's command to a running job.
pub(crate) enum UserCommand {
    /// Take a checkpoint now.
    Checkpoint(crossbeam_channel::Sender<Result<CheckpointId, CheckpointFailed>>),
    /// Stop.
    Stop(Stop),
    /// End with no further checkpoint.
    Cancel,
}
