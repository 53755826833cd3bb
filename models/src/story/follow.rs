//! The consequences of a step: the difference between the World before and after.

use snapline_protocol::coordinator::Phase;
use snapline_protocol::ids::CheckpointId;

use super::{Teller, act, tally};
use crate::world::{Action, ControlMessage, CoordinatorState, Item, TaskState};

impl Teller<'_> {
    /// The consequences, in clauses.
    pub(super) fn follow(&self, action: Action) -> Vec<String> {
        let mut clauses = Vec::new();
        // A manifest is durable before any task can learn of it.
        self.storage_changed(action, &mut clauses);
        let deployed = self.before.host != self.after.host;
        if deployed {
            self.deployed(&mut clauses);
        } else {
            for (subtask, (before, after)) in
                self.before.tasks.iter().zip(&self.after.tasks).enumerate()
            {
                if before.alive && after.alive {
                    self.task_moved(subtask, before, after, &mut clauses);
                }
            }
        }
        self.external_changed(action, &mut clauses);
        // An elected coordinator replaces the last one; otherwise each keeps its place.
        if action != Action::Elect {
            for (before, after) in self.before.coordinators.iter().zip(&self.after.coordinators) {
                self.coordinator_moved(before, after, &mut clauses);
            }
        }
        self.sent(&mut clauses);
        clauses
    }

    fn deployed(&self, clauses: &mut Vec<String>) {
        let Some(attempt) = self.after.host.attempt() else { return };
        let restored = self
            .after
            .coordinators
            .iter()
            .find(|coordinator| coordinator.machine.attempt() == attempt)
            .and_then(|coordinator| coordinator.machine.newest());
        let from = match restored {
            Some(checkpoint) => format!("restores checkpoint {checkpoint}"),
            None => "starts from nothing".into(),
        };
        clauses.push(format!("attempt {attempt} is deployed and {from}"));
        // The sources' positions show which checkpoint was restored.
        for source in self.setup.topology.sources().iter().filter(|_| restored.is_some()) {
            let read = self.after.tasks[source].position;
            let records = if read == 1 { "record" } else { "records" };
            clauses.push(format!("{} resumes after {read} {records}", self.name(source)));
        }
        let new = self.after.zombies.iter().skip(self.before.zombies.len());
        let stay = self.names(new.map(|zombie| zombie.subtask));
        if !stay.is_empty() {
            clauses.push(format!("{stay} of the last attempt continues to act unnoticed"));
        }
        for (subtask, task) in self.after.tasks.iter().enumerate() {
            if task.call.is_some() {
                clauses.push(self.commits(subtask, task));
            }
        }
    }

    fn commits(&self, subtask: usize, task: &TaskState) -> String {
        let what = task.call.map_or(String::new(), |txn| super::transaction_name(&txn));
        format!("{} asks to commit {what}", self.name(subtask))
    }

    fn task_moved(
        &self,
        subtask: usize,
        before: &TaskState,
        after: &TaskState,
        clauses: &mut Vec<String>,
    ) {
        let name = self.name(subtask);
        let config = &self.setup.aligners[subtask];
        let held = |task: &TaskState, input| task.aligner.held(config, input);
        let inputs = || 0..config.inputs;
        let newly: Vec<usize> = inputs().filter(|&i| held(after, i) && !held(before, i)).collect();
        let freed = inputs().any(|i| held(before, i)) && !inputs().any(|i| held(after, i));
        for input in newly {
            clauses.push(format!("{name} holds its input from {}", self.feeder(subtask, input)));
        }
        for checkpoint in self.snapshots_taken(subtask, before, after) {
            let base = match self.base_of(subtask, after, checkpoint) {
                Some(base) => format!(" on top of {base}"),
                None => String::new(),
            };
            clauses.push(format!("{name} takes its snapshot for checkpoint {checkpoint}{base}"));
        }
        if freed {
            clauses.push(format!("{name} releases its inputs"));
        }
        if after.aligner.has_ended(config) && !before.aligner.has_ended(config) {
            clauses.push(format!("{name} has ended"));
        }
        for (item, to) in self.passed_on(subtask) {
            clauses.push(format!("{name} passes {item} to {to}"));
        }
        if after.call.is_some() && before.call != after.call {
            clauses.push(self.commits(subtask, after));
        }
    }

    /// Snapshots that are being written; those that are written at once are in storage already.
    fn snapshots_taken(
        &self,
        subtask: usize,
        before: &TaskState,
        after: &TaskState,
    ) -> Vec<CheckpointId> {
        let writes = after.writes.iter().filter(|write| !before.writes.contains(write));
        let mut taken: Vec<CheckpointId> = writes.map(|write| write.checkpoint).collect();
        let known = |id| self.before.store.blob(id).is_some();
        let mine = self.after.store.blobs.iter().filter(|blob| {
            blob.id.subtask.index() == subtask && blob.id.attempt == after.aligner.attempt()
        });
        let written = mine.filter(|blob| {
            let asked = before.writes.iter().any(|write| write.blob.id == blob.id);
            !known(blob.id) && !asked
        });
        taken.extend(written.map(|blob| blob.id.checkpoint));
        taken
    }

    fn base_of(
        &self,
        subtask: usize,
        task: &TaskState,
        checkpoint: CheckpointId,
    ) -> Option<CheckpointId> {
        let written = task.writes.iter().map(|write| &write.blob);
        let mut blobs = written.chain(self.after.store.blobs.iter().map(AsRef::as_ref));
        let blob = blobs
            .find(|blob| blob.id.subtask.index() == subtask && blob.id.checkpoint == checkpoint);
        blob.and_then(|blob| blob.base).map(|base| base.checkpoint)
    }

    /// The new items at the end of a subtask's output channels, with the names of their receivers.
    fn passed_on(&self, subtask: usize) -> Vec<(String, String)> {
        let mut passed: Vec<(String, Vec<usize>)> = Vec::new();
        for &channel in &self.setup.topology.subtasks()[subtask].outputs {
            let (before, after) = (&self.before.channels[channel], &self.after.channels[channel]);
            let to = self.setup.topology.channels()[channel].to.index();
            for item in after.iter().skip(before.len()) {
                let item = match item {
                    Item::Record(_) => "it".to_string(),
                    Item::Barrier(barrier) => format!("barrier {}", barrier.checkpoint),
                    Item::End => "its end".to_string(),
                };
                match passed.iter_mut().find(|(other, _)| *other == item) {
                    Some((_, receivers)) => receivers.push(to),
                    None => passed.push((item, vec![to])),
                }
            }
        }
        passed.into_iter().map(|(item, to)| (item, self.names(to.into_iter()))).collect()
    }

    fn storage_changed(&self, action: Action, clauses: &mut Vec<String>) {
        let (before, after) = (&self.before.store, &self.after.store);
        for manifest in &after.manifests {
            if !before.manifests.iter().any(|other| other.checkpoint == manifest.checkpoint) {
                let missing = self.after.roots_of(self.setup, manifest).enumerate();
                let missing = missing.filter(|(_, root)| after.state(*root).is_none());
                let missing = self.names(missing.map(|(subtask, _)| subtask));
                let although = match missing.is_empty() {
                    true => String::new(),
                    false => format!(", and the snapshot of {missing} is not there"),
                };
                clauses.push(format!("checkpoint {} is complete{although}", manifest.checkpoint));
            }
        }
        for manifest in &before.manifests {
            let kept = after.manifests.iter().chain(&after.lost);
            if !kept.map(|other| other.checkpoint).any(|other| other == manifest.checkpoint) {
                clauses.push(format!("checkpoint {} is deleted", manifest.checkpoint));
            }
        }
        let gone = before.blobs.iter().filter(|blob| after.blob(blob.id).is_none()).count();
        if gone > 0 {
            clauses.push(format!("{gone} blobs are gone"));
        }
        if let Action::ZombieStore { .. } = action
            && before == after
        {
            clauses.push("nothing in storage changes".into());
        }
    }

    fn external_changed(&self, action: Action, clauses: &mut Vec<String>) {
        let sinks = self.setup.topology.sinks();
        let externals = self.before.external.iter().zip(&self.after.external);
        for (sink, (before, after)) in sinks.iter().zip(externals) {
            let name = self.name(sink);
            for transaction in &after.prepared {
                if !before.prepared.iter().any(|other| other.txn == transaction.txn) {
                    let what = super::transaction_name(&transaction.txn);
                    let content = tally(self.setup, transaction.content);
                    clauses.push(format!("{name} prepares {what} ({content})"));
                }
            }
            for transaction in &before.prepared {
                let left = after.prepared.iter().any(|other| other.txn == transaction.txn);
                let committed = after.committed.iter().any(|other| other.txn == transaction.txn);
                let dropped = matches!(action, Action::Drop { .. });
                if !left && !committed && !dropped {
                    let what = super::transaction_name(&transaction.txn);
                    clauses.push(format!("{name}'s {what} is rolled back"));
                }
            }
            let asked = matches!(
                action,
                Action::Commit { .. } | Action::CommitUnknown { .. } | Action::ZombieCommit { .. }
            );
            let known = |txn| before.committed.iter().any(|other| other.txn == txn);
            for transaction in after.committed.iter().filter(|it| !asked && !known(it.txn)) {
                let what = super::transaction_name(&transaction.txn);
                clauses.push(format!("{name}'s {what} is committed"));
            }
            let seen = after.visible.once & !before.visible.once;
            let again = after.visible.twice & !before.visible.twice;
            if seen != 0 {
                let records = super::records(self.setup, seen);
                clauses.push(format!("readers of {name} see {records}"));
            }
            if again != 0 {
                let records = super::records(self.setup, again);
                clauses.push(format!("readers of {name} see {records} a second time"));
            }
        }
    }

    fn coordinator_moved(
        &self,
        before: &CoordinatorState,
        after: &CoordinatorState,
        clauses: &mut Vec<String>,
    ) {
        let (was, is) = (&before.machine, &after.machine);
        for (checkpoint, acked) in is.under_way() {
            match was.under_way().find(|(other, _)| *other == checkpoint) {
                None => clauses.push(format!("checkpoint {checkpoint} starts")),
                Some((_, before)) => {
                    let new = self.names(acked.iter().filter(|&s| !before.contains(s)));
                    if !new.is_empty() {
                        clauses.push(format!("checkpoint {checkpoint} is acknowledged by {new}"));
                    }
                }
            }
        }
        for (checkpoint, _) in was.under_way() {
            let is_pending = is.under_way().any(|(other, _)| other == checkpoint);
            if !is_pending && is.newest() < Some(checkpoint) {
                clauses.push(format!("checkpoint {checkpoint} is aborted"));
            }
        }
        for write in after.writes.iter().filter(|write| !before.writes.contains(write)) {
            clauses.push(format!("storage is asked for {}", act::op(write)));
        }
        if was.is_resolved() != is.is_resolved() && is.is_resolved() && is.newest() == was.newest()
        {
            clauses.push("every sink has committed".into());
        }
        let moved = match is.phase() {
            Phase::Running => false,
            Phase::Recovering => was.phase() == Phase::Running,
            other => other != was.phase(),
        };
        if moved {
            clauses.push(act::phase(is.phase()));
        }
    }

    /// Messages that wait now and did not before, in one clause.
    fn sent(&self, clauses: &mut Vec<String>) {
        let known = |message: &&ControlMessage| {
            self.before.network.contains(message) || self.before.sent.contains(message)
        };
        let waiting = self.after.network.iter().chain(&self.after.sent);
        let mut new: Vec<String> = Vec::new();
        for message in waiting.filter(|message| !known(message)) {
            let text = act::message(self, message);
            if !new.contains(&text) {
                new.push(text);
            }
        }
        if !new.is_empty() {
            clauses.push(format!("sent: {}", new.join(", ")));
        }
    }
}
