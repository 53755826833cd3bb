//! Jobs that are recorded.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use snapline::connect::{FileSink, Generator, MemorySink};
use snapline::store::{MemoryStore, Store};
use snapline::trace::Recording;
use snapline::{Dataflow, Emit, Ended, JobConfig, JobError, JobHandle, Restart, Storage};

const fn ms(milliseconds: u64) -> Duration {
    Duration::from_millis(milliseconds)
}

/// Waits until something holds, with a timeout.
fn until(what: &str, holds: impl Fn() -> bool) {
    let begin = Instant::now();
    while !holds() {
        assert!(begin.elapsed() < Duration::from_secs(60), "waited in vain until {what}");
        std::thread::sleep(ms(1));
    }
}

/// Fails a task once, when the count is reached.
#[derive(Clone, Default)]
struct Trap(Arc<AtomicU32>);

impl Trap {
    fn spring(&self) -> Result<(), String> {
        let took = self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |n| n.checked_sub(1));
        if took == Ok(1) { Err("the trap is sprung".into()) } else { Ok(()) }
    }

    fn set(&self, after: u32) {
        self.0.store(after, Ordering::Relaxed);
    }
}

/// Two sources, a union, a keyed count, a fork whose branches end in the order opposite to their
/// creation, two sinks: every kind of wiring, and tasks of every role.
fn wide(
    store: Arc<dyn Store>,
    sinks: &[MemorySink<(u64, u64)>; 2],
    trap: &Trap,
    trace: &Recording,
) -> JobHandle {
    let flow = Dataflow::new("wide");
    let trap = trap.clone();
    let low = flow.source("low", Generator::new(1_200, |n| n).rate(4_000));
    let high = flow.source("high", Generator::new(1_200, |n| 1_000_000 + n).rate(4_000));
    let counted = low
        .union(high)
        .try_map(move |n: u64| Ok(trap.spring().map(|()| n)?))
        .key_by(|n| n % 13)
        .count(Emit::EachChange)
        .parallelism(2);
    let (left, right) = counted.fork();
    right.sink("right", sinks[1].clone());
    left.filter(|(key, _)| key % 2 == 0).sink("left", sinks[0].clone());
    let config = JobConfig::new()
        .parallelism(1)
        .workers(2)
        .key_groups(8)
        .checkpoint_interval(ms(20))
        .restart(Restart::Fixed { attempts: 100, pause: Duration::ZERO })
        .storage(Storage::Custom(store))
        .record(trace.clone());
    flow.build(config).expect("it is well formed").spawn().expect("it starts")
}

/// A run of several terms and attempts: failures, a cancelled term, a suspended one, and one to the
/// end.
pub(crate) fn eventful(trace: &Recording) {
    let (store, sinks) = (Arc::new(MemoryStore::new()), [MemorySink::new(), MemorySink::new()]);
    let trap = Trap::default();
    let begin = || wide(store.clone(), &sinks, &trap, trace);
    let some = |job: &JobHandle, checkpoints| {
        until("checkpoints are complete", || job.status().completed >= checkpoints);
    };
    let first = begin();
    some(&first, 1);
    trap.set(1);
    until("it restarts", || first.status().restarts == 1);
    some(&first, 2);
    trap.set(100);
    until("it restarts", || first.status().restarts == 2);
    first.cancel();
    // It has failed, and perhaps no checkpoint has completed since: then the end reports the
    // failure.
    match first.wait() {
        Ok(outcome) => assert_eq!(outcome.ended, Ended::Cancelled),
        Err(error) => assert!(matches!(error, JobError::Interrupted { .. }), "{error}"),
    }
    let second = begin();
    some(&second, 1);
    second.suspend();
    let ended = second.wait().expect("it is suspended").ended;
    assert!(matches!(ended, Ended::Suspended | Ended::Finished), "{ended:?}");
    let third = begin();
    assert_eq!(third.wait().expect("it finishes").ended, Ended::Finished);
}

/// A small job with its checkpoints and its output on disk.
pub(crate) fn small(dir: &Path, trace: Recording) -> JobHandle {
    let flow = Dataflow::new("small");
    flow.source("in", Generator::new(200, |n| n).rate(10_000))
        .sink("out", FileSink::new(dir.join("out")));
    let config = JobConfig::new()
        .parallelism(1)
        .checkpoint_interval(ms(8))
        .directory(dir.join("checkpoints"))
        .record(trace);
    flow.build(config).expect("it is well formed").spawn().expect("it starts")
}
