//! A failure restores every record in flight in a lookup operator at the checkpoint, whatever its
//! state, and the event time that had reached the operator.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use snapline::connect::{Collect, Discard, Generator, MemorySink, MemorySource};
use snapline::connect::{OpenContext, Progress, Source, SourceReader};
use snapline::{BoxError, Dataflow, Ended, Lookup, Timestamp, Tumbling, Watermarks};

use crate::kit::{assert_ended, config, ms, patient, until, wait};

/// A flag that is raised once, and can be waited for.
#[derive(Clone, Default)]
struct Flag(Arc<AtomicBool>);

impl Flag {
    fn raise(&self) -> bool {
        self.0.swap(true, Ordering::SeqCst)
    }

    fn is_raised(&self) -> bool {
        self.0.load(Ordering::SeqCst)
    }

    fn wait(&self) {
        until("a flag is raised", || self.is_raised());
    }
}

/// Numbers: this many at once, then the rest and the end when the flag is raised.
#[derive(Clone)]
struct Held(Vec<u64>, usize, Flag);

struct HeldReader(Held, usize);

impl Source for Held {
    type Record = u64;
    type Position = usize;
    type Reader = HeldReader;

    fn open(&self, _: &OpenContext, at: Option<usize>) -> Result<HeldReader, BoxError> {
        Ok(HeldReader(self.clone(), at.unwrap_or(0)))
    }
}

impl SourceReader for HeldReader {
    type Record = u64;
    type Position = usize;

    fn read<C: Collect<u64>>(&mut self, _: usize, out: &mut C) -> Result<Progress, BoxError> {
        let Held(numbers, at_once, may) = &self.0;
        if self.1 >= *at_once && !may.is_raised() {
            return Ok(Progress::Wait(ms(2)));
        }
        let Some(number) = numbers.get(self.1) else { return Ok(Progress::End) };
        self.1 += 1;
        out.push(*number);
        Ok(Progress::More)
    }

    fn position(&self) -> usize {
        self.1
    }
}

/// Fails once, half a second after the start and after several checkpoints; then raises the flag.
fn fails_once(flow: &Dataflow, failed: &Flag) {
    let fails = failed.clone();
    flow.source("beside", Generator::new(200, |number| number).rate(200))
        .parallelism(1)
        .try_map(move |number| match number == 100 && !fails.raise() {
            true => Err(BoxError::from("planned")),
            false => Ok(number),
        })
        .sink("nowhere", Discard::new());
}

/// Two wait for a retry, one is answered and waits for these two, and two are being looked up.
#[test]
fn records_in_every_state_are_there_again() {
    let (failed, end) = (Flag::default(), Flag::default());
    let fails = failed.clone();
    let look_up = move |number: &u64| -> Result<u64, BoxError> {
        if !fails.is_raised() {
            match number {
                0 | 1 => return Err("later".into()),
                2 => {}
                _ => fails.wait(),
            }
        }
        Ok(number * 10)
    };
    let (flow, out) = (Dataflow::new("in every state"), MemorySink::new());
    let lookup = Lookup::ordered(look_up).in_flight(6).tries(2, ms(60_000));
    flow.source("in", Held((0..5).collect(), 5, end.clone()))
        .lookup(lookup)
        .sink("out", out.clone());
    fails_once(&flow, &failed);
    let job = flow.build(config().parallelism(1).restart(patient())).expect("builds");
    let handle = job.spawn().expect("starts");
    until("all are there", || out.committed_count() >= 5 || handle.is_over());
    end.raise();
    let outcome = assert_ended(wait(handle), Ended::Finished);
    assert_eq!(outcome.status.restarts, 1);
    assert_eq!(out.committed(), (0..5).map(|number| (number, number * 10)).collect::<Vec<_>>());
}

fn at(number: &u64) -> Timestamp {
    Timestamp::from_millis(*number as i64)
}

/// A record that is late relative to a watermark stays late, however early it is answered, and
/// whatever failed meanwhile.
#[test]
fn no_record_passes_a_watermark_and_no_failure_takes_it_away() {
    for fails in [false, true] {
        let (failed, answered) = (Flag::default(), Flag::default());
        if !fails {
            failed.raise();
        }
        let (first, last) = (failed.clone(), answered.clone());
        let look_up = move |number: &u64| -> Result<u64, BoxError> {
            match number {
                1_000 if fails => first.wait(),
                1_000 => {
                    last.wait();
                    std::thread::sleep(ms(100));
                }
                5 => _ = last.raise(),
                _ => {}
            }
            Ok(*number)
        };
        let (flow, out) = (Dataflow::new("late"), MemorySink::new());
        // The second comes after the failure.
        let source = Held(vec![1_000, 5, 1_001], 1, failed.clone());
        let (counts, late) = flow
            .source("in", source)
            .assign_timestamps(Watermarks::monotonous().in_steps_of(ms(1)), at)
            .lookup(Lookup::unordered(look_up).in_flight(8))
            .key_by(|_| 0)
            .window(Tumbling::of(ms(100)))
            .keep_late()
            .count()
            .split();
        counts.map(|it| (it.window.start.millis(), it.result)).sink("out", out.clone());
        let lates = MemorySink::new();
        late.map(|(_, late)| late.0).sink("late", lates.clone());
        if fails {
            fails_once(&flow, &failed);
        }
        let job = flow.build(config().parallelism(1).restart(patient())).expect("builds");
        let outcome = assert_ended(wait(job.spawn().expect("starts")), Ended::Finished);
        assert_eq!(outcome.status.restarts, u32::from(fails));
        assert_eq!(out.committed(), [(1_000, 2)]);
        assert_eq!(lates.committed(), [5], "failing: {fails}");
    }
}

/// One of a window's two inputs is idle. It had reported that to an operator that was still looking
/// up its earlier records.
#[test]
fn that_a_source_is_idle_is_not_forgotten() {
    let (failed, end) = (Flag::default(), Flag::default());
    let fails = failed.clone();
    let look_up = move |number: &u64| -> Result<u64, BoxError> {
        fails.wait();
        Ok(*number)
    };
    let (flow, out) = (Dataflow::new("idle"), MemorySink::new());
    let strategy = || Watermarks::monotonous().in_steps_of(ms(1));
    let silent = flow
        .source("silent", Held(vec![5], 1, end.clone()))
        .assign_timestamps(Watermarks::monotonous().idle(ms(30)), at)
        .lookup(Lookup::ordered(look_up))
        .map(|(number, _)| number);
    flow.source("speaks", Held((1..20).map(|it| it * 100).collect(), 19, end.clone()))
        .assign_timestamps(strategy(), at)
        .union(silent)
        .key_by(|_| 0)
        .window(Tumbling::of(ms(100)))
        .count()
        .map(|it| it.window.start.millis())
        .sink("out", out.clone());
    fails_once(&flow, &failed);
    let job = flow.build(config().parallelism(1).restart(patient())).expect("builds");
    let handle = job.spawn().expect("starts");
    until("it fires", || out.committed_count() >= 15 || handle.is_over());
    end.raise();
    let outcome = assert_ended(wait(handle), Ended::Finished);
    assert_eq!((outcome.status.restarts, out.committed_count()), (1, 20));
}

/// The timeout of a record begins with its call.
#[test]
fn who_waits_to_be_asked_is_not_too_late() {
    let slow = |number: &u64| -> Result<u64, BoxError> {
        std::thread::sleep(ms(100));
        Ok(*number)
    };
    let (flow, out) = (Dataflow::new("in turn"), MemorySink::new());
    flow.source("in", MemorySource::new((0..40_u64).collect()))
        .lookup(Lookup::ordered(slow).in_flight(1).timeout(ms(3_000)))
        .sink("out", out.clone());
    let job = flow.build(config().parallelism(1)).expect("builds");
    assert_ended(wait(job.spawn().expect("starts")), Ended::Finished);
    assert_eq!(out.committed_count(), 40);
}
