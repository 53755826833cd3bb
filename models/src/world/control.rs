//! Control messages, and the driver of a coordinator.

use snapline_protocol::aligner;
use snapline_protocol::committer::{self, CommitOutcome};
use snapline_protocol::coordinator::{Effect, Event, Phase, StoreOp, StoreResult, Timer};
use snapline_protocol::message::{
    Ack, CheckpointKind, CommitPermit, Order, Report, ToCoordinator, ToTask,
};
use snapline_protocol::recovery::decide;
use snapline_protocol::{Machine, Out};

use super::rule::WrongRule;
use super::{Action, ControlMessage, Situation, TaskRef, Transition, coverage};
use crate::scenario::QueuedMessages;

impl ControlMessage {
    /// True if the scenario lets messages of this kind wait.
    fn waits(&self, queued: &QueuedMessages) -> bool {
        match self {
            Self::Order(_, order) => match order.order {
                Order::Trigger(_) => queued.triggers,
                Order::Abort(_) => queued.aborts,
                Order::Complete(_) => queued.completes,
            },
            Self::Report(report) => match report.report {
                Report::Ack(_) | Report::Decline { .. } => queued.acks,
                Report::Resolved { .. } => queued.reports,
            },
        }
    }
}

impl Transition<'_> {
    pub(super) fn act(&mut self, action: Action) {
        let newest = self.world.coordinators.len().wrapping_sub(1);
        let index = usize::from;
        match action {
            Action::Deliver { message } => {
                let message = self.take_message(index(message));
                self.deliver(message);
            }
            Action::Emit { task } => self.emit(index(task)),
            Action::Exhaust { task } => {
                let _ended = self.align(TaskRef::Running(index(task)), aligner::Event::Exhausted);
            }
            Action::Consume { task, input } => {
                self.consume(TaskRef::Running(index(task)), index(input))
            }
            Action::Write { task, write } => {
                self.written(TaskRef::Running(index(task)), index(write), true)
            }
            Action::Commit { task } => self.commit_call(TaskRef::Running(index(task)), true, None),
            Action::Store { write } => self.store(newest, index(write), true),
            Action::Sweep => self.sweep(newest),
            Action::Read => self.read(newest),
            Action::Fire { timer } => self.fire(newest, timer),
            Action::Conclude => self.conclude(newest),
            Action::Detect => {
                let attempt = self.world.coordinators[newest].machine.attempt();
                if self.wrong(WrongRule::FailsOverDuringWrite) {
                    self.forget_writes(newest);
                }
                self.conduct(newest, Event::TaskFailed { attempt });
            }
            Action::Elect => self.elect_afresh(),
            Action::Stop => {
                if let Some(kind) = self.setup.scenario.stop {
                    self.conduct(newest, Event::Stop(kind.into()));
                }
            }
            fault => self.strike(fault, newest),
        }
    }

    fn strike(&mut self, action: Action, newest: usize) {
        let index = usize::from;
        let unknown = |applied: bool| (applied, Some(CommitOutcome::Unknown));
        match action {
            Action::Lose { message } => {
                self.world.faults.losses -= 1;
                let _lost = self.take_message(index(message));
            }
            Action::Duplicate { message } => {
                self.world.faults.duplicates -= 1;
                let message = self.take_message(index(message));
                self.wait(message);
                self.deliver(message);
            }
            Action::Delay { message } => {
                self.world.faults.delays -= 1;
                let message = self.take_message(index(message));
                self.wait(message);
            }
            Action::Crash { task, torn } => {
                self.world.faults.crashes -= 1;
                self.crash(index(task), torn);
            }
            Action::CrashCoordinator { applied } => {
                self.world.faults.coordinator_crashes -= 1;
                self.crash_coordinator(applied);
            }
            Action::ElectBeside => {
                self.world.faults.zombie_coordinators -= 1;
                self.elect();
            }
            Action::Strand { task } => {
                self.world.faults.zombie_tasks -= 1;
                self.task(TaskRef::Running(index(task))).stranded = true;
            }
            Action::FireEarly { timer } => {
                self.world.faults.timeouts -= 1;
                self.fire(newest, timer);
            }
            Action::StoreUnknown { write, applied } => {
                self.world.faults.unknown_writes -= 1;
                let op = self.world.coordinators[newest].writes[index(write)];
                if applied {
                    self.store(newest, index(write), false);
                } else {
                    self.world.coordinators[newest].writes.remove(index(write));
                }
                let result = match (op, self.setup.mutant) {
                    (StoreOp::Manifest { .. }, Some(WrongRule::UnknownIsApplied)) => {
                        StoreResult::Applied
                    }
                    (StoreOp::Manifest { .. }, Some(WrongRule::UnknownIsNotApplied)) => {
                        StoreResult::NotApplied
                    }
                    _ => StoreResult::Unknown,
                };
                self.conduct(newest, Event::Stored { op, result });
            }
            Action::StoreRefused { write } => {
                self.world.faults.refused_writes -= 1;
                let op = self.world.coordinators[newest].writes.remove(index(write));
                self.conduct(newest, Event::Stored { op, result: StoreResult::NotApplied });
            }
            Action::WriteFailed { task, write, applied } => {
                self.world.faults.failed_snapshots -= 1;
                self.write_failed(index(task), index(write), applied);
            }
            Action::CommitUnknown { task, applied } => {
                self.world.faults.unknown_commits -= 1;
                let (applied, reported) = unknown(applied);
                self.commit_call(TaskRef::Running(index(task)), applied, reported);
            }
            Action::CommitRefused { task } => {
                self.world.faults.refused_commits -= 1;
                let reported = Some(CommitOutcome::Retry);
                self.commit_call(TaskRef::Running(index(task)), false, reported);
            }
            Action::Drop { sink, transaction } => {
                self.world.faults.drops -= 1;
                self.drop_transaction(index(sink), index(transaction));
            }
            Action::LoseManifest => {
                self.world.faults.lost_manifests -= 1;
                let store = &mut self.world.store;
                store.lost.extend(store.manifests.pop());
            }
            _ => self.haunt(action),
        }
    }

    /// The actions of tasks and coordinators that should have ended.
    fn haunt(&mut self, action: Action) {
        let index = usize::from;
        self.reached(Situation::ZombieActed);
        match action {
            Action::ZombieConsume { zombie, input } => {
                self.consume(TaskRef::Zombie(index(zombie)), index(input));
            }
            Action::ZombieWrite { zombie, write } => {
                self.written(TaskRef::Zombie(index(zombie)), index(write), true);
            }
            Action::ZombieCommit { zombie } => {
                self.commit_call(TaskRef::Zombie(index(zombie)), true, None)
            }
            Action::ZombieStore { write } => self.store(0, index(write), true),
            Action::ZombieSweep => self.sweep(0),
            Action::ZombieRead => self.read(0),
            Action::ZombieConclude => self.conclude(0),
            Action::ZombieFire { timer } => {
                if let Timer::Timeout(_) = timer {
                    self.world.faults.timeouts -= 1;
                }
                self.fire(0, timer);
            }
            // Every other action has an arm in `act` or `strike`.
            _ => {}
        }
    }

    /// Messages just sent are decided first; while there are any, indices refer to them.
    fn take_message(&mut self, place: usize) -> ControlMessage {
        match self.world.deciding() {
            true => self.world.sent.remove(place),
            false => self.world.network.remove(place),
        }
    }

    fn wait(&mut self, message: ControlMessage) {
        let network = &mut self.world.network;
        // Equal messages count as one: receivers ignore the second, and a third would show nothing
        // new.
        if let Err(place) = network.binary_search(&message) {
            network.insert(place, message);
        }
    }

    pub(super) fn send(&mut self, message: ControlMessage) {
        if message.waits(&self.setup.scenario.queued) {
            self.wait(message);
        } else {
            self.world.sent.push(message);
        }
    }

    /// Lets messages just sent arrive, if no fault of the budget could strike them.
    pub(super) fn settle(&mut self) {
        let faults = self.world.faults;
        while faults.losses == 0
            && faults.duplicates == 0
            && faults.delays == 0
            && self.world.deciding()
        {
            let message = self.world.sent.remove(0);
            self.deliver(message);
        }
    }

    fn deliver(&mut self, message: ControlMessage) {
        match message {
            ControlMessage::Order(subtask, order) => self.deliver_order(subtask.index(), order),
            ControlMessage::Report(report) => self.deliver_report(report),
        }
    }

    fn deliver_order(&mut self, subtask: usize, order: ToTask) {
        let zombie = |zombie: &super::Zombie| {
            zombie.subtask == subtask && zombie.task.aligner.attempt() == order.attempt
        };
        let place = match self.world.zombies.iter().position(zombie) {
            Some(zombie) => TaskRef::Zombie(zombie),
            None => TaskRef::Running(subtask),
        };
        if !self.world.tasks.get(subtask).is_some_and(|task| task.alive)
            && place == TaskRef::Running(subtask)
        {
            return;
        }
        match order.order {
            Order::Complete(_) => self.drive_committer(place, committer::Event::Control(order)),
            Order::Trigger(_) if self.ignores_triggers(place) => {}
            _ => {
                let _seen = self.align(place, aligner::Event::Control(order));
            }
        }
    }

    /// Wrong: a source that has ended ignores triggers.
    fn ignores_triggers(&mut self, place: TaskRef) -> bool {
        let config = self.setup.aligners[self.subtask(place)];
        self.wrong(WrongRule::EndedTakesNoPart) && self.task(place).aligner.has_ended(&config)
    }

    /// A report goes to the coordinator of its sender's attempt while that lives, else to the
    /// newest.
    fn deliver_report(&mut self, report: ToCoordinator) {
        let of_attempt =
            |coordinator: &super::CoordinatorState| coordinator.machine.attempt() == report.attempt;
        let coordinator = self.world.coordinators.iter().position(of_attempt);
        let Some(coordinator) = coordinator.or(self.world.coordinators.len().checked_sub(1)) else {
            return;
        };
        self.conduct(coordinator, Event::Report(self.report_as_received(report)));
    }

    fn report_as_received(&self, mut report: ToCoordinator) -> ToCoordinator {
        if let (WrongRule::OneEndedIsAll, Report::Ack(ack)) =
            (self.setup.mutant.unwrap_or(WrongRule::NoFence), report.report)
        {
            let sources = self.setup.topology.sources();
            let ended = |source: usize| {
                let config = &self.setup.aligners[source];
                self.world.tasks.get(source).is_some_and(|task| task.aligner.has_ended(config))
            };
            let any = sources.iter().any(ended);
            report.report =
                Report::Ack(Ack::forge(ack.subtask(), ack.checkpoint(), ack.ended() || any));
        }
        report
    }

    fn fire(&mut self, coordinator: usize, timer: Timer) {
        self.world.coordinators[coordinator].timers.retain(|armed| *armed != timer);
        let zombie = self.world.coordinators[coordinator].number != self.world.terms;
        let granted =
            timer == Timer::Interval && (zombie || !self.world.needs_checkpoint(self.setup));
        let before = self.begun(coordinator);
        self.conduct(coordinator, Event::Fired(timer));
        // An interval that ends while nothing may begin costs nothing: the timer runs again.
        if granted && self.begun(coordinator) != before {
            self.world.checkpoints = self.world.checkpoints.saturating_sub(1);
        }
    }

    /// The effects of a fired interval that count: a checkpoint, or the reservation of its id.
    fn begun(&self, coordinator: usize) -> (u64, bool) {
        let reserves = |op: &StoreOp| matches!(op, StoreOp::Reserve { .. });
        (self.world.ghost.issued, self.world.coordinators[coordinator].writes.iter().any(reserves))
    }

    fn read(&mut self, coordinator: usize) {
        self.world.coordinators[coordinator].reads = false;
        let term = self.world.coordinators[coordinator].machine.term();
        let decision = decide(&self.world.facts(self.setup, term));
        let decision = match (self.world.coordinators[coordinator].too_early.take(), decision) {
            (Some(early), Ok(_)) => Ok(early),
            (_, decision) => decision,
        };
        self.conduct(coordinator, Event::Recovered(decision));
    }

    /// Wrong: a failover does not wait for the write in flight, which will take effect later.
    fn forget_writes(&mut self, coordinator: usize) {
        for op in self.world.coordinators[coordinator].writes.clone() {
            if matches!(op, StoreOp::Manifest { .. }) {
                self.conduct(coordinator, Event::Stored { op, result: StoreResult::NotApplied });
            }
        }
    }

    /// Drives a coordinator and carries out its effects.
    pub(super) fn conduct(&mut self, coordinator: usize, event: Event) {
        let mut out = Out::new();
        let before = self.world.coordinators[coordinator].machine.phase();
        let machine = &mut self.world.coordinators[coordinator].machine;
        let verdict = machine.handle(&self.setup.coordinator, event, &mut out);
        let after = machine.phase();
        self.marks.insert(coverage::coordinator_arm(&event, verdict));
        if before != after {
            match after {
                Phase::Finished(kind) => {
                    self.reached(Situation::Finished);
                    if kind != CheckpointKind::Periodic {
                        self.reached(Situation::Stopped);
                    }
                }
                Phase::Deposed => self.reached(Situation::Deposed),
                Phase::FailedDataLoss => self.reached(Situation::LossReported),
                Phase::FailedRecovery(_) if self.world.missing_reported(self.setup) => {
                    self.reached(Situation::MissingReported);
                }
                _ => {}
            }
        }
        self.carry_out(coordinator, out);
    }

    pub(super) fn carry_out(&mut self, coordinator: usize, mut out: Out<Effect>) {
        let swallow_abort_arm = self.wrong(WrongRule::TimerNotRearmed) && self.aborting(&out);
        for effect in out.drain() {
            match effect {
                Effect::Store(op) => self.ask_store(coordinator, op),
                Effect::Recover => self.world.coordinators[coordinator].reads = true,
                Effect::Deploy { attempt, decision } => self.deploy(attempt, decision),
                Effect::Conclude { .. } => self.world.coordinators[coordinator].concludes = true,
                Effect::Send(subtask, order) => {
                    if let Order::Abort(_) = order.order {
                        self.reached(Situation::Aborted);
                    }
                    self.send(ControlMessage::Order(subtask, order));
                }
                Effect::Arm(timer) => self.arm(coordinator, timer),
                Effect::Disarm(timer) => {
                    self.world.coordinators[coordinator].timers.retain(|armed| *armed != timer)
                }
            }
        }
        if swallow_abort_arm {
            // Wrong: only a completed checkpoint starts the wait for the next.
            self.world.coordinators[coordinator].timers.retain(|armed| *armed != Timer::Interval);
        }
    }

    fn aborting(&self, out: &Out<Effect>) -> bool {
        let abort = |effect: &Effect| {
            matches!(effect, Effect::Send(_, ToTask { order: Order::Abort(_), .. }))
        };
        out.as_slice().iter().any(abort)
    }

    fn ask_store(&mut self, coordinator: usize, op: StoreOp) {
        self.world.coordinators[coordinator].writes.push(op);
        if let (StoreOp::Manifest { checkpoint, .. }, true) =
            (op, self.wrong(WrongRule::CompletionNotedEarly))
        {
            self.world.store.fence.complete(checkpoint);
        }
        if let (StoreOp::Manifest { checkpoint, .. }, true) =
            (op, self.wrong(WrongRule::CompleteBeforeStored))
        {
            // Wrong: sinks are notified as soon as all have acknowledged.
            let attempt = self.world.coordinators[coordinator].machine.attempt();
            let order = Order::Complete(CommitPermit::forge(checkpoint));
            for sink in self.setup.topology.sinks().iter() {
                let subtask = self.setup.aligners[sink].subtask;
                self.send(ControlMessage::Order(subtask, ToTask { attempt, order }));
            }
        }
    }

    fn arm(&mut self, coordinator: usize, timer: Timer) {
        if let Timer::Timeout(checkpoint) = timer {
            let bit = 1_u64 << (checkpoint.get() % 64);
            self.world.ghost.reused |= self.world.ghost.issued & bit != 0;
            self.world.ghost.issued |= bit;
            if self.wrong(WrongRule::WaitsForPayloadOnly) {
                self.forge_idle_acks(coordinator, checkpoint);
            }
        }
        let never = match timer {
            Timer::Timeout(_) => self.wrong(WrongRule::NoTimeout),
            Timer::Resend => self.wrong(WrongRule::NoResend),
            Timer::Interval => false,
        };
        let timers = &mut self.world.coordinators[coordinator].timers;
        if let (Err(place), false) = (timers.binary_search(&timer), never) {
            timers.insert(place, timer);
        }
    }

    /// Wrong: a sink without data need not be waited for.
    fn forge_idle_acks(
        &mut self,
        coordinator: usize,
        checkpoint: snapline_protocol::ids::CheckpointId,
    ) {
        let attempt = self.world.coordinators[coordinator].machine.attempt();
        for sink in self.setup.topology.sinks().iter() {
            if self.world.tasks[sink].tally.is_empty() {
                let ack = Ack::forge(self.setup.aligners[sink].subtask, checkpoint, false);
                let report = ToCoordinator { attempt, report: Report::Ack(ack) };
                self.world.sent.push(ControlMessage::Report(report));
            }
        }
    }
}
