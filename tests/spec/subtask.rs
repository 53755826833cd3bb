//! A subtask's aligner to drive, and its expected answers.

use snapline::protocol::aligner::{Aligner, Config, Effect, Event, Mode};
use snapline::protocol::ids::Attempt;
use snapline::protocol::message::{Barrier, Order, Persisted, Report, ToCoordinator, ToTask};
use snapline::protocol::{Out, Verdict};

use crate::kit::{ack, barrier, cp, now, step, sub};

/// Subtask #3 with its aligner, in attempt 1.1.
#[derive(Clone)]
pub(crate) struct Subtask {
    pub(crate) config: Config,
    pub(crate) machine: Aligner,
}

impl Subtask {
    pub(crate) fn new(inputs: usize) -> Self {
        let config = Config { subtask: sub(3), mode: Mode::ExactlyOnce, inputs };
        Self { config, machine: Aligner::new(&config, now()) }
    }

    pub(crate) fn at_least_once(inputs: usize) -> Self {
        let config = Config { mode: Mode::AtLeastOnce, ..Self::new(inputs).config };
        Self { config, machine: Aligner::new(&config, now()) }
    }

    pub(crate) fn on(&mut self, event: Event) -> (Out<Effect>, Verdict) {
        step(&mut self.machine, &self.config, event)
    }

    pub(crate) fn barrier(&mut self, channel: usize, number: u64) -> (Out<Effect>, Verdict) {
        self.on(Event::Barrier { channel, barrier: barrier(number) })
    }

    pub(crate) fn order(&mut self, order: Order) -> (Out<Effect>, Verdict) {
        self.on(Event::Control(ToTask { attempt: now(), order }))
    }

    pub(crate) fn durable(&mut self, number: u64) -> (Out<Effect>, Verdict) {
        self.on(Event::Durable(Persisted::attest(now(), cp(number))))
    }

    pub(crate) fn write_failed(&mut self, number: u64) -> (Out<Effect>, Verdict) {
        let attempt: Attempt = now();
        self.on(Event::WriteFailed { attempt, checkpoint: cp(number) })
    }

    /// The checkpoints that are being aligned.
    pub(crate) fn aligning(&self) -> Vec<u64> {
        self.machine.aligning().map(|barrier| barrier.checkpoint.get()).collect()
    }

    /// The inputs that are held.
    pub(crate) fn held(&self) -> Vec<bool> {
        (0..self.config.inputs).map(|input| self.machine.held(&self.config, input)).collect()
    }
}

pub(crate) fn taken(barrier: Barrier) -> [Effect; 2] {
    [Effect::Snapshot { barrier }, Effect::Forward(barrier)]
}

pub(crate) fn acked(number: u64, ended: bool) -> Effect {
    let report = Report::Ack(ack(3, number, ended));
    Effect::Send(ToCoordinator { attempt: now(), report })
}

pub(crate) fn declined(number: u64) -> Effect {
    let report = Report::Decline { subtask: sub(3), checkpoint: cp(number) };
    Effect::Send(ToCoordinator { attempt: now(), report })
}
