//! Random pipelines that go by the clock on the wall, each with a judge behind it.
//!
//! What they compute depends on when records come, which nobody knows beforehand. So each says with its results what the clock showed, and a
//! judge behind it, in order and with state of its own, computes from that alone what the results have to be. A result that is right becomes
//! the records that it is of, one that is wrong becomes something that is no record. What comes out is then the input, whatever the time was.

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

/// What goes by the clock.
#[derive(Clone, Copy, Debug)]
enum Work {
    /// A key's records are counted; the count is forgotten when none has come for so many milliseconds.
    Expire(u64),
    Windows(Kind),
    /// Each record waits for up to so many milliseconds.
    Wait(u64),
}

fn work() -> impl Strategy<Value = Work> {
    prop_oneof![
        6 => (1u64..6).prop_map(Work::Expire),
        // Longer than any of these jobs takes: nothing is forgotten.
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

/// No record has this value.
const WRONG: i64 = 1_000_000;

// What happened in all cases together: else a check of what never happens would look like one of what does.

/// Records of keys whose counts had been forgotten.
static FORGOTTEN: AtomicU64 = AtomicU64::new(0);
/// Windows of a key behind the first.
static WINDOWS: AtomicU64 = AtomicU64::new(0);
/// Timers whose time had come when they fired.
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

/// After so many records of a key it is forgotten in any case.
const FULL: u64 = 40;

/// Counts a key's records, and says what the clock showed.
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

/// A record is right that was counted on from the one before, if that is not too long ago by what the clock showed at both.
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

/// Windows that are right become the records that they hold.
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

/// Records that wait, by the time at which they go on; the last time that came; whether a time came before it was there.
type Waiting = (Vec<(Timestamp, i64)>, Option<Timestamp>, bool);

/// A record is right that goes on at the time that it was given. Only at the end of the input one comes too early, and no record behind that.
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
                        // One that is taken back does nothing.
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
