//! Records that are looked up outside: what is in flight, in which order they go on, and what is done when nobody answers.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use snapline::connect::{Generator, MemorySink, MemorySource};
use snapline::{
    BoxError, Dataflow, Ended, JobConfig, JobError, Lookup, LookupError, LookupSource, Outcome,
    Restart, Timestamp, Tumbling, Watermarks,
};

use crate::kit::{Moody, assert_ended, config, ms, patient, until, wait};

/// Looks up the numbers below, in one subtask.
fn run<S: LookupSource<u64, Found = u64>>(
    numbers: u64,
    lookup: Lookup<u64, S>,
    config: JobConfig,
) -> (Vec<(u64, u64)>, Result<Outcome, JobError>) {
    let (flow, out) = (Dataflow::new("looked-up"), MemorySink::new());
    flow.source("in", MemorySource::new((0..numbers).collect()))
        .lookup(lookup)
        .sink("out", out.clone());
    let handle = flow.build(config.parallelism(1)).expect("builds").spawn().expect("starts");
    let outcome = wait(handle);
    (out.committed(), outcome)
}

fn tenfold(numbers: u64) -> Vec<(u64, u64)> {
    (0..numbers).map(|number| (number, number * 10)).collect()
}

/// Early numbers take longer than later ones.
fn slow_first(number: &u64) -> Result<u64, BoxError> {
    std::thread::sleep(Duration::from_micros((97 - number * 31 % 97) * 20));
    Ok(number * 10)
}

#[test]
fn ordered_answers_go_on_in_the_order_of_the_records() {
    let (found, outcome) = run(500, Lookup::ordered(slow_first).in_flight(8), config());
    assert_ended(outcome, Ended::Finished);
    assert_eq!(found, tenfold(500));
}

#[test]
fn unordered_answers_go_on_as_they_come() {
    let (mut found, outcome) = run(500, Lookup::unordered(slow_first).in_flight(8), config());
    assert_ended(outcome, Ended::Finished);
    assert_ne!(found, tenfold(500), "some came early");
    found.sort_unstable();
    assert_eq!(found, tenfold(500));
}

#[test]
fn no_more_than_may_be_are_in_flight_and_as_many_are() {
    let flying = Arc::new((AtomicUsize::new(0), AtomicUsize::new(0)));
    let counts = Arc::clone(&flying);
    let look_up = move |number: &u64| -> Result<u64, BoxError> {
        let now = counts.0.fetch_add(1, Ordering::SeqCst) + 1;
        counts.1.fetch_max(now, Ordering::SeqCst);
        std::thread::sleep(ms(2));
        counts.0.fetch_sub(1, Ordering::SeqCst);
        Ok(number * 10)
    };
    let (found, outcome) = run(200, Lookup::ordered(look_up).in_flight(5), config());
    assert_ended(outcome, Ended::Finished);
    assert_eq!(found, tenfold(200));
    assert_eq!(flying.1.load(Ordering::SeqCst), 5);
}

#[test]
fn a_call_that_fails_is_made_again_and_then_fails_the_task() {
    let calls = Arc::new(AtomicUsize::new(0));
    let failing = |times: usize| {
        let calls = Arc::clone(&calls);
        calls.store(0, Ordering::SeqCst);
        move |number: &u64| -> Result<u64, BoxError> {
            if *number == 3 && calls.fetch_add(1, Ordering::SeqCst) < times {
                return Err("not now".into());
            }
            Ok(number * 10)
        }
    };
    let (found, outcome) = run(9, Lookup::ordered(failing(2)).tries(3, ms(1)), config());
    assert_ended(outcome, Ended::Finished);
    assert_eq!((found, calls.load(Ordering::SeqCst)), (tenfold(9), 3));

    let (found, outcome) = run(9, Lookup::ordered(failing(3)).tries(3, ms(1)), config());
    let JobError::Failed(failure) = outcome.expect_err("fails") else { panic!("a task's failure") };
    let told = failure.to_string();
    assert!(told.contains("operator `lookup`") && told.contains("looked up 3 times"), "{told}");
    assert!(told.contains("not now") && found.is_empty(), "{told}");
}

#[test]
fn a_panic_is_a_failed_call() {
    let panics = |number: &u64| -> Result<u64, BoxError> {
        assert_ne!(*number, 3, "planned");
        Ok(number * 10)
    };
    crate::wild::quiet();
    let instead = Lookup::ordered(panics).otherwise(|_, error| match error {
        LookupError::Failed { cause, .. } if cause.to_string().contains("planned") => Ok(7),
        other => Err(other.into()),
    });
    let (found, outcome) = run(9, instead, config());
    assert_ended(outcome, Ended::Finished);
    assert_eq!(found[3], (3, 7));
}

#[test]
fn who_does_not_answer_in_time_is_given_up() {
    let hangs = |number: &u64| -> Result<u64, BoxError> {
        if number.is_multiple_of(4) {
            std::thread::sleep(Duration::from_secs(8));
        }
        Ok(number * 10)
    };
    let lookup = || Lookup::ordered(hangs).in_flight(12).timeout(ms(1_000));
    let begun = Instant::now();
    let instead = lookup().otherwise(|number, error| match error {
        LookupError::TimedOut { tries: 1, .. } => Ok(number + 1000),
        other => Err(other.into()),
    });
    let (found, outcome) = run(10, instead, config());
    assert_ended(outcome, Ended::Finished);
    let instead = |number: u64| if number.is_multiple_of(4) { number + 1000 } else { number * 10 };
    assert!(found.into_iter().eq((0..10).map(|number| (number, instead(number)))));
    assert!(begun.elapsed() < ms(7_000), "nobody waited for the calls");

    let (_, outcome) = run(10, lookup(), config());
    let told = outcome.expect_err("fails").to_string();
    assert!(told.contains("no answer came within 1s"), "{told}");
}

#[test]
fn watermarks_are_passed_by_no_record() {
    for ordered in [true, false] {
        let (flow, out) = (Dataflow::new("timed"), MemorySink::new());
        let lookup = if ordered { Lookup::ordered } else { Lookup::unordered };
        let (counts, late) = flow
            .source("in", MemorySource::new((0..2000_u64).collect()))
            .parallelism(1)
            .assign_timestamps(Watermarks::monotonous().in_steps_of(ms(5)), |number| {
                Timestamp::from_millis(*number as i64)
            })
            .lookup(lookup(slow_first as fn(&u64) -> Result<u64, BoxError>).in_flight(12))
            .parallelism(1)
            .key_by(|(number, _)| number % 3)
            .window(Tumbling::of(ms(100)))
            .keep_late()
            .count()
            .split();
        counts.map(|it| it.result).sink("out", out.clone());
        let lates = MemorySink::new();
        late.map(|(_, late)| late.0).sink("late", lates.clone());
        let job = flow.build(config()).expect("builds");
        assert_ended(wait(job.spawn().expect("starts")), Ended::Finished);
        assert_eq!(lates.committed_count(), 0, "a record that was passed would be late");
        assert_eq!(out.committed().into_iter().sum::<u64>(), 2000);
    }
}

/// Records that no answer had come for when the newest checkpoint was taken are asked about again, and go on once and in their order.
#[test]
fn what_is_in_flight_at_a_barrier_is_asked_again_behind_a_failure() {
    let asked = Arc::new(Mutex::new(Vec::new()));
    let sees = Arc::clone(&asked);
    let look_up = move |number: &u64| -> Result<u64, BoxError> {
        let times = {
            let mut asked = sees.lock().expect("nobody panics");
            asked.push(*number);
            asked.iter().filter(|it| *it == number).count()
        };
        std::thread::sleep(ms(1));
        if matches!((number, times), (400 | 900, 1)) {
            // Long enough for checkpoints with all that is behind it in flight.
            std::thread::sleep(ms(60));
            return Err("gone".into());
        }
        Ok(number * 10)
    };
    let (flow, out) = (Dataflow::new("asked-again"), MemorySink::new());
    flow.source("in", Generator::new(1200, |number| number).rate(8_000))
        .lookup(Lookup::ordered(look_up).in_flight(16))
        .sink("out", out.clone());
    let job = flow.build(config().parallelism(1).restart(patient())).expect("builds");
    let outcome = wait(job.spawn().expect("starts"));
    let found = out.committed();
    let outcome = assert_ended(outcome, Ended::Finished);
    assert_eq!(found, tenfold(1200));
    assert_eq!(outcome.status.restarts, 2);
    let asked = asked.lock().expect("nobody panics").len();
    assert!(
        (1202..2400).contains(&asked),
        "{asked}: from the checkpoint on, and not from the beginning"
    );
}

/// Nobody waits for the thread that hangs, and it keeps nothing of the job alive: when the job is over nobody writes to its store, and
/// another can have it.
#[test]
fn a_call_that_hangs_keeps_no_job_from_its_end() {
    let hanging = Arc::new(AtomicUsize::new(0));
    let hung = Arc::clone(&hanging);
    let hangs = move |number: &u64| -> Result<u64, BoxError> {
        if *number == 0 {
            hung.store(1, Ordering::SeqCst);
            std::thread::sleep(Duration::from_secs(3600));
        }
        Ok(number * 10)
    };
    let store = Moody::default();
    store.moods.slow_blobs.store(300, Ordering::Relaxed);
    let (flow, out) = (Dataflow::new("hangs"), MemorySink::new());
    flow.source("in", Generator::new(None, |number| number).rate(100))
        .lookup(Lookup::ordered(hangs).in_flight(10_000))
        .sink("out", out.clone());
    let config = config().parallelism(1).restart(Restart::Never).storage(store.storage());
    let handle = flow.build(config).expect("builds").spawn().expect("starts");
    until("it hangs", || hanging.load(Ordering::SeqCst) == 1);
    until("a blob is written", || store.moods.being_slow.load(Ordering::Relaxed) > 0);
    handle.cancel();
    assert_ended(wait(handle), Ended::Cancelled);
    assert_eq!(Arc::strong_count(&store.moods), 1, "who else has the store?");
}
