//! Checkpoint start, completion and abort; stop; failover (SPEC 4).
//!
//! ```text
//!   Claiming --fence raised--> Recovering --decided--> Running --final commits resolved--.
//!      |                          ^                       |                              |
//!      |                          '---- a task failed ----'                              v
//!      '-- fence lost -> Deposed                  Finished <--tasks ended, swept-- Closing
//!
//!   any phase: fence lost -> Deposed; data lost, or nothing restorable -> Failed
//! ```
//! A checkpoint under way:
//! ```text
//!   Collecting --all acks--> Storing --applied--> complete (kept, commits being resolved)
//!       |                      |   '--unknown--> Storing (the same write again)
//!       '-- decline, timeout, -'-- not applied --> aborted
//! ```
//! The instant at which the manifest is durable, and no other, completes a checkpoint (SPEC 4.5).
//!
//! Longer than 500 lines: one machine, one transition table; neither half could be read against
//! SPEC 4 by itself.

use alloc::vec::Vec;

use crate::fence::Claimant;
use crate::ids::{Attempt, CheckpointId, IndexSet, SubtaskId, Term};
use crate::message::{
    Ack, Barrier, CheckpointKind, CommitPermit, Order, Report, ToCoordinator, ToTask,
};
use crate::recovery::{Decision, RecoveryError};
use crate::retention::{Roots, UnderWay};
use crate::{Machine, Out, Verdict, Why};

/// The values that never change during a coordinator's life.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Config {
    /// The number of subtasks of the job.
    pub subtasks: usize,
    /// The subtasks that are sources.
    pub sources: IndexSet,
    /// The subtasks that are sinks.
    pub sinks: IndexSet,
    /// The number of checkpoints that may be under way at once, from 1.
    pub max_concurrent: usize,
    /// The number of checkpoints that may fail in a row before the job is restarted.
    pub tolerable_failures: u32,
    /// The number of completed checkpoints to keep; `None` keeps all and deletes nothing.
    pub retained: Option<usize>,
    /// The number of checkpoint ids that one durable reservation covers, from 1.
    pub id_block: u64,
}

/// The way in which the user stops a job.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub enum Stop {
    /// End the input, process what was read, commit everything.
    Drain,
    /// Commit up to a checkpoint; the job can be resumed from it.
    Suspend,
}

/// A wait for which the driver keeps time.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub enum Timer {
    /// Until the next checkpoint is due.
    Interval,
    /// Until a checkpoint under way is given up.
    Timeout(CheckpointId),
    /// Until the coordinator sends a completion notice again to the sinks that have not reported.
    Resend,
}

/// A write to the store. Its result comes back as [`Event::Stored`].
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub enum StoreOp {
    /// Raise the fence to this term if it is lower, and reserve the next `block` ids after all
    /// reserved ones, in one write.
    Claim {
        /// The coordinator's term.
        term: Term,
        /// Distinguishes this coordinator from another that chose the same term.
        claimant: Claimant,
        /// The number of ids.
        block: u64,
    },
    /// Reserve ids below `until`.
    Reserve {
        /// The coordinator's term; refused if the fence is higher.
        term: Term,
        /// The first id that is not reserved.
        until: CheckpointId,
    },
    /// Put the manifest if it is absent. If it is present and this coordinator's, the write counts
    /// as applied.
    Manifest {
        /// The coordinator's term; refused if the fence is higher.
        term: Term,
        /// The attempt whose snapshots it lists.
        attempt: Attempt,
        /// The checkpoint.
        checkpoint: CheckpointId,
        /// The checkpoint's kind.
        kind: CheckpointKind,
        /// True if the input of every subtask had ended.
        ended: bool,
    },
    /// Ask [`crate::retention::plan`] for the garbage, given [`Coordinator::roots`], and delete it.
    Collect {
        /// The coordinator's term.
        term: Term,
    },
}

/// The outcome of a write.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub enum StoreResult {
    /// Durable.
    Applied,
    /// Not durable, and never will be.
    NotApplied,
    /// The outcome is unknown. Never a reason to delete (SPEC 8.4).
    Unknown,
    /// Refused: the fence belongs to a later term.
    Fenced,
}

/// An input of a coordinator.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub enum Event {
    /// A timer it armed has fired. [`Timer::Interval`] may also be fired early: a checkpoint asked
    /// for by hand.
    Fired(Timer),
    /// A write ended.
    Stored {
        /// The write.
        op: StoreOp,
        /// Its outcome.
        result: StoreResult,
    },
    /// The fence was raised; ids from `first` up to, not including, `until` are this coordinator's.
    Claimed {
        /// The first id.
        first: CheckpointId,
        /// One past the last id.
        until: CheckpointId,
    },
    /// The facts were read and [`crate::recovery::decide`] decided.
    Recovered(Result<Decision, RecoveryError>),
    /// A message from a task.
    Report(ToCoordinator),
    /// Every task of an attempt has ended, and with them their writes: the answer to
    /// [`Effect::Conclude`].
    Concluded {
        /// The attempt.
        attempt: Attempt,
    },
    /// A task of an attempt failed.
    TaskFailed {
        /// The attempt.
        attempt: Attempt,
    },
    /// The user stops the job.
    Stop(Stop),
}

/// An action that the driver must carry out for a coordinator.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub enum Effect {
    /// Write to the store; storage is a peer.
    Store(StoreOp),
    /// Read the facts, decide, and return [`Event::Recovered`].
    Recover,
    /// End every earlier attempt and start this one. The host does so only if no later attempt was
    /// started (SPEC 3.2).
    Deploy {
        /// The new attempt.
        attempt: Attempt,
        /// The decision that it starts from.
        decision: Decision,
    },
    /// The job is over: end the tasks of this attempt, writes in flight included, and return
    /// [`Event::Concluded`].
    Conclude {
        /// The attempt.
        attempt: Attempt,
    },
    /// Send to one task.
    Send(SubtaskId, ToTask),
    /// Start a timer; a timer that runs starts anew.
    Arm(Timer),
    /// Stop a timer.
    Disarm(Timer),
}

/// The phase of a coordinator: how far it has started, how the job ended, or why the job cannot
/// continue.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Phase {
    /// Raising the fence.
    Claiming,
    /// Waiting for a write in flight to end, then for the facts.
    Recovering,
    /// Taking checkpoints.
    Running,
    /// The final checkpoint is complete and committed. The tasks are ended first, then garbage is
    /// deleted, so that no late write remains (SPEC 8.6).
    Closing,
    /// All is committed. `Periodic`: all input had ended.
    Finished(CheckpointKind),
    /// An external system dropped data that was to be committed (SPEC 6.5).
    FailedDataLoss,
    /// Nothing can be restored unless the user allows it (SPEC 7.3).
    FailedRecovery(RecoveryError),
    /// A later coordinator took over.
    Deposed,
}

/// A checkpoint under way.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
struct Pending {
    barrier: Barrier,
    acked: IndexSet,
    /// True if every ack so far said that its input had ended.
    ended: bool,
}

/// A completed checkpoint.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
struct Kept {
    checkpoint: CheckpointId,
    /// Sinks that have not yet reported its commits resolved.
    awaited: IndexSet,
}

/// The machine. The module documentation shows its states.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Coordinator {
    term: Term,
    attempt: Attempt,
    phase: Phase,
    /// The next id to use. Invariant: `next <= until`.
    next: CheckpointId,
    /// One past the ids reserved.
    until: CheckpointId,
    /// True while a reservation is being written.
    reserving: bool,
    /// Checkpoints under way, ascending.
    pending: Vec<Pending>,
    /// The one of `pending` whose manifest is being written.
    storing: Option<CheckpointId>,
    /// Completed checkpoints with unresolved commits, ascending, and the newest, resolved or not.
    kept: Vec<Kept>,
    /// The kind of the final checkpoint, once it is complete.
    terminal: Option<CheckpointKind>,
    stop: Option<Stop>,
    /// Checkpoints failed in a row.
    failures: u32,
    /// True while a deletion is under way; and true if more garbage has appeared since it began.
    collecting: bool,
    more_to_collect: bool,
    /// True once the tasks of a job that is over have ended.
    concluded: bool,
}

impl Coordinator {
    /// A coordinator of a new term. It raises the fence first (SPEC 4.1).
    ///
    /// `term` follows the term that the fence was last seen to hold; `claimant` is drawn anew for
    /// every coordinator.
    #[must_use]
    pub fn start(config: &Config, term: Term, claimant: Claimant, out: &mut Out<Effect>) -> Self {
        out.push(Effect::Store(StoreOp::Claim { term, claimant, block: config.id_block }));
        Self {
            term,
            attempt: Attempt { term, number: 0 },
            phase: Phase::Claiming,
            next: CheckpointId::FIRST,
            until: CheckpointId::FIRST,
            reserving: false,
            pending: Vec::new(),
            storing: None,
            kept: Vec::new(),
            terminal: None,
            stop: None,
            failures: 0,
            collecting: false,
            more_to_collect: false,
            concluded: false,
        }
    }

    /// The coordinator's term.
    #[must_use]
    pub const fn term(&self) -> Term {
        self.term
    }

    /// The attempt that runs, or ran last. Its number is 0 before the first.
    #[must_use]
    pub const fn attempt(&self) -> Attempt {
        self.attempt
    }

    /// The current phase.
    #[must_use]
    pub const fn phase(&self) -> Phase {
        self.phase
    }

    /// The stop that the user asked for, if any.
    #[must_use]
    pub const fn stopping(&self) -> Option<Stop> {
        self.stop
    }

    /// True once the checkpoint that ends the job is complete, or the job has ended otherwise. No
    /// further checkpoint is taken.
    #[must_use]
    pub const fn is_over(&self) -> bool {
        self.terminal.is_some()
            || !matches!(self.phase, Phase::Claiming | Phase::Recovering | Phase::Running)
    }

    /// Checkpoints under way, ascending, each with the subtasks that have acknowledged it.
    pub fn under_way(&self) -> impl Iterator<Item = (CheckpointId, IndexSet)> + '_ {
        self.pending.iter().map(|pending| (pending.barrier.checkpoint, pending.acked))
    }

    /// The newest checkpoint known to be complete, which a restore would choose.
    #[must_use]
    pub fn newest(&self) -> Option<CheckpointId> {
        self.kept.last().map(|kept| kept.checkpoint)
    }

    /// True if every sink has reported the commits of the newest completed checkpoint resolved.
    #[must_use]
    pub fn is_resolved(&self) -> bool {
        self.kept.last().is_none_or(|kept| kept.awaited.is_empty())
    }

    /// The sinks that have not reported the commits of the newest completed checkpoint resolved.
    #[must_use]
    pub fn awaited(&self) -> IndexSet {
        self.kept.last().map_or(IndexSet::EMPTY, |kept| kept.awaited)
    }

    /// The checkpoints that must stay reachable now (SPEC 8.1).
    #[must_use]
    pub fn roots(&self, config: &Config) -> Roots {
        let way = |pending: &Pending| UnderWay {
            checkpoint: pending.barrier.checkpoint,
            base: pending.barrier.base,
        };
        Roots {
            attempt: self.attempt,
            next: self.next,
            retained: config.retained.unwrap_or(usize::MAX),
            unresolved: self.kept.iter().map(|kept| kept.checkpoint).collect(),
            under_way: self.pending.iter().map(way).collect(),
        }
    }

    fn send(&self, subtask: usize, order: Order, out: &mut Out<Effect>) {
        // `subtask` indexes the topology, whose limit fits a u16.
        let message = ToTask { attempt: self.attempt, order };
        out.push(Effect::Send(SubtaskId::new(subtask as u16), message));
    }

    fn store_manifest(&self, pending: &Pending, out: &mut Out<Effect>) {
        out.push(Effect::Store(StoreOp::Manifest {
            term: self.term,
            attempt: self.attempt,
            checkpoint: pending.barrier.checkpoint,
            kind: pending.barrier.kind,
            ended: pending.ended,
        }));
    }

    // SPEC 4.3
    fn trigger(&mut self, config: &Config, out: &mut Out<Effect>) -> Verdict {
        if self.terminal.is_some() {
            return Verdict::Ignored(Why::Closed);
        }
        let stopping = self.pending.iter().any(|p| p.barrier.kind != CheckpointKind::Periodic);
        if stopping || self.pending.len() >= config.max_concurrent {
            return Verdict::Ignored(Why::Busy);
        }
        if self.next >= self.until {
            // SPEC 4.2
            if self.reserving {
                return Verdict::Ignored(Why::Busy);
            }
            self.reserving = true;
            let until = self.until.plus(config.id_block);
            out.push(Effect::Store(StoreOp::Reserve { term: self.term, until }));
            return Verdict::Applied;
        }
        let kind = match self.stop {
            None => CheckpointKind::Periodic,
            Some(Stop::Drain) => CheckpointKind::Drain,
            Some(Stop::Suspend) => CheckpointKind::Suspend,
        };
        let barrier = Barrier { checkpoint: self.next, base: self.newest(), kind };
        self.next = self.next.plus(1);
        debug_assert!(self.pending.len() < config.max_concurrent, "never more under way");
        debug_assert!(!stopping, "nothing begins after a stop");
        self.pending.push(Pending { barrier, acked: IndexSet::EMPTY, ended: true });
        for source in config.sources.iter() {
            self.send(source, Order::Trigger(barrier), out);
        }
        out.push(Effect::Arm(Timer::Timeout(barrier.checkpoint)));
        Verdict::Applied
    }

    // SPEC 4.4
    fn ack(&mut self, config: &Config, ack: Ack, out: &mut Out<Effect>) -> Verdict {
        let of = |pending: &&mut Pending| pending.barrier.checkpoint == ack.checkpoint();
        let Some(pending) = self.pending.iter_mut().find(of) else {
            return Verdict::Ignored(Why::Settled);
        };
        if !pending.acked.insert(ack.subtask().index()) {
            return Verdict::Ignored(Why::Duplicate);
        }
        pending.ended &= ack.ended();
        self.store_next(config, out);
        Verdict::Applied
    }

    /// Starts to write the newest manifest that has all its acks; one write at a time (SPEC 4.5).
    fn store_next(&mut self, config: &Config, out: &mut Out<Effect>) {
        if self.storing.is_some() || self.phase != Phase::Running {
            return;
        }
        let full = |pending: &&Pending| pending.acked.len() == config.subtasks;
        let Some(pending) = self.pending.iter().rfind(full) else { return };
        debug_assert!(self.storing.is_none(), "one manifest is written at a time");
        let checkpoint = pending.barrier.checkpoint;
        self.store_manifest(pending, out);
        self.storing = Some(checkpoint);
        out.push(Effect::Disarm(Timer::Timeout(checkpoint)));
    }

    // SPEC 4.6: once its manifest is being written, a checkpoint can neither be declined nor time
    // out.
    fn give_up(
        &mut self,
        config: &Config,
        checkpoint: CheckpointId,
        out: &mut Out<Effect>,
    ) -> Verdict {
        if self.storing == Some(checkpoint) {
            return Verdict::Ignored(Why::Closed);
        }
        let of = |pending: &Pending| pending.barrier.checkpoint == checkpoint;
        let Some(place) = self.pending.iter().position(of) else {
            return Verdict::Ignored(Why::Settled);
        };
        self.abort(config, place, out);
        Verdict::Applied
    }

    fn abort(&mut self, config: &Config, place: usize, out: &mut Out<Effect>) {
        let checkpoint = self.pending.remove(place).barrier.checkpoint;
        out.push(Effect::Disarm(Timer::Timeout(checkpoint)));
        self.failures = self.failures.saturating_add(1);
        // SPEC 4.7
        if self.failures > config.tolerable_failures {
            self.fail_over(out);
            return;
        }
        for subtask in 0..config.subtasks {
            self.send(subtask, Order::Abort(checkpoint), out);
        }
        self.collect(config, out);
    }

    // SPEC 4.5: the point of no return.
    fn complete(&mut self, config: &Config, checkpoint: CheckpointId, out: &mut Out<Effect>) {
        let of = |pending: &Pending| pending.barrier.checkpoint == checkpoint;
        let Some(place) = self.pending.iter().position(of) else { return };
        for older in self.pending.drain(..place) {
            out.push(Effect::Disarm(Timer::Timeout(older.barrier.checkpoint)));
        }
        let pending = self.pending.remove(0);
        self.failures = 0;
        self.kept.push(Kept { checkpoint, awaited: config.sinks });
        // SPEC 4.8, 4.9
        // A newer checkpoint, though aborted since, has closed transactions after this one's. The
        // next checkpoint must commit them, so this one is not the last.
        let last = checkpoint.plus(1) == self.next;
        if (pending.ended && last) || pending.barrier.kind != CheckpointKind::Periodic {
            debug_assert!(self.pending.is_empty(), "nothing is triggered after the last one");
            self.terminal = Some(pending.barrier.kind);
            out.push(Effect::Disarm(Timer::Interval));
        }
        self.tell_sinks(config.sinks, checkpoint, out);
        out.push(Effect::Arm(Timer::Resend));
        self.forget_subsumed(config, out);
    }

    fn tell_sinks(&self, sinks: IndexSet, checkpoint: CheckpointId, out: &mut Out<Effect>) {
        for sink in sinks.iter() {
            self.send(sink, Order::Complete(CommitPermit::new(checkpoint)), out);
        }
    }

    /// Forgets every checkpoint under way but the one whose manifest is being written: that write
    /// cannot be called back.
    fn keep_only_stored(&mut self, out: &mut Out<Effect>) {
        for pending in &self.pending {
            out.push(Effect::Disarm(Timer::Timeout(pending.barrier.checkpoint)));
        }
        let storing = self.storing;
        self.pending.retain(|pending| Some(pending.barrier.checkpoint) == storing);
    }

    fn drop_pending(&mut self, out: &mut Out<Effect>) {
        for pending in self.pending.drain(..) {
            out.push(Effect::Disarm(Timer::Timeout(pending.barrier.checkpoint)));
        }
    }

    /// A checkpoint that is subsumed and resolved need not be remembered; storage may delete it
    /// (SPEC 8.1).
    fn forget_subsumed(&mut self, config: &Config, out: &mut Out<Effect>) {
        let newest = self.newest();
        self.kept.retain(|kept| Some(kept.checkpoint) == newest || !kept.awaited.is_empty());
        self.collect(config, out);
    }

    fn collect(&mut self, config: &Config, out: &mut Out<Effect>) {
        if config.retained.is_none() {
            return;
        }
        if self.collecting {
            self.more_to_collect = true;
        } else {
            self.collecting = true;
            out.push(Effect::Store(StoreOp::Collect { term: self.term }));
        }
    }

    // SPEC 6.6
    fn resolved(
        &mut self,
        config: &Config,
        subtask: SubtaskId,
        checkpoint: CheckpointId,
        lost: bool,
        out: &mut Out<Effect>,
    ) -> Verdict {
        if lost {
            // SPEC 6.5: nothing new begins; a manifest in flight may still become durable, so its
            // blobs stay rooted.
            self.phase = Phase::FailedDataLoss;
            self.keep_only_stored(out);
            self.disarm_all(out);
            return Verdict::Applied;
        }
        let mut news = false;
        for kept in self.kept.iter_mut().filter(|kept| kept.checkpoint <= checkpoint) {
            news |= kept.awaited.remove(subtask.index());
        }
        if !news {
            return Verdict::Ignored(Why::Duplicate);
        }
        if self.is_resolved() {
            out.push(Effect::Disarm(Timer::Resend));
            self.finish_if_over(out);
        }
        if self.phase == Phase::Running {
            self.forget_subsumed(config, out);
        }
        Verdict::Applied
    }

    // SPEC 4.9
    fn finish_if_over(&mut self, out: &mut Out<Effect>) {
        if self.terminal.is_some() {
            self.disarm_all(out);
            self.phase = Phase::Closing;
            out.push(Effect::Conclude { attempt: self.attempt });
        }
    }

    // SPEC 8.6
    fn concluded(&mut self, config: &Config, attempt: Attempt, out: &mut Out<Effect>) -> Verdict {
        if attempt != self.attempt {
            return Verdict::Ignored(Why::Stale);
        }
        if self.phase != Phase::Closing {
            return Verdict::Ignored(Why::Closed);
        }
        if self.concluded {
            return Verdict::Ignored(Why::Duplicate);
        }
        self.concluded = true;
        match (config.retained, self.terminal) {
            (None, Some(kind)) => self.phase = Phase::Finished(kind),
            _ => self.forget_subsumed(config, out),
        }
        Verdict::Applied
    }

    fn disarm_all(&self, out: &mut Out<Effect>) {
        out.push(Effect::Disarm(Timer::Interval));
        out.push(Effect::Disarm(Timer::Resend));
    }

    // SPEC 4.10
    fn fail_over(&mut self, out: &mut Out<Effect>) {
        self.disarm_all(out);
        self.keep_only_stored(out);
        self.phase = Phase::Recovering;
        self.failures = 0;
        if self.storing.is_none() {
            out.push(Effect::Recover);
        }
    }

    // SPEC 7
    fn recovered(&mut self, config: &Config, decision: Decision, out: &mut Out<Effect>) {
        self.attempt = self.attempt.next();
        self.phase = Phase::Running;
        out.push(Effect::Deploy { attempt: self.attempt, decision });
        match decision {
            Decision::Fresh => self.terminal = None,
            Decision::Restore { permit, terminal } => {
                let checkpoint = permit.checkpoint();
                self.terminal = terminal;
                // SPEC 7.2: the restored checkpoint is the newest. Its commits resolve those of
                // older ones.
                self.kept.retain(|kept| kept.checkpoint < checkpoint);
                self.kept.push(Kept { checkpoint, awaited: config.sinks });
                out.push(Effect::Arm(Timer::Resend));
            }
        }
        if self.terminal.is_none() {
            out.push(Effect::Arm(Timer::Interval));
        }
        self.collect(config, out);
    }

    fn stored(
        &mut self,
        config: &Config,
        op: StoreOp,
        result: StoreResult,
        out: &mut Out<Effect>,
    ) -> Verdict {
        if matches!(
            self.phase,
            Phase::Finished(_) | Phase::FailedDataLoss | Phase::FailedRecovery(_) | Phase::Deposed
        ) {
            return Verdict::Ignored(Why::Closed);
        }
        if result == StoreResult::Fenced {
            // SPEC 4.1
            self.phase = Phase::Deposed;
            self.drop_pending(out);
            self.disarm_all(out);
            return Verdict::Applied;
        }
        match op {
            StoreOp::Claim { .. } => {
                if self.phase != Phase::Claiming {
                    return Verdict::Ignored(Why::Duplicate);
                }
                // `Applied` arrives as `Claimed`, which carries the ids. Any other outcome is tried
                // again.
                out.push(Effect::Store(op));
                Verdict::Applied
            }
            StoreOp::Reserve { until, .. } => self.reserved(config, op, until, result, out),
            StoreOp::Manifest { checkpoint, .. } => {
                self.manifest_stored(config, op, checkpoint, result, out)
            }
            StoreOp::Collect { .. } => self.collected(config, op, result, out),
        }
    }

    // SPEC 4.2
    fn reserved(
        &mut self,
        config: &Config,
        op: StoreOp,
        until: CheckpointId,
        result: StoreResult,
        out: &mut Out<Effect>,
    ) -> Verdict {
        if !self.reserving {
            return Verdict::Ignored(Why::Duplicate);
        }
        if result != StoreResult::Applied {
            out.push(Effect::Store(op));
            return Verdict::Applied;
        }
        self.reserving = false;
        self.until = until;
        if self.phase == Phase::Running {
            let _busy_or_taken = self.trigger(config, out);
        }
        Verdict::Applied
    }

    // SPEC 4.5
    fn manifest_stored(
        &mut self,
        config: &Config,
        op: StoreOp,
        checkpoint: CheckpointId,
        result: StoreResult,
        out: &mut Out<Effect>,
    ) -> Verdict {
        if self.storing != Some(checkpoint) {
            return Verdict::Ignored(Why::Duplicate);
        }
        if result == StoreResult::Unknown {
            out.push(Effect::Store(op));
            return Verdict::Applied;
        }
        self.storing = None;
        if self.phase == Phase::Recovering {
            // SPEC 4.10: this write is settled, so the facts will show whether it took effect.
            self.pending.clear();
            out.push(Effect::Recover);
            return Verdict::Applied;
        }
        if result == StoreResult::Applied {
            self.complete(config, checkpoint, out);
        } else if let Some(place) =
            self.pending.iter().position(|p| p.barrier.checkpoint == checkpoint)
        {
            self.abort(config, place, out);
        }
        self.store_next(config, out);
        Verdict::Applied
    }

    // SPEC 8.5
    fn collected(
        &mut self,
        config: &Config,
        op: StoreOp,
        result: StoreResult,
        out: &mut Out<Effect>,
    ) -> Verdict {
        if !self.collecting {
            return Verdict::Ignored(Why::Duplicate);
        }
        if result != StoreResult::Applied {
            out.push(Effect::Store(op));
            return Verdict::Applied;
        }
        self.collecting = false;
        if core::mem::take(&mut self.more_to_collect) {
            self.collect(config, out);
        } else if self.phase == Phase::Closing && self.concluded {
            // Invariant: Closing is entered with `terminal` set.
            self.phase = self.terminal.map_or(Phase::Closing, Phase::Finished);
        }
        Verdict::Applied
    }

    // SPEC 3.2: only reports of the current attempt of a running job count.
    fn report(
        &mut self,
        config: &Config,
        message: ToCoordinator,
        out: &mut Out<Effect>,
    ) -> Verdict {
        if message.attempt != self.attempt {
            return Verdict::Ignored(Why::Stale);
        }
        if self.phase != Phase::Running {
            return Verdict::Ignored(Why::Closed);
        }
        match message.report {
            Report::Ack(ack) => self.ack(config, ack, out),
            Report::Decline { checkpoint, .. } => self.give_up(config, checkpoint, out),
            Report::Resolved { subtask, checkpoint, lost } => {
                self.resolved(config, subtask, checkpoint, lost, out)
            }
        }
    }

    fn fired(&mut self, config: &Config, timer: Timer, out: &mut Out<Effect>) -> Verdict {
        if self.phase != Phase::Running {
            return Verdict::Ignored(Why::Closed);
        }
        match timer {
            Timer::Interval => {
                // SPEC 4.3: the next checkpoint is due whether or not this one starts.
                if self.terminal.is_none() {
                    out.push(Effect::Arm(Timer::Interval));
                }
                self.trigger(config, out)
            }
            Timer::Timeout(checkpoint) => self.give_up(config, checkpoint, out),
            // SPEC 6.6
            Timer::Resend => match self.kept.last() {
                Some(kept) if !kept.awaited.is_empty() => {
                    self.tell_sinks(kept.awaited, kept.checkpoint, out);
                    out.push(Effect::Arm(Timer::Resend));
                    Verdict::Applied
                }
                _ => Verdict::Ignored(Why::Settled),
            },
        }
    }
}

impl Machine for Coordinator {
    type Config = Config;
    type Event = Event;
    type Effect = Effect;

    fn handle(&mut self, config: &Config, event: Event, out: &mut Out<Effect>) -> Verdict {
        match event {
            Event::Fired(timer) => self.fired(config, timer, out),
            Event::Stored { op, result } => self.stored(config, op, result, out),
            // SPEC 4.1, 4.2
            Event::Claimed { first, until } => {
                if self.phase != Phase::Claiming {
                    return Verdict::Ignored(Why::Duplicate);
                }
                (self.next, self.until) = (first, until);
                self.phase = Phase::Recovering;
                out.push(Effect::Recover);
                Verdict::Applied
            }
            // Nothing was asked for while a write in flight is awaited.
            Event::Recovered(_) if self.phase != Phase::Recovering || self.storing.is_some() => {
                Verdict::Ignored(Why::Closed)
            }
            Event::Recovered(Ok(decision)) => {
                self.recovered(config, decision, out);
                Verdict::Applied
            }
            Event::Recovered(Err(error)) => {
                self.phase = match error {
                    RecoveryError::Deposed { .. } => Phase::Deposed,
                    _ => Phase::FailedRecovery(error),
                };
                Verdict::Applied
            }
            Event::Report(message) => self.report(config, message, out),
            Event::Concluded { attempt } => self.concluded(config, attempt, out),
            // SPEC 4.10
            Event::TaskFailed { attempt } if attempt != self.attempt => {
                Verdict::Ignored(Why::Stale)
            }
            Event::TaskFailed { .. } => {
                if self.phase != Phase::Running {
                    return Verdict::Ignored(Why::Closed);
                }
                self.fail_over(out);
                Verdict::Applied
            }
            // SPEC 4.8
            Event::Stop(stop) => {
                if self.is_over() {
                    return Verdict::Ignored(Why::Closed);
                }
                if self.stop.is_some() {
                    return Verdict::Ignored(Why::Duplicate);
                }
                self.stop = Some(stop);
                Verdict::Applied
            }
        }
    }
}
