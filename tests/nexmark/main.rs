//! Nexmark: queries over an auction house's events, compared with results computed over all events
//! one after the other. Each query fails once after a checkpoint.

mod queries;
mod reference;

use std::fmt::Debug;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use nexmark::EventGenerator;
use nexmark::config::NexmarkConfig;
use nexmark::event::{Bid, Event};
use snapline::connect::{Generator, MemorySink};
use snapline::{BoxError, Dataflow, JobConfig, JobHandle, Level, Restart, Timestamp, Watermarks};

/// Forty seconds of the auction house.
const EVENTS: u64 = 20_000;

/// The largest disorder in a group of events: 50 of them, 2 ms apart.
const DISORDER: Duration = Duration::from_millis(100);

/// The same events in every run: the generator draws them from their numbers.
fn config() -> NexmarkConfig {
    NexmarkConfig {
        base_time: 1_577_836_800_000,
        first_rate: 500,
        next_rate: 500,
        out_of_order_group_size: 50,
        // So that some new persons sell.
        active_people: 50,
        ..NexmarkConfig::default()
    }
}

fn event(number: u64, config: &NexmarkConfig) -> Event {
    let mut events = EventGenerator::new(config.clone()).with_offset(number);
    events.next().expect("the generator has no end")
}

fn all() -> Vec<Event> {
    let config = config();
    (0..EVENTS).map(|number| event(number, &config)).collect()
}

/// Runs a query, which fails once after a checkpoint. Returns the final content of its sink, in
/// order.
macro_rules! run {
    ($query:path) => {{
        let (out, config) = (MemorySink::new(), config());
        let (armed, failed) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
        let flow = Dataflow::new("nexmark");
        // In real time this is two seconds.
        let source = Generator::new(EVENTS, move |number| event(number, &config)).rate(10_000);
        let events = flow
            .source("events", source)
            .try_map(fails_once(&armed, &failed))
            .assign_timestamps(Watermarks::bounded(DISORDER), |event: &Event| {
                Timestamp::from_millis(event.timestamp() as i64)
            });
        $query(events, out.clone());
        let job = JobConfig::new()
            .parallelism(2)
            .checkpoint_interval(Duration::from_millis(50))
            .restart(Restart::Fixed { attempts: 1, pause: Duration::from_millis(1) })
            .require(Level::ExactlyOnce);
        let handle =
            flow.build(job).expect("the job can be built").spawn().expect("the job starts");
        // In the middle, within windows, when there is state to lose.
        while read(&handle) < EVENTS * 9 / 20 {
            std::thread::sleep(Duration::from_millis(5));
        }
        handle.checkpoint().expect("the checkpoint completes");
        armed.store(true, Ordering::Release);
        let outcome = handle.wait().expect("the job restarts and ends");
        assert!(failed.load(Ordering::Acquire), "the job ended before the planned failure");
        assert_eq!(outcome.status.restarts, 1);
        assert!(outcome.status.restored_from.is_some(), "the job resumed from a checkpoint");
        let late: u64 = outcome.status.tasks.iter().map(|task| task.records_late).sum();
        assert_eq!(late, 0);
        out.committed()
    }};
}

/// The number of events read so far.
fn read(handle: &JobHandle) -> u64 {
    let sources = handle.status().tasks.into_iter().filter(|task| task.operator == "events");
    sources.map(|task| task.records_in).sum()
}

fn fails_once(
    armed: &Arc<AtomicBool>,
    failed: &Arc<AtomicBool>,
) -> impl Fn(Event) -> Result<Event, BoxError> + Clone + Send + 'static {
    let (armed, failed) = (Arc::clone(armed), Arc::clone(failed));
    move |event| match armed.swap(false, Ordering::AcqRel) {
        true => {
            failed.store(true, Ordering::Release);
            Err("planned".into())
        }
        false => Ok(event),
    }
}

#[track_caller]
fn same<T: Ord + Debug>(mut found: Vec<T>, mut expected: Vec<T>) {
    found.sort();
    expected.sort();
    assert!(expected.len() > 2, "there are too few results to compare: {expected:?}");
    assert_eq!(found.len(), expected.len(), "the number of results");
    assert_eq!(found, expected);
}

/// Bids have no order of their own.
fn in_order(bids: Vec<Bid>) -> Vec<(u64, usize, usize, usize, String, String, String)> {
    let parts = |bid: Bid| {
        (bid.date_time, bid.auction, bid.bidder, bid.price, bid.channel, bid.url, bid.extra)
    };
    bids.into_iter().map(parts).collect()
}

#[test]
fn query_0_passes_bids_through() {
    let expected: Vec<Bid> = reference::bids(&all()).cloned().collect();
    same(in_order(run!(queries::pass_through)), in_order(expected));
}

#[test]
fn query_1_converts_currencies() {
    same(in_order(run!(queries::currency)), in_order(reference::currency(&all())));
}

#[test]
fn query_2_selects_auctions() {
    same(run!(queries::selection), reference::selection(&all()));
}

#[test]
fn query_3_joins_local_items() {
    same(run!(queries::local_items), reference::local_items(&all()));
}

#[test]
fn query_4_averages_the_price_of_a_category() {
    same(run!(queries::average_price), reference::average_price(&all()));
}

#[test]
fn query_5_finds_hot_items() {
    same(run!(queries::hot_items), reference::hot_items(&all()));
}

#[test]
fn query_7_finds_the_highest_bids() {
    same(run!(queries::highest_bid), reference::highest_bid(&all()));
}

#[test]
fn query_8_watches_new_users() {
    same(run!(queries::new_users), reference::new_users(&all()));
}

/// The events are out of order, within the bound of the watermarks; otherwise the tests above would
/// show nothing about that.
#[test]
fn events_are_out_of_order() {
    let times: Vec<u64> = all().iter().map(Event::timestamp).collect();
    let mut latest = 0;
    let mut most = 0;
    for time in times {
        latest = latest.max(time);
        most = most.max(latest - time);
    }
    assert!(most > 10 && u128::from(most) <= DISORDER.as_millis(), "{most} ms");
}
