//! What a job is doing: its status, for users, pages and metrics.
//!
//! Longer than 500 lines: most of it is the public fields and what they mean.

use std::collections::VecDeque;
use std::time::{Duration, Instant, SystemTime};

use serde::Serialize;
use snapline_protocol::ids::{Attempt, CheckpointId};
use snapline_protocol::message::CheckpointKind;

use crate::base::clock::Clock;
use crate::base::sync::{Arc, Mutex, Ordering, lock};
use crate::operator::time::Timestamp;
use crate::runtime::json;
use crate::runtime::task_metrics::{Done, Gauges};

/// How many past checkpoints, and how many restarts, a status keeps.
const HISTORY: usize = 64;

/// The phase of a job.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum JobPhase {
    /// Claiming its store, or reading the state to start from.
    #[default]
    Starting,
    /// Processing records.
    Running,
    /// Restoring after a failure.
    Restoring,
    /// The checkpoint that ends it is complete; commits are being finished.
    Closing,
    /// Ended. [`JobStatus::failure`] gives the reason if it has failed.
    Ended,
}

/// One subtask's part in a checkpoint.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct SubtaskStats {
    /// The subtask's name.
    pub subtask: String,
    /// From the trigger to its first barrier.
    #[serde(serialize_with = "json::ms")]
    pub start_delay: Duration,
    /// From its first barrier to its last.
    #[serde(serialize_with = "json::ms")]
    pub alignment: Duration,
    /// How long records waited while the state was captured.
    #[serde(serialize_with = "json::ms")]
    pub sync: Duration,
    /// How long the bytes took to become durable, asynchronously.
    #[serde(serialize_with = "json::ms")]
    pub writing: Duration,
    /// Bytes written.
    pub written: u64,
    /// Bytes shared with the base snapshot, not written again.
    pub reused: u64,
}

/// The outcome and figures of a checkpoint.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct CheckpointStats {
    /// The checkpoint.
    pub checkpoint: CheckpointId,
    /// The attempt in which it was taken.
    #[serde(serialize_with = "json::attempt")]
    pub attempt: Attempt,
    /// Its purpose.
    pub kind: Option<CheckpointKind>,
    /// Whether it completed; otherwise it was aborted.
    pub completed: bool,
    /// From the trigger to its end.
    #[serde(serialize_with = "json::ms")]
    pub duration: Duration,
    /// When it ended.
    #[serde(serialize_with = "json::date")]
    pub ended_at: SystemTime,
    /// The subtasks that acknowledged, each with its figures.
    pub acknowledged: Vec<SubtaskStats>,
    /// The subtasks that had not acknowledged when it was aborted.
    pub missing: Vec<String>,
    /// Why it was aborted, in words; `None` if it completed.
    pub cause: Option<String>,
}

impl std::fmt::Display for CheckpointStats {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { checkpoint, completed, missing, cause, .. } = self;
        if *completed {
            return write!(f, "checkpoint {checkpoint} is complete");
        }
        write!(f, "checkpoint {checkpoint} was given up")?;
        if !missing.is_empty() {
            write!(f, ", missing {}", missing.join(", "))?;
        }
        cause.as_ref().map_or(Ok(()), |cause| write!(f, ": {cause}"))
    }
}

impl CheckpointStats {
    /// Bytes written by all subtasks.
    #[must_use]
    pub fn written(&self) -> u64 {
        self.acknowledged.iter().map(|subtask| subtask.written).sum()
    }

    /// Bytes shared with the base by all subtasks.
    #[must_use]
    pub fn reused(&self) -> u64 {
        self.acknowledged.iter().map(|subtask| subtask.reused).sum()
    }
}

/// How far a subtask has come with a checkpoint.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
#[serde(tag = "stage", rename_all = "lowercase")]
#[non_exhaustive]
pub enum SubtaskStage {
    /// Nothing of the checkpoint has arrived here: no barrier, at a source no trigger.
    Waiting,
    /// Barriers have arrived on some of its inputs.
    Aligning {
        /// How long ago the first arrived.
        #[serde(serialize_with = "json::ms")]
        since: Duration,
        /// The subtasks whose barriers have not arrived.
        awaited: Vec<String>,
    },
    /// Its state is captured, its barriers are passed on, and the bytes are being written.
    Writing {
        /// How long ago the state was captured.
        #[serde(serialize_with = "json::ms")]
        since: Duration,
    },
    /// The bytes could not be written: it declines the checkpoint.
    Failed {
        /// How long ago.
        #[serde(serialize_with = "json::ms")]
        since: Duration,
    },
    /// The bytes are durable.
    Written {
        /// How long ago.
        #[serde(serialize_with = "json::ms")]
        since: Duration,
    },
}

/// A checkpoint in flight.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
#[non_exhaustive]
pub struct UnderWayStatus {
    /// The checkpoint.
    pub checkpoint: CheckpointId,
    /// Its purpose.
    pub kind: Option<CheckpointKind>,
    /// How long ago it was triggered.
    #[serde(serialize_with = "json::ms")]
    pub running: Duration,
    /// Subtasks that have acknowledged.
    pub acknowledged: Vec<String>,
    /// Subtasks that have not acknowledged.
    pub missing: Vec<String>,
    /// The progress of each subtask, in the order of [`JobStatus::tasks`].
    pub stages: Vec<SubtaskStage>,
}

/// A failure, and the restart that followed.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
#[non_exhaustive]
pub struct RestartStats {
    /// The attempt that ended.
    #[serde(serialize_with = "json::attempt")]
    pub attempt: Attempt,
    /// The cause, in words.
    pub cause: String,
    /// When.
    #[serde(serialize_with = "json::date")]
    pub at: SystemTime,
    /// How long the job paused before it restored.
    #[serde(serialize_with = "json::ms")]
    pub pause: Duration,
}

/// The restart that a failed job waits for.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
#[non_exhaustive]
pub struct NextTry {
    /// When the job is restored.
    #[serde(serialize_with = "json::date")]
    pub at: SystemTime,
    /// The length of the pause until then.
    #[serde(serialize_with = "json::ms")]
    pub pause: Duration,
    /// The number of the restart, from 1: in this run or, with [`crate::Restart::Exponential`], in
    /// a row.
    pub number: u32,
    /// How many restarts the strategy allows; `None` for no limit.
    pub of: Option<u32>,
    /// Why the job is restarted, in words.
    pub cause: String,
}

impl std::fmt::Display for NextTry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "restart {}", self.number)?;
        self.of.map_or(Ok(()), |of| write!(f, " of {of}"))?;
        write!(f, " in {:.1} s: {}", self.pause.as_secs_f64(), self.cause)
    }
}

/// What a subtask has done in this attempt.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize)]
#[non_exhaustive]
pub struct TaskStatus {
    /// Its name.
    pub subtask: String,
    /// Its operator's name.
    pub operator: String,
    /// Whether it is a sink.
    pub is_sink: bool,
    /// The worker that hosts it: a thread whose subtasks step in turn.
    pub worker: usize,
    /// The subtasks that feed it, by input.
    pub inputs: Vec<String>,
    /// Steps begun plus steps ended: odd during a step. An odd number that stays the same is a long
    /// step: the user's code blocks, and no other subtask of the worker makes progress.
    pub steps: u64,
    /// Whether its output waits for room: its consumer reads too slowly, or not at present.
    pub waits_for_room: bool,
    /// Records read.
    pub records_in: u64,
    /// Records emitted, to all consumers together; of a sink, records written.
    pub records_out: u64,
    /// Records of a timed operator that were late and dropped, in this attempt (SPEC 16.10).
    pub records_late: u64,
    /// Records that a source could not read and skipped as configured, since the job began. The
    /// count is part of its position, so a record that is read again after a failure counts once.
    pub records_malformed: u64,
    /// Bytes that a source has read or a sink has written, if it counts them. Between tasks records
    /// are values in memory and have no size in bytes.
    pub bytes: Option<u64>,
    /// The time it has worked, in this attempt. Not measured in a simulation.
    #[serde(serialize_with = "json::ms")]
    pub busy: Duration,
    /// The time its output has waited for room, in this attempt: back-pressure.
    #[serde(serialize_with = "json::ms")]
    pub waited_for_room: Duration,
    /// Its watermark (SPEC 16.3); `None` before the first.
    pub watermark: Option<Timestamp>,
    /// Of a sink: transactions that are closed and not known to be resolved.
    pub in_doubt: u64,
    /// Of a sink: why the commit under way is retried, in words; `None` if it is not.
    pub commit_failure: Option<String>,
    /// Of a sink: the checkpoint of the newest transaction committed in this run, and how long ago
    /// its barrier was here. Readers do not see later output yet. Of a transaction that an earlier
    /// attempt closed: how long ago it was committed.
    #[serde(serialize_with = "json::committed")]
    pub committed: Option<(CheckpointId, Duration)>,
}

/// A job's state at one moment.
///
/// It can be serialised, for a page or a log of your own. Fields keep their names: fields are
/// added, and none is renamed or removed. Times are numbers of milliseconds, dates are milliseconds
/// since 1970, an attempt is the text `term.number`, a checkpoint a number, and names of phases and
/// kinds are in lower case. A [`SubtaskStage`] has its name in the field `stage`, and
/// [`TaskStatus::committed`] is a pair.
///
/// ```
/// # use snapline::connect::{MemorySink, MemorySource};
/// # use snapline::{Dataflow, JobConfig};
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let flow = Dataflow::new("numbers");
/// # flow.source("numbers", MemorySource::new(vec![1, 2])).sink("out", MemorySink::new());
/// let outcome = flow.build(JobConfig::new().parallelism(1))?.run()?;
/// let json = serde_json::to_value(&outcome.status)?;
/// assert_eq!(json["phase"], "ended");
/// assert_eq!(json["restarts"], 0);
/// assert_eq!(json["tasks"][0]["records_in"], 2);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, Default, Serialize)]
#[non_exhaustive]
pub struct JobStatus {
    /// Its phase.
    pub phase: JobPhase,
    /// Its attempt; `None` before the first.
    #[serde(serialize_with = "json::some_attempt")]
    pub attempt: Option<Attempt>,
    /// The checkpoint the attempt was restored from.
    pub restored_from: Option<CheckpointId>,
    /// How often it was restored after a failure.
    pub restarts: u32,
    /// The last failure, in words: of a task, of an aborted checkpoint, or of the job.
    pub last_failure: Option<String>,
    /// Why the job failed, in words; `None` while it runs, and if it ended well.
    pub failure: Option<String>,
    /// The restart that the job waits for; `None` if it runs.
    pub next_try: Option<NextTry>,
    /// The last restarts, oldest first.
    pub restart_history: Vec<RestartStats>,
    /// The newest complete checkpoint.
    pub newest_checkpoint: Option<CheckpointId>,
    /// The number of completed checkpoints.
    pub completed: u64,
    /// The number of aborted checkpoints.
    pub failed: u64,
    /// How long ago the tasks were first started.
    #[serde(serialize_with = "json::some_ms")]
    pub since_start: Option<Duration>,
    /// How long ago the newest checkpoint of this run completed; if none has, how long ago the
    /// tasks were first started.
    #[serde(serialize_with = "json::some_ms")]
    pub since_checkpoint: Option<Duration>,
    /// Bytes of all blobs in the store at its last cleaning, which follows each complete
    /// checkpoint.
    pub store_bytes: Option<u64>,
    /// Checkpoints in flight.
    pub under_way: Vec<UnderWayStatus>,
    /// Why the run is not, or no longer, recorded although the configuration asks for it.
    pub recording_failed: Option<String>,
    /// The last checkpoints that ended, oldest first.
    pub history: Vec<CheckpointStats>,
    /// The subtasks of the attempt.
    pub tasks: Vec<TaskStatus>,
}

/// A checkpoint in flight, as the driver knows it.
#[derive(Debug)]
pub(crate) struct InFlightCheckpoint {
    pub(crate) status: UnderWayStatus,
    pub(crate) triggered: Option<Instant>,
}

/// Figures of a task's earlier attempts, and the newest transaction they committed.
type Before = (Done, Option<(CheckpointId, Instant)>);

#[derive(Debug, Default)]
struct Board {
    status: JobStatus,
    history: VecDeque<CheckpointStats>,
    restarts: VecDeque<RestartStats>,
    under_way: Vec<InFlightCheckpoint>,
    tasks: Vec<Arc<Gauges>>,
    /// By task.
    before: Vec<Before>,
    /// When the tasks were first started.
    started: Option<Instant>,
    /// When the newest checkpoint completed.
    completed: Option<Instant>,
    clock: Clock,
}

impl Board {
    fn tasks(&self) -> Vec<TaskStatus> {
        let now = self.clock.now();
        let name = |&task: &usize| self.tasks.get(task).map_or(String::new(), |it| it.name.clone());
        let task = |(task, before): (&Arc<Gauges>, &Before)| {
            let done = task.done(now);
            let committed = task.committed().or(before.1);
            let ago = |(checkpoint, then)| (checkpoint, now.saturating_duration_since(then));
            TaskStatus {
                subtask: task.name.clone(),
                operator: task.operator.clone(),
                is_sink: task.sink,
                worker: task.worker,
                inputs: task.feeders.iter().map(name).collect(),
                steps: task.steps.load(Ordering::Relaxed),
                waits_for_room: task.full.load(Ordering::Relaxed),
                records_in: done.records_in,
                records_out: done.records_out,
                records_late: done.records_late,
                records_malformed: task.records_malformed.load(Ordering::Relaxed),
                bytes: done.bytes,
                busy: done.busy,
                waited_for_room: done.waited,
                watermark: task.watermark().map(Timestamp::from_millis),
                in_doubt: task.in_doubt(),
                commit_failure: task.trouble(),
                committed: committed.map(ago),
            }
        };
        self.tasks.iter().zip(&self.before).map(task).collect()
    }

    /// Figures of each task, over all attempts.
    fn done(&self) -> Vec<Done> {
        let now = self.clock.now();
        let done = |(task, before): (&Arc<Gauges>, &Before)| task.done(now).plus(before.0);
        self.tasks.iter().zip(&self.before).map(done).collect()
    }

    fn read(&self) -> JobStatus {
        let mut status = self.status.clone();
        status.history = self.history.iter().cloned().collect();
        status.restart_history = self.restarts.iter().cloned().collect();
        status.under_way = self.under_way();
        status.since_start = self.started.map(|then| self.clock.since(then));
        let since = self.completed.or(self.started);
        status.since_checkpoint = since.map(|then| self.clock.since(then));
        status.tasks = self.tasks();
        status
    }

    fn under_way(&self) -> Vec<UnderWayStatus> {
        let now = self.clock.now();
        let name = |task: usize| self.tasks.get(task).map_or(String::new(), |it| it.name.clone());
        let show = |way: &InFlightCheckpoint| {
            let checkpoint = way.status.checkpoint;
            let stages = self.tasks.iter().map(|task| task.stage(checkpoint, now, &name)).collect();
            let since = |then: Instant| now.saturating_duration_since(then);
            let running = way.triggered.map_or(Duration::ZERO, since);
            UnderWayStatus { running, stages, ..way.status.clone() }
        };
        self.under_way.iter().map(show).collect()
    }
}

/// Keeps the last few.
fn remember<T>(last: &mut VecDeque<T>, newest: T) {
    if last.len() >= HISTORY {
        last.pop_front();
    }
    last.push_back(newest);
}

/// The shared status: the driver writes it, any thread may read it.
#[derive(Clone, Debug, Default)]
pub(crate) struct StatusBoard(Arc<Mutex<Board>>);

impl StatusBoard {
    pub(crate) fn read(&self) -> JobStatus {
        lock(&self.0).read()
    }

    /// The status, and the figures of each task over all attempts.
    #[cfg(feature = "metrics")]
    pub(crate) fn sample(&self) -> (JobStatus, Vec<Done>) {
        let board = lock(&self.0);
        (board.read(), board.done())
    }

    /// The figures of the tasks alone, cheap enough to read often.
    #[cfg(feature = "dashboard")]
    pub(crate) fn tasks(&self) -> (Option<Attempt>, Vec<TaskStatus>) {
        let board = lock(&self.0);
        (board.status.attempt, board.tasks())
    }

    pub(crate) fn update(&self, change: impl FnOnce(&mut JobStatus)) {
        change(&mut lock(&self.0).status);
    }

    /// The clock by which the driver and the tasks measure.
    pub(crate) fn tells_time_by(&self, clock: Clock) {
        lock(&self.0).clock = clock;
    }

    /// Sets the tasks of another attempt. Those of the one before do nothing any more.
    pub(crate) fn hosts(&self, tasks: Vec<Arc<Gauges>>) {
        let mut board = lock(&self.0);
        let now = board.clock.now();
        let committed = board.tasks.iter().zip(&board.before);
        let committed: Vec<_> =
            committed.map(|(task, before)| task.committed().or(before.1)).collect();
        let done = board.done();
        board.before = done.into_iter().zip(committed).collect();
        board.before.resize(tasks.len(), (Done::default(), None));
        board.tasks = tasks;
        board.started.get_or_insert(now);
    }

    /// The threads of the tasks have ended: no time is counted any more, even within a step.
    pub(crate) fn tasks_ended(&self) {
        let board = lock(&self.0);
        let now = board.clock.now();
        board.tasks.iter().for_each(|task| task.stop(now));
    }

    /// The job has ended, and has failed if there is a failure.
    pub(crate) fn over(&self, failure: Option<String>) {
        self.update(|status| {
            (status.phase, status.next_try) = (JobPhase::Ended, None);
            status.last_failure = failure.clone().or(status.last_failure.take());
            status.failure = failure;
        });
    }

    pub(crate) fn under_way(&self, under_way: Vec<InFlightCheckpoint>) {
        lock(&self.0).under_way = under_way;
    }

    pub(crate) fn restarts(&self, stats: RestartStats) {
        let mut board = lock(&self.0);
        board.status.restarts += 1;
        board.status.phase = JobPhase::Restoring;
        remember(&mut board.restarts, stats);
    }

    pub(crate) fn ended(&self, stats: CheckpointStats) {
        let mut board = lock(&self.0);
        match stats.completed {
            true => {
                board.status.completed += 1;
                board.completed = Some(board.clock.now());
            }
            false => board.status.failed += 1,
        }
        remember(&mut board.history, stats);
    }
}
