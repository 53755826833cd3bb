//! Shared helpers: names, permits and acknowledgements as the protocol itself makes them, and a job
//! to drive.

use snapline::protocol::coordinator::{
    Config, Coordinator, Effect, Event, StoreOp, StoreResult, Timer,
};
use snapline::protocol::fence::Claimant;
use snapline::protocol::ids::{Attempt, CheckpointId, SubtaskId, Term};
use snapline::protocol::message::{
    Ack, Barrier, CheckpointKind, CommitPermit, Order, Persisted, Report, ToCoordinator, ToTask,
};
use snapline::protocol::recovery::{self, Decision, Facts, Found, Health, Policy};
use snapline::protocol::{Machine, Out, Verdict, aligner};

/// Feeds one event to a machine.
pub(crate) fn step<M: Machine>(
    machine: &mut M,
    config: &M::Config,
    event: M::Event,
) -> (Out<M::Effect>, Verdict) {
    let mut out = Out::new();
    let verdict = machine.handle(config, event, &mut out);
    (out, verdict)
}

pub(crate) fn cp(number: u64) -> CheckpointId {
    CheckpointId::new(number).expect("checkpoints count from 1")
}

pub(crate) fn sub(index: u16) -> SubtaskId {
    SubtaskId::new(index)
}

pub(crate) fn life(term: u32, number: u32) -> Attempt {
    Attempt { term: Term::new(term), number }
}

/// The attempt that most tests run in.
pub(crate) fn now() -> Attempt {
    life(1, 1)
}

/// A periodic barrier without a base.
pub(crate) fn barrier(number: u64) -> Barrier {
    barrier_of(number, CheckpointKind::Periodic)
}

pub(crate) fn barrier_of(number: u64, kind: CheckpointKind) -> Barrier {
    Barrier { checkpoint: cp(number), base: None, kind }
}

pub(crate) fn found(number: u64) -> Found {
    let (kind, health) = (CheckpointKind::Periodic, Health::Whole);
    Found { checkpoint: cp(number), kind, ended: false, health }
}

/// Recovery's decision for these manifests.
pub(crate) fn decided(manifests: &[Found]) -> Decision {
    let term = Term::new(1);
    let policy = Policy::default();
    let facts = Facts { mine: term, fence: term, manifests: manifests.to_vec(), policy };
    recovery::decide(&facts).expect("the newest is whole")
}

/// Permission to commit, as recovery gives it when it finds the checkpoint.
pub(crate) fn permit(number: u64) -> CommitPermit {
    match decided(&[found(number)]) {
        Decision::Restore { permit, .. } => permit,
        Decision::Fresh => panic!("a manifest was found"),
    }
}

/// An acknowledgement, as a source's aligner gives it when its snapshot is durable.
pub(crate) fn ack(subtask: u16, number: u64, ended: bool) -> Ack {
    let config =
        aligner::Config { subtask: sub(subtask), mode: aligner::Mode::ExactlyOnce, inputs: 0 };
    let mut machine = aligner::Aligner::new(&config, now());
    if ended {
        let (_, verdict) = step(&mut machine, &config, aligner::Event::Exhausted);
        assert!(verdict.is_applied());
    }
    let trigger = ToTask { attempt: now(), order: Order::Trigger(barrier(number)) };
    let (_, verdict) = step(&mut machine, &config, aligner::Event::Control(trigger));
    assert!(verdict.is_applied());
    let durable = aligner::Event::Durable(Persisted::attest(now(), cp(number)));
    match step(&mut machine, &config, durable).0.as_slice() {
        [aligner::Effect::Send(ToCoordinator { report: Report::Ack(ack), .. })] => *ack,
        other => panic!("{other:?}"),
    }
}

/// The claimant of every coordinator here, unless a test names another.
pub(crate) const ME: Claimant = Claimant(7);

/// A coordinator with its configuration: subtasks #0 and #1 are sources, #2 is the sink.
pub(crate) struct Job {
    pub(crate) config: Config,
    pub(crate) machine: Coordinator,
}

pub(crate) fn config() -> Config {
    Config {
        subtasks: 3,
        sources: [0, 1].into_iter().collect(),
        sinks: [2].into_iter().collect(),
        max_concurrent: 1,
        tolerable_failures: 9,
        retained: None,
        id_block: 100,
    }
}

impl Job {
    /// A coordinator of term 1 whose claim is not answered yet.
    pub(crate) fn claiming(config: Config) -> Self {
        let machine = Coordinator::start(&config, Term::new(1), ME, &mut Out::new());
        Self { config, machine }
    }

    /// A coordinator of term 1 that waits for the facts; its ids are 1 to `id_block`.
    pub(crate) fn recovering(config: Config) -> Self {
        let until = cp(1).plus(config.id_block);
        let mut job = Self::claiming(config);
        let _applied = job.on(Event::Claimed { first: cp(1), until });
        job
    }

    /// The first attempt of a job that found no checkpoint; nothing is being deleted.
    pub(crate) fn running(config: Config) -> Self {
        let mut job = Self::recovering(config);
        let _applied = job.on(Event::Recovered(Ok(Decision::Fresh)));
        job.swept();
        job
    }

    pub(crate) fn on(&mut self, event: Event) -> (Out<Effect>, Verdict) {
        step(&mut self.machine, &self.config, event)
    }

    pub(crate) fn fire(&mut self, timer: Timer) -> (Out<Effect>, Verdict) {
        self.on(Event::Fired(timer))
    }

    /// A report of the current attempt.
    pub(crate) fn report(&mut self, report: Report) -> (Out<Effect>, Verdict) {
        let attempt = self.machine.attempt();
        self.on(Event::Report(ToCoordinator { attempt, report }))
    }

    pub(crate) fn resolved(&mut self, sink: u16, number: u64) -> (Out<Effect>, Verdict) {
        let (subtask, checkpoint) = (sub(sink), cp(number));
        self.report(Report::Resolved { subtask, checkpoint, lost: false })
    }

    pub(crate) fn stored(&mut self, op: StoreOp, result: StoreResult) -> (Out<Effect>, Verdict) {
        self.on(Event::Stored { op, result })
    }

    /// Triggers the next checkpoint.
    pub(crate) fn trigger(&mut self) {
        let (_, verdict) = self.fire(Timer::Interval);
        assert!(verdict.is_applied());
    }

    /// All subtasks acknowledge; returns the effects of the last acknowledgement.
    pub(crate) fn acked(&mut self, number: u64, ended: bool) -> Out<Effect> {
        let mut last = Out::new();
        for subtask in 0..self.config.subtasks as u16 {
            let (out, verdict) = self.report(Report::Ack(ack(subtask, number, ended)));
            assert!(verdict.is_applied());
            last = out;
        }
        last
    }

    /// The manifest in the attempt that runs.
    pub(crate) fn manifest(&self, number: u64, kind: CheckpointKind, ended: bool) -> StoreOp {
        let (term, attempt) = (self.machine.term(), self.machine.attempt());
        StoreOp::Manifest { term, attempt, checkpoint: cp(number), kind, ended }
    }

    /// All subtasks acknowledge a periodic checkpoint and its manifest is durable.
    pub(crate) fn completed(&mut self, number: u64, ended: bool) -> Out<Effect> {
        self.acked(number, ended);
        let op = self.manifest(number, CheckpointKind::Periodic, ended);
        let (out, verdict) = self.stored(op, StoreResult::Applied);
        assert!(verdict.is_applied());
        out
    }

    /// All tasks of the attempt that runs have ended.
    pub(crate) fn concluded(&mut self) -> (Out<Effect>, Verdict) {
        let attempt = self.machine.attempt();
        self.on(Event::Concluded { attempt })
    }

    /// A deletion in flight ends.
    pub(crate) fn swept(&mut self) {
        let _ended_or_none = self.stored(collect_op(), StoreResult::Applied);
    }
}

pub(crate) fn collect_op() -> StoreOp {
    StoreOp::Collect { term: Term::new(1) }
}

/// The order to one task of the attempt that most tests run in.
pub(crate) fn tell(subtask: u16, order: Order) -> Effect {
    Effect::Send(sub(subtask), ToTask { attempt: now(), order })
}

pub(crate) fn complete(sink: u16, number: u64) -> Effect {
    tell(sink, Order::Complete(permit(number)))
}

pub(crate) fn arm_timeout(number: u64) -> Effect {
    Effect::Arm(Timer::Timeout(cp(number)))
}

pub(crate) fn disarm_timeout(number: u64) -> Effect {
    Effect::Disarm(Timer::Timeout(cp(number)))
}

/// The effects of the last report in a job that is over.
pub(crate) fn concluding(attempt: Attempt) -> [Effect; 4] {
    [DISARM_RESEND, DISARM_INTERVAL, DISARM_RESEND, Effect::Conclude { attempt }]
}

pub(crate) const ARM_INTERVAL: Effect = Effect::Arm(Timer::Interval);
pub(crate) const ARM_RESEND: Effect = Effect::Arm(Timer::Resend);
pub(crate) const DISARM_INTERVAL: Effect = Effect::Disarm(Timer::Interval);
pub(crate) const DISARM_RESEND: Effect = Effect::Disarm(Timer::Resend);
