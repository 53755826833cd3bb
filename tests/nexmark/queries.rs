//! The queries, as a user would write them. Each takes the stream of events, whose times are
//! assigned, and ends in a sink.

use std::time::Duration;

use nexmark::event::{Auction, Bid, Event, Person};
use snapline::connect::{Collect, MemorySink};
use snapline::{
    Between, CoProcess, Emit, Pipe, Sliding, TimeContext, Timed, TimedStream, Timestamp, Tumbling,
};

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

fn bid(event: Event) -> Option<Bid> {
    if let Event::Bid(bid) = event { Some(bid) } else { None }
}

fn auction(event: Event) -> Option<Auction> {
    if let Event::Auction(auction) = event { Some(auction) } else { None }
}

fn person(event: Event) -> Option<Person> {
    if let Event::Person(person) = event { Some(person) } else { None }
}

/// Query 0: the bids as they are.
pub(crate) fn pass_through<P: Pipe<Out = Timed<Event>>>(
    events: TimedStream<P>,
    out: MemorySink<Bid>,
) {
    events.flat_map(bid).sink("out", out);
}

/// Query 1: the bids in another currency.
pub(crate) fn currency<P: Pipe<Out = Timed<Event>>>(events: TimedStream<P>, out: MemorySink<Bid>) {
    events.flat_map(bid).map(|bid| Bid { price: bid.price * 908 / 1_000, ..bid }).sink("out", out);
}

/// Query 2: the bids for some auctions: auction and price.
pub(crate) fn selection<P: Pipe<Out = Timed<Event>>>(
    events: TimedStream<P>,
    out: MemorySink<(usize, usize)>,
) {
    events
        .flat_map(bid)
        .filter(|bid| bid.auction % 123 == 0)
        .map(|bid| (bid.auction, bid.price))
        .sink("out", out);
}

/// Query 3: persons in three states who sell things of category 10: name, city, state, auction.
pub(crate) fn local_items<P: Pipe<Out = Timed<Event>>>(
    events: TimedStream<P>,
    out: MemorySink<(String, String, String, usize)>,
) {
    let (auctions, people) = events.fork();
    let auctions = auctions
        .flat_map(auction)
        .filter(|auction| auction.category == 10)
        .map(|auction| (auction.seller, auction.id))
        .keyed();
    let people = people
        .flat_map(person)
        .filter(|person| ["or", "id", "ca"].contains(&person.state.as_str()))
        .map(|person| (person.id, (person.name, person.city, person.state)))
        .keyed();
    auctions
        .interval_join(people, Between::around(DAY, DAY), |_, auction, (name, city, state)| {
            (name.clone(), city.clone(), state.clone(), *auction)
        })
        .sink("out", out);
}

/// The result of an auction: the highest of the bids between its begin and its end.
#[derive(Clone)]
struct Close;

impl CoProcess<usize, (u64, u64, usize), (u64, usize)> for Close {
    /// Begin, end and category once they are known; time and price of the bids.
    type State = (Option<(u64, u64, usize)>, Vec<(u64, usize)>);
    /// Category and price.
    type Out = (usize, usize);

    fn left<C: Collect<Self::Out>>(
        &mut self,
        auction: (u64, u64, usize),
        state: &mut TimeContext<'_, usize, Self::State>,
        _: &mut C,
    ) {
        state.0 = Some(auction);
        state.set_timer(Timestamp::from_millis(auction.1 as i64));
    }

    fn right<C: Collect<Self::Out>>(
        &mut self,
        bid: (u64, usize),
        state: &mut TimeContext<'_, usize, Self::State>,
        _: &mut C,
    ) {
        state.1.push(bid);
    }

    fn event_time<C: Collect<Self::Out>>(
        &mut self,
        state: &mut TimeContext<'_, usize, Self::State>,
        out: &mut C,
    ) {
        let (auction, bids) = std::mem::take(&mut **state);
        let Some((from, to, category)) = auction else { return };
        let bids = bids.iter().filter(|(at, _)| (from..=to).contains(at));
        if let Some((_, price)) = bids.max_by_key(|(_, price)| price) {
            out.push((category, *price));
        }
        state.clear();
    }
}

/// Query 4: the average result of the auctions of each category.
pub(crate) fn average_price<P: Pipe<Out = Timed<Event>>>(
    events: TimedStream<P>,
    out: MemorySink<(usize, usize)>,
) {
    let (auctions, bids) = events.fork();
    let auctions = auctions
        .flat_map(auction)
        .map(|auction| (auction.id, (auction.date_time, auction.expires, auction.category)))
        .keyed();
    let bids = bids.flat_map(bid).map(|bid| (bid.auction, (bid.date_time, bid.price))).keyed();
    auctions
        .connect(bids)
        .process_with(Close)
        .with_timestamps()
        .map(|sold| sold.value)
        .keyed()
        .aggregate(Emit::AtEnd, |(sum, count): &mut (usize, usize), price| {
            (*sum, *count) = (*sum + price, *count + 1);
        })
        .map(|(category, (sum, count))| (category, sum / count))
        .sink("out", out);
}

/// Query 5: the auctions with the most bids in the last ten seconds, every two: end of the window,
/// auction, bids.
pub(crate) fn hot_items<P: Pipe<Out = Timed<Event>>>(
    events: TimedStream<P>,
    out: MemorySink<(i64, usize, u64)>,
) {
    events
        .flat_map(bid)
        .key_by(|bid| bid.auction)
        .window(Sliding::of(Duration::from_secs(10), Duration::from_secs(2)))
        .count()
        .map(|counted| (counted.window.end.millis(), counted.key, counted.result))
        .key_by(|(end, _, _)| *end)
        .window(Tumbling::of(Duration::from_secs(2)))
        .process(|_, _, counts, out| {
            let most = counts.iter().map(|count| count.2).max();
            counts.iter().filter(|count| Some(count.2) == most).for_each(|count| out.push(*count));
        })
        .sink("out", out);
}

/// Query 7: the highest bids of every ten seconds: end of the window, auction, bidder, price.
pub(crate) fn highest_bid<P: Pipe<Out = Timed<Event>>>(
    events: TimedStream<P>,
    out: MemorySink<(i64, usize, usize, usize)>,
) {
    events
        .flat_map(bid)
        .map(|bid| (bid.auction, bid.bidder, bid.price))
        .key_by(|_| ())
        .window(Tumbling::of(Duration::from_secs(10)))
        .process(|_, window, bids, out| {
            let highest = bids.iter().map(|bid| bid.2).max();
            let highest = bids.iter().filter(|bid| Some(bid.2) == highest);
            highest.for_each(|bid| out.push((window.end.millis(), bid.0, bid.1, bid.2)));
        })
        .sink("out", out);
}

/// Query 8: persons who came and opened an auction in the same ten seconds: person, name, end of
/// the window.
pub(crate) fn new_users<P: Pipe<Out = Timed<Event>>>(
    events: TimedStream<P>,
    out: MemorySink<(usize, String, i64)>,
) {
    let (people, auctions) = events.fork();
    let people = people.flat_map(person).map(|person| (person.id, person.name)).keyed();
    let sellers = auctions.flat_map(auction).map(|auction| (auction.seller, ())).keyed();
    people
        .connect(sellers)
        .window_join(Tumbling::of(Duration::from_secs(10)), |id, window, name, ()| {
            (*id, name.clone(), window.end.millis())
        })
        .key_by(|(id, _, end)| (*id, *end))
        .distinct(Duration::from_secs(10))
        .sink("out", out);
}
