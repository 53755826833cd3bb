//! A task's metrics while it works: a few atomic stores a batch, one clock reading a turn, and a
//! few fields a barrier. The task alone writes them and any thread reads them; they influence no
//! decision.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use snapline_protocol::ids::CheckpointId;

use crate::base::sync::{AtomicBool, AtomicU64, Mutex, Ordering, lock};
use crate::runtime::status::SubtaskStage;

/// The number of checkpoints whose part it keeps.
const REMEMBERED: usize = 16;

/// A task's part in a checkpoint, so far.
#[derive(Clone, Debug, Default)]
struct CheckpointProgress {
    /// When the first barrier, or a source's trigger, came.
    begun: Option<Instant>,
    /// The inputs whose barrier has arrived.
    arrived: Vec<usize>,
    /// When the state was captured.
    taken: Option<Instant>,
    /// When the bytes were durable, or could not be written.
    written: Option<(Instant, bool)>,
}

/// A task's identity, and its figures in its attempt.
#[derive(Debug, Default)]
pub(crate) struct Gauges {
    pub(crate) name: String,
    pub(crate) operator: String,
    /// The worker that hosts it.
    pub(crate) worker: usize,
    /// Whether it is a sink.
    pub(crate) sink: bool,
    /// The subtasks that feed it, by input.
    pub(crate) feeders: Vec<usize>,
    pub(crate) records_in: AtomicU64,
    pub(crate) records_out: AtomicU64,
    pub(crate) records_late: AtomicU64,
    pub(crate) records_malformed: AtomicU64,
    /// Steps begun and ended: odd during a step.
    pub(crate) steps: AtomicU64,
    /// Whether its output waits for room.
    pub(crate) full: AtomicBool,
    /// Bytes read by a source or written by a sink that counts them, plus one; 0 if not counted.
    bytes: AtomicU64,
    /// Its watermark in milliseconds, as the bits of an `i64`.
    watermark: AtomicU64,
    /// The time it has worked.
    busy: Lapse,
    /// The time its output has waited for room.
    waited: Lapse,
    /// Transactions that are closed and not known to be resolved.
    in_doubt: AtomicU64,
    /// How many transactions were committed, the newest of them, and when its barrier was here.
    committed: Mutex<(u64, Option<(CheckpointId, Instant)>)>,
    /// Why the commit under way is retried.
    trouble: Mutex<Option<String>>,
    /// When it was made: times are measured from then.
    origin: Option<Instant>,
    parts: Mutex<BTreeMap<CheckpointId, CheckpointProgress>>,
}

/// The total time in a state. It has one writer. Both fields are in nanoseconds.
#[derive(Debug, Default)]
struct Lapse {
    whole: AtomicU64,
    /// When the state was entered, from the origin, plus one; 0 outside the state.
    since: AtomicU64,
}

impl Lapse {
    /// Enters the state.
    fn begin(&self, now: u64) {
        self.since.store(now.saturating_add(1), Ordering::Relaxed);
    }

    /// Leaves the state; the flag says whether the time since its start counts.
    fn end(&self, now: u64, counts: bool) {
        let since = self.since.load(Ordering::Relaxed);
        if counts && since > 0 {
            let lapsed = now.saturating_sub(since - 1);
            let whole = self.whole.load(Ordering::Relaxed);
            self.whole.store(whole.saturating_add(lapsed), Ordering::Relaxed);
        }
        self.since.store(0, Ordering::Relaxed);
    }

    /// The total until now. Read while the state ends, it may be off by the last period.
    fn read(&self, now: u64) -> Duration {
        let since = self.since.load(Ordering::Relaxed);
        let open = if since > 0 { now.saturating_sub(since - 1) } else { 0 };
        Duration::from_nanos(self.whole.load(Ordering::Relaxed).saturating_add(open))
    }
}

/// A task's figures in its attempt, and the times in each state.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Done {
    pub(crate) records_in: u64,
    pub(crate) records_out: u64,
    pub(crate) records_late: u64,
    pub(crate) bytes: Option<u64>,
    pub(crate) busy: Duration,
    pub(crate) waited: Duration,
    pub(crate) commits: u64,
}

impl Done {
    /// Adds the figures of earlier attempts.
    pub(crate) fn plus(self, before: Self) -> Self {
        Self {
            records_in: self.records_in + before.records_in,
            records_out: self.records_out + before.records_out,
            records_late: self.records_late + before.records_late,
            bytes: match (self.bytes, before.bytes) {
                (None, None) => None,
                (one, other) => Some(one.unwrap_or(0) + other.unwrap_or(0)),
            },
            busy: self.busy + before.busy,
            waited: self.waited + before.waited,
            commits: self.commits + before.commits,
        }
    }
}

impl Gauges {
    pub(crate) fn new(
        name: String,
        operator: String,
        worker: usize,
        feeders: Vec<usize>,
        now: Instant,
    ) -> Self {
        let none = AtomicU64::new(i64::MIN as u64);
        let (origin, watermark) = (Some(now), none);
        Self { name, operator, worker, feeders, origin, watermark, ..Self::default() }
    }

    /// Nanoseconds from the origin.
    fn nanos(&self, now: Instant) -> u64 {
        let lapsed = self.origin.map(|origin| now.saturating_duration_since(origin));
        lapsed.map_or(0, |lapsed| u64::try_from(lapsed.as_nanos()).unwrap_or(u64::MAX))
    }

    /// Its turn begins.
    pub(crate) fn turn_begins(&self, now: Instant) {
        self.busy.begin(self.nanos(now));
    }

    /// Its turn ends; the flag says whether it has worked.
    pub(crate) fn turn_ends(&self, now: Instant, worked: bool) {
        self.busy.end(self.nanos(now), worked);
    }

    /// A step begins, or ends. One writer: a plain addition, published.
    pub(crate) fn step(&self) {
        let before = self.steps.load(Ordering::Relaxed);
        self.steps.store(before.wrapping_add(1), Ordering::Relaxed);
    }

    /// Steps begun and ended.
    pub(crate) fn steps(&self) -> u64 {
        self.steps.load(Ordering::Relaxed)
    }

    /// Whether a step is under way.
    pub(crate) fn is_stepping(&self) -> bool {
        !self.steps().is_multiple_of(2)
    }

    /// Whether the step that was under way at this count still is.
    pub(crate) fn is_still_in(&self, steps: u64) -> bool {
        self.is_stepping() && self.steps() == steps
    }

    /// The task has stopped, and its thread no longer writes here.
    pub(crate) fn stop(&self, now: Instant) {
        self.turn_ends(now, true);
        self.waits(false, || now);
    }

    /// Whether its output waits for room. The clock is read only when that changes.
    pub(crate) fn waits(&self, for_room: bool, now: impl FnOnce() -> Instant) {
        if self.full.load(Ordering::Relaxed) != for_room {
            self.full.store(for_room, Ordering::Relaxed);
            match for_room {
                true => self.waited.begin(self.nanos(now())),
                false => self.waited.end(self.nanos(now()), true),
            }
        }
    }

    /// Adds records that were read; sets the totals of those emitted, late, and skipped as
    /// unreadable.
    pub(crate) fn count(&self, read: u64, sent: u64, late: u64, malformed: u64) {
        let before = self.records_in.load(Ordering::Relaxed);
        self.records_in.store(before + read, Ordering::Relaxed);
        self.records_out.store(sent, Ordering::Relaxed);
        self.records_late.store(late, Ordering::Relaxed);
        self.records_malformed.store(malformed, Ordering::Relaxed);
    }

    /// Sets the bytes read or written so far, if counted, and the watermark, if there is one.
    pub(crate) fn notes(&self, bytes: Option<u64>, watermark: Option<i64>) {
        if let Some(bytes) = bytes {
            self.bytes.store(bytes.saturating_add(1), Ordering::Relaxed);
        }
        if let Some(watermark) = watermark {
            self.watermark.store(watermark as u64, Ordering::Relaxed);
        }
    }

    /// How many transactions are closed and not known to be resolved.
    pub(crate) fn doubts(&self, transactions: usize) {
        self.in_doubt.store(transactions as u64, Ordering::Relaxed);
    }

    /// A transaction was committed. If an earlier attempt closed it, that time is unknown: it
    /// counts from now.
    pub(crate) fn commits(&self, checkpoint: CheckpointId, now: Instant) {
        let taken = lock(&self.parts).get(&checkpoint).and_then(|part| part.taken);
        let mut committed = lock(&self.committed);
        *committed = (committed.0 + 1, Some((checkpoint, taken.unwrap_or(now))));
    }

    /// Why the commit under way is retried; `None` if it is not.
    pub(crate) fn troubles(&self, trouble: Option<String>) {
        *lock(&self.trouble) = trouble;
    }

    /// Why the commit under way is retried.
    pub(crate) fn trouble(&self) -> Option<String> {
        lock(&self.trouble).clone()
    }

    /// How many transactions are closed and not known to be resolved.
    pub(crate) fn in_doubt(&self) -> u64 {
        self.in_doubt.load(Ordering::Relaxed)
    }

    /// The newest transaction that was committed, and when its barrier was here.
    pub(crate) fn committed(&self) -> Option<(CheckpointId, Instant)> {
        lock(&self.committed).1
    }

    /// Its watermark, in milliseconds.
    pub(crate) fn watermark(&self) -> Option<i64> {
        let watermark = self.watermark.load(Ordering::Relaxed) as i64;
        (watermark > i64::MIN).then_some(watermark)
    }

    /// Its figures until now.
    pub(crate) fn done(&self, now: Instant) -> Done {
        let now = self.nanos(now);
        Done {
            records_in: self.records_in.load(Ordering::Relaxed),
            records_out: self.records_out.load(Ordering::Relaxed),
            records_late: self.records_late.load(Ordering::Relaxed),
            bytes: self.bytes.load(Ordering::Relaxed).checked_sub(1),
            busy: self.busy.read(now),
            waited: self.waited.read(now),
            commits: lock(&self.committed).0,
        }
    }

    fn part(&self, checkpoint: CheckpointId, change: impl FnOnce(&mut CheckpointProgress)) {
        let mut parts = lock(&self.parts);
        change(parts.entry(checkpoint).or_default());
        while parts.len() > REMEMBERED {
            parts.pop_first();
        }
    }

    /// A barrier has arrived on an input; at a source, the trigger.
    pub(crate) fn arrived(&self, checkpoint: CheckpointId, input: Option<usize>, now: Instant) {
        self.part(checkpoint, |part| {
            part.begun.get_or_insert(now);
            part.arrived.extend(input);
        });
    }

    /// The state was captured.
    pub(crate) fn taken(&self, checkpoint: CheckpointId, now: Instant) {
        self.part(checkpoint, |part| part.taken = Some(now));
    }

    /// The bytes are durable, or could not be written.
    pub(crate) fn written(&self, checkpoint: CheckpointId, durable: bool, now: Instant) {
        self.part(checkpoint, |part| part.written = Some((now, durable)));
    }

    /// Its progress with a checkpoint. `name` has the names of subtasks.
    pub(crate) fn stage(
        &self,
        checkpoint: CheckpointId,
        now: Instant,
        name: &dyn Fn(usize) -> String,
    ) -> SubtaskStage {
        let part = lock(&self.parts).get(&checkpoint).cloned().unwrap_or_default();
        let ago = |then: Instant| -> Duration { now.saturating_duration_since(then) };
        match part {
            CheckpointProgress { written: Some((then, true)), .. } => {
                SubtaskStage::Written { since: ago(then) }
            }
            CheckpointProgress { written: Some((then, false)), .. } => {
                SubtaskStage::Failed { since: ago(then) }
            }
            CheckpointProgress { taken: Some(then), .. } => {
                SubtaskStage::Writing { since: ago(then) }
            }
            CheckpointProgress { begun: Some(then), arrived, .. } => {
                let awaited = self.feeders.iter().enumerate();
                let awaited = awaited.filter(|(input, _)| !arrived.contains(input));
                let mut awaited: Vec<String> = awaited.map(|(_, &feeder)| name(feeder)).collect();
                awaited.dedup();
                SubtaskStage::Aligning { since: ago(then), awaited }
            }
            CheckpointProgress { .. } => SubtaskStage::Waiting,
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
        let (one, start) = (checkpoint(1), Instant::now());
        let task = Gauges::new("sum".into(), "sum".into(), 0, vec![4, 5], start);
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

    #[test]
    fn time_adds_up_while_it_is_so_and_is_seen_before_it_ends() {
        let start = Instant::now();
        let task = Gauges::new("sum".into(), "sum".into(), 0, Vec::new(), start);
        let at = |seconds: u32| start + SECOND * seconds;
        let busy = |seconds| task.done(at(seconds)).busy.as_secs();
        task.turn_begins(at(0));
        assert_eq!(busy(3), 3, "a turn that takes long is seen while it does");
        task.turn_ends(at(4), true);
        assert_eq!(busy(9), 4);
        task.turn_begins(at(10));
        task.turn_ends(at(20), false);
        assert_eq!(busy(30), 4, "a turn without work does not count");
        task.turn_begins(at(30));
        task.turn_ends(at(32), true);
        assert_eq!(busy(40), 6);

        let waited = |seconds| task.done(at(seconds)).waited.as_secs();
        task.waits(false, || panic!("nothing changes"));
        task.waits(true, || at(1));
        task.waits(true, || panic!("nothing changes"));
        assert_eq!(waited(5), 4);
        task.waits(false, || at(7));
        assert_eq!(waited(50), 6);
    }

    #[test]
    fn commits_are_as_old_as_their_barriers() {
        let start = Instant::now();
        let task = Gauges::new("out".into(), "out".into(), 0, Vec::new(), start);
        assert_eq!((task.committed(), task.watermark()), (None, None));
        task.taken(checkpoint(3), start + SECOND);
        task.commits(checkpoint(3), start + 5 * SECOND);
        assert_eq!(task.committed(), Some((checkpoint(3), start + SECOND)));
        // Of an earlier attempt.
        task.commits(checkpoint(2), start + 6 * SECOND);
        assert_eq!(task.committed(), Some((checkpoint(2), start + 6 * SECOND)));
        task.notes(None, None);
        assert_eq!(task.done(start).bytes, None);
        task.notes(Some(0), Some(-5));
        let done = task.done(start);
        assert_eq!((done.bytes, done.commits, task.watermark()), (Some(0), 2, Some(-5)));
        let before = Done { bytes: None, commits: 4, ..Done::default() };
        assert_eq!((done.plus(before).bytes, done.plus(before).commits), (Some(0), 6));
    }
}
