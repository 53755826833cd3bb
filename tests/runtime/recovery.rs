//! Checkpoints that do not fit, are damaged, or were taken by an earlier version of the job.

use serde::{Deserialize, Serialize};
use snapline::connect::{Generator, MemorySink};
use snapline::protocol::ids::CheckpointId;
use snapline::store::{LocalStore, MemoryStore, Store};
use snapline::{
    Dataflow, Emit, Ended, JobConfig, JobError, JobHandle, Outcome, Restart, Resume, Storage,
};

use crate::kit::{assert_ended, config, in_memory, ms, numbers, until, wait};

/// Runs a counting job until it has taken a checkpoint, and suspends it.
fn suspended(store: &MemoryStore, sink: &Counts) {
    let handle = counting(in_memory(store).key_groups(16), "counts", sink);
    until("a checkpoint is complete", || handle.status().completed > 0);
    handle.suspend();
    assert_ended(wait(handle), Ended::Suspended);
}

/// Its committed transactions are the checkpoint's: it must be the same in every run.
type Counts = MemorySink<(u64, u64)>;

fn counting(config: JobConfig, name: &str, sink: &Counts) -> JobHandle {
    let flow = Dataflow::new("counting");
    flow.source("in", Generator::new(None, |number| (number % 5, number)).rate(20_000))
        .keyed()
        .count(Emit::AtEnd)
        .named(name)
        .sink("out", sink.clone());
    flow.build(config).expect("builds").spawn().expect("starts")
}

fn mismatch(outcome: Result<Outcome, JobError>) -> String {
    match outcome {
        Err(error @ JobError::Mismatch { .. }) => error.to_string(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_checkpoint_of_another_shape_is_refused() {
    let (store, sink) = (MemoryStore::new(), Counts::new());
    suspended(&store, &sink);
    let same = || in_memory(&store).key_groups(16);
    let text = mismatch(wait(counting(same().key_groups(32), "counts", &sink)));
    assert!(text.contains("16 key groups") && text.contains("32"), "{text}");
    let text = mismatch(wait(counting(same().parallelism(3), "counts", &sink)));
    assert!(text.contains("`counts` x2") && text.contains("`counts` x3"), "{text}");
    let text = mismatch(wait(counting(same(), "sums", &sink)));
    assert!(text.contains("`counts`") && text.contains("`sums`"), "{text}");
    assert!(text.contains("name operators as they were"), "{text}");
    let text = mismatch(wait(numbers(None, MemorySink::new(), same())));
    assert!(text.contains("`counting`") && text.contains("`numbers`"), "{text}");
    // Nothing of this has changed what is there.
    let handle = counting(same(), "counts", &sink);
    until("it runs", || handle.status().restored_from.is_some());
    handle.cancel();
    assert_ended(wait(handle), Ended::Cancelled);
}

/// A number of subtasks that is not said is that of the checkpoint, however many cores there are.
#[test]
fn subtasks_that_are_not_said_are_as_the_checkpoint_has_them() {
    let (store, sink) = (MemoryStore::new(), Counts::new());
    let config = || {
        let config = JobConfig::new().checkpoint_interval(ms(5)).restart(Restart::Never);
        config.storage(Storage::Memory(store.clone())).key_groups(16)
    };
    let suspend = |handle: JobHandle| {
        until("a checkpoint is complete", || handle.status().completed > 0);
        let subtasks: usize = handle.status().tasks.len();
        handle.suspend();
        assert_ended(wait(handle), Ended::Suspended);
        let newest = store.manifests().expect("readable").pop().expect("there is one");
        (subtasks, newest)
    };
    // As many as no machine has cores.
    let (subtasks, _) = suspend(counting(config().parallelism(13), "counts", &sink));
    let (again, newest) = suspend(counting(config(), "counts", &sink));
    assert_eq!(again, subtasks);
    let (named, _) = suspend(counting(config().resume(Resume::From(newest)), "counts", &sink));
    assert_eq!(named, subtasks);
    let text = mismatch(wait(counting(config().parallelism(3), "counts", &sink)));
    assert!(text.contains("`counts` x13") && text.contains("`counts` x3"), "{text}");
    // An operator of another name takes nothing over, and is refused as it was.
    let text = mismatch(wait(counting(config(), "sums", &sink)));
    assert!(text.contains("`counts` x13") && text.contains("`sums`"), "{text}");
}

/// Suspends a job in a directory that keeps two checkpoints, damages the newest, and names it and the one before.
fn damaged(directory: &std::path::Path, sink: &MemorySink<u64>) -> (CheckpointId, CheckpointId) {
    let config = config().directory(directory).retained_checkpoints(2);
    // Without an end, so that it is suspended before it comes to one however late that is.
    let handle = numbers(None, sink.clone(), config);
    until("some checkpoints are complete", || handle.status().completed >= 3);
    handle.suspend();
    assert_ended(wait(handle), Ended::Suspended);
    let store = LocalStore::inspect(directory).expect("a store");
    let there = store.manifests().expect("readable");
    let [.., older, newest] = there[..] else { panic!("two are kept, of {there:?}") };
    let root = store.manifest(newest).expect("readable").snapshots[0].root;
    let path = store.blob_path(root.blob);
    let mut bytes = std::fs::read(&path).expect("readable");
    bytes[usize::try_from(root.offset).expect("small")] ^= 1;
    std::fs::write(&path, bytes).expect("writable");
    (older, newest)
}

#[test]
fn a_damaged_checkpoint_is_not_passed_over() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let sink = MemorySink::new();
    let (_, newest) = damaged(directory.path(), &sink);
    let again = config().directory(directory.path()).retained_checkpoints(2);
    match wait(numbers(5_000, sink, again)) {
        Err(ref error @ JobError::Recovery { ref found, .. }) => {
            assert_eq!(found[0].0, newest);
            let text = error.to_string();
            let place = directory.path().to_string_lossy();
            for word in [&*place, "expected", "found", &newest.to_string()] {
                assert!(text.contains(word), "no `{word}` in: {text}");
            }
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn an_older_checkpoint_is_restored_if_that_is_allowed() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let sink = MemorySink::new();
    let (older, _) = damaged(directory.path(), &sink);
    let again = config().directory(directory.path()).retained_checkpoints(2).allow_older(true);
    let count = sink.committed_count() as u64 + 5_000;
    let outcome = assert_ended(wait(numbers(count, sink.clone(), again)), Ended::Finished);
    assert_eq!(outcome.status.restored_from, Some(older));
    // What was committed behind the older one is there again: that is what had to be allowed.
    let mut found = sink.committed();
    found.sort_unstable();
    found.dedup();
    assert!(found.into_iter().eq(0..count));
}

#[derive(Clone, Default, Serialize, Deserialize)]
struct Before {
    sum: u64,
}

#[derive(Clone, Default, Serialize, Deserialize)]
struct After {
    sum: u64,
    #[serde(default)]
    count: u64,
}

#[test]
fn a_field_that_was_added_is_its_default() {
    let store = MemoryStore::new();
    let source = || Generator::new(4_000, |number| (number % 3, number)).rate(20_000);
    let (sink, flow) = (MemorySink::new(), Dataflow::new("grown"));
    flow.source("in", source())
        .keyed()
        .aggregate(Emit::AtEnd, |state: &mut Before, value| state.sum += value)
        .map(|(key, Before { sum })| (key, After { sum, count: 0 }))
        .sink("out", sink.clone());
    let first = flow.build(in_memory(&store)).expect("builds").spawn().expect("starts");
    until("a part was read", || first.status().completed > 1);
    first.suspend();
    let outcome = assert_ended(wait(first), Ended::Suspended);
    let read: u64 = outcome.status.tasks[..2].iter().map(|task| task.records_in).sum();
    assert!(read > 0 && read < 4_000, "{read} read");

    let flow = Dataflow::new("grown");
    flow.source("in", source())
        .keyed()
        .aggregate(Emit::AtEnd, |state: &mut After, value| {
            state.sum += value;
            state.count += 1;
        })
        .sink("out", sink.clone());
    let second = flow.build(in_memory(&store)).expect("builds").spawn().expect("starts");
    assert_ended(wait(second), Ended::Finished);
    let found = sink.committed();
    assert_eq!(found.iter().map(|(_, state)| state.sum).sum::<u64>(), (0..4_000u64).sum::<u64>());
    assert_eq!(found.iter().map(|(_, state)| state.count).sum::<u64>(), 4_000 - read);
}

#[test]
fn old_checkpoints_go_and_those_kept_stay() {
    let store = MemoryStore::new();
    let config = in_memory(&store).retained_checkpoints(3).checkpoint_interval(ms(2));
    let handle = numbers(None, MemorySink::new(), config);
    until("many were taken", || handle.status().completed > 10);
    handle.suspend();
    assert_ended(wait(handle), Ended::Suspended);
    assert_eq!(store.manifests().expect("readable").len(), 3);
}

/// SPEC 14.1: drawn once, and handed on from checkpoint to checkpoint, also to another process and another place.
#[test]
fn what_the_hashes_of_keys_begin_with_is_the_lineage_s() {
    let seeds = |store: &MemoryStore| {
        let all = store.manifests().expect("they can be listed");
        let seed = |checkpoint| store.manifest(checkpoint).expect("it is there").hash_seed;
        all.into_iter().map(seed).collect::<Vec<_>>()
    };
    let (store, sink, other) = (MemoryStore::new(), Counts::new(), MemoryStore::new());
    suspended(&store, &sink);
    let first = seeds(&store)[0];
    assert!(first.is_some());
    for _ in 0..3 {
        suspended(&store, &sink);
        assert_eq!(seeds(&store), [first], "each run draws, and uses what it is restored from");
    }
    suspended(&other, &Counts::new());
    assert_ne!(seeds(&other), [first], "another job has another");
}
