//! A subtask's part in a checkpoint: which inputs are held, when it snapshots, what it acknowledges
//! (SPEC 5).
//!
//! ```text
//!             first barrier n               last live input's barrier n
//!   (reading) ---------------> (aligning n) ---------------------------> (writing n)
//!       ^                       |        |                                |       |
//!       '---- abort n, or a newer barrier'          abort n: forgotten <--'       | durable
//!                                                                                 v
//!                                                                           acknowledged
//! ```
//! Several checkpoints may be *writing* at once; in exactly-once mode at most one is *aligning*. A
//! source has no inputs: the coordinator's trigger takes the barrier's place.
//!
//! Records are not events. The data path asks [`Aligner::held`] once a batch and reports barriers
//! and ends of input only.

use alloc::vec::Vec;

use crate::ids::{Attempt, CheckpointId, IndexSet, SubtaskId};
use crate::message::{
    Ack, Barrier, CheckpointKind, Order, Persisted, Report, ToCoordinator, ToTask,
};
use crate::{Machine, Out, Verdict, Why};

/// The guarantee about records on different sides of a barrier.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "kebab-case"))]
pub enum Mode {
    /// Inputs whose barrier arrived are held until all have delivered it: the snapshot is a
    /// consistent cut.
    ExactlyOnce,
    /// Nothing is held: the snapshot may hold records from after the barrier, which a restore
    /// processes again.
    AtLeastOnce,
}

/// The values that never change during an aligner's life.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Config {
    /// The subtask.
    pub subtask: SubtaskId,
    /// The guarantee.
    pub mode: Mode,
    /// The number of input channels; 0 makes the subtask a source.
    pub inputs: usize,
}

/// An input of a subtask's aligner.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub enum Event {
    /// A barrier was read from an input channel.
    Barrier {
        /// The input on which it arrived.
        channel: usize,
        /// The barrier.
        barrier: Barrier,
    },
    /// An input channel has no more records. Barriers still follow on it (SPEC 5.7).
    EndOfInput {
        /// The input that ended.
        channel: usize,
    },
    /// A source has no more records.
    Exhausted,
    /// A message from a coordinator.
    Control(ToTask),
    /// The snapshot is durable.
    Durable(Persisted),
    /// The snapshot could not be written, or its outcome is unknown: the subtask declines. Nothing
    /// is deleted (SPEC 8.4).
    WriteFailed {
        /// The attempt that took the snapshot.
        attempt: Attempt,
        /// The checkpoint it was for.
        checkpoint: CheckpointId,
    },
}

/// An action that the driver must carry out for a subtask.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub enum Effect {
    /// Pass end of input downstream, after everything emitted so far, the operator's output at its
    /// end included.
    EndOutput,
    /// Take the state now, before any further record. A sink first closes and pre-commits its
    /// transaction (SPEC 5.4, 6.2). Then write the state in the background, and return
    /// [`Event::Durable`].
    Snapshot {
        /// The barrier that asks for the snapshot.
        barrier: Barrier,
    },
    /// Put the barrier on every output channel, after everything emitted so far and before anything
    /// else.
    Forward(Barrier),
    /// Send to the coordinator.
    Send(ToCoordinator),
}

/// A snapshot that is being written.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
struct Writing {
    checkpoint: CheckpointId,
    ended: bool,
}

/// The machine. The module documentation shows its states.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Aligner {
    attempt: Attempt,
    /// The newest checkpoint taken by this subtask. Invariant: everything in `aligning`, `aborted`
    /// is newer.
    done: Option<CheckpointId>,
    /// Per input, the newest barrier it delivered.
    seen: Vec<Option<CheckpointId>>,
    /// Checkpoints of which some barriers, but not all, have arrived; ascending. At most one in
    /// exactly-once mode.
    aligning: Vec<Barrier>,
    /// Tombstones: aborted before their last barrier arrived; ascending (SPEC 5.6).
    aborted: Vec<CheckpointId>,
    /// Snapshots that were taken and are not durable yet; ascending.
    writing: Vec<Writing>,
    /// Inputs that have ended; {0} for a source that has ended.
    ended: IndexSet,
    /// True for a source that passed a suspending barrier: it emits nothing more (SPEC 4.8).
    halted: bool,
}

impl Aligner {
    /// A subtask at the start of an attempt.
    #[must_use]
    pub fn new(config: &Config, attempt: Attempt) -> Self {
        Self {
            attempt,
            done: None,
            seen: alloc::vec![None; config.inputs],
            aligning: Vec::new(),
            aborted: Vec::new(),
            writing: Vec::new(),
            ended: IndexSet::EMPTY,
            halted: false,
        }
    }

    /// A subtask of a job that is over but for its commits: a source emits nothing (SPEC 7.4).
    #[must_use]
    pub fn at_rest(config: &Config, attempt: Attempt) -> Self {
        Self { halted: true, ..Self::new(config, attempt) }
    }

    /// The subtask's attempt.
    #[must_use]
    pub const fn attempt(&self) -> Attempt {
        self.attempt
    }

    /// True if an input must not be read now: its barrier arrived and others are awaited (SPEC
    /// 5.2).
    #[must_use]
    pub fn held(&self, config: &Config, channel: usize) -> bool {
        config.mode == Mode::ExactlyOnce
            && self.aligning.iter().any(|barrier| self.seen[channel] >= Some(barrier.checkpoint))
    }

    /// The checkpoints of which some barriers, but not all, have arrived; ascending.
    pub fn aligning(&self) -> impl Iterator<Item = Barrier> + '_ {
        self.aligning.iter().copied()
    }

    /// True if a source may emit: it has not ended, and no suspending barrier passed.
    #[must_use]
    pub fn may_emit(&self) -> bool {
        !self.halted && self.ended.is_empty()
    }

    /// True if every input has ended; for a source, if it has no more records.
    #[must_use]
    pub fn has_ended(&self, config: &Config) -> bool {
        self.ended.len() >= config.inputs.max(1)
    }

    /// True while the coordinator still wants a snapshot of this checkpoint; otherwise its writer
    /// may stop early.
    #[must_use]
    pub fn is_writing(&self, checkpoint: CheckpointId) -> bool {
        self.writing.iter().any(|writing| writing.checkpoint == checkpoint)
    }

    fn is_settled(&self, checkpoint: CheckpointId) -> bool {
        self.done >= Some(checkpoint) || self.aborted.contains(&checkpoint)
    }

    // SPEC 5.1-5.3: barriers are compared, never counted.
    fn barrier(
        &mut self,
        config: &Config,
        channel: usize,
        barrier: Barrier,
        out: &mut Out<Effect>,
    ) -> Verdict {
        let checkpoint = barrier.checkpoint;
        let before = self.seen[channel];
        if before >= Some(checkpoint) {
            return Verdict::Ignored(Why::Duplicate);
        }
        self.seen[channel] = Some(checkpoint);
        // SPEC 5.5: this input will never deliver the checkpoints that it skipped.
        let jumped =
            |older: &Barrier| before < Some(older.checkpoint) && older.checkpoint < checkpoint;
        let subsumed: Vec<Barrier> = self.aligning.iter().copied().filter(jumped).collect();
        for older in &subsumed {
            self.decline(config, older.checkpoint, out);
        }
        self.aligning.retain(|older| !subsumed.contains(older));
        if self.is_settled(checkpoint) {
            return match subsumed.is_empty() {
                true => Verdict::Ignored(Why::Settled),
                false => Verdict::Applied,
            };
        }
        if let Err(place) = self.aligning.binary_search(&barrier) {
            if self.seen.iter().any(|&seen| seen > Some(checkpoint)) {
                // Another input skipped this checkpoint: it can never be aligned here, and must
                // hold no input.
                self.decline(config, checkpoint, out);
                return Verdict::Applied;
            }
            self.aligning.insert(place, barrier);
        }
        self.take_if_aligned(config, out);
        Verdict::Applied
    }

    fn take_if_aligned(&mut self, config: &Config, out: &mut Out<Effect>) {
        let oldest = self.seen.iter().copied().min().flatten();
        let ready =
            self.aligning.iter().copied().find(|barrier| Some(barrier.checkpoint) <= oldest);
        if let Some(barrier) = ready {
            self.take(config, barrier, out);
        }
    }

    // SPEC 5.4: snapshot and forward in one step.
    fn take(&mut self, config: &Config, barrier: Barrier, out: &mut Out<Effect>) {
        let checkpoint = barrier.checkpoint;
        debug_assert!(self.done < Some(checkpoint), "checkpoints are taken in order");
        self.done = Some(checkpoint);
        self.aligning.retain(|other| other.checkpoint > checkpoint);
        self.aborted.retain(|&other| other > checkpoint);
        self.writing.push(Writing { checkpoint, ended: self.has_ended(config) });
        out.push(Effect::Snapshot { barrier });
        out.push(Effect::Forward(barrier));
    }

    fn decline(&self, config: &Config, checkpoint: CheckpointId, out: &mut Out<Effect>) {
        let report = Report::Decline { subtask: config.subtask, checkpoint };
        out.push(Effect::Send(ToCoordinator { attempt: self.attempt, report }));
    }

    // SPEC 5.1, 4.8: for a source the trigger is the barrier.
    fn trigger(&mut self, config: &Config, barrier: Barrier, out: &mut Out<Effect>) -> Verdict {
        if config.inputs > 0 {
            return Verdict::Ignored(Why::Closed);
        }
        if self.is_settled(barrier.checkpoint) {
            return Verdict::Ignored(Why::Settled);
        }
        match barrier.kind {
            CheckpointKind::Periodic => {}
            CheckpointKind::Suspend => self.halted = true,
            CheckpointKind::Drain => {
                if self.ended.insert(0) {
                    out.push(Effect::EndOutput);
                }
            }
        }
        self.take(config, barrier, out);
        Verdict::Applied
    }

    // SPEC 5.6: an abort may come before, during or after the barrier it is about.
    fn abort(&mut self, checkpoint: CheckpointId) -> Verdict {
        if let Some(place) =
            self.writing.iter().position(|writing| writing.checkpoint == checkpoint)
        {
            self.writing.remove(place);
            return Verdict::Applied;
        }
        if self.done >= Some(checkpoint) {
            return Verdict::Ignored(Why::Settled);
        }
        match self.aborted.binary_search(&checkpoint) {
            Ok(_) => Verdict::Ignored(Why::Duplicate),
            Err(place) => {
                self.aborted.insert(place, checkpoint);
                self.aligning.retain(|barrier| barrier.checkpoint != checkpoint);
                Verdict::Applied
            }
        }
    }

    // SPEC 5.4: only what is durable is acknowledged, and only while it is wanted.
    fn durable(&mut self, config: &Config, persisted: Persisted, out: &mut Out<Effect>) -> Verdict {
        if persisted.attempt() != self.attempt {
            return Verdict::Ignored(Why::Stale);
        }
        let Some(ended) = self.stop_writing(persisted.checkpoint()) else {
            return Verdict::Ignored(Why::Settled);
        };
        let report = Report::Ack(Ack::new(persisted, config.subtask, ended));
        out.push(Effect::Send(ToCoordinator { attempt: self.attempt, report }));
        Verdict::Applied
    }

    fn stop_writing(&mut self, checkpoint: CheckpointId) -> Option<bool> {
        let place = self.writing.iter().position(|writing| writing.checkpoint == checkpoint)?;
        Some(self.writing.remove(place).ended)
    }
}

impl Machine for Aligner {
    type Config = Config;
    type Event = Event;
    type Effect = Effect;

    fn handle(&mut self, config: &Config, event: Event, out: &mut Out<Effect>) -> Verdict {
        match event {
            Event::Barrier { channel, barrier } => self.barrier(config, channel, barrier, out),
            Event::EndOfInput { channel } => {
                if !self.ended.insert(channel) {
                    return Verdict::Ignored(Why::Duplicate);
                }
                if self.has_ended(config) {
                    out.push(Effect::EndOutput);
                }
                Verdict::Applied
            }
            Event::Exhausted => {
                assert_eq!(config.inputs, 0, "only a source is exhausted");
                if !self.ended.insert(0) {
                    return Verdict::Ignored(Why::Duplicate);
                }
                out.push(Effect::EndOutput);
                Verdict::Applied
            }
            Event::Control(message) if message.attempt != self.attempt => {
                Verdict::Ignored(Why::Stale)
            }
            Event::Control(ToTask { order: Order::Trigger(barrier), .. }) => {
                self.trigger(config, barrier, out)
            }
            Event::Control(ToTask { order: Order::Abort(checkpoint), .. }) => {
                self.abort(checkpoint)
            }
            // Handled by the committer.
            Event::Control(ToTask { order: Order::Complete(_), .. }) => {
                Verdict::Ignored(Why::Closed)
            }
            Event::Durable(persisted) => self.durable(config, persisted, out),
            Event::WriteFailed { attempt, .. } if attempt != self.attempt => {
                Verdict::Ignored(Why::Stale)
            }
            Event::WriteFailed { checkpoint, .. } => match self.stop_writing(checkpoint) {
                Some(_) => {
                    self.decline(config, checkpoint, out);
                    Verdict::Applied
                }
                None => Verdict::Ignored(Why::Settled),
            },
        }
    }
}
