//! Barriers in band, control messages beside them, and the permits they carry.
//!
//! Permits are types. An [`Ack`] exists only where a [`Persisted`] was; a [`CommitPermit`] only
//! where a checkpoint completed or recovery chose it. Glue that acknowledges before the bytes are
//! durable, or commits at the barrier, does not compile:
//!
//! ```compile_fail
//! use snapline_protocol::{ids::CheckpointId, message::CommitPermit};
//! let forged = CommitPermit { checkpoint: CheckpointId::FIRST }; // private field
//! ```
//! ```compile_fail
//! use snapline_protocol::{ids::TxnId, message::CommitGrant};
//! fn at_the_barrier(txn: TxnId) -> CommitGrant { CommitGrant { txn } } // private field
//! ```
//! ```compile_fail
//! use snapline_protocol::message::CommitGrant;
//! fn twice(grant: CommitGrant) -> (CommitGrant, CommitGrant) { (grant, grant) } // used by the first
//! ```
//! ```compile_fail
//! use snapline_protocol::message::CommitGrant;
//! fn again(grant: &CommitGrant) -> CommitGrant { grant.clone() } // no copy of it
//! ```
//! ```compile_fail
//! use snapline_protocol::{ids::*, message::Ack};
//! let (subtask, checkpoint) = (SubtaskId::new(0), CheckpointId::FIRST);
//! let forged = Ack { subtask, checkpoint, ended: false }; // private fields
//! ```

use crate::ids::{Attempt, CheckpointId, SubtaskId, TxnId};

/// The purpose of a checkpoint. (Savepoints and unaligned barriers will be further kinds.)
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "kebab-case"))]
pub enum CheckpointKind {
    /// Taken for recovery; the job continues after it.
    Periodic,
    /// Stop with drain: sources end their input before the barrier (SPEC 4.8).
    Drain,
    /// Stop without drain: sources emit nothing after the barrier (SPEC 4.8).
    Suspend,
}

/// The marker that flows with the records: everything before it on a channel belongs to its
/// checkpoint.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Barrier {
    /// The checkpoint.
    pub checkpoint: CheckpointId,
    /// The newest checkpoint that was complete when this one was triggered. A snapshot may share
    /// blobs with no other (SPEC 8.3).
    pub base: Option<CheckpointId>,
    /// The checkpoint's kind.
    pub kind: CheckpointKind,
}

/// Proof that all bytes of one subtask's snapshot are durable. Only the storage side makes one
/// (SPEC 3.5).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[must_use]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct Persisted {
    attempt: Attempt,
    checkpoint: CheckpointId,
}

impl Persisted {
    /// Attests that the snapshot of `checkpoint`, taken in `attempt`, is durable: written, synced,
    /// and reachable after a crash.
    ///
    /// Only the code that has seen the sync succeed may call this; a tidy test names the files that
    /// do.
    pub const fn attest(attempt: Attempt, checkpoint: CheckpointId) -> Self {
        Self { attempt, checkpoint }
    }

    /// The attempt of the task that took the snapshot.
    #[must_use]
    pub const fn attempt(&self) -> Attempt {
        self.attempt
    }

    /// The checkpoint of the snapshot.
    #[must_use]
    pub const fn checkpoint(&self) -> CheckpointId {
        self.checkpoint
    }
}

/// One subtask's part of a checkpoint is durable. The aligner builds it from a [`Persisted`].
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

    /// An ack without a snapshot, for a checker that simulates a broken driver.
    #[cfg(feature = "forge")]
    #[must_use]
    pub const fn forge(subtask: SubtaskId, checkpoint: CheckpointId, ended: bool) -> Self {
        Self { subtask, checkpoint, ended }
    }

    /// The subtask that acknowledges.
    #[must_use]
    pub const fn subtask(&self) -> SubtaskId {
        self.subtask
    }

    /// The checkpoint.
    #[must_use]
    pub const fn checkpoint(&self) -> CheckpointId {
        self.checkpoint
    }

    /// True if every input of the subtask had ended before the barrier.
    #[must_use]
    pub const fn ended(&self) -> bool {
        self.ended
    }
}

/// Permission to commit every transaction up to a checkpoint. Only recovery and the coordinator
/// make one, the latter after the manifest is durable.
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

    /// A permit without a checkpoint, for a checker that simulates a broken driver.
    #[cfg(feature = "forge")]
    pub const fn forge(checkpoint: CheckpointId) -> Self {
        Self { checkpoint }
    }

    /// The completed checkpoint that the permit covers.
    #[must_use]
    pub const fn checkpoint(&self) -> CheckpointId {
        self.checkpoint
    }

    /// Permission for one call that commits this transaction; `None` if the permit does not cover
    /// it (SPEC 6.1).
    pub fn grant(self, txn: TxnId) -> Option<CommitGrant> {
        (txn.checkpoint <= self.checkpoint).then_some(CommitGrant { txn })
    }
}

/// Permission for one call that commits one transaction. The call consumes it: it can be neither
/// copied nor kept. Only a [`CommitPermit`] that covers the transaction gives one, so that glue
/// that commits at the barrier does not compile.
#[derive(PartialEq, Eq, Debug)]
#[must_use]
pub struct CommitGrant {
    txn: TxnId,
}

impl CommitGrant {
    /// The transaction.
    #[must_use]
    pub const fn txn(&self) -> TxnId {
        self.txn
    }
}

/// Coordinator to task. May be lost, doubled, reordered, and delayed across restarts (SPEC 2.3).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct ToTask {
    /// The attempt that the message is for; any other ignores it.
    pub attempt: Attempt,
    /// The order.
    pub order: Order,
}

/// An order of a coordinator to a task.
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
    /// The sender's attempt; the coordinator ignores reports of any other than the current one.
    pub attempt: Attempt,
    /// The report.
    pub report: Report,
}

/// A report of a task to its coordinator.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub enum Report {
    /// The subtask's part is durable.
    Ack(Ack),
    /// The subtask declines the checkpoint.
    Decline {
        /// The subtask.
        subtask: SubtaskId,
        /// The checkpoint.
        checkpoint: CheckpointId,
    },
    /// Every transaction up to the checkpoint is committed, or known to be lost.
    Resolved {
        /// The sink subtask.
        subtask: SubtaskId,
        /// The checkpoint.
        checkpoint: CheckpointId,
        /// True if the external system had dropped a transaction that was to be committed: data is
        /// gone (SPEC 6.5).
        lost: bool,
    },
}
