//! Stories: a path of the World in plain words, with each step's actor, action and consequences.
//!
//! The World has no hooks: the consequences are the difference between the World before a step and
//! after it.

mod act;
mod follow;

use std::fmt::Write;

use snapline_protocol::ids::{SubtaskId, TxnId};

use crate::explore::MarkSet;
use crate::laws::Law;
use crate::scenario::Setup;
use crate::tally::RecordTally;
use crate::world::{Action, World};

pub(crate) use act::{changes_nothing, message_name, op, phase, timer_name};

/// One step of a story.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct StoryLine {
    /// The step's number, from 1.
    pub step: usize,
    /// The party that acts, or that a fault strikes: a subtask by its name in the topology,
    /// `coordinator`, `storage`, `external`, `network`, `user`.
    pub actor: String,
    /// The action; after a semicolon, its consequences.
    pub text: String,
    /// True for a fault, and for an act of a party that should have ended.
    pub fault: bool,
}

impl StoryLine {
    /// Actor and text in one.
    #[must_use]
    pub fn sentence(&self) -> String {
        format!("{} {}", self.actor, self.text)
    }
}

/// Describes a path, one line a step. A step that is not possible in its state ends the story.
#[must_use]
pub fn story(setup: &Setup, path: &[Action]) -> Vec<StoryLine> {
    let (mut lines, mut enabled, mut marks) = (Vec::new(), Vec::new(), MarkSet::new());
    let mut before = World::new(setup);
    for action in path {
        enabled.clear();
        before.enabled(setup, &mut enabled);
        if !enabled.contains(action) {
            break;
        }
        let after = before.apply(setup, action, &mut marks);
        lines.push(line(setup, lines.len() + 1, *action, &before, &after));
        before = after;
    }
    lines
}

/// Describes one step, from the World before it and after it.
#[must_use]
pub fn line(
    setup: &Setup,
    step: usize,
    action: Action,
    before: &World,
    after: &World,
) -> StoryLine {
    let teller = Teller { setup, before, after };
    let (actor, mut text) = teller.act(action);
    for clause in teller.follow(action) {
        text.push_str("; ");
        text.push_str(&clause);
    }
    StoryLine { step, actor, text, fault: action.is_fault() }
}

/// Lays a story out in columns: number, `!` at faults, actor, text. Long texts continue below, in
/// their column.
#[must_use]
pub fn render(lines: &[StoryLine]) -> String {
    const WIDTH: usize = 110;
    let actors = lines.iter().map(|line| line.actor.len()).max().unwrap_or(0);
    let numbers = lines.len().to_string().len();
    let margin = numbers + 3 + actors + 2;
    let mut text = String::new();
    for line in lines {
        let fault = if line.fault { '!' } else { ' ' };
        let start = format!("{:>numbers$} {fault} {:<actors$}  ", line.step, line.actor);
        let mut column = margin;
        text.push_str(&start);
        for (place, word) in line.text.split(' ').enumerate() {
            if place > 0 && column + 1 + word.len() > WIDTH.max(margin + 40) {
                text.push('\n');
                text.push_str(&" ".repeat(margin));
                column = margin;
            } else if place > 0 {
                text.push(' ');
                column += 1;
            }
            text.push_str(word);
            column += word.len();
        }
        text.push('\n');
    }
    text
}

/// The end of a story: the broken law in a sentence, the output that readers see, and the contents
/// of storage.
#[must_use]
pub fn ending(setup: &Setup, last: &World, law: Option<Law>) -> String {
    let mut text = String::new();
    // Writing to a String does not fail.
    if let Some(law) = law {
        let _ = writeln!(text, "broken: L{} {}: {}", law.number(), law.name(), law.broken());
    }
    for (sink, external) in setup.topology.sinks().iter().zip(&last.external) {
        let name = setup.topology.name(SubtaskId::new(sink as u16));
        let all = setup.passing[sink];
        let missing = all & !(external.visible.once | external.lost);
        let _ = write!(text, "{name}: visible {}", records(setup, external.visible.once));
        for (what, set) in [
            ("twice", external.visible.twice),
            ("dropped", external.lost),
            ("not visible", missing),
        ] {
            if set != 0 {
                let _ = write!(text, "; {what} {}", records(setup, set));
            }
        }
        for transaction in &external.prepared {
            let content = records(setup, transaction.content.once);
            let _ = write!(text, "; prepared {}: {content}", transaction_name(&transaction.txn));
        }
        text.push('\n');
    }
    let _ = write!(text, "storage: ");
    let manifests: Vec<String> = last
        .store
        .manifests
        .iter()
        .map(|manifest| checkpoint_facts(setup, last, manifest))
        .collect();
    match manifests.is_empty() {
        true => text.push_str("no completed checkpoint"),
        false => text.push_str(&manifests.join("; ")),
    }
    let _ = match last.coordinator() {
        Some(machine) => write!(text, "\ncoordinator: {}", phase(machine.phase())),
        None => write!(text, "\ncoordinator: none"),
    };
    text.push('\n');
    text
}

/// A completed checkpoint with the records that each source had read, and the blobs that are
/// missing.
fn checkpoint_facts(
    setup: &Setup,
    world: &World,
    manifest: &crate::world::ManifestState,
) -> String {
    let mut text = format!("checkpoint {} of attempt {}", manifest.checkpoint, manifest.attempt);
    for (subtask, root) in world.roots_of(setup, manifest).enumerate() {
        let name = setup.topology.name(SubtaskId::new(subtask as u16));
        // Writing to a String does not fail.
        let _ = match world.store.blob(root) {
            None => write!(text, ", {name} MISSING"),
            Some(_) if world.store.state(root).is_none() => write!(text, ", {name} BROKEN"),
            Some(blob) if setup.topology.sources().contains(subtask) => {
                write!(text, ", {name} had read {}", blob.position)
            }
            Some(_) => Ok(()),
        };
    }
    text
}

/// Records by their names, in order.
pub(crate) fn records(setup: &Setup, set: u64) -> String {
    let names: Vec<String> = (0..64_u8)
        .filter(|record| set >> record & 1 == 1)
        .map(|record| setup.record_name(record))
        .collect();
    if names.is_empty() { "nothing".into() } else { names.join(", ") }
}

pub(crate) fn tally(setup: &Setup, tally: RecordTally) -> String {
    match tally.is_empty() {
        true => "empty".into(),
        false => records(setup, tally.once),
    }
}

pub(crate) fn transaction_name(txn: &TxnId) -> String {
    format!("transaction {} of attempt {}", txn.checkpoint, txn.attempt)
}

/// Describes one step from the World before it and after it.
struct Teller<'a> {
    setup: &'a Setup,
    before: &'a World,
    after: &'a World,
}

impl Teller<'_> {
    fn name(&self, subtask: usize) -> String {
        // The topology's limit fits a u16.
        self.setup.topology.name(SubtaskId::new(subtask as u16))
    }

    fn names(&self, subtasks: impl Iterator<Item = usize>) -> String {
        subtasks.map(|subtask| self.name(subtask)).collect::<Vec<_>>().join(", ")
    }

    /// The subtask that feeds an input.
    fn feeder(&self, subtask: usize, input: usize) -> String {
        let channel = self.setup.topology.subtasks()[subtask].inputs[input];
        self.name(self.setup.topology.channels()[channel].from.index())
    }
}
