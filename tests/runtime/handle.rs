//! The handle of a running job: its status and its commands.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use snapline::connect::{ForEach, Generator, MemorySink, MemorySource};
use snapline::store::{MemoryStore, Store};
use snapline::{CheckpointFailed, Dataflow, Emit, Ended, JobConfig, JobPhase, Resume};

use crate::kit::{
    Moody, assert_ended, assert_numbers, config, in_memory, ms, numbers, until, wait,
};

#[test]
fn a_status_tells_what_is_going_on() {
    let sink = MemorySink::new();
    let handle = numbers(None, sink.clone(), config().checkpoint_interval(None));
    until("records were read", || {
        let status = handle.status();
        status.phase == JobPhase::Running && status.tasks.iter().any(|task| task.records_in > 0)
    });
    let status = handle.status();
    let names: Vec<&str> = status.tasks.iter().map(|task| task.subtask.as_str()).collect();
    assert_eq!(names, ["in.0", "in.1", "out.0", "out.1"]);
    assert_eq!((status.completed, status.newest_checkpoint), (0, None));
    assert_eq!((status.restarts, status.restored_from), (0, None));
    assert!(status.attempt.is_some() && status.history.is_empty());

    let checkpoint = handle.checkpoint().expect("it completes");
    until("it is in the history", || handle.status().completed == 1);
    let status = handle.status();
    assert_eq!(status.newest_checkpoint, Some(checkpoint));
    let stats = &status.history[0];
    assert!(stats.completed && stats.checkpoint == checkpoint && stats.missing.is_empty());
    assert_eq!(stats.acknowledged.len(), 4);
    assert!(stats.written() > 0);
    until("its output is committed", || sink.committed_count() > 0);

    handle.suspend();
    let outcome = assert_ended(wait(handle), Ended::Suspended);
    assert_eq!(outcome.status.phase, JobPhase::Ended);
    assert_eq!(outcome.status.completed, 2);
}

#[test]
fn checkpoints_by_hand_come_one_by_one() {
    let handle = numbers(None, MemorySink::new(), config().checkpoint_interval(None));
    let first = handle.checkpoint().expect("completes");
    let second = handle.checkpoint().expect("completes");
    assert!(first < second);
    handle.cancel();
    until("it is over", || handle.is_over());
    assert_eq!(handle.checkpoint(), Err(CheckpointFailed::JobEnded));
    assert_ended(wait(handle), Ended::Cancelled);
}

#[test]
fn a_suspended_job_goes_on() {
    let (store, sink) = (MemoryStore::new(), MemorySink::new());
    let handle = numbers(10_000, sink.clone(), in_memory(&store).checkpoint_interval(None));
    until("something was read", || handle.status().tasks.iter().any(|task| task.records_in > 500));
    handle.suspend();
    assert_ended(wait(handle), Ended::Suspended);
    let half = sink.committed_count();
    assert!((500..10_000).contains(&half), "{half} committed");
    let outcome = wait(numbers(10_000, sink.clone(), in_memory(&store)));
    assert!(assert_ended(outcome, Ended::Finished).status.restored_from.is_some());
    assert_numbers(&sink, 10_000);
}

#[test]
fn a_suspended_job_that_is_not_to_resume_stays_so() {
    let (store, sink) = (MemoryStore::new(), MemorySink::new());
    let handle = numbers(10_000, sink.clone(), in_memory(&store));
    until("something was committed", || sink.committed_count() > 0);
    handle.suspend();
    assert_ended(wait(handle), Ended::Suspended);
    let half = sink.committed();
    let never = in_memory(&store).resume(Resume::Never);
    assert_ended(wait(numbers(10_000, sink.clone(), never)), Ended::Suspended);
    assert_eq!(sink.committed(), half);
}

#[test]
fn a_drained_job_is_over() {
    let (store, sink) = (MemoryStore::new(), MemorySink::new());
    let handle = numbers(None, sink.clone(), in_memory(&store));
    until("something was committed", || sink.committed_count() > 0);
    handle.drain();
    let outcome = assert_ended(wait(handle), Ended::Drained);
    let read: u64 = outcome.status.tasks[..2].iter().map(|task| task.records_in).sum();
    let before = sink.committed();
    assert_eq!(before.len() as u64, read, "all that was read is committed");
    assert_ended(wait(numbers(None, sink.clone(), in_memory(&store))), Ended::Drained);
    assert_eq!(sink.committed(), before, "nothing is done twice");
}

/// SPEC 7.4: a drain has ended the input, and nothing is left to resume.
#[test]
fn a_drained_job_stays_over_even_if_it_is_resumed() {
    let (store, sink) = (MemoryStore::new(), MemorySink::new());
    let handle = numbers(10_000, sink.clone(), in_memory(&store));
    until("something was committed", || sink.committed_count() > 0);
    handle.drain();
    let outcome = assert_ended(wait(handle), Ended::Drained);
    let before = sink.committed();
    let newest = outcome.status.newest_checkpoint.expect("the one that drained it");
    let again = in_memory(&store).resume(Resume::From(newest));
    assert_ended(wait(numbers(10_000, sink.clone(), again)), Ended::Drained);
    assert_eq!(sink.committed(), before);
}

#[test]
fn a_suspended_job_resumes_from_the_checkpoint_named_and_no_other() {
    let (store, sink) = (MemoryStore::new(), MemorySink::new());
    let handle = numbers(10_000, sink.clone(), in_memory(&store));
    until("something was committed", || sink.committed_count() > 0);
    handle.suspend();
    let outcome = assert_ended(wait(handle), Ended::Suspended);
    let newest = outcome.status.newest_checkpoint.expect("the one that suspended it");
    let other = in_memory(&store).resume(Resume::From(newest.plus(1)));
    assert_ended(wait(numbers(10_000, sink.clone(), other)), Ended::Suspended);
    let this = in_memory(&store).resume(Resume::From(newest));
    assert_ended(wait(numbers(10_000, sink.clone(), this)), Ended::Finished);
    assert_numbers(&sink, 10_000);
}

#[test]
fn a_drain_brings_the_results_of_a_bounded_input() {
    let sink = MemorySink::new();
    let flow = Dataflow::new("drained");
    flow.source("in", Generator::new(None, |number| (number % 10, number)).rate(20_000))
        .keyed()
        .count(Emit::AtEnd)
        .sink("out", sink.clone());
    let handle = flow.build(config()).expect("builds").spawn().expect("starts");
    until("all keys came", || handle.status().tasks.iter().any(|task| task.records_in > 100));
    handle.drain();
    assert_ended(wait(handle), Ended::Drained);
    assert_eq!(sink.committed().len(), 10);
}

#[test]
fn a_cancelled_job_resumes_from_its_newest_checkpoint() {
    let (store, sink) = (MemoryStore::new(), MemorySink::new());
    let handle = numbers(10_000, sink.clone(), in_memory(&store));
    until("a checkpoint is complete", || handle.status().completed > 1);
    handle.cancel();
    assert_ended(wait(handle), Ended::Cancelled);
    assert_ended(wait(numbers(10_000, sink.clone(), in_memory(&store))), Ended::Finished);
    assert_numbers(&sink, 10_000);
}

#[test]
fn a_finished_job_is_finished_at_once() {
    let (store, sink) = (MemoryStore::new(), MemorySink::new());
    assert_ended(wait(numbers(500, sink.clone(), in_memory(&store))), Ended::Finished);
    let newest = store.manifests().expect("memory is readable");
    let outcome = wait(numbers(500, sink.clone(), in_memory(&store)));
    assert_eq!(assert_ended(outcome, Ended::Finished).status.completed, 0);
    assert_numbers(&sink, 500);
    assert_eq!(store.manifests().expect("memory is readable"), newest);
}

/// Suspended after the end of its input, a job is over: otherwise a caller that runs it until it
/// has finished would never see that.
#[test]
fn a_job_suspended_at_its_end_has_finished() {
    let (store, sink) = (MemoryStore::new(), MemorySink::new());
    let store = Moody { store, ..Default::default() };
    // The checkpoint that would finish it fails until the stop has arrived.
    store.moods.refused_blobs.store(u32::MAX, Ordering::Relaxed);
    let config = || config().storage(store.storage()).tolerable_failures(u32::MAX);
    let handle = numbers(100, sink.clone(), config());
    until("the input has ended", || {
        let tasks = handle.status().tasks;
        tasks.iter().take(2).map(|task| task.records_in).sum::<u64>() == 100
            && handle.status().failed > 1
    });
    handle.suspend();
    std::thread::sleep(ms(20));
    store.moods.refused_blobs.store(0, Ordering::Relaxed);
    assert_ended(wait(handle), Ended::Finished);
    assert_ended(wait(numbers(100, sink.clone(), config())), Ended::Finished);
    assert_numbers(&sink, 100);
}

#[test]
fn a_job_outlives_its_handle() {
    let sink = MemorySink::new();
    drop(numbers(200, sink.clone(), config()));
    until("it has finished by itself", || sink.committed_count() == 200);
}

#[test]
fn no_input_is_an_input() {
    let sink = MemorySink::new();
    let flow = Dataflow::new("empty");
    flow.source("in", MemorySource::<(u64, i64)>::new(Vec::new()))
        .keyed()
        .count(Emit::AtEnd)
        .sink("out", sink.clone());
    assert_ended(
        wait(flow.build(config()).expect("builds").spawn().expect("starts")),
        Ended::Finished,
    );
    assert_eq!(sink.committed(), []);
}

#[test]
fn more_subtasks_than_records() {
    let sink = MemorySink::new();
    let flow = Dataflow::new("wide");
    flow.source("in", MemorySource::new(vec![(1u64, 1i64), (1, 2), (2, 3)]))
        .parallelism(16)
        .keyed()
        .aggregate(Emit::AtEnd, |sum: &mut i64, value| *sum += value)
        .parallelism(9)
        .sink("out", sink.clone());
    let config = config().workers(3);
    assert_ended(
        wait(flow.build(config).expect("builds").spawn().expect("starts")),
        Ended::Finished,
    );
    let mut found = sink.committed();
    found.sort_unstable();
    assert_eq!(found, [(1, 3), (2, 3)]);
}

/// A channel holds 16 batches of at most 1024 records; a slow sink stops the source soon after.
#[test]
fn a_slow_sink_holds_the_source_back() {
    const CHANNEL: u64 = 16 * 1024;
    let (made, taken) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
    let (making, taking) = (Arc::clone(&made), Arc::clone(&taken));
    let sink = ForEach::new(move |_: &u64| {
        if taking.fetch_add(1, Ordering::SeqCst).is_multiple_of(1024) {
            std::thread::sleep(ms(2));
        }
    });
    let flow = Dataflow::new("slow");
    let source = Generator::new(None, move |number| {
        making.fetch_add(1, Ordering::SeqCst);
        number
    });
    // One source and two sinks: the second is on another thread and gets every other batch.
    flow.source("in", source).parallelism(1).sink("out", sink);
    let config = JobConfig::new().parallelism(2).workers(2).checkpoint_interval(ms(10));
    let handle = flow.build(config).expect("builds").spawn().expect("starts");
    let begin = Instant::now();
    while begin.elapsed() < ms(400) {
        // In this order: records taken in between only make the difference smaller.
        let taken = taken.load(Ordering::SeqCst);
        let now = made.load(Ordering::SeqCst);
        let under_way = now - taken;
        // Two channels, and for each a batch being filled, one waiting for room and one being read;
        // twice that for records that move in between.
        assert!(under_way <= 4 * CHANNEL + 12 * 1024, "{under_way} records under way");
        std::thread::sleep(ms(1));
    }
    assert!(made.load(Ordering::SeqCst) > CHANNEL, "the channels were filled");
    handle.cancel();
    assert_ended(wait(handle), Ended::Cancelled);
}

#[test]
fn checkpoints_keep_their_distance() {
    let pause = ms(100);
    let handle =
        numbers(None, MemorySink::new(), config().checkpoint_interval(ms(1)).min_pause(pause));
    let begin = Instant::now();
    until("a few are complete", || handle.status().completed >= 3);
    // Between three checkpoints are two pauses. The additional time depends on the machine.
    assert!(begin.elapsed() >= 2 * pause, "three within {:?}", begin.elapsed());
    handle.cancel();
    assert_ended(wait(handle), Ended::Cancelled);
}

/// With two concurrent checkpoints and an interval shorter than a checkpoint, a newer one is always
/// in flight when one completes. None would then be the last (SPEC 4.9).
#[test]
fn checkpoints_that_overlap_come_to_an_end_with_the_input() {
    let (store, sink) = (Moody::default(), MemorySink::new());
    store.moods.slow_blobs.store(10, Ordering::Relaxed);
    let config = config().checkpoint_interval(ms(1)).max_concurrent_checkpoints(2);
    let outcome = wait(numbers(500, sink.clone(), config.storage(store.storage())));
    assert_ended(outcome, Ended::Finished);
    assert_numbers(&sink, 500);
}
