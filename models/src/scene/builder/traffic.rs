//! The arrows of a scene: items in channels, control messages, writes to storage, calls to external
//! systems.

use snapline_protocol::coordinator::StoreOp;
use snapline_protocol::message::{Order, Report};

use super::super::{ArrowFate, ArrowKind};
use super::{COORDINATOR, SceneBuilder, letters};
use crate::story::{changes_nothing, message_name, op, transaction_name};
use crate::world::{Action, ControlMessage, World, Write};

impl SceneBuilder<'_> {
    /// The items in the channels now, and the fates of those before.
    pub(super) fn channels(&mut self, after: &World, action: Action) {
        for (channel, items) in after.channels.iter().enumerate() {
            let ends = self.setup.topology.channels()[channel];
            let mut left = std::mem::take(&mut self.channels[channel]);
            if let Action::Consume { task, input } = action {
                let inputs = &self.setup.topology.subtasks()[usize::from(task)].inputs;
                if inputs[usize::from(input)] == channel && !left.is_empty() {
                    let (_, arrow) = left.remove(0);
                    self.settle(arrow, ArrowFate::Arrived);
                }
            }
            let mut now = Vec::new();
            for item in items {
                let arrow = match left.iter().position(|(other, _)| other == item) {
                    Some(place) => left.remove(place).1,
                    None => {
                        let (kind, label, checkpoint) = self.in_band(item);
                        let from = Self::task_lane(ends.from.index());
                        let to = Self::task_lane(ends.to.index());
                        self.send((from, to), kind, label, checkpoint)
                    }
                };
                now.push((*item, arrow));
            }
            for (_, arrow) in left {
                self.settle(arrow, ArrowFate::Lost);
            }
            self.channels[channel] = now;
        }
    }

    /// Snapshots on their way to storage.
    pub(super) fn snapshots(&mut self, before: &World, after: &World, action: Action) {
        let (storage, deployed) = (self.storage(), before.host != after.host);
        for subtask in 0..self.writes.len() {
            let task = after.tasks.get(subtask);
            let now: &[Write] = task.map_or(&[], |task| &task.writes);
            let mut left = std::mem::take(&mut self.writes[subtask]);
            let mut going = Vec::new();
            let lane = Self::task_lane(subtask);
            for write in now {
                let known = left.iter().position(|(other, _)| other.checkpoint == write.checkpoint);
                let arrow = match known {
                    Some(place) if !deployed => left.remove(place).1,
                    _ => {
                        let label = format!("snapshot for {}", write.checkpoint);
                        let checkpoint = Some(write.checkpoint);
                        self.send((lane, storage), ArrowKind::Write, label, checkpoint)
                    }
                };
                going.push((write.clone(), arrow));
            }
            let failed =
                matches!(action, Action::WriteFailed { task, .. } if usize::from(task) == subtask);
            for (write, arrow) in left {
                let there = after.store.blob(write.blob.id).is_some_and(|blob| blob.whole);
                let fate = match (failed, there && !deployed) {
                    (true, _) => ArrowFate::Failed,
                    (false, true) => ArrowFate::Arrived,
                    (false, false) => ArrowFate::Lost,
                };
                self.settle(arrow, fate);
            }
            self.writes[subtask] = going;
        }
        // Snapshots that are written at once are in storage after the step that takes them.
        for blob in &after.store.blobs {
            let new = before.store.blob(blob.id).is_none();
            let lane = Self::task_lane(blob.id.subtask.index());
            let shown = self.scene.arrows.iter().rev().any(|arrow| {
                let same = (arrow.from, arrow.kind) == (lane, ArrowKind::Write);
                same && arrow.checkpoint == Some(blob.id.checkpoint.get())
                    && arrow.until == self.step
            });
            if new && !shown {
                let label = format!("snapshot for {}", blob.id.checkpoint);
                let checkpoint = Some(blob.id.checkpoint);
                let arrow = self.send((lane, storage), ArrowKind::Write, label, checkpoint);
                self.settle(arrow, ArrowFate::Arrived);
            }
        }
    }

    /// Control messages, and the writes of coordinators.
    pub(super) fn sent_and_stored(&mut self, after: &World, past: Option<(&World, Action)>) {
        let mut left = std::mem::take(&mut self.letters);
        if let Some((before, action)) = past {
            let from = letters(before);
            let message = |place: u8| from.get(usize::from(place)).copied();
            let (place, what) = match action {
                Action::Deliver { message } => (Some(message), ArrowFate::Arrived),
                Action::Duplicate { message } => (Some(message), ArrowFate::Twice),
                Action::Lose { message } => (Some(message), ArrowFate::Lost),
                Action::Delay { message: place } => {
                    let kept = message(place);
                    let arrow = left.iter().find(|(other, _)| Some(*other) == kept);
                    self.late.extend(arrow.map(|(_, arrow)| *arrow));
                    (None, ArrowFate::UnderWay)
                }
                _ => (None, ArrowFate::UnderWay),
            };
            let index = place.map_or(0, usize::from);
            let settled = place.and_then(message);
            if let Some(place) = left.iter().position(|(other, _)| Some(*other) == settled) {
                let (_, arrow) = left.remove(place);
                let ignored = what == ArrowFate::Arrived && changes_nothing(before, after, index);
                let late = what == ArrowFate::Arrived && self.late.contains(&arrow);
                let what = match (ignored, late) {
                    (true, _) => ArrowFate::Ignored,
                    (_, true) => ArrowFate::Late,
                    _ => what,
                };
                self.settle(arrow, what);
            }
        }
        let mut going = Vec::new();
        for message in after.network.iter().chain(&after.sent) {
            let arrow = match left.iter().position(|(other, _)| other == message) {
                Some(place) => left.remove(place).1,
                None => self.letter(message),
            };
            going.push((*message, arrow));
        }
        for (_, arrow) in left {
            // Its receiver is gone, or an equal message absorbed it.
            self.settle(arrow, ArrowFate::Lost);
        }
        self.letters = going;

        let mut left = std::mem::take(&mut self.store);
        let storage = self.storage();
        for write in after.coordinators.iter().flat_map(|coordinator| &coordinator.writes) {
            let arrow = match left.iter().position(|(other, _)| other == write) {
                Some(place) => left.remove(place).1,
                None => {
                    let checkpoint = match write {
                        StoreOp::Manifest { checkpoint, .. } => Some(*checkpoint),
                        _ => None,
                    };
                    self.send((COORDINATOR, storage), ArrowKind::Write, op(write), checkpoint)
                }
            };
            self.store.push((*write, arrow));
        }
        let failed = past.is_some_and(|(_, action)| {
            matches!(action, Action::StoreUnknown { .. } | Action::StoreRefused { .. })
        });
        let crashed =
            past.is_some_and(|(_, action)| matches!(action, Action::CrashCoordinator { .. }));
        for (_, arrow) in left {
            let fate = match (failed, crashed) {
                (true, _) => ArrowFate::Failed,
                (false, true) => ArrowFate::Lost,
                (false, false) => ArrowFate::Arrived,
            };
            self.settle(arrow, fate);
        }
    }

    fn letter(&mut self, message: &ControlMessage) -> usize {
        let label = message_name(self.setup, message);
        let (ends, checkpoint) = match message {
            ControlMessage::Order(subtask, order) => {
                let checkpoint = match order.order {
                    Order::Trigger(barrier) => barrier.checkpoint,
                    Order::Abort(checkpoint) => checkpoint,
                    Order::Complete(permit) => permit.checkpoint(),
                };
                ((COORDINATOR, Self::task_lane(subtask.index())), checkpoint)
            }
            ControlMessage::Report(report) => {
                let (subtask, checkpoint) = match report.report {
                    Report::Ack(ack) => (ack.subtask(), ack.checkpoint()),
                    Report::Decline { subtask, checkpoint }
                    | Report::Resolved { subtask, checkpoint, .. } => (subtask, checkpoint),
                };
                ((Self::task_lane(subtask.index()), COORDINATOR), checkpoint)
            }
        };
        self.send(ends, ArrowKind::Control, label, Some(checkpoint))
    }

    /// Calls to external systems.
    pub(super) fn transactions(&mut self, before: &World, after: &World, action: Action) {
        for (place, subtask) in self.setup.topology.sinks().iter().enumerate() {
            let (lane, external) = (Self::task_lane(subtask), self.external(subtask));
            for transaction in &after.external[place].prepared {
                let txn = transaction.txn;
                let known = before.external[place].prepared.iter().any(|other| other.txn == txn);
                if !known {
                    let label = format!("prepares {}", transaction_name(&txn));
                    let ends = (lane, external);
                    let arrow = self.send(ends, ArrowKind::Commit, label, Some(txn.checkpoint));
                    self.settle(arrow, ArrowFate::Arrived);
                }
            }
            // A commit without a call of the sink: only a wrong rule does that.
            let called = matches!(
                action,
                Action::Commit { .. } | Action::CommitUnknown { .. } | Action::ZombieCommit { .. }
            );
            let known = |txn| before.external[place].committed.iter().any(|it| it.txn == txn);
            for transaction in &after.external[place].committed {
                let txn = transaction.txn;
                if !called && !known(txn) {
                    let label = format!("commits {}", transaction_name(&txn));
                    let ends = (lane, external);
                    let arrow = self.send(ends, ArrowKind::Commit, label, Some(txn.checkpoint));
                    self.settle(arrow, ArrowFate::Arrived);
                }
            }
            let now = after.tasks.get(subtask).and_then(|task| task.call);
            if self.calls[subtask].map(|(txn, _)| txn) != now || acted(action, subtask) {
                if let Some((_, arrow)) = self.calls[subtask].take() {
                    let fate = match action {
                        Action::CommitUnknown { .. } | Action::CommitRefused { .. } => {
                            ArrowFate::Failed
                        }
                        Action::Commit { .. } => ArrowFate::Arrived,
                        _ => ArrowFate::Lost,
                    };
                    self.settle(arrow, fate);
                }
                if let Some(txn) = now {
                    let label = format!("commit {}", transaction_name(&txn));
                    let ends = (lane, external);
                    let arrow = self.send(ends, ArrowKind::Commit, label, Some(txn.checkpoint));
                    self.calls[subtask] = Some((txn, arrow));
                }
            }
        }
    }
}

/// True if the external system answered a sink's commit call.
fn acted(action: Action, subtask: usize) -> bool {
    match action {
        Action::Commit { task }
        | Action::CommitUnknown { task, .. }
        | Action::CommitRefused { task } => usize::from(task) == subtask,
        _ => false,
    }
}
