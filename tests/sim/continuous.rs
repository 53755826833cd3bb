//! Windows without end whose triggers go by the simulated clock: each record is in exactly one result, whatever fails (SPEC 16.15).

use std::time::Duration;

use snapline::connect::{Collect, Generator, MemorySource};
use snapline::sim::{Env, Mutant, Simulation};
use snapline::{
    BuildError, Dataflow, Emitter, EveryProcessingTime, EveryRecords, GlobalWindows, Job,
    JobConfig, Timestamp, Trigger, Watermarks, Window,
};

type Build = fn(&Env) -> Result<Job, BuildError>;

/// Records since the last result, whose time the clock says; emitted one by one, as which of them are together it says too.
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

#[test]
fn windows_without_end_are_exactly_once_whatever_fails() {
    let pipelines: [(&str, Build); 2] = [("by the clock", by_the_clock), ("by count", by_count)];
    for (name, pipeline) in pipelines {
        let report = Simulation::new(pipeline).run(0..100).expect("it can be simulated");
        if let Some(failure) = report.failure {
            panic!("{name}: {failure}\n{}", failure.trace.join("\n"));
        }
        assert!(report.faults > 100 && report.marks["recoveries"] > 100, "{name}: {report:?}");
    }
}

/// SPEC 16.7, 16.9: what is not restored is missed. (A tick of the clock that is forgotten is made up for by the next record, or the end.)
#[test]
fn what_windows_without_end_may_forget_is_found() {
    let hunt = |pipeline: Build, mutant| {
        let found = Simulation::new(pipeline).mutant(Some(mutant)).hunt(0..60);
        let (seeds, wrong) = found.expect("it can be simulated").expect("it is found");
        println!("{mutant:?}: {seeds} seeds, {wrong}");
    };
    hunt(by_the_clock, Mutant::TimersForgotten);
    hunt(by_count, Mutant::FiringForgotten);
}
