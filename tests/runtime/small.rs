//! Small operators: their output for a few records.

use std::time::Duration;

use snapline::connect::{Discard, Generator, MemorySink, MemorySource};
use snapline::store::MemoryStore;
use snapline::{
    Dataflow, Emit, Emitter, Ended, Expiring, Input, JobConfig, JobError, KeyedStream, Pipe,
    SumError, TimeContext, TimedClosure,
};

use crate::kit::{assert_ended, in_memory, ms, until, wait};

/// The output for numbers of one key.
fn made<T, O, P>(
    numbers: Vec<T>,
    operator: impl FnOnce(
        KeyedStream<
            snapline::FromSource<MemorySource<T>, snapline::Identity<T>>,
            snapline::ByFn<(), fn(&T)>,
        >,
    ) -> snapline::Stream<P>,
) -> Result<Vec<O>, JobError>
where
    T: Clone + Send + Sync + 'static,
    O: Clone + Send + 'static,
    P: Pipe<Out = ((), O)>,
{
    let (flow, sink) = (Dataflow::new("small"), MemorySink::new());
    let by: fn(&T) = |_| ();
    let keyed = flow.source("in", MemorySource::new(numbers)).parallelism(1).key_by(by);
    operator(keyed).map(|((), made)| made).sink("out", sink.clone());
    let config = JobConfig::new().parallelism(1).restart(snapline::Restart::Never);
    flow.build(config).expect("builds").run().map(|_| sink.committed())
}

#[test]
fn sums_averages_and_extremes_are_of_each_change_or_of_the_end() {
    let all = || vec![3_i32, -5, 7];
    let each = Emit::EachChange;
    assert_eq!(made(all(), |keyed| keyed.sum(each, |n| *n)).expect("it runs"), [3, -2, 5]);
    assert_eq!(made(all(), |keyed| keyed.min(each, |n| *n)).expect("it runs"), [3, -5, -5]);
    assert_eq!(made(all(), |keyed| keyed.max(each, |n| *n)).expect("it runs"), [3, 3, 7]);
    let averages = made(all(), |keyed| keyed.average(each, |n| *n)).expect("it runs");
    assert_eq!(averages, [3.0, -1.0, 5.0 / 3.0]);
    let end = Emit::AtEnd;
    assert_eq!(made(all(), |keyed| keyed.sum(end, |n| i64::from(*n))).expect("it runs"), [5_i64]);
    assert_eq!(made(all(), |keyed| keyed.min(end, |n| *n)).expect("it runs"), [-5]);
    assert_eq!(made(all(), |keyed| keyed.max(end, |n| n.to_string())).expect("it runs"), ["7"]);
    assert_eq!(made(all(), |keyed| keyed.average(end, |n| *n)).expect("it runs"), [5.0 / 3.0]);
    let none = made(Vec::<i32>::new(), |keyed| keyed.average(end, |n| *n)).expect("it runs");
    assert_eq!(none, [] as [f64; 0], "there is no key");
}

#[test]
fn a_sum_beyond_its_type_fails_the_task() {
    let failed = |result: Result<Vec<u8>, JobError>| match result {
        Err(JobError::Failed(failure)) => failure.to_string(),
        other => panic!("{other:?}"),
    };
    let all = || vec![200_u8, 55, 1];
    let text = failed(made(all(), |keyed| keyed.sum(Emit::AtEnd, |n| *n)));
    assert!(text.contains("overflows `u8`: 255 plus 1"), "{text}");
    let average = made(all(), |keyed| keyed.average(Emit::AtEnd, |n| *n));
    assert!(matches!(average, Err(JobError::Failed(_))), "{average:?}");
    let least = made(vec![i64::MIN, -1], |keyed| keyed.sum(Emit::AtEnd, |n| *n));
    assert!(matches!(least, Err(JobError::Failed(_))), "{least:?}");
    let floats = made(vec![f64::MAX, f64::MAX], |keyed| keyed.sum(Emit::AtEnd, |n| *n));
    assert!(matches!(floats, Err(JobError::Failed(_))), "{floats:?}");
    let infinite = made(vec![f64::INFINITY, 1.0], |keyed| keyed.sum(Emit::AtEnd, |n| *n));
    assert_eq!(infinite.expect("it was not finite before"), [f64::INFINITY]);
    let _: Option<SumError> = None;
}

#[test]
fn streams_are_split_into_as_many_as_are_asked_for() {
    let (flow, sinks) = (Dataflow::new("sorted"), [(); 4].map(|()| MemorySink::new()));
    let streams = flow
        .source("in", Generator::new(20, |number| number))
        .split_into::<4, _>(|number| (*number % 4) as usize);
    for (number, (stream, sink)) in streams.into_iter().zip(&sinks).enumerate() {
        stream.print("split").sink(&format!("out-{number}"), sink.clone());
    }
    flow.build(JobConfig::new().parallelism(1)).expect("builds").run().expect("it runs");
    for (number, sink) in sinks.iter().enumerate() {
        let expected: Vec<u64> = (0..20).filter(|n| *n % 4 == number as u64).collect();
        assert_eq!(sink.committed(), expected);
    }
    let flow = Dataflow::new("beyond");
    let streams = flow.source("in", MemorySource::new(vec![0, 2])).split_into::<2, _>(|n| *n);
    let names = ["low", "high"];
    streams.into_iter().zip(names).for_each(|(stream, name)| stream.sink(name, Discard::new()));
    let config = JobConfig::new().parallelism(1).restart(snapline::Restart::Never);
    let failed = flow.build(config).expect("builds").run();
    let Err(JobError::Failed(failure)) = failed else { panic!("{failed:?}") };
    assert!(failure.to_string().contains("stream 2 for a record, but there are 2"), "{failure}");
}

/// Without timestamps, across a restore: the state and the timer are restored.
#[test]
fn timers_by_the_clock_need_no_timestamps() {
    let (store, sink) = (MemoryStore::new(), MemorySink::new());
    let start = || {
        let flow = Dataflow::new("timers");
        let count = |input: Input<u64>,
                     seen: &mut TimeContext<'_, u64, u64>,
                     out: &mut Emitter<(u64, u64)>| {
            use snapline::connect::Collect;
            match input {
                Input::Record(_) if **seen == 0 => {
                    **seen += 1;
                    let soon = seen.processing_time() + ms(50);
                    seen.set_processing_timer(soon);
                }
                Input::Record(_) => **seen += 1,
                _ => out.push((*seen.key(), **seen)),
            }
        };
        flow.source("in", Generator::new(None, |number| number).rate(500))
            .parallelism(1)
            .key_by(|number| number % 3)
            .process_with_timers(Expiring::after(Duration::MAX, TimedClosure::new(count)))
            .sink("out", sink.clone());
        flow.build(in_memory(&store).parallelism(1)).expect("builds").spawn().expect("starts")
    };
    let handle = start();
    until("a checkpoint is complete", || handle.status().completed > 0);
    handle.suspend();
    assert_ended(wait(handle), Ended::Suspended);
    let handle = start();
    until("each key's timer has fired", || sink.committed().len() >= 3);
    handle.suspend();
    assert_ended(wait(handle), Ended::Suspended);
    let mut keys: Vec<u64> = sink.committed().into_iter().map(|(key, _)| key).collect();
    keys.sort_unstable();
    assert_eq!(keys, [0, 1, 2], "once each");
}
