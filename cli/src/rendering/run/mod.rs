//! Recorded runs as a scene: each line a step. How machines stand is taken from the replay on fresh
//! ones (SPEC 11.8), up to the first line that deviates from the protocol; lines after it are
//! shown all the same.

mod about;
mod arrows;
mod words;

use std::collections::HashMap;

use snapline::trace::format::{Line, What};
use snapline::trace::{Difference, RunTrace, Stand, replay_telling};
use snapline_models::scene::{
    Arrow, ArrowFate, ArrowKind, Checkpoint, Fact, Hold, Lane, LaneKind, LaneSpan, Scene,
    SceneBreach, SceneStep,
};
use snapline_protocol::committer::CommitOutcome;
use snapline_protocol::coordinator::{StoreOp, StoreResult};
use snapline_protocol::ids::{SubtaskId, Term};
use snapline_protocol::topology::Topology;

use crate::table::counted;
use about::{clause, kind, of_line};
use words::{Words, is_complete, transaction, variant};

const COORDINATOR: usize = 0;

/// Draws the runs of one job.
///
/// # Errors
/// If there is no run in them, or they are not of one job with one topology; in words.
pub(crate) fn scene_of_runs(traces: &[RunTrace]) -> Result<Scene, String> {
    let mut runs: Vec<_> = traces.iter().filter_map(|it| Some((it, it.header()?))).collect();
    let Some((_, first)) = runs.first().copied() else {
        return Err("there is nothing to draw: the first line of every file is torn".into());
    };
    if let Some((other, header)) = runs.iter().find(|(_, header)| header.job != first.job) {
        return Err(format!(
            "these are runs of several jobs, `{}` and, in {}, `{}`; draw one at a time",
            first.job,
            other.name(),
            header.job
        ));
    }
    if let Some((other, _)) = runs.iter().find(|(_, header)| header.plan != first.plan) {
        return Err(format!(
            "the run in {} has other operators than the first; draw it by itself",
            other.name()
        ));
    }
    runs.sort_by_key(|(trace, header)| (header.term, trace.name()));
    let topology = first.plan.clone().build().map_err(|error| error.to_string())?;

    let mut stands: HashMap<(String, usize), Vec<[String; 2]>> = HashMap::new();
    let mut note = |stand: Stand<'_>| {
        let rows = stand.rows.iter().map(|(name, value)| [(*name).to_owned(), value.clone()]);
        stands.insert((stand.file.to_owned(), stand.line), rows.collect());
    };
    let replayed = replay_telling(traces, Some(&mut note));
    let difference = replayed.as_ref().err();

    let mut watch = RunWatcher::new(&topology, &first.two_phase);
    let mut broken = None;
    for (trace, header) in &runs {
        watch.run_begins(header.term);
        for (place, line) in trace.lines().enumerate() {
            let stand = stands.remove(&(trace.name().to_owned(), place + 2));
            watch.line(&line, stand);
            if difference.is_some_and(|it| it.file == trace.name() && it.line == place + 2) {
                broken = Some(watch.step);
            }
        }
    }
    let ending = match &replayed {
        Ok(replayed) => format!("{replayed}\n"),
        Err(difference) => format!("{difference}\n"),
    };
    let mut scene = watch.end(ending);
    scene.title = format!("{}: {} recorded", first.job, counted(runs.len() as u64, "run"));
    scene.broken = difference.zip(broken).map(|(difference, step)| said(difference, step));
    if let Some(broken) = &scene.broken {
        scene.steps[broken.step - 1].fault = true;
    }
    Ok(scene)
}

fn said(difference: &Difference, step: usize) -> SceneBreach {
    let Difference { rule, expected, found, .. } = difference;
    SceneBreach {
        law: None,
        name: rule.name().into(),
        says: format!("the protocol: {expected}; the trace: {found}"),
        step,
    }
}

struct RunWatcher<'a> {
    words: Words<'a>,
    scene: Scene,
    step: usize,
    /// The lane of each sink's external system, by subtask.
    externals: Vec<Option<usize>>,
    /// What is in each channel: a word for it, and its place in the scene's arrows.
    channels: Vec<Vec<(String, usize)>>,
    /// Control messages: to whom, as spelled, the arrow.
    letters: Vec<(Option<usize>, String, usize)>,
    /// Messages that were heard already.
    heard: Vec<(Option<usize>, String, usize)>,
    /// Writes of coordinators.
    store: Vec<(String, usize)>,
    /// Snapshots, transactions and commit calls under way: subtask, checkpoint, kind.
    handed: Vec<(usize, u64, &'static str, usize)>,
    living: Vec<Option<usize>>,
    holding: Vec<(usize, usize, usize)>,
    noted: Vec<Vec<[String; 2]>>,
}

impl<'a> RunWatcher<'a> {
    fn new(topology: &'a Topology, two_phase: &[String]) -> Self {
        let lane = |name: String, kind| Lane { name, kind };
        let mut lanes = vec![lane("coordinator".into(), LaneKind::Coordinator)];
        // The topology's limit fits a u16.
        let id = |subtask: usize| SubtaskId::new(subtask as u16);
        let tasks = topology.subtasks().len();
        lanes.extend((0..tasks).map(|it| lane(topology.name(id(it)), LaneKind::Task)));
        lanes.push(lane("storage".into(), LaneKind::Storage));
        let mut externals = vec![None; tasks];
        for subtask in topology.sinks().iter() {
            let operator = topology.subtasks()[subtask].operator;
            if two_phase.contains(&topology.operators()[operator].name) {
                externals[subtask] = Some(lanes.len());
                lanes.push(lane(
                    format!("external of {}", topology.name(id(subtask))),
                    LaneKind::External,
                ));
            }
        }
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
            words: Words { topology },
            scene,
            step: 0,
            externals,
            channels: vec![Vec::new(); topology.channels().len()],
            letters: Vec::new(),
            heard: Vec::new(),
            store: Vec::new(),
            handed: Vec::new(),
            living: vec![None; count],
            holding: Vec::new(),
            noted: vec![Vec::new(); count],
        }
    }

    fn tasks(&self) -> usize {
        self.words.topology.subtasks().len()
    }

    fn storage(&self) -> usize {
        1 + self.tasks()
    }

    /// A run begins; whatever the one before it left under way is gone with its process.
    fn run_begins(&mut self, term: Term) {
        if self.step > 0 {
            self.lose_tasks(true);
            for (_, _, arrow) in std::mem::take(&mut self.letters) {
                self.settle(arrow, ArrowFate::Lost);
            }
            for (_, arrow) in std::mem::take(&mut self.store) {
                self.settle(arrow, ArrowFate::Lost);
            }
            self.died(COORDINATOR, true);
            let step = self.step;
            for checkpoint in self.scene.checkpoints.iter_mut().filter(|it| it.until.is_none()) {
                checkpoint.until = Some(step);
            }
        }
        self.heard.clear();
        // Its first line is the next step.
        self.born(COORDINATOR, format!("term {term}"), self.step + 1);
    }

    /// The tasks end, with all that is in their channels.
    fn lose_tasks(&mut self, crashed: bool) {
        for lane in 1..=self.tasks() {
            self.died(lane, crashed);
        }
        for place in 0..self.channels.len() {
            for (_, arrow) in std::mem::take(&mut self.channels[place]) {
                self.settle(arrow, ArrowFate::Lost);
            }
        }
        for (_, _, _, arrow) in std::mem::take(&mut self.handed) {
            self.settle(arrow, ArrowFate::Lost);
        }
        for (_, _, hold) in std::mem::take(&mut self.holding) {
            self.scene.holds[hold].until = Some(self.step);
        }
    }

    fn line(&mut self, line: &Line, stand: Option<Vec<[String; 2]>>) {
        self.step += 1;
        let (step, known) = (self.step, self.scene.arrows.len());
        let before: Vec<Option<usize>> = self.scene.checkpoints.iter().map(|it| it.until).collect();
        let attempt = line.attempt.map_or(String::new(), |attempt| attempt.to_string());
        let subtask = line.task.filter(|subtask| subtask.index() < self.tasks());
        let place = subtask.map(SubtaskId::index);
        let own = place.map_or(COORDINATOR, |subtask| 1 + subtask);
        let external = place.and_then(|subtask| self.externals[subtask]).unwrap_or(own);
        let text = self.words.tell(&line.what, subtask, &attempt);
        let lane = match line.what {
            What::Blob { .. } | What::Store { .. } | What::Facts { .. } | What::Collect { .. } => {
                self.storage()
            }
            What::Prepared { .. } | What::CommitReturned { .. } => external,
            _ => own,
        };
        let fault = self.follow(line, place, own, external);
        let mut checkpoints: Vec<u64> =
            self.scene.arrows[known..].iter().filter_map(|arrow| arrow.checkpoint).collect();
        // Arrows that end here are among the last ones, or long under way: those are few.
        let ended = self.scene.arrows[known.saturating_sub(400)..known].iter();
        checkpoints.extend(
            ended
                .filter(|arrow| arrow.until == step && arrow.fate != ArrowFate::UnderWay)
                .filter_map(|arrow| arrow.checkpoint),
        );
        checkpoints.extend(of_line(&line.what));
        let now = self.scene.checkpoints.iter().enumerate();
        checkpoints
            .extend(now.filter(|(at, it)| before.get(*at) != Some(&it.until)).map(|(_, it)| it.id));
        checkpoints.sort_unstable();
        checkpoints.dedup();
        if let Some(rows) = stand {
            self.note(own, place, rows);
        }
        self.scene.steps.push(SceneStep {
            lane,
            actor: self.scene.lanes[lane].name.clone(),
            kind: kind(&line.what),
            text,
            fault,
            clause: clause(&line.what),
            checkpoints,
            breaks: Vec::new(),
        });
    }

    /// What a line brings about in the picture; whether it tells of a fault.
    fn follow(&mut self, line: &Line, place: Option<usize>, own: usize, external: usize) -> bool {
        match &line.what {
            What::Started { effects } => self.effects(effects, place),
            What::Coordinator { event, verdict, effects } => {
                let failed = matches!(variant(event).0, "TaskFailed");
                if let ("Report", heard) = variant(event) {
                    self.hear(None, heard, verdict.is_applied());
                }
                self.effects(effects, place);
                return failed
                    || matches!(variant(event), ("Fired", timer) if variant(timer).0 == "Timeout");
            }
            What::Aligner { event, verdict, effects, .. } => {
                let (name, inner) = variant(event);
                match name {
                    "Barrier" | "EndOfInput" => self.take(place, event),
                    "Control" => {
                        self.hear(place, inner, verdict.is_applied() || is_complete(event))
                    }
                    _ => {}
                }
                self.effects(effects, place);
                return name == "WriteFailed";
            }
            What::Committer { event, verdict, effects, .. } => {
                if let ("Control", heard) = variant(event) {
                    self.hear(place, heard, verdict.is_applied());
                }
                self.effects(effects, place);
            }
            What::Host { verdict } if verdict.is_applied() => self.lose_tasks(false),
            What::Ended {} => self.lose_tasks(false),
            What::Host { .. } | What::Fenced {} | What::Found { .. } | What::Facts { .. } => {}
            What::Begun { effects, .. } => {
                let attempt = line.attempt.map_or("?".into(), |attempt| attempt.to_string());
                self.died(own, false);
                self.born(own, format!("attempt {attempt}"), self.step);
                self.effects(effects, place);
            }
            What::Sent { marker, .. } => self.put(place, *marker),
            What::Blob { id, durable, .. } => {
                let fate = if *durable { ArrowFate::Arrived } else { ArrowFate::Failed };
                self.handed_back(place, id.checkpoint.get(), "snapshot", fate);
                return !durable;
            }
            What::Prepared { txn } => {
                self.handed_back(place, txn.checkpoint.get(), "transaction", ArrowFate::Arrived)
            }
            What::CommitCall { txn } => {
                let id = txn.checkpoint.get();
                let label = format!("commit {}", transaction(txn));
                let arrow = self.send((own, external), ArrowKind::Commit, label, Some(id));
                if let Some(subtask) = place {
                    self.handed.push((subtask, id, "commit", arrow));
                }
            }
            What::CommitReturned { txn, outcome } => {
                let done =
                    matches!(outcome, CommitOutcome::Committed | CommitOutcome::AlreadyCommitted);
                let fate = if done { ArrowFate::Arrived } else { ArrowFate::Failed };
                self.handed_back(place, txn.checkpoint.get(), "commit", fate);
                return !done;
            }
            What::Store { op, result, .. } => {
                let applied = *result == StoreResult::Applied;
                let spelled = serde_json::to_value(op).unwrap_or_default().to_string();
                if let Some(at) = self.store.iter().position(|(other, _)| *other == spelled) {
                    let (_, arrow) = self.store.remove(at);
                    self.settle(
                        arrow,
                        if applied { ArrowFate::Arrived } else { ArrowFate::Failed },
                    );
                }
                if let StoreOp::Manifest { checkpoint, .. } = op {
                    let (id, step) = (checkpoint.get(), self.step);
                    if let Some(it) = self.newest(id) {
                        it.complete = applied;
                        it.until = Some(step);
                    }
                }
                return !applied;
            }
            What::Collect { plan, .. } => {
                let step = self.step;
                for id in &plan.manifests {
                    if let Some(it) = self.newest(id.get()) {
                        it.deleted = Some(step);
                    }
                }
            }
        }
        false
    }

    fn newest(&mut self, id: u64) -> Option<&mut Checkpoint> {
        self.scene.checkpoints.iter_mut().rev().find(|checkpoint| checkpoint.id == id)
    }

    fn send(
        &mut self,
        (from, to): (usize, usize),
        kind: ArrowKind,
        label: String,
        checkpoint: Option<u64>,
    ) -> usize {
        let (sent, fate) = (self.step, ArrowFate::UnderWay);
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

    fn born(&mut self, lane: usize, label: String, from: usize) {
        self.living[lane] = Some(self.scene.lives.len());
        self.scene.lives.push(LaneSpan {
            lane,
            label,
            from,
            until: None,
            crashed: false,
            old: false,
        });
    }

    fn died(&mut self, lane: usize, crashed: bool) {
        if let Some(life) = self.living[lane].take() {
            self.scene.lives[life].until = Some(self.step);
            self.scene.lives[life].crashed = crashed;
        }
    }

    /// How a lane stands; held inputs are shown by themselves too.
    fn note(&mut self, lane: usize, place: Option<usize>, rows: Vec<[String; 2]>) {
        if let Some(subtask) = place {
            let held =
                rows.iter().find(|[name, _]| name == "held inputs").map_or("", |[_, held]| held);
            let names: Vec<&str> = held.split(", ").collect();
            let topology = self.words.topology;
            for input in 0..topology.subtasks()[subtask].inputs.len() {
                let channel = topology.subtasks()[subtask].inputs[input];
                let from = topology.channels()[channel].from;
                let now = names.contains(&topology.name(from).as_str());
                let known =
                    self.holding.iter().position(|&(of, at, _)| (of, at) == (subtask, input));
                match (now, known) {
                    (true, None) => {
                        self.holding.push((subtask, input, self.scene.holds.len()));
                        let (feeder, from) = (1 + from.index(), self.step);
                        self.scene.holds.push(Hold { lane, feeder, from, until: None });
                    }
                    (false, Some(at)) => {
                        let (_, _, hold) = self.holding.remove(at);
                        self.scene.holds[hold].until = Some(self.step);
                    }
                    _ => {}
                }
            }
        }
        if self.noted[lane] != rows {
            self.noted[lane].clone_from(&rows);
            self.scene.facts.push(Fact { step: self.step, lane, rows });
        }
    }

    fn end(mut self, ending: String) -> Scene {
        for arrow in &mut self.scene.arrows {
            if arrow.fate == ArrowFate::UnderWay {
                arrow.until = self.step;
            }
        }
        self.scene.checkpoints.sort_by_key(|checkpoint| (checkpoint.id, checkpoint.from));
        self.scene.ending = ending;
        self.scene
    }
}

#[cfg(test)]
mod tests;
