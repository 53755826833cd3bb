//! What a job is doing, for whoever looks.

use std::collections::VecDeque;
use std::time::{Duration, SystemTime};

use snapline_protocol::ids::{Attempt, CheckpointId};
use snapline_protocol::message::CheckpointKind;

use super::task::Counters;
use crate::sync::{Arc, Mutex, Ordering, lock};

/// How many past checkpoints a status remembers.
const HISTORY: usize = 64;

/// Where a job stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[non_exhaustive]
pub enum JobPhase {
    /// Claiming its store, or reading what to start from.
    #[default]
    Starting,
    /// Processing records.
    Running,
    /// Restoring after a failure.
    Restoring,
    /// The checkpoint that ends it is complete; commits are being finished.
    Closing,
    /// Over.
    Ended,
}

/// One subtask's part in a checkpoint.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SubtaskStats {
    /// The subtask's name.
    pub subtask: String,
    /// From the trigger to its first barrier.
    pub start_delay: Duration,
    /// From its first barrier to its last.
    pub alignment: Duration,
    /// How long records waited while the state was taken.
    pub sync: Duration,
    /// How long the bytes took to be durable, behind its back.
    pub writing: Duration,
    /// Bytes written.
    pub written: u64,
    /// Bytes shared with the base, not written again.
    pub reused: u64,
}

/// How a checkpoint went.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct CheckpointStats {
    /// The checkpoint.
    pub checkpoint: CheckpointId,
    /// The attempt it was taken in.
    pub attempt: Attempt,
    /// What it was taken for.
    pub kind: Option<CheckpointKind>,
    /// Whether it completed; otherwise it was given up.
    pub completed: bool,
    /// From the trigger to its end.
    pub duration: Duration,
    /// When it ended.
    pub ended_at: SystemTime,
    /// Those who acknowledged, each with its figures.
    pub acknowledged: Vec<SubtaskStats>,
    /// Those who had not when it was given up.
    pub missing: Vec<String>,
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

/// A checkpoint under way.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct UnderWayStatus {
    /// The checkpoint.
    pub checkpoint: CheckpointId,
    /// Subtasks that have acknowledged.
    pub acknowledged: Vec<String>,
    /// Subtasks that have not.
    pub missing: Vec<String>,
}

/// What a subtask has done in this attempt.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TaskStatus {
    /// Its name.
    pub subtask: String,
    /// Records read.
    pub records_in: u64,
    /// Records sent on, to all consumers together; of a sink, records written.
    pub records_out: u64,
    /// Records of a timed operator that came too late and were dropped, in this attempt (SPEC 16.10).
    pub records_late: u64,
}

/// A job's state at one moment.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct JobStatus {
    /// Where it stands.
    pub phase: JobPhase,
    /// Its attempt; `None` before the first.
    pub attempt: Option<Attempt>,
    /// The checkpoint the attempt was restored from.
    pub restored_from: Option<CheckpointId>,
    /// How often it was restored after a failure.
    pub restarts: u32,
    /// The last failure, in words.
    pub last_failure: Option<String>,
    /// The newest complete checkpoint.
    pub newest_checkpoint: Option<CheckpointId>,
    /// How many checkpoints were completed.
    pub completed: u64,
    /// How many were given up.
    pub failed: u64,
    /// Checkpoints under way.
    pub under_way: Vec<UnderWayStatus>,
    /// Why the run is not recorded (any more), though it was to be.
    pub recording_failed: Option<String>,
    /// The last checkpoints that ended, oldest first.
    pub history: Vec<CheckpointStats>,
    /// The subtasks of the attempt.
    pub tasks: Vec<TaskStatus>,
}

#[derive(Debug, Default)]
struct Board {
    status: JobStatus,
    history: VecDeque<CheckpointStats>,
    counters: Vec<(String, Arc<Counters>)>,
}

/// Where the driver writes and everybody reads.
#[derive(Clone, Debug, Default)]
pub(crate) struct StatusBoard(Arc<Mutex<Board>>);

impl StatusBoard {
    pub(crate) fn read(&self) -> JobStatus {
        let board = lock(&self.0);
        let mut status = board.status.clone();
        status.history = board.history.iter().cloned().collect();
        let task = |(name, counters): &(String, Arc<Counters>)| TaskStatus {
            subtask: name.clone(),
            records_in: counters.records_in.load(Ordering::Relaxed),
            records_out: counters.records_out.load(Ordering::Relaxed),
            records_late: counters.records_late.load(Ordering::Relaxed),
        };
        status.tasks = board.counters.iter().map(task).collect();
        status
    }

    pub(crate) fn update(&self, change: impl FnOnce(&mut JobStatus)) {
        change(&mut lock(&self.0).status);
    }

    pub(crate) fn hosts(&self, counters: Vec<(String, Arc<Counters>)>) {
        lock(&self.0).counters = counters;
    }

    pub(crate) fn ended(&self, stats: CheckpointStats) {
        let mut board = lock(&self.0);
        match stats.completed {
            true => board.status.completed += 1,
            false => board.status.failed += 1,
        }
        if board.history.len() >= HISTORY {
            board.history.pop_front();
        }
        board.history.push_back(stats);
    }
}
