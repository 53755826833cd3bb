//! Windows: their kinds, and the functions computed in them (SPEC 16.8 to 16.11).
//!
//! Longer than 500 lines: a list of small independent parts.

pub(crate) mod operator;
pub(crate) mod trigger;

use std::fmt;
use std::marker::PhantomData;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::keyed::Emitter;
use crate::dataflow::window::trigger::{AtEventTime, AtProcessingTime, NoTrigger};
use crate::operator::time::{Timestamp, millis};
use crate::state::{Key, List, StateValue};
use snapline_core::connect::Collect;

/// A span of time: from its start up to but not including its end.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub struct Window {
    /// Its first millisecond.
    pub start: Timestamp,
    /// The first millisecond after it.
    pub end: Timestamp,
}

impl Window {
    /// All of time: the window of [`GlobalWindows`].
    pub const GLOBAL: Self = Self { start: Timestamp::MIN, end: Timestamp::MAX };

    /// Its last millisecond: the time of its results.
    #[must_use]
    pub fn last(&self) -> Timestamp {
        self.end - Duration::from_millis(1)
    }

    /// Whether it is never over (SPEC 16.15).
    pub(super) fn has_no_end(&self) -> bool {
        self.end == Timestamp::MAX
    }

    /// Whether two overlap or touch, so that they are one session.
    pub(super) fn meets(&self, other: &Self) -> bool {
        self.start <= other.end && other.start <= self.end
    }

    /// From the earlier start to the later end.
    pub(super) fn cover(&self, other: &Self) -> Self {
        Self { start: self.start.min(other.start), end: self.end.max(other.end) }
    }
}

impl fmt::Display for Window {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if *self == Self::GLOBAL {
            return f.write_str("all time");
        }
        write!(f, "{} to {}", self.start.millis(), self.end.millis())
    }
}

/// The clock of windows.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum TimeDomain {
    /// The records' own times and the watermark.
    Event,
    /// The wall clock, when a record is processed.
    Processing,
}

/// Assigns records to windows.
pub trait WindowAssigner: Clone + Send + 'static {
    /// The default trigger of the windows; [`NoTrigger`] if they must be given one.
    type Trigger: Clone + Send + 'static;

    /// The clock of the windows.
    fn domain(&self) -> TimeDomain {
        TimeDomain::Event
    }

    /// Whether windows that meet become one.
    fn merges(&self) -> bool {
        false
    }

    /// The windows of a record of this time.
    fn assign(&self, at: Timestamp, windows: &mut Vec<Window>);

    /// The default trigger of the windows.
    fn trigger(&self) -> Self::Trigger;

    /// Checks the windows' numbers; called when the dataflow is built, before any window is
    /// assigned.
    ///
    /// # Errors
    /// The reason in words: the job is refused with [`crate::BuildError::Window`].
    fn check(&self) -> Result<(), String> {
        Ok(())
    }
}

/// Checks that something is at least a millisecond.
pub(super) fn at_least_a_millisecond(what: &str, is: Duration) -> Result<(), String> {
    match millis(is) > 0 {
        true => Ok(()),
        false => Err(format!("{what} is {is:?}; it must be at least a millisecond")),
    }
}

/// The greatest length of windows and of the intervals of triggers: ten thousand years.
pub(super) const LONGEST: Duration = Duration::from_secs(10_000 * 365 * 24 * 60 * 60);

/// The most sliding windows that a record may be in: it is put into each.
const MOST_WINDOWS: u128 = 10_000;

/// Checks that something is at least a millisecond, and at most [`LONGEST`].
pub(super) fn is_sensible(what: &str, is: Duration) -> Result<(), String> {
    at_least_a_millisecond(what, is)?;
    not_absurd(what, is)
}

fn not_absurd(what: &str, is: Duration) -> Result<(), String> {
    match is <= LONGEST {
        true => Ok(()),
        false => Err(format!("{what} is {is:?}; it must be at most {LONGEST:?} (10,000 years)")),
    }
}

/// Windows that never become one: the functions computed in them need no merging.
pub trait Unmerged: WindowAssigner {}

/// Fixed-length, non-overlapping windows. They begin at multiples of their length since the start
/// of 1970, plus an offset.
#[derive(Clone, Copy, Debug)]
pub struct Tumbling {
    length: Duration,
    offset: Duration,
}

impl Tumbling {
    /// Windows of this length, a millisecond or more, and at most 10,000 years.
    #[must_use]
    pub const fn of(length: Duration) -> Self {
        Self { length, offset: Duration::ZERO }
    }

    /// Shifts the windows by this much: windows of a day begin at midnight in another time zone.
    #[must_use]
    pub const fn offset(mut self, offset: Duration) -> Self {
        self.offset = offset;
        self
    }

    /// Uses the wall clock, when records are processed.
    #[must_use]
    pub const fn by_processing_time(self) -> ByProcessingTime<Self> {
        ByProcessingTime(self)
    }
}

/// The beginning of the last of the windows that begin every `step` and hold `at`.
pub(super) fn begin(at: Timestamp, offset: Duration, step: Duration) -> i64 {
    let (at, step) = (i128::from(at.millis()), i128::from(millis(step)));
    let begin = at - (at - i128::from(millis(offset))).rem_euclid(step);
    begin.clamp(i64::MIN.into(), i64::MAX.into()) as i64
}

impl WindowAssigner for Tumbling {
    type Trigger = AtEventTime;

    #[inline]
    fn assign(&self, at: Timestamp, windows: &mut Vec<Window>) {
        let start = Timestamp::from_millis(begin(at, self.offset, self.length));
        windows.push(Window { start, end: start + self.length });
    }

    fn trigger(&self) -> AtEventTime {
        AtEventTime
    }

    fn check(&self) -> Result<(), String> {
        is_sensible("the length of a tumbling window", self.length)?;
        not_absurd("the offset of a tumbling window", self.offset)
    }
}

impl Unmerged for Tumbling {}

/// Windows of equal length that begin at a fixed interval, so that a record is in several of them.
#[derive(Clone, Copy, Debug)]
pub struct Sliding {
    length: Duration,
    every: Duration,
    offset: Duration,
}

impl Sliding {
    /// Windows of this length, one per interval; both a millisecond or more, and at most 10,000
    /// years. A record is put into each window that holds its time, so the length is at most 10,000
    /// intervals. With more, the job is refused when it is built.
    #[must_use]
    pub const fn of(length: Duration, every: Duration) -> Self {
        Self { length, every, offset: Duration::ZERO }
    }

    /// Shifts the windows by this much.
    #[must_use]
    pub const fn offset(mut self, offset: Duration) -> Self {
        self.offset = offset;
        self
    }

    /// Uses the wall clock, when records are processed.
    #[must_use]
    pub const fn by_processing_time(self) -> ByProcessingTime<Self> {
        ByProcessingTime(self)
    }
}

impl WindowAssigner for Sliding {
    type Trigger = AtEventTime;

    fn assign(&self, at: Timestamp, windows: &mut Vec<Window>) {
        let mut start = begin(at, self.offset, self.every);
        let first = windows.len();
        while i128::from(start) + i128::from(millis(self.length)) > i128::from(at.millis()) {
            let from = Timestamp::from_millis(start);
            windows.push(Window { start: from, end: from + self.length });
            let Some(before) = start.checked_sub(millis(self.every)) else { break };
            start = before;
        }
        windows[first..].reverse();
    }

    fn trigger(&self) -> AtEventTime {
        AtEventTime
    }

    fn check(&self) -> Result<(), String> {
        is_sensible("the length of a sliding window", self.length)?;
        is_sensible("the time from one sliding window to the next", self.every)?;
        not_absurd("the offset of a sliding window", self.offset)?;
        let each = self.length.as_millis().div_ceil(self.every.as_millis());
        match each <= MOST_WINDOWS {
            true => Ok(()),
            false => Err(format!(
                "with sliding windows of {:?}, one every {:?}, each record is in {each} windows; \
                 the limit is {MOST_WINDOWS}; make them shorter, or start them less often",
                self.length, self.every
            )),
        }
    }
}

impl Unmerged for Sliding {}

/// Windows of activity: each record's begins with it and is as long as the gap; those that overlap
/// or touch become one.
#[derive(Clone, Copy, Debug)]
pub struct Session {
    gap: Duration,
}

impl Session {
    /// A session ends when no record has come for more than this: a millisecond or more, and at
    /// most 10,000 years.
    #[must_use]
    pub const fn gap(gap: Duration) -> Self {
        Self { gap }
    }

    /// Uses the wall clock, when records are processed.
    #[must_use]
    pub const fn by_processing_time(self) -> ByProcessingTime<Self> {
        ByProcessingTime(self)
    }
}

impl WindowAssigner for Session {
    type Trigger = AtEventTime;

    fn merges(&self) -> bool {
        true
    }

    fn assign(&self, at: Timestamp, windows: &mut Vec<Window>) {
        windows.push(Window { start: at, end: at + self.gap });
    }

    fn trigger(&self) -> AtEventTime {
        AtEventTime
    }

    fn check(&self) -> Result<(), String> {
        is_sensible("the gap between sessions", self.gap)
    }
}

/// One window for all records of a key. It has no end, and fires only by its trigger, which it must
/// be given: without one no function can be computed in it. Its results have the end of time as
/// their time.
///
/// It keeps its contents, unless the trigger [purges](super::Trigger::purging) it. Contents that
/// have not fired when the input ends are not emitted, except by triggers that use time (SPEC
/// 16.15).
///
/// ```
/// use snapline::connect::{MemorySink, MemorySource};
/// use snapline::{Dataflow, EveryRecords, GlobalWindows, JobConfig, Timestamp, Watermarks};
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let (flow, sums) = (Dataflow::new("sums"), MemorySink::new());
/// flow.source("numbers", MemorySource::new(vec![1, 2, 3, 4, 5]))
///     .parallelism(1)
///     .assign_timestamps(Watermarks::at_end(), |_| Timestamp::MIN)
///     .key_by(|_| ())
///     .window(GlobalWindows)
///     .trigger(EveryRecords::new(2))
///     .aggregate(|sum: &mut u64, number| *sum += number)
///     .map(|window| window.result)
///     .sink("sums", sums.clone());
/// flow.build(JobConfig::new())?.run()?;
/// assert_eq!(sums.committed(), [1 + 2, 1 + 2 + 3 + 4]);
/// # Ok(())
/// # }
/// ```
///
/// Without a trigger it is not compiled:
///
/// ```compile_fail,E0599
/// # use snapline::connect::{MemorySink, MemorySource};
/// # use snapline::{Dataflow, GlobalWindows, Timestamp, Watermarks};
/// # let flow = Dataflow::new("never");
/// flow.source("numbers", MemorySource::new(vec![1, 2, 3, 4, 5]))
///     .assign_timestamps(Watermarks::at_end(), |_| Timestamp::MIN)
///     .key_by(|_| ())
///     .window(GlobalWindows)
///     .count()
///     .sink("counts", MemorySink::new());
/// ```
#[derive(Clone, Copy, Debug)]
pub struct GlobalWindows;

impl WindowAssigner for GlobalWindows {
    type Trigger = NoTrigger;

    #[inline]
    fn assign(&self, _: Timestamp, windows: &mut Vec<Window>) {
        windows.push(Window::GLOBAL);
    }

    fn trigger(&self) -> NoTrigger {
        NoTrigger
    }
}

impl Unmerged for GlobalWindows {}

/// Windows by the wall clock.
#[derive(Clone, Copy, Debug)]
pub struct ByProcessingTime<W>(W);

impl<W: WindowAssigner> WindowAssigner for ByProcessingTime<W> {
    type Trigger = AtProcessingTime;

    fn domain(&self) -> TimeDomain {
        TimeDomain::Processing
    }

    fn merges(&self) -> bool {
        self.0.merges()
    }

    fn assign(&self, at: Timestamp, windows: &mut Vec<Window>) {
        self.0.assign(at, windows);
    }

    fn trigger(&self) -> AtProcessingTime {
        AtProcessingTime
    }

    fn check(&self) -> Result<(), String> {
        self.0.check()
    }
}

impl<W: Unmerged> Unmerged for ByProcessingTime<W> {}

/// A function that is computed in a window.
pub trait WindowFunction<K, V>: Clone + Send + 'static {
    /// The contents of a window; begin as their default.
    type Held: StateValue + Default;
    /// The results, emitted with the time of the window's last millisecond.
    type Out: Send + 'static;

    /// Checks the function's numbers; called when the dataflow is built.
    ///
    /// # Errors
    /// The reason in words: the job is refused with [`crate::BuildError::Window`].
    fn check(&self) -> Result<(), String> {
        Ok(())
    }

    /// Takes a record in.
    fn add(&mut self, held: &mut Self::Held, value: V);

    /// Two windows have become one: takes in the contents of the later one.
    fn merge(&mut self, held: &mut Self::Held, later: Self::Held);

    /// The window fires.
    fn fire<C: Collect<Self::Out>>(
        &mut self,
        key: &K,
        window: Window,
        held: &Self::Held,
        out: &mut C,
    );
}

/// A window's result.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub struct Windowed<K, R> {
    /// The key.
    pub key: K,
    /// The window.
    pub window: Window,
    /// The function's result.
    pub result: R,
}

/// Counts a window's records.
#[derive(Clone, Copy, Debug)]
pub struct CountWindow;

impl<K: Key, V> WindowFunction<K, V> for CountWindow {
    type Held = u64;
    type Out = Windowed<K, u64>;

    #[inline]
    fn add(&mut self, held: &mut u64, _: V) {
        *held += 1;
    }

    fn merge(&mut self, held: &mut u64, later: u64) {
        *held += later;
    }

    fn fire<C: Collect<Self::Out>>(&mut self, key: &K, window: Window, held: &u64, out: &mut C) {
        out.push(Windowed { key: key.clone(), window, result: *held });
    }
}

/// Combines a window's values, two at a time.
#[derive(Clone, Debug)]
pub struct ReduceWindow<F>(pub(super) F);

impl<K: Key, V, F> WindowFunction<K, V> for ReduceWindow<F>
where
    V: StateValue,
    F: FnMut(V, V) -> V + Clone + Send + 'static,
{
    type Held = Option<V>;
    type Out = Windowed<K, V>;

    #[inline]
    fn add(&mut self, held: &mut Option<V>, value: V) {
        self.join(held, value);
    }

    fn merge(&mut self, held: &mut Option<V>, later: Option<V>) {
        if let Some(later) = later {
            self.join(held, later);
        }
    }

    fn fire<C: Collect<Self::Out>>(
        &mut self,
        key: &K,
        window: Window,
        held: &Option<V>,
        out: &mut C,
    ) {
        if let Some(result) = held.clone() {
            out.push(Windowed { key: key.clone(), window, result });
        }
    }
}

impl<F> ReduceWindow<F> {
    #[inline]
    fn join<V>(&mut self, held: &mut Option<V>, value: V)
    where
        F: FnMut(V, V) -> V,
    {
        *held = Some(match held.take() {
            Some(before) => (self.0)(before, value),
            None => value,
        });
    }
}

/// Folds a window's records into an accumulator.
pub struct FoldWindow<A, V, F, M> {
    fold: F,
    merge: M,
    types: PhantomData<fn(A, V)>,
}

impl<A, V, F, M> FoldWindow<A, V, F, M> {
    pub(super) const fn new(fold: F, merge: M) -> Self {
        Self { fold, merge, types: PhantomData }
    }
}

impl<A, V, F, M> fmt::Debug for FoldWindow<A, V, F, M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("FoldWindow")
    }
}

impl<A, V, F: Clone, M: Clone> Clone for FoldWindow<A, V, F, M> {
    fn clone(&self) -> Self {
        Self::new(self.fold.clone(), self.merge.clone())
    }
}

impl<K, V, A, F, M> WindowFunction<K, V> for FoldWindow<A, V, F, M>
where
    K: Key,
    V: 'static,
    A: StateValue + Default,
    F: FnMut(&mut A, V) + Clone + Send + 'static,
    M: FnMut(&mut A, A) + Clone + Send + 'static,
{
    type Held = A;
    type Out = Windowed<K, A>;

    #[inline]
    fn add(&mut self, held: &mut A, value: V) {
        (self.fold)(held, value);
    }

    fn merge(&mut self, held: &mut A, later: A) {
        (self.merge)(held, later);
    }

    fn fire<C: Collect<Self::Out>>(&mut self, key: &K, window: Window, held: &A, out: &mut C) {
        out.push(Windowed { key: key.clone(), window, result: held.clone() });
    }
}

/// Keeps a window's values, and gives all of them to a closure.
pub struct ProcessWindow<V, O, F> {
    closure: F,
    emitter: Emitter<O>,
    types: PhantomData<fn(V)>,
}

impl<V, O, F> ProcessWindow<V, O, F> {
    pub(super) const fn new(closure: F) -> Self {
        Self { closure, emitter: Emitter::new(), types: PhantomData }
    }
}

impl<V, O, F> fmt::Debug for ProcessWindow<V, O, F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ProcessWindow")
    }
}

impl<V, O, F: Clone> Clone for ProcessWindow<V, O, F> {
    fn clone(&self) -> Self {
        Self::new(self.closure.clone())
    }
}

impl<K, V, O, F> WindowFunction<K, V> for ProcessWindow<V, O, F>
where
    K: Key,
    V: StateValue,
    O: Send + 'static,
    F: FnMut(&K, Window, &[V], &mut Emitter<O>) + Clone + Send + 'static,
{
    type Held = List<V>;
    type Out = O;

    #[inline]
    fn add(&mut self, held: &mut List<V>, value: V) {
        held.push(value);
    }

    fn merge(&mut self, held: &mut List<V>, later: List<V>) {
        held.extend(later.into_inner());
    }

    fn fire<C: Collect<O>>(&mut self, key: &K, window: Window, held: &List<V>, out: &mut C) {
        (self.closure)(key, window, held, &mut self.emitter);
        self.emitter.pass(out);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(assigner: &impl WindowAssigner, at: i64) -> Vec<(i64, i64)> {
        let mut windows = Vec::new();
        assigner.assign(Timestamp::from_millis(at), &mut windows);
        windows.iter().map(|window| (window.start.millis(), window.end.millis())).collect()
    }

    /// SPEC 16.8
    #[test]
    fn windows_begin_at_multiples_before_1970_too() {
        let ms = Duration::from_millis;
        assert_eq!(of(&Tumbling::of(ms(10)), 19), [(10, 20)]);
        assert_eq!(of(&Tumbling::of(ms(10)), -1), [(-10, 0)]);
        assert_eq!(of(&Tumbling::of(ms(10)).offset(ms(3)), 12), [(3, 13)]);
        assert_eq!(of(&Sliding::of(ms(10), ms(5)), 12), [(5, 15), (10, 20)]);
        assert_eq!(of(&Sliding::of(ms(10), ms(4)), 0), [(-8, 2), (-4, 6), (0, 10)]);
        assert_eq!(of(&Sliding::of(ms(2), ms(5)), 4), [], "it falls between two");
        assert_eq!(of(&Session::gap(ms(10)), 7), [(7, 17)]);
    }

    #[test]
    fn windows_at_the_ends_of_time_do_not_overflow() {
        let all = [i64::MIN, i64::MIN + 1, i64::MAX - 1, i64::MAX];
        for at in all {
            of(&Tumbling::of(Duration::from_millis(7)), at);
            of(&Sliding::of(Duration::from_millis(9), Duration::from_millis(4)), at);
            of(&Session::gap(Duration::from_millis(9)), at);
        }
    }
}
