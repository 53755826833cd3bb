//! A job that depends on processing time: timers, windows, a continuous trigger, and a source that
//! is idle at times.
//!
//! Its results depend on when records come. So judges in the job compute the expected results from
//! the clock's readings. A record is emitted as it went in if its result is right.

use std::path::Path;
use std::time::{Duration, Instant, SystemTime};

use snapline::connect::{Collect, FileSink, OpenContext, Progress, Source, SourceReader};
use snapline::{
    BoxError, Dataflow, Either, Emitter, EveryProcessingTime, GlobalWindows, Input, Session,
    Sliding, TimeContext, Timestamp, Trigger, Tumbling, Watermarks, Window,
};

use crate::child::Numbers;
use crate::kill_points::Mortal;
use crate::noted::{Kind, Noted, Times};

/// The number of records of the first source: one each millisecond of event time.
const ALL: u64 = 4_000;
const FEW: u64 = 11;
/// The number of records of the source that is idle at times: it pauses before each [`BETWEEN`] of
/// them.
const RESTING: u64 = 40;
const BETWEEN: u64 = 10;
/// The time after which a source counts as idle.
const AFTER: Duration = Duration::from_millis(6);
const LENGTH: Duration = Duration::from_millis(100);
/// Each record is in three sliding windows.
const SLIDING: Kind = Kind::Sliding(3, 2);

const fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

/// Waiting numbers by the time at which they go on; the time that came last; whether a time came
/// before it was due.
type Waiting = (Vec<(Timestamp, u64)>, Option<Timestamp>, bool);

/// A number goes on at the time that it was given, and the times of a key come in order. Only at
/// the end of the input one may come too early, and no record comes after that one.
fn wait(input: Input<u64>, waiting: &mut TimeContext<'_, u64, Waiting>, out: &mut Emitter<String>) {
    let now = waiting.processing_time();
    match input {
        Input::Record(n) => {
            let at = now + ms(1 + n % 7);
            waiting.0.push((at, n));
            waiting.set_processing_timer(at);
            if waiting.2 {
                out.push(format!("{n} comes behind the end"));
            }
        }
        Input::EventTime => out.push("no event time was asked for".to_owned()),
        Input::ProcessingTime => {
            let at = waiting.timestamp();
            let in_order = waiting.1.is_none_or(|before| before < at);
            (waiting.1, waiting.2) = (Some(at), now < at);
            let (due, left) = waiting.0.drain(..).partition(|(of, _)| *of <= at);
            waiting.0 = left;
            let due: Vec<(Timestamp, u64)> = due;
            for (of, n) in due {
                let right = in_order && of == at;
                out.push(said("waited", n, right));
            }
        }
    }
}

fn said(what: &str, n: u64, right: bool) -> String {
    format!("{what} {n}{}", if right { "" } else { ", wrongly" })
}

/// Marks a record of the source that is idle at times, if it came too late for its window. It may
/// or may not.
pub(crate) const LATE: &str = " (late)";

pub(crate) fn clocked(flow: &Dataflow, dir: &Path) {
    let sink = |name: &str| Mortal(FileSink::<String>::new(crate::output(dir, name)));
    let key = |n: &u64| n % FEW;
    let numbers = Mortal(Numbers { from: 0, count: ALL, gulp: 25 });
    let (stream, steady) = flow.source("in", numbers).fork();
    let (tumbling, more) =
        stream.assign_timestamps(Watermarks::at_end(), |_| Timestamp::MIN).fork();
    let (sliding, more) = more.fork();
    let (session, more) = more.fork();
    let (waiting, rounds) = more.fork();
    let tumbling = tumbling
        .key_by(key)
        .window(Noted(Tumbling::of(ms(5)).by_processing_time()))
        .apply(Times)
        .keyed()
        .process(Kind::Tumbling(5).judged(|_, n, right| said("tumbling", n, right)));
    let sliding = sliding
        .key_by(key)
        .window(Noted(Sliding::of(ms(6), ms(2)).by_processing_time()))
        .apply(Times)
        .keyed()
        .process(SLIDING.judged(|_, n, right| said("sliding", n, right)));
    let session = session
        .key_by(key)
        .window(Noted(Session::gap(ms(1)).by_processing_time()))
        .apply(Times)
        .keyed()
        .process(Kind::Session(1).judged(|_, n, right| said("session", n, right)));
    let waiting = waiting.key_by(key).process(wait);
    let rounds = rounds
        .key_by(key)
        .window(GlobalWindows)
        .trigger(EveryProcessingTime::new(ms(3)).purging())
        .process(|_, _: Window, numbers: &[u64], out: &mut Emitter<String>| {
            numbers.iter().for_each(|n| out.push(said("round", *n, true)));
        });
    let all = tumbling.union(sliding).parallelism(1).union(session).parallelism(1);
    let all = all.union(waiting).parallelism(1).union(rounds).parallelism(1);
    all.sink("clock", sink("clock"));

    let steady = steady.assign_timestamps(Watermarks::monotonous(), |n| at(true, *n));
    let steady = steady.map(|n| (true, n, Timestamp::MIN));
    let right_behind = |_: &(u64, Timestamp), at: Timestamp| Some(at - ms(1));
    let resting = flow
        .source("resting", Mortal(Resting))
        .parallelism(1)
        .assign_timestamps(Watermarks::punctuated(right_behind).idle(AFTER), |(n, _)| at(false, *n))
        .map(|(n, read)| (false, n, read));
    steady
        .union(resting)
        .parallelism(1)
        .key_by(|(steady, _, _)| *steady)
        .process(heard)
        .parallelism(1)
        .key_by(|(_, n, _)| n % FEW)
        .window(Tumbling::of(LENGTH))
        .keep_late()
        .process(|_, _: Window, held: &[(bool, u64, bool)], out: &mut Emitter<_>| {
            held.iter().for_each(|it| out.push(*it));
        })
        .map(|it| match it {
            Either::Left((true, n, right)) => said("steady", n, right),
            Either::Left((false, n, right)) => said("resting", n, right),
            Either::Right((_, (true, n, _))) => said("steady, and late:", n, false),
            Either::Right((_, (false, n, right))) => said("resting", n, right) + LATE,
        })
        .sink("idle", sink("idle"));
}

/// The event time of a source's record. When the idle source resumes, it is a little ahead of the
/// other's expected time, and the other overtakes it.
fn at(steady: bool, n: u64) -> Timestamp {
    let resting = n / BETWEEN * 1_200 + 900 + n % BETWEEN * 10;
    Timestamp::from_millis(if steady { n } else { resting } as i64)
}

/// The state of a source: the event time and the reading time of its last record; whether the
/// source counts; the watermark.
type Heard = (Option<(Timestamp, Timestamp)>, bool, Timestamp);

/// A source whose records were never far apart was not idle meanwhile. It counts once the watermark
/// is below its last record, and while it counts none of its records is late. A source that is
/// never idle counts. The watermark never goes back. (One subtask precedes this, so that its
/// watermark is known.)
fn heard(
    input: Input<(bool, u64, Timestamp)>,
    heard: &mut TimeContext<'_, bool, Heard>,
    out: &mut Emitter<(bool, u64, bool)>,
) {
    let Input::Record((steady, n, read)) = input else { return };
    let (at, watermark) = (heard.timestamp(), heard.watermark());
    let (before, counted, heard_before) = **heard;
    let awake = before.is_some_and(|(_, then)| read < then + AFTER);
    let counts = steady || awake && counted;
    let late = watermark >= at;
    let goes_on = before.is_none() || heard_before <= watermark;
    let caught_up = awake && before.is_some_and(|(time, _)| watermark < time);
    **heard = (Some((at, read)), counts || caught_up, watermark);
    out.push((steady, n, goes_on && !(counts && late)));
}

/// Some numbers, each with the clock's reading when it was read, and long pauses among them.
#[derive(Clone)]
struct Resting;

struct RestingReader {
    next: u64,
    due: Option<Instant>,
}

impl Source for Resting {
    type Record = (u64, Timestamp);
    type Position = u64;
    type Reader = RestingReader;

    fn open(&self, _: &OpenContext, position: Option<u64>) -> Result<RestingReader, BoxError> {
        Ok(RestingReader { next: position.unwrap_or(0), due: None })
    }
}

impl SourceReader for RestingReader {
    type Record = (u64, Timestamp);
    type Position = u64;

    fn read<C: Collect<Self::Record>>(
        &mut self,
        _: usize,
        out: &mut C,
    ) -> Result<Progress, BoxError> {
        if self.next >= RESTING {
            return Ok(Progress::End);
        }
        let pause = if self.next.is_multiple_of(BETWEEN) { AFTER * 5 / 2 } else { ms(1) };
        let now = Instant::now();
        let due = *self.due.get_or_insert(now + pause);
        if now < due {
            return Ok(Progress::Wait(due - now));
        }
        self.due = None;
        out.push((self.next, Timestamp::from(SystemTime::now())));
        self.next += 1;
        Ok(if self.next < RESTING { Progress::More } else { Progress::End })
    }

    fn position(&self) -> u64 {
        self.next
    }
}

/// The expected content of a sink, without [`LATE`].
pub(crate) fn expected(sink: &str) -> Vec<String> {
    let lines = |what: &'static str, count: u64| (0..count).map(move |n| said(what, n, true));
    if sink == "idle" {
        return lines("steady", ALL).chain(lines("resting", RESTING)).collect();
    }
    let sliding = (0..SLIDING.times()).flat_map(|_| lines("sliding", ALL));
    let once = ["tumbling", "session", "waited", "round"];
    once.into_iter().flat_map(|what| lines(what, ALL)).chain(sliding).collect()
}
