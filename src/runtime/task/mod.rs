//! One subtask: a step function that never waits. It connects its records (a [`TaskOperator`]) with
//! the machines of the protocol, whose effects it carries out. The machines decide what it may
//! read, when it snapshots and what it acknowledges (SPEC 5, 6).
//!
//! Longer than 500 lines: one struct, and how it handles each of its inputs.

mod committing;
mod reading;
mod reporting;
mod snapshotting;
mod waiting;

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use snapline_protocol::aligner::{self, Aligner};
use snapline_protocol::committer::{self, CommitOutcome, Committer};
use snapline_protocol::ids::{Attempt, CheckpointId, SubtaskId, TxnId};
use snapline_protocol::message::{Order, Persisted, ToTask};
use snapline_protocol::recovery::Policy;
use snapline_protocol::{Machine, Out};

use self::reading::ReadPacer;
use crate::base::error::BoxError;
use crate::base::fault::Aside;
use crate::base::fault::Mutation;
use crate::base::panic::guarded;
use crate::base::sync::{Arc, AtomicBool, Mutex};
use crate::executor::io_pool::IoPool;
use crate::executor::platform::Platform;
pub(crate) use crate::executor::run_loop::Step;
use crate::operator::body::{InputItem, TaskOperator};
use crate::operator::body::{IoAction, POSITION};
use crate::operator::chain::Ending;
use crate::plan::graph::BufferSizes;
use crate::runtime::events::{AckDetails, Cause, DriverEvent};
use crate::runtime::failure::TaskFailure;
use crate::runtime::task_metrics::Gauges;
use crate::runtime::worker::Address;
use crate::state::NamedImage;
use crate::state::{Checks, SegmentLocations, Written};
use crate::store::Store;
use crate::trace::{Marker, Recorder, What};
use snapline_core::connect::Classify;
use snapline_core::connect::Progress;

/// The name of a task's own state in its snapshot.
pub(crate) const TASK_STATE: &str = "task";

/// Events that reach a task from outside its channels.
pub(crate) enum TaskEvent {
    /// A message of the coordinator.
    Control(ToTask),
    /// A snapshot was written, or could not be.
    Written { checkpoint: CheckpointId, result: Result<(Written, Persisted, Duration), BoxError> },
    /// A commit call returned.
    Commit { txn: TxnId, result: Result<CommitOutcome, BoxError> },
    /// Call threads have answered: the next step takes the answers in.
    Answered,
    /// Work for the task on another thread failed, and the task with it.
    Failed { doing: &'static str, cause: BoxError },
}

/// What a task works with and shares with others.
#[derive(Clone)]
pub(crate) struct Links {
    pub(crate) io_pool: Arc<IoPool>,
    pub(crate) store: Arc<dyn Store>,
    pub(crate) coordinator: crossbeam_channel::Sender<DriverEvent>,
    /// Where this task's events go.
    pub(crate) me: Address,
    /// Raised when the attempt is over: what was handed over and not begun is not done.
    pub(crate) over: Arc<AtomicBool>,
    pub(crate) platform: Platform,
    pub(crate) sizing: BufferSizes,
    /// Which of the values that it writes are read back. Used by its lane.
    pub(crate) checks: Arc<Mutex<Checks>>,
    pub(crate) recorder: Recorder,
    /// The recovery that the user allows.
    pub(crate) policy: Policy,
}

/// The identity of a task.
#[derive(Clone, Debug)]
pub(crate) struct TaskIdentity {
    /// The job's name.
    pub(crate) job: String,
    pub(crate) subtask: SubtaskId,
    pub(crate) attempt: Attempt,
    pub(crate) operator: String,
    pub(crate) index: usize,
    pub(crate) classify: Classify,
}

/// When the parts of a snapshot happened.
#[derive(Clone, Copy, Debug)]
struct Timing {
    first_barrier: Instant,
    snapshot: Instant,
    sync: Duration,
}

/// How a task begins.
pub(crate) struct Start {
    pub(crate) identity: TaskIdentity,
    pub(crate) aligner: (aligner::Config, Aligner),
    pub(crate) committer: Option<(committer::Config, Committer, Out<committer::Effect>)>,
    pub(crate) body: Box<dyn TaskOperator>,
    /// Whether its end of input had been processed in the checkpoint it is restored from (SPEC
    /// 5.7).
    pub(crate) flushed: bool,
    /// Where the segments of the restored checkpoint are.
    pub(crate) restored: Option<(CheckpointId, SegmentLocations)>,
    pub(crate) links: Links,
    pub(crate) gauges: Arc<Gauges>,
}

pub(crate) struct Task {
    pub(crate) identity: TaskIdentity,
    aligner_config: aligner::Config,
    aligner: Aligner,
    pub(crate) committer: Option<(committer::Config, Committer)>,
    pub(crate) body: Box<dyn TaskOperator>,
    /// Records taken from each input.
    taken: Vec<u64>,
    /// The input to look at next.
    next_input: usize,
    /// The input that is being polled.
    looking_at: Option<usize>,
    /// All inputs have ended and the operator still emits its last results.
    finishing: bool,
    /// The operator has emitted its last results, and no record has come since (SPEC 5.7).
    flushed: bool,
    /// Nothing to read before this time.
    wait_until: Option<Instant>,
    pub(crate) reading: ReadPacer,
    steps: u32,
    /// The segments of past snapshots, for those that build on them (SPEC 8.3).
    past: BTreeMap<CheckpointId, Arc<SegmentLocations>>,
    /// First barriers of checkpoints not taken yet.
    arrived: BTreeMap<CheckpointId, Instant>,
    /// Snapshots being written.
    timing: BTreeMap<CheckpointId, Timing>,
    /// What goes with the next acknowledgement.
    parts: BTreeMap<CheckpointId, Box<AckDetails>>,
    /// Why a checkpoint is declined: its snapshot could not be written.
    unwritten: Option<(CheckpointId, Cause)>,
    /// Work for this task on its lane has failed: what it handed over after that is not begun (SPEC
    /// 6.2, 6.4).
    pub(crate) broken: Arc<AtomicBool>,
    /// Tries of the commit under way.
    pub(crate) tries: (Option<TxnId>, u32),
    pub(crate) links: Links,
    pub(crate) gauges: Arc<Gauges>,
    /// A planted fault: the position before the last read.
    stale_position: Aside<Option<NamedImage>>,
    /// A planted fault: what is to be prepared later.
    pub(crate) late: Aside<BTreeMap<TxnId, IoAction<()>>>,
}

impl Task {
    pub(crate) fn start(start: Start) -> Result<Self, TaskFailure> {
        let Start { identity, aligner, committer, body, flushed, restored, links, gauges } = start;
        let (committer, out) = match committer {
            Some((config, machine, out)) => (Some((config, machine)), Some(out)),
            None => (None, None),
        };
        let inputs = aligner.0.inputs;
        let mut past = BTreeMap::new();
        past.extend(restored.map(|(checkpoint, locations)| (checkpoint, Arc::new(locations))));
        let mut task = Self {
            identity,
            aligner_config: aligner.0,
            aligner: aligner.1,
            committer,
            body,
            taken: vec![0; inputs],
            next_input: 0,
            looking_at: None,
            finishing: false,
            flushed,
            wait_until: None,
            reading: ReadPacer::new(links.sizing.read),
            steps: 0,
            past,
            arrived: BTreeMap::new(),
            timing: BTreeMap::new(),
            parts: BTreeMap::new(),
            unwritten: None,
            broken: Arc::default(),
            tries: (None, 0),
            links,
            gauges,
            stale_position: Aside::default(),
            late: Aside::default(),
        };
        task.note(|task| {
            let at_rest = inputs == 0 && !task.aligner.may_emit();
            let pending = task.committer.as_ref().map(|(_, machine)| machine.pending().to_vec());
            What::begun(at_rest, pending, out.as_ref().map_or(&[], Out::as_slice))
        });
        if let Some(out) = out {
            let started = task.committer_effects(out);
            started.map_err(|cause| task.failure("starting", cause))?;
        }
        Ok(task)
    }

    /// The number of its inputs.
    pub(crate) const fn inputs(&self) -> usize {
        self.aligner_config.inputs
    }

    /// Takes one batch, or does one thing that is due.
    pub(crate) fn step(&mut self) -> Result<Step, TaskFailure> {
        self.gauges.step();
        let step = guarded(|| self.try_step());
        self.gauges.step();
        step.map_err(|cause| {
            let at = Some(self.place());
            TaskFailure { at, ..self.failure("processing records", cause) }
        })
    }

    fn try_step(&mut self) -> Result<Step, BoxError> {
        self.looking_at = None;
        let drained = self.body.drain();
        self.gauges.waits(!drained, || self.links.platform.clock.now());
        if !drained {
            self.reading.waits(self.links.sizing.read);
            return Ok(Step::Idle);
        }
        if self.body.answer()? {
            self.count(0);
            return Ok(Step::Worked);
        }
        if self.finishing {
            if self.links.platform.faults.is_active(Mutation::EndBeforeResults) {
                self.body.end();
            }
            match self.body.finish()? {
                Ending::More => {}
                Ending::Waiting => {
                    self.flush();
                    let Some(at) = self.body.wake() else { return Ok(Step::Idle) };
                    return self.wait_for(at);
                }
                Ending::Done => {
                    self.finishing = false;
                    self.flushed = true;
                    self.pass_end();
                }
            }
            return Ok(Step::Worked);
        }
        if self.body.is_firing() {
            self.body.fire()?;
            self.count(0);
            return Ok(Step::Worked);
        }
        let wake = self.wake()?;
        if wake == Some(Step::Worked) {
            return Ok(Step::Worked);
        }
        self.steps = self.steps.wrapping_add(1);
        if self.steps.is_multiple_of(self.links.sizing.flush_every) {
            self.flush();
        }
        let step = match self.aligner_config.inputs {
            0 => self.read()?,
            inputs => self.take(inputs)?,
        };
        if step != Step::Worked {
            self.flush();
        }
        Ok(match (step, wake) {
            (Step::Until(one), Some(Step::Until(other))) => Step::Until(one.min(other)),
            (Step::Idle, Some(until)) => until,
            (step, _) => step,
        })
    }

    fn read(&mut self) -> Result<Step, BoxError> {
        let reads_on = self.links.platform.faults.is_active(Mutation::SuspendedReadsOn)
            && !self.aligner.has_ended(&self.aligner_config);
        if !self.aligner.may_emit() && !reads_on {
            return Ok(Step::Idle);
        }
        if let Some(until) = self.wait_until {
            if self.links.platform.clock.now() < until {
                return Ok(Step::Until(until));
            }
            self.wait_until = None;
        }
        if self.links.platform.faults.is_active(Mutation::OffsetsBeforeSnapshot)
            && let Some(stale) = self.stale_position.get()
        {
            let mut images = Vec::new();
            self.body.freeze(&mut images)?;
            *stale = images.into_iter().find(|named| named.state == POSITION);
        }
        let (records, progress) = self.reading.read(|limit| self.body.read(limit))?;
        self.count(records);
        match progress {
            Progress::More => Ok(Step::Worked),
            Progress::Wait(pause) => {
                let until = crate::base::clock::after(self.links.platform.clock.now(), pause);
                self.wait_until = Some(until);
                Ok(Step::Until(until))
            }
            Progress::End => {
                self.align(aligner::Event::Exhausted)?;
                Ok(Step::Worked)
            }
        }
    }

    fn take(&mut self, inputs: usize) -> Result<Step, BoxError> {
        // SPEC 6.4: a sink that commits again what it was restored with reads nothing.
        if self.committer.as_ref().is_some_and(|(_, committer)| !committer.may_read()) {
            return Ok(Step::Idle);
        }
        // SPEC 15.10
        if self.body.is_full() {
            return Ok(Step::Idle);
        }
        for _ in 0..inputs {
            let input = self.next_input;
            self.next_input = if input + 1 < inputs { input + 1 } else { 0 };
            // SPEC 5.2
            if self.aligner.held(&self.aligner_config, input) {
                continue;
            }
            self.looking_at = Some(input);
            match self.body.take(input)? {
                InputItem::Nothing => continue,
                InputItem::Records(records) => {
                    self.flushed = false;
                    self.taken[input] += records as u64;
                    self.count(records);
                }
                InputItem::Mark => self.count(0),
                InputItem::Barrier(barrier) => {
                    self.arrives(barrier.checkpoint, Some(input));
                    self.align(aligner::Event::Barrier { channel: input, barrier })?;
                }
                InputItem::End => self.align(aligner::Event::EndOfInput { channel: input })?,
            }
            return Ok(Step::Worked);
        }
        Ok(Step::Idle)
    }

    /// A barrier has arrived on an input; at a source, the trigger.
    fn arrives(&mut self, checkpoint: CheckpointId, input: Option<usize>) {
        let now = self.links.platform.clock.now();
        self.arrived.entry(checkpoint).or_insert(now);
        self.gauges.arrived(checkpoint, input, now);
    }

    /// Sends partial batches and pending watermarks; both count from then on.
    fn flush(&mut self) {
        self.body.flush();
        self.count(0);
    }

    fn count(&self, records: usize) {
        let body = &self.body;
        self.gauges.count(records as u64, body.emitted(), body.late(), body.malformed());
        self.gauges.notes(self.body.bytes(), self.body.watermark());
    }

    /// By its clock.
    pub(crate) fn now(&self) -> Instant {
        self.links.platform.clock.now()
    }

    /// Handles an event from outside the channels.
    pub(crate) fn on_event(&mut self, news: TaskEvent) -> Result<(), TaskFailure> {
        let doing = match &news {
            TaskEvent::Commit { .. } => "committing a transaction",
            TaskEvent::Failed { doing, .. } => doing,
            TaskEvent::Answered => "looking records up",
            TaskEvent::Control(_) | TaskEvent::Written { .. } => "taking a snapshot",
        };
        self.gauges.step();
        let heard = guarded(|| self.try_on_event(news));
        self.gauges.step();
        heard.map_err(|cause| self.failure(doing, cause))
    }

    fn try_on_event(&mut self, news: TaskEvent) -> Result<(), BoxError> {
        match news {
            TaskEvent::Control(message) => {
                if let Order::Trigger(barrier) = message.order {
                    self.arrives(barrier.checkpoint, None);
                }
                self.align(aligner::Event::Control(message))?;
                self.commit(committer::Event::Control(message))
            }
            TaskEvent::Written { checkpoint, result } => self.written(checkpoint, result),
            TaskEvent::Commit { txn, result } => {
                let outcome = result?;
                if let CommitOutcome::Committed | CommitOutcome::AlreadyCommitted = outcome {
                    self.gauges.commits(txn.checkpoint, self.now());
                }
                self.say_trouble(txn, outcome);
                self.commit(committer::Event::Outcome { txn, outcome })
            }
            TaskEvent::Answered => Ok(()),
            TaskEvent::Failed { cause, .. } => Err(cause),
        }
    }

    fn align(&mut self, event: aligner::Event) -> Result<(), BoxError> {
        let mut out = Out::new();
        let verdict = self.aligner.handle(&self.aligner_config, event, &mut out);
        tracing::trace!(target: "snapline::machine", subtask = ?self.identity.subtask, ?event, ?verdict);
        self.note(|task| {
            let received = match event {
                aligner::Event::Barrier { channel, .. }
                | aligner::Event::EndOfInput { channel } => Some(task.taken[channel]),
                _ => None,
            };
            What::aligner(&event, verdict, out.as_slice(), received)
        });
        for effect in out.drain() {
            match effect {
                aligner::Effect::EndOutput => self.end_output()?,
                aligner::Effect::Snapshot { barrier } => self.snapshot(barrier)?,
                aligner::Effect::Forward(barrier) => {
                    self.note_marker(Marker::Barrier(barrier.checkpoint));
                    self.body.forward(barrier);
                    self.count(0);
                }
                aligner::Effect::Send(message) => self.send(message),
            }
        }
        Ok(())
    }

    fn pass_end(&mut self) {
        self.note_marker(Marker::End);
        self.body.end();
        self.count(0);
    }

    /// Before a reader of the channels can see it.
    fn note_marker(&mut self, marker: Marker) {
        let (body, TaskIdentity { attempt, subtask, .. }) = (&mut self.body, &self.identity);
        self.links
            .recorder
            .task(*attempt, *subtask, || What::Sent { marker, counts: body.by_channel() });
    }

    /// Records an event of this task.
    pub(crate) fn note(&self, what: impl FnOnce(&Self) -> What) {
        let TaskIdentity { attempt, subtask, .. } = self.identity;
        self.links.recorder.task(attempt, subtask, || what(self));
    }

    /// Records an event elsewhere on this task's behalf.
    pub(crate) fn noting(&self) -> impl Fn(What) + Send + use<> {
        let TaskIdentity { attempt, subtask, .. } = self.identity;
        let recorder = self.links.recorder.clone();
        move |what| recorder.task(attempt, subtask, || what)
    }

    /// Records taken from all inputs.
    pub(crate) fn received(&self) -> u64 {
        self.taken.iter().sum()
    }

    fn end_output(&mut self) -> Result<(), BoxError> {
        if self.aligner_config.inputs > 0 {
            // SPEC 5.7: what was flushed before the checkpoint is not emitted again.
            if self.flushed && !self.links.platform.faults.is_active(Mutation::EndRepeated) {
                self.pass_end();
            } else {
                self.finishing = true;
            }
            return Ok(());
        }
        // A source's end may come with a drain, whose barrier follows in the same step.
        while !self.flushed && self.body.finish()? == Ending::More {}
        self.flushed = true;
        self.pass_end();
        let TaskIdentity { attempt, subtask, .. } = self.identity;
        self.notify(DriverEvent::SourceEnded { attempt, subtask });
        Ok(())
    }
}

/// The simulator's access to a task that it lets step itself.
#[cfg(feature = "sim")]
impl Task {
    /// Polls this input first in the next step.
    pub(crate) const fn turn_to(&mut self, input: usize) {
        self.next_input = input;
    }

    /// Whether it has last results left to emit.
    pub(crate) const fn is_finishing(&self) -> bool {
        self.finishing
    }

    /// Its identity.
    pub(crate) const fn identity(&self) -> &TaskIdentity {
        &self.identity
    }
}
