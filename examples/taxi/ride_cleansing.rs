//! Keeps the rides that begin and end in New York City.

use snapline::Dataflow;
use snapline::connect::{Source, TwoPhaseSink};

use super::{Ride, in_new_york};

pub(crate) fn pipeline(
    rides: impl Source<Record = Ride>,
    sink: impl TwoPhaseSink<Record = (u64, bool)>,
) -> Dataflow {
    let flow = Dataflow::new("ride-cleansing");
    flow.source("rides", rides)
        .filter(|ride| in_new_york(ride.from) && in_new_york(ride.to))
        .map(|ride| (ride.id, ride.is_start))
        .sink("in-town", sink);
    flow
}
