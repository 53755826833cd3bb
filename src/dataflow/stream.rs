//! Streams: what users type.
//!
//! Longer than 500 lines: half of it is the documentation of one type, with an example for each
//! operator.

#![allow(
    clippy::type_complexity,
    reason = "a chain of operators is its type, which users never write down"
)]

use std::cell::RefCell;
use std::io::Write;
use std::rc::Rc;

use snapline_protocol::topology::Role;

use super::broadcast::{BroadcastProcess, Broadcasting, OrAll};
use super::join::OnValue;
use super::keyed::{ByFirst, ByFn, Closure, Emit, Emitter, KeyState, Keyed, KeyedProcess};
use super::lookup::{LookingUp, Lookup};
use crate::base::either::Either;
use crate::base::error::BoxError;
use crate::base::sync::{Arc, Mutex};
use crate::dataflow::keyed::aggregates::{Aggregate, Average, Count, Extreme, Number, Reduce, Sum};
use crate::dataflow::time::timed::TimedStream;
use crate::dataflow::time::timers::{KeyedTimers, TimedProcess};
use crate::dataflow::time::watermarks::{AssignTimestamps, WatermarkStrategy};
use crate::operator::chain::{
    Filter, FlatMap, Identity, Inspect, Map, OperatorChain, Then, TryMap,
};
use crate::operator::key::Keyer;
use crate::operator::route::SplitRecord;
use crate::operator::time::{Timed, Timestamp};
use crate::plan::graph::{
    Edge, EdgeSpec, Graph, MakeBroadcast, MakeExchange, MakeFork, MakeOperator, MakeRoundRobin,
    MakeRoute, MakeSink, MakeSource, MakeSplit, OperatorFactory, OperatorNode,
};
use crate::plan::spec::BuildError;
use crate::state::{Key, StateValue};
use snapline_core::connect::lookup::LookupSource;
use snapline_core::connect::{Source, TwoPhaseSink};

/// The start of a stream, a source or inputs, and the chain of operators downstream of it. Together
/// they will be one task. Users meet it as `impl Pipe<Out = T>`.
pub trait Pipe: sealed::Sealed {
    /// The same with one more operator.
    type Then<L: OperatorChain<In = Self::Out>>: Pipe<Out = L::Out>;

    /// Adds an operator.
    fn then<L: OperatorChain<In = Self::Out>>(self, next: L) -> Self::Then<L>;
}

mod sealed {
    use super::*;

    pub trait Sealed: Sized {
        /// The stream's records.
        type Out: Send + 'static;

        /// Makes the operators of the task.
        fn make<M: MakeRoute<Self::Out>>(self, route: M) -> Arc<dyn OperatorFactory>;
    }
}

/// A source and a chain of operators.
pub struct FromSource<S, L> {
    source: S,
    logic: L,
}

impl<S, L> std::fmt::Debug for FromSource<S, L> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("FromSource")
    }
}

impl<S: Source, L: OperatorChain<In = S::Record>> sealed::Sealed for FromSource<S, L> {
    type Out = L::Out;

    fn make<M: MakeRoute<L::Out>>(self, route: M) -> Arc<dyn OperatorFactory> {
        let (source, logic) = (Mutex::new(self.source), Mutex::new(self.logic));
        Arc::new(MakeSource { source, logic, route })
    }
}

impl<S: Source, L: OperatorChain<In = S::Record>> Pipe for FromSource<S, L> {
    type Then<N: OperatorChain<In = L::Out>> = FromSource<S, Then<L, N>>;

    fn then<N: OperatorChain<In = L::Out>>(self, next: N) -> Self::Then<N> {
        FromSource { source: self.source, logic: Then::new(self.logic, next) }
    }
}

/// Inputs and a chain of operators.
pub struct FromInputs<L: OperatorChain> {
    inputs: Vec<Arc<Edge<L::In>>>,
    logic: L,
}

impl<L: OperatorChain> std::fmt::Debug for FromInputs<L> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("FromInputs")
    }
}

impl<L: OperatorChain> sealed::Sealed for FromInputs<L> {
    type Out = L::Out;

    fn make<M: MakeRoute<L::Out>>(self, route: M) -> Arc<dyn OperatorFactory> {
        Arc::new(MakeOperator { inputs: self.inputs, logic: Mutex::new(self.logic), route })
    }
}

impl<L: OperatorChain> Pipe for FromInputs<L> {
    type Then<N: OperatorChain<In = L::Out>> = FromInputs<Then<L, N>>;

    fn then<N: OperatorChain<In = L::Out>>(self, next: N) -> Self::Then<N> {
        FromInputs { inputs: self.inputs, logic: Then::new(self.logic, next) }
    }
}

/// An edge that waits for its consumer.
pub(super) struct OpenEdge {
    from: usize,
    keyed: bool,
    edge: Arc<dyn crate::plan::graph::Connect>,
}

/// A stream of records that has no consumer yet. It ends in a [`Stream::sink`]. Operators up to the
/// next exchange, union or fork are compiled into one loop.
#[must_use = "a stream without a sink does nothing: end it with `sink`"]
pub struct Stream<P: Pipe> {
    pub(super) graph: Rc<RefCell<Graph>>,
    pipe: P,
    /// The task's name, and whether the user chose it. A name that was not chosen gives way when
    /// the task is closed.
    name: String,
    named: bool,
    role: Role,
    parallelism: Option<usize>,
    /// Of a source: whether it is replayable, and its place among the graph's sources.
    replayable: Option<(bool, usize)>,
    inputs: Vec<OpenEdge>,
}

impl<P: Pipe> std::fmt::Debug for Stream<P> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Stream({})", self.name)
    }
}

impl<S: Source> Stream<FromSource<S, Identity<S::Record>>> {
    pub(super) fn from_source(graph: Rc<RefCell<Graph>>, name: &str, source: S) -> Self {
        let replayable = Some((source.is_replayable(), graph.borrow_mut().begin(name)));
        let pipe = FromSource { source, logic: Identity::new() };
        Self {
            graph,
            pipe,
            name: name.into(),
            named: true,
            role: Role::Source,
            parallelism: None,
            replayable,
            inputs: Vec::new(),
        }
    }
}

impl<P: Pipe> Stream<P> {
    /// Turns each record into another.
    pub fn map<O, F>(self, rule: F) -> Stream<P::Then<Map<P::Out, O, F>>>
    where
        O: Send + 'static,
        F: FnMut(P::Out) -> O + Clone + Send + 'static,
    {
        self.then(Map::new(rule))
    }

    /// Turns each record into another, or into an error that fails the task.
    pub fn try_map<O, F>(self, rule: F) -> Stream<P::Then<TryMap<P::Out, O, F>>>
    where
        O: Send + 'static,
        F: FnMut(P::Out) -> Result<O, BoxError> + Clone + Send + 'static,
    {
        self.then(TryMap::new(rule))
    }

    /// Keeps the records for which the rule returns true.
    pub fn filter<F>(self, rule: F) -> Stream<P::Then<Filter<P::Out, P::Out, F>>>
    where
        F: FnMut(&P::Out) -> bool + Clone + Send + 'static,
    {
        self.then(Filter::new(rule))
    }

    /// Turns each record into any number of records.
    pub fn flat_map<O, F>(self, rule: F) -> Stream<P::Then<FlatMap<P::Out, O, F>>>
    where
        O: IntoIterator + 'static,
        O::Item: Send + 'static,
        F: FnMut(P::Out) -> O + Clone + Send + 'static,
    {
        self.then(FlatMap::new(rule))
    }

    /// Turns each record into another, or into none.
    ///
    /// ```
    /// # use snapline::connect::{MemorySink, MemorySource};
    /// # use snapline::{Dataflow, JobConfig};
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let (flow, numbers) = (Dataflow::new("numbers"), MemorySink::new());
    /// flow.source("words", MemorySource::new(vec!["1", "two", "3"]))
    ///     .filter_map(|word| word.parse::<i32>().ok())
    ///     .sink("out", numbers.clone());
    /// flow.build(JobConfig::new().parallelism(1))?.run()?;
    /// assert_eq!(numbers.committed(), [1, 3]);
    /// # Ok(())
    /// # }
    /// ```
    pub fn filter_map<O, F>(self, rule: F) -> Stream<P::Then<FlatMap<P::Out, Option<O>, F>>>
    where
        O: Send + 'static,
        F: FnMut(P::Out) -> Option<O> + Clone + Send + 'static,
    {
        self.then(FlatMap::new(rule))
    }

    /// Writes each record to standard output, one a line after a label, and passes it on. At least
    /// once: lines are written again after a failure. A line that cannot be written fails the task.
    /// Meant for looking at a stream; [`crate::connect::Stdout`] is a sink.
    ///
    /// ```
    /// # use snapline::connect::{Discard, MemorySource};
    /// # use snapline::{Dataflow, JobConfig};
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let flow = Dataflow::new("shown");
    /// flow.source("words", MemorySource::new(vec!["one", "two"]))
    ///     .print("words")
    ///     .sink("out", Discard::new());
    /// flow.build(JobConfig::new())?.run()?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn print(self, label: &str) -> Stream<impl Pipe<Out = P::Out>>
    where
        P::Out: std::fmt::Debug,
    {
        let label = label.to_owned();
        self.try_map(move |record| {
            writeln!(std::io::stdout().lock(), "{label}: {record:?}")
                .map_err(|error| format!("standard output cannot be written to: {error}"))?;
            Ok(record)
        })
    }

    /// Calls the rule with each record. Side effects of the rule happen again after a failure.
    pub fn inspect<F>(self, rule: F) -> Stream<P::Then<Inspect<P::Out, P::Out, F>>>
    where
        F: FnMut(&P::Out) + Clone + Send + 'static,
    {
        self.then(Inspect::new(rule))
    }

    pub(super) fn then<L: OperatorChain<In = P::Out>>(self, next: L) -> Stream<P::Then<L>> {
        let Self { graph, pipe, name, named, role, parallelism, replayable, inputs } = self;
        let pipe = pipe.then(next);
        Stream { graph, pipe, name, named, role, parallelism, replayable, inputs }
    }

    /// Names the task that the stream is in. Its state is restored under this name, also when
    /// operators are added before it.
    pub fn named(mut self, name: &str) -> Self {
        self.name = name.into();
        self.named = true;
        self
    }

    /// Sets the number of subtasks of the task that the stream is in, instead of the job's default.
    pub fn parallelism(mut self, subtasks: usize) -> Self {
        self.parallelism = Some(subtasks);
        self
    }

    /// Groups records by a key. A function computes the key of a record twice: where the record is
    /// sent, and where it arrives. The whole record is the value.
    ///
    /// ```
    /// # use snapline::connect::{MemorySink, MemorySource};
    /// # use snapline::{Dataflow, Emit, JobConfig};
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let (flow, by_length) = (Dataflow::new("lengths"), MemorySink::new());
    /// flow.source("words", MemorySource::new(vec!["a", "bc", "d"]))
    ///     .key_by(|word| word.len() as u64)
    ///     .count(Emit::AtEnd)
    ///     .sink("out", by_length.clone());
    /// flow.build(JobConfig::new())?.run()?;
    /// let mut counts = by_length.committed();
    /// counts.sort();
    /// assert_eq!(counts, [(1, 2), (2, 1)]);
    /// # Ok(())
    /// # }
    /// ```
    pub fn key_by<K, F>(self, key: F) -> KeyedStream<P, ByFn<K, F>>
    where
        K: Key,
        F: Fn(&P::Out) -> K + Clone + Send + Sync + 'static,
    {
        KeyedStream { stream: self, keyer: ByFn::new(key) }
    }

    /// Groups pairs by their first part; the second is the value.
    ///
    /// ```
    /// # use snapline::connect::{MemorySink, MemorySource};
    /// # use snapline::{Dataflow, Emit, JobConfig};
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let (flow, highest) = (Dataflow::new("highest"), MemorySink::new());
    /// flow.source("bids", MemorySource::new(vec![(1u32, 30u64), (2, 5), (1, 20)]))
    ///     .keyed()
    ///     .reduce(Emit::AtEnd, u64::max)
    ///     .sink("out", highest.clone());
    /// flow.build(JobConfig::new())?.run()?;
    /// let mut bids = highest.committed();
    /// bids.sort();
    /// assert_eq!(bids, [(1, 30), (2, 5)]);
    /// # Ok(())
    /// # }
    /// ```
    pub fn keyed<K, V>(self) -> KeyedStream<P, ByFirst>
    where
        P: Pipe<Out = (K, V)>,
        K: Key,
    {
        KeyedStream { stream: self, keyer: ByFirst }
    }

    /// Merges this stream with another of the same type; the order between their records is open.
    ///
    /// ```
    /// # use snapline::connect::{MemorySink, MemorySource};
    /// # use snapline::{Dataflow, JobConfig};
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let (flow, all) = (Dataflow::new("both"), MemorySink::new());
    /// let old = flow.source("old", MemorySource::new(vec![1, 2]));
    /// let new = flow.source("new", MemorySource::new(vec![3]));
    /// old.union(new).sink("out", all.clone());
    /// flow.build(JobConfig::new())?.run()?;
    /// assert_eq!(all.committed().iter().sum::<i32>(), 6);
    /// # Ok(())
    /// # }
    /// ```
    pub fn union<Q: Pipe<Out = P::Out>>(
        self,
        other: Stream<Q>,
    ) -> Stream<FromInputs<Identity<P::Out>>> {
        let graph = Rc::clone(&self.graph);
        let name = "union".to_owned();
        let (mine, my_end) = self.close_plain();
        let (others, other_end) = other.close_plain();
        Stream::behind(graph, name, vec![mine, others], vec![my_end, other_end], Identity::new())
    }

    /// Makes two streams of one: each gets every record, and each must end in a sink.
    ///
    /// ```
    /// # use snapline::connect::{MemorySink, MemorySource};
    /// # use snapline::{Dataflow, JobConfig};
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let (flow, odd, even) = (Dataflow::new("sorted"), MemorySink::new(), MemorySink::new());
    /// let (left, right) = flow.source("numbers", MemorySource::new(vec![1, 2, 3])).fork();
    /// left.filter(|number| number % 2 == 1).sink("odd", odd.clone());
    /// right.filter(|number| number % 2 == 0).sink("even", even.clone());
    /// flow.build(JobConfig::new())?.run()?;
    /// assert_eq!((odd.committed_count(), even.committed()), (2, vec![2]));
    /// # Ok(())
    /// # }
    /// ```
    pub fn fork(
        self,
    ) -> (Stream<FromInputs<Identity<P::Out>>>, Stream<FromInputs<Identity<P::Out>>>)
    where
        P::Out: Clone,
    {
        let graph = Rc::clone(&self.graph);
        let (left, right) = (Edge::new(), Edge::new());
        let from = self.close(MakeFork(vec![Arc::clone(&left), Arc::clone(&right)]), 2);
        let name = graph.borrow().nodes[from].name.clone();
        (branch(&graph, &name, "left", from, left), branch(&graph, &name, "right", from, right))
    }

    /// Splits a stream in two by the variant of its records; each part must end in a sink.
    ///
    /// ```
    /// # use snapline::connect::{MemorySink, MemorySource};
    /// # use snapline::{Dataflow, Either, JobConfig};
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let (flow, good, bad) = (Dataflow::new("parsed"), MemorySink::new(), MemorySink::new());
    /// let (numbers, others) = flow
    ///     .source("words", MemorySource::new(vec!["1", "two", "3"]))
    ///     .map(|word| word.parse::<i32>().map_or(Either::Right(word), Either::Left))
    ///     .split();
    /// numbers.sink("good", good.clone());
    /// others.sink("bad", bad.clone());
    /// flow.build(JobConfig::new().parallelism(1))?.run()?;
    /// assert_eq!((good.committed(), bad.committed()), (vec![1, 3], vec!["two"]));
    /// # Ok(())
    /// # }
    /// ```
    pub fn split<A, B>(self) -> (Stream<FromInputs<Identity<A>>>, Stream<FromInputs<Identity<B>>>)
    where
        P: Pipe<Out = Either<A, B>>,
        A: Send + 'static,
        B: Send + 'static,
    {
        self.sides()
    }

    /// Splits a stream into `N`: a rule returns the index, from 0, of the stream that a record goes
    /// to. Each must end in a sink. An index of `N` or more fails the task.
    ///
    /// ```
    /// # use snapline::connect::{MemorySink, MemorySource};
    /// # use snapline::{Dataflow, JobConfig};
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let (flow, sinks) = (Dataflow::new("sorted"), [(); 3].map(|()| MemorySink::new()));
    /// let streams = flow
    ///     .source("numbers", MemorySource::new(vec![5, 50, 500, 6]))
    ///     .split_into::<3, _>(|number| [10, 100].iter().filter(|from| *number >= **from).count());
    /// for (number, (stream, sink)) in streams.into_iter().zip(&sinks).enumerate() {
    ///     stream.sink(&format!("size-{number}"), sink.clone());
    /// }
    /// flow.build(JobConfig::new().parallelism(1))?.run()?;
    /// assert_eq!(sinks.map(|sink| sink.committed()), [vec![5, 6], vec![50], vec![500]]);
    /// # Ok(())
    /// # }
    /// ```
    pub fn split_into<const N: usize, F>(self, mut rule: F) -> [Stream<impl Pipe<Out = P::Out>>; N]
    where
        P::Out: Clone,
        F: FnMut(&P::Out) -> usize + Clone + Send + 'static,
    {
        let numbered = self.try_map(move |record| match rule(&record) {
            which if which < N => Ok((which, record)),
            which => Err(format!(
                "the function chose stream {which} for a record, but there are {N}, numbered from \
                 0"
            )
            .into()),
        });
        let graph = Rc::clone(&numbered.graph);
        let edges = [(); N].map(|()| Edge::new());
        let from = numbered.close(MakeFork(edges.to_vec()), N);
        let name = graph.borrow().nodes[from].name.clone();
        let mut next = 0;
        edges.map(|edge| {
            let which = next;
            next += 1;
            branch(&graph, &name, &which.to_string(), from, edge)
                .filter_map(move |(of, record)| (of == which).then_some(record))
        })
    }

    pub(super) fn sides(
        self,
    ) -> (
        Stream<FromInputs<Identity<<P::Out as SplitRecord>::Left>>>,
        Stream<FromInputs<Identity<<P::Out as SplitRecord>::Right>>>,
    )
    where
        P::Out: SplitRecord,
    {
        let graph = Rc::clone(&self.graph);
        let (left, right) = (Edge::new(), Edge::new());
        let from = self.close(MakeSplit(Arc::clone(&left), Arc::clone(&right)), 2);
        let name = graph.borrow().nodes[from].name.clone();
        (branch(&graph, &name, "left", from, left), branch(&graph, &name, "right", from, right))
    }

    /// Gives records their timestamps, and the stream its watermarks: operators downstream can use
    /// windows and timers. If several subtasks read a source, each has a watermark of its own;
    /// downstream of them the least applies. [`super::Watermarks::bounded`] and
    /// [`super::Watermarks::monotonous`] give watermarks between batches of records, not after
    /// each: see [`super::Watermarks`].
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use snapline::connect::{MemorySink, MemorySource};
    /// # use snapline::{Dataflow, JobConfig, Timestamp, Tumbling, Watermarks};
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let (flow, per_minute) = (Dataflow::new("clicks"), MemorySink::new());
    /// flow.source("clicks", MemorySource::new(vec![("a", 5), ("b", 61), ("a", 59), ("a", 70)]))
    ///     .assign_timestamps(Watermarks::bounded(Duration::from_secs(10)), |(_, second)| {
    ///         Timestamp::from_millis(second * 1_000)
    ///     })
    ///     .key_by(|(page, _)| page.to_string())
    ///     .window(Tumbling::of(Duration::from_secs(60)))
    ///     .count()
    ///     .map(|clicks| (clicks.window.start.millis() / 60_000, clicks.key, clicks.result))
    ///     .sink("per-minute", per_minute.clone());
    /// flow.build(JobConfig::new())?.run()?;
    /// let mut counts = per_minute.committed();
    /// counts.sort();
    /// assert_eq!(counts, [(0, "a".into(), 2), (1, "a".into(), 1), (1, "b".into(), 1)]);
    /// # Ok(())
    /// # }
    /// ```
    pub fn assign_timestamps<S, F>(
        self,
        strategy: S,
        timestamp: F,
    ) -> TimedStream<P::Then<AssignTimestamps<P::Out, S, F>>>
    where
        S: WatermarkStrategy<P::Out>,
        F: FnMut(&P::Out) -> Timestamp + Clone + Send + 'static,
    {
        TimedStream(self.then(AssignTimestamps::new(strategy, timestamp)))
    }

    /// Looks each record up outside, several at a time, and pairs it with the answer (SPEC 15.10).
    /// Records without an answer when a checkpoint comes are in it, and are looked up again if it
    /// is restored. So a record may be looked up more than once, and is emitted once.
    ///
    /// ```
    /// # use snapline::connect::{MemorySink, MemorySource};
    /// # use snapline::{BoxError, Dataflow, JobConfig, Lookup};
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let (flow, prices) = (Dataflow::new("prices"), MemorySink::new());
    /// let price = |item: &u64| -> Result<u64, BoxError> { Ok(item * 100) };
    /// flow.source("items", MemorySource::new(vec![1u64, 2, 3]))
    ///     .lookup(Lookup::ordered(price).in_flight(8))
    ///     .sink("out", prices.clone());
    /// flow.build(JobConfig::new().parallelism(1))?.run()?;
    /// assert_eq!(prices.committed(), [(1, 100), (2, 200), (3, 300)]);
    /// # Ok(())
    /// # }
    /// ```
    pub fn lookup<S: LookupSource<P::Out>>(
        self,
        lookup: Lookup<P::Out, S>,
    ) -> Stream<FromInputs<LookingUp<P::Out, S>>>
    where
        P::Out: StateValue,
    {
        let graph = Rc::clone(&self.graph);
        if let Err(what) = lookup.check() {
            let operator = self.name.clone();
            graph.borrow_mut().wrong.push(BuildError::Operator { operator, what });
        }
        let (edge, loose) = self.close_plain();
        let logic = LookingUp::new(lookup);
        Stream::behind(graph, "lookup".to_owned(), vec![edge], vec![loose], logic)
    }

    /// Ends the stream in a sink. A stream may only be ended once; a dataflow may have any number
    /// of sinks. The sink has as many subtasks as the stream's last operator.
    ///
    /// ```
    /// # use snapline::Dataflow;
    /// # use snapline::connect::{FileSink, Generator};
    /// let flow = Dataflow::new("numbers");
    /// let numbers = flow.source("numbers", Generator::new(100, |number| number));
    /// numbers.sink("files", FileSink::new("results"));
    /// ```
    pub fn sink<S: TwoPhaseSink<Record = P::Out>>(self, name: &str, sink: S) {
        let graph = Rc::clone(&self.graph);
        let parallelism = self.parallelism;
        let (edge, loose) = self.close_plain();
        let (delivery, transaction_timeout) = (Some(sink.delivery()), sink.transaction_timeout());
        let make = Arc::new(MakeSink { inputs: vec![edge], sink: Mutex::new(sink) });
        let node = OperatorNode {
            name: name.into(),
            role: Role::Sink,
            parallelism,
            make,
            outputs: 0,
            replayable: None,
            delivery,
            transaction_timeout,
        };
        add(&graph, node, vec![loose]);
    }

    /// Remembers what is wrong with windows, if anything; the error is returned when the dataflow
    /// is built.
    pub(super) fn refuse(&self, checked: Result<(), String>) {
        if let Err(what) = checked {
            self.graph.borrow_mut().wrong.push(BuildError::Window { what });
        }
    }

    /// Ends the stream in an edge by key.
    pub(super) fn close_keyed<N: Keyer<P::Out>>(self, keyer: N) -> (Arc<Edge<P::Out>>, OpenEdge) {
        let edge = Edge::new();
        let from = self.close(MakeExchange { edge: Arc::clone(&edge), keyer }, 1);
        (Arc::clone(&edge), OpenEdge { from, keyed: true, edge })
    }

    fn close_plain(self) -> (Arc<Edge<P::Out>>, OpenEdge) {
        let edge = Edge::new();
        let from = self.close(MakeRoundRobin(Arc::clone(&edge)), 1);
        (Arc::clone(&edge), OpenEdge { from, keyed: false, edge })
    }

    /// Makes a node of the stream so far, with this many outputs.
    fn close<M: MakeRoute<P::Out>>(self, route: M, outputs: usize) -> usize {
        let Self { graph, pipe, name, named, role, parallelism, replayable, inputs } = self;
        let make = pipe.make(route);
        let name = if named { name } else { graph.borrow().unused_name(&name) };
        let node = OperatorNode {
            name,
            role,
            parallelism,
            make,
            outputs,
            replayable: replayable.map(|(replayable, source)| {
                graph.borrow_mut().sources[source].1 = true;
                replayable
            }),
            delivery: None,
            transaction_timeout: None,
        };
        add(&graph, node, inputs)
    }
}

/// One of the streams that continue from a node.
fn branch<T: Send + 'static>(
    graph: &Rc<RefCell<Graph>>,
    name: &str,
    which: &str,
    from: usize,
    edge: Arc<Edge<T>>,
) -> Stream<FromInputs<Identity<T>>> {
    let loose = OpenEdge { from, keyed: false, edge: Arc::clone(&edge) as _ };
    let name = format!("{name}-{which}");
    Stream::behind(Rc::clone(graph), name, vec![edge], vec![loose], Identity::new())
}

fn add(graph: &Rc<RefCell<Graph>>, node: OperatorNode, inputs: Vec<OpenEdge>) -> usize {
    let mut graph = graph.borrow_mut();
    let to = graph.nodes.len();
    graph.nodes.push(node);
    for OpenEdge { from, keyed, edge } in inputs {
        graph.edges.push(EdgeSpec { from, to, keyed, edge });
    }
    to
}

impl<L: OperatorChain> Stream<FromInputs<L>> {
    pub(super) fn behind(
        graph: Rc<RefCell<Graph>>,
        name: String,
        edges: Vec<Arc<Edge<L::In>>>,
        inputs: Vec<OpenEdge>,
        logic: L,
    ) -> Self {
        let pipe = FromInputs { inputs: edges, logic };
        let (role, parallelism) = (Role::Transform, None);
        Self { graph, pipe, name, named: false, role, parallelism, replayable: None, inputs }
    }
}

/// A stream whose records are grouped by key. Operators downstream of it see all records of one key
/// in one subtask, in the order in which each producer sent them.
#[must_use = "a keyed stream does nothing until an operator follows it"]
pub struct KeyedStream<P: Pipe, N> {
    stream: Stream<P>,
    keyer: N,
}

impl<P: Pipe, N> std::fmt::Debug for KeyedStream<P, N> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "KeyedStream({})", self.stream.name)
    }
}

/// A stream downstream of a keyed operator.
pub type KeyedOutput<T, N, R> = Stream<FromInputs<Keyed<T, N, R>>>;

impl<P: Pipe, N: Keyer<P::Out>> KeyedStream<P, N> {
    /// Counts the records of each key.
    pub fn count(self, emit: Emit) -> KeyedOutput<P::Out, N, Count> {
        self.operator("count", Count(emit))
    }

    /// Folds the records of each key into an accumulator, which begins as its default.
    pub fn aggregate<A, F>(
        self,
        emit: Emit,
        fold: F,
    ) -> KeyedOutput<P::Out, N, Aggregate<A, N::Value, F>>
    where
        A: StateValue + Default,
        N::Value: 'static,
        F: FnMut(&mut A, N::Value) + Clone + Send + 'static,
    {
        self.operator("aggregate", Aggregate::new(emit, fold))
    }

    /// Combines the values of each key, two at a time, in the order they come.
    pub fn reduce<F>(self, emit: Emit, join: F) -> KeyedOutput<P::Out, N, Reduce<F>>
    where
        N::Value: StateValue,
        F: FnMut(N::Value, N::Value) -> N::Value + Clone + Send + 'static,
    {
        self.operator("reduce", Reduce { emit, join })
    }

    /// Adds up the numbers that a rule returns for the records of each key. A sum beyond the type
    /// of the numbers fails the task with [`super::SumError`].
    ///
    /// ```
    /// # use snapline::connect::{MemorySink, MemorySource};
    /// # use snapline::{Dataflow, Emit, JobConfig};
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let (flow, sums) = (Dataflow::new("sums"), MemorySink::new());
    /// flow.source("paid", MemorySource::new(vec![("ann", 5_u64), ("ann", 7)]))
    ///     .key_by(|(who, _)| who.to_string())
    ///     .sum(Emit::AtEnd, |(_, amount)| *amount)
    ///     .sink("out", sums.clone());
    /// flow.build(JobConfig::new())?.run()?;
    /// assert_eq!(sums.committed(), [("ann".to_owned(), 12)]);
    /// # Ok(())
    /// # }
    /// ```
    pub fn sum<A, F>(self, emit: Emit, of: F) -> KeyedOutput<P::Out, N, Sum<F>>
    where
        A: Number,
        F: FnMut(&N::Value) -> A + Clone + Send + 'static,
    {
        self.operator("sum", Sum { emit, of })
    }

    /// Computes the average of the numbers that a rule returns for the records of each key. They
    /// are added up as in [`Self::sum`].
    ///
    /// ```
    /// # use snapline::connect::{MemorySink, MemorySource};
    /// # use snapline::{Dataflow, Emit, JobConfig};
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let (flow, averages) = (Dataflow::new("averages"), MemorySink::new());
    /// flow.source("degrees", MemorySource::new(vec![("hall", 20), ("hall", 23)]))
    ///     .key_by(|(room, _)| room.to_string())
    ///     .average(Emit::AtEnd, |(_, degrees)| *degrees)
    ///     .sink("out", averages.clone());
    /// flow.build(JobConfig::new())?.run()?;
    /// assert_eq!(averages.committed(), [("hall".to_owned(), 21.5)]);
    /// # Ok(())
    /// # }
    /// ```
    pub fn average<A, F>(self, emit: Emit, of: F) -> KeyedOutput<P::Out, N, Average<F>>
    where
        A: Number,
        F: FnMut(&N::Value) -> A + Clone + Send + 'static,
    {
        self.operator("average", Average { emit, of })
    }

    /// Keeps the least value that a rule returns for the records of each key.
    ///
    /// ```
    /// # use snapline::connect::{MemorySink, MemorySource};
    /// # use snapline::{Dataflow, Emit, JobConfig};
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let (flow, least) = (Dataflow::new("least"), MemorySink::new());
    /// flow.source("bids", MemorySource::new(vec![(1_u32, 30), (1, 5)]))
    ///     .keyed()
    ///     .min(Emit::AtEnd, |bid| *bid)
    ///     .sink("out", least.clone());
    /// flow.build(JobConfig::new())?.run()?;
    /// assert_eq!(least.committed(), [(1, 5)]);
    /// # Ok(())
    /// # }
    /// ```
    pub fn min<R, F>(self, emit: Emit, of: F) -> KeyedOutput<P::Out, N, Extreme<F>>
    where
        R: StateValue + Ord,
        F: FnMut(&N::Value) -> R + Clone + Send + 'static,
    {
        self.operator("min", Extreme { emit, of, greatest: false })
    }

    /// Keeps the greatest value that a rule returns for the records of each key.
    ///
    /// ```
    /// # use snapline::connect::{MemorySink, MemorySource};
    /// # use snapline::{Dataflow, Emit, JobConfig};
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let (flow, greatest) = (Dataflow::new("greatest"), MemorySink::new());
    /// flow.source("bids", MemorySource::new(vec![(1_u32, 30), (1, 5)]))
    ///     .keyed()
    ///     .max(Emit::AtEnd, |bid| *bid)
    ///     .sink("out", greatest.clone());
    /// flow.build(JobConfig::new())?.run()?;
    /// assert_eq!(greatest.committed(), [(1, 30)]);
    /// # Ok(())
    /// # }
    /// ```
    pub fn max<R, F>(self, emit: Emit, of: F) -> KeyedOutput<P::Out, N, Extreme<F>>
    where
        R: StateValue + Ord,
        F: FnMut(&N::Value) -> R + Clone + Send + 'static,
    {
        self.operator("max", Extreme { emit, of, greatest: true })
    }

    /// Gives each record, and each processing-time timer, to a function, without timestamps. The
    /// time of every record is [`Timestamp::MIN`], and there is no watermark before the end of the
    /// input. [`super::TimedClosure`] makes such a function of a closure, and [`super::Expiring`]
    /// lets its state expire.
    ///
    /// ```
    /// use std::time::Duration;
    /// use snapline::connect::{Collect, MemorySink, MemorySource};
    /// use snapline::{Dataflow, Emitter, Input, JobConfig, TimeContext, TimedClosure};
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let (flow, counts) = (Dataflow::new("later"), MemorySink::new());
    /// let count = |input: Input<u32>, seen: &mut TimeContext<'_, u32, u64>, out: &mut Emitter<u64>| {
    ///     match input {
    ///         Input::Record(_) => {
    ///             **seen += 1;
    ///             let soon = seen.processing_time() + Duration::from_secs(3_600);
    ///             seen.set_processing_timer(soon);
    ///         }
    ///         // An hour has passed, or the input has ended.
    ///         _ => out.push(**seen),
    ///     }
    /// };
    /// flow.source("visitors", MemorySource::new(vec![7]))
    ///     .key_by(|visitor| *visitor)
    ///     .process_with_timers(TimedClosure::new(count))
    ///     .sink("counts", counts.clone());
    /// flow.build(JobConfig::new())?.run()?;
    /// assert_eq!(counts.committed(), [1]);
    /// # Ok(())
    /// # }
    /// ```
    pub fn process_with_timers<R>(self, process: R) -> Stream<impl Pipe<Out = R::Out>>
    where
        R: TimedProcess<N::Key, N::Value>,
    {
        let Self { stream, keyer } = self;
        let graph = Rc::clone(&stream.graph);
        let timeless = |value| Timed { at: Timestamp::MIN, value };
        let (edge, loose) = stream.map(timeless).close_keyed(OnValue(keyer.clone()));
        let timers = KeyedTimers::new(keyer, process);
        Stream::behind(graph, "process".to_owned(), vec![edge], vec![loose], timers)
            .map(|record| record.value)
    }

    /// Gives each record to a closure, with its key's state and the output to emit into.
    pub fn process<S, O, F>(self, closure: F) -> KeyedOutput<P::Out, N, Closure<S, O, F>>
    where
        S: StateValue + Default,
        O: Send + 'static,
        F: FnMut(N::Value, &mut KeyState<'_, N::Key, S>, &mut Emitter<O>) + Clone + Send + 'static,
    {
        self.operator("process", Closure::new(closure))
    }

    /// Gives each record to a keyed process function.
    pub fn process_with<R>(self, process: R) -> KeyedOutput<P::Out, N, R>
    where
        R: KeyedProcess<N::Key, N::Value>,
    {
        self.operator("process", process)
    }

    /// Gives each record to a function that knows what another stream broadcasts to all subtasks.
    pub fn with_broadcast<Q, R>(
        self,
        told: Stream<Q>,
        process: R,
    ) -> Stream<FromInputs<Broadcasting<P::Out, Q::Out, N, R>>>
    where
        P::Out: Clone,
        Q: Pipe<Out: Clone>,
        R: BroadcastProcess<N::Key, N::Value, Q::Out>,
    {
        let graph = Rc::clone(&self.stream.graph);
        let records = self.stream.then(Map::new(Either::<P::Out, Q::Out>::Left));
        let (records, from_records) = records.close_keyed(OrAll(self.keyer.clone()));
        let edge = Edge::new();
        let told = told.then(Map::new(Either::<P::Out, Q::Out>::Right));
        let from = told.close(MakeBroadcast(Arc::clone(&edge)), 1);
        let from_told = OpenEdge { from, keyed: true, edge: Arc::clone(&edge) as _ };
        let (edges, inputs) = (vec![records, edge], vec![from_records, from_told]);
        let logic = Broadcasting::new(self.keyer, process);
        Stream::behind(graph, "broadcast".to_owned(), edges, inputs, logic)
    }

    fn operator<R: KeyedProcess<N::Key, N::Value>>(
        self,
        name: &str,
        process: R,
    ) -> KeyedOutput<P::Out, N, R> {
        let graph = Rc::clone(&self.stream.graph);
        let (edge, loose) = self.stream.close_keyed(self.keyer.clone());
        Stream::behind(
            graph,
            name.to_owned(),
            vec![edge],
            vec![loose],
            Keyed::new(self.keyer, process),
        )
    }
}
