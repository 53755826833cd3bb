//! Random pipelines that depend on processing time, each with a judge downstream of it.
//!
//! The results depend on when records arrive, which is not known beforehand. So each result
//! includes the clock's reading. A judge downstream, which preserves order and has its own state,
//! computes the expected results from these readings alone. A correct result is turned back into
//! its records, a wrong one into a value that no record has. The output then equals the input,
//! whatever the time was.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use proptest::prelude::*;
use proptest::test_runner::{TestError, TestRunner};
use snapline::connect::{Collect, MemorySource};
use snapline::{
    Dataflow, Emitter, Expiring, FromInputs, Identity, Input, Session, Sliding, TimeContext, Timed,
    TimedProcess, TimedStream, Timestamp, Trigger, Tumbling, Watermarks, WindowAssigner,
};

use crate::noted::{Before, Kind, Noted, Times};
use crate::planned_failures::{Faults, Place, WildSink, WildSource};
use crate::shape::{Leg, Record, Tree};
use crate::{Mode, World, case, config, counted, plain};

/// Operators that depend on the clock.
#[derive(Clone, Copy, Debug)]
enum Work {
    /// Counts a key's records; the count is forgotten after this many milliseconds without a
    /// record.
    Expire(u64),
    Windows(Kind),
    /// Each record waits for up to this many milliseconds.
    Wait(u64),
}

fn work() -> impl Strategy<Value = Work> {
    prop_oneof![
        6 => (1u64..6).prop_map(Work::Expire),
        // Longer than any of these jobs runs: nothing is forgotten.
        1 => Just(Work::Expire(3_600_000)),
        2 => (1u64..20).prop_map(|length| Work::Windows(Kind::Tumbling(length))),
        2 => (2u64..5, 1u64..8).prop_map(|(times, every)| Work::Windows(Kind::Sliding(times, every))),
        2 => (1u64..10).prop_map(|gap| Work::Windows(Kind::Session(gap))),
        2 => (1u64..12).prop_map(Work::Wait),
    ]
}

const fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

/// A value that no record has.
const WRONG: i64 = 1_000_000;

// Totals over all cases: they show that the checked events happened at all.

/// Records of keys whose counts had been forgotten.
static FORGOTTEN: AtomicU64 = AtomicU64::new(0);
/// Windows of a key after its first.
static WINDOWS: AtomicU64 = AtomicU64::new(0);
/// Timers whose time had passed when they fired.
static TIMERS: AtomicU64 = AtomicU64::new(0);

type Source = TimedStream<FromInputs<Identity<Timed<Record>>>>;

/// All inputs as one stream, without event time.
fn sources(flow: &Dataflow, world: &World) -> Source {
    let mut all: Option<Source> = None;
    for (number, input) in world.case.inputs.iter().enumerate() {
        let source = WildSource {
            records: MemorySource::new(input.records.clone()),
            chunk: input.chunk,
            pause: input.pause,
            faults: world.faults.clone(),
        };
        let stream = flow.source(&format!("in-{number}"), source);
        let stream = stream.parallelism(input.parallelism.unwrap_or(world.case.parallelism));
        let stream = stream.assign_timestamps(Watermarks::at_end(), |_| Timestamp::MIN);
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

fn key(record: &Record) -> u64 {
    record.0
}

/// A key is forgotten after this many records in any case.
const FULL: u64 = 40;

/// Counts a key's records and reports the clock's reading.
#[derive(Clone)]
struct Counted(Faults);

impl TimedProcess<u64, Record> for Counted {
    type State = u64;
    type Out = (u64, (i64, Timestamp, u64));

    fn process<C: Collect<Self::Out>>(
        &mut self,
        (key, value): Record,
        count: &mut TimeContext<'_, u64, u64>,
        out: &mut C,
    ) {
        if let Err(error) = self.0.strike(Place::Process) {
            out.fail(error);
        }
        **count += 1;
        out.push((key, (value, count.processing_time(), **count)));
        if **count == FULL {
            count.clear();
        }
    }
}

/// A record is right if it was counted on from the one before, and the clock's readings at both are
/// not too far apart.
fn expire(flow: &Dataflow, world: &World, after: Duration) {
    let faults = world.faults.clone();
    sources(flow, world)
        .key_by(key)
        .process_with(Expiring::after(after, Counted(world.faults.clone())))
        .keyed()
        .process(
            move |input: Input<(i64, Timestamp, u64)>,
                  before: &mut TimeContext<'_, u64, Option<(Timestamp, u64)>>,
                  out: &mut Emitter<Record>| {
                let Input::Record((value, now, count)) = input else { return };
                let right = match **before {
                    Some((then, count)) if count < FULL && now < then + after => count + 1,
                    Some((_, count)) => {
                        FORGOTTEN.fetch_add(u64::from(count < FULL), Ordering::Relaxed);
                        1
                    }
                    None => 1,
                };
                **before = Some((now, count));
                out.push((*before.key(), if count == right { value } else { WRONG }));
            },
        )
        .try_map(move |record| faults.strike(Place::Rule).map(|()| record))
        .sink("out", out(world));
}

/// Turns correct windows into the records that they hold.
fn windowed<W: WindowAssigner<Trigger: Trigger>>(
    flow: &Dataflow,
    world: &World,
    assigner: Noted<W>,
    kind: Kind,
) {
    let faults = world.faults.clone();
    let say = |key, (_, value): Record, right| (key, if right { value } else { WRONG });
    let mut judged = kind.judged(say);
    sources(flow, world)
        .key_by(key)
        .window(assigner)
        .apply(Times)
        .keyed()
        .process(
            move |input,
                  before: &mut TimeContext<'_, u64, Before<Record>>,
                  out: &mut Emitter<_>| {
                if matches!(input, Input::Record(_)) && before.is_some() {
                    WINDOWS.fetch_add(1, Ordering::Relaxed);
                }
                judged(input, before, out);
            },
        )
        .try_map(move |record| faults.strike(Place::Rule).map(|()| record))
        .sink("out", out(world));
}

/// Waiting records by the time at which they go on; the last time that came; whether a time came
/// before it was due.
type Waiting = (Vec<(Timestamp, i64)>, Option<Timestamp>, bool);

/// A record is right if it goes on at the time that it was given. Only at the end of the input one
/// comes too early, and no record comes after that one.
fn wait(flow: &Dataflow, world: &World, most: u64) {
    let (faults, process) = (world.faults.clone(), world.faults.clone());
    sources(flow, world)
        .key_by(key)
        .process(
            move |input: Input<Record>,
                  waiting: &mut TimeContext<'_, u64, Waiting>,
                  out: &mut Emitter<Record>| {
                if let Err(error) = process.strike(Place::Process) {
                    out.fail(error);
                }
                let (key, now) = (*waiting.key(), waiting.processing_time());
                match input {
                    Input::Record((_, value)) => {
                        let at = now + ms(1 + value.unsigned_abs() % most);
                        let value = if waiting.2 { WRONG } else { value };
                        waiting.0.push((at, value));
                        waiting.set_processing_timer(at);
                        // A deleted timer does nothing.
                        let other = at + ms(1);
                        if waiting.0.iter().all(|(at, _)| *at != other) {
                            waiting.set_processing_timer(other);
                            waiting.delete_processing_timer(other);
                        }
                    }
                    Input::EventTime => out.push((key, WRONG)),
                    Input::ProcessingTime => {
                        let at = waiting.timestamp();
                        TIMERS.fetch_add(u64::from(at <= now), Ordering::Relaxed);
                        let in_order = waiting.1.is_none_or(|before| before < at)
                            && waiting.0.iter().all(|(other, _)| *other >= at);
                        (waiting.1, waiting.2) = (Some(at), at > now);
                        let due = |(other, _): &(Timestamp, i64)| *other == at;
                        let (due, left) = waiting.0.drain(..).partition(due);
                        waiting.0 = left;
                        let due: Vec<(Timestamp, i64)> = due;
                        if due.is_empty() || !in_order {
                            out.push((key, WRONG));
                        }
                        due.into_iter().for_each(|(_, value)| out.push((key, value)));
                    }
                }
            },
        )
        .try_map(move |record| faults.strike(Place::Rule).map(|()| record))
        .sink("out", out(world));
}

fn out(world: &World) -> WildSink<Record> {
    WildSink { sink: world.sinks[0].clone(), faults: world.faults.clone() }
}

fn build(flow: &Dataflow, world: &World, work: Work) {
    match work {
        Work::Expire(after) => expire(flow, world, ms(after)),
        Work::Wait(most) => wait(flow, world, most),
        Work::Windows(kind) => match kind {
            Kind::Tumbling(length) => {
                let windows = Tumbling::of(ms(length)).by_processing_time();
                windowed(flow, world, Noted(windows), kind);
            }
            Kind::Sliding(times, every) => {
                let windows = Sliding::of(ms(times * every), ms(every)).by_processing_time();
                windowed(flow, world, Noted(windows), kind);
            }
            Kind::Session(gap) => {
                let windows = Session::gap(ms(gap)).by_processing_time();
                windowed(flow, world, Noted(windows), kind);
            }
        },
    }
}

/// SPEC 16.7 to 16.9, 16.13
#[test]
fn whatever_happens_what_goes_by_the_clock_is_right_by_what_the_clock_showed() {
    let chance = case(Just(Leg { segment: plain(), then: Box::new(Tree::Sink) }));
    let mut runner = TestRunner::new(config(80));
    let ran = runner.run(&(chance, work()), |(chance, work)| {
        let all = chance.inputs.iter().flat_map(|input| &input.records);
        let times = if let Work::Windows(kind) = work { kind.times() } else { 1 };
        let expected: Vec<Record> = (0..times).flat_map(|_| all.clone()).copied().collect();
        let build = move |flow: &Dataflow, world: &World| build(flow, world, work);
        let world = World::of(chance, 1, Mode::ExactlyOnce, build);
        world.run();
        prop_assert_eq!(counted(&world.sinks[0].committed()), counted(&expected));
        Ok(())
    });
    match ran {
        Ok(()) => {}
        Err(TestError::Abort(why)) => panic!("{why}"),
        Err(TestError::Fail(why, least)) => panic!("{why}\n{least:#?}"),
    }
    for (what, seen) in [("forgotten", &FORGOTTEN), ("windows", &WINDOWS), ("timers", &TIMERS)] {
        assert!(seen.load(Ordering::Relaxed) > 100, "{what}: {seen:?}");
    }
}
