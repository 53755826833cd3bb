//! The costs of large keyed state: `cargo bench --bench state`.
//!
//! One job for each size: source, keyed process, two subtasks of each, manual checkpoints into a
//! directory. A key's entry is 74 bytes in a checkpoint and 64 in memory. The keys that change are
//! drawn from all of them. Their hash spreads neighbours over all segments too, so no job could
//! arrange that keys that change often lie together.
//!
//! The restored checkpoint was just written and is in the page cache: this is the time of a
//! restarted process, not of a machine. The final state of each key is verified.
//!
//! `-- [--sizes MB,MB,...] [--checkpoints N]`

#![allow(
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "a program that prints, and dies of any failure"
)]

use std::hint::black_box;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::thread::sleep;
use std::time::{Duration, Instant};

use snapline::connect::{Collect, Discard, OpenContext, Progress, Source, SourceReader};
use snapline::protocol::recovery::Health;
use snapline::state::{Table, hash};
use snapline::store::{LocalStore, health};
use snapline::{
    BoxError, CheckpointStats, Dataflow, Ended, JobConfig, JobHandle, JobPhase, KeyState,
    KeyedProcess,
};

/// In a checkpoint: an array of two (1), the key (9), an array of seven (1), its words (63).
const ENTRY: u64 = 74;

/// Updates that are in flight while a checkpoint is taken, and after a freeze.
const BURST: u64 = 100_000;

/// A prime larger than the number of keys: its multiples visit every key once before any twice.
const STEP: u128 = 10_000_000_019;

/// Large numbers, all equally long in a checkpoint.
const LARGE: u64 = 1 << 63;

/// The key of a record: each once, then one after the other at random.
fn key(number: u64, keys: u64) -> u64 {
    let index = match number.checked_sub(keys) {
        None => number,
        Some(update) => (u128::from(update) * STEP % u128::from(keys)) as u64,
    };
    LARGE | index
}

type Value = [u64; 7];

fn word(key: u64, place: usize) -> u64 {
    LARGE | key.wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(8 * place as u32)
}

/// A key's first value: the number of its updates, and words that are unique to it.
fn value(key: u64) -> Value {
    std::array::from_fn(|place| if place == 0 { LARGE } else { word(key, place) })
}

/// State shared by the bench and the job's subtasks.
#[derive(Default)]
struct Desk {
    /// The number of records that the source may read.
    wanted: AtomicU64,
    added: AtomicU64,
    updated: AtomicU64,
    /// Keys, and their updates, at the end of the input.
    kept: AtomicU64,
    sum: AtomicU64,
}

#[derive(Clone)]
struct Numbers {
    keys: u64,
    desk: Arc<Desk>,
}

struct Reader {
    source: Numbers,
    next: u64,
    step: u64,
}

impl Source for Numbers {
    type Record = u64;
    type Position = u64;
    type Reader = Reader;

    fn open(&self, context: &OpenContext, position: Option<u64>) -> Result<Reader, BoxError> {
        let next = position.unwrap_or(context.index as u64);
        Ok(Reader { source: self.clone(), next, step: context.parallelism as u64 })
    }
}

impl SourceReader for Reader {
    type Record = u64;
    type Position = u64;

    fn read<C: Collect<u64>>(&mut self, limit: usize, out: &mut C) -> Result<Progress, BoxError> {
        let wanted = self.source.desk.wanted.load(Relaxed);
        if self.next >= wanted {
            return Ok(Progress::Wait(Duration::from_millis(1)));
        }
        for _ in 0..limit {
            if self.next >= wanted {
                break;
            }
            out.push(key(self.next, self.source.keys));
            self.next += self.step;
        }
        Ok(Progress::More)
    }

    fn position(&self) -> u64 {
        self.next
    }
}

#[derive(Clone)]
struct Update(Arc<Desk>);

impl KeyedProcess<u64, u64> for Update {
    type State = Value;
    type Out = ();

    fn process<C: Collect<()>>(
        &mut self,
        key: u64,
        state: &mut KeyState<'_, u64, Value>,
        _: &mut C,
    ) {
        if state[0] == 0 {
            **state = value(key);
            self.0.added.fetch_add(1, Relaxed);
        } else {
            state[0] += 1;
            self.0.updated.fetch_add(1, Relaxed);
        }
    }

    fn end<C: Collect<()>>(&mut self, key: &u64, state: &Value, _: &mut C) {
        assert_eq!(state[1..], value(*key)[1..], "the value of key {key}");
        self.0.kept.fetch_add(1, Relaxed);
        self.0.sum.fetch_add(state[0] - LARGE, Relaxed);
    }
}

fn spawn(directory: &Path, keys: u64, desk: &Arc<Desk>) -> JobHandle {
    let flow = Dataflow::new("state");
    flow.source("numbers", Numbers { keys, desk: Arc::clone(desk) })
        .key_by(|key| *key)
        .process_with(Update(Arc::clone(desk)))
        .sink("nowhere", Discard::new());
    let config = JobConfig::new().parallelism(2).checkpoint_interval(None).directory(directory);
    flow.build(config).unwrap().spawn().unwrap()
}

fn wait(handle: &JobHandle, done: impl Fn() -> bool) {
    while !done() {
        assert!(!handle.is_over(), "the job is over: {:?}", handle.status().last_failure);
        sleep(Duration::from_micros(100));
    }
}

fn checkpoint(handle: &JobHandle) -> CheckpointStats {
    let id = handle.checkpoint().unwrap();
    let find = || handle.status().history.into_iter().rev().find(|stats| stats.checkpoint == id);
    wait(handle, || find().is_some());
    find().unwrap()
}

/// The longest of any subtask, in microseconds.
fn pause(stats: &CheckpointStats) -> f64 {
    stats.acknowledged.iter().map(|subtask| micros(subtask.sync)).fold(0.0, f64::max)
}

fn micros(time: Duration) -> f64 {
    time.as_secs_f64() * 1e6
}

fn median(mut of: Vec<f64>) -> f64 {
    of.sort_by(f64::total_cmp);
    of[of.len() / 2]
}

/// A line's name, its unit, and a figure for each size.
type Lines = Vec<(&'static str, &'static str, f64)>;

fn job(size: u64, checkpoints: u64) -> Lines {
    let directory = tempfile::tempdir().unwrap();
    let (keys, desk) = (size * 1_000_000 / ENTRY, Arc::new(Desk::default()));
    let handle = spawn(directory.path(), keys, &desk);
    let records = || desk.added.load(Relaxed) + desk.updated.load(Relaxed);
    let more = |records: u64| desk.wanted.fetch_add(records, Relaxed) + records;

    let wanted = more(keys);
    wait(&handle, || records() == wanted);
    let full = checkpoint(&handle);
    assert_eq!(full.reused(), 0);
    let nothing = checkpoint(&handle);
    let few = (keys / 10_000).max(1);
    let wanted = more(few);
    wait(&handle, || records() == wanted);
    let basis_point = checkpoint(&handle);
    let wanted = more(keys / 100);
    wait(&handle, || records() == wanted);
    let percent = checkpoint(&handle);

    let mut pauses = Vec::new();
    for _ in 0..checkpoints {
        let wanted = more(BURST);
        pauses.push(pause(&checkpoint(&handle)));
        wait(&handle, || records() == wanted);
    }
    let longest = pauses.iter().copied().fold(0.0, f64::max);
    let last = checkpoint(&handle).checkpoint;
    handle.cancel();
    assert_eq!(handle.wait().unwrap().ended, Ended::Cancelled);

    // The first step of recovery, measured alone.
    let began = Instant::now();
    let store = LocalStore::inspect(directory.path()).unwrap();
    assert_eq!(health(&store, last).unwrap().1, Health::Whole);
    let verification = began.elapsed();

    let wanted = more(64);
    let began = Instant::now();
    let handle = spawn(directory.path(), keys, &desk);
    wait(&handle, || handle.status().phase == JobPhase::Running);
    let decided = began.elapsed();
    // Records of every subtask: all of them are open.
    wait(&handle, || records() == wanted);
    let recovered = began.elapsed();
    assert_eq!(handle.status().restored_from, Some(last));
    let first = checkpoint(&handle);
    assert!(full.written() < 1 << 24 || first.reused() > 0, "restored segments are shared");

    handle.drain();
    assert_eq!(handle.wait().unwrap().ended, Ended::Drained);
    assert_eq!(desk.added.load(Relaxed), keys);
    assert_eq!(desk.kept.load(Relaxed), keys);
    assert_eq!(desk.sum.load(Relaxed), wanted - keys);

    let mb = |bytes: u64| bytes as f64 / 1e6;
    vec![
        ("keys", "millions", keys as f64 / 1e6),
        ("synchronous pause, median", "µs", median(pauses)),
        ("synchronous pause, longest", "µs", longest),
        ("full checkpoint, written", "MB", mb(full.written())),
        ("full checkpoint, duration", "ms", micros(full.duration) / 1e3),
        ("nothing changed, written", "MB", mb(nothing.written())),
        ("0.01 % of keys at random, written", "MB", mb(basis_point.written())),
        ("0.01 % of keys at random, shared", "MB", mb(basis_point.reused())),
        ("1 % of keys at random, written", "MB", mb(percent.written())),
        ("1 % of keys at random, shared", "MB", mb(percent.reused())),
        ("recovery, until every subtask works", "ms", micros(recovered) / 1e3),
        ("  of it, until tasks are started", "ms", micros(decided) / 1e3),
        ("  verification alone, by itself", "ms", micros(verification) / 1e3),
        ("first checkpoint after it, written", "MB", mb(first.written())),
    ]
}

/// The time of the first updates after a freeze: the pause ends with the freeze, but the segments
/// that they write to are copied first.
fn copying(size: u64) -> Lines {
    let keys = size * 1_000_000 / ENTRY;
    let mut table: Table<u64, Value> = Table::new(0..128, 128);
    for number in 0..keys {
        let key = key(number, keys);
        table.insert(hash(&key), key, value(key));
    }
    let mut number = keys;
    let mut updates = |table: &mut Table<u64, Value>| {
        let began = Instant::now();
        for number in number..number + BURST {
            let key = key(number, keys);
            let (_, value) = table.entry_pair(hash(&key), key, || [0; 7]);
            value[0] += 1;
        }
        number += BURST;
        micros(began.elapsed()) / 1e3
    };
    let mut times = [Vec::new(), Vec::new(), Vec::new(), Vec::new()];
    for _ in 0..3 {
        // So that the last round leaves nothing to be taken back or copied.
        for key in table.iter().map(|(key, _)| *key).collect::<Vec<_>>() {
            table.get_mut(hash(&key), &key);
        }
        times[0].push(updates(&mut table));
        drop(black_box(table.freeze()));
        times[1].push(updates(&mut table));
        let began = Instant::now();
        let image = table.freeze();
        times[2].push(micros(began.elapsed()));
        times[3].push(updates(&mut table));
        drop(image);
    }
    assert_eq!(table.len() as u64, keys);
    let [without, written, freeze, copied] = times.map(median);
    vec![
        ("Table::freeze by itself, 128 groups", "µs", freeze),
        ("100k updates, no freeze before", "ms", without),
        ("100k updates, image written already", "ms", written),
        ("100k updates, image not written yet", "ms", copied),
    ]
}

fn main() {
    let args: Vec<String> = std::env::args().collect();
    let value =
        |flag: &str| args.iter().position(|arg| arg == flag).and_then(|at| args.get(at + 1));
    let sizes = value("--sizes").map_or("1,100,1000", String::as_str);
    let sizes: Vec<u64> = sizes.split(',').map(|size| size.parse().unwrap()).collect();
    let checkpoints = value("--checkpoints").map_or(11, |text| text.parse().unwrap());

    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let field = |text: &str, name: &str| {
        let line = text.lines().find(|line| line.starts_with(name));
        line.and_then(|line| line.split(':').nth(1)).unwrap_or("unknown").trim().to_owned()
    };
    let rustc = std::process::Command::new("rustc").arg("--version").output();
    let rustc = rustc.map_or("rustc unknown".into(), |output| {
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    });
    println!(
        "{} cores ({}), snapline {}, {rustc}; {checkpoints} checkpoints of each size while {BURST} updates are under way",
        std::thread::available_parallelism().unwrap(),
        field(&read("/proc/cpuinfo"), "model name"),
        env!("CARGO_PKG_VERSION"),
    );

    let mut table: Vec<Lines> = Vec::new();
    for &size in &sizes {
        let mut lines = job(size, checkpoints);
        lines.extend(copying(size));
        table.push(lines);
    }
    print!("{:<38} {:>8}", "state", "");
    sizes.iter().for_each(|size| print!(" {:>10}", format!("{size} MB")));
    println!(" {:>10}", "factor");
    for (line, (name, unit, first)) in table[0].iter().enumerate() {
        print!("{name:<38} {unit:>8}");
        table.iter().for_each(|lines| print!(" {:>10.2}", lines[line].2));
        println!(" {:>10.1}", table[table.len() - 1][line].2 / first);
    }
    println!("most memory at any time: {}", field(&read("/proc/self/status"), "VmHWM"));
}
