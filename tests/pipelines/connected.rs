//! Random pipelines that connect two streams by a function of both, look up records with
//! timestamps, use randomly drawn watermark strategies, and do not wait for idle sources.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use proptest::prelude::*;
use proptest::test_runner::{TestError, TestRunner};
use snapline::connect::{Collect, MemorySource};
use snapline::{
    CoProcess, Dataflow, Either, Emitter, FromInputs, Identity, Lookup, TimeContext, Timed,
    TimedStream, Timestamp, Tumbling, WatermarkStrategy, Watermarks, Window,
};

use crate::planned_failures::{Faults, Place, WildSource};
use crate::shape::{Asking, Record};
use crate::timed::{Reading, SLACK, halves, ms, often_struck, readings, wild};
use crate::{Mode, World, config, counted};

/// The origin of watermarks.
#[derive(Clone, Copy, Debug)]
enum Marks {
    Bounded,
    /// For sources that are in order.
    Monotonous,
    EveryRecord,
    InSteps(i64),
    Punctuated,
}

/// The computation.
#[derive(Clone, Copy, Debug)]
enum Work {
    /// Counts the readings of the second stream near each of the first. Readings without neighbours
    /// go to another output.
    Connect(i64),
    /// Sums of the values looked up for a window's readings, with this many in flight, in order or
    /// not.
    LookUp(i64, usize, bool),
    /// The last values of windows.
    Reduce(i64),
}

fn work() -> impl Strategy<Value = (Marks, Work)> {
    let marks = prop_oneof![
        Just(Marks::Bounded),
        Just(Marks::Monotonous),
        Just(Marks::EveryRecord),
        (1i64..30).prop_map(Marks::InSteps),
        Just(Marks::Punctuated),
    ];
    let work = prop_oneof![
        3 => (0i64..40).prop_map(Work::Connect),
        4 => (1i64..60, 1usize..9, any::<bool>())
            .prop_map(|(length, most, ordered)| Work::LookUp(length, most, ordered)),
        1 => (1i64..60).prop_map(Work::Reduce),
    ];
    (marks, work)
}

type Source = TimedStream<FromInputs<Identity<Timed<Reading>>>>;

/// All inputs as one stream.
fn sources<S: WatermarkStrategy<Reading>>(
    flow: &Dataflow,
    world: &World,
    inputs: &[Vec<Reading>],
    strategy: S,
) -> Source {
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
        let stream =
            stream.assign_timestamps(strategy.clone(), |reading| Timestamp::from_millis(reading.1));
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

/// A reading of the first stream with the number of nearby readings of the second; or none.
#[derive(Clone)]
struct Near {
    by: i64,
    faults: Faults,
}

type Held = Vec<(Timestamp, i64)>;

fn met((key, at, value): Reading, near: usize) -> Record {
    (key, (at * 1_009 + value) * 1_000 + near as i64)
}

impl CoProcess<u64, Reading, Reading> for Near {
    type State = (Held, Held);
    type Out = Either<Record, Record>;

    fn left<C: Collect<Self::Out>>(
        &mut self,
        (_, _, value): Reading,
        held: &mut TimeContext<'_, u64, Self::State>,
        out: &mut C,
    ) {
        let at = held.timestamp();
        assert!(held.watermark() < at, "it is not late");
        held.0.push((at, value));
        held.set_timer(at + ms(self.by));
        if let Err(error) = self.faults.strike(Place::Process) {
            out.fail(error);
        }
    }

    fn right<C: Collect<Self::Out>>(
        &mut self,
        (_, _, value): Reading,
        held: &mut TimeContext<'_, u64, Self::State>,
        out: &mut C,
    ) {
        let at = held.timestamp();
        held.1.push((at, value));
        held.set_timer(at + ms(2 * self.by));
        if let Err(error) = self.faults.strike(Place::Process) {
            out.fail(error);
        }
    }

    fn event_time<C: Collect<Self::Out>>(
        &mut self,
        held: &mut TimeContext<'_, u64, Self::State>,
        out: &mut C,
    ) {
        let (key, now, by) = (*held.key(), held.timestamp(), ms(self.by));
        let (first, second) = &mut **held;
        first.retain(|&(at, value)| {
            if at + by == now {
                let near = |(other, _): &&(Timestamp, i64)| (at - by..=now).contains(other);
                let reading = (key, at.millis(), value);
                out.push(match second.iter().filter(near).count() {
                    0 => Either::Right(met(reading, 0)),
                    count => Either::Left(met(reading, count)),
                });
            }
            at + by > now
        });
        second.retain(|(at, _)| *at + 2 * by > now);
        if first.is_empty() && second.is_empty() {
            held.clear();
        }
    }
}

fn window_of(at: i64, length: i64) -> i64 {
    at - at.rem_euclid(length)
}

fn summed(key: u64, start: i64, sum: i64) -> Record {
    (key, start * 1_000_003 + sum)
}

/// The sequential reference: the expected content of each sink.
fn computed(work: Work, all: &[Reading]) -> [Vec<Record>; 2] {
    let mut windows: BTreeMap<(u64, i64), Vec<Reading>> = BTreeMap::new();
    match work {
        Work::Connect(by) => {
            let (first, second) = halves(all);
            let near = |one: &Reading| {
                let near = |it: &&Reading| it.0 == one.0 && it.1.abs_diff(one.1) <= by as u64;
                second.iter().filter(near).count()
            };
            let told = first.iter().map(|&one| (met(one, near(&one)), near(&one)));
            let (alone, met): (Vec<_>, Vec<_>) = told.partition(|(_, near)| *near == 0);
            let plain = |told: Vec<(Record, usize)>| told.into_iter().map(|it| it.0).collect();
            return [plain(met), plain(alone)];
        }
        Work::LookUp(length, ..) | Work::Reduce(length) => {
            for &reading in all {
                let place = (reading.0, window_of(reading.1, length));
                windows.entry(place).or_default().push(reading);
            }
        }
    }
    let of = |((key, start), held): ((u64, i64), Vec<Reading>)| {
        let found = |it: &Reading| crate::shape::entry(&(it.0, it.2)) + it.2;
        let sum = match work {
            Work::LookUp(..) => held.iter().map(found).sum(),
            _ => held.iter().map(|it| it.1 * 1_009 + it.2).max().unwrap_or(0),
        };
        summed(key, start, sum)
    };
    [windows.into_iter().map(of).collect(), Vec::new()]
}

fn pipeline(flow: &Dataflow, world: &World, (marks, work): (Marks, Work), inputs: &[Vec<Reading>]) {
    let stream = match marks {
        Marks::Bounded => sources(flow, world, inputs, Watermarks::bounded(ms(SLACK))),
        Marks::Monotonous => {
            let mut inputs = inputs.to_vec();
            inputs.iter_mut().for_each(|input| input.sort_unstable_by_key(|reading| reading.1));
            sources(flow, world, &inputs, Watermarks::monotonous())
        }
        Marks::EveryRecord => {
            sources(flow, world, inputs, Watermarks::bounded(ms(SLACK)).every_record())
        }
        Marks::InSteps(step) => {
            sources(flow, world, inputs, Watermarks::bounded(ms(SLACK)).in_steps_of(ms(step)))
        }
        // A reading is at most the slack earlier than any one before it.
        Marks::Punctuated => {
            let rule = |reading: &Reading, at| (reading.2 % 3 == 0).then(|| at - ms(SLACK + 1));
            sources(flow, world, inputs, Watermarks::punctuated(rule))
        }
    };
    let keyed = |reading: &Reading| reading.0;
    let faults = world.faults.clone();
    let strike = move |record: Record| faults.strike(Place::Rule).map(|()| record);
    match work {
        Work::Connect(by) => {
            let (left, right) = stream.fork();
            let left = left.filter(|(_, _, value)| value % 2 == 0).key_by(keyed);
            let right = right.filter(|(_, _, value)| value % 2 != 0).key_by(keyed);
            let near = Near { by, faults: world.faults.clone() };
            let (met, alone) = left.connect(right).process_with(near).split();
            met.try_map(strike).sink("met", wild(world, 0));
            alone.sink("alone", wild(world, 1));
        }
        Work::LookUp(length, most, ordered) => {
            let asking = Asking { faults: world.faults.clone() };
            let lookup = if ordered { Lookup::ordered(asking) } else { Lookup::unordered(asking) };
            stream
                .map(|(key, _, value)| (key, value))
                .lookup(lookup.in_flight(most))
                .key_by(|((key, _), _)| *key)
                .window(Tumbling::of(ms(length)))
                .aggregate(|sum: &mut i64, ((_, value), found)| *sum += value + found)
                .map(|it| summed(it.key, it.window.start.millis(), it.result))
                .try_map(strike)
                .sink("out", wild(world, 0));
        }
        Work::Reduce(length) => stream
            .map(|(key, at, value)| (key, at * 1_009 + value))
            .keyed()
            .window(Tumbling::of(ms(length)))
            .reduce(i64::max)
            .map(|it| summed(it.key, it.window.start.millis(), it.result))
            .try_map(strike)
            .sink("out", wild(world, 0)),
    }
}

proptest! {
    #![proptest_config(config(48))]

    /// SPEC 15.10, 16.2, 16.8, 16.12
    #[test]
    fn whatever_happens_two_streams_meet_and_no_answer_is_late(
        chance in often_struck(),
        work in work(),
        inputs in proptest::collection::vec(readings(), 1..3),
    ) {
        let all: Vec<Reading> = inputs.iter().flatten().copied().collect();
        let expected = computed(work.1, &all);
        let build = move |flow: &Dataflow, world: &World| pipeline(flow, world, work, &inputs);
        let world = World::of(chance, 2, Mode::ExactlyOnce, build);
        world.run();
        for (number, expected) in expected.iter().enumerate() {
            let found = counted(&world.sinks[number].committed());
            prop_assert_eq!(found, counted(expected), "sink {}", number);
        }
    }
}

// Totals over all cases: they show that the checked events happened at all.

/// Late readings, of which there would be none if their source were waited for.
static LATE: AtomicU64 = AtomicU64::new(0);
static IN_TIME: AtomicU64 = AtomicU64::new(0);

/// Which readings are late depends on when sources were idle. Each reading is either late or in a
/// window.
fn idle(flow: &Dataflow, world: &World, (after, length): (u64, i64), inputs: &[Vec<Reading>]) {
    let strategy = Watermarks::bounded(ms(SLACK)).idle(Duration::from_millis(after));
    let plain = |(key, at, value): Reading| (key, at * 1_009 + value);
    let (in_time, late) = sources(flow, world, inputs, strategy)
        .key_by(|reading| reading.0)
        .window(Tumbling::of(ms(length)))
        .keep_late()
        .process(|_, _: Window, held: &[Reading], out: &mut Emitter<Reading>| {
            held.iter().for_each(|reading| out.push(*reading));
        })
        .split();
    let in_time = in_time.inspect(|_| {
        IN_TIME.fetch_add(1, Ordering::Relaxed);
    });
    let late = late.map(|(_, reading)| reading).inspect(|_| {
        LATE.fetch_add(1, Ordering::Relaxed);
    });
    in_time.map(plain).sink("in-time", wild(world, 0));
    late.map(plain).sink("late", wild(world, 1));
}

/// SPEC 16.2 to 16.4, 16.10
#[test]
fn whatever_happens_a_reading_of_an_idle_source_is_in_its_window_or_late() {
    let mut runner = TestRunner::new(config(32));
    let inputs = proptest::collection::vec(readings(), 2..4);
    let drawn = (often_struck(), (1u64..4, 5i64..60), inputs, 2u64..8);
    let ran = runner.run(&drawn, |(mut chance, work, inputs, pause)| {
        // The first source is idle between any two of its reads.
        let mut first = chance.inputs[0].clone();
        first.pause = Duration::from_millis(pause);
        first.chunk = first.chunk.max(60);
        chance.inputs.insert(0, first);
        let mut expected = counted(&[]);
        for (key, at, value) in inputs.iter().flatten() {
            *expected.entry((*key, at * 1_009 + value)).or_default() += 1;
        }
        let build = move |flow: &Dataflow, world: &World| idle(flow, world, work, &inputs);
        let world = World::of(chance, 2, Mode::ExactlyOnce, build);
        world.run();
        let found: Vec<Record> = world.sinks.iter().flat_map(|sink| sink.committed()).collect();
        prop_assert_eq!(counted(&found), expected);
        Ok(())
    });
    match ran {
        Ok(()) => {}
        Err(TestError::Abort(why)) => panic!("{why}"),
        Err(TestError::Fail(why, least)) => panic!("{why}\n{least:#?}"),
    }
    for (what, seen) in [("late", &LATE), ("in time", &IN_TIME)] {
        assert!(seen.load(Ordering::Relaxed) > 100, "{what}: {seen:?}");
    }
}
