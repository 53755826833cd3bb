//! A path of the World as a picture can show it: lanes, messages with their fates, attempts, held channels, checkpoints, and the state of
//! everybody at every step. What draws it needs to know nothing of the World.
//!
//! As in [`crate::story`] nothing in the World is hooked: a scene is what differs between the World before a step and after it.

mod builder;
mod facts;

use serde::Serialize;

use crate::explore::MarkSet;
use crate::laws::{Law, broken};
use crate::scenario::Setup;
use crate::story::story;
use crate::trace::Trace;
use crate::world::World;
use builder::SceneBuilder;

/// A path, drawn. Steps count from 1; step 0 is the state before the first.
#[derive(Clone, PartialEq, Eq, Serialize, Debug)]
pub struct Scene {
    /// The scenario's name.
    pub title: String,
    /// The wrong rule that is switched on: its name, and the rule in a sentence.
    pub wrong_rule: Option<[String; 2]>,
    /// The law that is broken, and where.
    pub broken: Option<SceneBreach>,
    /// Who there is, in the order in which they are drawn.
    pub lanes: Vec<Lane>,
    /// What happened.
    pub steps: Vec<SceneStep>,
    /// What went from one to another.
    pub arrows: Vec<Arrow>,
    /// Attempts and terms.
    pub lives: Vec<LaneSpan>,
    /// Channels that were not read.
    pub holds: Vec<Hold>,
    /// What became of each checkpoint, ascending.
    pub checkpoints: Vec<Checkpoint>,
    /// What there is to know of each lane, noted where it changes.
    pub facts: Vec<Fact>,
    /// How it ends, in words.
    pub ending: String,
}

/// A law that a state breaks.
#[derive(Clone, PartialEq, Eq, Serialize, Debug)]
pub struct SceneBreach {
    /// Its number in SPEC 9; none for a rule of SPEC 11.9, which a recorded run breaks.
    pub law: Option<usize>,
    /// Its name.
    pub name: String,
    /// What is wrong, in a sentence.
    pub says: String,
    /// The first step behind which it is broken.
    pub step: usize,
}

impl SceneBreach {
    /// The law, or the rule, by number and name.
    #[must_use]
    pub fn title(&self) -> String {
        match self.law {
            Some(number) => format!("L{number} {}", self.name),
            None => format!("the rule `{}`", self.name),
        }
    }

    /// The clause of SPEC.md that has it.
    #[must_use]
    pub fn clause(&self) -> String {
        self.law.map_or_else(|| "11.9".to_owned(), |number| format!("9.{number}"))
    }
}

/// Somebody to whom things happen.
#[derive(Clone, PartialEq, Eq, Serialize, Debug)]
pub struct Lane {
    /// Its name: a subtask's in the topology, `coordinator`, `storage`, `external of SINK`.
    pub name: String,
    /// What it is.
    pub kind: LaneKind,
}

/// What a lane is.
#[derive(Clone, Copy, PartialEq, Eq, Serialize, Debug)]
#[serde(rename_all = "kebab-case")]
pub enum LaneKind {
    /// The coordinator, of whichever term.
    Coordinator,
    /// A subtask, of whichever attempt.
    Task,
    /// Where checkpoints are.
    Storage,
    /// Where a sink's output is.
    External,
}

/// One step.
#[derive(Clone, PartialEq, Eq, Serialize, Debug)]
pub struct SceneStep {
    /// In which lane.
    pub lane: usize,
    /// Who acts, in words: not always who has the lane, as `network` has none and an old task shares one with the new.
    pub actor: String,
    /// What kind of action.
    pub kind: &'static str,
    /// What happened; behind a semicolon, what followed.
    pub text: String,
    /// Whether it is a fault, or the act of somebody who should have ended.
    pub fault: bool,
    /// The clause of SPEC.md that it is about.
    pub clause: &'static str,
    /// The checkpoints it touches: those whose messages are sent or arrive, that begin or end.
    pub checkpoints: Vec<u64>,
    /// The laws that the state behind it breaks, by number.
    pub breaks: Vec<usize>,
}

/// What became of something that was sent.
#[derive(Clone, Copy, PartialEq, Eq, Serialize, Debug)]
#[serde(rename_all = "kebab-case")]
pub enum ArrowFate {
    /// It arrived.
    Arrived,
    /// It arrived after it was kept back: others that were sent later came first.
    Late,
    /// It arrived, and was taken no notice of.
    Ignored,
    /// It arrived, and will once more.
    Twice,
    /// It never will.
    Lost,
    /// It came back with an error, or with nobody knowing.
    Failed,
    /// It is still under way.
    UnderWay,
}

/// A message, a record or barrier in a channel, a write, a call.
#[derive(Clone, PartialEq, Eq, Serialize, Debug)]
pub struct Arrow {
    /// From which lane.
    pub from: usize,
    /// To which.
    pub to: usize,
    /// The step at which it was sent.
    pub sent: usize,
    /// The step at which its fate was decided; the last one if it is under way.
    pub until: usize,
    /// Its fate.
    pub fate: ArrowFate,
    /// What it is.
    pub kind: ArrowKind,
    /// In words.
    pub label: String,
    /// The checkpoint it is about.
    pub checkpoint: Option<u64>,
}

/// What an arrow is.
#[derive(Clone, Copy, PartialEq, Eq, Serialize, Debug)]
#[serde(rename_all = "kebab-case")]
pub enum ArrowKind {
    /// A record.
    Record,
    /// A barrier.
    Barrier,
    /// The end of the input.
    End,
    /// A control message.
    Control,
    /// A write to storage.
    Write,
    /// Something asked of an external system.
    Commit,
}

/// An attempt of a task, or a term of the coordinator.
#[derive(Clone, PartialEq, Eq, Serialize, Debug)]
pub struct LaneSpan {
    /// Whose.
    pub lane: usize,
    /// Which, in words.
    pub label: String,
    /// The step at which it began.
    pub from: usize,
    /// The step at which it ended.
    pub until: Option<usize>,
    /// Whether it ended in a crash.
    pub crashed: bool,
    /// Whether it should be over: another has begun in its place, and it has not noticed.
    pub old: bool,
}

/// A channel that was not read: its barrier had come, and others had not (SPEC 5.2).
#[derive(Clone, PartialEq, Eq, Serialize, Debug)]
pub struct Hold {
    /// Who held it.
    pub lane: usize,
    /// Who feeds it.
    pub feeder: usize,
    /// From which step.
    pub from: usize,
    /// Up to which.
    pub until: Option<usize>,
}

/// What became of a checkpoint.
#[derive(Clone, PartialEq, Eq, Serialize, Debug)]
pub struct Checkpoint {
    /// Its id.
    pub id: u64,
    /// The step at which it began.
    pub from: usize,
    /// The step at which it was completed or given up.
    pub until: Option<usize>,
    /// Whether it was completed.
    pub complete: bool,
    /// The step at which it was deleted.
    pub deleted: Option<usize>,
}

/// What there is to know of a lane from a step on, until there is another.
#[derive(Clone, PartialEq, Eq, Serialize, Debug)]
pub struct Fact {
    /// From which step on.
    pub step: usize,
    /// Of which lane.
    pub lane: usize,
    /// What, and how it stands; in an order that does not change.
    pub rows: Vec<[String; 2]>,
}

/// Draws a trace. Steps that are not possible where they stand end the picture; [`Trace::replay`] says which.
#[must_use]
pub fn scene(setup: &Setup, trace: &Trace) -> Scene {
    let lines = story(setup, &trace.steps);
    let mut builder = SceneBuilder::new(setup);
    let mut marks = MarkSet::new();
    let mut before = World::new(setup);
    builder.begin(&before);
    let mut first_broken = None;
    for (action, line) in trace.steps.iter().zip(&lines) {
        let after = before.apply(setup, action, &mut marks);
        let breaks = laws(setup, &after);
        if let Some(law) = trace.law
            && first_broken.is_none()
            && breaks.contains(&law.number())
        {
            first_broken = Some((law, line.step));
        }
        builder.step(&before, &after, *action, line, breaks);
        before = after;
    }
    // That a job can never finish is shown by no state; the trace ends where it is so.
    let stuck = trace.law.filter(|law| *law == Law::Progress).map(|law| (law, lines.len()));
    let shown = first_broken.or(stuck);
    let broken = shown.map(|(law, step)| SceneBreach {
        law: Some(law.number()),
        name: law.name().into(),
        says: law.broken().into(),
        step,
    });
    let ending = crate::story::ending(setup, &before, shown.map(|(law, _)| law));
    let mut scene = builder.end(ending);
    scene.title.clone_from(&trace.scenario.name);
    scene.wrong_rule = trace.mutant.map(|rule| [rule.name().to_owned(), rule.sentence().into()]);
    scene.broken = broken;
    scene
}

fn laws(setup: &Setup, world: &World) -> Vec<usize> {
    let checked = Law::ALL.iter().filter(|law| **law != Law::Progress);
    let bits = broken(setup, world, checked.fold(0, |all, law| all | law.bit()));
    Law::ALL.iter().filter(|law| bits & law.bit() != 0).map(|law| law.number()).collect()
}
