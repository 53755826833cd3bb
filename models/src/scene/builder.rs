//! Builds a scene: follows a path of the World step by step, and notes everything that a picture of
//! it shows.

mod traffic;

use snapline_protocol::coordinator::StoreOp;
use snapline_protocol::ids::{Attempt, CheckpointId, SubtaskId, Term, TxnId};

use super::{
    Arrow, ArrowFate, ArrowKind, Checkpoint, Fact, Hold, Lane, LaneKind, LaneSpan, Scene,
    SceneStep, facts,
};
use crate::scenario::Setup;
use crate::story::StoryLine;
use crate::world::{Action, ControlMessage, Item, KINDS, World, Write};

const COORDINATOR: usize = 0;

pub(super) struct SceneBuilder<'a> {
    setup: &'a Setup,
    scene: Scene,
    step: usize,
    /// The items in each channel, in order, with their places in the scene's arrows.
    channels: Vec<Vec<(Item, usize)>>,
    /// Control messages under way.
    letters: Vec<(ControlMessage, usize)>,
    /// Snapshots being written, by subtask.
    writes: Vec<Vec<(Write, usize)>>,
    /// Writes of coordinators.
    store: Vec<(StoreOp, usize)>,
    /// Commit calls, by subtask.
    calls: Vec<Option<(TxnId, usize)>>,
    /// Messages that were delayed, by their places in the scene's arrows.
    late: Vec<usize>,
    /// Lives that continue, by lane.
    living: Vec<Option<usize>>,
    /// Tasks that should have ended.
    old: Vec<UnawareTask>,
    /// The life of a coordinator that was replaced and lives on.
    replaced: Option<usize>,
    /// Holds that continue: subtask, input, place.
    holding: Vec<(usize, usize, usize)>,
    /// The facts last noted of each lane.
    noted: Vec<Vec<[String; 2]>>,
}

/// A task of an ended attempt that has not noticed the end.
struct UnawareTask {
    subtask: usize,
    attempt: Attempt,
    /// Its place in the scene's lives.
    life: usize,
    /// The items left in its inputs, with their places in the scene's arrows.
    inputs: Vec<Vec<(Item, usize)>>,
}

impl<'a> SceneBuilder<'a> {
    pub(super) fn new(setup: &'a Setup) -> Self {
        let tasks = setup.topology.subtasks().len();
        let mut lanes = vec![Lane { name: "coordinator".into(), kind: LaneKind::Coordinator }];
        // The topology's limit fits a u16.
        let name = |subtask: usize| setup.topology.name(SubtaskId::new(subtask as u16));
        let of_task = |subtask| Lane { name: name(subtask), kind: LaneKind::Task };
        lanes.extend((0..tasks).map(of_task));
        lanes.push(Lane { name: "storage".into(), kind: LaneKind::Storage });
        lanes.extend(setup.topology.sinks().iter().map(|sink| Lane {
            name: format!("external of {}", name(sink)),
            kind: LaneKind::External,
        }));
        let count = lanes.len();
        let scene = Scene {
            title: String::new(),
            wrong_rule: None,
            broken: None,
            lanes,
            steps: Vec::new(),
            arrows: Vec::new(),
            lives: Vec::new(),
            holds: Vec::new(),
            checkpoints: Vec::new(),
            facts: Vec::new(),
            ending: String::new(),
        };
        Self {
            setup,
            scene,
            step: 0,
            channels: vec![Vec::new(); setup.topology.channels().len()],
            letters: Vec::new(),
            writes: vec![Vec::new(); tasks],
            store: Vec::new(),
            calls: vec![None; tasks],
            late: Vec::new(),
            living: vec![None; count],
            old: Vec::new(),
            replaced: None,
            holding: Vec::new(),
            noted: vec![Vec::new(); count],
        }
    }

    fn task_lane(subtask: usize) -> usize {
        1 + subtask
    }

    fn storage(&self) -> usize {
        1 + self.setup.topology.subtasks().len()
    }

    fn external(&self, subtask: usize) -> usize {
        let sinks = self.setup.topology.sinks();
        self.storage() + 1 + sinks.iter().take_while(|&sink| sink != subtask).count()
    }

    /// Notes the first state.
    pub(super) fn begin(&mut self, world: &World) {
        self.coordinators(world);
        self.sent_and_stored(world, None);
        self.facts(world);
    }

    pub(super) fn step(
        &mut self,
        before: &World,
        after: &World,
        action: Action,
        line: &StoryLine,
        breaks: Vec<usize>,
    ) {
        self.step += 1;
        let lane = self.lane_of(before, &line.actor, action);
        let known = self.scene.arrows.len();
        let checkpoints = self.scene.checkpoints.clone();
        self.tasks(before, after, action);
        self.channels(after, action);
        self.unnoticed(before, after, action);
        self.snapshots(before, after, action);
        self.sent_and_stored(after, Some((before, action)));
        self.transactions(before, after, action);
        self.coordinators(after);
        self.checkpoints(before, after);
        self.holds(after);
        self.facts(after);
        let mut touched: Vec<u64> = Vec::new();
        let step = self.step;
        for arrow in &self.scene.arrows {
            let here = arrow.until == step && arrow.fate != ArrowFate::UnderWay;
            if arrow.sent == step || here {
                touched.extend(arrow.checkpoint);
            }
        }
        let changed = self.scene.checkpoints.iter().filter(|now| !checkpoints.contains(now));
        touched.extend(changed.map(|checkpoint| checkpoint.id));
        touched.sort_unstable();
        touched.dedup();
        let sent = &self.scene.arrows[known..];
        let clause = clause(action, sent);
        self.scene.steps.push(SceneStep {
            lane,
            actor: line.actor.clone(),
            kind: KINDS[action.kind()],
            text: line.text.clone(),
            fault: line.fault,
            clause,
            checkpoints: touched,
            breaks,
        });
    }

    pub(super) fn end(mut self, ending: String) -> Scene {
        for arrow in &mut self.scene.arrows {
            if arrow.fate == ArrowFate::UnderWay {
                arrow.until = self.step;
            }
        }
        self.scene.checkpoints.sort_by_key(|checkpoint| (checkpoint.id, checkpoint.from));
        self.scene.ending = ending;
        self.scene
    }

    /// The lane of the acting party; acts of the network are shown in the lane of the message's
    /// receiver.
    fn lane_of(&self, before: &World, actor: &str, action: Action) -> usize {
        let named = self.scene.lanes.iter().position(|lane| lane.name == actor);
        let external = |task: u8| self.external(usize::from(task));
        let old = |zombie: u8| before.zombies[usize::from(zombie)].subtask;
        match action {
            Action::Commit { task }
            | Action::CommitUnknown { task, .. }
            | Action::CommitRefused { task } => external(task),
            Action::Drop { sink, .. } => self.storage() + 1 + usize::from(sink),
            Action::LoseManifest => self.storage(),
            Action::ZombieCommit { zombie } => self.external(old(zombie)),
            Action::ZombieConsume { zombie, .. } => Self::task_lane(old(zombie)),
            Action::Lose { message }
            | Action::Duplicate { message }
            | Action::Delay { message } => match letters(before).get(usize::from(message)) {
                Some(ControlMessage::Order(subtask, _)) => Self::task_lane(subtask.index()),
                _ => COORDINATOR,
            },
            _ => named.unwrap_or(COORDINATOR),
        }
    }

    fn send(
        &mut self,
        (from, to): (usize, usize),
        kind: ArrowKind,
        label: String,
        checkpoint: Option<CheckpointId>,
    ) -> usize {
        let (sent, checkpoint) = (self.step, checkpoint.map(|checkpoint| checkpoint.get()));
        let fate = ArrowFate::UnderWay;
        self.scene.arrows.push(Arrow {
            from,
            to,
            sent,
            until: sent,
            fate,
            kind,
            label,
            checkpoint,
        });
        self.scene.arrows.len() - 1
    }

    fn settle(&mut self, arrow: usize, fate: ArrowFate) {
        self.scene.arrows[arrow].fate = fate;
        self.scene.arrows[arrow].until = self.step;
    }

    /// Attempts that begin, end, and crash.
    fn tasks(&mut self, before: &World, after: &World, _action: Action) {
        let deployed = before.host != after.host;
        for (subtask, task) in after.tasks.iter().enumerate() {
            let lane = Self::task_lane(subtask);
            if deployed {
                self.died(lane, false);
                self.born(lane, format!("attempt {}", task.aligner.attempt()));
            } else if !task.alive && before.tasks.get(subtask).is_some_and(|task| task.alive) {
                self.died(lane, true);
            }
        }
        if after.tasks.is_empty() {
            for subtask in 0..before.tasks.len() {
                self.died(Self::task_lane(subtask), false);
            }
        }
    }

    fn born(&mut self, lane: usize, label: String) {
        self.living[lane] = Some(self.scene.lives.len());
        self.lives(lane, label, false);
    }

    fn lives(&mut self, lane: usize, label: String, old: bool) {
        let (from, until, crashed) = (self.step, None, false);
        self.scene.lives.push(LaneSpan { lane, label, from, until, crashed, old });
    }

    /// Tasks that should have ended: new ones, the items they read, those that are gone.
    fn unnoticed(&mut self, before: &World, after: &World, action: Action) {
        if let Action::ZombieConsume { zombie, input } = action {
            let who = &before.zombies[usize::from(zombie)];
            let attempt = who.task.aligner.attempt();
            let old = self
                .old
                .iter_mut()
                .find(|old| (old.subtask, old.attempt) == (who.subtask, attempt));
            let read = old.map(|old| &mut old.inputs[usize::from(input)]);
            if let Some(items) = read.filter(|items| !items.is_empty()) {
                let (_, arrow) = items.remove(0);
                self.settle(arrow, ArrowFate::Arrived);
            }
        }
        let there = |subtask: usize, attempt: Attempt| {
            let mut all = after.zombies.iter();
            all.any(|other| (other.subtask, other.task.aligner.attempt()) == (subtask, attempt))
        };
        let (stay, gone): (Vec<UnawareTask>, Vec<UnawareTask>) =
            self.old.drain(..).partition(|old| there(old.subtask, old.attempt));
        self.old = stay;
        for old in gone {
            self.scene.lives[old.life].until = Some(self.step);
            for (_, arrow) in old.inputs.into_iter().flatten() {
                self.settle(arrow, ArrowFate::Lost);
            }
        }
        for zombie in &after.zombies {
            let (subtask, attempt) = (zombie.subtask, zombie.task.aligner.attempt());
            if self.old.iter().any(|old| (old.subtask, old.attempt) == (subtask, attempt)) {
                continue;
            }
            let lane = Self::task_lane(subtask);
            let mut inputs = Vec::new();
            for (place, items) in zombie.inputs.iter().enumerate() {
                let channel = self.setup.topology.subtasks()[subtask].inputs[place];
                let from = Self::task_lane(self.setup.topology.channels()[channel].from.index());
                // They were under way to the task before: the same arrows continue.
                let mut going = Vec::new();
                for item in items {
                    let (kind, label, checkpoint) = self.in_band(item);
                    let known = self.scene.arrows.iter().position(|arrow| {
                        let ends = (arrow.from, arrow.to, arrow.until, arrow.fate);
                        ends == (from, lane, self.step, ArrowFate::Lost) && arrow.label == label
                    });
                    let arrow = match known {
                        Some(place) => {
                            self.scene.arrows[place].fate = ArrowFate::UnderWay;
                            place
                        }
                        None => self.send((from, lane), kind, label, checkpoint),
                    };
                    going.push((*item, arrow));
                }
                inputs.push(going);
            }
            let life = self.scene.lives.len();
            self.lives(lane, format!("attempt {attempt}, unaware that it ended"), true);
            self.old.push(UnawareTask { subtask, attempt, life, inputs });
        }
    }

    /// An item of a channel: its kind, its label, and its checkpoint.
    fn in_band(&self, item: &Item) -> (ArrowKind, String, Option<CheckpointId>) {
        match item {
            Item::Record(record) => {
                (ArrowKind::Record, format!("record {}", self.setup.record_name(*record)), None)
            }
            Item::Barrier(barrier) => {
                let checkpoint = barrier.checkpoint;
                (ArrowKind::Barrier, format!("barrier {checkpoint}"), Some(checkpoint))
            }
            Item::End => (ArrowKind::End, "end of input".into(), None),
        }
    }

    fn died(&mut self, lane: usize, crashed: bool) {
        if let Some(life) = self.living[lane].take() {
            self.scene.lives[life].until = Some(self.step);
            self.scene.lives[life].crashed = crashed;
        }
    }

    fn coordinators(&mut self, after: &World) {
        let now = after.coordinator().map(|machine| format!("term {}", machine.term()));
        let was = self.living[COORDINATOR].map(|life| self.scene.lives[life].label.clone());
        if now != was {
            // A replaced coordinator has not crashed; one without a successor has.
            self.died(COORDINATOR, now.is_none());
            if let Some(label) = now {
                self.born(COORDINATOR, label);
            }
        }
        let replaced =
            after.coordinators.iter().find(|coordinator| coordinator.number != after.terms);
        match (replaced, self.replaced) {
            (Some(coordinator), None) => {
                self.replaced = Some(self.scene.lives.len());
                let label = format!("the old one of term {}, unaware", coordinator.machine.term());
                self.lives(COORDINATOR, label, true);
            }
            (None, Some(life)) => {
                self.replaced = None;
                self.scene.lives[life].until = Some(self.step);
            }
            _ => {}
        }
    }

    /// Checkpoints that begin, complete, are aborted, and are deleted.
    fn checkpoints(&mut self, before: &World, after: &World) {
        let under_way = |world: &World| -> Vec<(Term, Attempt, CheckpointId)> {
            let of = |coordinator: &crate::world::CoordinatorState| {
                let (term, attempt) = (coordinator.machine.term(), coordinator.machine.attempt());
                let each = coordinator.machine.under_way().map(move |(id, _)| (term, attempt, id));
                each.collect::<Vec<_>>()
            };
            world.coordinators.iter().flat_map(of).collect()
        };
        let (was, is) = (under_way(before), under_way(after));
        for (_, _, id) in is.iter().filter(|it| !was.contains(it)) {
            let (from, id) = (self.step, id.get());
            let (until, complete, deleted) = (None, false, None);
            self.scene.checkpoints.push(Checkpoint { id, from, until, complete, deleted });
        }
        let there = |world: &World, id: u64| {
            world.store.manifests.iter().any(|manifest| manifest.checkpoint.get() == id)
        };
        let step = self.step;
        for checkpoint in &mut self.scene.checkpoints {
            let id = checkpoint.id;
            if there(after, id) && !there(before, id) {
                checkpoint.complete = true;
                checkpoint.until = Some(step);
            }
            if there(before, id) && !there(after, id) {
                checkpoint.deleted = Some(step);
            }
            let waits = is.iter().any(|(_, _, other)| other.get() == id);
            let is_manifest = |write: &StoreOp| match write {
                StoreOp::Manifest { checkpoint, .. } => checkpoint.get() == id,
                _ => false,
            };
            let mut pending = after.coordinators.iter().flat_map(|coordinator| &coordinator.writes);
            let writes = pending.any(is_manifest);
            if checkpoint.until.is_none() && !waits && !writes && !there(after, id) {
                checkpoint.until = Some(step);
            }
        }
    }

    fn holds(&mut self, after: &World) {
        for subtask in 0..self.setup.topology.subtasks().len() {
            let config = &self.setup.aligners[subtask];
            for input in 0..config.inputs {
                let task = after.tasks.get(subtask).filter(|task| task.alive);
                let held = task.is_some_and(|task| task.aligner.held(config, input));
                let known = |&(of, at, _): &(usize, usize, usize)| (of, at) == (subtask, input);
                match (held, self.holding.iter().position(known)) {
                    (true, None) => {
                        let channel = self.setup.topology.subtasks()[subtask].inputs[input];
                        let feeder = self.setup.topology.channels()[channel].from.index();
                        let feeder = Self::task_lane(feeder);
                        let lane = Self::task_lane(subtask);
                        self.holding.push((subtask, input, self.scene.holds.len()));
                        self.scene.holds.push(Hold { lane, feeder, from: self.step, until: None });
                    }
                    (false, Some(place)) => {
                        let (_, _, hold) = self.holding.remove(place);
                        self.scene.holds[hold].until = Some(self.step);
                    }
                    _ => {}
                }
            }
        }
    }

    fn facts(&mut self, world: &World) {
        let (setup, tasks) = (self.setup, self.setup.topology.subtasks().len());
        self.note(COORDINATOR, facts::coordinator(setup, world));
        for subtask in 0..tasks {
            self.note(Self::task_lane(subtask), facts::task(setup, world, subtask));
        }
        self.note(self.storage(), facts::storage(setup, world));
        for (place, external) in world.external.iter().enumerate() {
            self.note(self.storage() + 1 + place, facts::external(setup, external));
        }
    }

    fn note(&mut self, lane: usize, rows: Vec<[String; 2]>) {
        if self.noted[lane] != rows {
            self.noted[lane].clone_from(&rows);
            self.scene.facts.push(Fact { step: self.step, lane, rows });
        }
    }
}

/// The messages that an index refers to: those just sent, if there are any.
fn letters(world: &World) -> &[ControlMessage] {
    if world.sent.is_empty() { &world.network } else { &world.sent }
}

/// The clause of SPEC.md that a step concerns.
fn clause(action: Action, sent: &[Arrow]) -> &'static str {
    let barrier = || sent.iter().any(|arrow| arrow.kind == ArrowKind::Barrier);
    match action {
        Action::Deliver { .. } | Action::Delay { .. } => "3.2",
        Action::Lose { .. } | Action::Duplicate { .. } => "2.3",
        Action::Emit { .. } => "2.12",
        Action::Exhaust { .. } => "5.7",
        Action::Consume { .. } | Action::ZombieConsume { .. } if barrier() => "5.4",
        Action::Consume { .. } | Action::ZombieConsume { .. } => "5.2",
        Action::Write { .. } | Action::ZombieWrite { .. } => "3.5",
        Action::WriteFailed { .. } => "2.4",
        Action::Commit { .. } | Action::ZombieCommit { .. } => "6.6",
        Action::CommitUnknown { .. } | Action::CommitRefused { .. } => "2.9",
        Action::Drop { .. } => "2.10",
        Action::LoseManifest => "7.6",
        Action::Store { .. } | Action::ZombieStore { .. } => "4.5",
        Action::StoreUnknown { .. } | Action::StoreRefused { .. } => "2.5",
        Action::Sweep | Action::ZombieSweep => "8.5",
        Action::Read | Action::ZombieRead => "7.2",
        Action::Fire { .. } | Action::FireEarly { .. } | Action::ZombieFire { .. } => "4.3",
        Action::Detect => "4.10",
        Action::Elect | Action::ElectBeside => "4.1",
        Action::Stop => "4.8",
        Action::Conclude | Action::ZombieConclude => "8.6",
        Action::Crash { .. } | Action::CrashCoordinator { .. } => "2.1",
        Action::Strand { .. } => "2.11",
    }
}
