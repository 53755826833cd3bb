//! Random pipelines: drawn, built through the public interface, and computed by a sequential
//! reference.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use proptest::prelude::*;
use serde::{Deserialize, Serialize};
use snapline::connect::{Collect, MemorySink, MemorySource, OpenContext};
use snapline::state::{List, Map};
use snapline::{
    BoxError, Dataflow, Emit, Emitter, KeyState, KeyedProcess, Lookup, LookupClient, LookupSource,
    Pipe, Stream,
};

use crate::planned_failures::{Faults, Place, WildSink, WildSource};

/// A record: a key and a value.
pub(crate) type Record = (u64, i64);

/// A chain of stateless operators, each of which is optional.
#[derive(Clone, Debug)]
pub(crate) struct Segment {
    pub(crate) add: i64,
    /// Keys become their remainder by this.
    pub(crate) keys: Option<u64>,
    /// Values divisible by this are dropped.
    pub(crate) without: Option<i64>,
    /// The number of records that one becomes.
    pub(crate) copies: u8,
    pub(crate) parallelism: Option<usize>,
}

impl Segment {
    fn map(&self, (key, value): Record) -> Record {
        (self.keys.map_or(key, |keys| key % keys), value + self.add)
    }

    fn keeps(&self, (_, value): &Record) -> bool {
        self.without.is_none_or(|without| value % without != 0)
    }

    fn copy(&self, (key, value): Record) -> Vec<Record> {
        (0..i64::from(self.copies)).map(|copy| (key, value + 1000 * copy)).collect()
    }

    fn compute(&self, records: &[Record]) -> Vec<Record> {
        let mapped = records.iter().map(|&record| self.map(record));
        mapped.filter(|record| self.keeps(record)).flat_map(|record| self.copy(record)).collect()
    }
}

/// A keyed operator. Its results do not depend on the order in which a key's records come.
#[derive(Clone, Debug)]
pub(crate) enum Kind {
    Count(Emit),
    Sum,
    Max,
    /// Emits at this many records of a key, and then forgets the key.
    Batches(u32),
    /// Keeps all values in a list, to the end.
    Collect,
    /// Lets a value through once, by a map of the values seen.
    Distinct,
}

/// One step of a pipeline.
#[derive(Clone, Debug)]
pub(crate) enum Tree {
    Sink,
    Keyed(Kind, Leg),
    Fork(Leg, Leg),
    /// Forks, counts on one side, and joins again.
    Diamond(Emit, Leg),
    /// Looks each record up, this many at a time, in order or not.
    LookUp(usize, bool, Leg),
}

/// A segment, and its downstream part.
#[derive(Clone, Debug)]
pub(crate) struct Leg {
    pub(crate) segment: Segment,
    pub(crate) then: Box<Tree>,
}

fn parallelism() -> impl Strategy<Value = Option<usize>> {
    proptest::option::weighted(0.4, 1usize..5)
}

pub(crate) fn segment(most: u8) -> impl Strategy<Value = Segment> {
    let keys = proptest::option::weighted(0.4, 1u64..40);
    let without = proptest::option::weighted(0.4, 2i64..7);
    (-5i64..5, keys, without, 1..=most, parallelism()).prop_map(
        |(add, keys, without, copies, parallelism)| Segment {
            add,
            keys,
            without,
            copies,
            parallelism,
        },
    )
}

fn emit() -> impl Strategy<Value = Emit> {
    prop_oneof![Just(Emit::AtEnd), Just(Emit::EachChange)]
}

fn kind() -> impl Strategy<Value = Kind> {
    prop_oneof![
        emit().prop_map(Kind::Count),
        Just(Kind::Sum),
        Just(Kind::Max),
        (1u32..9).prop_map(Kind::Batches),
        Just(Kind::Collect),
        Just(Kind::Distinct),
    ]
}

/// Any pipeline.
pub(crate) fn leg() -> impl Strategy<Value = Leg> {
    grown(|leg| {
        prop_oneof![
            4 => (kind(), leg.clone()).prop_map(|(kind, leg)| Tree::Keyed(kind, leg)),
            1 => (leg.clone(), leg.clone()).prop_map(|(left, right)| Tree::Fork(left, right)),
            1 => (1usize..9, any::<bool>(), leg.clone())
                .prop_map(|(most, ordered, leg)| Tree::LookUp(most, ordered, leg)),
            1 => (emit(), leg).prop_map(|(emit, leg)| Tree::Diamond(emit, leg)),
        ]
        .boxed()
    })
}

/// Only pipelines in which a record processed twice would add its own copies and change nothing
/// else.
pub(crate) fn stateless_leg() -> impl Strategy<Value = Leg> {
    grown(|leg| (leg.clone(), leg).prop_map(|(left, right)| Tree::Fork(left, right)).boxed())
}

fn grown(more: impl Fn(BoxedStrategy<Leg>) -> BoxedStrategy<Tree>) -> impl Strategy<Value = Leg> {
    let legs = |tree: BoxedStrategy<Tree>| {
        let leg = (segment(2), tree);
        leg.prop_map(|(segment, then)| Leg { segment, then: Box::new(then) }).boxed()
    };
    let mut leg = legs(Just(Tree::Sink).boxed());
    for _ in 0..3 {
        let sink = Just(Tree::Sink);
        leg = legs(prop_oneof![1 => sink, 3 => more(leg)].boxed());
    }
    leg
}

/// The sequential reference: the expected content of each sink, in the order in which the sinks are
/// met.
pub(crate) fn compute(records: &[Record], leg: &Leg, sinks: &mut Vec<Vec<Record>>) {
    let records = leg.segment.compute(records);
    match &*leg.then {
        Tree::Sink => sinks.push(records),
        Tree::Keyed(kind, leg) => compute(&grouped(kind, &records), leg, sinks),
        Tree::Fork(left, right) => {
            compute(&records, left, sinks);
            compute(&records, right, sinks);
        }
        Tree::LookUp(_, _, leg) => {
            let found: Vec<Record> = records.iter().map(|it| with(&(*it, entry(it)))).collect();
            compute(&found, leg, sinks);
        }
        Tree::Diamond(emit, leg) => {
            let mut joined = grouped(&Kind::Count(*emit), &records);
            joined.extend(records);
            compute(&joined, leg, sinks);
        }
    }
}

fn grouped(kind: &Kind, records: &[Record]) -> Vec<Record> {
    let mut groups: BTreeMap<u64, Vec<i64>> = BTreeMap::new();
    for &(key, value) in records {
        groups.entry(key).or_default().push(value);
    }
    let mut out = Vec::new();
    for (key, values) in groups {
        let count = values.len() as i64;
        match kind {
            Kind::Count(Emit::AtEnd) => out.push((key, count)),
            Kind::Count(Emit::EachChange) => out.extend((1..=count).map(|count| (key, count))),
            Kind::Sum => out.push((key, values.iter().sum())),
            Kind::Max => out.extend(values.iter().max().map(|&max| (key, max))),
            Kind::Batches(size) => {
                out.extend((0..count / i64::from(*size)).map(|_| (key, i64::from(*size))));
                let rest = count % i64::from(*size);
                out.extend((rest > 0).then_some((key, rest)));
            }
            Kind::Collect => out.extend(values.iter().map(|&value| (key, value))),
            Kind::Distinct => {
                let distinct: BTreeSet<i64> = values.into_iter().collect();
                out.extend(distinct.iter().map(|&value| (key, value)));
                out.push((key, distinct.len() as i64));
            }
        }
    }
    out
}

/// The target that a pipeline is built into.
pub(crate) struct Build<'a> {
    pub(crate) faults: &'a Faults,
    pub(crate) sinks: &'a [MemorySink<Record>],
    next: usize,
}

/// The sources of a pipeline's records.
#[derive(Clone, Debug)]
pub(crate) struct Input {
    pub(crate) records: Vec<Record>,
    pub(crate) parallelism: Option<usize>,
    pub(crate) chunk: usize,
    pub(crate) pause: Duration,
}

impl Input {
    fn source(&self, faults: &Faults) -> WildSource<Record> {
        let records = MemorySource::new(self.records.clone());
        WildSource { records, chunk: self.chunk, pause: self.pause, faults: faults.clone() }
    }
}

/// Builds the whole pipeline: several inputs are joined first.
pub(crate) fn build(
    flow: &Dataflow,
    inputs: &[Input],
    leg: &Leg,
    faults: &Faults,
    sinks: &[MemorySink<Record>],
) {
    let mut build = Build { faults, sinks, next: 0 };
    let mut streams = inputs.iter().enumerate().map(|(number, input)| {
        let stream = flow.source(&format!("in-{number}"), input.source(faults));
        match input.parallelism {
            Some(subtasks) => stream.parallelism(subtasks),
            None => stream,
        }
    });
    let first = streams.next().expect("a pipeline has an input");
    match streams.next() {
        None => grow(first, leg, &mut build),
        Some(second) => {
            let joined = streams.fold(first.union(second), |joined, more| joined.union(more));
            grow(joined, leg, &mut build);
        }
    }
}

fn through<P: Pipe<Out = Record>>(
    stream: Stream<P>,
    segment: &Segment,
    faults: &Faults,
) -> Stream<impl Pipe<Out = Record>> {
    let [mapping, keeping, copying] = [(); 3].map(|()| segment.clone());
    let keys = segment.keys;
    let [to_map, to_try] = [(); 2].map(|()| faults.clone());
    let stream = stream
        .map(move |record| {
            // A rule cannot return an error: every planned failure in it is a panic.
            to_map.strike(Place::Rule).unwrap_or_else(|error| panic!("{error}"));
            mapping.map(record)
        })
        .filter(move |record| keeping.keeps(record))
        .flat_map(move |record| copying.copy(record))
        .try_map(move |record| {
            to_try.strike(Place::Rule)?;
            Ok::<_, BoxError>(record)
        })
        .inspect(move |(key, _)| assert!(keys.is_none_or(|keys| *key < keys)));
    match segment.parallelism {
        Some(subtasks) => stream.parallelism(subtasks),
        None => stream,
    }
}

fn grow<P: Pipe<Out = Record>>(stream: Stream<P>, leg: &Leg, build: &mut Build<'_>) {
    let stream = through(stream, &leg.segment, build.faults);
    match &*leg.then {
        Tree::Sink => {
            let (sink, faults) = (build.sinks[build.next].clone(), build.faults.clone());
            build.next += 1;
            stream.sink(&format!("out-{}", build.next), WildSink { sink, faults });
        }
        Tree::Keyed(kind, leg) => behind_key(stream, kind, leg, build),
        Tree::Fork(left, right) => {
            let (to_left, to_right) = stream.fork();
            grow(to_left, left, build);
            grow(to_right, right, build);
        }
        Tree::LookUp(most, ordered, leg) => {
            let asking = Asking { faults: build.faults.clone() };
            let lookup = if *ordered { Lookup::ordered(asking) } else { Lookup::unordered(asking) };
            let pair: fn((Record, i64)) -> Record = |pair| with(&pair);
            grow(stream.lookup(lookup.in_flight(*most)).map(pair), leg, build);
        }
        Tree::Diamond(emit, leg) => {
            let (counted, plain) = stream.fork();
            let counted = counted.keyed().count(*emit).map(signed as fn(_) -> _);
            grow(counted.union(plain), leg, build);
        }
    }
}

fn signed((key, count): (u64, u64)) -> Record {
    (key, count as i64)
}

// Named functions: a closure here would have another type for each pipeline, without end.
fn behind_key<P: Pipe<Out = Record>>(
    stream: Stream<P>,
    kind: &Kind,
    leg: &Leg,
    build: &mut Build<'_>,
) {
    let add: fn(&mut i64, i64) = |sum, value| *sum += value;
    match kind {
        Kind::Count(emit) => {
            let key: fn(&Record) -> u64 = |record| record.0;
            grow(stream.key_by(key).count(*emit).map(signed as fn(_) -> _), leg, build);
        }
        Kind::Sum => grow(stream.keyed().aggregate(Emit::AtEnd, add), leg, build),
        Kind::Max => {
            grow(stream.keyed().reduce(Emit::AtEnd, i64::max as fn(_, _) -> _), leg, build);
        }
        Kind::Batches(size) => {
            let remember = Remember { batches: Some(*size), faults: build.faults.clone() };
            grow(stream.keyed().process_with(remember), leg, build);
        }
        Kind::Collect => {
            let remember = Remember { batches: None, faults: build.faults.clone() };
            grow(stream.keyed().process_with(remember), leg, build);
        }
        Kind::Distinct => {
            let distinct = distinct(build.faults.clone());
            // The number of distinct values is known at the end only, which closures do not see: it
            // is counted downstream.
            let (through, counted) = stream.keyed().process(distinct).fork();
            let counted = counted.keyed().count(Emit::AtEnd).map(signed as fn(_) -> _);
            grow(through.union(counted), leg, build);
        }
    }
}

/// The external result for a record.
pub(crate) fn entry((key, value): &Record) -> i64 {
    (*key as i64 * 31 + value).rem_euclid(7)
}

fn with(((key, value), found): &(Record, i64)) -> Record {
    (*key, value + found)
}

/// Answers some records late, and fails as planned.
#[derive(Clone, Debug)]
pub(crate) struct Asking {
    pub(crate) faults: Faults,
}

impl LookupSource<Record> for Asking {
    type Found = i64;
    type Client = Self;

    fn open(&self, _: &OpenContext) -> Result<Self, BoxError> {
        Ok(self.clone())
    }
}

impl LookupClient<Record> for Asking {
    type Found = i64;

    fn look_up(&mut self, record: &Record) -> Result<i64, BoxError> {
        self.faults.strike(Place::Process)?;
        let late = entry(record);
        if late > 4 {
            std::thread::sleep(Duration::from_micros(20 * late as u64));
        }
        Ok(late)
    }
}

/// Keeps a key's values in a list.
#[derive(Clone, Debug)]
struct Remember {
    batches: Option<u32>,
    faults: Faults,
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
struct Memory {
    values: List<i64>,
    count: u32,
}

impl KeyedProcess<u64, i64> for Remember {
    type State = Memory;
    type Out = Record;

    fn process<C: Collect<Record>>(
        &mut self,
        value: i64,
        state: &mut KeyState<'_, u64, Memory>,
        out: &mut C,
    ) {
        state.values.push(value);
        state.count += 1;
        if let Err(error) = self.faults.strike(Place::Process) {
            out.fail(error);
        }
        assert_eq!(state.values.len(), state.count as usize, "the list and its length");
        if self.batches == Some(state.count) {
            out.push((*state.key(), state.values.len() as i64));
            state.clear();
        }
    }

    fn end<C: Collect<Record>>(&mut self, key: &u64, state: &Memory, out: &mut C) {
        match self.batches {
            Some(_) => out.push((*key, state.values.len() as i64)),
            None => state.values.iter().for_each(|&value| out.push((*key, value))),
        }
    }
}

#[allow(clippy::type_complexity, reason = "what a keyed process function is")]
fn distinct(
    faults: Faults,
) -> impl FnMut(i64, &mut KeyState<'_, u64, Map<i64, u32>>, &mut Emitter<Record>) + Clone + Send + 'static
{
    move |value, seen, out| {
        let key = *seen.key();
        let times = seen.entry(value).or_default();
        *times += 1;
        if *times == 1 {
            out.push((key, value));
        }
        if let Err(error) = faults.strike(Place::Process) {
            out.fail(error);
        }
    }
}
