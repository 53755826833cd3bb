//! Jobs that read and write records in files, and fail on the way.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use snapline::connect::{DirectorySource, FileSink, FileSource, Malformed, read_committed};
use snapline::{BoxError, Dataflow, Ended, JobConfig, Level, Outcome, Restart};

const FILES: u64 = 30;
const LINES: u64 = 100;

#[derive(Clone, serde::Serialize, serde::Deserialize)]
struct Row {
    id: u64,
    text: String,
}

/// A file of records, one in ten of which is malformed.
fn file(number: u64) -> String {
    let line = |id: u64| match id % 10 {
        7 => format!("{id}\n"),
        _ => format!("{id},\"{id}\n\"\n"),
    };
    let lines: String = (number * LINES..(number + 1) * LINES).map(line).collect();
    format!("id,text\n{lines}")
}

fn put(directory: &Path, name: &str, bytes: Vec<u8>) {
    let hidden = directory.join(".new");
    fs::write(&hidden, bytes).expect("writes");
    fs::rename(hidden, directory.join(name)).expect("renames");
}

/// Fails a task at one record the first three times. Each attempt reads that record once.
fn failing() -> impl FnMut(Row) -> Result<Row, BoxError> + Clone + use<> {
    let failures = Arc::new(AtomicU64::new(0));
    move |row| match row.id == FILES / 2 * LINES + 31 {
        true if failures.fetch_add(1, Ordering::Relaxed) < 3 => Err("a failure, on purpose".into()),
        _ => Ok(row),
    }
}

fn config(place: &Path) -> JobConfig {
    JobConfig::new()
        .parallelism(2)
        .checkpoint_interval(Duration::from_millis(20))
        .restart(Restart::Fixed { attempts: 3, pause: Duration::from_millis(5) })
        .require(Level::ExactlyOnce)
        .directory(place.join("checkpoints"))
}

/// Each valid record is there once.
fn judge(place: &Path, outcome: &Outcome) {
    assert_eq!((outcome.ended, outcome.status.restarts), (Ended::Finished, 3));
    let mut times: BTreeMap<u64, usize> = BTreeMap::new();
    for line in read_committed(place.join("good")).expect("readable") {
        let row: Row = serde_json::from_str(&line).expect("JSON");
        assert_eq!(row.text, format!("{}\n", row.id));
        *times.entry(row.id).or_default() += 1;
    }
    let good: Vec<u64> = (0..FILES * LINES).filter(|id| id % 10 != 7).collect();
    assert!(times.values().all(|&times| times == 1), "some are there twice");
    assert!(times.into_keys().eq(good), "some are missing");
}

#[test]
fn a_directory_that_grows_is_read_once_whatever_fails() {
    let place = tempfile::tempdir().expect("a directory");
    let place = place.path();
    let incoming = place.join("incoming");
    fs::create_dir(&incoming).expect("makes");
    let flow = Dataflow::new("growing");
    let source = DirectorySource::path(&incoming)
        .every(Duration::from_millis(3))
        .until("END")
        .csv::<Row>()
        .keep_malformed();
    let (good, bad) = flow.source("rows", source).split();
    let rows = FileSink::json_lines(place.join("good")).extension("jsonl.gz").roll_bytes(200);
    good.try_map(failing()).sink("good", rows);
    bad.map(|bad: Malformed| format!("{} {:?} {}", bad.file, bad.line, bad.text()))
        .sink("bad", FileSink::new(place.join("bad")));
    let outcome = std::thread::scope(|scope| {
        scope.spawn(|| {
            for number in 0..FILES {
                // Not in the order of their names.
                let name = format!("{:02}.csv.zst", number * 7 % FILES);
                put(&incoming, &name, zstd::encode_all(file(number).as_bytes(), 1).expect("zstd"));
                std::thread::sleep(Duration::from_millis(4));
            }
            put(&incoming, "END", Vec::new());
        });
        flow.build(config(place)).expect("builds").run().expect("runs")
    });
    judge(place, &outcome);
    let mut bad = read_committed(place.join("bad")).expect("readable");
    bad.sort();
    bad.dedup();
    assert_eq!(bad.len() as u64, FILES * LINES / 10);
    // The eighth record is the first malformed one of its file: after line 1 come seven records of
    // two lines.
    assert!(bad.iter().any(|line| line.ends_with("00.csv.zst Some(16) 7")), "{:?}", bad[0]);
}

#[test]
fn what_is_skipped_is_counted_once_whatever_fails() {
    let place = tempfile::tempdir().expect("a directory");
    let place = place.path();
    let incoming = place.join("incoming");
    fs::create_dir(&incoming).expect("makes");
    for number in 0..FILES {
        put(&incoming, &format!("{number}.csv"), file(number).into_bytes());
    }
    let flow = Dataflow::new("skipping");
    let source = FileSource::path(&incoming).csv::<Row>().skip_malformed();
    flow.source("rows", source)
        .try_map(failing())
        .sink("good", FileSink::json_lines(place.join("good")));
    let outcome = flow.build(config(place)).expect("builds").run().expect("runs");
    judge(place, &outcome);
    let skipped: u64 = outcome.status.tasks.iter().map(|task| task.records_malformed).sum();
    assert_eq!(skipped, FILES * LINES / 10);
}

#[test]
fn a_malformed_record_fails_the_job_if_nothing_is_said() {
    let place = tempfile::tempdir().expect("a directory");
    let path = place.path().join("rows.csv");
    fs::write(&path, file(0)).expect("writes");
    let flow = Dataflow::new("failing");
    flow.source("rows", FileSource::path(&path).csv::<Row>())
        .sink("good", FileSink::json_lines(place.path().join("good")));
    let config = config(place.path()).restart(Restart::Never).parallelism(1);
    let error = flow.build(config).expect("builds").run().expect_err("fails").to_string();
    assert!(error.contains("rows.csv, line 16: 1 fields, where there are 2 columns"), "{error}");
}
