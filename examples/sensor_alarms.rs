//! Turns a sensor's hot readings into alarms: hot readings at most half a minute apart form one
//! alarm, with its duration and its highest temperature.
//!
//! ```sh
//! cargo run --example sensor_alarms
//! ```
//!
//! The readings are made here: 20 sensors for an hour, each hot twice. A silent one is not awaited.
#![allow(clippy::print_stdout, reason = "an example shows what it does")]

use std::error::Error;
use std::time::Duration;

use snapline::connect::{Generator, MemorySink, Source, TwoPhaseSink};
use snapline::{Dataflow, Ended, JobConfig, Level, Session, Timestamp, Watermarks};

const SENSORS: u64 = 20;
const SECONDS: u64 = 3_600;
/// The temperature from which on a reading is hot.
const HOT: i64 = 80;

/// Sensor, second, degrees.
pub(crate) type Reading = (u64, u64, i64);

/// Each sensor is read every five seconds. It is hot for 1.5 minutes, and later for three.
pub(crate) fn reading(number: u64) -> Reading {
    let (sensor, second) = (number % SENSORS, number / SENSORS * 5);
    let first = 300 + sensor * 60;
    let second_time = 1_900 + sensor * 60;
    let hot =
        (first..first + 90).contains(&second) || (second_time..second_time + 180).contains(&second);
    (sensor, second, if hot { HOT + (second % 7) as i64 } else { 20 })
}

/// Sensor, second, duration in seconds, highest temperature.
pub(crate) type Alarm = (u64, u64, u64, i64);

pub(crate) fn pipeline(
    readings: impl Source<Record = Reading>,
    alarms: impl TwoPhaseSink<Record = Alarm>,
) -> Dataflow {
    let flow = Dataflow::new("sensor-alarms");
    flow.source("readings", readings)
        .assign_timestamps(
            Watermarks::bounded(Duration::from_secs(5)).idle(Duration::from_secs(600)),
            |(_, second, _)| Timestamp::from_millis(*second as i64 * 1_000),
        )
        .filter(|(_, _, degrees)| *degrees >= HOT)
        .key_by(|(sensor, _, _)| *sensor)
        .window(Session::gap(Duration::from_secs(30)))
        .aggregate_merging(
            |(last, hottest): &mut (u64, i64), (_, second, degrees): Reading| {
                (*last, *hottest) = ((*last).max(second), (*hottest).max(degrees));
            },
            |(last, hottest), later| {
                (*last, *hottest) = ((*last).max(later.0), (*hottest).max(later.1))
            },
        )
        .map(|alarm| {
            let begin = alarm.window.start.millis() as u64 / 1_000;
            (alarm.key, begin, alarm.result.0 - begin, alarm.result.1)
        })
        .sink("alarms", alarms);
    flow
}

fn main() -> Result<(), Box<dyn Error>> {
    let alarms = MemorySink::new();
    let flow = pipeline(Generator::new(SENSORS * SECONDS / 5, reading), alarms.clone());
    let config = JobConfig::new()
        .parallelism(2)
        .checkpoint_interval(Duration::from_millis(50))
        .require(Level::ExactlyOnce);
    let outcome = flow.build(config)?.run()?;
    println!("outcome: {:?}", outcome.ended);

    let mut all: Vec<Alarm> = alarms.committed();
    all.sort_unstable();
    for (sensor, begin, seconds, hottest) in all.iter().take(4) {
        println!("sensor {sensor}: at {begin} s for {seconds} s, up to {hottest} degrees");
    }
    println!("{} alarms", all.len());
    match outcome.ended {
        Ended::Finished if all.len() as u64 == 2 * SENSORS => Ok(()),
        ended => Err(format!("{ended:?}: {} alarms", all.len()).into()),
    }
}
