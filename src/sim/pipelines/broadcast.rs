//! Pipelines of operators with broadcast values, and of operators that keep little of their input.

use super::{Env, ms, numbers};
use crate::connect::{Collect, Generator};
use crate::state::Map;
use crate::{
    BroadcastProcess, BuildError, Dataflow, Job, JobConfig, KeyState, Timestamp, Tumbling,
    Watermarks,
};

/// Numbers wait for the rule that applies to them, or the rule for the numbers.
#[derive(Clone)]
struct Ruled;

/// The number of numbers that one rule applies to.
const RULED: u64 = 8;

impl Ruled {
    fn rule(n: u64, rules: &Map<u64, u64>) -> Option<(u64, u64)> {
        rules.get(&(n / RULED)).map(|rule| (n, n * rule))
    }
}

impl BroadcastProcess<u64, u64, u64> for Ruled {
    type State = Vec<u64>;
    type Shared = Map<u64, u64>;
    type Out = (u64, u64);

    fn record<C: Collect<Self::Out>>(
        &mut self,
        n: u64,
        rules: &Self::Shared,
        waiting: &mut KeyState<'_, u64, Vec<u64>>,
        out: &mut C,
    ) {
        waiting.push(n);
        waiting.retain(|n| {
            let ruled = Self::rule(*n, rules);
            ruled.inspect(|ruled| out.push(*ruled)).is_none()
        });
        if waiting.is_empty() {
            waiting.clear();
        }
    }

    fn told<C: Collect<Self::Out>>(&mut self, rule: u64, rules: &mut Self::Shared, _: &mut C) {
        rules.insert(rule, 3 * rule + 1);
    }

    fn end<C: Collect<Self::Out>>(
        &mut self,
        _: &u64,
        waiting: &Vec<u64>,
        rules: &Self::Shared,
        out: &mut C,
    ) {
        // All rules have arrived by now.
        waiting.iter().for_each(|&n| out.push(Self::rule(n, rules).unwrap_or((n, u64::MAX))));
    }
}

pub(super) fn told_to_all(env: &Env) -> Result<Job, BuildError> {
    let flow = Dataflow::new("told-to-all");
    let count = env.records(24) as u64;
    // A rule comes when about half of its numbers have.
    let rules = Generator::new(count.div_ceil(RULED), |rule| rule).rate(450);
    let rules = flow.source("rules", rules).parallelism(1);
    flow.source("numbers", Generator::new(count, |n| n).rate(3_000))
        .key_by(|n| n % 5)
        .with_broadcast(rules, Ruled)
        .sink("ruled", env.sink("ruled"));
    flow.build(JobConfig::new().parallelism(2).key_groups(8))
}

pub(super) fn highest(env: &Env) -> Result<Job, BuildError> {
    let flow = Dataflow::new("highest");
    // One producer, whose records carry the watermarks: expiry follows from the input alone.
    flow.source("numbers", numbers(env, 30))
        .parallelism(1)
        .assign_timestamps(Watermarks::punctuated(|n: &u64, at| (n % 3 == 2).then_some(at)), |n| {
            Timestamp::from_millis(*n as i64)
        })
        .map(|n| (n % 8 + n % 3, n))
        .keyed()
        .distinct(ms(6))
        .key_by(|n| n % 2)
        .window(Tumbling::of(ms(12)))
        .highest(2, |n| (n * 7 % 11, *n))
        .map(|it| (it.key, it.window.start.millis(), it.result))
        .sink("highest", env.sink("highest"));
    flow.build(JobConfig::new().parallelism(2).key_groups(8))
}
