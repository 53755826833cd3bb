//! Attempts: their start, and the deaths of tasks and coordinators, noticed or not.

use std::sync::Arc;

use snapline_protocol::Out;
use snapline_protocol::aligner::Aligner;
use snapline_protocol::committer::Committer;
use snapline_protocol::coordinator::{Coordinator, StoreOp};
use snapline_protocol::fence::Claimant;
use snapline_protocol::ids::{Attempt, BlobId, TxnId};
use snapline_protocol::message::CommitPermit;
use snapline_protocol::recovery::{Decision, decide};
use snapline_protocol::retention::ReplayPositions;
use snapline_protocol::topology::Role;

use super::rule::WrongRule;
use super::store::blob_name;
use super::{CoordinatorState, Past, Situation, TaskRef, TaskState, Transition, Zombie};
use crate::tally::RecordTally;

impl Transition<'_> {
    /// A coordinator of a new term starts; those that were deposed, or died, are gone.
    pub(super) fn elect(&mut self) {
        self.world.terms += 1;
        // Two that start at the same time choose the same term; the store lets one of them have it.
        let term = self.world.store.fence.term.next();
        let claimant = Claimant(u64::from(self.world.terms));
        let mut out = Out::new();
        let machine = Coordinator::start(&self.setup.coordinator, term, claimant, &mut out);
        let too_early = self.wrong(WrongRule::FactsBeforeFence).then(|| {
            let mut facts = self.world.facts(self.setup, term);
            facts.fence = term;
            decide(&facts).unwrap_or(Decision::Fresh)
        });
        self.world.coordinators.push(CoordinatorState {
            number: self.world.terms,
            machine,
            timers: Vec::new(),
            writes: Vec::new(),
            sweeping: Vec::new(),
            reads: false,
            concludes: false,
            too_early,
        });
        let coordinator = self.world.coordinators.len() - 1;
        self.carry_out(coordinator, out);
    }

    /// A coordinator starts because the last one is deposed or dead; one that was replaced before
    /// may live on.
    pub(super) fn elect_afresh(&mut self) {
        let terms = self.world.terms;
        self.world.coordinators.retain(|coordinator| coordinator.number != terms);
        self.elect();
    }

    /// SPEC 3.2: a new attempt replaces every earlier one; a host refuses one that comes late.
    pub(super) fn deploy(&mut self, attempt: Attempt, decision: Decision) {
        if !self.world.host.admit(attempt).is_applied() {
            return;
        }
        let before = core::mem::take(&mut self.world.tasks);
        let channels = core::mem::take(&mut self.world.channels);
        for (subtask, task) in before.iter().enumerate() {
            if task.alive && task.stranded {
                let inputs = self.setup.topology.subtasks()[subtask].inputs.iter();
                let inputs = inputs.map(|&channel| channels[channel].clone()).collect();
                self.world.zombies.push(Zombie { subtask, task: TaskState::clone(task), inputs });
            }
        }
        match decision {
            Decision::Fresh if !before.is_empty() => self.reached(Situation::FreshAgain),
            Decision::Restore { terminal: Some(_), .. } => {
                self.reached(Situation::RestoredTerminal)
            }
            Decision::Restore { .. } => self.reached(Situation::Restored),
            Decision::Fresh => {}
        }
        self.world.channels = vec![Vec::new(); self.setup.topology.channels().len()];
        for subtask in 0..self.setup.aligners.len() {
            self.start_task(subtask, attempt, decision, before.get(subtask).map(Arc::as_ref));
        }
    }

    fn start_task(
        &mut self,
        subtask: usize,
        attempt: Attempt,
        decision: Decision,
        before: Option<&TaskState>,
    ) {
        let config = self.setup.aligners[subtask];
        let restored = match decision {
            Decision::Fresh => None,
            Decision::Restore { permit, .. } => self.snapshot_of(subtask, permit),
        };
        let at_rest = matches!(decision, Decision::Restore { terminal: Some(_), .. });
        let aligner = match at_rest {
            true => Aligner::at_rest(&config, attempt),
            false => Aligner::new(&config, attempt),
        };
        let mut task = TaskState {
            alive: true,
            stranded: false,
            aligner,
            committer: None,
            position: restored.as_ref().map_or(0, |restored| restored.position),
            tally: restored.as_ref().map_or(RecordTally::default(), |restored| restored.tally),
            open: RecordTally::default(),
            writes: Vec::new(),
            call: None,
            past: Vec::new(),
            replay_positions: None,
        };
        if self.setup.scenario.forgets
            && self.setup.topology.role(config.subtask) == Role::Source
            && let Some(retained) = self.setup.scenario.retained
        {
            // Wrong: older checkpoints that are kept do not count.
            let retained = if self.wrong(WrongRule::ForgetsKept) { 1 } else { retained };
            task.replay_positions = Some(ReplayPositions::new(retained));
        }
        if self.wrong(WrongRule::NotResetBeforeFirst) && restored.is_none() {
            task.position = before.map_or(0, |before| before.position);
        }
        if let (true, Some(restored)) = (self.setup.scenario.shared, &restored) {
            let RestoredTask { checkpoint, blob, tally, .. } = *restored;
            task.past.push(Past { checkpoint, blob, tally });
        }
        self.world.tasks.push(Arc::new(task));
        if self.setup.topology.role(config.subtask) == Role::Sink {
            self.start_sink(subtask, attempt, decision, restored.map_or(Vec::new(), |r| r.pending));
        }
    }

    fn start_sink(
        &mut self,
        subtask: usize,
        attempt: Attempt,
        decision: Decision,
        pending: Vec<TxnId>,
    ) {
        let place = TaskRef::Running(subtask);
        let config = self.setup.committers[subtask];
        if !pending.is_empty() {
            self.reached(Situation::Recommitting);
        }
        if self.setup.scenario.sink.prepared == crate::sink::Prepared::InCheckpoint {
            self.prepare_again(subtask, &pending);
        }
        let restored = match decision {
            Decision::Fresh => None,
            Decision::Restore { permit, .. } => {
                let pending = if self.wrong(WrongRule::InDoubtForgotten) {
                    Vec::new()
                } else {
                    pending.clone()
                };
                Some((pending, permit))
            }
        };
        let mut out = Out::new();
        let committer = Committer::start(&config, attempt, restored, &mut out);
        self.task(place).committer = Some(committer);
        self.committer_effects(place, out);
        if self.wrong(WrongRule::OutrunsRecommit) && !pending.is_empty() {
            // Wrong: the sink does not wait for the replayed commit and runs without it.
            let mut out = Out::new();
            self.task(place).committer = Some(Committer::start(&config, attempt, None, &mut out));
        }
    }

    /// The checkpoint holds the data of these transactions: they can be committed, whatever the
    /// external system did with its own copy.
    fn prepare_again(&mut self, subtask: usize, pending: &[TxnId]) {
        let place = super::World::external_of(self.setup, subtask);
        let external = &mut self.world.external[place];
        external.prepared.retain(|transaction| pending.contains(&transaction.txn));
    }

    fn snapshot_of(&self, subtask: usize, permit: CommitPermit) -> Option<RestoredTask> {
        let checkpoint = permit.checkpoint();
        let manifests = &self.world.store.manifests;
        let manifest = manifests.iter().find(|manifest| manifest.checkpoint == checkpoint)?;
        let id = BlobId {
            checkpoint,
            attempt: manifest.attempt,
            subtask: self.setup.aligners[subtask].subtask,
        };
        let id = blob_name(self.setup, id);
        let blob = self.world.store.blob(id)?;
        let tally = self.world.store.state(id)?;
        let pending = blob.pending.clone();
        Some(RestoredTask { checkpoint, blob: id, position: blob.position, tally, pending })
    }

    /// The job is over: its tasks end, and their unfinished writes with them.
    pub(super) fn conclude(&mut self, coordinator: usize) {
        self.world.coordinators[coordinator].concludes = false;
        let attempt = self.world.coordinators[coordinator].machine.attempt();
        if self.world.host.attempt() == Some(attempt) {
            self.world.tasks.clear();
            self.world.channels.clear();
        }
        self.conduct(coordinator, snapline_protocol::coordinator::Event::Concluded { attempt });
    }

    /// A task dies: memory, input channels and unfinished writes are gone, the latter perhaps half
    /// written.
    pub(super) fn crash(&mut self, subtask: usize, torn: bool) {
        let writes = core::mem::take(&mut self.task(TaskRef::Running(subtask)).writes);
        if torn {
            for mut write in writes {
                write.blob.whole = false;
                self.put_blob(write.blob);
            }
        }
        if self.wrong(WrongRule::RollsBackOnFailure)
            && self.world.tasks[subtask].committer.is_some()
        {
            let place = super::World::external_of(self.setup, subtask);
            self.world.external[place].prepared.clear();
        }
        for &channel in &self.setup.topology.subtasks()[subtask].inputs {
            self.world.channels[channel].clear();
        }
        let config = &self.setup.aligners[subtask];
        let attempt = self.world.tasks[subtask].aligner.attempt();
        let position = self.world.tasks[subtask].position;
        let position =
            if self.setup.mutant == Some(WrongRule::NotResetBeforeFirst) { position } else { 0 };
        // Dead tasks are equal: nothing remains that distinguishes them.
        self.world.tasks[subtask] = Arc::new(TaskState {
            alive: false,
            stranded: false,
            aligner: Aligner::new(config, attempt),
            committer: None,
            position,
            tally: RecordTally::default(),
            open: RecordTally::default(),
            writes: Vec::new(),
            call: None,
            past: Vec::new(),
            replay_positions: None,
        });
    }

    /// The newest coordinator dies; `applied` is true if its writes in flight take effect.
    pub(super) fn crash_coordinator(&mut self, applied: bool) {
        // Only the newest coordinator crashes, and it is the last.
        let coordinator = self.world.coordinators.len() - 1;
        let writes = core::mem::take(&mut self.world.coordinators[coordinator].writes);
        for op in writes {
            if applied {
                let noted = self.world.store.fence.completed;
                let _unheard = self.store_op(coordinator, op);
                // SPEC 7.6: the coordinator dies before it can note the complete checkpoint. This
                // matters only where a manifest may be lost.
                if matches!(op, StoreOp::Manifest { .. })
                    && self.setup.scenario.faults.lost_manifests > 0
                {
                    self.world.store.fence.completed = noted;
                }
            } else if let (StoreOp::Manifest { attempt, checkpoint, kind, ended, .. }, true) =
                (op, self.wrong(WrongRule::ManifestTorn))
            {
                // Wrong: renamed into place before its bytes were synced.
                let manifest =
                    super::ManifestState { checkpoint, attempt, kind, ended, whole: false };
                self.world.store.manifests.push(manifest);
            }
        }
        self.world.coordinators.remove(coordinator);
    }
}

struct RestoredTask {
    checkpoint: snapline_protocol::ids::CheckpointId,
    blob: BlobId,
    position: u8,
    tally: RecordTally,
    pending: Vec<TxnId>,
}
