//! The simulator: on its own pipelines, twice the same, and on a pipeline that is wrong.
#![allow(clippy::print_stdout, reason = "a test says what it found")]

use snapline::connect::MemorySource;
use snapline::sim::pipelines::PIPELINES;
use snapline::sim::{self, Env, Fault, Mutant, Simulation};
use snapline::{BuildError, Dataflow, Job, JobConfig};

#[test]
fn pipelines_are_exactly_once_whatever_fails() {
    for pipeline in PIPELINES {
        let report = pipeline.simulation().run(0..60).expect("it can be simulated");
        if let Some(failure) = report.failure {
            panic!("{}: {failure}\n{}", pipeline.name, failure.trace.join("\n"));
        }
        assert!(report.faults > 60 && report.marks["checkpoints complete"] > 60, "{report:?}");
    }
}

#[test]
fn the_same_seeds_give_the_same_runs() {
    for pipeline in PIPELINES {
        let run = || pipeline.simulation().run(100..110).expect("it can be simulated");
        let (one, other) = (run(), run());
        assert_eq!((one.digest, one.steps, &one.marks), (other.digest, other.steps, &other.marks));
        let next = pipeline.simulation().run(101..111).expect("it can be simulated");
        assert_ne!(one.digest, next.digest);
    }
}

#[test]
fn a_seed_without_faults_has_none() {
    for pipeline in PIPELINES {
        let calm = pipeline.simulation().faults(&[]);
        let report = calm.run(0..5).expect("it can be simulated");
        assert!(report.failure.is_none() && report.faults == 0, "{report:?}");
    }
}

/// A pipeline that remembers outside of its state what it has seen.
fn forgetful(env: &Env) -> Result<Job, BuildError> {
    let mut seen = 0_u64;
    let flow = Dataflow::new("forgetful");
    flow.source("numbers", MemorySource::new((0..env.records(50) as u64).collect()))
        .parallelism(1)
        .map(move |number| {
            seen += 1;
            (number, seen)
        })
        .sink("numbered", env.sink("numbered"));
    flow.build(JobConfig::new().parallelism(1))
}

#[test]
fn a_pipeline_that_keeps_state_of_its_own_is_found_and_made_small() {
    let report = Simulation::new(forgetful).faults(Fault::ALL).run(0..200).expect("it is one");
    let failure = report.failure.expect("what it forgets, it gets wrong");
    assert!(failure.what.contains("sink `numbered` shows"), "{failure}");
    assert!(failure.count <= 2 && !failure.trace.is_empty(), "{failure}");
}

#[test]
#[should_panic(expected = "SNAPLINE_SIM_SEED")]
fn a_failure_tells_how_to_see_it_again() {
    sim::check(forgetful, 0..200);
}

/// SPEC 16.3, 16.4, 16.6, 16.9, 16.10: each planted fault breaks what the clause says, and a seed of a pipeline with event time finds it.
#[test]
fn what_event_time_may_forget_is_found() {
    let faults = [
        (Mutant::WatermarkForgotten, "late-windows"),
        (Mutant::AnyWatermark, "event-time"),
        (Mutant::TimersForgotten, "event-time"),
        (Mutant::FiringForgotten, "late-windows"),
        (Mutant::LateSwallowed, "late-windows"),
    ];
    for (mutant, name) in faults {
        let pipeline = PIPELINES.iter().find(|it| it.name == name).expect("there is such a one");
        let hunted = pipeline.simulation().mutant(Some(mutant)).hunt(0..60);
        let found = hunted.expect("it can be simulated");
        let (seeds, wrong) = found.unwrap_or_else(|| panic!("{mutant:?} is not found by {name}"));
        println!("{mutant:?}, {name}: {seeds} seeds, {wrong}");
    }
}
