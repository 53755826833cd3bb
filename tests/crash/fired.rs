//! A job whose windows fire repeatedly: sliding ones that take late records, count, time and custom
//! triggers, global windows, and count windows.
//!
//! One producer, whose records carry their own time: which of them are late, and what fires when,
//! follows from the input alone. Each stream that forks off stays a single one.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use snapline::connect::FileSink;
use snapline::{
    Dataflow, EveryEventTime, EveryRecords, Firing, GlobalWindows, Now, Sliding, Timestamp,
    Trigger, Tumbling, Watermarks, Window, Windowed,
};

use crate::child::Numbers;
use crate::kill_points::Mortal;

/// The number of records.
const ALL: u64 = 6_000;
/// The number of keys.
const FEW: u64 = 5;
/// The length of sliding windows, the interval at which they begin, and the allowed lateness.
const SLIDING: i64 = 60;
const SLIDES: i64 = 20;
const LATENESS: i64 = 30;
/// The length of tumbling windows.
const LENGTH: i64 = 100;
/// Fires at every n records of a window; and of a key.
const COUNT: u64 = 3;
const BATCH: u64 = 7;
/// Fires at every interval of time, in a window; and in a global one.
const EVERY: i64 = 30;
const ROUND: i64 = 50;
/// Fires also at every record whose time is a multiple of this.
const FULL: i64 = 13;

/// The event time of a number: some are far earlier than the others.
const fn at(n: u64) -> i64 {
    n as i64 - if n % 11 == 3 { 110 } else { 0 }
}

/// The watermark that follows a number.
const fn mark(n: u64) -> Option<i64> {
    if n % 20 == 19 { Some(at(n) - 10) } else { None }
}

const fn ms(millis: i64) -> Duration {
    Duration::from_millis(millis.unsigned_abs())
}

/// Fires and purges when a record marks its window as full; otherwise acts as the count trigger
/// inside it.
#[derive(Clone)]
struct WhenFull(EveryRecords);

impl Trigger for WhenFull {
    type State = <EveryRecords as Trigger>::State;

    fn record(
        &mut self,
        at: Timestamp,
        window: Window,
        now: Now,
        state: &mut Self::State,
    ) -> Firing {
        let counted = self.0.record(at, window, now, state);
        if at.millis() % FULL == 0 {
            *state = Self::State::default();
            return Firing::FireAndPurge;
        }
        counted
    }

    fn merge(&mut self, window: Window, now: Now, into: &mut Self::State, from: Self::State) {
        self.0.merge(window, now, into, from);
    }
}

fn line(key: u64, numbers: &[u64]) -> String {
    let numbers: Vec<String> = numbers.iter().map(u64::to_string).collect();
    format!("{key}: {}", numbers.join(","))
}

fn of(it: Windowed<u64, Vec<u64>>) -> String {
    line(it.key, &it.result)
}

pub(crate) fn fired(flow: &Dataflow, dir: &Path) {
    let sink = |name: &str| Mortal(FileSink::<String>::new(crate::output(dir, name)));
    let key = |n: &u64| n % FEW;
    let put = |all: &mut Vec<u64>, n| all.push(n);
    let (sliding, more) = flow
        .source("in", Mortal(Numbers { from: 0, count: ALL, gulp: 100 }))
        .parallelism(1)
        .assign_timestamps(
            Watermarks::punctuated(|n: &u64, _| mark(*n).map(Timestamp::from_millis)),
            |n| Timestamp::from_millis(at(*n)),
        )
        .fork();
    let (often, more) = more.parallelism(1).fork();
    let (own, more) = more.parallelism(1).fork();
    let (rounds, batches) = more.parallelism(1).fork();
    let (results, late) = sliding
        .parallelism(1)
        .key_by(key)
        .window(Sliding::of(ms(SLIDING), ms(SLIDES)))
        .allowed_lateness(ms(LATENESS))
        .keep_late()
        .aggregate(put)
        .split();
    results.map(of).sink("sliding", sink("sliding"));
    late.map(|(_, n)| n.to_string()).sink("late", sink("late"));
    let tumbling = Tumbling::of(ms(LENGTH));
    let often = often
        .parallelism(1)
        .key_by(key)
        .window(tumbling)
        .trigger(EveryEventTime::new(ms(EVERY)))
        .reduce(|sum, n| sum + n)
        .map(|it| format!("often {}", line(it.key, &[it.result])));
    let own = own
        .parallelism(1)
        .key_by(key)
        .window(tumbling)
        .trigger(WhenFull(EveryRecords::new(COUNT)))
        .aggregate(put)
        .map(|it| format!("full {}", of(it)));
    let rounds = rounds
        .parallelism(1)
        .key_by(key)
        .window(GlobalWindows)
        .trigger(EveryEventTime::new(ms(ROUND)).purging())
        .aggregate(put)
        .map(|it| format!("round {}", of(it)));
    let batches = batches.parallelism(1).key_by(key).count_window(BATCH).aggregate(put);
    let batches = batches.map(|it| format!("batch {}", of(it)));
    let all = often.union(own).parallelism(1).union(rounds).parallelism(1).union(batches);
    all.parallelism(1).sink("fired", sink("fired"));
}

/// The kinds of windows and triggers.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Sliding,
    Often,
    Full,
    Round,
    Batch,
}

/// A window that is kept.
#[derive(Default)]
struct Held {
    numbers: Vec<u64>,
    /// Records since it last fired.
    since: u64,
    fired: bool,
    /// The next firing time, a multiple of the interval.
    next: Option<i64>,
}

fn next_multiple(behind: i64, of: i64) -> i64 {
    behind - behind.rem_euclid(of) + of
}

impl Kind {
    /// The first milliseconds of a record's windows, and those directly after their ends.
    fn windows(self, at: i64) -> Vec<(i64, i64)> {
        let (length, every) = match self {
            Self::Sliding => (SLIDING, SLIDES),
            Self::Round | Self::Batch => return vec![(i64::MIN, i64::MAX)],
            _ => (LENGTH, LENGTH),
        };
        let starts = (at - length + 1..=at).filter(|start| start.rem_euclid(every) == 0);
        starts.map(|start| (start, start + length)).collect()
    }

    fn lateness(self) -> i64 {
        if self == Self::Sliding { LATENESS } else { 0 }
    }

    /// Whether a record fires a window that it enters, and whether the window is purged.
    fn record(self, at: i64, end: i64, watermark: i64, held: &mut Held) -> (bool, bool) {
        held.since += 1;
        let full = match self {
            Self::Sliding => {
                held.fired |= end - 1 <= watermark;
                return (end - 1 <= watermark, false);
            }
            Self::Often | Self::Round => {
                let every = if self == Self::Often { EVERY } else { ROUND };
                held.next = held.next.or(Some(next_multiple(at.max(watermark), every)));
                return (false, false);
            }
            Self::Batch => held.since == BATCH,
            Self::Full => at % FULL == 0 || held.since == COUNT,
        };
        if full {
            held.since = 0;
        }
        // The count trigger does not purge by itself.
        (full, self == Self::Batch || at % FULL == 0)
    }

    /// The same when the watermark has advanced.
    fn passes(self, end: i64, watermark: i64, held: &mut Held) -> (bool, bool) {
        match self {
            Self::Sliding => {
                let fires = !held.fired && end - 1 <= watermark;
                held.fired |= fires;
                (fires, false)
            }
            Self::Often | Self::Round => {
                let every = if self == Self::Often { EVERY } else { ROUND };
                let fires = held.next.is_some_and(|next| next.min(end - 1) <= watermark);
                if fires && watermark < i64::MAX {
                    held.next = Some(next_multiple(watermark, every));
                }
                (fires, self == Self::Round)
            }
            Self::Batch | Self::Full => (false, false),
        }
    }
}

/// The results and late records of a key: windows as a list, scanned in full.
fn results(kind: Kind, key: u64) -> (Vec<Vec<u64>>, Vec<u64>) {
    let (mut results, mut late, mut watermark) = (Vec::new(), Vec::new(), i64::MIN);
    let mut all: BTreeMap<(i64, i64), Held> = BTreeMap::new();
    let is_over =
        |end: i64, watermark: i64| end < i64::MAX && end - 1 + kind.lateness() <= watermark;
    let fire = |(fires, purges): (bool, bool), held: &mut Held, results: &mut Vec<Vec<u64>>| {
        if fires && !held.numbers.is_empty() {
            results.push(held.numbers.clone());
        }
        if fires && purges {
            (held.numbers, held.next) = (Vec::new(), None);
        }
    };
    for n in 0..ALL {
        let at = at(n);
        if n % FEW == key {
            let windows = kind.windows(at);
            let there = windows.into_iter().filter(|(_, end)| !is_over(*end, watermark));
            let there: Vec<(i64, i64)> = there.collect();
            if there.is_empty() && at + kind.lateness() <= watermark {
                late.push(n);
            }
            for window in there {
                let held = all.entry(window).or_default();
                held.numbers.push(n);
                fire(kind.record(at, window.1, watermark, held), held, &mut results);
            }
        }
        if let Some(mark) = mark(n).filter(|mark| *mark > watermark) {
            watermark = mark;
            for (window, held) in &mut all {
                fire(kind.passes(window.1, watermark, held), held, &mut results);
            }
            all.retain(|(_, end), _| !is_over(*end, watermark));
        }
    }
    for (window, held) in &mut all {
        fire(kind.passes(window.1, i64::MAX, held), held, &mut results);
    }
    (results, late)
}

fn lines(kind: Kind) -> Vec<String> {
    let of = |key| results(kind, key).0.into_iter().map(move |numbers| (key, numbers));
    let all = (0..FEW).flat_map(of);
    all.map(|(key, numbers)| match kind {
        Kind::Sliding => line(key, &numbers),
        Kind::Often => format!("often {}", line(key, &[numbers.iter().sum()])),
        Kind::Full => format!("full {}", line(key, &numbers)),
        Kind::Round => format!("round {}", line(key, &numbers)),
        Kind::Batch => format!("batch {}", line(key, &numbers)),
    })
    .collect()
}

/// The expected content of a sink.
pub(crate) fn expected(sink: &str) -> Vec<String> {
    match sink {
        "sliding" => lines(Kind::Sliding),
        "late" => {
            let late = (0..FEW).flat_map(|key| results(Kind::Sliding, key).1);
            late.map(|n| n.to_string()).collect()
        }
        _ => {
            let kinds = [Kind::Often, Kind::Full, Kind::Round, Kind::Batch];
            kinds.into_iter().flat_map(lines).collect()
        }
    }
}
