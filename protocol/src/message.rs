//! What travels: barriers in band, control messages beside them, and the permits they carry.
//!
//! Permits are types. An [`Ack`] exists only where a [`Persisted`] was; a [`CommitPermit`] only where a checkpoint completed or
//! recovery chose it. Glue that acknowledges before the bytes are durable, or commits at the barrier, does not compile:
//!
//! ```compile_fail
//! use snapline_protocol::{ids::CheckpointId, message::CommitPermit};
//! let forged = CommitPermit { checkpoint: CheckpointId::FIRST }; // private field
//! ```
//! ```compile_fail
//! use snapline_protocol::{ids::*, message::Ack};
//! let forged = Ack { subtask: SubtaskId::new(0), checkpoint: CheckpointId::FIRST, ended: false }; // private fields
//! ```

use crate::ids::{Attempt, CheckpointId, SubtaskId};

/// What a checkpoint is for. (Savepoints and unaligned barriers will be further kinds.)
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "kebab-case"))]
pub enum CheckpointKind {
    /// Taken for recovery; the job goes on behind it.
    Periodic,
    /// Stop with drain: sources end their input before the barrier (SPEC 4.8).
    Drain,
    /// Stop without drain: sources emit nothing behind the barrier (SPEC 4.8).
    Suspend,
}

/// The marker that flows with the records: whatever is before it on a channel belongs to its checkpoint.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Barrier {
    /// The checkpoint it cuts for.
    pub checkpoint: CheckpointId,
    /// The newest checkpoint that was complete when this one was triggered: the only one a snapshot may share blobs with (SPEC 8.3).
    pub base: Option<CheckpointId>,
    /// What the checkpoint is for.
    pub kind: CheckpointKind,
}

/// Proof that all bytes of one subtask's snapshot are durable. Made by the storage side, and by nothing else (SPEC 3.5).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[must_use]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct Persisted {
    attempt: Attempt,
    checkpoint: CheckpointId,
}

impl Persisted {
    /// Attests that the snapshot of `checkpoint`, taken in `attempt`, is durable: written, synced, and reachable after a crash.
    ///
    /// Only the code that has seen the sync succeed may call this; a tidy test names the files that do.
    pub const fn attest(attempt: Attempt, checkpoint: CheckpointId) -> Self {
        Self { attempt, checkpoint }
    }

    /// The life of the task that took the snapshot.
    #[must_use]
    pub const fn attempt(&self) -> Attempt {
        self.attempt
    }

    /// The checkpoint it belongs to.
    #[must_use]
    pub const fn checkpoint(&self) -> CheckpointId {
        self.checkpoint
    }
}

/// A subtask's part of a checkpoint is durable. Built by the aligner, from a [`Persisted`].
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct Ack {
    subtask: SubtaskId,
    checkpoint: CheckpointId,
    ended: bool,
}

impl Ack {
    pub(crate) const fn new(persisted: Persisted, subtask: SubtaskId, ended: bool) -> Self {
        Self { subtask, checkpoint: persisted.checkpoint, ended }
    }

    /// An ack out of nothing, for a checker that plays a broken driver.
    #[cfg(feature = "forge")]
    #[must_use]
    pub const fn forge(subtask: SubtaskId, checkpoint: CheckpointId, ended: bool) -> Self {
        Self { subtask, checkpoint, ended }
    }

    /// Who acknowledges.
    #[must_use]
    pub const fn subtask(&self) -> SubtaskId {
        self.subtask
    }

    /// Which checkpoint.
    #[must_use]
    pub const fn checkpoint(&self) -> CheckpointId {
        self.checkpoint
    }

    /// Whether every input of the subtask had ended before the barrier.
    #[must_use]
    pub const fn ended(&self) -> bool {
        self.ended
    }
}

/// Leave to commit every transaction up to a checkpoint. Only the coordinator (after the manifest is durable) and recovery make one.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[must_use]
pub struct CommitPermit {
    checkpoint: CheckpointId,
}

impl CommitPermit {
    pub(crate) const fn new(checkpoint: CheckpointId) -> Self {
        Self { checkpoint }
    }

    /// A permit out of nothing, for a checker that plays a broken driver.
    #[cfg(feature = "forge")]
    pub const fn forge(checkpoint: CheckpointId) -> Self {
        Self { checkpoint }
    }

    /// The completed checkpoint the permit stands on.
    #[must_use]
    pub const fn checkpoint(&self) -> CheckpointId {
        self.checkpoint
    }
}

/// Coordinator to task. May be lost, doubled, reordered, and delayed across restarts (SPEC 2.3).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct ToTask {
    /// The life of the tasks it is meant for; any other ignores it.
    pub attempt: Attempt,
    /// What it says.
    pub order: Order,
}

/// What a coordinator tells a task.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub enum Order {
    /// To sources: inject this barrier.
    Trigger(Barrier),
    /// To all: the checkpoint is given up; it may overtake the barrier (SPEC 5.6).
    Abort(CheckpointId),
    /// To sinks: the checkpoint is complete; commit.
    Complete(CommitPermit),
}

/// Task to coordinator. May be lost, doubled, reordered, and delayed across restarts (SPEC 2.3).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct ToCoordinator {
    /// The sender's life; the coordinator hears only the current one.
    pub attempt: Attempt,
    /// What it says.
    pub report: Report,
}

/// What a task tells its coordinator.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub enum Report {
    /// The subtask's part is durable.
    Ack(Ack),
    /// The subtask cannot take part.
    Decline {
        /// Who.
        subtask: SubtaskId,
        /// In which checkpoint.
        checkpoint: CheckpointId,
    },
    /// Every transaction up to the checkpoint is committed, or known to be lost.
    Resolved {
        /// Which sink.
        subtask: SubtaskId,
        /// Up to which checkpoint.
        checkpoint: CheckpointId,
        /// Whether the external system had dropped a transaction that was to be committed: data is gone (SPEC 6.5).
        lost: bool,
    },
}
