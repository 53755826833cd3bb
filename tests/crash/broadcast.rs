//! A job whose operators depend on broadcast state, and expire state by processing time.

use std::path::Path;
use std::time::Duration;

use snapline::connect::{Collect, FileSink};
use snapline::state::Map;
use snapline::{
    BroadcastProcess, Dataflow, Emitter, Expiring, Input, KeyState, TimeContext, TimedClosure,
    Timestamp, Watermarks,
};

use crate::child::{KEYS, Numbers};
use crate::kill_points::Mortal;

/// The number of records of each rule.
const RULED: u64 = 500;
/// Added to a wrong record.
const WRONG: u64 = 1_000_000;
/// Roughly the restart time of a process.
const AFTER: Duration = Duration::from_millis(15);

/// A record waits for its rule, whichever comes first, and goes on with the broadcast one.
#[derive(Clone)]
struct Ruled;

fn ruled(record: u64, rules: &Map<u64, u64>) -> Option<u64> {
    let says = rules.get(&(record / RULED))?;
    Some(if *says == record / RULED * 7 { record } else { record + WRONG })
}

impl BroadcastProcess<u64, u64, u64> for Ruled {
    type State = Vec<u64>;
    type Shared = Map<u64, u64>;
    type Out = u64;

    fn record<C: Collect<u64>>(
        &mut self,
        record: u64,
        rules: &Self::Shared,
        waiting: &mut KeyState<'_, u64, Vec<u64>>,
        out: &mut C,
    ) {
        waiting.push(record);
        waiting.retain(|record| ruled(*record, rules).inspect(|it| out.push(*it)).is_none());
        if waiting.is_empty() {
            waiting.clear();
        }
    }

    fn told<C: Collect<u64>>(&mut self, rule: u64, rules: &mut Self::Shared, _: &mut C) {
        rules.insert(rule, rule * 7);
    }

    fn end<C: Collect<u64>>(
        &mut self,
        _: &u64,
        waiting: &Vec<u64>,
        rules: &Self::Shared,
        out: &mut C,
    ) {
        waiting.iter().for_each(|&it| out.push(ruled(it, rules).unwrap_or(it + WRONG)));
    }
}

pub(crate) fn told(flow: &Dataflow, dir: &Path) {
    let sink = |name: &str| Mortal(FileSink::<String>::new(crate::output(dir, name)));
    let rules = flow.source("rules", Mortal(Numbers::from(0)));
    let rules = rules.filter(|n| n.is_multiple_of(RULED)).map(|n| n / RULED);
    let (left, right) = flow.source("in", Mortal(Numbers::from(0))).fork();
    left.key_by(|record| record % KEYS)
        .with_broadcast(rules, Ruled)
        .map(|record| record.to_string())
        .sink("left", sink("left"));
    let count = |input, count: &mut TimeContext<'_, u64, u64>, out: &mut Emitter<_>| {
        let Input::Record(record) = input else { return };
        **count += 1;
        out.push((*count.key(), (record, count.processing_time(), **count)));
    };
    // Each count carries the clock's reading. The operator downstream derives from it whether the
    // count had to be forgotten.
    right
        .assign_timestamps(Watermarks::at_end(), |_| Timestamp::MIN)
        .key_by(|record| record % KEYS)
        .process_with(Expiring::after(AFTER, TimedClosure::new(count)))
        .keyed()
        .process(
            |input: Input<(u64, Timestamp, u64)>,
             before: &mut TimeContext<'_, u64, Option<(Timestamp, u64)>>,
             out: &mut Emitter<u64>| {
                let Input::Record((record, now, count)) = input else { return };
                let right = match **before {
                    Some((then, count)) if now < then + AFTER => count + 1,
                    _ => 1,
                };
                **before = Some((now, count));
                out.push(if count == right { record } else { record + WRONG });
            },
        )
        .map(|record| record.to_string())
        .sink("right", sink("right"));
}
