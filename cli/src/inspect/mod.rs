//! `snapline inspect`: inspects a checkpoint directory.

mod verify;

use std::io;
use std::time::{Duration, SystemTime};

use serde::Serialize;
use serde_json::{Value, json};
use snapline::protocol::ids::CheckpointId;
use snapline::state::{Kind, Root, StateError, to_json};
use snapline::store::{LocalStore, Manifest, Store, StoreError, lost};

use crate::args::InspectArgs;
use crate::overview::{self, PendingTransaction, StoreOwner, failure, subtasks};
use crate::table::{TextTable, counted, grouped};
use crate::{CommandError, Exit, Terminal};
use verify::Defect;

/// All that an overview shows.
#[derive(Serialize)]
struct Overview {
    format: &'static str,
    version: u32,
    directory: String,
    job: Option<String>,
    term: u32,
    owner: StoreOwner,
    checkpoints: Vec<CheckpointRow>,
    /// Of the newest checkpoint.
    operators: Vec<OperatorRow>,
    /// Of the newest checkpoint.
    pending: Vec<PendingTransaction>,
    #[serde(skip_serializing_if = "Option::is_none")]
    defects: Option<Vec<Defect>>,
}

/// A checkpoint.
#[derive(Serialize)]
struct CheckpointRow {
    checkpoint: u64,
    #[serde(flatten)]
    known: Option<ManifestSummary>,
    /// Why nothing else is known of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    unreadable: Option<String>,
}

/// What the manifest says.
#[derive(Serialize)]
struct ManifestSummary {
    kind: Value,
    /// Whether the whole input had ended.
    ended: bool,
    attempt: String,
    age_seconds: u64,
    written_bytes: u64,
    reused_bytes: u64,
    blobs: usize,
}

/// An operator in the newest checkpoint.
#[derive(Serialize)]
struct OperatorRow {
    operator: String,
    subtasks: usize,
    written_bytes: u64,
    reused_bytes: u64,
}

/// Carries out `snapline inspect`.
///
/// # Errors
/// [`CommandError`] if the directory is no checkpoint directory, or what is asked for cannot be
/// read.
pub fn run(args: &InspectArgs, terminal: &mut Terminal<'_>) -> Result<Exit, CommandError> {
    let store = overview::open(&args.dir)?;
    if let Some(operator) = &args.state {
        return state(&store, operator, args.checkpoint, terminal);
    }
    let mut wrong = Vec::new();
    let defects = if args.verify { Some(verify::all(&store)?) } else { None };
    let overview = look(&store, defects, &mut wrong)?;
    if args.json {
        let text = serde_json::to_string_pretty(&overview).map_err(io::Error::other)?;
        writeln!(terminal.out(), "{text}")?;
    } else {
        show(&overview, terminal)?;
    }
    for wrong in &wrong {
        terminal.complain(&format!("error: {wrong}\n"))?;
    }
    let damaged = !wrong.is_empty() || overview.defects.is_some_and(|defects| !defects.is_empty());
    Ok(if damaged { Exit::Bad } else { Exit::Good })
}

fn look(
    store: &LocalStore,
    defects: Option<Vec<Defect>>,
    wrong: &mut Vec<String>,
) -> Result<Overview, CommandError> {
    let fence = match store.fence() {
        Ok(fence) => fence,
        // The list of defects says it better than nothing at all would.
        Err(_) if defects.is_some() => snapline::protocol::fence::Fence::default(),
        Err(error) => return Err(failure(&error)),
    };
    let mut overview = Overview {
        format: "snapline-inspect",
        version: 1,
        directory: store.dir().display().to_string(),
        job: None,
        term: fence.term.get(),
        owner: StoreOwner::of(store.dir()),
        checkpoints: Vec::new(),
        operators: Vec::new(),
        pending: Vec::new(),
        defects,
    };
    let mut newest = None;
    for checkpoint in store.manifests().map_err(|error| failure(&error))? {
        let mut row = CheckpointRow { checkpoint: checkpoint.get(), known: None, unreadable: None };
        match store.manifest(checkpoint) {
            Ok(manifest) => {
                row.known = Some(known(&manifest));
                newest = Some(manifest);
            }
            // Deleted since the listing.
            Err(StoreError::Missing { .. }) => continue,
            Err(error) => {
                // Among the defects, if they are asked for.
                if overview.defects.is_none() {
                    wrong.push(error.to_string());
                }
                row.unreadable = Some(error.to_string());
            }
        }
        overview.checkpoints.push(row);
    }
    // SPEC 7.6
    if let Some((checkpoint, error)) = known_lost(store, &overview)? {
        let why =
            format!("checkpoint {checkpoint} was complete, but its manifest is missing: {error}");
        if overview.defects.is_none() {
            wrong.push(why.clone());
        }
        let checkpoint = checkpoint.get();
        overview.checkpoints.push(CheckpointRow { checkpoint, known: None, unreadable: Some(why) });
    }
    if let Some(newest) = newest {
        overview.job = Some(newest.job.clone());
        overview.operators = operators(&newest);
        match overview::pending(store, &newest) {
            Ok(pending) => overview.pending = pending,
            // A job that runs may have deleted it since.
            Err(_) if store.manifest(newest.checkpoint).is_err_and(|error| is_missing(&error)) => {}
            Err(_) if overview.defects.as_ref().is_some_and(|defects| !defects.is_empty()) => {}
            Err(failure) => wrong.push(failure.to_string()),
        }
    }
    Ok(overview)
}

/// The checkpoint that is lost, if one is; where there are defects the fence may be one of them.
fn known_lost(
    store: &LocalStore,
    overview: &Overview,
) -> Result<Option<(CheckpointId, StoreError)>, CommandError> {
    match lost(store) {
        Err(_) if overview.defects.as_ref().is_some_and(|defects| !defects.is_empty()) => Ok(None),
        found => found.map_err(|error| failure(&error)),
    }
}

const fn is_missing(error: &StoreError) -> bool {
    matches!(error, StoreError::Missing { .. })
}

fn known(manifest: &Manifest) -> ManifestSummary {
    let written_at = SystemTime::UNIX_EPOCH.checked_add(Duration::from_millis(manifest.written_at));
    let blobs = manifest.snapshots.iter().flat_map(|snapshot| &snapshot.blobs);
    let blobs: std::collections::BTreeSet<_> = blobs.map(|blob| blob.id).collect();
    ManifestSummary {
        kind: json!(manifest.kind),
        ended: manifest.ended,
        attempt: manifest.attempt.to_string(),
        // A clock that was set back makes it new, not old.
        age_seconds: written_at
            .and_then(|written_at| SystemTime::now().duration_since(written_at).ok())
            .unwrap_or_default()
            .as_secs(),
        written_bytes: manifest.snapshots.iter().map(|snapshot| snapshot.written).sum(),
        reused_bytes: manifest.snapshots.iter().map(|snapshot| snapshot.reused).sum(),
        blobs: blobs.len(),
    }
}

fn operators(manifest: &Manifest) -> Vec<OperatorRow> {
    let empty = |operator: &snapline::store::OperatorRef| OperatorRow {
        operator: operator.name.clone(),
        subtasks: operator.parallelism,
        written_bytes: 0,
        reused_bytes: 0,
    };
    let mut rows: Vec<OperatorRow> = manifest.operators.iter().map(empty).collect();
    for (operator, _, part) in subtasks(manifest) {
        let row = rows.iter_mut().find(|row| row.operator == operator);
        if let (Some(row), Some(snapshot)) = (row, part) {
            row.written_bytes += snapshot.written;
            row.reused_bytes += snapshot.reused;
        }
    }
    rows
}

fn show(overview: &Overview, terminal: &mut Terminal<'_>) -> Result<(), CommandError> {
    let out = terminal.out();
    let job = overview.job.as_deref().unwrap_or("(unknown: no checkpoint can be read)");
    writeln!(out, "{}", overview.directory)?;
    writeln!(out, "job {job}, term {}, owner: {}\n", overview.term, overview.owner)?;
    let mut table = TextTable::new(
        &["checkpoint", "blobs", "written", "reused", "attempt", "age s", "kind"],
        0..6,
    );
    for row in &overview.checkpoints {
        let number = row.checkpoint.to_string();
        let dash = || "-".to_owned();
        table.row(match &row.known {
            None => vec![number, dash(), dash(), dash(), dash(), dash(), "cannot be read".into()],
            Some(known) => {
                let ended = if known.ended { ", input ended" } else { "" };
                let kind = match known.kind.as_str() {
                    Some(kind) => format!("{kind}{ended}"),
                    None => dash(),
                };
                let (written, reused) = (grouped(known.written_bytes), grouped(known.reused_bytes));
                let age = known.age_seconds.to_string();
                vec![
                    number,
                    known.blobs.to_string(),
                    written,
                    reused,
                    known.attempt.clone(),
                    age,
                    kind,
                ]
            }
        });
    }
    table.write(out)?;
    if !overview.operators.is_empty() {
        writeln!(out, "\nthe newest readable checkpoint:")?;
        let mut table = TextTable::new(&["operator", "subtasks", "written", "reused"], 1..4);
        for row in &overview.operators {
            let (written, reused) = (grouped(row.written_bytes), grouped(row.reused_bytes));
            table.row(vec![row.operator.clone(), row.subtasks.to_string(), written, reused]);
        }
        table.write(out)?;
        let open = overview.pending.len();
        writeln!(
            out,
            "\n{} not known to be committed{}",
            counted(open as u64, "transaction"),
            if open == 0 { "" } else { ":" }
        )?;
        for PendingTransaction { operator, subtask, checkpoint, attempt, committable } in
            &overview.pending
        {
            writeln!(
                out,
                "  {operator}, subtask {subtask}, of checkpoint {checkpoint}, attempt {attempt}: \
                 {committable}"
            )?;
        }
    }
    if let Some(defects) = &overview.defects {
        writeln!(
            out,
            "\n{}{}",
            counted(defects.len() as u64, "defect"),
            if defects.is_empty() { "; every byte was read" } else { ":" }
        )?;
        for Defect { file, expected, found } in defects {
            writeln!(out, "  {file}\n    expected {expected}\n    found    {found}")?;
        }
    }
    Ok(())
}

/// Prints an operator's state.
fn state(
    store: &LocalStore,
    operator: &str,
    checkpoint: Option<u64>,
    terminal: &mut Terminal<'_>,
) -> Result<Exit, CommandError> {
    let all = store.manifests().map_err(|error| failure(&error))?;
    let listed = || all.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    let wanted = match checkpoint {
        Some(number) => all.iter().copied().find(|checkpoint| checkpoint.get() == number),
        None => all.last().copied(),
    };
    let Some(wanted): Option<CheckpointId> = wanted else {
        let which = checkpoint
            .map_or("no checkpoint".to_owned(), |number| format!("no checkpoint {number}"));
        return Err(CommandError::Usage(format!(
            "there is {which} in {}; it has: {}",
            store.dir().display(),
            listed()
        )));
    };
    let manifest = store.manifest(wanted).map_err(|error| failure(&error))?;
    let names: Vec<&str> =
        manifest.operators.iter().map(|operator| operator.name.as_str()).collect();
    if !names.contains(&operator) {
        let names = names.join(", ");
        return Err(CommandError::Usage(format!(
            "checkpoint {wanted} has no operator `{operator}`; it has: {names}"
        )));
    }
    for (_, subtask, part) in subtasks(&manifest).filter(|(name, ..)| *name == operator) {
        let Some(snapshot) = part else { continue };
        let bytes = store.read(&snapshot.root).map_err(|error| failure(&error))?;
        let root =
            Root::decode(&bytes).map_err(|error| CommandError::Damaged(error.to_string()))?;
        for entry in root.entries.iter().filter(|entry| entry.operator == operator) {
            let mut output = Ok(());
            let read = to_json(store, entry, &mut |value| {
                let line = match (entry.kind, value) {
                    (Kind::Table, Value::Array(mut pair)) if pair.len() == 2 => {
                        let (value, key) = (pair.pop(), pair.pop());
                        json!({"subtask": subtask, "state": entry.state, "key": key, "value": value})
                    }
                    (_, value) => json!({"subtask": subtask, "state": entry.state, "value": value}),
                };
                if output.is_ok() {
                    output = writeln!(terminal.out(), "{line}");
                }
                Ok(())
            });
            output?;
            read.map_err(|error| match error {
                StateError::Store(error) => failure(&error),
                error => CommandError::Damaged(error.to_string()),
            })?;
        }
    }
    Ok(Exit::Good)
}
