//! The enabled actions of a state, in a fixed order.

use snapline_protocol::coordinator::{Effect, Event, Phase, Stop, StoreOp, Timer};
use snapline_protocol::{Machine, Out};

use super::rule::WrongRule;
use super::{Action, CoordinatorState, Item, TaskState, Transition, World};
use crate::scenario::Setup;
use crate::sink::Prepared;

/// Indices within a World are far below 256: its limits are 64 records and a handful of tasks,
/// messages and writes.
fn small(index: usize) -> u8 {
    debug_assert!(index < 256);
    index as u8
}

impl World {
    /// Appends every enabled action, ascending.
    pub fn enabled(&self, setup: &Setup, out: &mut Vec<Action>) {
        if self.deciding() {
            self.decisions(out);
            return;
        }
        let first = out.len();
        self.progress(setup, out);
        if out.len() == first {
            self.when_stuck(setup, out);
        }
        self.idle_interval(setup, out);
        self.faults(setup, out);
        self.zombies(setup, out);
        out[first..].sort_unstable();
    }

    /// A message just sent arrives, unless a fault of the budget strikes.
    fn decisions(&self, out: &mut Vec<Action>) {
        out.push(Action::Deliver { message: 0 });
        if self.faults.losses > 0 {
            out.push(Action::Lose { message: 0 });
        }
        if self.faults.duplicates > 0 {
            out.push(Action::Duplicate { message: 0 });
        }
        if self.faults.delays > 0 {
            out.push(Action::Delay { message: 0 });
        }
    }

    fn progress(&self, setup: &Setup, out: &mut Vec<Action>) {
        for message in 0..self.network.len() {
            out.push(Action::Deliver { message: small(message) });
        }
        for (subtask, task) in self.tasks.iter().enumerate() {
            self.task_steps(setup, subtask, task, out);
        }
        let Some(coordinator) = self.newest() else {
            out.push(Action::Elect);
            return;
        };
        match coordinator.machine.phase() {
            Phase::Deposed => out.push(Action::Elect),
            Phase::Running => self.running_steps(setup, coordinator, out),
            _ => {}
        }
        for write in 0..coordinator.writes.len() {
            out.push(Action::Store { write: small(write) });
        }
        if !coordinator.sweeping.is_empty() {
            out.push(Action::Sweep);
        }
        if coordinator.reads {
            out.push(Action::Read);
        }
        if coordinator.concludes {
            out.push(Action::Conclude);
        }
    }

    fn task_steps(&self, setup: &Setup, subtask: usize, task: &TaskState, out: &mut Vec<Action>) {
        if !task.alive {
            return;
        }
        let place = &setup.topology.subtasks()[subtask];
        let task_index = small(subtask);
        let room = self.has_room(setup, subtask);
        let reads_on = setup.mutant == Some(WrongRule::SuspendedReadsOn);
        let may_emit = task.aligner.may_emit()
            || (reads_on && !task.aligner.has_ended(&setup.aligners[subtask]));
        if place.inputs.is_empty() && may_emit {
            if task.position < setup.scenario.records {
                if room {
                    out.push(Action::Emit { task: task_index });
                }
            } else {
                out.push(Action::Exhaust { task: task_index });
            }
        }
        for (input, &channel) in place.inputs.iter().enumerate() {
            let Some(item) = self.channels[channel].first() else { continue };
            if (room || *item == Item::End) && Transition::may_read(setup, task, subtask, input) {
                out.push(Action::Consume { task: task_index, input: small(input) });
            }
        }
        for write in 0..task.writes.len() {
            out.push(Action::Write { task: task_index, write: small(write) });
        }
        if task.call.is_some() {
            out.push(Action::Commit { task: task_index });
        }
    }

    fn running_steps(&self, setup: &Setup, coordinator: &CoordinatorState, out: &mut Vec<Action>) {
        let mine = self.host.attempt() == Some(coordinator.machine.attempt());
        if mine && self.tasks.iter().any(|task| !task.alive) {
            out.push(Action::Detect);
        }
        if coordinator.timers.contains(&Timer::Interval)
            && (self.needs_checkpoint(setup)
                || (self.checkpoints > 0 && Self::may_trigger(setup, coordinator)))
        {
            out.push(Action::Fire { timer: Timer::Interval });
        }
        if setup.scenario.stop.is_some()
            && coordinator.machine.stopping().is_none()
            && !coordinator.machine.is_over()
        {
            out.push(Action::Stop);
        }
    }

    /// The interval may also end while nothing may begin. The timer then runs again and the state
    /// stays the same, if the coordinator keeps its limits. So progress never depends on this step.
    fn idle_interval(&self, setup: &Setup, out: &mut Vec<Action>) {
        let idle = |coordinator: &&CoordinatorState| {
            coordinator.machine.phase() == Phase::Running
                && coordinator.timers.contains(&Timer::Interval)
                && !self.needs_checkpoint(setup)
                && !Self::may_trigger(setup, coordinator)
        };
        if self.checkpoints > 0 && self.newest().is_some_and(|coordinator| idle(&coordinator)) {
            out.push(Action::Fire { timer: Timer::Interval });
        }
    }

    /// True if a fired interval can begin a checkpoint. The machine itself decides: it knows its
    /// limits, and whether a stop is under way.
    fn may_trigger(setup: &Setup, coordinator: &CoordinatorState) -> bool {
        let (mut machine, mut out) = (coordinator.machine.clone(), Out::new());
        let interval = Event::Fired(Timer::Interval);
        let _applied_or_busy = machine.handle(&setup.coordinator, interval, &mut out);
        out.as_slice().iter().any(|effect| {
            matches!(
                effect,
                Effect::Arm(Timer::Timeout(_)) | Effect::Store(StoreOp::Reserve { .. })
            )
        })
    }

    /// True if the job needs one more checkpoint to end: its input has ended or it is being
    /// stopped, and none is under way.
    pub(super) fn needs_checkpoint(&self, setup: &Setup) -> bool {
        let Some(coordinator) = self.newest() else { return false };
        let sources = setup.topology.sources();
        let ended = |source: usize| {
            self.tasks
                .get(source)
                .is_some_and(|task| task.alive && task.aligner.has_ended(&setup.aligners[source]))
        };
        let stopping = matches!(coordinator.machine.stopping(), Some(Stop::Drain | Stop::Suspend));
        // A job that needs more than this goes round in circles: the search must find it stuck, and
        // not explore for ever.
        let enough = self.ghost.issued.count_ones() >= setup.most_checkpoints();
        coordinator.machine.under_way().next().is_none()
            && !enough
            && !coordinator.machine.is_over()
            && !coordinator.writes.iter().any(|op| matches!(op, StoreOp::Reserve { .. }))
            && (stopping || sources.iter().all(ended))
    }

    /// A timer that only repairs fires when nothing else can happen; firing it earlier is a fault
    /// of the budget. The interval timer then fires too, beyond its granted checkpoints: a lost
    /// abort may leave an input held until a newer barrier comes.
    fn when_stuck(&self, setup: &Setup, out: &mut Vec<Action>) {
        let Some(coordinator) = self.newest() else { return };
        if coordinator.machine.phase() != Phase::Running {
            return;
        }
        let enough = self.ghost.issued.count_ones() >= setup.most_checkpoints();
        for &timer in &coordinator.timers {
            if timer != Timer::Interval || (!enough && Self::may_trigger(setup, coordinator)) {
                out.push(Action::Fire { timer });
            }
        }
    }

    fn faults(&self, setup: &Setup, out: &mut Vec<Action>) {
        if self.faults == crate::scenario::Faults::default() {
            return;
        }
        let over = self.finished() || self.data_loss() || self.unrecoverable();
        self.message_faults(out);
        if !over {
            self.task_faults(out);
            self.coordinator_faults(out);
            if self.faults.lost_manifests > 0
                && self.is_starting()
                && !self.store.manifests.is_empty()
            {
                out.push(Action::LoseManifest);
            }
        }
        if self.faults.drops > 0 && setup.scenario.sink.prepared == Prepared::UntilTimeout {
            for (sink, external) in self.external.iter().enumerate() {
                for transaction in 0..external.prepared.len() {
                    out.push(Action::Drop { sink: small(sink), transaction: small(transaction) });
                }
            }
        }
    }

    fn message_faults(&self, out: &mut Vec<Action>) {
        for message in 0..self.network.len() {
            if self.faults.losses > 0 {
                out.push(Action::Lose { message: small(message) });
            }
            if self.faults.duplicates > 0 {
                out.push(Action::Duplicate { message: small(message) });
            }
        }
    }

    /// True if no coordinator has decided yet how its attempt begins.
    fn is_starting(&self) -> bool {
        let starts = |phase| matches!(phase, Phase::Claiming | Phase::Recovering);
        self.coordinators.last().is_none_or(|coordinator| starts(coordinator.machine.phase()))
    }

    fn task_faults(&self, out: &mut Vec<Action>) {
        let replaced = self.is_starting();
        for (subtask, task) in self.tasks.iter().enumerate().filter(|(_, task)| task.alive) {
            let index = small(subtask);
            if self.faults.crashes > 0 {
                out.push(Action::Crash { task: index, torn: false });
                if !task.writes.is_empty() {
                    out.push(Action::Crash { task: index, torn: true });
                }
            }
            if self.faults.zombie_tasks > 0 && replaced && !task.stranded {
                out.push(Action::Strand { task: index });
            }
            if self.faults.failed_snapshots > 0 {
                for write in 0..task.writes.len() {
                    for applied in [false, true] {
                        out.push(Action::WriteFailed { task: index, write: small(write), applied });
                    }
                }
            }
            if task.call.is_some() && self.faults.unknown_commits > 0 {
                for applied in [false, true] {
                    out.push(Action::CommitUnknown { task: index, applied });
                }
            }
            if task.call.is_some() && self.faults.refused_commits > 0 {
                out.push(Action::CommitRefused { task: index });
            }
        }
    }

    fn coordinator_faults(&self, out: &mut Vec<Action>) {
        let Some(coordinator) = self.newest() else { return };
        if self.faults.coordinator_crashes > 0 {
            out.push(Action::CrashCoordinator { applied: false });
            if !coordinator.writes.is_empty() {
                out.push(Action::CrashCoordinator { applied: true });
            }
        }
        if self.faults.zombie_coordinators > 0 && self.replaced().is_none() {
            out.push(Action::ElectBeside);
        }
        for write in 0..coordinator.writes.len() {
            if self.faults.unknown_writes > 0 {
                for applied in [false, true] {
                    out.push(Action::StoreUnknown { write: small(write), applied });
                }
            }
            if self.faults.refused_writes > 0 {
                out.push(Action::StoreRefused { write: small(write) });
            }
        }
        if self.faults.timeouts > 0 && coordinator.machine.phase() == Phase::Running {
            for &timer in coordinator.timers.iter().filter(|timer| **timer != Timer::Interval) {
                out.push(Action::FireEarly { timer });
            }
        }
    }

    fn zombies(&self, setup: &Setup, out: &mut Vec<Action>) {
        for (zombie, dead) in self.zombies.iter().enumerate() {
            let index = small(zombie);
            for (input, items) in dead.inputs.iter().enumerate() {
                if !items.is_empty() && Transition::may_read(setup, &dead.task, dead.subtask, input)
                {
                    out.push(Action::ZombieConsume { zombie: index, input: small(input) });
                }
            }
            for write in 0..dead.task.writes.len() {
                out.push(Action::ZombieWrite { zombie: index, write: small(write) });
            }
            if dead.task.call.is_some() {
                out.push(Action::ZombieCommit { zombie: index });
            }
        }
        let Some(old) = self.replaced() else { return };
        for write in 0..old.writes.len() {
            out.push(Action::ZombieStore { write: small(write) });
        }
        if !old.sweeping.is_empty() {
            out.push(Action::ZombieSweep);
        }
        if old.reads {
            out.push(Action::ZombieRead);
        }
        if old.concludes {
            out.push(Action::ZombieConclude);
        }
        for &timer in &old.timers {
            let may = match timer {
                Timer::Interval => self.checkpoints > 0 && Self::may_trigger(setup, old),
                Timer::Timeout(_) => self.faults.timeouts > 0,
                Timer::Resend => true,
            };
            if may {
                out.push(Action::ZombieFire { timer });
            }
        }
    }
}
