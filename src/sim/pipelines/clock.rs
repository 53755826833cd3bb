//! Pipelines that use the clock, each with a judge: an operator downstream of it, or in it, that
//! computes the right output from the clock's readings. Right records come out unchanged, so that
//! the output is the same at any time; wrong ones are reported in the output.

use std::time::Duration;

use super::{Env, ms};
use crate::base::clock::Clock;
use crate::connect::{Collect, OpenContext, Progress, Source, SourceReader};
use crate::{
    BoxError, BuildError, Dataflow, Emitter, EveryProcessingTime, Expiring, GlobalWindows, Input,
    Job, JobConfig, Session, Sliding, TimeContext, TimedClosure, Timestamp, Trigger, Tumbling,
    Watermarks, Window,
};

/// Numbers, each with the clock's reading when it was read, and pauses between them.
#[derive(Clone, Debug)]
struct Paced {
    count: u64,
    /// The pause before a number.
    pause: fn(u64) -> Duration,
}

impl Paced {
    fn new(env: &Env, count: usize, pause: fn(u64) -> Duration) -> Self {
        Self { count: env.records(count) as u64, pause }
    }
}

/// Reads [`Paced`], by one subtask.
struct PacedReader {
    of: Paced,
    next: u64,
    rested: bool,
    clock: Clock,
}

impl Source for Paced {
    type Record = (u64, Timestamp);
    type Position = u64;
    type Reader = PacedReader;

    fn open(&self, context: &OpenContext, next: Option<u64>) -> Result<PacedReader, BoxError> {
        assert_eq!(context.parallelism, 1, "it is not divided");
        let (of, clock) = (self.clone(), context.clock.clone());
        Ok(PacedReader { of, next: next.unwrap_or(0), rested: false, clock })
    }
}

impl SourceReader for PacedReader {
    type Record = (u64, Timestamp);
    type Position = u64;

    fn read<C: Collect<Self::Record>>(
        &mut self,
        _: usize,
        out: &mut C,
    ) -> Result<Progress, BoxError> {
        if self.next < self.of.count {
            let pause = (self.of.pause)(self.next);
            self.rested = !self.rested && !pause.is_zero();
            if self.rested {
                return Ok(Progress::Wait(pause));
            }
            out.push((self.next, Timestamp::from(self.clock.date())));
            self.next += 1;
        }
        Ok(if self.next < self.of.count { Progress::More } else { Progress::End })
    }

    fn position(&self) -> u64 {
        self.next
    }
}

/// A little between records, and more before each eighth.
fn bursts(n: u64) -> Duration {
    if n % 8 == 7 { ms(3) } else { Duration::from_micros(200) }
}

fn twice() -> JobConfig {
    JobConfig::new().parallelism(2).key_groups(8)
}

/// Waiting numbers, by the time at which they are emitted; the time that came last; whether one
/// came too early.
type WaitingNumbers = (Vec<(Timestamp, u64)>, Option<Timestamp>, bool);

/// A number is emitted at the time it was given, and the times of a key come in order. Only at the
/// end of the input one may come too early.
pub(super) fn timers(env: &Env) -> Result<Job, BuildError> {
    let flow = Dataflow::new("clock-timers");
    flow.source("numbers", Paced::new(env, 20, bursts))
        .parallelism(1)
        .assign_timestamps(Watermarks::at_end(), |_| Timestamp::MIN)
        .key_by(|(n, _)| n % 3)
        .process(
            |input, waiting: &mut TimeContext<'_, u64, WaitingNumbers>, out: &mut Emitter<_>| {
                let now = waiting.processing_time();
                match input {
                    Input::Record((n, _)) => {
                        let at = now + ms(1 + n % 4);
                        waiting.0.push((at, n));
                        waiting.set_processing_timer(at);
                        if waiting.2 {
                            out.push((n, "a record after what fires at the end"));
                        }
                    }
                    Input::EventTime | Input::ProcessingTime => {
                        let at = waiting.timestamp();
                        let in_order = waiting.1.is_none_or(|before| before < at);
                        (waiting.1, waiting.2) = (Some(at), now < at);
                        let (due, left) = waiting.0.drain(..).partition(|(other, _)| *other <= at);
                        waiting.0 = left;
                        let due: Vec<(Timestamp, u64)> = due;
                        for (of, n) in due {
                            let right = in_order && of == at;
                            out.push((n, if right { "in time" } else { "at another time" }));
                        }
                    }
                }
            },
        )
        .sink("out", env.sink("out"));
    flow.build(twice())
}

/// A window of a key, and whether its results came before its end.
type EarlyWindow = Option<(Window, bool)>;

/// Checks that windows of a key come in order. A firing before its end is due to the end of the
/// input: nothing of its key comes after it.
fn follows(before: EarlyWindow, window: Window) -> bool {
    before.is_none_or(|(before, early)| !early && before.end <= window.start)
}

/// Each number is in one window of each kind.
pub(super) fn windows(env: &Env) -> Result<Job, BuildError> {
    let flow = Dataflow::new("clock-windows");
    let judge = |right: fn(Window) -> bool| {
        move |input: Input<(Window, Vec<u64>)>,
              before: &mut TimeContext<'_, u64, EarlyWindow>,
              out: &mut Emitter<(u64, bool)>| {
            let Input::Record((window, numbers)) = input else { return };
            let right = right(window) && follows(**before, window);
            **before = Some((window, before.processing_time() < window.end));
            numbers.into_iter().for_each(|n| out.push((n, right)));
        }
    };
    let numbers = |key: &u64, window: Window, held: &[(u64, Timestamp)], out: &mut Emitter<_>| {
        // A number that was read after the window's end is in a later one.
        let held = held.iter().filter(|(_, read)| *read < window.end).map(|(n, _)| *n);
        out.push((*key, (window, held.collect::<Vec<u64>>())));
    };
    let (tumbling, session) = flow
        .source("numbers", Paced::new(env, 12, bursts))
        .parallelism(1)
        .assign_timestamps(Watermarks::at_end(), |_| Timestamp::MIN)
        .fork();
    tumbling
        .key_by(|(n, _)| n % 2)
        .window(Tumbling::of(ms(2)).by_processing_time())
        .process(numbers)
        .keyed()
        .process(judge(|window| window.end == window.start + ms(2)))
        .sink("tumbling", env.sink("tumbling"));
    session
        .key_by(|(n, _)| n % 2)
        .window(Session::gap(ms(2)).by_processing_time())
        .process(numbers)
        .keyed()
        .process(judge(|window| window.end >= window.start + ms(2)))
        .sink("session", env.sink("session"));
    flow.build(twice())
}

/// Each number is in three windows that slide, and is emitted once from one without end.
pub(super) fn sliding(env: &Env) -> Result<Job, BuildError> {
    let flow = Dataflow::new("clock-sliding");
    let (sliding, rounds) = flow
        .source("numbers", Paced::new(env, 12, bursts))
        .parallelism(1)
        .assign_timestamps(Watermarks::at_end(), |_| Timestamp::MIN)
        .fork();
    sliding
        .key_by(|(n, _)| n % 2)
        .window(Sliding::of(ms(3), ms(1)).by_processing_time())
        .process(|key: &u64, window: Window, held: &[(u64, Timestamp)], out: &mut Emitter<_>| {
            let held = held.iter().filter(|(_, read)| *read < window.end).map(|(n, _)| *n);
            out.push((*key, (window, held.collect::<Vec<u64>>())));
        })
        .keyed()
        .process(
            |input: Input<(Window, Vec<u64>)>,
             before: &mut TimeContext<'_, u64, Option<Window>>,
             out: &mut Emitter<(u64, bool)>| {
                let Input::Record((window, numbers)) = input else { return };
                let right = before.is_none_or(|before| before.start < window.start)
                    && window.end == window.start + ms(3);
                **before = Some(window);
                numbers.into_iter().for_each(|n| out.push((n, right)));
            },
        )
        .sink("sliding", env.sink("sliding"));
    rounds
        .key_by(|(n, _)| n % 2)
        .window(GlobalWindows)
        .trigger(EveryProcessingTime::new(ms(2)).purging())
        .process(|_, _: Window, held: &[(u64, Timestamp)], out: &mut Emitter<u64>| {
            held.iter().for_each(|(n, _)| out.push(*n));
        })
        .sink("rounds", env.sink("rounds"));
    flow.build(twice())
}

/// Counts expire when no record of their key has come for this long. Judged by the clock's reading
/// at each record.
pub(super) fn expiring(env: &Env) -> Result<Job, BuildError> {
    const AFTER: Duration = ms(2);
    let flow = Dataflow::new("expiring");
    let count = |input, count: &mut TimeContext<'_, u64, u64>, out: &mut Emitter<_>| {
        let Input::Record((n, _)) = input else { return };
        **count += 1;
        out.push((*count.key(), (n, count.processing_time(), **count)));
    };
    flow.source("numbers", Paced::new(env, 20, bursts))
        .parallelism(1)
        .assign_timestamps(Watermarks::at_end(), |_| Timestamp::MIN)
        .key_by(|(n, _)| n % 3)
        .process_with(Expiring::after(AFTER, TimedClosure::new(count)))
        .keyed()
        .process(
            |input: Input<(u64, Timestamp, u64)>,
             before: &mut TimeContext<'_, u64, Option<(Timestamp, u64)>>,
             out: &mut Emitter<(u64, bool)>| {
                let Input::Record((n, now, count)) = input else { return };
                let right = match **before {
                    Some((then, count)) if now < then + AFTER => count + 1,
                    _ => 1,
                };
                **before = Some((now, count));
                out.push((n, count == right));
            },
        )
        .sink("out", env.sink("out"));
    flow.build(twice())
}

/// State of a source, by a key of it: when its last record was, and was read; whether the source
/// counts; the watermark.
type Heard = (Option<(Timestamp, Timestamp)>, bool, Option<Timestamp>);

/// A source is idle for longer than its timeout, and comes back, beside one that continues. A
/// source whose records have never been far apart was not idle meanwhile. When the watermark is
/// past it, it counts; and while it counts none of its records is late.
pub(super) fn idle(env: &Env) -> Result<Job, BuildError> {
    const AFTER: Duration = ms(2);
    let flow = Dataflow::new("idle");
    let timed = |name: &'static str, source, at: fn(u64) -> u64| {
        let time = move |(n, _): &(u64, Timestamp)| Timestamp::from_millis(at(*n) as i64);
        let right_behind = |_: &(u64, Timestamp), at: Timestamp| Some(at - ms(1));
        flow.source(name, source)
            .parallelism(1)
            .assign_timestamps(Watermarks::punctuated(right_behind).idle(AFTER), time)
            .map(move |(n, read)| (name, n, read))
    };
    // When it comes back the other has not come as far, and overtakes it then.
    let resting = |n: u64| if n == 0 { ms(4) } else { Duration::from_micros(500) };
    let resting = timed("resting", Paced::new(env, 12, resting), |n| 850 + n * 9);
    let steady = |n: u64| Duration::from_micros(if n.is_multiple_of(2) { 500 } else { 0 });
    timed("steady", Paced::new(env, 32, steady), |n| 50 * n)
        .union(resting)
        .key_by(|(name, n, _)| (*name == "steady", n % 2))
        .process(
            |input: Input<(&'static str, u64, Timestamp)>,
             heard: &mut TimeContext<'_, (bool, u64), Heard>,
             out: &mut Emitter<(&'static str, u64, bool)>| {
                let Input::Record((name, n, read)) = input else { return };
                let (at, watermark) = (heard.timestamp(), heard.watermark());
                let (before, counted, heard_before) = **heard;
                let awake = before.is_some_and(|(_, then)| read < then + AFTER);
                let counts = awake && counted;
                let late = watermark >= at;
                let right = heard_before <= Some(watermark) && !(counts && late);
                let caught_up = awake && before.is_some_and(|(time, _)| watermark < time);
                **heard = (Some((at, read)), counts || caught_up, Some(watermark));
                out.push((name, n, right));
            },
        )
        .sink("out", env.sink("out"));
    flow.build(twice())
}
