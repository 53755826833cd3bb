//! Enriches each ride with its fare, whichever of the two comes first.

use snapline::connect::{Collect, Source, TwoPhaseSink};
use snapline::{CoProcess, Dataflow, TimeContext, Watermarks};

use super::{Fare, Ride};

#[derive(Clone)]
struct Enrich;

impl CoProcess<u64, Ride, Fare> for Enrich {
    /// The event that came first.
    type State = (Option<Ride>, Option<Fare>);
    type Out = (u64, u64);

    fn left<C: Collect<Self::Out>>(
        &mut self,
        ride: Ride,
        first: &mut TimeContext<'_, u64, Self::State>,
        out: &mut C,
    ) {
        match first.1.take() {
            Some(fare) => {
                out.push((ride.id, fare.tip));
                first.clear();
            }
            None => first.0 = Some(ride),
        }
    }

    fn right<C: Collect<Self::Out>>(
        &mut self,
        fare: Fare,
        first: &mut TimeContext<'_, u64, Self::State>,
        out: &mut C,
    ) {
        match first.0.take() {
            Some(ride) => {
                out.push((ride.id, fare.tip));
                first.clear();
            }
            None => first.1 = Some(fare),
        }
    }
}

pub(crate) fn pipeline(
    rides: impl Source<Record = Ride>,
    fares: impl Source<Record = Fare>,
    sink: impl TwoPhaseSink<Record = (u64, u64)>,
) -> Dataflow {
    let flow = Dataflow::new("rides-and-fares");
    let rides = flow
        .source("rides", rides)
        .filter(|ride| ride.is_start)
        .assign_timestamps(Watermarks::monotonous(), |ride| ride.at);
    let fares =
        flow.source("fares", fares).assign_timestamps(Watermarks::monotonous(), |fare| fare.at);
    rides
        .key_by(|ride| ride.id)
        .connect(fares.key_by(|fare| fare.ride))
        .process_with(Enrich)
        .sink("enriched", sink);
    flow
}
