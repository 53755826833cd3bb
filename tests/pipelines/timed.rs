//! Random pipelines with event time, checked against a sequential reference.
//!
//! Two conditions make results exact although threads race. Where no record is late, the results of
//! a window or a timer do not depend on the order in which producers' records meet. Where records
//! are late, watermarks are punctuated and there is one producer. Then each consumer's input, and
//! which records are late, follow from the input alone.
//!
//! Longer than 500 lines: each pipeline stands beside its reference.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use proptest::prelude::*;
use snapline::connect::{Collect, MemorySource};
use snapline::state::Map;
use snapline::{
    Between, BroadcastProcess, Dataflow, Emitter, EveryRecords, FromInputs, Identity, KeyState,
    Purging, Session, Sliding, TimeContext, Timed, TimedProcess, TimedStream, Timestamp, Tumbling,
    Watermarks, Window,
};

use crate::planned_failures::{Faults, How, Place, Planned, WildSink, WildSource};
use crate::shape::{Input, Leg, Record, Tree};
use crate::{Case, Mode, World, case, config, counted, plain};

/// A key, a time and a value.
pub(crate) type Reading = (u64, i64, i64);

/// How late a reading may be relative to those before it.
pub(crate) const SLACK: i64 = 40;

pub(crate) fn ms(millis: i64) -> Duration {
    Duration::from_millis(u64::try_from(millis).expect("a length is positive"))
}

/// Readings whose times advance, each at most the slack earlier than any one before it.
pub(crate) fn readings() -> impl Strategy<Value = Vec<Reading>> {
    let reading = (0u64..12, 0i64..8, 0..=SLACK, -50i64..50);
    proptest::collection::vec(reading, 0..600).prop_map(|all| {
        let mut now = -200;
        let place = |(key, step, jitter, value)| {
            now += step;
            (key, now + jitter, value)
        };
        all.into_iter().map(place).collect()
    })
}

/// Computations of readings that are never late.
#[derive(Clone, Debug)]
enum Work {
    Tumbling(i64, i64),
    Sliding(i64, i64),
    Session(i64),
    /// Fires at every n readings of a window, which are then forgotten; the rest never fires.
    Batches(u64, i64),
    /// Readings in the order of their times, numbered.
    Sorted,
    Join(i64, i64),
    WindowJoin(i64),
    /// Each key once.
    Distinct,
    Highest(usize, i64),
}

fn work() -> impl Strategy<Value = Work> {
    prop_oneof![
        (1i64..60, 0i64..20).prop_map(|(length, lateness)| Work::Tumbling(length, lateness)),
        (1i64..60, 5i64..40).prop_map(|(length, every)| Work::Sliding(length, every)),
        (1i64..30).prop_map(Work::Session),
        (1u64..5, 5i64..60).prop_map(|(count, length)| Work::Batches(count, length)),
        Just(Work::Sorted),
        (-20i64..20, 0i64..20).prop_map(|(lower, width)| Work::Join(lower, lower + width)),
        (1i64..40).prop_map(Work::WindowJoin),
        Just(Work::Distinct),
        (1usize..4, 5i64..60).prop_map(|(most, length)| Work::Highest(most, length)),
    ]
}

fn summed(key: u64, window: Window, sum: i64) -> Record {
    (key, window.start.millis() * 1_000_003 + window.end.millis() * 1_009 + sum)
}

fn tumbling(at: i64, length: i64) -> Window {
    let start = at - at.rem_euclid(length);
    window(start, start + length)
}

fn window(start: i64, end: i64) -> Window {
    Window { start: Timestamp::from_millis(start), end: Timestamp::from_millis(end) }
}

/// The sequential reference, for readings in any order.
fn computed(work: &Work, readings: &[Reading]) -> Vec<Record> {
    let mut sums: BTreeMap<(u64, Window), i64> = BTreeMap::new();
    match *work {
        Work::Tumbling(length, _) => {
            for &(key, at, value) in readings {
                *sums.entry((key, tumbling(at, length))).or_default() += value;
            }
        }
        Work::Sliding(length, every) => {
            for &(key, at, value) in readings {
                for start in (at - length + 1..=at).filter(|start| start.rem_euclid(every) == 0) {
                    *sums.entry((key, window(start, start + length))).or_default() += value;
                }
            }
        }
        Work::Session(gap) => {
            let mut sorted = readings.to_vec();
            sorted.sort_unstable();
            let mut open: Option<(u64, Window, i64)> = None;
            for (key, at, value) in sorted {
                match &mut open {
                    Some((of, window, sum)) if *of == key && at <= window.end.millis() => {
                        window.end = Timestamp::from_millis(at + gap);
                        *sum += value;
                    }
                    _ => {
                        sums.extend(open.map(|(key, window, sum)| ((key, window), sum)));
                        open = Some((key, window(at, at + gap), value));
                    }
                }
            }
            sums.extend(open.map(|(key, window, sum)| ((key, window), sum)));
        }
        Work::Batches(count, length) => {
            let mut counts: BTreeMap<(u64, Window), u64> = BTreeMap::new();
            for &(key, at, _) in readings {
                *counts.entry((key, tumbling(at, length))).or_default() += 1;
            }
            let full = |((key, window), all): ((u64, Window), u64)| {
                let result = summed(key, window, count as i64);
                (0..all / count).map(move |_| result)
            };
            return counts.into_iter().flat_map(full).collect();
        }
        Work::Sorted => {
            let mut sorted = readings.to_vec();
            sorted.sort_unstable();
            let mut numbers: BTreeMap<u64, i64> = BTreeMap::new();
            let numbered = sorted.into_iter().map(|(key, at, value)| {
                let number = numbers.entry(key).or_default();
                *number += 1;
                (key, *number * 1_000_000_007 + at * 1_009 + value)
            });
            return numbered.collect();
        }
        Work::Join(lower, upper) => {
            let (left, right) = halves(readings);
            return joined(&left, &right, |left, right| (lower..=upper).contains(&(right - left)));
        }
        Work::Distinct => {
            let keys: BTreeSet<u64> = readings.iter().map(|reading| reading.0).collect();
            return keys.into_iter().map(|key| (key, 0)).collect();
        }
        Work::Highest(most, length) => {
            let mut windows: BTreeMap<(u64, Window), Vec<(i64, i64)>> = BTreeMap::new();
            for &(key, at, value) in readings {
                windows.entry((key, tumbling(at, length))).or_default().push((value, at));
            }
            for (place, mut values) in windows {
                values.sort_unstable();
                let highest = values.iter().rev().take(most);
                sums.insert(place, highest.map(|(value, at)| value * 31 + at).sum());
            }
        }
        Work::WindowJoin(length) => {
            let (left, right) = halves(readings);
            return joined(&left, &right, |left, right| {
                tumbling(left, length) == tumbling(right, length)
            });
        }
    }
    sums.into_iter().map(|((key, window), sum)| summed(key, window, sum)).collect()
}

pub(crate) fn halves(readings: &[Reading]) -> (Vec<Reading>, Vec<Reading>) {
    readings.iter().partition(|(_, _, value)| value % 2 == 0)
}

fn joined(left: &[Reading], right: &[Reading], fits: impl Fn(i64, i64) -> bool) -> Vec<Record> {
    let pairs = left.iter().flat_map(|left| right.iter().map(move |right| (left, right)));
    let pairs = pairs.filter(|(left, right)| left.0 == right.0 && fits(left.1, right.1));
    pairs.map(|(left, right)| pair(&left.0, left, right)).collect()
}

fn pair(key: &u64, left: &Reading, right: &Reading) -> Record {
    (*key, (left.1 * 1_009 + left.2) * 1_000_003 + right.1 * 1_009 + right.2)
}

/// Emits readings when the watermark has reached them.
#[derive(Clone)]
struct Sort(Faults);

impl TimedProcess<u64, Reading> for Sort {
    type State = (i64, Map<Timestamp, Vec<Reading>>);
    type Out = Record;

    fn process<C: Collect<Record>>(
        &mut self,
        reading: Reading,
        context: &mut TimeContext<'_, u64, Self::State>,
        out: &mut C,
    ) {
        if let Err(error) = self.0.strike(Place::Process) {
            out.fail(error);
        }
        let at = context.timestamp();
        assert!(context.watermark() < at, "it is not late");
        context.1.entry(at).or_default().push(reading);
        context.set_timer(at);
        // A deleted timer does nothing.
        context.set_timer(at + ms(1));
        if !context.1.contains_key(&(at + ms(1))) {
            context.delete_timer(at + ms(1));
        }
    }

    fn event_time<C: Collect<Record>>(
        &mut self,
        context: &mut TimeContext<'_, u64, Self::State>,
        out: &mut C,
    ) {
        let at = context.timestamp();
        assert_eq!(context.1.first_key_value().map(|(first, _)| *first), Some(at), "in order");
        let mut readings = context.1.remove(&at).expect("a timer is for readings");
        readings.sort_unstable();
        for (key, at, value) in readings {
            context.0 += 1;
            out.push((key, context.0 * 1_000_000_007 + at * 1_009 + value));
        }
    }
}

pub(crate) type Source = TimedStream<FromInputs<Identity<Timed<Reading>>>>;

/// All inputs, each with watermarks of its own, as one stream.
pub(crate) fn sources(flow: &Dataflow, world: &World, inputs: &[Vec<Reading>]) -> Source {
    let mut all: Option<Source> = None;
    for (number, readings) in inputs.iter().enumerate() {
        let input = &world.case.inputs[number % world.case.inputs.len()];
        let source = WildSource {
            records: MemorySource::new(readings.clone()),
            chunk: input.chunk,
            pause: input.pause,
            faults: world.faults.clone(),
        };
        let stream = flow.source(&format!("in-{number}"), source);
        let stream = stream.parallelism(input.parallelism.unwrap_or(world.case.parallelism));
        let watermarks = Watermarks::bounded(ms(SLACK));
        let stream =
            stream.assign_timestamps(watermarks, |reading| Timestamp::from_millis(reading.1));
        all = Some(match all {
            Some(all) => all.union(stream),
            None => {
                let none = flow.source("none", MemorySource::new(Vec::new()));
                stream.union(none.assign_timestamps(Watermarks::at_end(), |_| Timestamp::MIN))
            }
        });
    }
    all.expect("there is an input")
}

pub(crate) fn wild(world: &World, number: usize) -> WildSink<Record> {
    WildSink { sink: world.sinks[number].clone(), faults: world.faults.clone() }
}

fn on_time(flow: &Dataflow, world: &World, work: &Work, inputs: &[Vec<Reading>]) {
    let stream = sources(flow, world, inputs);
    let keyed = |reading: &Reading| reading.0;
    let sum = |sum: &mut i64, (_, _, value): Reading| *sum += value;
    let faults = world.faults.clone();
    let strike = move |record: Record| faults.strike(Place::Rule).map(|()| record);
    match *work {
        Work::Tumbling(length, lateness) => stream
            .key_by(keyed)
            .window(Tumbling::of(ms(length)))
            .allowed_lateness(ms(lateness))
            .aggregate(sum)
            .map(|it| summed(it.key, it.window, it.result))
            .try_map(strike)
            .sink("out", wild(world, 0)),
        Work::Sliding(length, every) => stream
            .key_by(keyed)
            .window(Sliding::of(ms(length), ms(every)))
            .process(|key, window, values: &[Reading], out: &mut Emitter<Record>| {
                out.push(summed(*key, window, values.iter().map(|reading| reading.2).sum()));
            })
            .try_map(strike)
            .sink("out", wild(world, 0)),
        Work::Session(gap) => stream
            .key_by(keyed)
            .window(Session::gap(ms(gap)))
            .aggregate_merging(sum, |sum: &mut i64, later| *sum += later)
            .map(|it| summed(it.key, it.window, it.result))
            .try_map(strike)
            .sink("out", wild(world, 0)),
        Work::Batches(count, length) => stream
            .key_by(keyed)
            .window(Tumbling::of(ms(length)))
            .trigger(Purging(EveryRecords::new(count)))
            .count()
            .map(|it| summed(it.key, it.window, it.result as i64))
            .try_map(strike)
            .sink("out", wild(world, 0)),
        Work::Sorted => stream
            .key_by(keyed)
            .process_with(Sort(world.faults.clone()))
            .try_map(strike)
            .sink("out", wild(world, 0)),
        Work::Distinct => stream
            .key_by(keyed)
            .distinct(Duration::MAX)
            .map(|(key, _, _)| (key, 0))
            .try_map(strike)
            .sink("out", wild(world, 0)),
        Work::Highest(most, length) => stream
            .key_by(keyed)
            .window(Tumbling::of(ms(length)))
            .highest(most, |(_, at, value)| (*value, *at))
            .map(|it| {
                let sum = it.result.iter().map(|(_, at, value)| value * 31 + at).sum();
                summed(it.key, it.window, sum)
            })
            .try_map(strike)
            .sink("out", wild(world, 0)),
        Work::Join(..) | Work::WindowJoin(_) => {
            let (left, right) = stream.fork();
            let left = left.filter(|(_, _, value)| value % 2 == 0).key_by(keyed);
            let right = right.filter(|(_, _, value)| value % 2 != 0).key_by(keyed);
            match *work {
                Work::Join(lower, upper) => left
                    .interval_join(right, between(lower, upper), pair)
                    .try_map(strike)
                    .sink("out", wild(world, 0)),
                Work::WindowJoin(length) => left
                    .connect(right)
                    .window_join(Tumbling::of(ms(length)), |key, _, left, right| {
                        pair(key, left, right)
                    })
                    .try_map(strike)
                    .sink("out", wild(world, 0)),
                _ => unreachable!("one of the two joins"),
            }
        }
    }
}

fn between(lower: i64, upper: i64) -> Between {
    match (lower < 0, upper < 0) {
        (true, false) => Between::around(ms(-lower), ms(upper)),
        (false, _) => Between::after(ms(lower), ms(upper)),
        (true, true) => Between::before(ms(-upper), ms(-lower)),
    }
}

/// A reading, or a watermark among them.
type Punctuated = (Reading, bool);

/// Readings in any order, with watermarks anywhere.
fn punctuated() -> impl Strategy<Value = Vec<Punctuated>> {
    let reading = (0u64..6, 0i64..6, -60..=60i64, -50i64..50, prop::bool::weighted(0.1));
    proptest::collection::vec(reading, 0..500).prop_map(|all| {
        let mut now = 0;
        let place = |(key, step, jitter, value, mark)| {
            now += step;
            ((key, now + jitter, value), mark)
        };
        all.into_iter().map(place).collect()
    })
}

/// Computations of readings some of which are late.
#[derive(Clone, Debug)]
enum LateWork {
    Tumbling {
        length: i64,
        lateness: i64,
    },
    Sliding {
        length: i64,
        every: i64,
        lateness: i64,
    },
    Session {
        gap: i64,
        lateness: i64,
    },
    /// The first reading of a key, and the next after this much time.
    Distinct {
        memory: i64,
    },
}

fn late_work() -> impl Strategy<Value = LateWork> {
    prop_oneof![
        (1i64..40, 0i64..30).prop_map(|(length, lateness)| LateWork::Tumbling { length, lateness }),
        (5i64..40, 5i64..20, 0i64..30).prop_map(|(length, every, lateness)| LateWork::Sliding {
            length,
            every,
            lateness
        }),
        (1i64..20, 0i64..30).prop_map(|(gap, lateness)| LateWork::Session { gap, lateness }),
        (1i64..60).prop_map(|memory| LateWork::Distinct { memory }),
    ]
}

/// A window of the reference: its content, and whether it has fired at its end.
#[derive(Clone, Debug)]
struct Held {
    window: Window,
    sum: i64,
    fired: bool,
}

/// The readings of one key that pass: a reading is remembered until the watermark reaches the end
/// of its retention.
fn distinct_of_key(work: &LateWork, key: u64, all: &[Punctuated]) -> Vec<Record> {
    let LateWork::Distinct { memory } = *work else { unreachable!("asked for that only") };
    let (mut through, mut until, mut watermark) = (Vec::new(), None, i64::MIN);
    for &((of, at, value), mark) in all {
        if mark && at > watermark {
            watermark = at;
            until = until.filter(|&until| until > watermark);
        } else if !mark && of == key && until.is_none() {
            until = Some(at + memory);
            through.push((key, at * 1_009 + value));
        }
    }
    through
}

/// Results and late readings of one key as SPEC section 16 defines them, with no regard to speed:
/// windows as a list, scanned in full.
fn late_of_key(work: &LateWork, key: u64, all: &[Punctuated]) -> (Vec<Record>, Vec<Record>) {
    let (mut results, mut late) = (Vec::new(), Vec::new());
    let (mut held, mut watermark) = (Vec::<Held>::new(), i64::MIN);
    let (LateWork::Tumbling { lateness, .. }
    | LateWork::Sliding { lateness, .. }
    | LateWork::Session { lateness, .. }) = *work
    else {
        return (distinct_of_key(work, key, all), late);
    };
    let last = |window: Window| window.end.millis() - 1;
    let pass = |watermark: i64, held: &mut Vec<Held>, results: &mut Vec<Record>| {
        for it in held.iter_mut() {
            if last(it.window) <= watermark && !it.fired {
                it.fired = true;
                results.push(summed(key, it.window, it.sum));
            }
        }
        held.retain(|it| last(it.window) + lateness > watermark);
    };
    for &((of, at, value), mark) in all {
        if mark {
            if at > watermark {
                watermark = at;
                pass(watermark, &mut held, &mut results);
            }
            continue;
        }
        if of != key {
            continue;
        }
        let windows: Vec<Window> = match *work {
            LateWork::Tumbling { length, .. } => vec![tumbling(at, length)],
            LateWork::Sliding { length, every, .. } => (at - length + 1..=at)
                .filter(|start| start.rem_euclid(every) == 0)
                .map(|start| window(start, start + length))
                .collect(),
            LateWork::Session { gap, .. } => vec![window(at, at + gap)],
            LateWork::Distinct { .. } => unreachable!("it has no windows"),
        };
        let mut taken = false;
        for mut window in windows {
            let mut one = Held { window, sum: 0, fired: false };
            if matches!(work, LateWork::Session { .. }) {
                let meets =
                    |it: &Held| it.window.start <= window.end && window.start <= it.window.end;
                let (meeting, others): (Vec<Held>, Vec<Held>) = held.drain(..).partition(meets);
                held = others;
                for it in &meeting {
                    window.start = window.start.min(it.window.start);
                    window.end = window.end.max(it.window.end);
                    one.sum += it.sum;
                }
                one.window = window;
                // A window that overlaps another and does not extend it is part of it.
                one.fired = meeting.iter().any(|it| it.window == window && it.fired);
            } else if let Some(place) = held.iter().position(|it| it.window == window) {
                one = held.remove(place);
            }
            if last(window) + lateness <= watermark {
                assert_eq!(one.sum, 0, "a window that is over is not held");
                continue;
            }
            taken = true;
            one.sum += value;
            if last(window) <= watermark {
                one.fired = true;
                results.push(summed(key, window, one.sum));
            }
            held.push(one);
        }
        if !taken && at + lateness <= watermark {
            late.push((key, at * 1_009 + value));
        }
    }
    pass(i64::MAX - 1_000, &mut held, &mut results);
    (results, late)
}

fn with_late(flow: &Dataflow, world: &World, work: &LateWork, all: &[Punctuated]) {
    let input = &world.case.inputs[0];
    let source = WildSource {
        records: MemorySource::new(all.to_vec()),
        chunk: input.chunk,
        pause: input.pause,
        faults: world.faults.clone(),
    };
    let keyed = flow
        .source("in", source)
        .parallelism(1)
        .assign_timestamps(
            Watermarks::punctuated(|(_, mark): &Punctuated, at| mark.then_some(at)),
            |((_, at, _), _)| Timestamp::from_millis(*at),
        )
        .filter(|(_, mark)| !mark)
        .map(|(reading, _)| reading)
        .key_by(|reading| reading.0);
    let sum = |sum: &mut i64, (_, _, value): Reading| *sum += value;
    let (left, right) = match *work {
        LateWork::Tumbling { length, lateness } => keyed
            .window(Tumbling::of(ms(length)))
            .allowed_lateness(ms(lateness))
            .keep_late()
            .aggregate(sum)
            .split(),
        LateWork::Sliding { length, every, lateness } => keyed
            .window(Sliding::of(ms(length), ms(every)))
            .allowed_lateness(ms(lateness))
            .keep_late()
            .aggregate(sum)
            .split(),
        LateWork::Session { gap, lateness } => keyed
            .window(Session::gap(ms(gap)))
            .allowed_lateness(ms(lateness))
            .keep_late()
            .aggregate_merging(sum, |sum: &mut i64, later| *sum += later)
            .split(),
        LateWork::Distinct { memory } => {
            return keyed
                .distinct(ms(memory))
                .map(|reading| (reading.0, reading.1 * 1_009 + reading.2))
                .sink("results", wild(world, 0));
        }
    };
    left.map(|it| summed(it.key, it.window, it.result)).sink("results", wild(world, 0));
    right.map(|(key, reading)| (key, reading.1 * 1_009 + reading.2)).sink("late", wild(world, 1));
}

/// Counts a key's readings; the rules' sum is known at the end.
#[derive(Clone)]
struct Ruled(Faults);

impl BroadcastProcess<u64, Reading, i64> for Ruled {
    type State = i64;
    type Shared = (i64, u32);
    type Out = Record;

    fn record<C: Collect<Record>>(
        &mut self,
        _: Reading,
        _: &Self::Shared,
        count: &mut KeyState<'_, u64, i64>,
        out: &mut C,
    ) {
        **count += 1;
        if let Err(error) = self.0.strike(Place::Process) {
            out.fail(error);
        }
    }

    fn told<C: Collect<Record>>(&mut self, rule: i64, shared: &mut Self::Shared, _: &mut C) {
        shared.0 += rule;
        shared.1 += 1;
    }

    fn end<C: Collect<Record>>(
        &mut self,
        key: &u64,
        count: &i64,
        (sum, rules): &Self::Shared,
        out: &mut C,
    ) {
        out.push((*key, count * 1_000_003 + sum * 1_009 + i64::from(*rules)));
    }
}

fn ruled(flow: &Dataflow, world: &World, readings: &[Reading], rules: &[i64]) {
    let input = &world.case.inputs[0];
    let Input { chunk, pause, .. } = *input;
    let records = MemorySource::new(readings.to_vec());
    let readings = WildSource { records, chunk, pause, faults: world.faults.clone() };
    let records = MemorySource::new(rules.to_vec());
    let rules = WildSource { records, chunk: 3, pause, faults: world.faults.clone() };
    let rules = flow.source("rules", rules).parallelism(input.parallelism.unwrap_or(1));
    flow.source("readings", readings)
        .key_by(|reading: &Reading| reading.0)
        .with_broadcast(rules, Ruled(world.faults.clone()))
        .sink("out", wild(world, 0));
}

pub(crate) fn chance() -> impl Strategy<Value = Case> {
    case(Just(Leg { segment: plain(), then: Box::new(Tree::Sink) }))
}

/// The same in conditions that stress checkpoints: they come often, little is read at a time, and
/// several failures strike in the middle.
pub(crate) fn often_struck() -> impl Strategy<Value = Case> {
    let how = || prop_oneof![Just(How::Panic), Just(How::Error)];
    let strike =
        (how(), 5u32..150).prop_map(|(how, after)| Planned { place: Place::Read, how, after });
    let strikes = proptest::collection::vec(strike, 2..6);
    let pace = (1u64..4, 4usize..16, 200u64..900);
    (chance(), strikes, pace).prop_map(|(mut case, strikes, (interval, chunk, pause))| {
        case.faults.extend(strikes);
        case.interval = Some(interval);
        for input in &mut case.inputs {
            (input.chunk, input.pause) = (chunk, Duration::from_micros(pause));
        }
        case
    })
}

proptest! {
    #![proptest_config(config(48))]

    /// SPEC 16.3, 16.4, 16.6, 16.8, 16.11 to 16.13
    #[test]
    fn whatever_happens_event_time_results_are_the_reference_s(
        chance in chance(),
        work in work(),
        inputs in proptest::collection::vec(readings(), 1..3),
    ) {
        let all: Vec<Reading> = inputs.iter().flatten().copied().collect();
        let expected = counted(&computed(&work, &all));
        let build = move |flow: &Dataflow, world: &World| on_time(flow, world, &work, &inputs);
        let world = World::of(chance, 1, Mode::ExactlyOnce, build);
        world.run();
        prop_assert_eq!(counted(&world.sinks[0].committed()), expected);
    }

    /// SPEC 16.4, 16.9 to 16.11
    #[test]
    fn whatever_happens_the_same_records_are_late_and_the_same_windows_fire_again(
        chance in chance(),
        work in late_work(),
        all in punctuated(),
    ) {
        let keys: BTreeSet<u64> = all.iter().map(|((key, ..), _)| *key).collect();
        let (mut results, mut late) = (Vec::new(), Vec::new());
        for key in keys {
            let (some, others) = late_of_key(&work, key, &all);
            results.extend(some);
            late.extend(others);
        }
        let build = move |flow: &Dataflow, world: &World| with_late(flow, world, &work, &all);
        let world = World::of(chance, 2, Mode::ExactlyOnce, build);
        world.run();
        prop_assert_eq!(counted(&world.sinks[0].committed()), counted(&results));
        prop_assert_eq!(counted(&world.sinks[1].committed()), counted(&late));
    }

    /// SPEC 16.13
    #[test]
    fn whatever_happens_every_subtask_knows_all_broadcasts(
        chance in chance(),
        readings in readings(),
        rules in proptest::collection::vec(-50i64..50, 0..60),
    ) {
        let mut counts: BTreeMap<u64, i64> = BTreeMap::new();
        readings.iter().for_each(|reading| *counts.entry(reading.0).or_default() += 1);
        let told = rules.iter().sum::<i64>() * 1_009 + rules.len() as i64;
        let expected: Vec<Record> =
            counts.into_iter().map(|(key, count)| (key, count * 1_000_003 + told)).collect();
        let build = move |flow: &Dataflow, world: &World| ruled(flow, world, &readings, &rules);
        let world = World::of(chance, 1, Mode::ExactlyOnce, build);
        world.run();
        prop_assert_eq!(counted(&world.sinks[0].committed()), counted(&expected));
    }
}
