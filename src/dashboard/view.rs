//! The JSON at `/status`: one object. Times are in milliseconds, dates in milliseconds since 1970,
//! sizes in bytes; unknown values are null.
//!
//! | field | what it is |
//! |---|---|
//! | `format`, `version` | `"snapline-status"` and 1 |
//! | `job`, `guarantee`, `phase` | its name, its guarantee, its phase |
//! | `warnings` | doubtful settings, in words: [`crate::Job::warnings`] |
//! | `attempt`, `restored_from`, `newest_checkpoint`, `since_checkpoint`, `completed`, `failed`, `restarts`, `last_failure`, `failure`, `store_bytes`, `recording_failed` | as in [`JobStatus`] |
//! | `next_try` | the restart that the job waits for: `at`, `pause`, `number`, `of`, `cause`, and `in`, the time until then; null if it runs |
//! | `output_delay` | the age of the oldest output that may be uncommitted: see [`output_delay`] |
//! | `why` | `late`, `text`, `chain`: which task is late and why, see [`super::why`] |
//! | `under_way` | checkpoints: `checkpoint`, `kind`, `running`, and `subtasks`: `subtask`, `acknowledged`, `stage`, `since`, `awaited`, `why` |
//! | `history` | checkpoints that ended, newest first: sums and the slowest of each part, and `subtasks` |
//! | `operators`, `tasks` | records in and out, in all and a second; `busy_share` and `backpressured_share`, from 0 to 1, over the last seconds, of an operator those of its busiest and its most held up subtask |
//! | `operators` | also `inputs`: the operators that feed it |
//! | `tasks` | also `worker`, `waits_for_room`, `in_one_step`, and of sinks `in_doubt`, `commit_failure`, `committed`, `committed_age` |
//! | `restart_history` | `attempt`, `cause`, `at`, `pause`, newest first |

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, SystemTime};

use serde_json::{Value, json};

use super::Promise;
use super::watch::{TaskHistory, TaskPace};
use super::why::{of_task, why};
use crate::runtime::status::{
    CheckpointStats, JobPhase, JobStatus, NextTry, SubtaskStage, SubtaskStats, UnderWayStatus,
};

/// The whole object.
pub(super) fn view(promise: &Promise, status: &JobStatus, watch: &TaskHistory) -> String {
    let in_one_step = |task: usize| watch.in_one_step(task);
    let why = why(status, &in_one_step);
    let ways = status.under_way.iter().map(|way| under_way(status, way, watch));
    let restarts: Vec<_> = status.restart_history.iter().rev().collect();
    json!({
        "format": "snapline-status",
        "version": 1,
        "job": promise.job,
        "guarantee": promise.guarantee,
        "warnings": promise.warnings,
        "phase": status.phase,
        "attempt": status.attempt.map(|attempt| attempt.to_string()),
        "restored_from": status.restored_from.map(|checkpoint| checkpoint.get()),
        "newest_checkpoint": status.newest_checkpoint.map(|checkpoint| checkpoint.get()),
        "since_checkpoint": status.since_checkpoint.map(ms),
        "completed": status.completed,
        "failed": status.failed,
        "restarts": status.restarts,
        "last_failure": status.last_failure,
        "failure": status.failure,
        "next_try": status.next_try.as_ref().map(next_try),
        "output_delay": output_delay(status).map(ms),
        "store_bytes": status.store_bytes,
        "recording_failed": status.recording_failed,
        "why": { "late": why.late, "text": why.text, "chain": why.chain },
        "under_way": ways.collect::<Vec<_>>(),
        "history": status.history.iter().rev().map(ended).collect::<Vec<_>>(),
        "operators": operators(status, watch),
        "tasks": tasks(status, watch),
        "restart_history": restarts,
    })
    .to_string()
}

fn ms(time: Duration) -> f64 {
    (time.as_secs_f64() * 1e6).round() / 1e3
}

fn date(at: SystemTime) -> u64 {
    let since = at.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

fn share(of: f64) -> f64 {
    (of * 1e3).round() / 1e3
}

fn kind(of: impl std::fmt::Debug) -> String {
    format!("{of:?}").to_lowercase()
}

fn next_try(next: &NextTry) -> Value {
    let left = next.at.duration_since(SystemTime::now()).unwrap_or_default();
    json!({
        "at": date(next.at),
        "in": ms(left),
        "pause": ms(next.pause),
        "number": next.number,
        "of": next.of,
        "cause": next.cause,
    })
}

/// The age of the oldest output that may be uncommitted. It is the time since the barrier of the
/// newest transaction that the slowest sink has committed. If that sink has committed none in this
/// run, it is the time since the tasks were first started. `None` for a job that does not run
/// (yet).
fn output_delay(status: &JobStatus) -> Option<Duration> {
    let since_start = status.since_start.filter(|_| status.phase != JobPhase::Ended)?;
    let sinks = status.tasks.iter().filter(|task| task.is_sink);
    sinks.map(|sink| sink.committed.map_or(since_start, |(_, age)| age)).max()
}

fn under_way(status: &JobStatus, way: &UnderWayStatus, watch: &TaskHistory) -> Value {
    let in_one_step = |task: usize| watch.in_one_step(task);
    let subtasks = status.tasks.iter().zip(&way.stages).enumerate();
    let subtasks = subtasks.map(|(place, (task, stage))| {
        let (word, since, awaited) = match stage {
            SubtaskStage::Waiting => ("waiting", None, &[][..]),
            SubtaskStage::Aligning { since, awaited } => ("aligning", Some(since), &awaited[..]),
            SubtaskStage::Writing { since } => ("writing", Some(since), &[][..]),
            SubtaskStage::Failed { since } => ("failed", Some(since), &[][..]),
            SubtaskStage::Written { since } => ("written", Some(since), &[][..]),
        };
        json!({
            "subtask": task.subtask,
            "acknowledged": way.acknowledged.contains(&task.subtask),
            "stage": word,
            "since": since.map(|since| ms(*since)),
            "awaited": awaited,
            "why": of_task(status, way, place, &in_one_step),
        })
    });
    json!({
        "checkpoint": way.checkpoint.get(),
        "kind": way.kind.map(kind),
        "running": ms(way.running),
        "subtasks": subtasks.collect::<Vec<_>>(),
    })
}

fn ended(stats: &CheckpointStats) -> Value {
    let most = |of: fn(&SubtaskStats) -> Duration| stats.acknowledged.iter().map(of).max().map(ms);
    // The subtask that acknowledged last, as far as the parts tell: where to look first.
    let whole = |part: &&SubtaskStats| part.start_delay + part.alignment + part.sync + part.writing;
    let slowest = stats.acknowledged.iter().max_by_key(whole);
    let subtasks = stats.acknowledged.iter().map(|part| {
        json!({
            "subtask": part.subtask,
            "start_delay": ms(part.start_delay),
            "alignment": ms(part.alignment),
            "sync": ms(part.sync),
            "async": ms(part.writing),
            "written": part.written,
            "reused": part.reused,
        })
    });
    json!({
        "checkpoint": stats.checkpoint.get(),
        "attempt": stats.attempt.to_string(),
        "kind": stats.kind.map(kind),
        "completed": stats.completed,
        "duration": ms(stats.duration),
        "ended_at": date(stats.ended_at),
        "written": stats.written(),
        "reused": stats.reused(),
        "start_delay": most(|part| part.start_delay),
        "alignment": most(|part| part.alignment),
        "sync": most(|part| part.sync),
        "async": most(|part| part.writing),
        "slowest": slowest.map(|part| &part.subtask),
        "missing": stats.missing,
        "cause": stats.cause,
        "subtasks": subtasks.collect::<Vec<_>>(),
    })
}

/// Operators in the order of their first subtasks.
fn operators(status: &JobStatus, watch: &TaskHistory) -> Vec<Value> {
    let mut order: Vec<&str> = Vec::new();
    let mut members: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
    for (place, task) in status.tasks.iter().enumerate() {
        let subtasks = members.entry(&task.operator).or_default();
        if subtasks.is_empty() {
            order.push(&task.operator);
        }
        subtasks.push(place);
    }
    let names: BTreeMap<&str, &str> =
        status.tasks.iter().map(|task| (task.subtask.as_str(), task.operator.as_str())).collect();
    let operator = |name: &str| {
        let subtasks = &members[name];
        let sum = |of: &dyn Fn(usize) -> u64| subtasks.iter().map(|&task| of(task)).sum::<u64>();
        let paces: Option<Vec<TaskPace>> = subtasks.iter().map(|&task| watch.pace(task)).collect();
        let rate = |of: fn(&TaskPace) -> f64| {
            paces.as_ref().map(|paces| paces.iter().map(of).sum::<f64>().round())
        };
        let most = |of: fn(&TaskPace) -> f64| {
            paces.as_ref().map(|paces| share(paces.iter().map(of).fold(0.0, f64::max)))
        };
        let feeders = subtasks.iter().flat_map(|&task| &status.tasks[task].inputs);
        let inputs: BTreeSet<&str> =
            feeders.filter_map(|feeder| names.get(feeder.as_str()).copied()).collect();
        json!({
            "operator": name,
            "inputs": inputs,
            "subtasks": subtasks.len(),
            "in": sum(&|task| status.tasks[task].records_in),
            "out": sum(&|task| status.tasks[task].records_out),
            "in_per_s": rate(|pace| pace.records_in),
            "out_per_s": rate(|pace| pace.records_out),
            "busy_share": most(|pace| pace.busy),
            "backpressured_share": most(|pace| pace.backpressured),
        })
    };
    order.into_iter().map(operator).collect()
}

fn tasks(status: &JobStatus, watch: &TaskHistory) -> Vec<Value> {
    let tasks = status.tasks.iter().enumerate().map(|(place, task)| {
        let pace = watch.pace(place);
        json!({
            "subtask": task.subtask,
            "operator": task.operator,
            "worker": task.worker,
            "in": task.records_in,
            "out": task.records_out,
            "in_per_s": pace.map(|pace| pace.records_in.round()),
            "out_per_s": pace.map(|pace| pace.records_out.round()),
            "busy_share": pace.map(|pace| share(pace.busy)),
            "backpressured_share": pace.map(|pace| share(pace.backpressured)),
            "waits_for_room": task.waits_for_room,
            "in_one_step": ms(watch.in_one_step(place)),
            "malformed": task.records_malformed,
            "in_doubt": task.in_doubt,
            "commit_failure": task.commit_failure,
            "committed": task.committed.map(|(checkpoint, _)| checkpoint.get()),
            "committed_age": task.committed.map(|(_, age)| ms(age)),
        })
    });
    tasks.collect()
}
