//! Pipelines of windows that fire more than once, and of two streams that are joined.

use super::{Env, ms, numbers};
use crate::connect::Collect;
use crate::{
    BuildError, CoProcess, Dataflow, Either, EveryEventTime, Job, JobConfig, Sliding, TimeContext,
    Timestamp, Tumbling, Watermarks,
};

/// The distance within which a record of the other stream counts as near.
const NEAR: u64 = 3;

/// Emits the records of two streams that have none of the other near them, when none can come any
/// more.
#[derive(Clone)]
struct Alone;

/// Records of one stream, with their times, and whether one of the other was near them.
type Held = Vec<(Timestamp, u64, bool)>;

impl Alone {
    fn meet<C: Collect<Either<u64, u64>>>(
        n: u64,
        is_first: bool,
        held: &mut TimeContext<'_, u64, (Held, Held)>,
        out: &mut C,
    ) {
        let at = held.timestamp();
        if at <= held.watermark() {
            // The record is not late; this output would show it, should it be.
            out.push(Either::Left(u64::MAX - n));
        }
        let (first, second) = &mut **held;
        let (its, others) = if is_first { (first, second) } else { (second, first) };
        let mut met = false;
        for (other, _, is_met) in others.iter_mut() {
            if other.millis().abs_diff(at.millis()) <= NEAR {
                (met, *is_met) = (true, true);
            }
        }
        its.push((at, n, met));
        held.set_timer(at + 2 * ms(NEAR));
    }
}

impl CoProcess<u64, u64, u64> for Alone {
    type State = (Held, Held);
    type Out = Either<u64, u64>;

    fn left<C: Collect<Self::Out>>(
        &mut self,
        n: u64,
        held: &mut TimeContext<'_, u64, Self::State>,
        out: &mut C,
    ) {
        Self::meet(n, true, held, out);
    }

    fn right<C: Collect<Self::Out>>(
        &mut self,
        n: u64,
        held: &mut TimeContext<'_, u64, Self::State>,
        out: &mut C,
    ) {
        Self::meet(n, false, held, out);
    }

    fn event_time<C: Collect<Self::Out>>(
        &mut self,
        held: &mut TimeContext<'_, u64, Self::State>,
        out: &mut C,
    ) {
        let now = held.timestamp();
        let mut over = |all: &mut Held, of: fn(u64) -> Either<u64, u64>| {
            all.retain(|&(at, n, met)| {
                let is_over = at + 2 * ms(NEAR) <= now;
                if is_over && !met {
                    out.push(of(n));
                }
                !is_over
            });
        };
        let (first, second) = &mut **held;
        over(first, Either::Left);
        over(second, Either::Right);
        if first.is_empty() && second.is_empty() {
            held.clear();
        }
    }
}

pub(super) fn paired(env: &Env) -> Result<Job, BuildError> {
    let flow = Dataflow::new("paired");
    let at = |n: &u64| Timestamp::from_millis(*n as i64);
    let one = flow.source("one", numbers(env, 24)).parallelism(1).map(|n| 2 * n);
    let (one, left) = one.assign_timestamps(Watermarks::monotonous().every_record(), at).fork();
    let two = flow.source("two", numbers(env, 12)).parallelism(1).map(|n| 5 * n + 1);
    let two = two.assign_timestamps(Watermarks::monotonous().in_steps_of(ms(4)), at);
    let (two, right) = two.fork();
    one.key_by(|n| n % 3)
        .connect(two.key_by(|n| n % 3))
        .window_join(Tumbling::of(ms(12)), |_, _, one, two| (*one, *two))
        .sink("pairs", env.sink("pairs"));
    let (one, two) =
        left.key_by(|n| n % 2).connect(right.key_by(|n| n % 2)).process_with(Alone).split();
    one.sink("only-one", env.sink("only-one"));
    two.sink("only-two", env.sink("only-two"));
    flow.build(JobConfig::new().parallelism(2).key_groups(8))
}

pub(super) fn fired_again(env: &Env) -> Result<Job, BuildError> {
    let flow = Dataflow::new("fired-again");
    let key = |n: &u64| n % 3;
    let put = |all: &mut Vec<u64>, n| all.push(n);
    // One producer, whose records carry the watermarks: firings and their records follow from the
    // input alone.
    let (sliding, more) = flow
        .source("numbers", numbers(env, 50))
        .parallelism(1)
        .assign_timestamps(Watermarks::punctuated(|n: &u64, at| (n % 4 == 3).then_some(at)), |n| {
            Timestamp::from_millis(*n as i64)
        })
        .fork();
    let (often, batches) = more.parallelism(1).fork();
    sliding
        .parallelism(1)
        .key_by(key)
        .window(Sliding::of(ms(12), ms(4)))
        .aggregate(put)
        .map(|it| (it.window.start.millis(), it.result))
        .sink("sliding", env.sink("sliding"));
    often
        .parallelism(1)
        .key_by(key)
        .window(Tumbling::of(ms(20)))
        .trigger(EveryEventTime::new(ms(6)))
        .reduce(|sum, n| sum + n)
        .map(|it| (it.key, it.window.start.millis(), it.result))
        .sink("often", env.sink("often"));
    batches
        .parallelism(1)
        .key_by(key)
        .count_window(4)
        .aggregate(put)
        .map(|it| it.result)
        .sink("batches", env.sink("batches"));
    flow.build(JobConfig::new().parallelism(2).key_groups(8))
}
