//! Replaying recorded runs on fresh machines (SPEC 11.8-11.10).

mod history;
mod life;
mod rule;
mod sinks;
mod stand;
mod tasks;

use std::borrow::Borrow;
use std::collections::BTreeMap;
use std::collections::hash_map::DefaultHasher;
use std::fmt;
use std::hash::{Hash, Hasher};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use snapline_protocol::ids::{Attempt, BlobId, CheckpointId, SubtaskId, Term};
use snapline_protocol::message::{Persisted, ToCoordinator, ToTask};
use snapline_protocol::{Machine, Out, Verdict};

use super::format::{Line, What, spell, spell_all};
use super::read::{Run, RunTrace};
use crate::base::panic::guarded;
use history::{Ahead, History};
use life::Life;
pub use rule::Rule;
use rule::{Checked, breach, ensure};
pub use stand::Stand;

/// What a replay has checked. All of it conforms to the protocol.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[non_exhaustive]
pub struct Tally {
    /// Runs, each in a file of its own.
    pub runs: u64,
    /// Lines after the first ones.
    pub lines: u64,
    /// Events that machines were given.
    pub events: u64,
    /// Recoveries: facts read and decided on.
    pub recoveries: u64,
    /// Attempts.
    pub attempts: u64,
    /// Tasks.
    pub tasks: u64,
    /// Barriers and ends taken from channels.
    pub markers: u64,
    /// Records that went before them, counted once for each.
    pub records: u64,
    /// Snapshots whose writing returned.
    pub snapshots: u64,
    /// Checkpoints known to have completed while they were recorded.
    pub checkpoints: u64,
    /// Transactions prepared.
    pub transactions: u64,
    /// Commit calls.
    pub commits: u64,
    /// Deletions.
    pub deletions: u64,
}

/// A replay that found no difference.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct Replayed {
    /// What it has checked.
    pub tally: Tally,
    /// The files whose last line is torn, each with the length in bytes of the torn line. It was
    /// being written when the process was killed, and is not part of the run.
    pub torn: Vec<(String, usize)>,
    /// A fingerprint of the final states of all machines, and of what is known of their store and
    /// sinks. Two traces with the same fingerprint differ in nothing that matters.
    pub end: u64,
}

impl fmt::Display for Replayed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Tally { runs, lines, events, attempts, markers, checkpoints, commits, .. } = self.tally;
        write!(
            f,
            "as the protocol has it: {runs} runs, {lines} lines, {attempts} attempts, {events} events of machines, {markers} barriers and ends \
             taken from channels, {checkpoints} checkpoints completed, {commits} commit calls"
        )?;
        for (file, bytes) in &self.torn {
            write!(f, "\n{file}: its last line is truncated and ignored ({bytes} bytes)")?;
        }
        Ok(())
    }
}

/// The first place where a recorded run differs from the protocol.
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Difference {
    /// The file.
    pub file: String,
    /// The line in it, from 1.
    pub line: usize,
    /// The task or coordinator concerned.
    pub who: String,
    /// The broken rule.
    pub rule: Rule,
    /// What is expected.
    pub expected: String,
    /// What the trace says.
    pub found: String,
    /// The lines before it about the same task, or about the coordinator and its store; oldest
    /// first.
    pub before: Vec<(usize, String)>,
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { file, line, who, rule, expected, found, before } = self;
        writeln!(f, "{file}, line {line}: {who} ({rule})")?;
        writeln!(f, "  the protocol: {expected}")?;
        write!(f, "  the trace:    {found}")?;
        if !before.is_empty() {
            write!(f, "\n  before that, {who}:")?;
        }
        for (line, text) in before {
            write!(f, "\n  {line:>6}  {text}")?;
        }
        Ok(())
    }
}

snapline_protocol::error_in_words!(Difference);

/// How many lines before a difference are shown.
const BEFORE: usize = 6;

/// Replays the runs of one or several jobs on fresh machines, each job's in the order of their
/// terms. Checks them against the rules of SPEC 11.9. Traces of one job must be of one store.
///
/// # Errors
/// The first [`Difference`].
pub fn replay<T: Borrow<RunTrace>>(traces: &[T]) -> Result<Replayed, Box<Difference>> {
    replay_telling(traces, None)
}

/// Like [`replay`], and reports after each line the state of the machines that it is about, up to
/// the first difference.
///
/// # Errors
/// The first [`Difference`].
pub fn replay_telling<T: Borrow<RunTrace>>(
    traces: &[T],
    mut tell: Option<&mut dyn FnMut(Stand<'_>)>,
) -> Result<Replayed, Box<Difference>> {
    let mut jobs: BTreeMap<&str, Vec<(&RunTrace, &Run)>> = BTreeMap::new();
    for trace in traces.iter().map(T::borrow) {
        if let Some(run) = &trace.run {
            jobs.entry(&run.header.job).or_default().push((trace, run));
        }
    }
    let mut tally = Tally::default();
    let mut end = DefaultHasher::new();
    for runs in jobs.values_mut() {
        // Of several that chose a term, the one that has it is the last.
        runs.sort_by_key(|(trace, run)| (run.header.term, run.has_claimed, trace.name()));
        let mut history = History::new(ahead(runs));
        let mut before: Option<Term> = None;
        for (trace, run) in runs {
            history.begin(&run.header, before);
            before = Some(run.header.term);
            tally.runs += 1;
            let mut life = Life::new(run);
            for (place, (line, event)) in run.lines().enumerate() {
                let (line, event) = (&line, &event);
                life.line(run, line, event, &mut history, &mut tally).map_err(|breach| {
                    Box::new(Difference {
                        file: trace.name().to_owned(),
                        line: place + 2,
                        who: who(run, line),
                        rule: breach.rule,
                        expected: breach.says,
                        found: told(line),
                        before: lines_before(run, place),
                    })
                })?;
                if let Some(tell) = &mut tell {
                    let rows = life.stand(&run.topology, line);
                    tell(Stand { file: trace.name(), line: place + 2, rows: &rows });
                }
            }
            format!("{life:?}").hash(&mut end);
        }
        format!("{history:?}").hash(&mut end);
    }
    let traces = traces.iter().map(T::borrow);
    let torn = |trace: &RunTrace| Some((trace.name().to_owned(), trace.torn()?));
    Ok(Replayed { tally, torn: traces.filter_map(torn).collect(), end: end.finish() })
}

/// What runs do that earlier replayed runs may meet.
fn ahead(runs: &[(&RunTrace, &Run)]) -> Ahead {
    let mut ahead = Ahead::default();
    for (number, (_, run)) in (1..).zip(runs) {
        for (line, _) in run.lines() {
            match &line.what {
                What::CommitCall { txn } => _ = ahead.calls.insert(*txn, number),
                What::Aligner { effects, .. } => {
                    let (Some(attempt), Some(subtask)) = (line.attempt, line.task) else {
                        continue;
                    };
                    for checkpoint in effects.iter().filter_map(snapshot) {
                        ahead.snapshots.insert(BlobId { checkpoint, attempt, subtask }, number);
                    }
                }
                What::Coordinator { effects, .. } => {
                    for checkpoint in effects.iter().filter_map(manifest) {
                        ahead.manifests.insert(checkpoint, number);
                    }
                }
                What::Collect { plan, .. } => {
                    let (manifests, blobs) = &mut ahead.deleted;
                    manifests.extend(plan.manifests.iter().map(|&gone| (gone, number)));
                    blobs.extend(plan.blobs.iter().map(|&gone| (gone, number)));
                }
                _ => {}
            }
        }
    }
    ahead
}

/// The checkpoint of an aligner's effect that takes a snapshot.
fn snapshot(effect: &Value) -> Option<CheckpointId> {
    CheckpointId::deserialize(effect.get("Snapshot")?.get("barrier")?.get("checkpoint")?).ok()
}

/// The checkpoint of a coordinator's effect that asks for a manifest.
fn manifest(effect: &Value) -> Option<CheckpointId> {
    CheckpointId::deserialize(effect.get("Store")?.get("Manifest")?.get("checkpoint")?).ok()
}

fn who(run: &Run, line: &Line) -> String {
    match (line.task, line.attempt) {
        (Some(task), Some(attempt)) if task.index() < run.topology.subtasks().len() => {
            format!("{} of attempt {attempt}", run.topology.name(task))
        }
        (Some(task), _) => format!("subtask {}", task.index()),
        (None, _) => format!("the coordinator of term {}", run.header.term),
    }
}

fn lines_before(run: &Run, place: usize) -> Vec<(usize, String)> {
    let (line, _) = run.line(place);
    let same = |other: &Line| {
        other.task == line.task && (line.task.is_none() || other.attempt == line.attempt)
    };
    let before = (0..place).rev().map(|at| (at, run.line(at).0));
    let before = before.filter(|(_, other)| same(other)).take(BEFORE);
    let mut before: Vec<_> = before.map(|(at, other)| (at + 2, told(&other))).collect();
    before.reverse();
    before
}

/// A line, cut short if it is long.
fn told(line: &Line) -> String {
    let text = spell(&line.what).to_string();
    match text.char_indices().nth(300) {
        Some((end, _)) => format!("{}...", &text[..end]),
        None => text,
    }
}

/// Messages that machines have sent, by their spelling in a trace. They may arrive late, twice or
/// never (SPEC 2.3).
#[derive(Clone, PartialEq, Eq, Debug, Default)]
struct Mail {
    reports: BTreeMap<String, ToCoordinator>,
    orders: BTreeMap<(SubtaskId, String), ToTask>,
}

impl Mail {
    fn reported(&mut self, message: ToCoordinator) {
        self.reports.insert(spell(&message).to_string(), message);
    }

    fn ordered(&mut self, subtask: SubtaskId, message: ToTask) {
        self.orders.insert((subtask, spell(&message).to_string()), message);
    }

    fn report(&self, message: &Value) -> Checked<ToCoordinator> {
        let found = self.reports.get(&message.to_string()).copied();
        found.ok_or_else(|| breach(Rule::Sent, "no task has sent this"))
    }

    fn order(&self, subtask: SubtaskId, message: &Value) -> Checked<ToTask> {
        let found = self.orders.get(&(subtask, message.to_string())).copied();
        found.ok_or_else(|| breach(Rule::Sent, "the coordinator has not sent this to it"))
    }
}

/// Passes an event to a machine, and compares what results.
fn run<M: Machine>(
    machine: &mut M,
    config: &M::Config,
    event: M::Event,
    verdict: Verdict,
    effects: &[Value],
) -> Checked<Vec<M::Effect>>
where
    M::Effect: Serialize,
{
    let mut out = Out::new();
    let right = guarded(|| Ok(machine.handle(config, event, &mut out)));
    // An assertion of the machine's: only a broken driver, or an invalid trace, gets this far.
    let right = right.map_err(|cause| {
        breach(Rule::Possible, format!("the machine says that this is impossible: {cause}"))
    })?;
    ensure(right == verdict, Rule::Machine, || {
        format!("the verdict is {}, the effects {}", spell(&right), spell(&out.as_slice()))
    })?;
    same_effects(out.as_slice(), effects)?;
    Ok(out.drain().collect())
}

fn same_effects<E: Serialize>(right: &[E], recorded: &[Value]) -> Checked {
    let right = spell_all(right);
    ensure(right == recorded, Rule::Machine, || {
        let (right, recorded): (&[Value], _) = (&right, recorded);
        let same = right.iter().zip(recorded).take_while(|(right, found)| right == found).count();
        let show = |effects: &[Value]| effects.get(same).map_or("none".into(), Value::to_string);
        format!(
            "effect {} of {} is {}; the trace has {}",
            same + 1,
            right.len(),
            show(right),
            show(recorded)
        )
    })
}

/// A line has reported that the bytes are durable: a replay takes this report for the proof (SPEC
/// 3.5).
fn proof(attempt: Attempt, checkpoint: CheckpointId) -> Persisted {
    Persisted::attest(attempt, checkpoint)
}
