//! The pipelines of the examples, unchanged, in a world that crashes: they commit the same output
//! as without a failure.

use std::fmt::Debug;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use snapline::connect::MemorySource;
use snapline::sim::{Env, Simulation, Sink};
use snapline::{BuildError, Dataflow, Job, JobConfig};

/// Only the pipeline, the input and the output of an example are used here.
macro_rules! example {
    ($name:ident, $path:literal) => {
        #[path = $path]
        #[allow(dead_code, reason = "`main` is run by tests/examples.rs")]
        mod $name;
    };
}

example!(fraud_rules, "../../examples/fraud_rules.rs");
example!(log_analytics, "../../examples/log_analytics.rs");
example!(online_model, "../../examples/online_model.rs");
example!(order_payments, "../../examples/order_payments.rs");
example!(sensor_alarms, "../../examples/sensor_alarms.rs");
example!(taxi, "../../examples/taxi/main.rs");

/// The number of seeds for each.
const SEEDS: u64 = 40;

fn killed(name: &str, pipeline: impl Fn(&Env) -> Dataflow) {
    let build = |env: &Env| -> Result<Job, BuildError> {
        pipeline(env).build(JobConfig::new().parallelism(2).key_groups(8))
    };
    let report = Simulation::new(build).run(0..SEEDS).expect("it can be simulated");
    if let Some(failure) = report.failure {
        let directory =
            std::path::Path::new(env!("CARGO_TARGET_TMPDIR")).join("sim-examples").join(name);
        let traces = failure.write_traces(&directory).expect("the scratch directory is writable");
        panic!("{name}: {failure}\ntraces: {}\n{}", traces.display(), failure.trace.join("\n"));
    }
    let mark = |mark: &str| report.marks.get(mark).copied().unwrap_or(0);
    let (complete, recoveries) = (mark("checkpoints complete"), mark("recoveries"));
    println!("{name}: {} runs, {recoveries} recoveries, {complete} checkpoints", report.runs);
    assert!(report.faults > SEEDS && complete > SEEDS && recoveries > SEEDS, "{report:?}");
    assert!(report.records > 0, "{name} commits nothing: {report:?}");
}

fn source<T: Clone + Send + Sync + 'static>(
    env: &Env,
    full: usize,
    make: impl Fn(u64) -> T,
) -> MemorySource<T> {
    MemorySource::new((0..env.records(full) as u64).map(make).collect())
}

fn sink<T: Debug + Send + 'static>(env: &Env, name: &str) -> Sink<T> {
    env.sink(name)
}

#[test]
fn requests_by_the_minute() {
    let log: Vec<String> = log_analytics::log().lines().map(str::to_owned).collect();
    killed("log_analytics", |env| {
        // Each tenth line, so that there are late ones.
        let lines = source(env, 120, |number| log[number as usize * 9].clone());
        log_analytics::pipeline(lines, sink(env, "per-minute"), sink(env, "too-late"))
    });
}

#[test]
fn alarms_of_sensors() {
    killed("sensor_alarms", |env| {
        let readings = source(env, 200, |number| sensor_alarms::reading(number * 61));
        sensor_alarms::pipeline(readings, sink(env, "alarms"))
    });
}

#[test]
fn payments_of_orders() {
    killed("order_payments", |env| {
        let payments = (0..env.records(40) as u64).filter_map(order_payments::payment).collect();
        order_payments::pipeline(
            source(env, 40, order_payments::order),
            MemorySource::new(payments),
            sink(env, "paid"),
            sink(env, "given-up"),
        )
    });
}

#[test]
fn rides_in_town() {
    killed("ride_cleansing", |env| {
        let rides = MemorySource::new(taxi::rides(env.records(30) as u64));
        taxi::ride_cleansing::pipeline(rides, sink(env, "in-town"))
    });
}

#[test]
fn rides_with_their_fares() {
    killed("rides_and_fares", |env| {
        let count = env.records(30) as u64;
        let (rides, fares) = (taxi::rides(count), taxi::fares(count));
        taxi::rides_and_fares::pipeline(
            MemorySource::new(rides),
            MemorySource::new(fares),
            sink(env, "enriched"),
        )
    });
}

#[test]
fn tips_by_the_hour() {
    killed("hourly_tips", |env| {
        // Three hours.
        let fares = taxi::fares(540);
        let some = source(env, 60, |number| fares[number as usize * 9].clone());
        taxi::hourly_tips::pipeline(some, sink(env, "best"))
    });
}

#[test]
fn long_rides() {
    killed("long_rides", |env| {
        let rides = MemorySource::new(taxi::rides(env.records(60) as u64));
        taxi::long_rides::pipeline(rides, sink(env, "alerts"))
    });
}

#[test]
fn alerts_by_rules_that_change() {
    // Some cards around the time at which rules change.
    let some = (2_000..fraud_rules::PAYMENTS).map(fraud_rules::payment);
    let some = some.filter(|(card, second, _)| card % 50 == 7 && (160..240).contains(second));
    let some: Vec<fraud_rules::Payment> = some.collect();
    killed("fraud_rules", |env| {
        let payments = MemorySource::new(some[..env.records(some.len())].to_vec());
        let rules = MemorySource::new(fraud_rules::RULES.to_vec());
        let nothing = Arc::new(AtomicBool::new(false));
        fraud_rules::pipeline(payments, rules, nothing, sink(env, "alerts"))
    });
}

#[test]
fn models_learned_online() {
    killed("online_model", |env| {
        let nothing = Arc::new(AtomicBool::new(false));
        online_model::pipeline(source(env, 120, |number| number), nothing, sink(env, "models"))
    });
}
