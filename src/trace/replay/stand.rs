//! The state of machines after a line of a recorded run, for people.

use snapline_protocol::coordinator::Coordinator;
use snapline_protocol::ids::SubtaskId;
use snapline_protocol::topology::Topology;

use super::life::Life;
use super::tasks::ReplayedTask;
use crate::trace::format::{Line, spell};

/// The state, after a line, of what the line is about: the coordinator, or a task of an attempt, on
/// the machines of a replay.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Stand<'a> {
    /// The file.
    pub file: &'a str,
    /// The line in it, from 1.
    pub line: usize,
    /// The entries, each with its name, in a fixed order.
    pub rows: &'a [(&'static str, String)],
}

pub(super) type Rows = Vec<(&'static str, String)>;

pub(super) fn list(items: impl IntoIterator<Item = String>) -> String {
    let items: Vec<String> = items.into_iter().collect();
    if items.is_empty() { "none".into() } else { items.join(", ") }
}

impl Life {
    /// The state of the coordinator, or of the task that the line is about.
    pub(super) fn stand(&self, topology: &Topology, line: &Line) -> Rows {
        let mut rows = Rows::new();
        match (line.attempt, line.task) {
            (Some(attempt), Some(subtask)) => {
                let task = self.tasks_of(attempt).and_then(|tasks| tasks.get(&subtask));
                if let Some(task) = task {
                    rows.push(("attempt", attempt.to_string()));
                    task.stand(topology, &mut rows);
                }
            }
            _ => {
                if let Some(machine) = self.coordinator() {
                    of_coordinator(machine, topology, &mut rows);
                    rows.push((
                        "timers",
                        list(self.armed().iter().map(|timer| format!("{timer:?}"))),
                    ));
                    let writes = self.asked().iter().map(|op| spell(op).to_string());
                    rows.push(("writes in flight", list(writes)));
                    rows.push(("machine", format!("{machine:?}")));
                }
            }
        }
        rows
    }
}

fn of_coordinator(machine: &Coordinator, topology: &Topology, rows: &mut Rows) {
    rows.push(("term", machine.term().to_string()));
    rows.push(("attempt", machine.attempt().to_string()));
    rows.push(("phase", format!("{:?}", machine.phase())));
    rows.push(("newest complete", machine.newest().map_or("none".into(), |id| id.to_string())));
    let waits = machine.under_way().map(|(checkpoint, acked)| {
        let missing = (0..topology.subtasks().len()).filter(|&subtask| !acked.contains(subtask));
        // The topology's limit fits a u16.
        let names = missing.map(|subtask| topology.name(SubtaskId::new(subtask as u16)));
        format!("{checkpoint} waits for {}", list(names))
    });
    rows.push(("under way", list(waits)));
    let resolved = if machine.is_resolved() { "yes" } else { "no" };
    rows.push(("every sink committed", resolved.into()));
}

impl ReplayedTask {
    fn stand(&self, topology: &Topology, rows: &mut Rows) {
        let (config, machine) = self.aligner();
        let aligning = machine.aligning().map(|barrier| barrier.checkpoint.to_string());
        rows.push(("aligning", list(aligning)));
        let inputs = &topology.subtasks()[self.subtask.index()].inputs;
        let held = (0..inputs.len()).filter(|&input| machine.held(config, input));
        let feeder = |input: usize| topology.name(topology.channels()[inputs[input]].from);
        rows.push(("held inputs", list(held.map(feeder))));
        rows.push(("input", if machine.has_ended(config) { "ended" } else { "goes on" }.into()));
        rows.push(("snapshots being written", list(self.writes().map(|id| id.to_string()))));
        if let Some(sink) = &self.sink {
            rows.push(("committer", format!("{:?}", sink.machine.phase())));
            let pending = sink.machine.pending().iter();
            rows.push((
                "committables",
                list(pending.map(|txn| format!("{} of attempt {}", txn.checkpoint, txn.attempt))),
            ));
            rows.push(("records taken", sink.records.to_string()));
        }
        rows.push(("machine", format!("{machine:?}")));
    }
}
