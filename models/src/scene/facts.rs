//! The facts about each lane in one state, in rows of a name and a value.

use snapline_protocol::coordinator::Phase;
use snapline_protocol::ids::SubtaskId;

use crate::scenario::Setup;
use crate::story::{op, phase, records, tally, timer_name, transaction_name};
use crate::world::{Blob, CoordinatorState, ExternalSystem, Item, TaskState, World};

type FactRows = Vec<[String; 2]>;

fn row(rows: &mut FactRows, name: &str, value: impl Into<String>) {
    rows.push([name.into(), value.into()]);
}

fn list<T>(items: impl IntoIterator<Item = T>, text: impl Fn(T) -> String) -> String {
    let items: Vec<String> = items.into_iter().map(text).collect();
    if items.is_empty() { "none".into() } else { items.join(", ") }
}

/// Facts about the coordinator that was started last, and about one that was replaced and lives on.
pub(super) fn coordinator(setup: &Setup, world: &World) -> FactRows {
    let mut rows = Vec::new();
    if world.coordinators.is_empty() {
        row(&mut rows, "coordinator", "none");
    }
    for (place, coordinator) in world.coordinators.iter().rev().enumerate() {
        let from = rows.len();
        of_coordinator(setup, coordinator, &mut rows);
        mark_old(&mut rows[from..], place);
    }
    let names = |message: &crate::world::ControlMessage| crate::story::message_name(setup, message);
    row(&mut rows, "network", list(world.network.iter().chain(&world.sent), names));
    rows
}

fn of_coordinator(setup: &Setup, coordinator: &CoordinatorState, rows: &mut FactRows) {
    let machine = &coordinator.machine;
    row(rows, "term", machine.term().to_string());
    row(rows, "attempt", machine.attempt().to_string());
    let stands = match machine.phase() {
        Phase::Running => "running".into(),
        other => phase(other),
    };
    row(rows, "phase", stands);
    row(rows, "newest complete", machine.newest().map_or("none".into(), |c| c.to_string()));
    let waits = machine.under_way().map(|(checkpoint, acked)| {
        let all = 0..setup.topology.subtasks().len();
        let missing = all.filter(|&subtask| !acked.contains(subtask));
        format!("{checkpoint} waits for {}", list(missing, |subtask| name(setup, subtask)))
    });
    row(rows, "under way", list(waits, |text| text));
    row(rows, "every sink committed", if machine.is_resolved() { "yes" } else { "no" });
    row(rows, "timers", list(&coordinator.timers, |timer| timer_name(*timer)));
    row(rows, "writes in flight", list(&coordinator.writes, op));
    row(rows, "machine", format!("{machine:?}"));
}

/// Facts about a subtask of the running attempt, and about its earlier tasks that live on.
pub(super) fn task(setup: &Setup, world: &World, subtask: usize) -> FactRows {
    let mut rows = Vec::new();
    match world.tasks.get(subtask) {
        None => row(&mut rows, "task", "not started"),
        Some(task) => {
            of_task(setup, task, subtask, &mut rows);
            for (place, &channel) in setup.topology.subtasks()[subtask].inputs.iter().enumerate() {
                let feeder = setup.topology.channels()[channel].from.index();
                let held = match task.aligner.held(&setup.aligners[subtask], place) {
                    true => " (held)",
                    false => "",
                };
                let items = list(&world.channels[channel], |item| item_name(setup, item));
                row(&mut rows, &format!("from {}", name(setup, feeder)), items + held);
            }
            row(&mut rows, "machine", format!("{:?}", task.aligner));
        }
    }
    let old = world.zombies.iter().filter(|zombie| zombie.subtask == subtask);
    for (place, zombie) in old.enumerate() {
        let from = rows.len();
        of_task(setup, &zombie.task, subtask, &mut rows);
        mark_old(&mut rows[from..], place + 1);
    }
    rows
}

/// Prefixes the rows of a party that should be over, so that each name is unique: no prefix for the
/// current one, then `old`, `old 2`.
fn mark_old(rows: &mut [[String; 2]], place: usize) {
    for [name, _] in rows {
        match place {
            0 => {}
            1 => *name = format!("old: {name}"),
            many => *name = format!("old {many}: {name}"),
        }
    }
}

fn of_task(setup: &Setup, task: &TaskState, subtask: usize, rows: &mut FactRows) {
    let config = &setup.aligners[subtask];
    row(rows, "attempt", task.aligner.attempt().to_string());
    row(rows, "lives", if task.alive { "yes" } else { "no: crashed" });
    if config.inputs == 0 {
        row(rows, "records read", task.position.to_string());
    }
    row(rows, "in its state", tally(setup, task.tally));
    let aligning = task.aligner.aligning().map(|barrier| barrier.checkpoint);
    row(rows, "aligning", list(aligning, |checkpoint| checkpoint.to_string()));
    if task.aligner.has_ended(config) {
        row(rows, "input", "ended");
    }
    row(rows, "snapshots being written", list(&task.writes, |write| snapshot(setup, &write.blob)));
    if let Some(committer) = &task.committer {
        row(rows, "open transaction", tally(setup, task.open));
        row(rows, "committables", list(committer.pending(), transaction_name));
        row(rows, "asks to commit", list(&task.call, transaction_name));
        row(rows, "committer", format!("{committer:?}"));
    }
}

fn item_name(setup: &Setup, item: &Item) -> String {
    match item {
        Item::Record(record) => setup.record_name(*record),
        Item::Barrier(barrier) => format!("barrier {}", barrier.checkpoint),
        Item::End => "end".into(),
    }
}

/// A snapshot with its contents: a source's position, else the records that its task has seen.
fn snapshot(setup: &Setup, blob: &Blob) -> String {
    let subtask = blob.id.subtask.index();
    let holds = match setup.topology.sources().contains(subtask) {
        true => format!("{} records read", blob.position),
        false => tally(setup, blob.tally),
    };
    let base = blob.base.map_or(String::new(), |base| format!(", on top of {}", base.checkpoint));
    let (id, of) = (blob.id.checkpoint, blob.id.attempt);
    format!("{} for {id} of attempt {of} ({holds}{base})", name(setup, subtask))
}

/// Facts about storage.
pub(super) fn storage(setup: &Setup, world: &World) -> FactRows {
    let mut rows = Vec::new();
    row(&mut rows, "fence", format!("{:?}", world.store.fence));
    let manifests = &world.store.manifests;
    row(&mut rows, "complete", list(manifests, |manifest| manifest.checkpoint.to_string()));
    let blobs = list(&world.store.blobs, |blob| {
        let whole = if blob.whole { "" } else { ", half written" };
        format!("{}{whole}", snapshot(setup, blob))
    });
    row(&mut rows, "blobs", blobs);
    rows
}

/// Facts about a sink's external system.
pub(super) fn external(setup: &Setup, external: &ExternalSystem) -> FactRows {
    let mut rows = Vec::new();
    row(&mut rows, "readers see", records(setup, external.visible.once));
    row(&mut rows, "twice", records(setup, external.visible.twice));
    row(&mut rows, "dropped", records(setup, external.lost));
    row(
        &mut rows,
        "prepared",
        list(&external.prepared, |transaction| {
            let content = tally(setup, transaction.content);
            format!("{} ({content})", transaction_name(&transaction.txn))
        }),
    );
    let committed = &external.committed;
    let names = list(committed, |transaction| transaction_name(&transaction.txn));
    row(&mut rows, "committed", names);
    let latest = external.latest.map_or("none".into(), |attempt| attempt.to_string());
    row(&mut rows, "admits", format!("attempt {latest} and later"));
    rows
}

fn name(setup: &Setup, subtask: usize) -> String {
    // The topology's limit fits a u16.
    setup.topology.name(SubtaskId::new(subtask as u16))
}
