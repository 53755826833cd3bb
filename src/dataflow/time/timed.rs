//! Streams whose records have a time: what users type.
//!
//! Longer than 500 lines: signatures and documentation of the operators of a stream, and little
//! else.

#![allow(
    clippy::type_complexity,
    reason = "a chain of operators is its type, which users never write down"
)]

use std::marker::PhantomData;
use std::rc::Rc;
use std::time::Duration;

use crate::base::either::Either;
use crate::base::error::BoxError;
use crate::dataflow::join::{Between, EitherKeyer, IntervalJoin, OnValue, Restamp};
use crate::dataflow::keyed::{ByFirst, ByFn, Emitter};
use crate::dataflow::lookup::Lookup;
use crate::dataflow::stream::{FromInputs, OpenEdge, Pipe, Stream};
use crate::dataflow::time::expiry::{Distinct, Highest};
use crate::dataflow::time::timers::{
    Both, CoProcess, Input, KeyedTimers, TimeContext, TimedClosure, TimedProcess,
};
use crate::dataflow::time::watermarks::Stamped;
use crate::dataflow::window::operator::{DropLate, KeepLate, LateRule, Windows};
use crate::dataflow::window::trigger::{EveryRecords, Purging, Trigger};
use crate::dataflow::window::{
    CountWindow, FoldWindow, GlobalWindows, ProcessWindow, ReduceWindow, Unmerged, Window,
    WindowAssigner, WindowFunction,
};
use crate::operator::chain::{
    Filter, FlatMap, Identity, Inspect, Map, OperatorChain, Then, TryMap,
};
use crate::operator::key::Keyer;
use crate::operator::time::Timed;
use crate::state::{Key, StateValue};
use snapline_core::connect::TwoPhaseSink;
use snapline_core::connect::lookup::LookupSource;

/// A stream whose records have a time, and that has watermarks. Made by
/// [`Stream::assign_timestamps`]. Output of a record has its time.
#[must_use = "a stream without a sink does nothing: end it with `sink`"]
pub struct TimedStream<P: Pipe>(pub(crate) Stream<P>);

impl<P: Pipe> std::fmt::Debug for TimedStream<P> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Timed{:?}", self.0)
    }
}

impl<T: Send + 'static, P: Pipe<Out = Timed<T>>> TimedStream<P> {
    /// As [`Stream::map`].
    pub fn map<O, F>(self, rule: F) -> TimedStream<P::Then<Stamped<Map<T, O, F>>>>
    where
        O: Send + 'static,
        F: FnMut(T) -> O + Clone + Send + 'static,
    {
        self.then(Map::new(rule))
    }

    /// As [`Stream::try_map`].
    pub fn try_map<O, F>(self, rule: F) -> TimedStream<P::Then<Stamped<TryMap<T, O, F>>>>
    where
        O: Send + 'static,
        F: FnMut(T) -> Result<O, BoxError> + Clone + Send + 'static,
    {
        self.then(TryMap::new(rule))
    }

    /// As [`Stream::filter`].
    pub fn filter<F>(self, rule: F) -> TimedStream<P::Then<Stamped<Filter<T, T, F>>>>
    where
        F: FnMut(&T) -> bool + Clone + Send + 'static,
    {
        self.then(Filter::new(rule))
    }

    /// As [`Stream::filter_map`].
    pub fn filter_map<O, F>(
        self,
        rule: F,
    ) -> TimedStream<P::Then<Stamped<FlatMap<T, Option<O>, F>>>>
    where
        O: Send + 'static,
        F: FnMut(T) -> Option<O> + Clone + Send + 'static,
    {
        self.then(FlatMap::new(rule))
    }

    /// As [`Stream::flat_map`].
    pub fn flat_map<O, F>(self, rule: F) -> TimedStream<P::Then<Stamped<FlatMap<T, O, F>>>>
    where
        O: IntoIterator + 'static,
        O::Item: Send + 'static,
        F: FnMut(T) -> O + Clone + Send + 'static,
    {
        self.then(FlatMap::new(rule))
    }

    /// As [`Stream::inspect`].
    pub fn inspect<F>(self, rule: F) -> TimedStream<P::Then<Stamped<Inspect<T, T, F>>>>
    where
        F: FnMut(&T) + Clone + Send + 'static,
    {
        self.then(Inspect::new(rule))
    }

    /// As [`Stream::lookup`]. No later watermark overtakes a record.
    pub fn lookup<S: LookupSource<T>>(
        self,
        lookup: Lookup<T, S>,
    ) -> TimedStream<impl Pipe<Out = Timed<(T, S::Found)>>>
    where
        T: StateValue,
    {
        let found = self.0.lookup(lookup.timed());
        let pair = |(record, found): (Timed<T>, S::Found)| Timed {
            at: record.at,
            value: (record.value, found),
        };
        TimedStream(found.map(pair))
    }

    fn then<L: OperatorChain<In = T>>(self, next: L) -> TimedStream<P::Then<Stamped<L>>> {
        TimedStream(self.0.then(Stamped::new(next)))
    }

    /// As [`Stream::named`].
    pub fn named(self, name: &str) -> Self {
        Self(self.0.named(name))
    }

    /// As [`Stream::parallelism`].
    pub fn parallelism(self, subtasks: usize) -> Self {
        Self(self.0.parallelism(subtasks))
    }

    /// A stream of the records with their times.
    pub fn with_timestamps(self) -> Stream<P> {
        self.0
    }

    /// As [`Stream::key_by`].
    pub fn key_by<K, F>(self, key: F) -> TimedKeyedStream<P, ByFn<K, F>>
    where
        K: Key,
        F: Fn(&T) -> K + Clone + Send + Sync + 'static,
    {
        TimedKeyedStream { stream: self.0, keyer: ByFn::new(key) }
    }

    /// Merges this stream with another of the same type. The watermark is the lesser of the two.
    pub fn union<Q: Pipe<Out = Timed<T>>>(
        self,
        other: TimedStream<Q>,
    ) -> TimedStream<FromInputs<Identity<Timed<T>>>> {
        TimedStream(self.0.union(other.0))
    }

    /// As [`Stream::fork`].
    pub fn fork(
        self,
    ) -> (TimedStream<FromInputs<Identity<Timed<T>>>>, TimedStream<FromInputs<Identity<Timed<T>>>>)
    where
        T: Clone,
    {
        let (left, right) = self.0.fork();
        (TimedStream(left), TimedStream(right))
    }

    /// Ends the stream in a sink, which gets the records without their times:
    /// [`Self::with_timestamps`] keeps them. As [`Stream::sink`].
    pub fn sink<S: TwoPhaseSink<Record = T>>(self, name: &str, sink: S) {
        self.0.map(|record| record.value).sink(name, sink);
    }
}

impl<K: Key, V: Send + 'static, P: Pipe<Out = Timed<(K, V)>>> TimedStream<P> {
    /// As [`Stream::keyed`].
    pub fn keyed(self) -> TimedKeyedStream<P, ByFirst> {
        TimedKeyedStream { stream: self.0, keyer: ByFirst }
    }
}

impl<A: Send + 'static, B: Send + 'static, P: Pipe<Out = Timed<Either<A, B>>>> TimedStream<P> {
    /// As [`Stream::split`].
    pub fn split(
        self,
    ) -> (TimedStream<FromInputs<Identity<Timed<A>>>>, TimedStream<FromInputs<Identity<Timed<B>>>>)
    {
        let (left, right) = self.0.sides();
        (TimedStream(left), TimedStream(right))
    }
}

/// A stream whose records have a time and are grouped by key.
#[must_use = "a keyed stream does nothing until an operator follows it"]
pub struct TimedKeyedStream<P: Pipe, N> {
    stream: Stream<P>,
    keyer: N,
}

impl<P: Pipe, N> std::fmt::Debug for TimedKeyedStream<P, N> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "TimedKeyed{:?}", self.stream)
    }
}

/// A stream downstream of a keyed operator with timers.
pub type TimedKeyedOutput<T, N, R> = TimedStream<FromInputs<KeyedTimers<T, N, R>>>;

impl<T, P, N> TimedKeyedStream<P, N>
where
    T: Send + 'static,
    P: Pipe<Out = Timed<T>>,
    N: Keyer<T>,
{
    /// Gives each record and each timer to a closure, with its key's state and timers, and the
    /// output to emit into.
    pub fn process<S, O, F>(self, closure: F) -> TimedKeyedOutput<T, N, TimedClosure<S, O, F>>
    where
        S: StateValue + Default,
        O: Send + 'static,
        F: FnMut(Input<N::Value>, &mut TimeContext<'_, N::Key, S>, &mut Emitter<O>)
            + Clone
            + Send
            + 'static,
    {
        self.process_with(TimedClosure::new(closure))
    }

    /// Gives each record and each timer to a function.
    pub fn process_with<R>(self, process: R) -> TimedKeyedOutput<T, N, R>
    where
        R: TimedProcess<N::Key, N::Value>,
    {
        let keyer = self.keyer.clone();
        self.operator("process", KeyedTimers::new(keyer, process))
    }

    /// Lets the first record of each key through, and then none until the watermark is this much
    /// later.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use snapline::connect::{MemorySink, MemorySource};
    /// # use snapline::{Dataflow, JobConfig, Timestamp, Watermarks};
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let (flow, once) = (Dataflow::new("once"), MemorySink::new());
    /// flow.source("calls", MemorySource::new(vec![("a", 1), ("b", 2), ("a", 3)]))
    ///     .parallelism(1)
    ///     .assign_timestamps(Watermarks::monotonous(), |(_, at)| Timestamp::from_millis(*at))
    ///     .key_by(|(call, _)| call.to_string())
    ///     .distinct(Duration::from_secs(60))
    ///     .sink("once", once.clone());
    /// flow.build(JobConfig::new().parallelism(1))?.run()?;
    /// assert_eq!(once.committed(), [("a", 1), ("b", 2)]);
    /// # Ok(())
    /// # }
    /// ```
    pub fn distinct(self, memory: Duration) -> TimedKeyedOutput<T, N, Distinct>
    where
        N::Value: Send + 'static,
    {
        self.process_with(Distinct { memory })
    }

    /// Puts the records of each key into windows.
    pub fn window<W: WindowAssigner>(
        self,
        assigner: W,
    ) -> WindowedStream<P, N, W, W::Trigger, DropLate> {
        let trigger = assigner.trigger();
        let (late, lateness) = (PhantomData, Duration::ZERO);
        WindowedStream { keyed: self, assigner, trigger, lateness, late }
    }

    /// Puts each `count` records of a key, one or more, into a window, which fires with the last of
    /// them. These are [`GlobalWindows`] that are purged [every `count` records](EveryRecords).
    /// Records that are left at the end of the input, less than `count`, are in no result. Time
    /// plays no part: assign any timestamps.
    ///
    /// ```
    /// # use snapline::connect::{MemorySink, MemorySource};
    /// # use snapline::{Dataflow, JobConfig, Timestamp, Watermarks};
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let (flow, sums) = (Dataflow::new("sums"), MemorySink::new());
    /// flow.source("numbers", MemorySource::new(vec![1, 2, 3, 4, 5]))
    ///     .parallelism(1)
    ///     .assign_timestamps(Watermarks::at_end(), |_| Timestamp::MIN)
    ///     .key_by(|_| ())
    ///     .count_window(2)
    ///     .reduce(|sum, number| sum + number)
    ///     .map(|window| window.result)
    ///     .sink("sums", sums.clone());
    /// flow.build(JobConfig::new())?.run()?;
    /// assert_eq!(sums.committed(), [1 + 2, 3 + 4]);
    /// # Ok(())
    /// # }
    /// ```
    pub fn count_window(
        self,
        count: u64,
    ) -> WindowedStream<P, N, GlobalWindows, Purging<EveryRecords>, DropLate>
    where
        N::Value: Clone,
    {
        self.window(GlobalWindows).trigger(EveryRecords::new(count).purging())
    }

    /// Connects the records of each key with those of another stream: they share a key's state and
    /// timers.
    pub fn connect<U, Q, M>(self, other: TimedKeyedStream<Q, M>) -> ConnectedStreams<P, N, Q, M>
    where
        U: Send + 'static,
        Q: Pipe<Out = Timed<U>>,
        M: Keyer<U, Key = N::Key>,
    {
        ConnectedStreams { left: self, right: other }
    }

    /// Joins the records of each key with those of another stream that are close enough in time. A
    /// result has the later of both times. Records that come after the watermark has passed them
    /// are dropped, and counted.
    ///
    /// ```
    /// use std::time::Duration;
    /// use snapline::connect::{MemorySink, MemorySource};
    /// use snapline::{Between, Dataflow, JobConfig, Timestamp, Watermarks};
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let (flow, paid) = (Dataflow::new("shop"), MemorySink::new());
    /// let at = |&(_, second): &(u32, i64)| Timestamp::from_millis(second * 1_000);
    /// let orders = flow
    ///     .source("orders", MemorySource::new(vec![(1, 10), (2, 20)]))
    ///     .assign_timestamps(Watermarks::bounded(Duration::from_secs(60)), at);
    /// let payments = flow
    ///     .source("payments", MemorySource::new(vec![(1, 15), (2, 200)]))
    ///     .assign_timestamps(Watermarks::bounded(Duration::from_secs(60)), at);
    /// orders
    ///     .key_by(|(order, _)| *order)
    ///     .interval_join(
    ///         payments.key_by(|(order, _)| *order),
    ///         Between::after(Duration::ZERO, Duration::from_secs(60)),
    ///         |order, ordered, paid| (*order, paid.1 - ordered.1),
    ///     )
    ///     .sink("paid", paid.clone());
    /// flow.build(JobConfig::new())?.run()?;
    /// assert_eq!(paid.committed(), [(1, 5)]);
    /// # Ok(())
    /// # }
    /// ```
    pub fn interval_join<U, Q, M, O, F>(
        self,
        other: TimedKeyedStream<Q, M>,
        between: Between,
        join: F,
    ) -> TimedStream<
        FromInputs<
            Then<
                KeyedTimers<Either<T, U>, EitherKeyer<N, M>, Both<IntervalJoin<O, F>>>,
                Restamp<O>,
            >,
        >,
    >
    where
        U: Send + 'static,
        Q: Pipe<Out = Timed<U>>,
        M: Keyer<U, Key = N::Key>,
        N::Value: StateValue,
        M::Value: StateValue,
        O: Send + 'static,
        F: FnMut(&N::Key, &N::Value, &M::Value) -> O + Clone + Send + 'static,
    {
        self.stream.refuse(between.check());
        let joined = self.connect(other).process_with(IntervalJoin::new(between, join));
        TimedStream(joined.0.then(Restamp(PhantomData)))
    }

    fn operator<L: OperatorChain<In = Timed<T>>>(
        self,
        name: &str,
        logic: L,
    ) -> TimedStream<FromInputs<L>> {
        let graph = Rc::clone(&self.stream.graph);
        let (edge, loose) = self.stream.close_keyed(OnValue(self.keyer));
        TimedStream(Stream::behind(graph, name.to_owned(), vec![edge], vec![loose], logic))
    }
}

/// Two streams grouped by keys of one type.
#[must_use = "two streams do nothing until an operator follows them"]
pub struct ConnectedStreams<P: Pipe, N, Q: Pipe, M> {
    left: TimedKeyedStream<P, N>,
    right: TimedKeyedStream<Q, M>,
}

impl<P: Pipe, N, Q: Pipe, M> std::fmt::Debug for ConnectedStreams<P, N, Q, M> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "ConnectedStreams({:?}, {:?})", self.left, self.right)
    }
}

impl<T, U, P, N, Q, M> ConnectedStreams<P, N, Q, M>
where
    T: Send + 'static,
    U: Send + 'static,
    P: Pipe<Out = Timed<T>>,
    Q: Pipe<Out = Timed<U>>,
    N: Keyer<T>,
    M: Keyer<U, Key = N::Key>,
{
    /// Gives the records of both streams, and the timers, to a function.
    pub fn process_with<R>(
        self,
        process: R,
    ) -> TimedKeyedOutput<Either<T, U>, EitherKeyer<N, M>, Both<R>>
    where
        R: CoProcess<N::Key, N::Value, M::Value>,
    {
        let keyer = EitherKeyer(self.left.keyer.clone(), self.right.keyer.clone());
        self.operator("connect", KeyedTimers::new(keyer, Both(process)))
    }

    /// Puts the records of both streams into the same windows. The closure gets the records of a
    /// window: of the first stream, and of the second.
    pub fn window_join<W, O, F>(
        self,
        assigner: W,
        mut join: F,
    ) -> TimedStream<FromInputs<impl OperatorChain<In = Timed<Either<T, U>>, Out = Timed<O>>>>
    where
        W: WindowAssigner<Trigger: Trigger>,
        N::Value: StateValue,
        M::Value: StateValue,
        O: Send + 'static,
        F: FnMut(&N::Key, Window, &N::Value, &M::Value) -> O + Clone + Send + 'static,
    {
        let pairs = move |key: &N::Key,
                          window: Window,
                          values: &[Either<N::Value, M::Value>],
                          out: &mut Emitter<O>| {
            for left in values.iter() {
                let Either::Left(left) = left else { continue };
                for right in values.iter() {
                    let Either::Right(right) = right else { continue };
                    snapline_core::connect::Collect::push(out, join(key, window, left, right));
                }
            }
        };
        self.left.stream.refuse(assigner.check());
        let keyer = EitherKeyer(self.left.keyer.clone(), self.right.keyer.clone());
        let (trigger, function) = (assigner.trigger(), ProcessWindow::new(pairs));
        let windows: Windows<Either<T, U>, _, _, _, _, DropLate> =
            Windows::new(keyer, assigner, trigger, function, Duration::ZERO);
        self.operator("window-join", windows)
    }

    fn operator<L: OperatorChain<In = Timed<Either<T, U>>>>(
        self,
        name: &str,
        logic: L,
    ) -> TimedStream<FromInputs<L>> {
        let Self { left, right } = self;
        let graph = Rc::clone(&left.stream.graph);
        let keyer = OnValue(EitherKeyer(left.keyer, right.keyer));
        let close = |(edge, loose): (_, OpenEdge)| (edge, loose);
        let left = left.stream.then(Stamped::new(Map::new(Either::<T, U>::Left)));
        let right = right.stream.then(Stamped::new(Map::new(Either::<T, U>::Right)));
        let (left, from_left) = close(left.close_keyed(keyer.clone()));
        let (right, from_right) = close(right.close_keyed(keyer));
        let (edges, inputs) = (vec![left, right], vec![from_left, from_right]);
        TimedStream(Stream::behind(graph, name.to_owned(), edges, inputs, logic))
    }
}

/// Records of each key in windows. A record that comes when all its windows are over is dropped,
/// and counted ([`crate::TaskStatus::records_late`]), or emitted beside the results
/// ([`Self::keep_late`]).
#[must_use = "windows do nothing until something is computed in them"]
pub struct WindowedStream<P: Pipe, N, W, G, L> {
    keyed: TimedKeyedStream<P, N>,
    assigner: W,
    trigger: G,
    lateness: Duration,
    late: PhantomData<L>,
}

impl<P: Pipe, N, W, G, L> std::fmt::Debug for WindowedStream<P, N, W, G, L> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Windowed{:?}", self.keyed)
    }
}

/// The output of a window for a record or a result.
type Emitted<T, N, F, L> = <L as LateRule<
    <N as Keyer<T>>::Key,
    <N as Keyer<T>>::Value,
    <F as WindowFunction<<N as Keyer<T>>::Key, <N as Keyer<T>>::Value>>::Out,
>>::Out;

impl<P: Pipe, N, W, G, L> WindowedStream<P, N, W, G, L> {
    /// Fires windows by another trigger than at their ends, which global windows lack.
    pub fn trigger<H: Trigger>(self, trigger: H) -> WindowedStream<P, N, W, H, L> {
        let Self { keyed, assigner, lateness, late, .. } = self;
        WindowedStream { keyed, assigner, trigger, lateness, late }
    }
}

impl<T, P, N, W, G, L> WindowedStream<P, N, W, G, L>
where
    T: Send + 'static,
    P: Pipe<Out = Timed<T>>,
    N: Keyer<T>,
    N::Value: Clone,
    W: WindowAssigner,
    G: Trigger,
    L: Clone + Send + 'static,
{
    /// Keeps windows for this long, in event time, after their ends: a record that comes in this
    /// time fires its window again.
    pub fn allowed_lateness(mut self, lateness: Duration) -> Self {
        self.lateness = lateness;
        self
    }

    /// Emits each record that comes too late beside the results, with its key:
    /// [`TimedStream::split`] separates them.
    ///
    /// ```
    /// use std::time::Duration;
    /// use snapline::connect::{MemorySink, MemorySource};
    /// use snapline::{Dataflow, JobConfig, Timestamp, Tumbling, Watermarks};
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let (flow, counts, late) = (Dataflow::new("late"), MemorySink::new(), MemorySink::new());
    /// let (counted, too_late) = flow
    ///     .source("seconds", MemorySource::new(vec![1, 12, 2]))
    ///     .parallelism(1)
    ///     .assign_timestamps(
    ///         Watermarks::punctuated(|_: &i64, at| Some(at)),
    ///         |second| Timestamp::from_millis(second * 1_000),
    ///     )
    ///     .key_by(|_| 0)
    ///     .window(Tumbling::of(Duration::from_secs(10)))
    ///     .keep_late()
    ///     .count()
    ///     .split();
    /// counted.map(|window| window.result).sink("counts", counts.clone());
    /// too_late.map(|(_, second)| second).sink("late", late.clone());
    /// flow.build(JobConfig::new())?.run()?;
    /// assert_eq!((counts.committed(), late.committed()), (vec![1, 1], vec![2]));
    /// # Ok(())
    /// # }
    /// ```
    pub fn keep_late(self) -> WindowedStream<P, N, W, G, KeepLate> {
        let Self { keyed, assigner, trigger, lateness, .. } = self;
        WindowedStream { keyed, assigner, trigger, lateness, late: PhantomData }
    }

    /// Counts the records of each window.
    pub fn count(self) -> TimedStream<FromInputs<Windows<T, N, W, G, CountWindow, L>>>
    where
        L: LateRule<N::Key, N::Value, crate::dataflow::window::Windowed<N::Key, u64>>,
    {
        self.apply(CountWindow)
    }

    /// Combines the values of each window, two at a time, in the order they come; those of windows
    /// that became one, in the order of these.
    pub fn reduce<F>(
        self,
        join: F,
    ) -> TimedStream<FromInputs<Windows<T, N, W, G, ReduceWindow<F>, L>>>
    where
        N::Value: StateValue,
        F: FnMut(N::Value, N::Value) -> N::Value + Clone + Send + 'static,
        L: LateRule<N::Key, N::Value, crate::dataflow::window::Windowed<N::Key, N::Value>>,
    {
        self.apply(ReduceWindow(join))
    }

    /// Folds the records of each window into an accumulator, which begins as its default. Windows
    /// that may become one need [`Self::aggregate_merging`].
    pub fn aggregate<A, F>(
        self,
        fold: F,
    ) -> TimedStream<FromInputs<Windows<T, N, W, G, FoldWindow<A, N::Value, F, fn(&mut A, A)>, L>>>
    where
        W: Unmerged,
        N::Value: 'static,
        A: StateValue + Default,
        F: FnMut(&mut A, N::Value) + Clone + Send + 'static,
        L: LateRule<N::Key, N::Value, crate::dataflow::window::Windowed<N::Key, A>>,
    {
        // The type of the windows shows that it is not called.
        self.apply(FoldWindow::new(fold, |_, _| {}))
    }

    /// As [`Self::aggregate`], for windows that may become one: merges the accumulator of the later
    /// of two into the earlier.
    pub fn aggregate_merging<A, F, M>(
        self,
        fold: F,
        merge: M,
    ) -> TimedStream<FromInputs<Windows<T, N, W, G, FoldWindow<A, N::Value, F, M>, L>>>
    where
        N::Value: 'static,
        A: StateValue + Default,
        F: FnMut(&mut A, N::Value) + Clone + Send + 'static,
        M: FnMut(&mut A, A) + Clone + Send + 'static,
        L: LateRule<N::Key, N::Value, crate::dataflow::window::Windowed<N::Key, A>>,
    {
        self.apply(FoldWindow::new(fold, merge))
    }

    /// Keeps the highest values of each window, by a rule's result, the highest first; of equal
    /// ones the earliest. From 1 to 100,000 values: other numbers are refused when the job is
    /// built.
    pub fn highest<R, F>(
        self,
        most: usize,
        by: F,
    ) -> TimedStream<FromInputs<Windows<T, N, W, G, Highest<F>, L>>>
    where
        N::Value: StateValue,
        R: Ord,
        F: FnMut(&N::Value) -> R + Clone + Send + 'static,
        L: LateRule<N::Key, N::Value, crate::dataflow::window::Windowed<N::Key, Vec<N::Value>>>,
    {
        self.apply(Highest { most, by })
    }

    /// Gives all values of each window to a closure, with its key and bounds, and the output to
    /// emit into.
    pub fn process<O, F>(
        self,
        closure: F,
    ) -> TimedStream<FromInputs<Windows<T, N, W, G, ProcessWindow<N::Value, O, F>, L>>>
    where
        N::Value: StateValue,
        O: Send + 'static,
        F: FnMut(&N::Key, Window, &[N::Value], &mut Emitter<O>) + Clone + Send + 'static,
        L: LateRule<N::Key, N::Value, O>,
    {
        self.apply(ProcessWindow::new(closure))
    }

    /// Computes a custom function in each window.
    pub fn apply<F>(self, function: F) -> TimedStream<FromInputs<Windows<T, N, W, G, F, L>>>
    where
        F: WindowFunction<N::Key, N::Value>,
        L: LateRule<N::Key, N::Value, F::Out>,
        Emitted<T, N, F, L>: Send,
    {
        let Self { keyed, assigner, trigger, lateness, .. } = self;
        keyed.stream.refuse(assigner.check());
        keyed.stream.refuse(trigger.check());
        keyed.stream.refuse(function.check());
        let windows = Windows::new(keyed.keyer.clone(), assigner, trigger, function, lateness);
        keyed.operator("window", windows)
    }
}
