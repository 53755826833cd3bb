//! SPEC section 16 in running jobs: one subtask, one key, and records that carry their own time.

use std::time::Duration;

use snapline::connect::{Discard, Generator, MemorySink, MemorySource};
use snapline::{
    Between, Dataflow, Either, Emitter, EveryEventTime, EveryRecords, Expiring, FromInputs,
    Identity, Input, JobConfig, Outcome, Purging, Session, Sliding, TimeContext, Timed,
    TimedClosure, TimedStream, Timestamp, Tumbling, Watermarks, Windowed,
};

/// A record at a time, or a watermark.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Step {
    At(i64),
    Mark(i64),
}
use Step::{At, Mark};

pub(crate) fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

pub(crate) fn at(millis: i64) -> Timestamp {
    Timestamp::from_millis(millis)
}

pub(crate) type Stream = TimedStream<FromInputs<Identity<Timed<i64>>>>;

/// A stream of records, each of which is its own time, with watermarks where the steps have them.
pub(crate) fn stream(flow: &Dataflow, name: &str, steps: &[Step]) -> Stream {
    let strategy = Watermarks::punctuated(|step: &Step, at| matches!(step, Mark(_)).then_some(at));
    let (stream, nothing) = flow
        .source(name, MemorySource::new(steps.to_vec()))
        .assign_timestamps(strategy, |step| match step {
            At(time) | Mark(time) => at(*time),
        })
        .flat_map(|step| match step {
            At(time) => Some(Either::<_, ()>::Left(time)),
            Mark(_) => None,
        })
        .split();
    nothing.sink(&format!("{name}-nothing"), Discard::new());
    stream
}

pub(crate) fn run(flow: Dataflow) -> Outcome {
    let config = JobConfig::new().parallelism(1).key_groups(1);
    flow.build(config).expect("it is well formed").run().expect("it runs")
}

/// The output of a pipeline for these steps.
pub(crate) fn made<T: Clone + Send + 'static>(
    steps: &[Step],
    pipeline: impl FnOnce(Stream, MemorySink<T>),
) -> (Vec<T>, Outcome) {
    let (flow, sink) = (Dataflow::new("time"), MemorySink::new());
    pipeline(stream(&flow, "in", steps), sink.clone());
    let outcome = run(flow);
    (sink.committed(), outcome)
}

/// Start, end and count of a window.
pub(crate) fn bounds(it: Windowed<(), u64>) -> (i64, i64, u64) {
    (it.window.start.millis(), it.window.end.millis(), it.result)
}

/// SPEC 16.1, 16.2
#[test]
fn the_watermark_is_the_latest_time_less_the_bound_and_a_millisecond() {
    let (flow, sink) = (Dataflow::new("bounded"), MemorySink::new());
    flow.source("in", MemorySource::new(vec![5, 30, 12, 31]))
        .assign_timestamps(Watermarks::bounded(ms(9)).in_steps_of(ms(5)), |time| at(*time))
        .key_by(|_| ())
        .process(|_, context: &mut TimeContext<'_, (), ()>, out: &mut Emitter<_>| {
            push(out, (context.timestamp().millis(), context.watermark()));
        })
        .sink("out", sink.clone());
    run(flow);
    // 30 - 9 - 1 is a multiple of five, 31 - 9 - 1 is not.
    let expected = [(5, Timestamp::MIN), (30, at(-5)), (12, at(20)), (31, at(20))];
    assert_eq!(sink.committed(), expected);
}

pub(crate) fn push<T>(out: &mut Emitter<T>, record: T) {
    snapline::connect::Collect::push(out, record);
}

/// SPEC 16.3
#[test]
fn the_watermark_of_two_inputs_is_the_earlier() {
    let (flow, sink) = (Dataflow::new("two"), MemorySink::new());
    let far = stream(&flow, "far", &[At(100), Mark(1_000)]);
    let near = stream(&flow, "near", &[Mark(3), At(4)]);
    let late = far.union(near).key_by(|_| ()).window(Tumbling::of(ms(10))).count().map(bounds);
    late.sink("out", sink.clone());
    let outcome = run(flow);
    let mut windows = sink.committed();
    windows.sort_unstable();
    assert_eq!(windows, [(0, 10, 1), (100, 110, 1)], "nothing is late");
    assert!(outcome.status.tasks.iter().all(|task| task.records_late == 0));
}

/// SPEC 16.5, 16.6
#[test]
fn timers_fire_once_in_order_and_all_of_them_at_the_end() {
    let steps = [At(50), At(10), At(10), Mark(15), At(12), Mark(16), At(90)];
    let (fired, _) = made(&steps, |stream, sink| {
        stream
            .key_by(|_| ())
            .process(|input, context: &mut TimeContext<'_, (), ()>, out: &mut Emitter<_>| {
                match input {
                    Input::Record(50) => context.delete_timer(at(10)),
                    // 10 is set twice; 12 has already passed when it is set.
                    Input::Record(time) => context.set_timer(at(time)),
                    _ => push(out, (context.timestamp(), context.watermark())),
                }
                if context.timestamp() == at(90) {
                    // At the end of the input, sets a timer for a time that has already passed.
                    context.set_timer(at(91));
                }
            })
            .sink("out", sink);
    });
    let end = Timestamp::MAX;
    assert_eq!(fired, [(at(10), at(15)), (at(12), at(16)), (at(90), end), (at(91), end)]);
}

/// SPEC 16.6
#[test]
fn a_timer_that_is_taken_back_does_not_fire_and_one_that_outlives_its_state_does() {
    let (fired, _) = made(&[At(1), At(2), Mark(100)], |stream, sink| {
        stream
            .key_by(|_| ())
            .process(|input, context: &mut TimeContext<'_, (), i64>, out: &mut Emitter<_>| {
                match input {
                    Input::Record(1) => {
                        **context = 7;
                        context.set_timer(at(30));
                        context.set_timer(at(20));
                    }
                    Input::Record(_) => {
                        context.delete_timer(at(20));
                        context.clear();
                    }
                    _ => push(out, (context.timestamp(), **context)),
                }
            })
            .sink("out", sink);
    });
    assert_eq!(fired, [(at(30), 0)]);
}

/// SPEC 16.7
#[test]
fn timers_by_the_clock_fire_when_it_comes_or_the_input_ends() {
    let (flow, sink) = (Dataflow::new("clock"), MemorySink::new());
    flow.source("in", Generator::new(20, |number| number).rate(200))
        .parallelism(1)
        .assign_timestamps(Watermarks::at_end(), |number| at(*number as i64))
        .key_by(|number| *number)
        .process(|input, context: &mut TimeContext<'_, u64, ()>, out: &mut Emitter<_>| {
            let now = context.processing_time();
            match input {
                Input::Record(0) => context.set_processing_timer(now + ms(10)),
                Input::Record(number) => context.set_processing_timer(now + ms(100_000 + number)),
                Input::EventTime => panic!("none was set"),
                Input::ProcessingTime => {
                    let ended = context.timestamp() > now;
                    context.set_processing_timer(now + ms(1_000_000));
                    push(out, (*context.key(), ended));
                }
            }
        })
        .sink("out", sink.clone());
    run(flow);
    let fired = sink.committed();
    assert_eq!(fired[0], (0, false), "its time came while records did");
    let rest: Vec<_> = (1..20).chain([0]).map(|number| (number, true)).collect();
    assert_eq!(fired[1..], rest, "the others at the end, in order, and each once");
}

/// SPEC 16.8, 16.9
#[test]
fn windows_fire_when_the_watermark_comes_to_their_last_moment() {
    let steps = [At(3), At(9), At(-1), Mark(8), At(10), Mark(9), At(12)];
    let (fired, _) = made(&steps, |stream, sink| {
        stream
            .key_by(|_| ())
            .window(Tumbling::of(ms(10)))
            .count()
            .with_timestamps()
            .map(|it| (it.at.millis(), bounds(it.value)))
            .sink("out", sink);
    });
    assert_eq!(fired, [(-1, (-10, 0, 1)), (9, (0, 10, 2)), (19, (10, 20, 2))]);

    let (sliding, _) = made(&[At(7), At(12), Mark(100)], |stream, sink| {
        let windows = stream.key_by(|_| ()).window(Sliding::of(ms(10), ms(5)));
        windows.count().map(bounds).sink("out", sink);
    });
    assert_eq!(sliding, [(0, 10, 1), (5, 15, 2), (10, 20, 1)]);
}

/// SPEC 16.9
#[test]
fn triggers_fire_when_they_say() {
    let steps = [At(1), At(2), At(3), At(4), At(5), Mark(100)];
    let (by_count, _) = made(&steps, |stream, sink| {
        let windows = stream.key_by(|_| ()).window(Tumbling::of(ms(10)));
        windows.trigger(EveryRecords::new(2)).count().map(bounds).sink("out", sink);
    });
    assert_eq!(by_count, [(0, 10, 2), (0, 10, 4)], "not at the end");

    let (purging, _) = made(&steps, |stream, sink| {
        let windows = stream.key_by(|_| ()).window(Tumbling::of(ms(10)));
        windows.trigger(Purging(EveryRecords::new(2))).count().map(bounds).sink("out", sink);
    });
    assert_eq!(purging, [(0, 10, 2), (0, 10, 2)]);

    let steps = [At(1), Mark(4), At(5), Mark(6), At(7), Mark(8), At(8), Mark(100)];
    let (so_far, _) = made(&steps, |stream, sink| {
        let windows = stream.key_by(|_| ()).window(Tumbling::of(ms(10)));
        windows.trigger(EveryEventTime::new(ms(3))).count().map(bounds).sink("out", sink);
    });
    assert_eq!(so_far, [(0, 10, 1), (0, 10, 2), (0, 10, 4)], "at 3, at 6, at the end");
}

/// SPEC 16.10
#[test]
fn late_records_fire_their_window_again_or_are_counted_or_kept() {
    let steps = [At(1), Mark(9), At(2), Mark(13), At(3), Mark(14), At(4), At(15)];
    let (fired, outcome) = made(&steps, |stream, sink| {
        let windows = stream.key_by(|_| ()).window(Tumbling::of(ms(10)));
        windows.allowed_lateness(ms(5)).count().map(bounds).sink("out", sink);
    });
    assert_eq!(fired, [(0, 10, 1), (0, 10, 2), (0, 10, 3), (10, 20, 1)]);
    let late: u64 = outcome.status.tasks.iter().map(|task| task.records_late).sum();
    assert_eq!(late, 1, "4 came after 9 + 5");

    let (flow, results, side) = (Dataflow::new("late"), MemorySink::new(), MemorySink::new());
    let (kept, late) = stream(&flow, "in", &steps)
        .key_by(|time| time % 2)
        .window(Tumbling::of(ms(10)))
        .keep_late()
        .count()
        .split();
    kept.map(|it| it.result).sink("results", results.clone());
    late.with_timestamps().sink("late", side.clone());
    let outcome = run(flow);
    assert_eq!(results.committed(), [1, 1]);
    let of = |time: i64| Timed { at: at(time), value: (time % 2, time) };
    assert_eq!(side.committed(), [of(2), of(3), of(4)]);
    assert!(outcome.status.tasks.iter().all(|task| task.records_late == 0), "none is dropped");
}

/// SPEC 16.11
#[test]
fn sessions_that_meet_become_one_and_fire_again() {
    let list = |steps: &[Step], lateness| {
        let (fired, _) = made(steps, |stream, sink| {
            stream
                .key_by(|_| ())
                .window(Session::gap(ms(10)))
                .allowed_lateness(ms(lateness))
                .process(|(), window, times: &[i64], out: &mut Emitter<_>| {
                    push(out, (window.start.millis(), window.end.millis(), times.to_vec()));
                })
                .sink("out", sink);
        });
        fired
    };
    // 11 is a gap after 1, which touches; 33 is more than a gap after 22.
    let fired = list(&[At(1), At(22), At(33), At(11), At(12), Mark(100)], 0);
    assert_eq!(fired, [(1, 32, vec![1, 11, 22, 12]), (33, 43, vec![33])]);
    // The first has fired when it is merged into a longer one; 2 falls into it and does not extend
    // it.
    let fired = list(&[At(1), At(5), Mark(14), At(12), Mark(21), At(2), Mark(100)], 30);
    let all = vec![1, 5, 12, 2];
    assert_eq!(fired, [(1, 15, vec![1, 5]), (1, 22, vec![1, 5, 12]), (1, 22, all)]);
    // A record that is late by itself is not late if it meets a session that is kept.
    let fired = list(&[At(20), At(16), Mark(18), At(7), Mark(100)], 0);
    assert_eq!(fired, [(7, 30, vec![20, 16, 7])], "its own window ended at 17");
}

/// SPEC 16.12
#[test]
fn records_within_bounds_of_each_other_are_joined() {
    let (flow, sink) = (Dataflow::new("join"), MemorySink::new());
    let left = stream(&flow, "left", &[At(10), At(20), Mark(30), At(29)]);
    let right = stream(&flow, "right", &[At(5), At(8), At(12), At(13), At(21), Mark(30)]);
    left.key_by(|_| ())
        .interval_join(right.key_by(|_| ()), Between::around(ms(2), ms(2)), |(), a, b| (*a, *b))
        .with_timestamps()
        .sink("out", sink.clone());
    run(flow);
    let mut joined = sink.committed();
    joined.sort_unstable();
    let of = |time, pair| Timed { at: at(time), value: pair };
    assert_eq!(joined, [of(10, (10, 8)), of(12, (10, 12)), of(21, (20, 21))]);
}

/// SPEC 16.2: with a watermark after every record, results are as exact as if the records came one
/// at a time.
#[test]
fn watermarks_after_every_record_are_exact_within_a_batch() {
    let seconds = |seconds: i64| at(seconds * 1_000);
    let run_with = |records: Vec<i64>| {
        let (flow, sink) = (Dataflow::new("exact"), MemorySink::new());
        let timers = |input: Input<i64>,
                      seen: &mut TimeContext<'_, (), ()>,
                      out: &mut Emitter<(char, i64)>| {
            let now = seen.timestamp().millis() / 1_000;
            match input {
                Input::Record(second) if seen.timestamp() <= seen.watermark() => {
                    push(out, ('l', second))
                }
                Input::Record(second) => {
                    push(out, ('r', second));
                    seen.set_timer(seen.timestamp() + ms(60_000));
                }
                _ => push(out, ('t', now)),
            }
        };
        flow.source("in", MemorySource::new(records))
            .parallelism(1)
            .assign_timestamps(Watermarks::bounded(ms(5_000)).every_record(), move |second| {
                seconds(*second)
            })
            .key_by(|_| ())
            .process(timers)
            .sink("out", sink.clone());
        run(flow);
        sink.committed()
    };
    let of = run_with(vec![0, 200, 5, 90, 195, 300]);
    let expected = [
        ('r', 0),
        ('r', 200),
        ('t', 60),
        ('l', 5),
        ('l', 90),
        ('r', 195),
        ('r', 300),
        ('t', 255),
        ('t', 260),
        ('t', 360),
    ];
    assert_eq!(of, expected, "195 s is just not late");
    assert_eq!(
        run_with(vec![0, 64, 65, 66]),
        [('r', 0), ('r', 64), ('r', 65), ('r', 66), ('t', 60), ('t', 124), ('t', 125), ('t', 126)]
    );
}

/// SPEC 16.13
#[test]
fn state_that_has_expired_is_forgotten() {
    let steps = [At(1), At(2), Mark(30), At(31), Mark(101), At(102)];
    let (once, _) = made(&steps, |stream, sink| {
        stream.key_by(|_| ()).distinct(ms(100)).sink("out", sink);
    });
    assert_eq!(once, [1, 102], "the watermark has come to 1 + 100");

    let (highest, _) = made(&[At(3), At(9), At(5), At(12)], |stream, sink| {
        let windows = stream.key_by(|_| ()).window(Tumbling::of(ms(10)));
        windows.highest(2, |time| *time).map(|it| it.result).sink("out", sink);
    });
    assert_eq!(highest, [vec![9, 5], vec![12]]);

    let counts = |after| {
        let (flow, sink) = (Dataflow::new("expiring"), MemorySink::new());
        let count = |_: Input<u64>, seen: &mut TimeContext<'_, (), u64>, out: &mut Emitter<u64>| {
            **seen += 1;
            push(out, **seen);
        };
        flow.source("in", Generator::new(4, |number| number).rate(20))
            .parallelism(1)
            .assign_timestamps(Watermarks::at_end(), |_| Timestamp::MIN)
            .key_by(|_| ())
            .process_with(Expiring::after(after, TimedClosure::new(count)))
            .sink("out", sink.clone());
        run(flow);
        sink.committed()
    };
    assert_eq!(counts(ms(100_000)), [1, 2, 3, 4]);
    // The rate may emit the first two at once.
    assert_eq!(counts(ms(1))[2..], [1, 1]);
}
