//! Joins records of two streams that have the same key (SPEC 16.12).

use std::collections::BTreeSet;
use std::marker::PhantomData;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::base::either::Either;
use crate::dataflow::time::timers::{CoProcess, TimeContext};
use crate::operator::chain::{Ending, Flow, OperatorChain, TaskContext};
use crate::operator::key::Keyer;
use crate::operator::time::{Timed, Timestamp, millis};
use crate::state::{HashSeed, Key, Map, NamedImage, Restored, StateError, StateValue};
use snapline_core::connect::Collect;

/// Keys the records of two streams, each by its own rule.
#[derive(Clone, Debug)]
pub struct EitherKeyer<N, M>(pub(super) N, pub(super) M);

impl<T, U, N, M> Keyer<Either<T, U>> for EitherKeyer<N, M>
where
    N: Keyer<T>,
    M: Keyer<U, Key = N::Key>,
{
    type Key = N::Key;
    type Value = Either<N::Value, M::Value>;

    #[inline]
    fn hash(&self, seed: HashSeed, record: &Either<T, U>) -> u64 {
        match record {
            Either::Left(record) => self.0.hash(seed, record),
            Either::Right(record) => self.1.hash(seed, record),
        }
    }

    #[inline]
    fn split(&self, record: Either<T, U>) -> (N::Key, Self::Value) {
        match record {
            Either::Left(record) => {
                let (key, value) = self.0.split(record);
                (key, Either::Left(value))
            }
            Either::Right(record) => {
                let (key, value) = self.1.split(record);
                (key, Either::Right(value))
            }
        }
    }
}

/// Keys records that have a time by a keyer of records without one.
#[derive(Clone, Debug)]
pub(super) struct OnValue<N>(pub(super) N);

impl<T, N: Keyer<T>> Keyer<Timed<T>> for OnValue<N> {
    type Key = N::Key;
    type Value = Timed<N::Value>;

    #[inline]
    fn hash(&self, seed: HashSeed, record: &Timed<T>) -> u64 {
        self.0.hash(seed, &record.value)
    }

    #[inline]
    fn split(&self, record: Timed<T>) -> (N::Key, Timed<N::Value>) {
        let (key, value) = self.0.split(record.value);
        (key, Timed { at: record.at, value })
    }
}

/// How far apart in time two joined records may be. Bounds that exclude everything are refused when
/// the dataflow is built.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Between {
    lower: i64,
    upper: i64,
}

impl Between {
    /// The second record is at most `before` earlier than the first, and at most `after` later;
    /// both included.
    #[must_use]
    pub fn around(before: Duration, after: Duration) -> Self {
        Self { lower: -millis(before), upper: millis(after) }
    }

    /// The second record is from `from` to `to` earlier than the first; both included.
    #[must_use]
    pub fn before(from: Duration, to: Duration) -> Self {
        Self { lower: -millis(to), upper: -millis(from) }
    }

    /// The second record is from `from` to `to` later than the first; both included.
    #[must_use]
    pub fn after(from: Duration, to: Duration) -> Self {
        Self { lower: millis(from), upper: millis(to) }
    }
}

impl Between {
    pub(super) fn check(self) -> Result<(), String> {
        let Self { lower, upper } = self;
        match lower <= upper {
            true => Ok(()),
            false => Err(format!(
                "an interval join from {lower} ms to {upper} ms joins nothing, because no time \
                 lies between these bounds; put the shorter time first"
            )),
        }
    }
}

/// Records of one key that wait for matching records.
#[derive(Clone, Serialize, Deserialize)]
#[serde(bound(
    serialize = "A: Serialize, B: Serialize",
    deserialize = "A: Deserialize<'de>, B: Deserialize<'de>"
))]
pub struct Waiting<A, B> {
    left: Map<Timestamp, Vec<A>>,
    right: Map<Timestamp, Vec<B>>,
}

impl<A, B> Default for Waiting<A, B> {
    fn default() -> Self {
        Self { left: Map::default(), right: Map::default() }
    }
}

impl<A, B> std::fmt::Debug for Waiting<A, B> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Waiting({}, {})", self.left.len(), self.right.len())
    }
}

/// Joins records of a key that are close enough in time.
pub struct IntervalJoin<O, F> {
    between: Between,
    join: F,
    types: PhantomData<fn() -> O>,
}

impl<O, F> IntervalJoin<O, F> {
    pub(super) const fn new(between: Between, join: F) -> Self {
        Self { between, join, types: PhantomData }
    }
}

impl<O, F: Clone> Clone for IntervalJoin<O, F> {
    fn clone(&self) -> Self {
        Self::new(self.between, self.join.clone())
    }
}

impl<O, F> std::fmt::Debug for IntervalJoin<O, F> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "IntervalJoin({:?})", self.between)
    }
}

/// Records that it could be joined with may have been dropped. Without a watermark, no record is
/// late.
fn is_late(at: Timestamp, watermark: Timestamp) -> bool {
    at <= watermark && watermark > Timestamp::MIN
}

fn later(at: Timestamp, by: i64) -> Timestamp {
    Timestamp::from_millis(at.millis().saturating_add(by))
}

impl Between {
    /// The time until which a record of the first stream waits.
    fn left_until(self, at: Timestamp) -> Timestamp {
        later(at, self.upper.max(0))
    }

    /// The time until which a record of the second stream waits.
    fn right_until(self, at: Timestamp) -> Timestamp {
        later(at, self.lower.saturating_neg().max(0))
    }
}

impl<K, A, B, O, F> CoProcess<K, A, B> for IntervalJoin<O, F>
where
    K: Key,
    A: StateValue,
    B: StateValue,
    O: Send + 'static,
    F: FnMut(&K, &A, &B) -> O + Clone + Send + 'static,
{
    type State = Waiting<A, B>;
    /// The result, with the later of the two times.
    type Out = Timed<O>;

    fn left<C: Collect<Timed<O>>>(
        &mut self,
        value: A,
        waiting: &mut TimeContext<'_, K, Waiting<A, B>>,
        out: &mut C,
    ) {
        let at = waiting.timestamp();
        if is_late(at, waiting.watermark()) {
            return waiting.drop_late();
        }
        let span = later(at, self.between.lower)..=later(at, self.between.upper);
        for (other, values) in waiting.right.range(span) {
            for right in values {
                let value = (self.join)(waiting.key(), &value, right);
                out.push(Timed { at: at.max(*other), value });
            }
        }
        waiting.left.entry(at).or_default().push(value);
        waiting.set_timer(self.between.left_until(at));
    }

    fn right<C: Collect<Timed<O>>>(
        &mut self,
        value: B,
        waiting: &mut TimeContext<'_, K, Waiting<A, B>>,
        out: &mut C,
    ) {
        let at = waiting.timestamp();
        if is_late(at, waiting.watermark()) {
            return waiting.drop_late();
        }
        let Between { lower, upper } = self.between;
        let span = later(at, upper.saturating_neg())..=later(at, lower.saturating_neg());
        for (other, values) in waiting.left.range(span) {
            for left in values {
                let value = (self.join)(waiting.key(), left, &value);
                out.push(Timed { at: at.max(*other), value });
            }
        }
        waiting.right.entry(at).or_default().push(value);
        waiting.set_timer(self.between.right_until(at));
    }

    fn event_time<C: Collect<Timed<O>>>(
        &mut self,
        waiting: &mut TimeContext<'_, K, Waiting<A, B>>,
        _: &mut C,
    ) {
        let (now, between) = (waiting.timestamp(), self.between);
        waiting.left.retain(|at, _| between.left_until(*at) > now);
        waiting.right.retain(|at, _| between.right_until(*at) > now);
        if waiting.left.is_empty() && waiting.right.is_empty() {
            waiting.clear();
        }
    }

    /// The bounds may have changed since the timers were set.
    fn timers(&self, waiting: &Waiting<A, B>) -> Option<Vec<Timestamp>> {
        let left = waiting.left.keys().map(|at| self.between.left_until(*at));
        let right = waiting.right.keys().map(|at| self.between.right_until(*at));
        let timers: BTreeSet<Timestamp> = left.chain(right).collect();
        Some(timers.into_iter().collect())
    }
}

/// Gives results the time that they carry, not that of the record that came last.
#[derive(Debug)]
pub struct Restamp<O>(pub(super) PhantomData<fn() -> O>);

impl<O> Clone for Restamp<O> {
    fn clone(&self) -> Self {
        Self(PhantomData)
    }
}

impl<O: Send + 'static> OperatorChain for Restamp<O> {
    type In = Timed<Timed<O>>;
    type Out = Timed<O>;

    #[inline]
    fn push<C: Flow<Timed<O>>>(&mut self, record: Timed<Timed<O>>, out: &mut C) {
        out.push(record.value);
    }

    fn end<C: Flow<Timed<O>>>(&mut self, _out: &mut C) -> Ending {
        Ending::Done
    }

    fn open(&mut self, _: &TaskContext, _: Option<&mut Restored<'_>>) -> Result<(), StateError> {
        Ok(())
    }

    fn freeze(&mut self, _images: &mut Vec<NamedImage>) -> Result<(), StateError> {
        Ok(())
    }
}
