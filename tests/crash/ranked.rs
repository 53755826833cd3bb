//! A job that keeps little of its input and looks records up externally: distinct records and their
//! sessions, split; the highest of the results. Look-ups are slow, ordered and unordered, so that
//! some are in flight whenever the process dies.
//!
//! One producer, whose watermarks are a function of its records: the expiry of state follows from
//! the input alone. Each stream that forks off stays a single one.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use snapline::connect::{Collect, FileSink};
use snapline::{
    BoxError, Dataflow, Either, Emitter, Input, Lookup, Session, TimeContext, Timestamp, Tumbling,
    Watermarks,
};

use crate::child::Numbers;
use crate::kill_points::{self, Mortal};

/// The number of records: one each millisecond of event time.
const ALL: u64 = 6_000;
/// The watermark is a multiple of this.
const STEP: u64 = 64;
/// A number's key is the remainder of its square by this; about half of the remainders occur.
const RESTS: u64 = 509;
/// The time for which a remainder is remembered.
const MEMORY: u64 = 600;
const GAP: u64 = 14;
/// The least length of a long session.
const LONG: usize = 4;
/// One number in this many is looked up, by each of the two.
const ASKED: u64 = 4;
/// This many numbers come at once. One of the last look-ups of each such gulp is slow: most
/// barriers come during it, while later records wait for it.
const GULP: u64 = 100;
const LENGTH: u64 = 60;
const MOST: usize = 4;

const fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

const fn rest(n: u64) -> u64 {
    n * n % RESTS
}

const fn found(n: u64) -> u64 {
    n * n + 7
}

/// The process may die while an operator waits for an answer, and after the answer.
fn ask(n: &u64) -> Result<u64, BoxError> {
    kill_points::point("look-up-before");
    if [88, 89].contains(&(n % GULP)) {
        std::thread::sleep(ms(1));
    }
    kill_points::point("look-up-after");
    Ok(found(*n))
}

type Asking = fn(&u64) -> Result<u64, BoxError>;

const fn rank(n: u64, found: u64) -> (u64, u64) {
    (found % 101, n)
}

fn list(numbers: &[u64]) -> String {
    let numbers: Vec<String> = numbers.iter().map(u64::to_string).collect();
    numbers.join(",")
}

pub(crate) fn ranked(flow: &Dataflow, dir: &Path) {
    let sink = |name: &str| Mortal(FileSink::<String>::new(crate::output(dir, name)));
    let numbers = Mortal(Numbers { from: 0, count: ALL, gulp: GULP });
    let (stream, more) = flow
        .source("in", numbers)
        .parallelism(1)
        .assign_timestamps(Watermarks::monotonous().in_steps_of(ms(STEP)), |n| {
            Timestamp::from_millis(*n as i64)
        })
        .fork();
    let (long, short) = stream
        .parallelism(1)
        .key_by(|n| rest(*n))
        .distinct(ms(MEMORY))
        .key_by(|n| n % 5)
        .window(Session::gap(ms(GAP)))
        .aggregate_merging(
            |all: &mut Vec<u64>, n| all.push(n),
            |all: &mut Vec<u64>, later| all.extend(later),
        )
        .map(|mut it| {
            it.result.sort_unstable();
            let line = list(&it.result);
            if it.result.len() >= LONG { Either::Left(line) } else { Either::Right(line) }
        })
        .split();
    long.sink("long", sink("long"));
    short.sink("short", sink("short"));
    let (ordered, unordered) = more.parallelism(1).fork();
    ordered
        .parallelism(1)
        .filter(|n| n.is_multiple_of(ASKED))
        .lookup(Lookup::ordered(ask as Asking).in_flight(8))
        .parallelism(1)
        .key_by(|_| ())
        .process(
            |input, before: &mut TimeContext<'_, (), Option<u64>>, out: &mut Emitter<String>| {
                let Input::Record((n, found)) = input else { return };
                // Each comes directly after the one before it.
                let right = before.is_none_or(|before| n == before + ASKED);
                **before = Some(n);
                out.push(format!("{}{n} {found}", if right { "" } else { "out of order: " }));
            },
        )
        .sink("ordered", sink("ordered"));
    unordered
        .parallelism(1)
        .filter(|n| n % ASKED == 1)
        .lookup(Lookup::unordered(ask as Asking).in_flight(8))
        .parallelism(1)
        .key_by(|(n, _)| n % 3)
        .window(Tumbling::of(ms(LENGTH)))
        .highest(MOST, |(n, found)| rank(*n, *found))
        .map(|it| {
            let numbers: Vec<u64> = it.result.iter().map(|(n, _)| *n).collect();
            format!("{} {}", it.key, list(&numbers))
        })
        .sink("highest", sink("highest"));
}

/// The numbers that pass: the first of each remainder, and the next when the watermark has passed
/// its retention.
fn distinct() -> Vec<u64> {
    let mut until: BTreeMap<u64, u64> = BTreeMap::new();
    let mut through = Vec::new();
    for n in 0..ALL {
        // The watermark of the record before: the newest multiple that is earlier.
        let watermark = n.saturating_sub(2) / STEP * STEP;
        if until.get(&rest(n)).is_some_and(|until| *until <= watermark) {
            until.remove(&rest(n));
        }
        until.entry(rest(n)).or_insert_with(|| {
            through.push(n);
            n + MEMORY
        });
    }
    through
}

fn sessions() -> Vec<Vec<u64>> {
    let mut open: BTreeMap<u64, Vec<u64>> = BTreeMap::new();
    let mut over = Vec::new();
    for n in distinct() {
        let session = open.entry(n % 5).or_default();
        if session.last().is_some_and(|last| last + GAP < n) {
            over.push(std::mem::take(session));
        }
        session.push(n);
    }
    over.extend(open.into_values());
    over
}

/// The expected content of a sink.
pub(crate) fn expected(sink: &str) -> Vec<String> {
    let asked = |rest: u64| (0..ALL).filter(move |n| n % ASKED == rest);
    match sink {
        "long" => sessions().iter().filter(|it| it.len() >= LONG).map(|it| list(it)).collect(),
        "short" => sessions().iter().filter(|it| it.len() < LONG).map(|it| list(it)).collect(),
        "ordered" => asked(0).map(|n| format!("{n} {}", found(n))).collect(),
        _ => {
            let mut windows: BTreeMap<(u64, u64), Vec<(u64, u64)>> = BTreeMap::new();
            for n in asked(1) {
                windows.entry((n / LENGTH, n % 3)).or_default().push(rank(n, found(n)));
            }
            let highest = |((_, key), mut all): ((u64, u64), Vec<(u64, u64)>)| {
                all.sort_unstable();
                let numbers: Vec<u64> = all.iter().rev().take(MOST).map(|(_, n)| *n).collect();
                format!("{key} {}", list(&numbers))
            };
            windows.into_iter().map(highest).collect()
        }
    }
}
