//! Finds, for each hour, the driver with the most tips.

use std::time::Duration;

use snapline::connect::{Source, TwoPhaseSink};
use snapline::{Dataflow, Tumbling, Watermarks};

use super::Fare;

const HOUR: Duration = Duration::from_secs(3_600);

pub(crate) fn pipeline(
    fares: impl Source<Record = Fare>,
    sink: impl TwoPhaseSink<Record = (i64, u64, u64)>,
) -> Dataflow {
    let flow = Dataflow::new("hourly-tips");
    flow.source("fares", fares)
        .assign_timestamps(Watermarks::monotonous(), |fare| fare.at)
        .key_by(|fare| fare.driver)
        .window(Tumbling::of(HOUR))
        .aggregate(|tips: &mut u64, fare| *tips += fare.tip)
        .map(|hour| (hour.window.end.millis() / 3_600_000, hour.result, hour.key))
        .key_by(|(hour, ..)| *hour)
        .window(Tumbling::of(HOUR))
        .reduce(|one, other| one.max(other))
        .map(|best| best.result)
        .sink("best", sink);
    flow
}
