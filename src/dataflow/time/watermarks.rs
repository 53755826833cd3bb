//! Watermarks and their strategies (SPEC 16.2).

use std::error::Error;
use std::time::Duration;

use crate::base::clock::Clock;
use crate::operator::chain::{Ending, Flow, Mark, OperatorChain, TaskContext};
use crate::operator::time::{Timed, Timestamp, millis};
use crate::state::{NamedImage, Restored, StateError, StateValue};
use snapline_core::connect::Collect;
use snapline_core::connect::ConnectorError;

/// Computes watermarks from the records of one subtask. Its state is in every checkpoint, so that a
/// restored job resumes with the watermarks that it had (SPEC 16.4).
pub trait WatermarkStrategy<T>: Clone + Send + 'static {
    /// The strategy's state.
    type State: StateValue + Default;

    /// A record was passed on; a watermark that this returns follows it at once. One that is no
    /// later than the last is left out.
    fn record(&mut self, state: &mut Self::State, record: &T, at: Timestamp) -> Option<Timestamp>;

    /// The current watermark. Called when partial batches are sent, which is when no record comes,
    /// and every few thousand records if there always is more.
    fn flush(&mut self, state: &Self::State) -> Option<Timestamp> {
        let _ = state;
        None
    }

    /// The time without a record after which this subtask is idle, and no watermark waits for it.
    fn idle_after(&self) -> Option<Duration> {
        None
    }
}

/// The watermark strategies that come with the crate.
///
/// [`bounded`](Self::bounded) and [`monotonous`](Self::monotonous) emit watermarks between batches
/// of records only, when partial batches are sent. Within a batch no record is late, however much
/// earlier than the others it is. A timer or a window fires after the whole batch, not after the
/// record that brought time there. Which records are late then depends on how they were batched.
///
/// Where that matters, in tests above all, use a strategy that is the same in every run:
///
/// - [`every_record`](Bounded::every_record) emits a watermark after each record.
/// - [`in_steps_of`](Bounded::in_steps_of) emits one at each step of time.
/// - [`punctuated`](Self::punctuated) emits one where records carry one.
#[derive(Clone, Copy, Debug)]
pub struct Watermarks;

impl Watermarks {
    /// Time never goes back within a subtask. Watermarks come between batches, not after each
    /// record: see [`Watermarks`].
    #[must_use]
    pub const fn monotonous() -> Bounded {
        Bounded { late: Duration::ZERO }
    }

    /// A record is at most this much earlier than the latest before it, of the same subtask. The
    /// watermark is the latest time minus the bound, minus one millisecond: a record of just that
    /// time is not late. Watermarks come between batches, not after each record: see
    /// [`Watermarks`].
    #[must_use]
    pub const fn bounded(late: Duration) -> Bounded {
        Bounded { late }
    }

    /// Records carry the watermarks: the rule returns the watermark that follows a record, if there
    /// is one. The places of the watermarks among the records are a function of the source alone,
    /// so that the same records are late in every run.
    ///
    /// ```
    /// use snapline::{Timestamp, Watermarks};
    /// // A record without a reading marks the end of all readings up to then.
    /// let strategy = Watermarks::punctuated(|record: &Option<f64>, at: Timestamp| {
    ///     record.is_none().then_some(at)
    /// });
    /// ```
    pub const fn punctuated<T, F>(rule: F) -> Punctuated<F>
    where
        F: FnMut(&T, Timestamp) -> Option<Timestamp> + Clone + Send + 'static,
    {
        Punctuated(rule)
    }

    /// No watermark before the end: everything waits for the end of the input.
    #[must_use]
    pub const fn at_end() -> AtEnd {
        AtEnd
    }
}

/// The latest time minus a bound.
#[derive(Clone, Copy, Debug)]
pub struct Bounded {
    late: Duration,
}

impl Bounded {
    /// The same for subtasks that may be silent for a while: a subtask without a record for this
    /// long by the clock is not waited for.
    ///
    /// ```
    /// use std::time::Duration;
    /// use snapline::Watermarks;
    /// let strategy = Watermarks::bounded(Duration::from_secs(5)).idle(Duration::from_secs(30));
    /// ```
    #[must_use]
    pub const fn idle(self, after: Duration) -> Idle<Self> {
        Idle::new(self, after)
    }
}

impl Bounded {
    /// The same, with a watermark right after each record that advances time. It is exact, and the
    /// same in every run, at the price of a mark in the channels for each record.
    ///
    /// ```
    /// use std::time::Duration;
    /// use snapline::connect::{MemorySink, MemorySource};
    /// use snapline::{Dataflow, JobConfig, Timestamp, Tumbling, Watermarks};
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let (flow, counts) = (Dataflow::new("exact"), MemorySink::new());
    /// flow.source("seconds", MemorySource::new(vec![1, 200, 5]))
    ///     .parallelism(1)
    ///     .assign_timestamps(Watermarks::monotonous().every_record(), |second| {
    ///         Timestamp::from_millis(second * 1_000)
    ///     })
    ///     .key_by(|_| ())
    ///     .window(Tumbling::of(Duration::from_secs(60)))
    ///     .count()
    ///     .map(|window| window.result)
    ///     .sink("counts", counts.clone());
    /// flow.build(JobConfig::new())?.run()?;
    /// assert_eq!(counts.committed(), [1, 1], "the third is 195 s late");
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub const fn every_record(self) -> Stepwise {
        Stepwise { late: self.late, step: 1 }
    }

    /// The same, with watermarks at multiples of a step, each right after the record that brings
    /// time there. The places of the watermarks among the records are a function of the source
    /// alone, so that the same records are late in every run.
    ///
    /// # Panics
    /// If the step is less than a millisecond.
    #[must_use]
    pub fn in_steps_of(self, step: Duration) -> Stepwise {
        let step = millis(step);
        assert!(step > 0, "a step must be at least a millisecond long");
        Stepwise { late: self.late, step }
    }
}

/// The latest time minus a bound, in steps.
#[derive(Clone, Copy, Debug)]
pub struct Stepwise {
    late: Duration,
    step: i64,
}

impl<T> WatermarkStrategy<T> for Stepwise {
    /// The latest time.
    type State = Option<Timestamp>;

    #[inline]
    fn record(&mut self, latest: &mut Self::State, _: &T, at: Timestamp) -> Option<Timestamp> {
        if *latest >= Some(at) {
            return None;
        }
        *latest = Some(at);
        let watermark = (at - self.late - Duration::from_millis(1)).millis();
        let step = watermark.saturating_sub(watermark.rem_euclid(self.step));
        Some(Timestamp::from_millis(step))
    }
}

impl Stepwise {
    /// As [`Bounded::idle`].
    #[must_use]
    pub const fn idle(self, after: Duration) -> Idle<Self> {
        Idle::new(self, after)
    }
}

impl<F> Punctuated<F> {
    /// As [`Bounded::idle`].
    #[must_use]
    pub const fn idle(self, after: Duration) -> Idle<Self> {
        Idle::new(self, after)
    }
}

impl<T> WatermarkStrategy<T> for Bounded {
    /// The latest time.
    type State = Option<Timestamp>;

    #[inline]
    fn record(&mut self, state: &mut Self::State, _: &T, at: Timestamp) -> Option<Timestamp> {
        *state = (*state).max(Some(at));
        None
    }

    fn flush(&mut self, state: &Self::State) -> Option<Timestamp> {
        state.map(|latest| latest - self.late - Duration::from_millis(1))
    }
}

/// The watermarks that records carry.
#[derive(Clone, Copy, Debug)]
pub struct Punctuated<F>(F);

impl<T, F> WatermarkStrategy<T> for Punctuated<F>
where
    F: FnMut(&T, Timestamp) -> Option<Timestamp> + Clone + Send + 'static,
{
    type State = ();

    #[inline]
    fn record(&mut self, (): &mut (), record: &T, at: Timestamp) -> Option<Timestamp> {
        (self.0)(record, at)
    }
}

/// No watermark before the end.
#[derive(Clone, Copy, Debug)]
pub struct AtEnd;

impl<T> WatermarkStrategy<T> for AtEnd {
    type State = ();

    fn record(&mut self, (): &mut (), _: &T, _: Timestamp) -> Option<Timestamp> {
        None
    }
}

/// A strategy for subtasks that may be silent for a while.
#[derive(Clone, Copy, Debug)]
pub struct Idle<S> {
    strategy: S,
    after: Duration,
}

impl<S> Idle<S> {
    /// A strategy for subtasks that are not waited for after this long without a record, by the
    /// clock.
    #[must_use]
    pub const fn new(strategy: S, after: Duration) -> Self {
        Self { strategy, after }
    }
}

impl<T, S: WatermarkStrategy<T>> WatermarkStrategy<T> for Idle<S> {
    type State = S::State;

    #[inline]
    fn record(&mut self, state: &mut S::State, record: &T, at: Timestamp) -> Option<Timestamp> {
        self.strategy.record(state, record, at)
    }

    fn flush(&mut self, state: &S::State) -> Option<Timestamp> {
        self.strategy.flush(state)
    }

    fn idle_after(&self) -> Option<Duration> {
        Some(self.after)
    }
}

/// Gives records their times, and emits watermarks. Earlier watermarks of its input are not passed
/// on.
pub struct AssignTimestamps<T, S: WatermarkStrategy<T>, F> {
    strategy: S,
    timestamp: F,
    /// The strategy's state, the last watermark, and whether it has reported that it is idle.
    state: (S::State, Timestamp, bool),
    idle_after: Option<Duration>,
    /// Whether a record has come since the last check of the clock.
    seen: bool,
    /// The time of the last check after a record.
    last: Timestamp,
    clock: Clock,
    /// Its operator's name, and its own name there.
    named: (String, String),
}

impl<T, S: WatermarkStrategy<T>, F> AssignTimestamps<T, S, F> {
    pub(crate) fn new(strategy: S, timestamp: F) -> Self {
        let idle_after = strategy.idle_after();
        Self {
            strategy,
            timestamp,
            state: (S::State::default(), Timestamp::MIN, false),
            idle_after,
            seen: false,
            last: Timestamp::MIN,
            clock: Clock::default(),
            named: <(String, String)>::default(),
        }
    }

    fn say<C: Flow<Timed<T>>>(&mut self, watermark: Timestamp, out: &mut C) {
        if watermark > self.state.1 {
            self.state.1 = watermark;
            out.mark(Mark::Watermark(watermark.millis()));
        }
    }
}

impl<T, S: WatermarkStrategy<T>, F> std::fmt::Debug for AssignTimestamps<T, S, F> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "AssignTimestamps({})", self.state.1)
    }
}

impl<T, S: WatermarkStrategy<T>, F: Clone> Clone for AssignTimestamps<T, S, F> {
    fn clone(&self) -> Self {
        Self::new(self.strategy.clone(), self.timestamp.clone())
    }
}

impl<T, S, F> OperatorChain for AssignTimestamps<T, S, F>
where
    T: Send + 'static,
    S: WatermarkStrategy<T>,
    F: FnMut(&T) -> Timestamp + Clone + Send + 'static,
{
    type In = T;
    type Out = Timed<T>;

    #[inline]
    fn push<C: Flow<Timed<T>>>(&mut self, value: T, out: &mut C) {
        let at = (self.timestamp)(&value);
        self.seen = true;
        if self.state.2 {
            self.state.2 = false;
            out.mark(Mark::Active);
        }
        let watermark = self.strategy.record(&mut self.state.0, &value, at);
        out.push(Timed { at, value });
        if let Some(watermark) = watermark {
            self.say(watermark, out);
        }
    }

    fn mark<C: Flow<Timed<T>>>(&mut self, _: Mark, _: &mut C) -> Ending {
        Ending::Done
    }

    fn flush<C: Flow<Timed<T>>>(&mut self, out: &mut C) {
        if self.idle_after.is_some() && self.seen {
            (self.seen, self.last) = (false, Timestamp::from(self.clock.date()));
        }
        if let Some(watermark) = self.strategy.flush(&self.state.0) {
            self.say(watermark, out);
        }
    }

    fn wake(&self) -> Option<Timestamp> {
        let idle_after = self.idle_after.filter(|_| !self.state.2)?;
        Some(self.last + idle_after)
    }

    fn due<C: Flow<Timed<T>>>(&mut self, now: Timestamp, out: &mut C) {
        if self.seen {
            (self.seen, self.last) = (false, now);
        } else if self.wake().is_some_and(|at| at <= now) {
            self.state.2 = true;
            out.mark(Mark::Idle);
        }
    }

    fn end<C: Flow<Timed<T>>>(&mut self, _out: &mut C) -> Ending {
        Ending::Done
    }

    fn open(
        &mut self,
        context: &TaskContext,
        restored: Option<&mut Restored<'_>>,
    ) -> Result<(), StateError> {
        let number = context.clocks.get();
        context.clocks.set(number + 1);
        self.named = (context.place.operator.clone(), format!("watermarks-{number}"));
        self.clock = context.place.clock.clone();
        self.last = Timestamp::from(self.clock.date());
        if let Some(restored) = restored
            && let Some(state) = restored.single(&self.named.0, &self.named.1)?
        {
            self.state = state;
        }
        Ok(())
    }

    fn freeze(&mut self, images: &mut Vec<NamedImage>) -> Result<(), StateError> {
        let (operator, name) = self.named.clone();
        images.push(NamedImage::single(operator, name, &self.state)?);
        Ok(())
    }
}

/// An operator on records, for records that have a time: its output has the time of its input.
#[derive(Clone, Debug)]
pub struct Stamped<L>(L);

impl<L> Stamped<L> {
    pub(crate) const fn new(logic: L) -> Self {
        Self(logic)
    }
}

/// Gives the records that an operator emits a time.
pub(crate) struct At<'a, C> {
    pub(crate) at: Timestamp,
    pub(crate) out: &'a mut C,
}

impl<T, C: Collect<Timed<T>>> Collect<T> for At<'_, C> {
    #[inline]
    fn push(&mut self, value: T) {
        self.out.push(Timed { at: self.at, value });
    }

    fn fail(&mut self, error: crate::base::error::BoxError) {
        self.out.fail(error);
    }
}

impl<T, C: Flow<Timed<T>>> Flow<T> for At<'_, C> {
    fn mark(&mut self, mark: Mark) {
        self.out.mark(mark);
    }
}

impl<L: OperatorChain> OperatorChain for Stamped<L> {
    type In = Timed<L::In>;
    type Out = Timed<L::Out>;

    fn classify<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a dyn ConnectorError> {
        L::classify(error)
    }

    #[inline]
    fn push<C: Flow<Self::Out>>(&mut self, record: Self::In, out: &mut C) {
        self.0.push(record.value, &mut At { at: record.at, out });
    }

    fn end<C: Flow<Self::Out>>(&mut self, _out: &mut C) -> Ending {
        Ending::Done
    }

    fn open(
        &mut self,
        context: &TaskContext,
        restored: Option<&mut Restored<'_>>,
    ) -> Result<(), StateError> {
        self.0.open(context, restored)
    }

    fn freeze(&mut self, images: &mut Vec<NamedImage>) -> Result<(), StateError> {
        self.0.freeze(images)
    }
}
