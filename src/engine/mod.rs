//! Carries out what the protocol decides: tasks, the threads that host them, and the coordinator's driver.
//!
//! | module | what |
//! |---|---|
//! | [`task`], `committing` | one subtask: a step function around the machines of the protocol |
//! | [`body`], [`sink`] | the part of a task that sees records |
//! | [`outbox`] | where a task's output goes |
//! | [`valve`] | what a task's inputs together say of event time |
//! | [`worker`], [`turn`] | a thread that hosts subtasks |
//! | [`lanes`] | threads for what may wait |
//! | [`watch`], [`watchdog`] | what each thread is doing, and since when; who watches the coordinator's |
//! | [`platform`] | what all of it runs on: the operating system, or a simulator |
//! | [`driver`], `failing`, `storing`, `observe`, [`peer`] | the thread of the coordinator: its timers, its store, its effects |
//! | [`attempt`] | one life of a job's tasks: deploying it, ending it |
//! | [`gauges`], [`status`], `json`, [`handle`] | what is going on, for those who look; and what they can do |

pub(crate) mod attempt;
pub(crate) mod body;
mod committing;
pub(crate) mod driver;
mod failing;
pub(crate) mod failure;
pub(crate) mod gauges;
pub(crate) mod handle;
pub(crate) mod helpers;
mod json;
pub(crate) mod lanes;
mod observe;
pub(crate) mod outbox;
pub(crate) mod peer;
pub(crate) mod platform;
pub(crate) mod restart;
#[cfg(feature = "signals")]
pub(crate) mod signals;
pub(crate) mod sink;
pub(crate) mod status;
mod storing;
pub(crate) mod task;
pub(crate) mod turn;
pub(crate) mod valve;
pub(crate) mod watch;
pub(crate) mod watchdog;
pub(crate) mod worker;

use std::time::{Duration, Instant};

use snapline_protocol::coordinator::{Stop, StoreOp, StoreResult};
use snapline_protocol::ids::{Attempt, CheckpointId, SubtaskId};
use snapline_protocol::message::ToCoordinator;
use snapline_protocol::recovery::{Decision, RecoveryError};

use crate::store::{SnapshotRef, StoreError};
use failure::TaskFailure;
use handle::CheckpointFailed;

/// What goes with an acknowledgement, beside the protocol: what the manifest lists, and when it happened.
#[derive(Clone, Debug)]
pub(crate) struct Part {
    pub(crate) snapshot: SnapshotRef,
    pub(crate) first_barrier: Instant,
    pub(crate) taken: Instant,
    pub(crate) sync: Duration,
    pub(crate) writing: Duration,
}

/// Why a checkpoint did not come to be.
#[derive(Clone, Debug)]
pub(crate) struct Cause {
    pub(crate) text: String,
    /// Whether a restart is known not to mend it.
    pub(crate) permanent: bool,
}

impl Cause {
    /// One that may be gone the next time.
    pub(crate) const fn passing(text: String) -> Self {
        Self { text, permanent: false }
    }
}

/// What goes with a task's message, beside the protocol.
#[derive(Clone, Debug)]
pub(crate) enum Beside {
    Nothing,
    /// With an acknowledgement.
    Part(Box<Part>),
    /// With a decline.
    Cause(Cause),
}

/// What reaches the coordinator's driver.
pub(crate) enum Notice {
    /// A message of a task.
    Report(ToCoordinator, Beside),
    /// A task failed.
    Failed(Box<TaskFailure>),
    /// A source has no more records.
    SourceEnded { attempt: Attempt, subtask: SubtaskId },
    /// A write came back.
    Stored { op: StoreOp, result: StoreResult, error: Option<StoreError> },
    /// The claim was let through: ids from the first up to the second.
    Claimed(CheckpointId, CheckpointId),
    /// The facts were read.
    Recovered(Result<Decision, RecoveryError>, Vec<(CheckpointId, StoreError)>),
    /// The facts could not be read.
    Unread(StoreError),
    /// The tasks of an attempt have ended, and their writes with them.
    Concluded(Attempt),
    /// A user's wish.
    Wish(Wish),
}

/// What a user asks of a running job.
pub(crate) enum Wish {
    /// Take a checkpoint now.
    Checkpoint(crossbeam_channel::Sender<Result<CheckpointId, CheckpointFailed>>),
    /// Stop.
    Stop(Stop),
    /// End with no further checkpoint.
    Cancel,
}
