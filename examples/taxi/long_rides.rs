//! Reports rides of more than two hours as soon as they exceed them, even without an end.

use std::time::Duration;

use snapline::connect::{Collect, Source, TwoPhaseSink};
use snapline::{Dataflow, TimeContext, TimedProcess, Watermarks};

use super::Ride;

const LONG: Duration = Duration::from_secs(2 * 3_600);

#[derive(Clone)]
struct Alert;

impl TimedProcess<u64, Ride> for Alert {
    /// The end that came first.
    type State = Option<Ride>;
    type Out = u64;

    fn process<C: Collect<u64>>(
        &mut self,
        ride: Ride,
        first: &mut TimeContext<'_, u64, Self::State>,
        out: &mut C,
    ) {
        match first.take() {
            None => {
                if ride.is_start {
                    first.set_timer(ride.at + LONG);
                }
                **first = Some(ride);
            }
            Some(other) => {
                let (start, end) = if ride.is_start { (ride, other) } else { (other, ride) };
                first.delete_timer(start.at + LONG);
                first.clear();
                if end.at - start.at > LONG {
                    out.push(start.id);
                }
            }
        }
    }

    fn event_time<C: Collect<u64>>(
        &mut self,
        first: &mut TimeContext<'_, u64, Self::State>,
        out: &mut C,
    ) {
        out.push(*first.key());
        first.clear();
    }
}

pub(crate) fn pipeline(
    rides: impl Source<Record = Ride>,
    sink: impl TwoPhaseSink<Record = u64>,
) -> Dataflow {
    let flow = Dataflow::new("long-rides");
    flow.source("rides", rides)
        .assign_timestamps(Watermarks::bounded(Duration::from_secs(60)), |ride| ride.at)
        .key_by(|ride| ride.id)
        .process_with(Alert)
        .sink("alerts", sink);
    flow
}
