//! Stores that are slow, broken, or owned by another job.

use std::sync::atomic::Ordering;

use snapline::connect::{Generator, MemorySink};
use snapline::store::{StoreError, Takeover};
use snapline::{Dataflow, Ended, JobConfig, JobError, Restart, Storage};

use crate::kit::{Moody, assert_ended, assert_numbers, config, ms, numbers, patient, until, wait};

#[test]
fn a_checkpoint_that_takes_too_long_is_given_up() {
    let (store, sink) = (Moody::default(), MemorySink::new());
    store.moods.slow_blobs.store(100, Ordering::Relaxed);
    let config =
        config().storage(store.storage()).checkpoint_timeout(ms(20)).tolerable_failures(1_000_000);
    let handle = numbers(20_000, sink.clone(), config);
    until("one is given up", || handle.status().failed > 0);
    let status = handle.status();
    let given_up = status.history.iter().find(|stats| !stats.completed).expect("in the history");
    assert!(given_up.missing.contains(&"in.1".to_owned()), "{given_up:?}");
    assert!(!given_up.acknowledged.iter().any(|stats| stats.subtask == "in.1"), "{given_up:?}");
    let why = "it was not complete within 20ms (`checkpoint_timeout`)";
    assert_eq!(given_up.cause.as_deref(), Some(why));
    assert!(status.last_failure.is_some_and(|text| text.contains(why)));
    store.moods.slow_blobs.store(0, Ordering::Relaxed);
    let outcome = assert_ended(wait(handle), Ended::Finished);
    assert_eq!(outcome.status.restarts, 0, "the job goes on");
    assert_numbers(&sink, 20_000);
}

#[test]
fn too_many_failed_checkpoints_restart_the_job() {
    let (store, sink) = (Moody::default(), MemorySink::new());
    store.moods.refused_blobs.store(40, Ordering::Relaxed);
    let config = config().storage(store.storage()).tolerable_failures(2).restart(patient());
    let handle = numbers(5_000, sink.clone(), config);
    let outcome = assert_ended(wait(handle), Ended::Finished);
    assert!(outcome.status.restarts > 0, "{:?}", outcome.status);
    assert_numbers(&sink, 5_000);
}

#[test]
fn too_many_failed_checkpoints_fail_a_job_that_is_not_restarted() {
    let store = Moody::default();
    store.moods.refused_blobs.store(u32::MAX, Ordering::Relaxed);
    let config = config().storage(store.storage()).tolerable_failures(2);
    match wait(numbers(None, MemorySink::new(), config)) {
        Err(ref error @ JobError::Checkpoints { ref missing, ref cause }) => {
            assert!(!missing.is_empty() && error.to_string().contains(&missing[0]), "{error}");
            assert!(
                cause.as_ref().is_some_and(|cause| cause.contains("the disk is in a mood")),
                "{error}"
            );
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn checkpoints_that_can_never_be_written_cost_no_restarts() {
    let store = Moody::default();
    store.moods.read_only_blobs.store(u32::MAX, Ordering::Relaxed);
    let restart = Restart::Fixed { attempts: 10, pause: ms(36_000_000) };
    let config = config().storage(store.storage()).tolerable_failures(2).restart(restart);
    let handle = numbers(None, MemorySink::new(), config);
    match wait(handle) {
        Err(ref error @ JobError::Checkpoints { ref cause, .. }) => {
            let cause = cause.as_deref().unwrap_or_default();
            assert!(cause.contains("could not write its snapshot"), "{error}");
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn manifests_that_fail_are_given_up_or_asked_for_again() {
    let (store, sink) = (Moody::default(), MemorySink::new());
    store.moods.refused_manifests.store(2, Ordering::Relaxed);
    store.moods.unknown_manifests.store(3, Ordering::Relaxed);
    let config = config().storage(store.storage()).tolerable_failures(2);
    let outcome = assert_ended(wait(numbers(5_000, sink.clone(), config)), Ended::Finished);
    assert_eq!((outcome.status.failed, outcome.status.restarts), (2, 0));
    assert_numbers(&sink, 5_000);
}

#[test]
fn a_store_that_cannot_be_claimed_is_the_users_to_mend() {
    let store = Moody::default();
    store.moods.refused_claims.store(1, Ordering::Relaxed);
    match wait(numbers(100, MemorySink::new(), config().storage(store.storage()))) {
        Err(error @ JobError::Store(StoreError::Io { .. })) => {
            assert!(error.to_string().contains("the disk is in a mood"), "{error}");
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_directory_is_one_job_s() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let sink = MemorySink::new();
    let first = numbers(None, sink.clone(), config().directory(directory.path()));
    until("it has begun", || first.status().completed > 0);
    let flow = Dataflow::new("numbers");
    flow.source("in", Generator::new(10, |number| number)).sink("out", sink.clone());
    let second = flow.build(config().directory(directory.path())).expect("builds").spawn();
    match second {
        Err(ref error @ JobError::Store(StoreError::InUse { .. })) => {
            assert!(error.to_string().contains("in use by"), "{error}");
        }
        other => panic!("{other:?}"),
    }
    first.suspend();
    assert_ended(wait(first), Ended::Suspended);
    // Released with the job: the next one may have it at once.
    let third = numbers(None, sink, config().directory(directory.path()));
    third.cancel();
    assert_ended(wait(third), Ended::Cancelled);
}

#[test]
fn a_deposed_job_changes_nothing_any_more() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let storage = |takeover| Storage::Directory { path: directory.path().into(), takeover };
    let sink = MemorySink::new();
    let first = numbers(20_000, sink.clone(), config().storage(storage(Takeover::Refuse)));
    until("it has committed something", || sink.committed_count() > 0);
    let second = numbers(20_000, sink.clone(), config().storage(storage(Takeover::Depose)));
    match wait(first) {
        Err(error @ JobError::Deposed) => assert!(error.to_string().contains("took over")),
        other => panic!("{other:?}"),
    }
    assert_ended(wait(second), Ended::Finished);
    assert_numbers(&sink, 20_000);
}

/// With one subtask per core it would not be the job of the checkpoint.
#[test]
fn a_store_that_cannot_be_read_at_the_start_fails_the_job_and_changes_no_parallelism() {
    let (store, sink) = (Moody::default(), MemorySink::new());
    let config = || JobConfig::new().checkpoint_interval(ms(5)).storage(store.storage());
    let handle = numbers(None, sink.clone(), config().parallelism(3));
    until("a checkpoint is complete", || handle.status().completed > 0);
    handle.suspend();
    assert_ended(wait(handle), Ended::Suspended);
    for refused in [&store.moods.refused_lists, &store.moods.refused_reads] {
        refused.store(1, Ordering::Relaxed);
        let flow = Dataflow::new("numbers");
        flow.source("in", Generator::new(None, |number| number)).sink("out", sink.clone());
        match flow.build(config().restart(Restart::Never)).expect("builds").spawn() {
            Err(JobError::Store(error)) => {
                assert!(error.to_string().contains("the disk is in a mood"), "{error}");
            }
            other => panic!("{:?}", other.map(wait)),
        }
    }
    let handle = numbers(None, sink, config().restart(Restart::Never));
    until("it is restored", || handle.status().restored_from.is_some());
    assert_eq!(handle.status().tasks.iter().filter(|task| task.operator == "in").count(), 3);
    handle.cancel();
    assert_ended(wait(handle), Ended::Cancelled);
}
