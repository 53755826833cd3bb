//! Global windows whose triggers depend on the simulated clock: each record is in exactly one
//! result, whatever fails (SPEC 16.15).

use std::time::Duration;

use snapline::connect::{Collect, Generator, MemorySource};
use snapline::sim::{Env, Mutation, Simulation};
use snapline::state::{Key, StateValue};
use snapline::{
    BuildError, Dataflow, Emitter, EveryProcessingTime, EveryRecords, Firing, GlobalWindows, Job,
    JobConfig, Now, Timestamp, Trigger, Watermarks, Window, WindowFunction,
};

type Build = fn(&Env) -> Result<Job, BuildError>;

/// Records since the last result, whose time depends on the clock. They are emitted one by one,
/// because their grouping depends on it too.
fn by_the_clock(env: &Env) -> Result<Job, BuildError> {
    let flow = Dataflow::new("by-the-clock");
    flow.source("numbers", Generator::new(env.records(60) as u64, |n| n).rate(20_000))
        .parallelism(2)
        .assign_timestamps(Watermarks::at_end(), |_| Timestamp::MIN)
        .key_by(|n| n % 3)
        .window(GlobalWindows)
        .trigger(EveryProcessingTime::new(Duration::from_millis(1)).purging())
        .process(|_, _: Window, numbers: &[u64], out: &mut Emitter<u64>| {
            numbers.iter().for_each(|n| out.push(*n));
        })
        .sink("once", env.sink("once"));
    flow.build(JobConfig::new().parallelism(2).key_groups(8))
}

/// Every three records of a key, of one producer.
fn by_count(env: &Env) -> Result<Job, BuildError> {
    let flow = Dataflow::new("by-count");
    flow.source("numbers", MemorySource::new((0..env.records(60) as u64).collect()))
        .parallelism(1)
        .assign_timestamps(Watermarks::at_end(), |_| Timestamp::MIN)
        .key_by(|n| n % 4)
        .window(GlobalWindows)
        .trigger(EveryRecords::new(3))
        .aggregate(|all: &mut Vec<u64>, n| all.push(n))
        .map(|it| (it.key, it.result))
        .sink("so-far", env.sink("so-far"));
    flow.build(JobConfig::new().parallelism(2).key_groups(8))
}

/// Fires and purges at each number that fills a window, and at the third number after that.
#[derive(Clone)]
struct WhenFull;

impl Trigger for WhenFull {
    /// Numbers since it last fired.
    type State = u64;

    fn record(&mut self, at: Timestamp, _: Window, _: Now, since: &mut u64) -> Firing {
        *since += 1;
        if at.millis() % 5 == 0 || *since == 3 {
            *since = 0;
            return Firing::FireAndPurge;
        }
        Firing::Wait
    }

    fn merge(&mut self, _: Window, _: Now, into: &mut u64, from: u64) {
        *into += from;
    }
}

/// All numbers of a window, with its key.
#[derive(Clone)]
struct All;

impl<K, V> WindowFunction<K, V> for All
where
    K: Key,
    V: StateValue,
{
    type Held = Vec<V>;
    type Out = (K, Vec<V>);

    fn add(&mut self, held: &mut Vec<V>, value: V) {
        held.push(value);
    }

    fn merge(&mut self, held: &mut Vec<V>, later: Vec<V>) {
        held.extend(later);
    }

    fn fire<C: Collect<Self::Out>>(&mut self, key: &K, _: Window, held: &Vec<V>, out: &mut C) {
        out.push((key.clone(), held.clone()));
    }
}

/// With a custom trigger and a custom function, of one producer.
fn by_our_own(env: &Env) -> Result<Job, BuildError> {
    let flow = Dataflow::new("by-our-own");
    flow.source("numbers", MemorySource::new((0..env.records(60) as u64).collect()))
        .parallelism(1)
        .assign_timestamps(Watermarks::at_end(), |n| Timestamp::from_millis(*n as i64))
        .key_by(|n| n % 3)
        .window(GlobalWindows)
        .trigger(WhenFull)
        .apply(All)
        .sink("full", env.sink("full"));
    flow.build(JobConfig::new().parallelism(2).key_groups(8))
}

#[test]
fn windows_without_end_are_exactly_once_whatever_fails() {
    let pipelines: [(&str, Build); 3] =
        [("by the clock", by_the_clock), ("by count", by_count), ("by our own", by_our_own)];
    for (name, pipeline) in pipelines {
        let report = Simulation::new(pipeline).run(0..100).expect("it can be simulated");
        if let Some(failure) = report.failure {
            panic!("{name}: {failure}\n{}", failure.trace.join("\n"));
        }
        assert!(report.faults > 100 && report.marks["recoveries"] > 100, "{name}: {report:?}");
    }
}

/// SPEC 16.7, 16.9: timers that are not restored are missed. (The next record, or the end, makes up
/// for a forgotten tick of the clock.)
#[test]
fn what_windows_without_end_may_forget_is_found() {
    let hunt = |pipeline: Build, mutant| {
        let found = Simulation::new(pipeline).mutant(Some(mutant)).hunt(0..60);
        let (seeds, wrong) = found.expect("it can be simulated").expect("it is found");
        println!("{mutant:?}: {seeds} seeds, {wrong}");
    };
    hunt(by_the_clock, Mutation::TimersForgotten);
    hunt(by_count, Mutation::FiringForgotten);
    hunt(by_our_own, Mutation::FiringForgotten);
    hunt(by_count, Mutation::HeldForgotten);
}
