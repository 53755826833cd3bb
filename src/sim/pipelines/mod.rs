//! Pipelines to simulate, for users without one of their own at hand.

mod broadcast;
mod clock;
mod windows;

use std::time::Duration;

use super::{Env, Fault, Simulation};
use crate::connect::{Collect, ForEach, Generator, MemorySource};
use crate::state::Map;
use crate::{
    Between, BoxError, BuildError, Dataflow, Emit, Emitter, Input, Job, JobConfig, KeyState,
    Lookup, Mode, Session, TimeContext, Timestamp, Tumbling, Watermarks,
};

/// A pipeline with its name.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Pipeline {
    /// Its name on the command line.
    pub name: &'static str,
    /// A description.
    pub about: &'static str,
    /// Builds it.
    pub build: fn(&Env) -> Result<Job, BuildError>,
    /// Whether a part of its input gives a part of its output, so that it can be drained.
    pub drains: bool,
}

impl Pipeline {
    /// A simulation of it, with every fault that it can be judged under.
    #[must_use]
    pub fn simulation(&self) -> Simulation<'static> {
        let simulation = Simulation::new(self.build);
        if self.drains { simulation.faults(Fault::ALL) } else { simulation }
    }
}

/// The pipelines that come with the crate.
pub const PIPELINES: &[Pipeline] = &[
    Pipeline {
        name: "keyed-count",
        about: "two sources in one, counted by key with every change, fan-in to one sink",
        build: keyed_count,
        drains: true,
    },
    Pipeline {
        name: "chain",
        about: "a source, a stateless chain of operators, a sink, each twice",
        build: chain,
        drains: true,
    },
    Pipeline {
        name: "fork",
        about: "one source to two sinks of different systems",
        build: fork,
        drains: true,
    },
    Pipeline {
        name: "totals",
        about: "counted by key, emitted at the end of the input only, beside a longer input",
        build: totals,
        drains: false,
    },
    Pipeline {
        name: "history",
        about: "records of two sources in their order by key, with a state that mostly stays as it is",
        build: history,
        drains: true,
    },
    Pipeline {
        name: "paced",
        about: "a source that waits for its next record, and a shuffle",
        build: paced,
        drains: false,
    },
    Pipeline {
        name: "files",
        about: "counted by key into the exactly-once file sink",
        build: files,
        drains: true,
    },
    Pipeline {
        name: "at-least-once",
        about: "the stateless chain, at least once",
        build: at_least_once,
        drains: true,
    },
    Pipeline {
        name: "no-transactions",
        about: "a sink that calls a function for each record, beside a transactional one",
        build: no_transactions,
        drains: true,
    },
    Pipeline {
        name: "late-windows",
        about: "windows that fire again for late records, and those that are too late beside them",
        build: late_windows,
        drains: false,
    },
    Pipeline {
        name: "event-time",
        about: "two sources of different times, sorted with timers, and their sessions",
        build: event_time,
        drains: false,
    },
    Pipeline {
        name: "looked-up",
        about: "records that are looked up, several at a time, and go on in their order",
        build: looked_up,
        drains: true,
    },
    Pipeline {
        name: "looked-up-in-time",
        about: "looked up and going on as they are answered, never past a watermark, into windows",
        build: looked_up_in_time,
        drains: false,
    },
    Pipeline {
        name: "joined",
        about: "two sources' records that are near each other in time",
        build: joined,
        drains: true,
    },
    Pipeline {
        name: "paired",
        about: "two sources' records of the same window, and those of each that have no other near them",
        build: windows::paired,
        drains: false,
    },
    Pipeline {
        name: "fired-again",
        about: "sliding windows, and windows that fire by time and by their number of records",
        build: windows::fired_again,
        drains: false,
    },
    Pipeline {
        name: "clock-timers",
        about: "records that wait for a time by the clock",
        build: clock::timers,
        drains: true,
    },
    Pipeline {
        name: "clock-windows",
        about: "windows by the clock, tumbling ones and sessions",
        build: clock::windows,
        drains: true,
    },
    Pipeline {
        name: "clock-sliding",
        about: "windows by the clock that slide, and a window without end that fires by it",
        build: clock::sliding,
        drains: true,
    },
    Pipeline {
        name: "expiring",
        about: "counts that are forgotten when nothing of their key has come for a while",
        build: clock::expiring,
        drains: true,
    },
    Pipeline {
        name: "idle",
        about: "a source that is idle for a while, and then counts again, beside another",
        build: clock::idle,
        drains: true,
    },
    Pipeline {
        name: "told-to-all",
        about: "records that wait for a rule, and rules that are broadcast to all subtasks",
        build: broadcast::told_to_all,
        drains: false,
    },
    Pipeline {
        name: "highest",
        about: "the highest records of windows, of those that were not there a while ago",
        build: broadcast::highest,
        drains: false,
    },
];

fn numbers(env: &Env, count: usize) -> MemorySource<u64> {
    MemorySource::new((0..env.records(count) as u64).collect())
}

fn keyed_count(env: &Env) -> Result<Job, BuildError> {
    let flow = Dataflow::new("keyed-count");
    let odd = flow.source("odd", numbers(env, 30)).map(|n| n * 2 + 1);
    let even = flow.source("even", numbers(env, 30)).map(|n| n * 2);
    odd.union(even).key_by(|n| n % 7).count(Emit::EachChange).sink("counts", env.sink("counts"));
    flow.build(JobConfig::new().parallelism(2).key_groups(8))
}

fn chain(env: &Env) -> Result<Job, BuildError> {
    let flow = Dataflow::new("chain");
    flow.source("numbers", numbers(env, 60))
        .filter(|n| n % 5 != 0)
        .map(|n| n * n)
        .sink("squares", env.sink("squares"));
    flow.build(JobConfig::new().parallelism(2))
}

fn fork(env: &Env) -> Result<Job, BuildError> {
    let flow = Dataflow::new("fork");
    let (left, right) = flow.source("numbers", numbers(env, 40)).parallelism(1).fork();
    left.map(|n| n + 1).sink("left", env.sink("left"));
    right.key_by(|n| n % 3).count(Emit::EachChange).sink("right", env.sink("right"));
    flow.build(JobConfig::new().parallelism(2).key_groups(4))
}

fn totals(env: &Env) -> Result<Job, BuildError> {
    let flow = Dataflow::new("totals");
    flow.source("numbers", numbers(env, 30))
        .key_by(|n| n % 9)
        .count(Emit::AtEnd)
        .sink("totals", env.sink("totals"));
    // So that there are checkpoints after the end of one source and before the end of all.
    flow.source("more", numbers(env, 60)).parallelism(1).sink("all", env.sink("all"));
    flow.build(JobConfig::new().parallelism(2).key_groups(8))
}

/// The records of a key that came from one source are emitted in its order. The state of a key is
/// large compared with the rest of its snapshot: otherwise nothing would be shared with an earlier
/// one (SPEC 14.7).
fn history(env: &Env) -> Result<Job, BuildError> {
    let flow = Dataflow::new("history");
    let odd = flow.source("odd", numbers(env, 30)).parallelism(1).map(|n| n * 2 + 1);
    let even = flow.source("even", numbers(env, 30)).parallelism(1).map(|n| n * 2);
    odd.union(even)
        .parallelism(1)
        .key_by(|n| n % 14)
        .process(|n: u64, seen: &mut KeyState<'_, u64, String>, out: &mut Emitter<(u64, usize)>| {
            seen.push_str(&"x".repeat(400));
            out.push((n, seen.len() / 400));
        })
        .sink("history", env.sink("history").in_order(|&(n, _)| (n % 14, n)));
    flow.build(JobConfig::new().parallelism(2).key_groups(8))
}

fn paced(env: &Env) -> Result<Job, BuildError> {
    let flow = Dataflow::new("paced");
    let source = Generator::new(env.records(30) as u64, |n| n).rate(20_000);
    flow.source("numbers", source)
        .parallelism(2)
        .map(|n| (n % 4, n))
        .keyed()
        .reduce(Emit::AtEnd, |sum, n| sum + n)
        .sink("sums", env.sink("sums"));
    flow.build(JobConfig::new().parallelism(3).key_groups(4))
}

fn files(env: &Env) -> Result<Job, BuildError> {
    let flow = Dataflow::new("files");
    flow.source("numbers", numbers(env, 40))
        .key_by(|n| n % 5)
        .count(Emit::EachChange)
        .map(|(key, count)| format!("{key},{count}"))
        .sink("results", env.file_sink("results"));
    flow.build(JobConfig::new().parallelism(2).key_groups(8))
}

fn at_least_once(env: &Env) -> Result<Job, BuildError> {
    let flow = Dataflow::new("at-least-once");
    let one = flow.source("one", numbers(env, 30)).map(|n| n * 2);
    let two = flow.source("two", numbers(env, 30)).map(|n| n * 2 + 1);
    one.union(two).parallelism(1).filter(|n| n % 5 != 0).sink("out", env.sink("out"));
    flow.build(JobConfig::new().parallelism(2).mode(Mode::AtLeastOnce))
}

fn no_transactions(env: &Env) -> Result<Job, BuildError> {
    let flow = Dataflow::new("no-transactions");
    let (told, kept) = flow.source("numbers", numbers(env, 40)).parallelism(1).fork();
    told.sink("told", ForEach::new(|_: &u64| {}));
    kept.sink("kept", env.sink("kept"));
    flow.build(JobConfig::new().parallelism(2))
}

const fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

fn late_windows(env: &Env) -> Result<Job, BuildError> {
    let flow = Dataflow::new("late-windows");
    // One producer, whose records carry the watermarks: which of them are late follows from the
    // input alone.
    let (counts, late) = flow
        .source("numbers", numbers(env, 60))
        .parallelism(1)
        .assign_timestamps(
            Watermarks::punctuated(|n: &u64, at: Timestamp| (n % 5 == 4).then(|| at - ms(3))),
            |n| Timestamp::from_millis(2 * *n as i64 - if n % 7 == 3 { 25 } else { 0 }),
        )
        .key_by(|n| n % 3)
        .window(Tumbling::of(ms(10)))
        .allowed_lateness(ms(12))
        .keep_late()
        .count()
        .split();
    counts
        .map(|it| (it.key, it.window.start.millis(), it.result))
        .sink("counts", env.sink("counts"));
    late.sink("late", env.sink("late"));
    flow.build(JobConfig::new().parallelism(2).key_groups(8))
}

/// Emits a key's numbers in the order of their times, each with its place.
fn sorted(
    input: Input<u64>,
    waiting: &mut TimeContext<'_, u64, (u64, Map<Timestamp, u64>)>,
    out: &mut Emitter<(u64, u64, u64)>,
) {
    let at = waiting.timestamp();
    match input {
        Input::Record(n) if at <= waiting.watermark() => out.push((n, u64::MAX, *waiting.key())),
        Input::Record(n) => {
            waiting.1.insert(at, n);
            waiting.set_timer(at);
        }
        Input::EventTime | Input::ProcessingTime => {
            waiting.0 += 1;
            if let Some(n) = waiting.1.remove(&at) {
                out.push((n, waiting.0, *waiting.key()));
            }
        }
    }
}

fn event_time(env: &Env) -> Result<Job, BuildError> {
    let flow = Dataflow::new("event-time");
    let at = |n: &u64| Timestamp::from_millis(*n as i64);
    let bounded = Watermarks::bounded(ms(4));
    let near = flow.source("near", numbers(env, 20)).map(|n| 100 + 2 * (n ^ 1));
    let far = flow.source("far", numbers(env, 20)).map(|n| 101 + 6 * n);
    let far = far.assign_timestamps(bounded, at);
    near.assign_timestamps(bounded, at)
        .union(far)
        .key_by(|n| n % 4)
        .process(sorted)
        .key_by(|(_, _, key)| *key)
        .window(Session::gap(ms(7)))
        .aggregate_merging(
            |all: &mut Vec<u64>, (n, place, _)| all.extend([n, place]),
            |all: &mut Vec<u64>, later| all.extend(later),
        )
        .map(|mut it| {
            it.result.sort_unstable();
            it
        })
        .sink("sessions", env.sink("sessions"));
    flow.build(JobConfig::new().parallelism(2).key_groups(8))
}

/// The answer for a number.
fn find(n: &u64) -> Result<u64, BoxError> {
    Ok(n * n)
}

fn looked_up(env: &Env) -> Result<Job, BuildError> {
    let flow = Dataflow::new("looked-up");
    flow.source("numbers", numbers(env, 40))
        .parallelism(1)
        .lookup(Lookup::ordered(find as fn(&u64) -> Result<u64, BoxError>).in_flight(4))
        .parallelism(1)
        .sink("squares", env.sink("squares").in_order(|&(n, _)| (0, n)));
    flow.build(JobConfig::new().parallelism(2))
}

fn looked_up_in_time(env: &Env) -> Result<Job, BuildError> {
    let flow = Dataflow::new("looked-up-in-time");
    // A record that a watermark overtook would be late, and missing.
    flow.source("numbers", numbers(env, 50))
        .parallelism(1)
        .assign_timestamps(Watermarks::monotonous().in_steps_of(ms(3)), |n| {
            Timestamp::from_millis(*n as i64)
        })
        .lookup(Lookup::unordered(find as fn(&u64) -> Result<u64, BoxError>).in_flight(5))
        .parallelism(1)
        .key_by(|(n, _)| n % 3)
        .window(Tumbling::of(ms(6)))
        .aggregate(|sum: &mut u64, (n, square)| *sum += n + square)
        .map(|it| (it.key, it.window.start.millis(), it.result))
        .sink("sums", env.sink("sums"));
    flow.build(JobConfig::new().parallelism(2).key_groups(8))
}

fn joined(env: &Env) -> Result<Job, BuildError> {
    let flow = Dataflow::new("joined");
    let at = |n: &u64| Timestamp::from_millis(*n as i64);
    let one = flow.source("one", numbers(env, 30)).assign_timestamps(Watermarks::monotonous(), at);
    let two = flow.source("two", numbers(env, 20)).map(|n| 2 * n);
    let two = two.assign_timestamps(Watermarks::monotonous(), at).key_by(|n| n % 3);
    one.key_by(|n| n % 3)
        .interval_join(two, Between::around(ms(4), ms(6)), |_, one, two| (*one, *two))
        .sink("pairs", env.sink("pairs"));
    flow.build(JobConfig::new().parallelism(2).key_groups(8))
}
