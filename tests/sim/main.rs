//! The simulator: on its own pipelines, twice with the same result, and on a pipeline that is
//! wrong.
#![allow(clippy::print_stdout, reason = "a test says what it found")]

mod continuous;
mod examples;

use snapline::connect::MemorySource;
use snapline::sim::pipelines::PIPELINES;
use snapline::sim::{self, Env, Fault, Mutation, Simulation};
use snapline::trace::{RunTrace, replay};
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

/// A pipeline that remembers its input outside of its state.
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

/// The pipeline is wrong, not the protocol: its processes conform, and their traces show it.
#[test]
fn a_failure_tells_how_to_see_it_again_and_leaves_traces() {
    let checked = std::panic::catch_unwind(|| sim::check(forgetful, 0..200));
    let message = checked.expect_err("it forgets").downcast::<String>().expect("a message");
    assert!(message.contains("run this test with SNAPLINE_SIM_SEED="), "{message}");
    let line = message.lines().find(|line| line.contains("snapline trace replay "));
    let (_, path) = line.and_then(|line| line.rsplit_once(' ')).expect("it says where traces are");
    let traces = RunTrace::read_all(&[path]).expect("they are there");
    let replayed = replay(&traces).expect("nothing is wrong with them");
    assert!(replayed.tally.lines > 100, "{replayed}");
}

/// A pipeline that promises an order and breaks it.
fn backwards(env: &Env) -> Result<Job, BuildError> {
    let flow = Dataflow::new("backwards");
    flow.source("numbers", MemorySource::new((0..env.records(50) as u64).collect()))
        .parallelism(1)
        .sink("falling", env.sink("falling").in_order(|number: &u64| (0, u64::MAX - number)));
    flow.build(JobConfig::new().parallelism(1))
}

#[test]
fn records_out_of_order_are_found() {
    let error = Simulation::new(backwards).run(0..1).expect_err("without any fault too");
    assert!(error.contains("sink `falling` shows 1 out of order"), "{error}");
}

/// Replay may be partial; the run itself is the same.
#[test]
fn runs_do_the_same_whether_they_are_replayed_or_not() {
    let run = |every| {
        let simulation = PIPELINES[0].simulation().replay_every(every);
        simulation.run(200..210).expect("it can be simulated")
    };
    let (all, some, none) = (run(1), run(5), run(0));
    assert_eq!((all.digest, all.steps), (none.digest, none.steps));
    let lines = |report: &sim::Report| report.marks.get("trace lines replayed").copied();
    assert!(lines(&all) > lines(&some) && lines(&some) > Some(0) && lines(&none).is_none());
}

/// SPEC 16.3, 16.4, 16.6 to 16.10, 16.12, 16.13: each planted fault breaks the rule of the clause,
/// and a seed of the pipeline finds it.
#[test]
fn what_operators_may_forget_is_found() {
    let faults = [
        (Mutation::WatermarkForgotten, "late-windows"),
        (Mutation::AnyWatermark, "event-time"),
        (Mutation::TimersForgotten, "event-time"),
        (Mutation::FiringForgotten, "late-windows"),
        (Mutation::LateSwallowed, "late-windows"),
        (Mutation::ClockTimersForgotten, "clock-timers"),
        (Mutation::ClockTimersForgotten, "clock-windows"),
        (Mutation::ExpiryForgotten, "expiring"),
        (Mutation::IdleForEver, "idle"),
        (Mutation::ToldOneOnly, "told-to-all"),
        (Mutation::TimersForgotten, "highest"),
        (Mutation::HeldForgotten, "highest"),
        (Mutation::HeldForgotten, "paired"),
        (Mutation::HeldForgotten, "fired-again"),
        (Mutation::FiringForgotten, "fired-again"),
        (Mutation::ClockTimersForgotten, "clock-sliding"),
        (Mutation::KeyStateForgotten, "joined"),
        (Mutation::KeyStateForgotten, "paired"),
        (Mutation::KeyStateForgotten, "highest"),
    ];
    found(&faults);
}

/// SPEC 15.10: planted faults in which a lookup operator forgets records or lets them pass.
#[test]
fn what_is_being_looked_up_and_is_forgotten_is_missed() {
    found(&[
        (Mutation::InFlightForgotten, "looked-up"),
        (Mutation::AnsweredForgotten, "looked-up-in-time"),
        (Mutation::AnswersOvertake, "looked-up"),
        (Mutation::MarkOvertakes, "looked-up-in-time"),
    ]);
}

/// The pipeline finds each fault.
fn found(faults: &[(Mutation, &str)]) {
    for &(mutant, name) in faults {
        let pipeline = PIPELINES.iter().find(|it| it.name == name).expect("there is such a one");
        let hunted = pipeline.simulation().mutant(Some(mutant)).hunt(0..120);
        let found = hunted.expect("it can be simulated");
        let (seeds, wrong) = found.unwrap_or_else(|| panic!("{mutant:?} is not found by {name}"));
        println!("{mutant:?}, {name}: {seeds} seeds, {wrong}");
    }
}

/// SPEC 3.2, 8.1: while a process was slow to restore a checkpoint, two others took the job over
/// and deleted it. That is not damage of the store.
#[test]
fn who_comes_too_late_to_a_checkpoint_is_deposed() {
    let pipeline = PIPELINES.iter().find(|it| it.name == "clock-timers").expect("it is there");
    let report = pipeline.simulation().run(161..162).expect("it can be simulated");
    assert!(report.failure.is_none() && report.marks["deposed"] > 0, "{report:?}");
}
