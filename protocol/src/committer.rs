//! A sink's transactions: when one may be committed, and in which order (SPEC 6).
//!
//! ```text
//!              barrier n               permit >= n            committed, or was already
//!   (writing) -----------> pending(n) ------------> in flight ---------------------------> gone
//!                             ^                       |   |
//!                             '-------- retry, unknown'   '--> dropped by the external system:
//!                                                              Failed, reported loudly
//! ```
//! Commits go in checkpoint order, one at a time. After a restore the sink reads nothing until
//! every transaction of the restored checkpoint is resolved (phase [`Phase::Recommitting`]).

use alloc::vec::Vec;

use crate::ids::{Attempt, CheckpointId, SubtaskId, TxnId};
use crate::message::{CommitPermit, Order, Report, ToCoordinator, ToTask};
use crate::{Machine, Out, Verdict, Why};

/// The values that never change during a committer's life.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Config {
    /// The sink subtask.
    pub subtask: SubtaskId,
}

/// The phase of a sink.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Phase {
    /// Replaying the commits of the checkpoint it was restored from; reads nothing (SPEC 6.4).
    Recommitting,
    /// Taking records and barriers.
    Running,
    /// The external system dropped a transaction that was to be committed (SPEC 6.5). The sink
    /// takes no further part.
    Failed,
}

/// The outcome of a commit call.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub enum CommitOutcome {
    /// Committed by this call.
    Committed,
    /// An earlier call had committed it.
    AlreadyCommitted,
    /// Not committed; a later call may succeed.
    Retry,
    /// The call may or may not have taken effect; a later call will show which (SPEC 2.9).
    Unknown,
    /// The external system has dropped the transaction: its data is gone.
    Lost,
}

/// An input of a sink.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub enum Event {
    /// The aligner takes a snapshot: the open transaction ends here. An empty one is a full
    /// participant (SPEC 6.2).
    Barrier(CheckpointId),
    /// A message from a coordinator.
    Control(ToTask),
    /// A commit call returned.
    Outcome {
        /// The transaction.
        txn: TxnId,
        /// The outcome of the call.
        outcome: CommitOutcome,
    },
}

/// An action that the driver must carry out for a sink.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub enum Effect {
    /// Flush and prepare the open transaction under this name, before the snapshot is taken: its
    /// committable is part of it.
    PreCommit(TxnId),
    /// Fence off the writers of earlier attempts, and roll back every transaction that
    /// [`Committer::is_orphan`] names, before any commit or new transaction of this attempt.
    RollBackOrphans,
    /// Commit, by name. The driver chooses the pause before a repeated call.
    Commit(TxnId, CommitPermit),
    /// Send to the coordinator.
    Send(ToCoordinator),
}

/// The machine. The module documentation shows its states.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Committer {
    attempt: Attempt,
    phase: Phase,
    /// Pre-committed transactions that are not known to be resolved, ascending. A snapshot must
    /// hold them (SPEC 6.3).
    pending: Vec<TxnId>,
    /// The newest permit.
    permit: Option<CommitPermit>,
    /// True while the first of `pending` is being committed.
    in_flight: bool,
}

impl Committer {
    /// A sink at the start of an attempt. It rolls back the transactions that earlier attempts
    /// left. If `restored` (the committables in its snapshot, and recovery's permit), it first
    /// commits those again (SPEC 6.4).
    #[must_use]
    pub fn start(
        config: &Config,
        attempt: Attempt,
        restored: Option<(Vec<TxnId>, CommitPermit)>,
        out: &mut Out<Effect>,
    ) -> Self {
        let phase = if restored.is_some() { Phase::Recommitting } else { Phase::Running };
        let (pending, permit) =
            restored.map_or((Vec::new(), None), |(p, permit)| (p, Some(permit)));
        let mut sink = Self { attempt, phase, pending, permit, in_flight: false };
        out.push(Effect::RollBackOrphans);
        sink.advance(config, out);
        sink
    }

    /// True if this attempt must roll back a prepared transaction that it finds in the external
    /// system: an earlier attempt wrote it, and the restored checkpoint does not hold it (SPEC
    /// 6.4).
    #[must_use]
    pub fn is_orphan(&self, config: &Config, txn: &TxnId) -> bool {
        txn.subtask == config.subtask && txn.attempt < self.attempt && !self.pending.contains(txn)
    }

    /// The current phase.
    #[must_use]
    pub const fn phase(&self) -> Phase {
        self.phase
    }

    /// True if records and barriers may be read (SPEC 6.4).
    #[must_use]
    pub const fn may_read(&self) -> bool {
        matches!(self.phase, Phase::Running)
    }

    /// The newest checkpoint that the sink is permitted to commit: at its start, the restored one
    /// (SPEC 7.7).
    #[must_use]
    pub fn permitted(&self) -> Option<CheckpointId> {
        self.permit.map(|permit| permit.checkpoint())
    }

    /// The committables that belong in a snapshot taken now (SPEC 6.3).
    #[must_use]
    pub fn pending(&self) -> &[TxnId] {
        &self.pending
    }

    /// Commits the next permitted transaction, or reports that none is left.
    fn advance(&mut self, config: &Config, out: &mut Out<Effect>) {
        let Some(permit) = self.permit else { return };
        match self.pending.first() {
            Some(&txn) if txn.checkpoint <= permit.checkpoint() => {
                self.in_flight = true;
                out.push(Effect::Commit(txn, permit));
            }
            _ => {
                self.phase = Phase::Running;
                self.report(config, permit.checkpoint(), false, out);
            }
        }
    }

    fn report(&self, config: &Config, checkpoint: CheckpointId, lost: bool, out: &mut Out<Effect>) {
        let report = Report::Resolved { subtask: config.subtask, checkpoint, lost };
        out.push(Effect::Send(ToCoordinator { attempt: self.attempt, report }));
    }

    // SPEC 6.1, 6.6
    fn complete(
        &mut self,
        config: &Config,
        permit: CommitPermit,
        out: &mut Out<Effect>,
    ) -> Verdict {
        if self.phase == Phase::Failed {
            // The first report may have been lost: send it again (SPEC 6.5).
            self.report(config, permit.checkpoint(), true, out);
            return Verdict::Applied;
        }
        let newer = self.permit < Some(permit);
        self.permit = self.permit.max(Some(permit));
        if self.in_flight {
            return if newer { Verdict::Applied } else { Verdict::Ignored(Why::Duplicate) };
        }
        // Also for a known permit: the answer to the first may have been lost.
        self.advance(config, out);
        Verdict::Applied
    }

    fn outcome(
        &mut self,
        config: &Config,
        txn: TxnId,
        outcome: CommitOutcome,
        out: &mut Out<Effect>,
    ) -> Verdict {
        if !self.in_flight || self.pending.first() != Some(&txn) {
            return Verdict::Ignored(Why::Duplicate);
        }
        // Invariant: `in_flight` is set only under a permit, and permits only grow.
        let permit = self.permit.expect("a commit in flight has its permit");
        match outcome {
            // SPEC 6.6
            CommitOutcome::Committed | CommitOutcome::AlreadyCommitted => {
                self.pending.remove(0);
                self.in_flight = false;
                self.advance(config, out);
            }
            // SPEC 6.6: retried until the outcome is known.
            CommitOutcome::Retry | CommitOutcome::Unknown => out.push(Effect::Commit(txn, permit)),
            // SPEC 6.5
            CommitOutcome::Lost => {
                self.in_flight = false;
                self.phase = Phase::Failed;
                self.report(config, permit.checkpoint(), true, out);
            }
        }
        Verdict::Applied
    }
}

impl Machine for Committer {
    type Config = Config;
    type Event = Event;
    type Effect = Effect;

    fn handle(&mut self, config: &Config, event: Event, out: &mut Out<Effect>) -> Verdict {
        match event {
            // SPEC 6.2
            Event::Barrier(checkpoint) => {
                assert!(self.may_read(), "a sink that may not read is given no barrier");
                let txn = TxnId { checkpoint, attempt: self.attempt, subtask: config.subtask };
                debug_assert!(self.pending.last() < Some(&txn), "barriers come in order");
                self.pending.push(txn);
                out.push(Effect::PreCommit(txn));
                Verdict::Applied
            }
            Event::Control(message) if message.attempt != self.attempt => {
                Verdict::Ignored(Why::Stale)
            }
            Event::Control(ToTask { order: Order::Complete(permit), .. }) => {
                self.complete(config, permit, out)
            }
            // Handled by the aligner.
            Event::Control(_) => Verdict::Ignored(Why::Closed),
            Event::Outcome { txn, outcome } => self.outcome(config, txn, outcome, out),
        }
    }
}
