//! Four small pipelines over taxi rides and their fares, each in a file of its own: the exercises
//! of Apache Flink's training, for comparison.
//!
//! ```sh
//! cargo run --example taxi
//! ```
//!
//! The rides are made here: 2,000 of them, some out of town, every fiftieth of more than two hours.
//! The output is compared with a plain computation over the whole input.
#![allow(clippy::print_stdout, reason = "an example shows what it does")]

pub(crate) mod hourly_tips;
pub(crate) mod long_rides;
pub(crate) mod ride_cleansing;
pub(crate) mod rides_and_fares;

use std::collections::{BTreeMap, BTreeSet};
use std::error::Error;
use std::fmt::Debug;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use snapline::connect::{MemorySink, MemorySource};
use snapline::{Dataflow, Ended, JobConfig, Level, Timestamp};

/// The beginning or the end of a taxi ride.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub(crate) struct Ride {
    pub(crate) id: u64,
    pub(crate) is_start: bool,
    pub(crate) at: Timestamp,
    /// Longitude and latitude of the two ends.
    pub(crate) from: (f64, f64),
    pub(crate) to: (f64, f64),
}

/// Paid when a ride begins.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub(crate) struct Fare {
    pub(crate) ride: u64,
    pub(crate) driver: u64,
    pub(crate) at: Timestamp,
    /// In cents.
    pub(crate) tip: u64,
}

/// Whether a place is in New York City, roughly.
pub(crate) fn in_new_york((longitude, latitude): (f64, f64)) -> bool {
    (-74.05..-73.7).contains(&longitude) && (40.5..41.0).contains(&latitude)
}

/// This many rides, one beginning every 20 seconds, in the order of their events.
pub(crate) fn rides(count: u64) -> Vec<Ride> {
    let place =
        |number: u64| (-74.1 + (number % 40) as f64 * 0.01, 40.6 + (number % 7) as f64 * 0.01);
    let both = |id: u64| {
        let (start, minutes) = (id as i64 * 20_000, if id % 50 == 49 { 150 } else { 5 + id % 40 });
        let (from, to) = (place(id * 3), place(id * 5 + 1));
        let end = start + minutes as i64 * 60_000;
        [(true, start), (false, end)].map(|(is_start, at)| Ride {
            id,
            is_start,
            at: Timestamp::from_millis(at),
            from,
            to,
        })
    };
    let mut events: Vec<Ride> = (0..count).flat_map(both).collect();
    events.sort_by_key(|ride| (ride.at, ride.id));
    events
}

/// Their fares.
pub(crate) fn fares(count: u64) -> Vec<Fare> {
    let fare = |ride: u64| Fare {
        ride,
        driver: ride % 23,
        at: Timestamp::from_millis(ride as i64 * 20_000),
        tip: 50 + ride * 7_919 % 997,
    };
    (0..count).map(fare).collect()
}

/// Runs a pipeline and compares its output.
fn run<T: Ord + Clone + Debug + Send + 'static>(
    pipeline: impl FnOnce(MemorySink<T>) -> Dataflow,
    expected: impl IntoIterator<Item = T>,
) -> Result<(), Box<dyn Error>> {
    let sink = MemorySink::new();
    let flow = pipeline(sink.clone());
    let config = JobConfig::new()
        .parallelism(2)
        .checkpoint_interval(Duration::from_millis(50))
        .require(Level::ExactlyOnce);
    let job = flow.build(config)?;
    let name = job.name().to_owned();
    let outcome = job.run()?;
    let (mut found, mut expected): (Vec<T>, Vec<T>) =
        (sink.committed(), expected.into_iter().collect());
    found.sort();
    expected.sort();
    println!("{name}: {:?}, {} results", outcome.ended, found.len());
    match outcome.ended {
        Ended::Finished if found == expected => Ok(()),
        ended => Err(format!("{name}: {ended:?}, expected {} results", expected.len()).into()),
    }
}

pub(crate) fn main() -> Result<(), Box<dyn Error>> {
    const RIDES: u64 = 2_000;
    let (rides, fares) = (rides(RIDES), fares(RIDES));
    let (all, paid) = (MemorySource::new(rides.clone()), MemorySource::new(fares.clone()));

    let at_home = |ride: &&Ride| in_new_york(ride.from) && in_new_york(ride.to);
    let kept = rides.iter().filter(at_home).map(|ride| (ride.id, ride.is_start));
    run(|sink| ride_cleansing::pipeline(all.clone(), sink), kept)?;

    let pairs = fares.iter().map(|fare| (fare.ride, fare.tip));
    run(|sink| rides_and_fares::pipeline(all.clone(), paid.clone(), sink), pairs)?;

    let mut tips: BTreeMap<(i64, u64), u64> = BTreeMap::new();
    for fare in &fares {
        let hour = fare.at.millis() / 3_600_000 + 1;
        *tips.entry((hour, fare.driver)).or_default() += fare.tip;
    }
    let hours: BTreeSet<i64> = tips.keys().map(|(hour, _)| *hour).collect();
    let best = hours.iter().filter_map(|hour| {
        let of_hour = tips.iter().filter(|((this, _), _)| this == hour);
        of_hour.map(|((hour, driver), sum)| (*hour, *sum, *driver)).max()
    });
    run(|sink| hourly_tips::pipeline(paid, sink), best)?;

    let long = (0..RIDES).filter(|id| id % 50 == 49);
    run(|sink| long_rides::pipeline(all, sink), long)
}
