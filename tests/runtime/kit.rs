//! Helpers that the tests here share.

use std::cell::RefCell;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use snapline::connect::{Generator, MemorySink, TwoPhaseSink};
use snapline::protocol::fence::{Claimant, Fence};
use snapline::protocol::ids::{BlobId, CheckpointId, Term};
use snapline::store::{BlobRef, BlobWriter, Manifest, MemoryStore, Section, Store, StoreError};
use snapline::trace::{MemoryTrace, RunTrace, replay};
use snapline::{Dataflow, Ended, JobConfig, JobError, JobHandle, Outcome, Restart, Storage};

/// Longer than any of these jobs runs, on any machine.
pub(crate) const FOR_EVER: Duration = Duration::from_secs(60);

pub(crate) const fn ms(milliseconds: u64) -> Duration {
    Duration::from_millis(milliseconds)
}

/// Waits until something holds, with a timeout.
pub(crate) fn until(what: &str, holds: impl Fn() -> bool) {
    let begin = Instant::now();
    while !holds() {
        assert!(begin.elapsed() < FOR_EVER, "waited in vain until {what}");
        std::thread::sleep(ms(1));
    }
}

/// Waits for a job's end, with a timeout.
pub(crate) fn wait(handle: JobHandle) -> Result<Outcome, JobError> {
    let begin = Instant::now();
    while !handle.is_over() {
        assert!(begin.elapsed() < FOR_EVER, "the job hangs: {:#?}", handle.status());
        std::thread::sleep(ms(1));
    }
    let outcome = handle.wait();
    replay_recorded();
    outcome
}

/// A job that writes numbers into a sink, a few at a time so that there is time to interrupt it.
pub(crate) fn numbers<S>(count: impl Into<Option<u64>>, sink: S, config: JobConfig) -> JobHandle
where
    S: TwoPhaseSink<Record = u64>,
{
    let flow = Dataflow::new("numbers");
    flow.source("in", Generator::new(count, |number| number).rate(20_000)).sink("out", sink);
    flow.build(config).expect("builds").spawn().expect("starts")
}

/// Two subtasks, checkpoints every 5 ms, no restarts.
pub(crate) fn config() -> JobConfig {
    let recorded = MemoryTrace::new();
    RECORDED.with_borrow_mut(|all| all.push(recorded.clone()));
    let config = JobConfig::new().parallelism(2).checkpoint_interval(ms(5));
    config.restart(Restart::Never).record(recorded)
}

thread_local! {
    /// The recorded runs of this thread's test; those of one configuration belong to one store.
    static RECORDED: RefCell<Vec<MemoryTrace>> = const { RefCell::new(Vec::new()) };
}

/// All runs recorded so far conform to the protocol (SPEC 11.9).
fn replay_recorded() {
    for recorded in RECORDED.with_borrow(Clone::clone) {
        let files = recorded.files();
        let traces = files.iter().map(|(name, bytes)| RunTrace::read(name, bytes));
        let traces: Vec<RunTrace> = traces.collect::<Result<_, _>>().expect("they are whole");
        replay(&traces).unwrap_or_else(|difference| panic!("{difference}"));
    }
}

pub(crate) fn patient() -> Restart {
    Restart::Fixed { attempts: 50, pause: ms(1) }
}

pub(crate) fn in_memory(store: &MemoryStore) -> JobConfig {
    config().storage(Storage::Memory(store.clone()))
}

/// Asserts that the sink holds each number below `count` exactly once.
pub(crate) fn assert_numbers(sink: &MemorySink<u64>, count: u64) {
    let mut found = sink.committed();
    found.sort_unstable();
    assert!(found.iter().copied().eq(0..count), "{} records of {count}", found.len());
}

pub(crate) fn assert_ended(outcome: Result<Outcome, JobError>, ended: Ended) -> Outcome {
    let outcome = outcome.expect("no failure");
    assert_eq!(outcome.ended, ended);
    outcome
}

/// A store in memory with faults that tests switch on.
#[derive(Clone, Default)]
pub(crate) struct Moody {
    pub(crate) store: MemoryStore,
    pub(crate) moods: Arc<Moods>,
}

#[derive(Default)]
pub(crate) struct Moods {
    /// The number of further blobs that cannot be written.
    pub(crate) refused_blobs: AtomicU32,
    /// The number of further blobs whose writes fail permanently.
    pub(crate) read_only_blobs: AtomicU32,
    /// Milliseconds that the blobs of the last subtask take.
    pub(crate) slow_blobs: AtomicU64,
    /// The number of those in progress.
    pub(crate) being_slow: AtomicU32,
    /// The number of further claims, and of manifests, that cannot be written.
    pub(crate) refused_claims: AtomicU32,
    pub(crate) refused_manifests: AtomicU32,
    /// The number of further listings of manifests, and of manifests, that cannot be read.
    pub(crate) refused_lists: AtomicU32,
    pub(crate) refused_reads: AtomicU32,
    /// The number of further manifests that are written and then reported with an unknown outcome.
    pub(crate) unknown_manifests: AtomicU32,
}

fn takes_one(left: &AtomicU32) -> bool {
    left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1)).is_ok()
}

fn refused(doing: &str, unknown: bool) -> StoreError {
    let error = io::Error::other("the disk is in a mood");
    StoreError::Io { doing: doing.into(), error, unknown }
}

impl Moody {
    pub(crate) fn storage(&self) -> Storage {
        Storage::Custom(Arc::new(self.clone()))
    }
}

impl Store for Moody {
    fn describe(&self) -> String {
        "moody store".into()
    }

    fn fence(&self) -> Result<Fence, StoreError> {
        self.store.fence()
    }

    fn claim(
        &self,
        term: Term,
        claimant: Claimant,
        block: u64,
    ) -> Result<CheckpointId, StoreError> {
        if takes_one(&self.moods.refused_claims) {
            return Err(refused("claim", false));
        }
        self.store.claim(term, claimant, block)
    }

    fn reserve(&self, term: Term, until: CheckpointId) -> Result<(), StoreError> {
        self.store.reserve(term, until)
    }

    fn create_blob(&self, id: BlobId) -> Result<Box<dyn BlobWriter>, StoreError> {
        if id.subtask.index() == 1 {
            self.moods.being_slow.fetch_add(1, Ordering::Relaxed);
            std::thread::sleep(ms(self.moods.slow_blobs.load(Ordering::Relaxed)));
            self.moods.being_slow.fetch_sub(1, Ordering::Relaxed);
        }
        if takes_one(&self.moods.read_only_blobs) {
            return Err(StoreError::ReadOnly { store: self.describe() });
        }
        if takes_one(&self.moods.refused_blobs) {
            return Err(refused("begin a blob", false));
        }
        self.store.create_blob(id)
    }

    fn read(&self, section: &Section) -> Result<Vec<u8>, StoreError> {
        self.store.read(section)
    }

    fn verify_blob(&self, blob: &BlobRef) -> Result<(), StoreError> {
        self.store.verify_blob(blob)
    }

    fn put_manifest(&self, term: Term, manifest: &Manifest) -> Result<(), StoreError> {
        if takes_one(&self.moods.refused_manifests) {
            return Err(refused("put a manifest", false));
        }
        self.store.put_manifest(term, manifest)?;
        match takes_one(&self.moods.unknown_manifests) {
            true => Err(refused("put a manifest", true)),
            false => Ok(()),
        }
    }

    fn manifest(&self, checkpoint: CheckpointId) -> Result<Manifest, StoreError> {
        if takes_one(&self.moods.refused_reads) {
            return Err(refused("read a manifest", false));
        }
        self.store.manifest(checkpoint)
    }

    fn manifests(&self) -> Result<Vec<CheckpointId>, StoreError> {
        if takes_one(&self.moods.refused_lists) {
            return Err(refused("list manifests", false));
        }
        self.store.manifests()
    }

    fn blobs(&self) -> Result<Vec<BlobRef>, StoreError> {
        self.store.blobs()
    }

    fn delete(
        &self,
        term: Term,
        manifests: &[CheckpointId],
        blobs: &[BlobId],
    ) -> Result<(), StoreError> {
        self.store.delete(term, manifests, blobs)
    }
}
