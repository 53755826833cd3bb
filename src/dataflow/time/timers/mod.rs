//! Functions of a key's records and of time (SPEC 16.6).
//!
//! Longer than 500 lines: one operator, its interface for functions, and the two shapes of these;
//! all share the same slot.

use std::cell::OnceCell;
use std::marker::PhantomData;
use std::num::NonZeroU64;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::base::clock::Clock;
use crate::base::either::Either;
use crate::base::fault::Mutation;
use crate::dataflow::keyed::Emitter;
use crate::dataflow::time::timer_queue::TimerQueue;
use crate::dataflow::time::watermarks::At;
use crate::operator::chain::{Ending, Flow, Mark, OperatorChain, TaskContext};
use crate::operator::key::Keyer;
use crate::operator::time::{Timed, Timestamp};
use crate::state::{self, Key, NamedImage, Restored, StateError, StateValue, Table};
use snapline_core::connect::Collect;

/// The number of timers that fire in one step.
pub(crate) const FIRED_AT_ONCE: usize = 256;

/// A function of a key's records, with state and timers for each key. State and timers are in every
/// checkpoint.
///
/// ```
/// use std::time::Duration;
/// use snapline::connect::{Collect, MemorySink, MemorySource};
/// use snapline::{Dataflow, JobConfig, TimedProcess, Timestamp, TimeContext, Watermarks};
///
/// /// Reports when a machine has been silent for a minute.
/// #[derive(Clone)]
/// struct Silence;
///
/// impl TimedProcess<u32, (u32, i64)> for Silence {
///     type State = Option<Timestamp>;
///     type Out = (u32, Timestamp);
///
///     fn process<C: Collect<Self::Out>>(
///         &mut self,
///         _sign: (u32, i64),
///         last: &mut TimeContext<'_, u32, Self::State>,
///         _out: &mut C,
///     ) {
///         if let Some(before) = **last {
///             last.delete_timer(before + Duration::from_secs(60));
///         }
///         let now = last.timestamp();
///         **last = Some(now);
///         last.set_timer(now + Duration::from_secs(60));
///     }
///
///     fn event_time<C: Collect<Self::Out>>(
///         &mut self,
///         last: &mut TimeContext<'_, u32, Self::State>,
///         out: &mut C,
///     ) {
///         out.push((*last.key(), last.timestamp()));
///     }
/// }
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let (flow, silent) = (Dataflow::new("machines"), MemorySink::new());
/// flow.source("signs", MemorySource::new(vec![(7, 0), (7, 30_000), (8, 200_000)]))
///     .parallelism(1)
///     .assign_timestamps(Watermarks::monotonous(), |(_, at)| Timestamp::from_millis(*at))
///     .key_by(|(machine, _)| *machine)
///     .process_with(Silence)
///     .sink("silent", silent.clone());
/// flow.build(JobConfig::new())?.run()?;
/// let at = Timestamp::from_millis;
/// let mut said = silent.committed();
/// said.sort();
/// assert_eq!(said, [(7, at(90_000)), (8, at(260_000))]);
/// # Ok(())
/// # }
/// ```
pub trait TimedProcess<K, V>: Clone + Send + 'static {
    /// The state kept for a key; begins as its default.
    type State: StateValue + Default;
    /// The emitted records, with the time of their record or timer.
    type Out: Send + 'static;

    /// Processes one record of a key.
    fn process<C: Collect<Self::Out>>(
        &mut self,
        value: V,
        context: &mut TimeContext<'_, K, Self::State>,
        out: &mut C,
    );

    /// The watermark has come to a timer of the key; [`TimeContext::timestamp`] returns its time.
    fn event_time<C: Collect<Self::Out>>(
        &mut self,
        context: &mut TimeContext<'_, K, Self::State>,
        out: &mut C,
    ) {
        let _ = (context, out);
    }

    /// The wall clock has come to a timer of the key; [`TimeContext::timestamp`] returns its time.
    fn processing_time<C: Collect<Self::Out>>(
        &mut self,
        context: &mut TimeContext<'_, K, Self::State>,
        out: &mut C,
    ) {
        let _ = (context, out);
    }

    /// The time without a record of a key, by the wall clock, after which its state is dropped
    /// ([`crate::Expiring`]).
    fn expires(&self) -> Option<Duration> {
        None
    }

    /// The event-time timers that follow from a key's state, ascending, each once, when it is
    /// restored: the durations that set them may have changed. `since` is the argument of
    /// [`TimeContext::remember`]. `None`: they are unchanged.
    #[doc(hidden)]
    fn timers(&self, state: &Self::State, since: Option<Timestamp>) -> Option<Vec<Timestamp>> {
        let _ = (state, since);
        None
    }
}

/// A key's state and timers.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Slot<S> {
    state: S,
    /// Whether the state is more than its default, which is not kept for its own sake.
    live: bool,
    /// Ascending, each once.
    event: Vec<Timestamp>,
    /// Ascending, each once.
    processing: Vec<Timestamp>,
    /// The time of the last record, by the clock: kept if there is a time to live.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    last: Option<Kept>,
    /// The event time that the state is remembered from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    since: Option<Kept>,
    /// Read only, from checkpoints without `last`: when the state was to expire, and when that was
    /// to be checked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    expires: Option<Box<(Timestamp, Timestamp)>>,
    /// When expiry is checked, if that is not when the last record is old enough: new records do
    /// not change the timer queue.
    #[serde(skip)]
    look: Option<Kept>,
}

/// A time that takes no more room where there may be none: a table has some for every key. The
/// earliest of all is a millisecond later.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(from = "Timestamp", into = "Timestamp")]
struct Kept(NonZeroU64);

impl From<Timestamp> for Kept {
    fn from(time: Timestamp) -> Self {
        let since_the_earliest = (time.millis() ^ i64::MIN).cast_unsigned();
        Self(NonZeroU64::new(since_the_earliest).unwrap_or(NonZeroU64::MIN))
    }
}

impl From<Kept> for Timestamp {
    fn from(kept: Kept) -> Self {
        Self::from_millis(kept.0.get().cast_signed() ^ i64::MIN)
    }
}

impl<S> Slot<S> {
    /// The time at which it is due, with this time to live.
    #[inline]
    fn due(&self, after: Option<Duration>) -> (Option<Timestamp>, Option<Timestamp>) {
        let look = after.and_then(|after| self.looks(after));
        (
            self.event.first().copied(),
            self.processing.first().copied().into_iter().chain(look).min(),
        )
    }

    fn looks(&self, after: Duration) -> Option<Timestamp> {
        self.look.map(Timestamp::from).or_else(|| Some(self.last()? + after))
    }

    fn last(&self) -> Option<Timestamp> {
        self.last.map(Timestamp::from)
    }

    /// Whether a restore has to supply the time of the last record (SPEC 16.13).
    fn is_undated(&self) -> bool {
        self.last.is_none() && (self.live || self.expires.is_some())
    }

    /// Supplies it: the record came when the job is restored, or this long before the end of the
    /// time to live that it had.
    fn date(&mut self, now: Timestamp, after: Duration) {
        let ends = self.expires.take().map(|it| it.0 - after);
        self.last = Some(ends.map_or(now, |last| last.min(now)).into());
    }
}

impl<S: Default> Slot<S> {
    /// A record has come. State that was due to expire earlier expires now, if that was not checked
    /// yet.
    fn touch(&mut self, now: Timestamp, after: Duration) {
        self.look = Some(self.looks(after).unwrap_or(now + after).into());
        if self.last().is_some_and(|last| last + after <= now) {
            (self.state, self.live) = (S::default(), false);
        }
        self.last = Some(now.into());
    }

    /// The clock has come to a time: checks whether the state expires, and when to check again.
    /// State that is left at the end of the input does not expire by it.
    fn expire(&mut self, now: Timestamp, after: Duration, ended: bool) {
        let Some(until) = self.last().map(|last| last + after) else { return };
        if self.looks(after).is_none_or(|look| look > now) {
            return;
        }
        if ended {
            (self.last, self.look) = (None, None);
        } else if until <= now {
            (self.state, self.live, self.last, self.look) = (S::default(), false, None, None);
        } else {
            self.look = Some(until.into());
        }
    }
}

fn add(timers: &mut Vec<Timestamp>, at: Timestamp) {
    if let Err(place) = timers.binary_search(&at) {
        timers.insert(place, at);
    }
}

fn remove(timers: &mut Vec<Timestamp>, at: Timestamp) {
    if let Ok(place) = timers.binary_search(&at) {
        timers.remove(place);
    }
}

/// A key with its state and its timers, for the time of one record or timer.
#[derive(Debug)]
pub struct TimeContext<'a, K, S> {
    key: &'a K,
    slot: &'a mut Slot<S>,
    at: Timestamp,
    watermark: Timestamp,
    clock: &'a Clock,
    /// The clock's reading, once it was requested.
    now: OnceCell<Timestamp>,
    /// The input has ended: no time will come for another timer by the clock.
    ended: bool,
    cleared: bool,
    /// The input came too late and was dropped.
    late: bool,
}

impl<K, S> TimeContext<'_, K, S> {
    /// The key.
    #[must_use]
    pub const fn key(&self) -> &K {
        self.key
    }

    /// The time of the record or of the timer.
    #[must_use]
    pub const fn timestamp(&self) -> Timestamp {
        self.at
    }

    /// The watermark; [`Timestamp::MIN`] if there was none yet, [`Timestamp::MAX`] at the end of
    /// the input.
    #[must_use]
    pub const fn watermark(&self) -> Timestamp {
        self.watermark
    }

    /// The wall clock's reading, the same for as long as this record or timer is processed.
    #[must_use]
    pub fn processing_time(&self) -> Timestamp {
        *self.now.get_or_init(|| Timestamp::from(self.clock.date()))
    }

    /// Sets a timer: [`TimedProcess::event_time`] is called for this key when the watermark comes
    /// to this time; once, however often it is set. If the watermark is there already, it is called
    /// with the next one.
    ///
    /// The call does not precede the record that brings event time there. The watermark comes after
    /// that record, and with most strategies after all records of its batch
    /// ([`crate::Watermarks`]).
    ///
    /// At the end of a bounded input the watermark comes to the end of time. All timers that are
    /// set are called, including those set by other timers at the end. A timer that always sets the
    /// next one keeps such a job running for ever. Let it set none when [`Self::watermark`] is
    /// [`Timestamp::MAX`].
    pub fn set_timer(&mut self, at: Timestamp) {
        add(&mut self.slot.event, at);
    }

    /// Deletes that timer.
    pub fn delete_timer(&mut self, at: Timestamp) {
        remove(&mut self.slot.event, at);
    }

    /// Sets a timer: [`TimedProcess::processing_time`] is called for this key when the wall clock
    /// comes to this time; once. If the input ends earlier, it is called then; timers set after the
    /// end are ignored (SPEC 16.7).
    pub fn set_processing_timer(&mut self, at: Timestamp) {
        if !self.ended {
            add(&mut self.slot.processing, at);
        }
    }

    /// Deletes that timer.
    pub fn delete_processing_timer(&mut self, at: Timestamp) {
        remove(&mut self.slot.processing, at);
    }

    /// Keeps an event time with the key, until its state is dropped.
    pub(crate) fn remember(&mut self, since: Timestamp) {
        self.slot.since = Some(since.into());
    }

    /// Marks the record as too late and without effect: it is counted
    /// ([`crate::TaskStatus::records_late`]).
    pub const fn drop_late(&mut self) {
        self.late = true;
    }

    /// Drops the key's state once this record or timer is processed. Its timers stay.
    pub const fn clear(&mut self) {
        self.cleared = true;
    }
}

impl<K, S> std::ops::Deref for TimeContext<'_, K, S> {
    type Target = S;

    #[inline]
    fn deref(&self) -> &S {
        &self.slot.state
    }
}

impl<K, S> std::ops::DerefMut for TimeContext<'_, K, S> {
    #[inline]
    fn deref_mut(&mut self) -> &mut S {
        self.slot.live = true;
        &mut self.slot.state
    }
}

/// A keyed operator with timers.
pub struct KeyedTimers<T, N: Keyer<T>, P: TimedProcess<N::Key, N::Value>> {
    keyer: N,
    process: P,
    /// For no key at all in the description that subtasks are cloned from.
    table: Table<N::Key, Slot<P::State>>,
    event: TimerQueue<N::Key>,
    processing: TimerQueue<N::Key>,
    watermark: Timestamp,
    ended: bool,
    late: u64,
    clock: Clock,
    operator: String,
    records: PhantomData<fn(T)>,
}

impl<T, N: Keyer<T>, P: TimedProcess<N::Key, N::Value>> std::fmt::Debug for KeyedTimers<T, N, P> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "KeyedTimers({})", self.operator)
    }
}

impl<T, N: Keyer<T>, P: TimedProcess<N::Key, N::Value>> Clone for KeyedTimers<T, N, P> {
    fn clone(&self) -> Self {
        Self::new(self.keyer.clone(), self.process.clone())
    }
}

/// The input of one step.
enum Work<V> {
    Record(V),
    EventTime,
    ProcessingTime,
}

/// Name of the operator's state in a snapshot.
const TIMERS: &str = "timers";

impl<T, N: Keyer<T>, P: TimedProcess<N::Key, N::Value>> KeyedTimers<T, N, P> {
    pub(crate) fn new(keyer: N, process: P) -> Self {
        Self {
            keyer,
            process,
            table: Table::new(0..0, 1),
            event: TimerQueue::default(),
            processing: TimerQueue::default(),
            watermark: Timestamp::MIN,
            ended: false,
            late: 0,
            clock: Clock::default(),
            operator: String::new(),
            records: PhantomData,
        }
    }

    /// Processes an input of a key, and updates the timer queues.
    #[inline]
    fn work<C: Flow<Timed<P::Out>>>(
        &mut self,
        (hash, key): (u64, N::Key),
        at: Timestamp,
        work: Work<N::Value>,
        out: &mut C,
    ) {
        let Self { process, table, event, processing, watermark, ended, clock, late, .. } = self;
        let (key, slot) = table.entry_pair(hash, key, Slot::default);
        let after = process.expires();
        let mut before = slot.due(after);
        let now = OnceCell::new();
        match work {
            Work::Record(_) => match after {
                Some(after) => {
                    slot.touch(*now.get_or_init(|| Timestamp::from(clock.date())), after);
                }
                // The time of an earlier record would be wrong.
                None => (slot.last, slot.expires) = (None, None),
            },
            // A key that is due was taken off the queue.
            Work::EventTime => {
                remove(&mut slot.event, at);
                before.0 = None;
            }
            Work::ProcessingTime => {
                before.1 = None;
                if let Some(after) = after {
                    slot.expire(at, after, *ended);
                }
                if slot.processing.first() != Some(&at) {
                    // It was not for a timer that was set.
                    let now = slot.due(after);
                    processing.change(hash, key, before.1, now.1);
                    if !slot.live && now == (None, None) {
                        let key = key.clone();
                        table.remove(hash, &key);
                    }
                    return;
                }
                remove(&mut slot.processing, at);
            }
        }
        let mut context = TimeContext {
            key,
            slot,
            at,
            watermark: *watermark,
            clock,
            now,
            ended: *ended,
            cleared: false,
            late: false,
        };
        let out = &mut At { at, out };
        match work {
            Work::Record(value) => process.process(value, &mut context, out),
            Work::EventTime => process.event_time(&mut context, out),
            Work::ProcessingTime => process.processing_time(&mut context, out),
        }
        let cleared = context.cleared;
        *late += u64::from(context.late);
        let now = slot.due(after);
        if before != now {
            event.change(hash, key, before.0, now.0);
            processing.change(hash, key, before.1, now.1);
        }
        if cleared {
            (slot.state, slot.live, slot.since) = (P::State::default(), false, None);
        }
        if !slot.live && now == (None, None) {
            let key = key.clone();
            table.remove(hash, &key);
        }
    }

    /// Takes over the keys of a checkpoint, and computes when each is due. A time to live, and the
    /// durations of timers, may have changed since.
    fn adopt(&mut self, mut table: Table<N::Key, Slot<P::State>>) {
        let (process, after) = (&self.process, self.process.expires());
        let timers = |slot: &Slot<P::State>| {
            let timers = process.timers(&slot.state, slot.since.map(Timestamp::from));
            timers.filter(|timers| *timers != slot.event)
        };
        let changed = |slot: &Slot<P::State>| {
            (after.is_some() && slot.is_undated()) || timers(slot).is_some()
        };
        let changed = table.iter().filter(|(_, slot)| changed(slot));
        let changed: Vec<N::Key> = changed.map(|(key, _)| key.clone()).collect();
        let (now, seed) = (Timestamp::from(self.clock.date()), table.seed());
        for key in changed {
            let Some(slot) = table.get_mut(seed.hash(&key), &key) else { continue };
            if let (Some(after), true) = (after, slot.is_undated()) {
                slot.date(now, after);
            }
            if let Some(timers) = timers(slot) {
                slot.event = timers;
            }
        }
        for (key, slot) in table.iter() {
            let (hash, (event, processing)) = (seed.hash(key), slot.due(after));
            self.event.change(hash, key, None, event);
            self.processing.change(hash, key, None, processing);
        }
        self.table = table;
    }

    /// Fires what is due by the watermark, a limited number at a time.
    fn fire_event_time<C: Flow<Timed<P::Out>>>(&mut self, out: &mut C) -> Ending {
        for _ in 0..FIRED_AT_ONCE {
            let Some((at, hash, key)) = self.event.pop(self.watermark) else {
                return Ending::Done;
            };
            self.work((hash, key), at, Work::EventTime, out);
        }
        Ending::More
    }

    /// Fires what is due by the clock, a limited number at a time.
    fn fire_processing_time<C: Flow<Timed<P::Out>>>(
        &mut self,
        now: Timestamp,
        out: &mut C,
    ) -> Ending {
        for _ in 0..FIRED_AT_ONCE {
            let Some((at, hash, key)) = self.processing.pop(now) else { return Ending::Done };
            self.work((hash, key), at, Work::ProcessingTime, out);
        }
        Ending::More
    }
}

impl<T, N, P> OperatorChain for KeyedTimers<T, N, P>
where
    T: Send + 'static,
    N: Keyer<T>,
    P: TimedProcess<N::Key, N::Value>,
{
    type In = Timed<T>;
    type Out = Timed<P::Out>;

    #[inline]
    fn push<C: Flow<Self::Out>>(&mut self, record: Timed<T>, out: &mut C) {
        let Timed { at, value } = record;
        let hash = self.keyer.hash(self.table.seed(), &value);
        let (key, value) = self.keyer.split(value);
        self.work((hash, key), at, Work::Record(value), out);
    }

    fires_by_both_clocks!();

    fn open(
        &mut self,
        context: &TaskContext,
        restored: Option<&mut Restored<'_>>,
    ) -> Result<(), StateError> {
        let place = &context.place;
        let groups = state::groups_of(place.index, place.parallelism, context.key_groups);
        let mut table: Table<N::Key, Slot<P::State>> =
            Table::seeded(groups, context.key_groups, context.seed);
        self.operator.clone_from(&place.operator);
        self.clock = place.clock.clone();
        if let Some(restored) = restored {
            table.restore(restored, &self.operator, TIMERS)?;
        }
        if context.faults.is_active(Mutation::TimersForgotten) {
            self.table = table;
            return Ok(());
        }
        let expires = !context.faults.is_active(Mutation::ExpiryForgotten);
        if !expires || context.faults.is_active(Mutation::KeyStateForgotten) {
            let all: Vec<_> = table.drain().collect();
            for (key, mut slot) in all {
                match expires {
                    false => slot.last = slot.last.map(|_| Timestamp::MAX.into()),
                    true => slot.state = P::State::default(),
                }
                table.insert(context.seed.hash(&key), key, slot);
            }
        }
        self.adopt(table);
        if context.faults.is_active(Mutation::ClockTimersForgotten) {
            self.processing = TimerQueue::default();
        }
        Ok(())
    }

    fn freeze(&mut self, images: &mut Vec<NamedImage>) -> Result<(), StateError> {
        images.push(NamedImage {
            operator: self.operator.clone(),
            state: TIMERS.into(),
            image: self.table.freeze(),
        });
        Ok(())
    }
}

/// A closure over a key's records and timers.
pub struct TimedClosure<S, O, F> {
    closure: F,
    emitter: Emitter<O>,
    types: PhantomData<fn(S)>,
}

impl<S, O, F> TimedClosure<S, O, F> {
    /// A closure as a function.
    pub const fn new(closure: F) -> Self {
        Self { closure, emitter: Emitter::new(), types: PhantomData }
    }
}

impl<S, O, F> std::fmt::Debug for TimedClosure<S, O, F> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("TimedClosure")
    }
}

impl<S, O, F: Clone> Clone for TimedClosure<S, O, F> {
    fn clone(&self) -> Self {
        Self::new(self.closure.clone())
    }
}

impl<K, V, S, O, F> TimedProcess<K, V> for TimedClosure<S, O, F>
where
    K: Key,
    S: StateValue + Default,
    O: Send + 'static,
    F: FnMut(Input<V>, &mut TimeContext<'_, K, S>, &mut Emitter<O>) + Clone + Send + 'static,
{
    type State = S;
    type Out = O;

    fn process<C: Collect<O>>(
        &mut self,
        value: V,
        context: &mut TimeContext<'_, K, S>,
        out: &mut C,
    ) {
        (self.closure)(Input::Record(value), context, &mut self.emitter);
        self.emitter.pass(out);
    }

    fn event_time<C: Collect<O>>(&mut self, context: &mut TimeContext<'_, K, S>, out: &mut C) {
        (self.closure)(Input::EventTime, context, &mut self.emitter);
        self.emitter.pass(out);
    }

    fn processing_time<C: Collect<O>>(&mut self, context: &mut TimeContext<'_, K, S>, out: &mut C) {
        (self.closure)(Input::ProcessingTime, context, &mut self.emitter);
        self.emitter.pass(out);
    }
}

/// The reason why a closure with timers is called.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Input<V> {
    /// A record of the key.
    Record(V),
    /// The watermark has come to a timer.
    EventTime,
    /// The wall clock has come to a timer.
    ProcessingTime,
}

/// A function of two streams' records of a key, which share the key's state and timers.
pub trait CoProcess<K, A, B>: Clone + Send + 'static {
    /// The state kept for a key; begins as its default.
    type State: StateValue + Default;
    /// The emitted records, with the time of their record or timer.
    type Out: Send + 'static;

    /// Processes a record of the first stream.
    fn left<C: Collect<Self::Out>>(
        &mut self,
        value: A,
        context: &mut TimeContext<'_, K, Self::State>,
        out: &mut C,
    );

    /// Processes a record of the second stream.
    fn right<C: Collect<Self::Out>>(
        &mut self,
        value: B,
        context: &mut TimeContext<'_, K, Self::State>,
        out: &mut C,
    );

    /// As [`TimedProcess::event_time`].
    fn event_time<C: Collect<Self::Out>>(
        &mut self,
        context: &mut TimeContext<'_, K, Self::State>,
        out: &mut C,
    ) {
        let _ = (context, out);
    }

    /// As [`TimedProcess::processing_time`].
    fn processing_time<C: Collect<Self::Out>>(
        &mut self,
        context: &mut TimeContext<'_, K, Self::State>,
        out: &mut C,
    ) {
        let _ = (context, out);
    }

    /// As `TimedProcess::timers`.
    #[doc(hidden)]
    fn timers(&self, state: &Self::State) -> Option<Vec<Timestamp>> {
        let _ = state;
        None
    }
}

/// Adapts a function of two streams to one stream of records of two kinds.
#[derive(Clone, Debug)]
pub struct Both<P>(pub(crate) P);

impl<K, A, B, P: CoProcess<K, A, B>> TimedProcess<K, Either<A, B>> for Both<P> {
    type State = P::State;
    type Out = P::Out;

    fn process<C: Collect<P::Out>>(
        &mut self,
        value: Either<A, B>,
        context: &mut TimeContext<'_, K, P::State>,
        out: &mut C,
    ) {
        match value {
            Either::Left(value) => self.0.left(value, context, out),
            Either::Right(value) => self.0.right(value, context, out),
        }
    }

    fn event_time<C: Collect<P::Out>>(
        &mut self,
        context: &mut TimeContext<'_, K, P::State>,
        out: &mut C,
    ) {
        self.0.event_time(context, out);
    }

    fn processing_time<C: Collect<P::Out>>(
        &mut self,
        context: &mut TimeContext<'_, K, P::State>,
        out: &mut C,
    ) {
        self.0.processing_time(context, out);
    }

    fn timers(&self, state: &P::State, _: Option<Timestamp>) -> Option<Vec<Timestamp>> {
        self.0.timers(state)
    }
}

#[cfg(all(test, feature = "sim"))]
mod tests;
