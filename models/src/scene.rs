//! Scenes: a path of the World as a picture shows it. A scene has lanes, messages with their fates,
//! attempts, held channels, checkpoints, and the state of each party at every step. Its renderer
//! needs to know nothing of the World.
//!
//! As in [`crate::story`], the World has no hooks: a scene is the difference between the World
//! before a step and after it.

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
    /// The broken law, and the step that breaks it.
    pub broken: Option<SceneBreach>,
    /// The parties, in the order in which they are drawn.
    pub lanes: Vec<Lane>,
    /// The steps.
    pub steps: Vec<SceneStep>,
    /// The messages, records, writes and calls between lanes.
    pub arrows: Vec<Arrow>,
    /// Attempts and terms.
    pub lives: Vec<LaneSpan>,
    /// Channels that were held.
    pub holds: Vec<Hold>,
    /// The fate of each checkpoint, ascending.
    pub checkpoints: Vec<Checkpoint>,
    /// The facts about each lane, noted where they change.
    pub facts: Vec<Fact>,
    /// The end of the path, in words.
    pub ending: String,
}

/// A law that a state breaks.
#[derive(Clone, PartialEq, Eq, Serialize, Debug)]
pub struct SceneBreach {
    /// The law's number in SPEC 9; none for a rule of SPEC 11.9, which a recorded run breaks.
    pub law: Option<usize>,
    /// The law's name.
    pub name: String,
    /// The failure, in a sentence.
    pub says: String,
    /// The first step after which the law is broken.
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

    /// The clause of SPEC.md that defines it.
    #[must_use]
    pub fn clause(&self) -> String {
        self.law.map_or_else(|| "11.9".to_owned(), |number| format!("9.{number}"))
    }
}

/// A party with a lane of its own.
#[derive(Clone, PartialEq, Eq, Serialize, Debug)]
pub struct Lane {
    /// The lane's name: a subtask's in the topology, `coordinator`, `storage`, `external of SINK`.
    pub name: String,
    /// The lane's kind.
    pub kind: LaneKind,
}

/// The kind of a lane.
#[derive(Clone, Copy, PartialEq, Eq, Serialize, Debug)]
#[serde(rename_all = "kebab-case")]
pub enum LaneKind {
    /// The coordinator, of any term.
    Coordinator,
    /// A subtask, of any attempt.
    Task,
    /// The store of checkpoints.
    Storage,
    /// The external system of a sink.
    External,
}

/// One step.
#[derive(Clone, PartialEq, Eq, Serialize, Debug)]
pub struct SceneStep {
    /// The step's lane.
    pub lane: usize,
    /// The party that acts, in words. It is not always the owner of the lane: `network` has none,
    /// and an old task shares one with the new.
    pub actor: String,
    /// The kind of action.
    pub kind: &'static str,
    /// The action; after a semicolon, its consequences.
    pub text: String,
    /// True for a fault, and for an act of a party that should have ended.
    pub fault: bool,
    /// The clause of SPEC.md that the step concerns.
    pub clause: &'static str,
    /// The checkpoints that begin or end at the step, or whose messages are sent or arrive.
    pub checkpoints: Vec<u64>,
    /// The laws that the state after the step breaks, by number.
    pub breaks: Vec<usize>,
}

/// The fate of a message, record, write or call.
#[derive(Clone, Copy, PartialEq, Eq, Serialize, Debug)]
#[serde(rename_all = "kebab-case")]
pub enum ArrowFate {
    /// It arrived.
    Arrived,
    /// It arrived after a delay: others that were sent later came first.
    Late,
    /// It arrived and was ignored.
    Ignored,
    /// It arrived, and will arrive once more.
    Twice,
    /// It never arrives.
    Lost,
    /// It returned with an error, or its outcome is unknown.
    Failed,
    /// It is still under way.
    UnderWay,
}

/// A message, a record or barrier in a channel, a write, a call.
#[derive(Clone, PartialEq, Eq, Serialize, Debug)]
pub struct Arrow {
    /// The lane of the sender.
    pub from: usize,
    /// The lane of the receiver.
    pub to: usize,
    /// The step at which it was sent.
    pub sent: usize,
    /// The step at which its fate was decided; the last step if it is under way.
    pub until: usize,
    /// Its fate.
    pub fate: ArrowFate,
    /// The arrow's kind.
    pub kind: ArrowKind,
    /// The arrow in words.
    pub label: String,
    /// The checkpoint that it concerns.
    pub checkpoint: Option<u64>,
}

/// The kind of an arrow.
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
    /// A call to an external system.
    Commit,
}

/// An attempt of a task, or a term of the coordinator.
#[derive(Clone, PartialEq, Eq, Serialize, Debug)]
pub struct LaneSpan {
    /// The lane.
    pub lane: usize,
    /// The attempt or term, in words.
    pub label: String,
    /// The step at which it began.
    pub from: usize,
    /// The step at which it ended.
    pub until: Option<usize>,
    /// True if it ended in a crash.
    pub crashed: bool,
    /// True if it should be over: another has replaced it, and it has not noticed.
    pub old: bool,
}

/// A channel that was held: its barrier had arrived, and others had not (SPEC 5.2).
#[derive(Clone, PartialEq, Eq, Serialize, Debug)]
pub struct Hold {
    /// The lane of the subtask that held it.
    pub lane: usize,
    /// The lane of the subtask that feeds it.
    pub feeder: usize,
    /// The step at which the hold began.
    pub from: usize,
    /// The step at which the hold ended.
    pub until: Option<usize>,
}

/// The fate of a checkpoint.
#[derive(Clone, PartialEq, Eq, Serialize, Debug)]
pub struct Checkpoint {
    /// Its id.
    pub id: u64,
    /// The step at which it began.
    pub from: usize,
    /// The step at which it was completed or aborted.
    pub until: Option<usize>,
    /// True if it was completed.
    pub complete: bool,
    /// The step at which it was deleted.
    pub deleted: Option<usize>,
}

/// The facts about a lane from a step on, until the next facts.
#[derive(Clone, PartialEq, Eq, Serialize, Debug)]
pub struct Fact {
    /// The step.
    pub step: usize,
    /// The lane.
    pub lane: usize,
    /// Names and values, in a fixed order.
    pub rows: Vec<[String; 2]>,
}

/// Draws a trace. A step that is not possible in its state ends the picture; [`Trace::replay`]
/// names it.
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
    // No state shows that a job can never finish; the trace ends at the state from which it cannot.
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
