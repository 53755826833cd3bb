//! Metrics published and rendered for a job that runs, restarts and is blocked.

mod bytes;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use metrics::{Counter, Gauge, Histogram, Key, KeyName, Metadata, Recorder, SharedString, Unit};
use snapline::connect::{FileSink, FileSource, ForEach, Generator, MemorySink};
use snapline::metrics::{Prometheus, reference};
use snapline::{BoxError, Dataflow, Emit, JobConfig, JobHandle, Restart, Timestamp, Watermarks};

/// One line of the text: its name, labels and value.
type Line = (String, BTreeMap<String, String>, f64);

/// Parses the text strictly, as Prometheus does.
fn parse(text: &str) -> Vec<Line> {
    let mut lines = Vec::new();
    let mut types = BTreeSet::new();
    for line in text.lines().filter(|line| !line.is_empty()) {
        if let Some(comment) = line.strip_prefix("# ") {
            let mut words = comment.splitn(3, ' ');
            let (what, name) = (words.next(), words.next().expect("a name"));
            assert!(matches!(what, Some("HELP" | "TYPE")), "{line}");
            assert!(what != Some("TYPE") || types.insert(name.to_owned()), "twice: {line}");
            continue;
        }
        let (mut labels, mut rest) = (BTreeMap::new(), line);
        let end = rest.find(['{', ' ']).expect("a value");
        let name = rest[..end].to_owned();
        rest = &rest[end..];
        if let Some(inside) = rest.strip_prefix('{') {
            rest = inside;
            loop {
                let (key, after) = rest.split_once("=\"").expect("a label");
                let (mut value, mut chars) = (String::new(), after.char_indices());
                let close = loop {
                    match chars.next().expect("a quote closes it") {
                        (at, '"') => break at,
                        (_, '\\') => value.push(match chars.next().expect("an escape").1 {
                            'n' => '\n',
                            other @ ('"' | '\\') => other,
                            other => panic!("\\{other} in {line}"),
                        }),
                        (_, other) => value.push(other),
                    }
                };
                assert!(labels.insert(key.to_owned(), value).is_none(), "{line}");
                rest = &after[close + 1..];
                match rest.strip_prefix(',') {
                    Some(more) => rest = more,
                    None => break rest = rest.strip_prefix('}').expect("a brace"),
                }
            }
        }
        let value = rest.trim_start().parse().expect("a number");
        lines.push((name, labels, value));
    }
    lines
}

/// The one value of a metric with these labels.
#[track_caller]
fn value(lines: &[Line], name: &str, labels: &[(&str, &str)]) -> f64 {
    let has = |line: &&Line| {
        line.0 == name
            && labels.iter().all(|(key, value)| line.1.get(*key).is_some_and(|v| v == value))
    };
    let found: Vec<&Line> = lines.iter().filter(has).collect();
    assert_eq!(found.len(), 1, "{name} {labels:?}: {found:?}");
    found[0].2
}

fn sum(lines: &[Line], name: &str, operator: &str) -> f64 {
    let of = |line: &&Line| line.0 == name && line.1["operator"] == operator;
    lines.iter().filter(of).map(|line| line.2).sum()
}

fn wait(handle: JobHandle) {
    handle.wait().expect("the job did not fail");
}

#[track_caller]
fn until(what: &str, mut is: impl FnMut() -> bool) {
    let start = Instant::now();
    while !is() {
        assert!(start.elapsed() < Duration::from_secs(60), "never {what}");
        thread::sleep(Duration::from_millis(20));
    }
}

fn config(parallelism: usize) -> JobConfig {
    JobConfig::new().parallelism(parallelism).checkpoint_interval(None)
}

#[test]
fn records_and_checkpoints_are_counted_exactly() {
    let name = "numbers \"of\"\nall\\kinds";
    let flow = Dataflow::new(name);
    let sink = MemorySink::new();
    flow.source("numbers", Generator::new(10_000, |number| number))
        .key_by(|number| number % 10)
        .count(Emit::EachChange)
        .named("count")
        .filter(|(key, _)| *key < 5)
        .sink("out", sink.clone());
    let handle = flow.build(config(2)).expect("it builds").spawn().expect("it starts");
    let mut metrics = Prometheus::new();
    metrics.watch(&handle);
    wait(handle);
    let text = metrics.render();
    let lines = parse(&text);
    assert_eq!(sum(&lines, "snapline_records_out_total", "numbers"), 10_000.0);
    assert_eq!(sum(&lines, "snapline_records_in_total", "count"), 10_000.0);
    assert_eq!(sum(&lines, "snapline_records_out_total", "count"), 5_000.0);
    assert_eq!(sum(&lines, "snapline_records_in_total", "out"), 5_000.0);
    assert_eq!(sum(&lines, "snapline_records_late_total", "count"), 0.0);
    let committed: Vec<(u64, u64)> = sink.committed();
    assert_eq!(committed.len(), 5_000);
    let job = [("job", name)];
    let completed = value(&lines, "snapline_checkpoints_completed_total", &job);
    assert!(completed >= 1.0);
    assert_eq!(value(&lines, "snapline_checkpoints_failed_total", &job), 0.0);
    assert_eq!(value(&lines, "snapline_restarts_total", &job), 0.0);
    assert_eq!(value(&lines, "snapline_job_running", &job), 0.0);
    assert!(value(&lines, "snapline_checkpoint_newest", &job) >= 1.0);
    assert!(value(&lines, "snapline_checkpoint_written_bytes_total", &job) > 0.0);
    let result = [("job", name), ("result", "completed")];
    assert_eq!(value(&lines, "snapline_checkpoint_duration_seconds_count", &result), completed);
    for subtask in ["0", "1"] {
        let sink = [("operator", "out"), ("subtask", subtask)];
        assert_eq!(value(&lines, "snapline_in_doubt_transactions", &sink), 0.0);
        assert!(value(&lines, "snapline_commits_total", &sink) >= 1.0);
        assert!(value(&lines, "snapline_committed_epoch_age_seconds", &sink) < 60.0);
        for phase in ["start_delay", "alignment", "sync", "async"] {
            let labels = [sink[0], sink[1], ("phase", phase)];
            assert!(value(&lines, "snapline_checkpoint_phase_seconds", &labels) < 60.0);
        }
    }
    // Rendered again: counters do not count twice.
    let again = parse(&metrics.render());
    assert_eq!(sum(&again, "snapline_records_out_total", "numbers"), 10_000.0);
    assert_eq!(value(&again, "snapline_checkpoints_completed_total", &job), completed);
    assert_eq!(value(&again, "snapline_checkpoint_duration_seconds_count", &result), completed);
    let (one, other): (Vec<_>, Vec<_>) = (
        lines.iter().map(|line| (&line.0, &line.1)).collect::<BTreeSet<_>>().into_iter().collect(),
        again.iter().map(|line| (&line.0, &line.1)).collect::<BTreeSet<_>>().into_iter().collect(),
    );
    let rates = other.len() - one.len();
    assert_eq!(rates, 2 * 6, "but for what takes two looks, there are no new series");
}

#[test]
fn restarts_count_and_what_is_read_again_counts_again() {
    let (failing, seen) = (Arc::new(AtomicBool::new(true)), Arc::new(AtomicU64::new(0)));
    let (fails, sees) = (Arc::clone(&failing), Arc::clone(&seen));
    let flow = Dataflow::new("restarted");
    flow.source("numbers", Generator::new(50_000, |number| (number % 7, number)))
        .keyed()
        .count(Emit::EachChange)
        .named("count")
        .try_map(move |counted: (u64, u64)| {
            let seen = sees.fetch_add(1, Ordering::Relaxed);
            match seen == 20_000 && fails.swap(false, Ordering::Relaxed) {
                true => Err::<_, BoxError>("planned".into()),
                false => Ok(counted),
            }
        })
        .sink("out", MemorySink::new());
    let restart = Restart::Fixed { attempts: 1, pause: Duration::from_millis(1) };
    let job = flow.build(config(1).restart(restart)).expect("it builds");
    let handle = job.spawn().expect("it starts");
    let mut metrics = Prometheus::new();
    metrics.watch(&handle);
    let outcome = handle.wait().expect("one restart is allowed");
    assert!(!failing.load(Ordering::Relaxed));
    let lines = parse(&metrics.render());
    assert_eq!(value(&lines, "snapline_restarts_total", &[]), 1.0);
    let count = |status: &snapline::TaskStatus| status.operator == "count";
    let last = outcome.status.tasks.iter().find(|task| count(task)).expect("it is there");
    assert_eq!(last.records_in, 50_000, "there was no checkpoint: it began anew");
    let all = value(&lines, "snapline_records_in_total", &[("operator", "count")]);
    let seen = seen.load(Ordering::Relaxed);
    // The batch in which the job failed does not count.
    assert!(all > 65_000.0 && all <= seen as f64, "{all} of {seen}");
}

/// Blocks every thread that passes while it is shut.
#[derive(Default)]
struct Gate(Mutex<bool>, Condvar);

impl Gate {
    fn set(&self, shut: bool) {
        *self.0.lock().expect("no thread panics") = shut;
        self.1.notify_all();
    }

    fn pass(&self) {
        let shut = self.0.lock().expect("no thread panics");
        drop(self.1.wait_while(shut, |shut| *shut).expect("no thread panics"));
    }
}

/// numbers, all with one key -> count -> out, which can be blocked.
fn held(gate: &Arc<Gate>) -> JobHandle {
    let held = Arc::clone(gate);
    let flow = Dataflow::new("held");
    flow.source("numbers", Generator::new(None, |number| (0_u64, number)))
        .parallelism(1)
        .keyed()
        .count(Emit::EachChange)
        .named("count")
        .parallelism(2)
        .sink("out", ForEach::new(move |_| held.pass()));
    flow.build(config(2).workers(2)).expect("it builds").spawn().expect("it starts")
}

#[test]
fn a_sink_that_is_held_up_is_busy_and_back_pressure_upstream() {
    let gate = Arc::new(Gate::default());
    let mut metrics = Prometheus::new();
    // Each job draws the subtask that owns the key. Repeats until it is the second, on another
    // worker than the source.
    let handle = (0..100).find_map(|_| {
        let handle = held(&gate);
        metrics = Prometheus::new();
        metrics.watch(&handle);
        let running = |lines: &[Line]| value(lines, "snapline_job_running", &[]) == 1.0;
        until("running", || running(&parse(&metrics.render())));
        let mut counted = [0.0; 2];
        until("counting", || {
            let lines = parse(&metrics.render());
            counted = ["0", "1"].map(|subtask| {
                let of = [("operator", "count"), ("subtask", subtask)];
                value(&lines, "snapline_records_in_total", &of)
            });
            counted != [0.0; 2]
        });
        if counted[0] == 0.0 {
            return Some(handle);
        }
        handle.cancel();
        wait(handle);
        None
    });
    let handle = handle.expect("half of all jobs do");
    gate.set(true);
    let (source, sink) = ([("operator", "numbers")], [("operator", "out"), ("subtask", "1")]);
    let other = [("operator", "out"), ("subtask", "0")];
    let (busy, waited) = ("snapline_busy_ms_per_second", "snapline_backpressured_ms_per_second");
    let mut last = Vec::new();
    until("held up", || {
        thread::sleep(Duration::from_millis(200));
        last = parse(&metrics.render());
        value(&last, waited, &source) > 900.0 && value(&last, busy, &sink) > 900.0
    });
    assert!(value(&last, busy, &source) < 100.0, "who waits does not work");
    assert!(value(&last, waited, &sink) < 100.0 && value(&last, busy, &other) < 100.0);
    assert!(value(&last, "snapline_backpressured_milliseconds_total", &source) > 100.0);
    let emitted = value(&last, "snapline_records_out_total", &source);
    gate.set(false);
    until("on", || {
        thread::sleep(Duration::from_millis(100));
        let lines = parse(&metrics.render());
        value(&lines, "snapline_records_out_total", &source) > 2.0 * emitted
            && value(&lines, waited, &source) < 999.0
    });
    handle.cancel();
    wait(handle);
}

/// Keeps what it records: a gauge's last value, a counter's sum.
#[derive(Clone, Default)]
struct Kept(Arc<Mutex<BTreeMap<Key, f64>>>);

/// One metric of [`Kept`].
struct Cell(Kept, Key);

impl Cell {
    fn change(&self, change: impl FnOnce(&mut f64)) {
        change(self.0.0.lock().expect("no thread panics").entry(self.1.clone()).or_default());
    }
}

impl metrics::CounterFn for Cell {
    fn increment(&self, more: u64) {
        self.change(|value| *value += more as f64);
    }
    fn absolute(&self, _: u64) {
        panic!("another run of the job would count nothing until it has caught up");
    }
}

impl metrics::GaugeFn for Cell {
    fn increment(&self, more: f64) {
        self.change(|value| *value += more);
    }
    fn decrement(&self, less: f64) {
        self.change(|value| *value -= less);
    }
    fn set(&self, to: f64) {
        self.change(|value| *value = to);
    }
}

impl metrics::HistogramFn for Cell {
    fn record(&self, _: f64) {
        self.change(|value| *value += 1.0);
    }
}

impl Recorder for Kept {
    fn describe_counter(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn describe_gauge(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn describe_histogram(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn register_counter(&self, key: &Key, _: &Metadata<'_>) -> Counter {
        Counter::from_arc(Arc::new(Cell(self.clone(), key.clone())))
    }
    fn register_gauge(&self, key: &Key, _: &Metadata<'_>) -> Gauge {
        Gauge::from_arc(Arc::new(Cell(self.clone(), key.clone())))
    }
    fn register_histogram(&self, key: &Key, _: &Metadata<'_>) -> Histogram {
        Histogram::from_arc(Arc::new(Cell(self.clone(), key.clone())))
    }
}

/// The only test that installs a recorder for the process. The other tests' jobs publish to it too,
/// under other names.
#[test]
fn the_facade_hears_of_every_job_without_being_asked() {
    let kept = Kept::default();
    metrics::set_global_recorder(kept.clone()).expect("there is no other");
    let names: BTreeSet<String> = reference()
        .lines()
        .skip(2)
        .map(|line| line.split('`').nth(1).expect("a name").to_owned())
        .collect();
    let run = || {
        let flow = Dataflow::new("published");
        flow.source("numbers", Generator::new(1_000, |number| number))
            .sink("out", MemorySink::new());
        let every = Duration::from_secs(3600);
        let job = flow.build(config(1).metrics_interval(every)).expect("it builds");
        job.run().expect("it does not fail");
    };
    let records = || {
        let kept = kept.0.lock().expect("no thread panics");
        let of = |key: &Key, name, value| {
            key.labels().any(|label| label.key() == name && label.value() == value)
        };
        let mut sum = 0.0;
        for (key, value) in kept.iter().filter(|(key, _)| of(key, "job", "published")) {
            assert!(names.contains(key.name()), "{} is not in the reference", key.name());
            if key.name() == "snapline_records_in_total" && of(key, "operator", "out") {
                sum += value;
            }
        }
        sum
    };
    run();
    // When a job ends, its last figures are published although the interval of an hour has not
    // passed.
    assert_eq!(records(), 1_000.0);
    run();
    assert_eq!(records(), 2_000.0);
}

#[test]
fn every_figure_of_the_reference_is_published_and_no_other() {
    let directory = tempfile::tempdir().expect("a directory");
    let (input, output) = (directory.path().join("input"), directory.path().join("output"));
    std::fs::write(&input, "1\n2\n3\n").expect("it can be written");
    let flow = Dataflow::new("everything");
    flow.source("in", FileSource::path(&input))
        .assign_timestamps(Watermarks::monotonous(), |line| {
            Timestamp::from_millis(line.len() as i64)
        })
        .sink("out", FileSink::new(&output));
    let handle = flow.build(config(1)).expect("it builds").spawn().expect("it starts");
    let mut metrics = Prometheus::new();
    metrics.watch(&handle);
    wait(handle);
    let _ = metrics.render();
    let text = metrics.render();
    let published: BTreeSet<&str> = text
        .lines()
        .filter_map(|line| line.strip_prefix("# TYPE "))
        .filter_map(|line| line.split(' ').next())
        .collect();
    // The data dates from 1970.
    assert!(value(&parse(&text), "snapline_watermark_lag_seconds", &[("operator", "in")]) > 1e9);
    let reference = reference();
    let known: BTreeSet<&str> =
        reference.lines().skip(2).filter_map(|line| line.split('`').nth(1)).collect();
    assert_eq!(published, known);
    for line in reference.lines().skip(2) {
        let cells: Vec<&str> = line.split(" | ").collect();
        let (name, kind) = (cells[0].trim_matches(['|', ' ', '`']), cells[1]);
        assert!(text.contains(&format!("# TYPE {name} {kind}\n")), "{name} {kind}: {text}");
        assert!(text.contains(&format!("# HELP {name} ")), "{name}");
    }
}

/// `UPDATE=1 cargo test --all-features --test metrics` rewrites it.
#[test]
fn the_reference_is_what_the_code_says() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/src/metrics/reference.md");
    if std::env::var_os("UPDATE").is_some() {
        std::fs::write(path, reference()).expect("it can be written");
    }
    assert_eq!(std::fs::read_to_string(path).expect("it is there"), reference());
}
