//! Joins orders with payments: those paid within an hour, and, by a timer, those not paid in time.
//!
//! ```sh
//! cargo run --example order_payments
//! ```
//!
//! Orders and payments are made here: 1,000 orders, every tenth never paid, every seventh too late.
#![allow(clippy::print_stdout, reason = "an example shows what it does")]

use std::error::Error;
use std::time::Duration;

use snapline::connect::{Collect, Generator, MemorySink, MemorySource, Source, TwoPhaseSink};
use snapline::{
    CoProcess, Dataflow, Either, Ended, JobConfig, Level, TimeContext, Timestamp, Watermarks,
};

const ORDERS: u64 = 1_000;
const HOUR: Duration = Duration::from_secs(3_600);

/// An order's number and its amount in cents; when, in seconds.
pub(crate) type Order = (u64, u64, i64);
/// The number of the order that is paid; when, in seconds.
pub(crate) type Payment = (u64, i64);

pub(crate) fn order(number: u64) -> Order {
    (number, 500 + number * 37 % 9_000, number as i64 * 30)
}

/// Payments come in the order of their times, except for half an hour.
pub(crate) fn payment(number: u64) -> Option<Payment> {
    let (_, _, ordered) = order(number);
    let after = if number.is_multiple_of(7) { 2 * 3_600 } else { 60 + number as i64 * 13 % 1_700 };
    (number % 10 != 9).then_some((number, ordered + after))
}

/// The outcome of an order.
pub(crate) type Settled = Either<(u64, i64), u64>;

/// Whether an order was paid within an hour.
fn in_time(ordered: i64, paid: i64) -> bool {
    Timestamp::from_millis(paid * 1_000) - Timestamp::from_millis(ordered * 1_000) <= HOUR
}

/// Waits for the payment of an order.
#[derive(Clone)]
struct Settle;

impl CoProcess<u64, Order, Payment> for Settle {
    /// The times of the order and of its payment.
    type State = (Option<i64>, Option<i64>);
    type Out = Settled;

    fn left<C: Collect<Settled>>(
        &mut self,
        (number, _, ordered): Order,
        open: &mut TimeContext<'_, u64, Self::State>,
        out: &mut C,
    ) {
        match open.1 {
            // The payment came first, since the two streams run in parallel.
            Some(paid) => {
                out.push(match in_time(ordered, paid) {
                    true => Either::Left((number, paid - ordered)),
                    false => Either::Right(number),
                });
                open.clear();
            }
            None => {
                open.0 = Some(ordered);
                let until = open.timestamp() + HOUR;
                open.set_timer(until);
            }
        }
    }

    fn right<C: Collect<Settled>>(
        &mut self,
        (number, paid): Payment,
        open: &mut TimeContext<'_, u64, Self::State>,
        out: &mut C,
    ) {
        match open.0 {
            Some(ordered) if in_time(ordered, paid) => {
                let until = Timestamp::from_millis(ordered * 1_000) + HOUR;
                open.delete_timer(until);
                out.push(Either::Left((number, paid - ordered)));
                open.clear();
            }
            // It was, or will be, given up.
            Some(_) => {}
            None => {
                open.1 = Some(paid);
                // The order comes with the same watermark or never.
                let until = open.timestamp() + HOUR;
                open.set_timer(until);
            }
        }
    }

    fn event_time<C: Collect<Settled>>(
        &mut self,
        open: &mut TimeContext<'_, u64, Self::State>,
        out: &mut C,
    ) {
        if open.0.is_some() {
            out.push(Either::Right(*open.key()));
        }
        open.clear();
    }
}

pub(crate) fn pipeline(
    orders: impl Source<Record = Order>,
    payments: impl Source<Record = Payment>,
    paid: impl TwoPhaseSink<Record = (u64, i64)>,
    given_up: impl TwoPhaseSink<Record = u64>,
) -> Dataflow {
    let flow = Dataflow::new("order-payments");
    let seconds = |seconds: i64| Timestamp::from_millis(seconds * 1_000);
    let orders = flow
        .source("orders", orders)
        .assign_timestamps(Watermarks::monotonous(), move |order| seconds(order.2));
    let payments = flow
        .source("payments", payments)
        .assign_timestamps(Watermarks::bounded(2 * HOUR), move |payment| seconds(payment.1));
    let (in_time, not) = orders
        .key_by(|order| order.0)
        .connect(payments.key_by(|payment| payment.0))
        .process_with(Settle)
        .split();
    in_time.sink("paid", paid);
    not.sink("given-up", given_up);
    flow
}

fn main() -> Result<(), Box<dyn Error>> {
    let (paid, given_up) = (MemorySink::new(), MemorySink::new());
    let payments: Vec<Payment> = (0..ORDERS).filter_map(payment).collect();
    let flow = pipeline(
        Generator::new(ORDERS, order),
        MemorySource::new(payments),
        paid.clone(),
        given_up.clone(),
    );

    let config = JobConfig::new()
        .parallelism(2)
        .checkpoint_interval(Duration::from_millis(50))
        .require(Level::ExactlyOnce);
    let outcome = flow.build(config)?.run()?;
    println!("outcome: {:?}", outcome.ended);
    let (paid, given_up): (Vec<(u64, i64)>, Vec<u64>) = (paid.committed(), given_up.committed());
    let longest = paid.iter().map(|(_, after)| *after).max().unwrap_or(0);
    println!("{} paid within {longest} s, {} given up", paid.len(), given_up.len());
    // Every payment of a seventh order is late.
    let never = (0..ORDERS).filter(|number| number % 10 == 9 || number % 7 == 0).count();
    match outcome.ended {
        Ended::Finished if given_up.len() == never && paid.len() + never == ORDERS as usize => {
            Ok(())
        }
        ended => Err(format!("{ended:?}: expected `Finished` and {never} orders given up").into()),
    }
}
