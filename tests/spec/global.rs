//! SPEC 16.9 and 16.15 in running jobs: global windows, and triggers that fire repeatedly.

use snapline::connect::{Generator, MemorySink};
use snapline::{
    AtEventTime, Dataflow, EveryEventTime, EveryProcessingTime, EveryRecords, Firing,
    GlobalWindows, Now, Outcome, TimeDomain, Timestamp, Trigger, Tumbling, Watermarks, Window,
};

use crate::time::Step::{At, Mark};
use crate::time::{Step, at, bounds, made, ms, run};

/// The results of global windows of one key, and the outcome.
fn global<G: Trigger>(steps: &[Step], trigger: G) -> (Vec<u64>, Outcome) {
    made(steps, |stream, sink| {
        let windows = stream.key_by(|_| ()).window(GlobalWindows).trigger(trigger);
        windows.count().map(|it| it.result).sink("out", sink);
    })
}

/// SPEC 16.15
#[test]
fn a_window_without_end_fires_when_its_trigger_says_and_else_never() {
    // 3 comes after the watermark and counts like any other record.
    let steps = [At(1), At(2), Mark(100), At(3), At(200), At(201)];
    let (by_count, outcome) = global(&steps, EveryRecords::new(2));
    assert_eq!(by_count, [2, 4], "and not at the end");
    assert!(outcome.status.tasks.iter().all(|task| task.records_late == 0), "nothing is late");
    let (purging, _) = global(&steps, EveryRecords::new(2).purging());
    assert_eq!(purging, [2, 2]);
    let (at_end, _) = global(&steps, AtEventTime);
    assert_eq!(at_end, [5], "with the end of time");

    let (batches, _) = made(&steps, |stream, sink| {
        let windows = stream.key_by(|time| time % 2).count_window(2);
        let times = windows.process(|key, window: Window, times: &[i64], out| {
            crate::time::push(out, (*key, window, times.to_vec()));
        });
        times.with_timestamps().sink("out", sink);
    });
    let found: Vec<_> = batches.iter().map(|it| (it.at, it.value.0, it.value.2.clone())).collect();
    let end = Window::GLOBAL.last();
    assert_eq!(found, [(end, 1, vec![1, 3]), (end, 0, vec![2, 200])], "201 is left");
    assert!(batches.iter().all(|it| it.value.1 == Window::GLOBAL));
    assert_eq!(Window::GLOBAL.to_string(), "all time");
}

/// SPEC 16.9, 16.15
#[test]
fn a_continuous_trigger_fires_once_however_many_multiples_have_passed() {
    // 3 comes after the watermark: it does not make up for multiples that have passed.
    let steps = [At(1), Mark(4), At(5), Mark(95), At(3), Mark(99), Mark(101), At(102)];
    let (so_far, _) = global(&steps, EveryEventTime::new(ms(10)));
    assert_eq!(so_far, [2, 3, 4], "with 95, with 101, and at the end");
    let (since, _) = global(&steps, EveryEventTime::new(ms(10)).purging());
    assert_eq!(since, [2, 1, 1]);

    let (windows, _) = made(&[At(1), Mark(35), At(36), Mark(200)], |stream, sink| {
        let windows = stream.key_by(|_| ()).window(Tumbling::of(ms(100)));
        windows.trigger(EveryEventTime::new(ms(10))).count().map(bounds).sink("out", sink);
    });
    assert_eq!(windows, [(0, 100, 1), (0, 100, 2)], "with 35, and at the window's end");
}

/// SPEC 16.7, 16.9
#[test]
fn a_continuous_trigger_by_the_clock_fires_between_and_at_the_end() {
    let counts = |purging: bool| {
        let (flow, sink) = (Dataflow::new("clock"), MemorySink::new());
        let windows = flow
            .source("in", Generator::new(40, |number| number).rate(400))
            .parallelism(1)
            .assign_timestamps(Watermarks::at_end(), |number| at(*number as i64))
            .key_by(|_| ())
            .window(GlobalWindows);
        let trigger = EveryProcessingTime::new(ms(10));
        match purging {
            true => windows.trigger(trigger.purging()).count().sink("out", sink.clone()),
            false => windows.trigger(trigger).count().sink("out", sink.clone()),
        }
        run(flow);
        sink.committed().into_iter().map(|it| it.result).collect::<Vec<_>>()
    };
    let since = counts(true);
    assert!(since.len() > 1 && since.iter().sum::<u64>() == 40, "{since:?}");
    let so_far = counts(false);
    assert!(so_far.len() > 1 && so_far.is_sorted() && so_far.last() == Some(&40), "{so_far:?}");
}

/// Asks for a processing time again after each call.
#[derive(Clone)]
struct Insistent;

impl Trigger for Insistent {
    type State = i64;

    fn record(&mut self, _: Timestamp, _: Window, now: Now, calls: &mut i64) -> Firing {
        assert_eq!((now.domain, now.processing), (TimeDomain::Event, Timestamp::MIN));
        *calls += 1;
        Firing::Wait
    }

    fn processing_due(&self, _: Window, calls: &i64) -> Option<Timestamp> {
        // Long after the end of this test.
        Some(at(i64::MAX / 2 + calls))
    }

    fn processing_time(&mut self, _: Timestamp, _: Window, now: Now, calls: &mut i64) -> Firing {
        assert_eq!(now.processing, Timestamp::MAX);
        *calls += 1;
        Firing::Fire
    }

    fn merge(&mut self, _: Window, _: Now, into: &mut i64, from: i64) {
        *into += from;
    }
}

/// SPEC 16.7
#[test]
fn what_a_trigger_waits_for_by_the_clock_comes_once_at_the_end() {
    let (fired, _) = global(&[At(1), At(2)], Insistent);
    assert_eq!(fired, [2]);
}
