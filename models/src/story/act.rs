//! The action of a step, in words.

use snapline_protocol::coordinator::{Coordinator, Phase, StoreOp, Timer};
use snapline_protocol::ids::SubtaskId;
use snapline_protocol::message::{CheckpointKind, Order, Report};

use super::Teller;
use crate::scenario::{Setup, StopKind};
use crate::world::{Action, ControlMessage, Item, TaskState, World};

/// A coordinator's phase, in words.
pub(crate) fn phase(phase: Phase) -> String {
    match phase {
        Phase::Claiming => "the coordinator raises the fence".into(),
        Phase::Recovering => "the coordinator fails over".into(),
        Phase::Running => "the job runs".into(),
        Phase::Closing => "the last checkpoint is complete and committed; the job closes".into(),
        Phase::Finished(CheckpointKind::Periodic) => "the job has finished".into(),
        Phase::Finished(CheckpointKind::Drain) => "the job was drained and has finished".into(),
        Phase::Finished(CheckpointKind::Suspend) => "the job is suspended".into(),
        Phase::FailedDataLoss => "the job fails: an external system dropped data".into(),
        Phase::FailedRecovery(error) => format!("the job fails: {error}"),
        Phase::Deposed => "the coordinator is deposed".into(),
    }
}

fn timer(timer: Timer) -> String {
    match timer {
        Timer::Interval => "finds the interval over: the next checkpoint is due".into(),
        Timer::Timeout(checkpoint) => {
            format!("gives checkpoint {checkpoint} up: it timed out")
        }
        Timer::Resend => "notifies the sinks that have not reported once more".into(),
    }
}

/// The object of a write to the store.
pub(crate) fn op(op: &StoreOp) -> String {
    match op {
        StoreOp::Claim { term, .. } => format!("the fence of term {term}"),
        StoreOp::Reserve { until, .. } => format!("the reservation of ids below {until}"),
        StoreOp::Manifest { checkpoint, .. } => format!("the manifest of checkpoint {checkpoint}"),
        StoreOp::Collect { .. } => "the deletion of what is no longer needed".into(),
    }
}

/// The name of a timer.
pub(crate) fn timer_name(timer: Timer) -> String {
    match timer {
        Timer::Interval => "interval".into(),
        Timer::Timeout(checkpoint) => format!("timeout of {checkpoint}"),
        Timer::Resend => "resend".into(),
    }
}

/// The name of a message.
pub(super) fn message(teller: &Teller<'_>, message: &ControlMessage) -> String {
    message_name(teller.setup, message)
}

/// As [`message`], without a teller.
pub(crate) fn message_name(setup: &Setup, message: &ControlMessage) -> String {
    let name = |subtask: SubtaskId| setup.topology.name(subtask);
    match message {
        ControlMessage::Order(subtask, order) => {
            let to = name(*subtask);
            match order.order {
                Order::Trigger(barrier) => format!("trigger {} to {to}", barrier.checkpoint),
                Order::Abort(checkpoint) => format!("abort {checkpoint} to {to}"),
                Order::Complete(permit) => format!("complete {} to {to}", permit.checkpoint()),
            }
        }
        ControlMessage::Report(report) => match report.report {
            Report::Ack(ack) => {
                format!("ack {} of {}", ack.checkpoint(), name(ack.subtask()))
            }
            Report::Decline { subtask, checkpoint } => {
                format!("decline {checkpoint} of {}", name(subtask))
            }
            Report::Resolved { subtask, checkpoint, lost: false } => {
                format!("report of {} that it committed {checkpoint}", name(subtask))
            }
            Report::Resolved { subtask, checkpoint, lost: true } => {
                format!("report of {} that {checkpoint} is lost", name(subtask))
            }
        },
    }
}

/// True if a delivery changed nothing but removed the message.
pub(crate) fn changes_nothing(before: &World, after: &World, place: usize) -> bool {
    let mut unmoved = before.clone();
    let letters = match unmoved.sent.is_empty() {
        true => &mut unmoved.network,
        false => &mut unmoved.sent,
    };
    if place >= letters.len() {
        return false;
    }
    letters.remove(place);
    unmoved == *after
}

fn whether(applied: bool) -> &'static str {
    if applied { "it took effect all the same" } else { "it did not take effect" }
}

impl Teller<'_> {
    /// The party that acts, and its action.
    pub(super) fn act(&self, action: Action) -> (String, String) {
        let index = usize::from;
        let coordinator = || "coordinator".to_string();
        let storage = || "storage".to_string();
        let external = || "external".to_string();
        let network = || "network".to_string();
        let letter = |place: u8| self.letter(index(place));
        match action {
            Action::Deliver { message } => self.delivery(index(message)),
            Action::Emit { task } => {
                let position = self.before.tasks[index(task)].position;
                let record = self.setup.roots[index(task)][index(position)];
                let text = format!("reads record {}", self.setup.record_name(record));
                (self.name(index(task)), text)
            }
            Action::Exhaust { task } => (self.name(index(task)), "has no more records".into()),
            Action::Consume { task, input } => {
                let channel = self.setup.topology.subtasks()[index(task)].inputs[index(input)];
                let item = self.before.channels[channel].first();
                let from = self.feeder(index(task), index(input));
                (self.name(index(task)), self.reading(item, &from))
            }
            Action::Write { task, write } => {
                (storage(), self.writing(&self.before.tasks[index(task)], index(task), write))
            }
            Action::Commit { task } => {
                (external(), self.committing(&self.before.tasks[index(task)], index(task)))
            }
            Action::Store { write } => {
                (storage(), format!("{} is durable", self.write_of(true, write)))
            }
            Action::Sweep => (storage(), "deletes blobs that no checkpoint needs".into()),
            Action::Read => (coordinator(), "reads what storage holds, and decides".into()),
            Action::Fire { timer: fired } => (coordinator(), timer(fired)),
            Action::Detect => {
                let dead = self.before.tasks.iter().enumerate().filter(|(_, task)| !task.alive);
                let dead = self.names(dead.map(|(subtask, _)| subtask));
                (coordinator(), format!("learns that {dead} died"))
            }
            Action::Elect | Action::ElectBeside => {
                let beside = match action {
                    Action::ElectBeside => ", although another is alive",
                    _ => "",
                };
                (coordinator(), format!("number {} starts{beside}", self.after.terms))
            }
            Action::Stop => {
                let how = match self.setup.scenario.stop {
                    Some(StopKind::Suspend) => "suspends the job",
                    _ => "stops the job with drain",
                };
                ("user".into(), how.into())
            }
            Action::Conclude => (coordinator(), "sees that all tasks have ended".into()),
            Action::Lose { message } => (network(), format!("loses {}", letter(message))),
            Action::Duplicate { message } => {
                (network(), format!("delivers {}, and will deliver it once more", letter(message)))
            }
            Action::Delay { message } => (network(), format!("delays {}", letter(message))),
            Action::Crash { task, torn } => {
                let torn = if torn { ", its snapshot half written" } else { "" };
                (self.name(index(task)), format!("dies{torn}"))
            }
            Action::CrashCoordinator { applied } => {
                let asked = self
                    .before
                    .coordinators
                    .last()
                    .is_some_and(|coordinator| !coordinator.writes.is_empty());
                let what = match (asked, applied) {
                    (false, _) => "dies",
                    (true, true) => "dies; what it asked storage for takes effect",
                    (true, false) => "dies; what it asked storage for does not take effect",
                };
                (coordinator(), what.into())
            }
            Action::Strand { task } => {
                (self.name(index(task)), "will not notice that its attempt ends".into())
            }
            Action::FireEarly { timer: fired } => {
                (coordinator(), format!("{}, although nothing is stuck", timer(fired)))
            }
            Action::StoreUnknown { write, applied } => {
                let what = self.write_of(true, write);
                (storage(), format!("does not answer for {what}: {}", whether(applied)))
            }
            Action::StoreRefused { write } => {
                (storage(), format!("refuses {}", self.write_of(true, write)))
            }
            Action::WriteFailed { task, write, applied } => {
                let what = self.snapshot_name(&self.before.tasks[index(task)], index(task), write);
                (storage(), format!("fails to say that {what} is durable: {}", whether(applied)))
            }
            Action::CommitUnknown { task, applied } => {
                let what = self.call_name(&self.before.tasks[index(task)], index(task));
                (external(), format!("does not answer {what}: {}", whether(applied)))
            }
            Action::CommitRefused { task } => {
                let what = self.call_name(&self.before.tasks[index(task)], index(task));
                (external(), format!("refuses {what} for now"))
            }
            Action::Drop { sink, transaction } => {
                let transaction = self.before.external[index(sink)].prepared[index(transaction)];
                let whose = self.name(transaction.txn.subtask.index());
                let what = super::transaction_name(&transaction.txn);
                (external(), format!("drops {whose}'s prepared {what}"))
            }
            Action::LoseManifest => {
                let lost = self.before.store.manifests.last().map(|manifest| manifest.checkpoint);
                let what = lost.map_or_else(String::new, |lost| format!(" of checkpoint {lost}"));
                (storage(), format!("has lost the manifest{what}"))
            }
            _ => self.haunting(action),
        }
    }

    /// The actions of tasks and coordinators that should have ended.
    fn haunting(&self, action: Action) -> (String, String) {
        let index = usize::from;
        let dead = |zombie: u8| &self.before.zombies[index(zombie)];
        let old = |zombie: u8| format!("old {}", self.name(dead(zombie).subtask));
        let coordinator = || "old coordinator".to_string();
        match action {
            Action::ZombieConsume { zombie, input } => {
                let from = self.feeder(dead(zombie).subtask, index(input));
                let item = dead(zombie).inputs[index(input)].first();
                (old(zombie), self.reading(item, &from))
            }
            Action::ZombieWrite { zombie, write } => {
                let what = self.writing(&dead(zombie).task, dead(zombie).subtask, write);
                ("storage".into(), format!("old {what}"))
            }
            Action::ZombieCommit { zombie } => {
                let what = self.committing(&dead(zombie).task, dead(zombie).subtask);
                ("external".into(), format!("for the old one: {what}"))
            }
            Action::ZombieStore { write } => {
                let what = self.write_of(false, write);
                ("storage".into(), format!("handles {what} of the old coordinator"))
            }
            Action::ZombieSweep => (coordinator(), "deletes blobs".into()),
            Action::ZombieRead => (coordinator(), "reads what storage holds, and decides".into()),
            Action::ZombieConclude => (coordinator(), "sees that its tasks have ended".into()),
            Action::ZombieFire { timer: fired } => (coordinator(), timer(fired)),
            // Every other action has an arm in `act`.
            _ => ("unknown".into(), format!("{action:?}")),
        }
    }

    /// The message at an index: one just sent, if there is any, else one that waits.
    pub(super) fn letter_at(&self, place: usize) -> Option<ControlMessage> {
        let from = match self.before.sent.is_empty() {
            true => &self.before.network,
            false => &self.before.sent,
        };
        from.get(place).copied()
    }

    fn letter(&self, place: usize) -> String {
        self.letter_at(place).map_or("nothing".into(), |letter| message(self, &letter))
    }

    fn delivery(&self, place: usize) -> (String, String) {
        let Some(letter) = self.letter_at(place) else { return ("unknown".into(), String::new()) };
        let (actor, text) = match &letter {
            ControlMessage::Order(subtask, order) => {
                let text = match order.order {
                    Order::Trigger(barrier) => format!("gets trigger {}", barrier.checkpoint),
                    Order::Abort(checkpoint) => format!("gets abort {checkpoint}"),
                    Order::Complete(permit) => {
                        format!("learns that checkpoint {} is complete", permit.checkpoint())
                    }
                };
                (self.name(subtask.index()), text)
            }
            ControlMessage::Report(_) => {
                ("coordinator".into(), format!("gets the {}", message(self, &letter)))
            }
        };
        let ignored = match changes_nothing(self.before, self.after, place) {
            false => String::new(),
            true => self.why_not(&letter),
        };
        (actor, format!("{text}{ignored}"))
    }

    /// The reason for which a message is ignored.
    fn why_not(&self, letter: &ControlMessage) -> String {
        let sent = match letter {
            ControlMessage::Order(_, order) => order.attempt,
            ControlMessage::Report(report) => report.attempt,
        };
        let runs = match letter {
            ControlMessage::Order(subtask, _) => {
                self.before.tasks.get(subtask.index()).map(|task| task.aligner.attempt())
            }
            ControlMessage::Report(_) => self.before.coordinator().map(Coordinator::attempt),
        };
        match runs {
            Some(runs) if sent < runs => format!(
                "of attempt {sent} and ignores it: attempt {runs} is already running, so it \
                 is stale"
            ),
            _ => " and ignores it".into(),
        }
    }

    fn reading(&self, item: Option<&Item>, from: &str) -> String {
        match item {
            None => format!("reads nothing from {from}"),
            Some(Item::Record(record)) => {
                format!("reads record {} from {from}", self.setup.record_name(*record))
            }
            Some(Item::Barrier(barrier)) => {
                format!("reads barrier {} from {from}", barrier.checkpoint)
            }
            Some(Item::End) => format!("reads the end of {from}"),
        }
    }

    fn write_of(&self, newest: bool, write: u8) -> String {
        let coordinator =
            if newest { self.before.coordinators.last() } else { self.before.coordinators.first() };
        let asked = coordinator.and_then(|coordinator| coordinator.writes.get(usize::from(write)));
        asked.map_or("nothing".into(), op)
    }

    fn snapshot_name(&self, task: &TaskState, subtask: usize, write: u8) -> String {
        let checkpoint = task.writes[usize::from(write)].checkpoint;
        format!("{}'s snapshot for checkpoint {checkpoint}", self.name(subtask))
    }

    fn writing(&self, task: &TaskState, subtask: usize, write: u8) -> String {
        format!("{} is durable", self.snapshot_name(task, subtask, write))
    }

    fn call_name(&self, task: &TaskState, subtask: usize) -> String {
        let txn = task.call.map_or("nothing".into(), |txn| super::transaction_name(&txn));
        format!("{}'s commit of {txn}", self.name(subtask))
    }

    fn committing(&self, task: &TaskState, subtask: usize) -> String {
        format!("carries out {}", self.call_name(task, subtask))
    }
}
