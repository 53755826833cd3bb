//! What a task tells of itself while it works: two atomic additions a batch, and a few words a barrier. Written by the task alone, read by
//! whoever looks; nothing is decided by it.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use snapline_protocol::ids::CheckpointId;

use super::status::SubtaskStage;
use crate::sync::{AtomicBool, AtomicU64, Mutex, Ordering, lock};

/// How many checkpoints it remembers its part in.
const REMEMBERED: usize = 16;

/// A task's part in a checkpoint, so far.
#[derive(Clone, Debug, Default)]
struct Part {
    /// When the first barrier, or a source's trigger, came.
    begun: Option<Instant>,
    /// The inputs whose barrier has come.
    arrived: Vec<usize>,
    /// When the state was taken.
    taken: Option<Instant>,
    /// When the bytes were durable, or could not be written.
    written: Option<(Instant, bool)>,
}

/// Who a task is, and what it has done in its attempt.
#[derive(Debug, Default)]
pub(crate) struct Gauges {
    pub(super) name: String,
    pub(super) operator: String,
    /// The worker that hosts it.
    pub(super) worker: usize,
    /// The subtasks that feed it, by input.
    pub(super) feeders: Vec<usize>,
    pub(super) records_in: AtomicU64,
    pub(super) records_out: AtomicU64,
    pub(super) records_late: AtomicU64,
    pub(super) records_malformed: AtomicU64,
    /// Steps begun and ended: odd while one is being taken.
    pub(super) steps: AtomicU64,
    /// Whether its output waits for room.
    pub(super) full: AtomicBool,
    parts: Mutex<BTreeMap<CheckpointId, Part>>,
}

impl Gauges {
    pub(super) fn new(name: String, operator: String, worker: usize, feeders: Vec<usize>) -> Self {
        Self { name, operator, worker, feeders, ..Self::default() }
    }

    /// A step begins, or ends. One writer: a plain addition, published.
    pub(super) fn step(&self) {
        let before = self.steps.load(Ordering::Relaxed);
        self.steps.store(before.wrapping_add(1), Ordering::Relaxed);
    }

    /// Whether its output waits for room.
    pub(super) fn waits(&self, for_room: bool) {
        if self.full.load(Ordering::Relaxed) != for_room {
            self.full.store(for_room, Ordering::Relaxed);
        }
    }

    /// So many records more were read; so many in all were sent on, came too late, and could not be read.
    pub(super) fn count(&self, read: u64, sent: u64, late: u64, malformed: u64) {
        let before = self.records_in.load(Ordering::Relaxed);
        self.records_in.store(before + read, Ordering::Relaxed);
        self.records_out.store(sent, Ordering::Relaxed);
        self.records_late.store(late, Ordering::Relaxed);
        self.records_malformed.store(malformed, Ordering::Relaxed);
    }

    fn part(&self, checkpoint: CheckpointId, change: impl FnOnce(&mut Part)) {
        let mut parts = lock(&self.parts);
        change(parts.entry(checkpoint).or_default());
        while parts.len() > REMEMBERED {
            parts.pop_first();
        }
    }

    /// A barrier has come on an input; of a source, the trigger.
    pub(super) fn arrived(&self, checkpoint: CheckpointId, input: Option<usize>, now: Instant) {
        self.part(checkpoint, |part| {
            part.begun.get_or_insert(now);
            part.arrived.extend(input);
        });
    }

    /// The state was taken.
    pub(super) fn taken(&self, checkpoint: CheckpointId, now: Instant) {
        self.part(checkpoint, |part| part.taken = Some(now));
    }

    /// The bytes are durable, or could not be written.
    pub(super) fn written(&self, checkpoint: CheckpointId, durable: bool, now: Instant) {
        self.part(checkpoint, |part| part.written = Some((now, durable)));
    }

    /// How far it has come with a checkpoint. `name` has the names of subtasks.
    pub(super) fn stage(
        &self,
        checkpoint: CheckpointId,
        now: Instant,
        name: &dyn Fn(usize) -> String,
    ) -> SubtaskStage {
        let part = lock(&self.parts).get(&checkpoint).cloned().unwrap_or_default();
        let ago = |then: Instant| -> Duration { now.saturating_duration_since(then) };
        match part {
            Part { written: Some((then, true)), .. } => SubtaskStage::Written { since: ago(then) },
            Part { written: Some((then, false)), .. } => SubtaskStage::Failed { since: ago(then) },
            Part { taken: Some(then), .. } => SubtaskStage::Writing { since: ago(then) },
            Part { begun: Some(then), arrived, .. } => {
                let awaited = self.feeders.iter().enumerate();
                let awaited = awaited.filter(|(input, _)| !arrived.contains(input));
                let mut awaited: Vec<String> = awaited.map(|(_, &feeder)| name(feeder)).collect();
                awaited.dedup();
                SubtaskStage::Aligning { since: ago(then), awaited }
            }
            Part { .. } => SubtaskStage::Waiting,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn checkpoint(number: u64) -> CheckpointId {
        CheckpointId::new(number).expect("not 0")
    }

    #[test]
    fn a_part_goes_through_its_stages() {
        let task = Gauges::new("sum".into(), "sum".into(), 0, vec![4, 5]);
        let (one, start) = (checkpoint(1), Instant::now());
        let name = |subtask: usize| format!("in/{subtask}");
        let stage = |after: u32| task.stage(one, start + SECOND * after, &name);
        assert_eq!(stage(0), SubtaskStage::Waiting);
        task.arrived(one, Some(1), start);
        let awaited = vec!["in/4".to_owned()];
        assert_eq!(stage(3), SubtaskStage::Aligning { since: 3 * SECOND, awaited });
        task.arrived(one, Some(0), start + SECOND);
        task.taken(one, start + SECOND);
        assert_eq!(stage(3), SubtaskStage::Writing { since: 2 * SECOND });
        task.written(one, true, start + 2 * SECOND);
        assert_eq!(stage(3), SubtaskStage::Written { since: SECOND });
        task.written(one, false, start + 2 * SECOND);
        assert_eq!(stage(3), SubtaskStage::Failed { since: SECOND });
        for number in 2..100 {
            task.arrived(checkpoint(number), None, start);
        }
        assert_eq!(lock(&task.parts).len(), REMEMBERED, "what is old is forgotten");
    }

    #[test]
    fn steps_are_odd_while_one_is_taken() {
        let task = Gauges::default();
        task.step();
        assert_eq!(task.steps.load(Ordering::Relaxed) % 2, 1);
        task.step();
        task.count(5, 7, 0, 0);
        task.count(2, 9, 0, 0);
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        assert_eq!((read(&task.steps), read(&task.records_in), read(&task.records_out)), (2, 7, 9));
    }
}
