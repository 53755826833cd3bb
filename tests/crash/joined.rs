//! A job that connects two streams: an interval join, a window join, and a function of both with
//! timers and two outputs.
//!
//! No record is late, so the joined pairs do not depend on when the two meet.

use std::path::Path;
use std::time::Duration;

use snapline::connect::{Collect, FileSink};
use snapline::{
    Between, CoProcess, Dataflow, Either, TimeContext, Timestamp, Tumbling, Watermarks,
};

use crate::child::{KEYS, Numbers};
use crate::kill_points::Mortal;

/// The number of records of each side.
const EACH: u64 = 6_000;
/// The second side's records are this much later.
const BEHIND: u64 = 13;
/// The largest difference in time of joined records.
const WITHIN: u64 = 110;
const LENGTH: u64 = 150;
/// The time for which a record waits for others, and the largest distance between neighbours.
const NEAR: u64 = 40;
/// The time for which the second side's records are remembered: longer than they are needed.
const KEPT: u64 = 200;

const fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

/// The event time of a number of the first side: groups of eight are out of order.
const fn first_at(n: u64) -> u64 {
    n ^ 5
}

const fn second_at(n: u64) -> u64 {
    n - EACH + BEHIND
}

/// Whether the function of both sides gets this number of the second side.
const fn is_told(n: u64) -> bool {
    !n.is_multiple_of(3)
}

/// Counts the records of the second side near each record of the first. Records without neighbours
/// go to another output.
#[derive(Clone)]
struct Meeting;

type Held = Vec<(Timestamp, u64)>;

impl CoProcess<u64, u64, u64> for Meeting {
    type State = (Held, Held);
    type Out = Either<String, String>;

    fn left<C: Collect<Self::Out>>(
        &mut self,
        n: u64,
        held: &mut TimeContext<'_, u64, Self::State>,
        _: &mut C,
    ) {
        let at = held.timestamp();
        assert!(at > held.watermark(), "{n} is not late");
        held.0.push((at, n));
        held.set_timer(at + ms(NEAR));
    }

    fn right<C: Collect<Self::Out>>(
        &mut self,
        n: u64,
        held: &mut TimeContext<'_, u64, Self::State>,
        _: &mut C,
    ) {
        let at = held.timestamp();
        assert!(at > held.watermark(), "{n} is not late");
        held.1.push((at, n));
        held.set_timer(at + ms(KEPT));
    }

    fn event_time<C: Collect<Self::Out>>(
        &mut self,
        held: &mut TimeContext<'_, u64, Self::State>,
        out: &mut C,
    ) {
        let now = held.timestamp();
        let (first, second) = &mut **held;
        first.retain(|&(at, n)| {
            let due = at + ms(NEAR) == now;
            if due {
                let near = |(other, _): &&(Timestamp, u64)| (at - ms(NEAR)..=now).contains(other);
                out.push(match second.iter().filter(near).count() {
                    0 => Either::Right(n.to_string()),
                    met => Either::Left(format!("{n} {met}")),
                });
            }
            !due
        });
        second.retain(|(at, _)| *at + ms(KEPT) > now);
        if first.is_empty() && second.is_empty() {
            held.clear();
        }
    }
}

pub(crate) fn joined(flow: &Dataflow, dir: &Path) {
    let sink = |name: &str| Mortal(FileSink::<String>::new(crate::output(dir, name)));
    let numbers = |from| Mortal(Numbers { from, count: EACH, gulp: 50 });
    let time = |at: u64| Timestamp::from_millis(at as i64);
    let (first, more) = flow
        .source("first", numbers(0))
        .assign_timestamps(Watermarks::bounded(ms(8)), move |n| time(first_at(*n)))
        .fork();
    let (other, another) = more.fork();
    let (second, more) = flow
        .source("second", numbers(EACH))
        .assign_timestamps(Watermarks::monotonous().in_steps_of(ms(16)), move |n| {
            time(second_at(*n))
        })
        .fork();
    let (to_other, to_another) = more.fork();
    let of_first = |n: &u64| n % KEYS;
    let of_second = |n: &u64| (n - EACH) % KEYS;
    first
        .key_by(of_first)
        .interval_join(
            second.key_by(of_second),
            Between::after(Duration::ZERO, ms(WITHIN)),
            |_, first, second| format!("{first} {second}"),
        )
        .sink("near", sink("near"));
    other
        .key_by(of_first)
        .connect(to_other.key_by(of_second))
        .window_join(Tumbling::of(ms(LENGTH)), |_, _, first, second| format!("{first} {second}"))
        .sink("together", sink("together"));
    let (met, alone) = another
        .key_by(of_first)
        .connect(to_another.filter(|n| is_told(*n)).key_by(of_second))
        .process_with(Meeting)
        .split();
    met.sink("met", sink("met"));
    alone.sink("alone", sink("alone"));
}

/// The expected content of a sink, computed by comparing every record with every other.
pub(crate) fn expected(sink: &str) -> Vec<String> {
    let others = |first: u64| (EACH + first % KEYS..2 * EACH).step_by(KEYS as usize);
    let pairs = |fits: fn(u64, u64) -> bool| -> Vec<String> {
        let of = |first: u64| {
            let fit = move |n: &u64| fits(first_at(first), second_at(*n));
            others(first).filter(fit).map(move |n| format!("{first} {n}"))
        };
        (0..EACH).flat_map(of).collect()
    };
    let met = |first: u64| {
        let near = |n: &u64| is_told(*n) && first_at(first).abs_diff(second_at(*n)) <= NEAR;
        others(first).filter(near).count()
    };
    match sink {
        "near" => pairs(|first, second| (first..=first + WITHIN).contains(&second)),
        "together" => pairs(|first, second| first / LENGTH == second / LENGTH),
        "met" => {
            let all = (0..EACH).map(|n| (n, met(n)));
            all.filter(|(_, met)| *met > 0).map(|(n, met)| format!("{n} {met}")).collect()
        }
        _ => (0..EACH).filter(|n| met(*n) == 0).map(|n| n.to_string()).collect(),
    }
}
