//! Checkpoints that do not fit, are damaged, or were taken by an earlier version of the job.

use serde::{Deserialize, Serialize};
use snapline::connect::{FileSink, Generator, MemorySink, read_committed};
use snapline::protocol::ids::CheckpointId;
use snapline::store::{LocalStore, MemoryStore, Store};
use snapline::{
    Dataflow, Emit, Ended, JobConfig, JobError, JobHandle, JobPhase, Outcome, Restart, Resume,
    Storage,
};

use crate::kit::{assert_ended, config, in_memory, ms, numbers, until, wait};

/// Runs a counting job until it has taken a checkpoint, and suspends it.
fn suspended(store: &MemoryStore, sink: &Counts) {
    let handle = counting(in_memory(store).key_groups(16), "counts", sink);
    until("a checkpoint is complete", || handle.status().completed > 0);
    handle.suspend();
    assert_ended(wait(handle), Ended::Suspended);
}

/// Its committed transactions belong to the checkpoint: every run needs the same sink.
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
    assert!(text.contains("give the operators their former names"), "{text}");
    let text = mismatch(wait(numbers(None, MemorySink::new(), same())));
    assert!(text.contains("`counting`") && text.contains("`numbers`"), "{text}");
    // None of these attempts has changed the store.
    let handle = counting(same(), "counts", &sink);
    until("it runs", || handle.status().restored_from.is_some());
    handle.cancel();
    assert_ended(wait(handle), Ended::Cancelled);
}

/// Whatever the cause of the failure: here it comes before any task has begun.
#[test]
fn a_failed_end_is_in_the_status() {
    let (store, sink) = (MemoryStore::new(), Counts::new());
    suspended(&store, &sink);
    let run = |parallelism, stop: fn(&JobHandle)| {
        let config = in_memory(&store).key_groups(16).parallelism(parallelism);
        let handle = counting(config, "counts", &sink);
        stop(&handle);
        until("it is over", || handle.is_over());
        let status = handle.status();
        assert_eq!(status.phase, JobPhase::Ended);
        (status, wait(handle))
    };
    let (status, outcome) = run(3, |_| {});
    let text = Some(mismatch(outcome));
    assert_eq!((status.failure, status.last_failure), (text.clone(), text));

    let (status, outcome) = run(2, |handle| {
        until("it runs", || handle.status().restored_from.is_some());
        handle.cancel();
    });
    assert_ended(outcome, Ended::Cancelled);
    assert_eq!((status.failure, status.last_failure), (None, None));
}

/// An unset parallelism is that of the checkpoint, however many cores there are.
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
    // More than any machine has cores.
    let (subtasks, _) = suspend(counting(config().parallelism(13), "counts", &sink));
    let (again, newest) = suspend(counting(config(), "counts", &sink));
    assert_eq!(again, subtasks);
    let (named, _) = suspend(counting(config().resume(Resume::From(newest)), "counts", &sink));
    assert_eq!(named, subtasks);
    let text = mismatch(wait(counting(config().parallelism(3), "counts", &sink)));
    assert!(text.contains("`counts` x13") && text.contains("`counts` x3"), "{text}");
    // An operator of another name takes nothing over, and is refused as before.
    let text = mismatch(wait(counting(config(), "sums", &sink)));
    assert!(text.contains("`counts` x13") && text.contains("`sums`"), "{text}");
}

/// Suspends a job in a directory that keeps two checkpoints and damages the newest. Returns the one
/// before and the newest.
fn damaged(directory: &std::path::Path, sink: &MemorySink<u64>) -> (CheckpointId, CheckpointId) {
    let config = config().directory(directory).retained_checkpoints(2);
    // Endless, so that it is suspended before its end, however late that happens.
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
    // The output committed after the older checkpoint is duplicated: the setting allows exactly
    // that.
    let mut found = sink.committed();
    found.sort_unstable();
    found.dedup();
    assert!(found.into_iter().eq(0..count));
}

/// Runs a job that writes to files until it has taken some checkpoints, suspends it, and returns
/// those that its store keeps.
fn filed(directory: &std::path::Path) -> Vec<CheckpointId> {
    let handle = numbers(None, FileSink::new(directory.join("out")), kept(directory));
    until("some checkpoints are complete", || handle.status().completed >= 4);
    handle.suspend();
    assert_ended(wait(handle), Ended::Suspended);
    let store = LocalStore::inspect(directory.join("checkpoints")).expect("a store");
    store.manifests().expect("readable")
}

fn kept(directory: &std::path::Path) -> JobConfig {
    config()
        .directory(directory.join("checkpoints"))
        .retained_checkpoints(3)
        .resume(Resume::Suspended)
}

fn refused(directory: &std::path::Path) -> String {
    let count = read_committed(directory.join("out")).expect("readable").len();
    let again = numbers(5_000_000, FileSink::new(directory.join("out")), kept(directory));
    let error = wait(again).expect_err("what it would write is there").to_string();
    assert_eq!(read_committed(directory.join("out")).expect("readable").len(), count);
    error
}

/// SPEC 7.6
#[test]
fn a_job_whose_newest_manifests_are_gone_does_not_begin_from_an_older_one_or_from_nothing() {
    for lost in 1..=3 {
        let place = tempfile::tempdir().expect("a temporary directory");
        let there = filed(place.path());
        assert_eq!(there.len(), 3);
        let store = LocalStore::inspect(place.path().join("checkpoints")).expect("a store");
        let newest = store.manifest_path(there[2]);
        for &checkpoint in there.iter().rev().take(lost) {
            std::fs::remove_file(store.manifest_path(checkpoint)).expect("it is there");
        }
        let error = refused(place.path());
        let name = newest.display().to_string();
        for word in [&*name, &there[2].to_string(), "its manifest is missing", "Put it back"] {
            assert!(error.contains(word), "no `{word}` in: {error}");
        }
        let older = kept(place.path()).allow_older(true);
        let again = numbers(None, FileSink::new(place.path().join("out")), older);
        match lost {
            3 => {
                let error = wait(again).expect_err("there is none").to_string();
                assert!(error.contains("no checkpoint up to"), "{error}");
            }
            _ => {
                until("it runs", || again.status().completed > 0);
                assert_eq!(again.status().restored_from, Some(there[2 - lost]));
                again.cancel();
                assert_ended(wait(again), Ended::Cancelled);
            }
        }
    }
}

/// SPEC 7.7: a store written by an earlier build, or another store, cannot detect this; the sink's
/// own record can.
#[test]
fn a_sink_that_has_committed_more_than_the_store_knows_is_not_written_to() {
    for all in [false, true] {
        let place = tempfile::tempdir().expect("a temporary directory");
        let there = filed(place.path());
        let checkpoints = place.path().join("checkpoints");
        let store = LocalStore::inspect(&checkpoints).expect("a store");
        for &checkpoint in there.iter().rev().take(if all { 3 } else { 2 }) {
            std::fs::remove_file(store.manifest_path(checkpoint)).expect("it is there");
        }
        let fence = store.fence().expect("readable");
        let body = format!(
            "{{\"term\": {}, \"claimant\": {}, \"until\": {}}}\n",
            fence.term, fence.claimant.0, fence.until
        );
        let claim = format!("snapline-fence 1 {}", body.len());
        let sum = crc32fast::hash(format!("{claim}{body}").as_bytes());
        std::fs::write(checkpoints.join("fence"), format!("{claim} {sum:08x}\n{body}"))
            .expect("writable");
        let error = refused(place.path());
        assert!(error.contains("the sink has committed the output of checkpoint"), "{error}");
        let left = if all { "the store has none" } else { "the newest in the store is" };
        assert!(error.contains(left), "{error}");
    }
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
    // Slow enough that the job is stopped within its input.
    let source = || Generator::new(4_000, |number| (number % 3, number)).rate(2_000);
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

/// SPEC 14.1: the seed is drawn once and passed from checkpoint to checkpoint, also to another
/// process and another place.
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
