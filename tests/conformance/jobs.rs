//! Jobs that are recorded.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::{Duration, Instant};

use snapline::connect::{FileSink, Generator, MemorySink};
use snapline::store::{MemoryStore, Store};
use snapline::trace::{MemoryTrace, RunTrace};
use snapline::{Dataflow, Emit, Ended, JobConfig, JobHandle, Restart, Storage};

pub(crate) const fn ms(milliseconds: u64) -> Duration {
    Duration::from_millis(milliseconds)
}

/// Waits until something holds, but not for ever.
pub(crate) fn until(what: &str, holds: impl Fn() -> bool) {
    let begin = Instant::now();
    while !holds() {
        assert!(begin.elapsed() < Duration::from_secs(60), "waited in vain until {what}");
        std::thread::sleep(ms(1));
    }
}

/// The traces in memory, read.
pub(crate) fn read(trace: &MemoryTrace) -> Vec<RunTrace> {
    let read = |(name, bytes): &(String, Vec<u8>)| RunTrace::read(name, bytes);
    trace.files().iter().map(read).collect::<Result<_, _>>().expect("they are whole")
}

/// What fails a task when it is due, once.
#[derive(Clone, Default)]
pub(crate) struct Trap(Arc<AtomicU32>);

impl Trap {
    fn spring(&self) -> Result<(), String> {
        let took = self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |n| n.checked_sub(1));
        if took == Ok(1) { Err("the trap is sprung".into()) } else { Ok(()) }
    }

    fn set(&self, after: u32) {
        self.0.store(after, Ordering::Relaxed);
    }
}

/// Two sources of different kinds, a keyed count, a fork whose branches end in the order opposite to their making, two sinks: every wiring
/// there is, and tasks of every role.
pub(crate) fn wide(
    store: Arc<dyn Store>,
    sinks: &(MemorySink<(u64, u64)>, MemorySink<(u64, u64)>),
    trap: &Trap,
    trace: &MemoryTrace,
    records: u64,
) -> JobHandle {
    let flow = Dataflow::new("wide");
    let trap = trap.clone();
    let low = flow.source("low", Generator::new(records, |n| n).rate(20_000));
    let high = flow.source("high", Generator::new(records, |n| 1_000_000 + n).rate(20_000));
    let counted = low
        .union(high)
        .try_map(move |n: u64| Ok(trap.spring().map(|()| n)?))
        .key_by(|n| n % 13)
        .count(Emit::EachChange);
    let (left, right) = counted.fork();
    right.sink("right", sinks.1.clone());
    left.filter(|(key, _)| key % 2 == 0).sink("left", sinks.0.clone());
    let config = JobConfig::new()
        .parallelism(2)
        .workers(2)
        .key_groups(8)
        .checkpoint_interval(ms(8))
        .restart(Restart::Fixed { attempts: 100, pause: Duration::ZERO })
        .storage(Storage::Custom(store))
        .record(trace.clone());
    flow.build(config).expect("it is well formed").spawn().expect("it starts")
}

/// A run of several terms and attempts: failures, a cancelled term, a suspended one, and one to the end.
pub(crate) fn eventful() -> MemoryTrace {
    let (store, sinks) = (Arc::new(MemoryStore::new()), (MemorySink::new(), MemorySink::new()));
    let (trap, trace) = (Trap::default(), MemoryTrace::new());
    let begin = || wide(store.clone(), &sinks, &trap, &trace, 4_000);
    let some = |job: &JobHandle, checkpoints| {
        until("checkpoints are complete", || job.status().completed >= checkpoints);
    };
    let first = begin();
    some(&first, 2);
    trap.set(1);
    until("it restarts", || first.status().restarts == 1);
    first.checkpoint().expect("it goes on");
    trap.set(100);
    until("it restarts", || first.status().restarts == 2);
    some(&first, 4);
    first.cancel();
    assert_eq!(first.wait().expect("it is cancelled").ended, Ended::Cancelled);
    let second = begin();
    some(&second, 2);
    second.suspend();
    let ended = second.wait().expect("it is suspended").ended;
    assert!(matches!(ended, Ended::Suspended | Ended::Finished), "{ended:?}");
    let third = begin();
    assert_eq!(third.wait().expect("it finishes").ended, Ended::Finished);
    trace
}

/// A small job with its checkpoints and its output on disk.
pub(crate) fn small(dir: &Path, trace: impl Into<snapline::trace::Recording>) -> JobHandle {
    let flow = Dataflow::new("small");
    flow.source("in", Generator::new(300, |n| n).rate(10_000))
        .sink("out", FileSink::new(dir.join("out")));
    let config = JobConfig::new()
        .parallelism(1)
        .checkpoint_interval(ms(10))
        .directory(dir.join("checkpoints"))
        .record(trace);
    flow.build(config).expect("it is well formed").spawn().expect("it starts")
}

/// Whether something has happened, for closures.
#[derive(Clone, Default)]
pub(crate) struct Flag(Arc<AtomicBool>);

impl Flag {
    pub(crate) fn raise(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    pub(crate) fn is_raised(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}
