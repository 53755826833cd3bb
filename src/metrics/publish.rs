//! Publishes a job's status as figures at intervals, off the path of records, which do nothing for
//! it.

use std::collections::BTreeMap;
use std::time::{Duration, Instant, SystemTime};

use metrics::{Key, KeyName, Label, Level, Metadata, Recorder};

use super::figures::{self, FIGURES, Figure, MetricKind};
use crate::base::clock;
use crate::base::panic::guarded;
use crate::base::sync::{Arc, AtomicBool, Ordering, Parker, Unparker, nap, thread};
use crate::base::watch;
use crate::runtime::status::{CheckpointStats, JobPhase, JobStatus, StatusBoard, TaskStatus};
use crate::runtime::task_metrics::Done;

/// How long the last figures of a job may take.
const LAST: Duration = Duration::from_secs(10);

static METADATA: Metadata<'static> =
    Metadata::new("snapline", Level::INFO, Some("snapline::metrics"));

/// Publishes the figures of a job.
pub(super) struct Sampler {
    job: Arc<str>,
    board: StatusBoard,
    /// The last published value of each counter, from which the increase is computed.
    counted: BTreeMap<(&'static str, usize), u64>,
    /// The number of ended checkpoints that were published.
    told: u64,
    /// When figures were last published, and the tasks' figures then.
    last: Option<(Instant, Vec<Done>)>,
}

impl Sampler {
    pub(super) fn new(job: &str, board: StatusBoard) -> Self {
        let (counted, told, last) = (BTreeMap::new(), 0, None);
        Self { job: job.into(), board, counted, told, last }
    }

    /// Publishes the current figures.
    pub(super) fn publish(&mut self, recorder: &dyn Recorder) {
        let (status, done) = self.board.sample();
        describe(recorder);
        let now = Instant::now();
        let job = vec![Label::new("job", Arc::clone(&self.job))];
        self.job(recorder, &status, &job);
        let mut subtasks: BTreeMap<&str, u64> = BTreeMap::new();
        for (place, task) in status.tasks.iter().enumerate() {
            let index = subtasks.entry(&task.operator).or_default();
            let mut labels = job.clone();
            labels.push(Label::new("operator", task.operator.clone()));
            labels.push(Label::new("subtask", index.to_string()));
            *index += 1;
            self.task(recorder, (place, &labels), task, &done[place], now);
            if let (Some(since), true) = (status.since_start, task.is_sink) {
                let age = task.committed.map_or(since, |(_, ago)| ago);
                gauge(recorder, figures::COMMITTED_AGE, &labels, age.as_secs_f64());
            }
            let newest = status.history.iter().rev().find_map(|checkpoint| {
                checkpoint.acknowledged.iter().find(|part| part.subtask == task.subtask)
            });
            let Some(part) = newest else { continue };
            for (phase, time) in [
                ("start_delay", part.start_delay),
                ("alignment", part.alignment),
                ("sync", part.sync),
                ("async", part.writing),
            ] {
                let mut labels = labels.clone();
                labels.push(Label::new("phase", phase));
                gauge(recorder, figures::PHASE, &labels, time.as_secs_f64());
            }
        }
        self.last = Some((now, done));
    }

    fn job(&mut self, recorder: &dyn Recorder, status: &JobStatus, labels: &[Label]) {
        let running = f64::from(u8::from(status.phase == JobPhase::Running));
        gauge(recorder, figures::RUNNING, labels, running);
        self.count(recorder, figures::RESTARTS, 0, labels, u64::from(status.restarts));
        self.count(recorder, figures::COMPLETED, 0, labels, status.completed);
        self.count(recorder, figures::FAILED, 0, labels, status.failed);
        gauge(recorder, figures::UNDER_WAY, labels, status.under_way.len() as f64);
        let oldest = status.under_way.iter().map(|way| way.running).max().unwrap_or_default();
        gauge(recorder, figures::UNDER_WAY_FOR, labels, oldest.as_secs_f64());
        let newest = status.newest_checkpoint.map_or(0, |checkpoint| checkpoint.get());
        gauge(recorder, figures::NEWEST, labels, newest as f64);
        if let Some(age) = status.since_checkpoint {
            gauge(recorder, figures::AGE, labels, age.as_secs_f64());
        }
        if let Some(bytes) = status.store_bytes {
            gauge(recorder, figures::STORE, labels, bytes as f64);
        }
        let ended = status.completed + status.failed;
        // The history has the last few. If more have ended since, those in between are in the
        // counters alone.
        let new = usize::try_from(ended - self.told).unwrap_or(usize::MAX);
        let known = status.history.len();
        let new = &status.history[known - new.min(known)..];
        self.told = ended;
        let sum = |of: fn(&CheckpointStats) -> u64| new.iter().map(of).sum::<u64>();
        add(recorder, figures::WRITTEN, labels, sum(CheckpointStats::written));
        add(recorder, figures::REUSED, labels, sum(CheckpointStats::reused));
        for stats in new {
            let mut labels = labels.to_vec();
            let result = if stats.completed { "completed" } else { "failed" };
            labels.push(Label::new("result", result));
            let key = Key::from_parts(figures::DURATION.name, labels);
            let histogram = recorder.register_histogram(&key, &METADATA);
            histogram.record(stats.duration.as_secs_f64());
        }
    }

    fn task(
        &mut self,
        recorder: &dyn Recorder,
        (place, labels): (usize, &[Label]),
        task: &TaskStatus,
        done: &Done,
        now: Instant,
    ) {
        let mut count = |figure, value: u64| self.count(recorder, figure, place, labels, value);
        count(figures::RECORDS_IN, done.records_in);
        count(figures::RECORDS_OUT, done.records_out);
        count(figures::RECORDS_LATE, done.records_late);
        if task.inputs.is_empty() {
            count(figures::RECORDS_MALFORMED, task.records_malformed);
        }
        if let Some(bytes) = done.bytes {
            let figure = if task.is_sink { figures::BYTES_OUT } else { figures::BYTES_IN };
            count(figure, bytes);
        }
        let millis = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        count(figures::BUSY, millis(done.busy));
        count(figures::WAITED, millis(done.waited));
        if task.is_sink {
            count(figures::COMMITS, done.commits);
            gauge(recorder, figures::IN_DOUBT, labels, task.in_doubt as f64);
        }
        if let Some((then, before)) = &self.last
            && let Some(before) = before.get(place)
        {
            let seconds = now.saturating_duration_since(*then).as_secs_f64();
            let rate = |now: Duration, before: Duration| {
                let millis = now.saturating_sub(before).as_secs_f64() * 1e3;
                if seconds > 0.0 { (millis / seconds).min(1e3) } else { 0.0 }
            };
            gauge(recorder, figures::BUSY_RATE, labels, rate(done.busy, before.busy));
            gauge(recorder, figures::WAITED_RATE, labels, rate(done.waited, before.waited));
        }
        if let Some(watermark) = task.watermark {
            let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
            let clock = since.map_or(0.0, |since| since.as_secs_f64());
            gauge(recorder, figures::LAG, labels, clock - watermark.millis() as f64 / 1e3);
        }
    }

    /// Sets a counter to this value.
    fn count(
        &mut self,
        recorder: &dyn Recorder,
        figure: Figure,
        place: usize,
        labels: &[Label],
        value: u64,
    ) {
        let before = self.counted.entry((figure.name, place)).or_default();
        // Read while it changes, a time may be short by a little.
        let more = value.saturating_sub(*before);
        *before += more;
        add(recorder, figure, labels, more);
    }
}

fn add(recorder: &dyn Recorder, figure: Figure, labels: &[Label], more: u64) {
    let key = Key::from_parts(figure.name, labels.to_vec());
    recorder.register_counter(&key, &METADATA).increment(more);
}

fn gauge(recorder: &dyn Recorder, figure: Figure, labels: &[Label], value: f64) {
    let key = Key::from_parts(figure.name, labels.to_vec());
    recorder.register_gauge(&key, &METADATA).set(value);
}

fn describe(recorder: &dyn Recorder) {
    for Figure { name, kind, unit, what, .. } in FIGURES {
        let (name, unit, what) = (KeyName::from_const_str(name), Some(*unit), (*what).into());
        match kind {
            MetricKind::Counter => recorder.describe_counter(name, unit, what),
            MetricKind::Gauge => recorder.describe_gauge(name, unit, what),
            MetricKind::Histogram => recorder.describe_histogram(name, unit, what),
        }
    }
}

/// Publishes a job's figures at intervals, on a thread of its own; once more when it is dropped.
pub(crate) struct Publishing {
    over: Arc<AtomicBool>,
    waker: Unparker,
    thread: Option<thread::JoinHandle<()>>,
}

impl Publishing {
    /// # Errors
    /// If the operating system cannot start a thread.
    pub(crate) fn start(job: &str, board: StatusBoard, every: Duration) -> std::io::Result<Self> {
        let mut sampler = Sampler::new(job, board);
        let (over, parker) = (Arc::new(AtomicBool::new(false)), Parker::new());
        let (ended, waker) = (Arc::clone(&over), parker.unparker().clone());
        let run = move || {
            loop {
                let last = ended.load(Ordering::Acquire);
                let published = guarded(|| {
                    metrics::with_recorder(|recorder| sampler.publish(recorder));
                    Ok(())
                });
                if let Err(what) = published {
                    tracing::error!(
                        target: "snapline::job",
                        %what, "the job's metrics are no longer published"
                    );
                    return;
                }
                if last {
                    return;
                }
                let next = clock::after(Instant::now(), every);
                while !ended.load(Ordering::Acquire) && Instant::now() < next {
                    parker.park_deadline(next);
                }
            }
        };
        let thread = thread::Builder::new().name("snapline-metrics".to_owned()).spawn(run)?;
        Ok(Self { over, waker, thread: Some(thread) })
    }
}

impl Drop for Publishing {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Release);
        self.waker.unpark();
        if let Some(thread) = self.thread.take() {
            // A recorder that hangs is left.
            let until = Instant::now() + LAST;
            while !thread.is_finished() && Instant::now() < until {
                watch::beat();
                nap(Duration::from_millis(1));
            }
            if thread.is_finished() {
                let _ = thread.join();
            } else {
                tracing::error!(
                    target: "snapline::job",
                    "the metrics recorder hangs; the last metrics are missing"
                );
            }
        }
    }
}
