//! Stores, sinks and sources whose n-th call panics or never returns: the job goes on, or ends with
//! an error that reports it (SPEC 15.13).

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::{Duration, Instant};

use snapline::connect::{
    CommitGrant, Generator, MemorySink, OpenContext, SinkCommitter, SinkWriter, TwoPhaseSink,
};
use snapline::protocol::committer::CommitOutcome;
use snapline::protocol::fence::{Claimant, Fence};
use snapline::protocol::ids::{Attempt, BlobId, CheckpointId, SubtaskId, Term, TxnId};
use snapline::store::{BlobRef, BlobWriter, Manifest, MemoryStore, Section, Store, StoreError};
use snapline::{BoxError, Dataflow, Ended, JobConfig, JobError, Outcome, Restart, Storage};

use crate::kit::{FOR_EVER, ms, until};

/// The longest time that a call may hang in these tests.
const LIMIT: Duration = Duration::from_millis(300);

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Harm {
    Panic,
    Hang,
}

/// Harm at one call of one method. Clones share the count.
#[derive(Clone, Debug)]
struct Trap {
    method: &'static str,
    /// The number of calls that succeed before it.
    left: Arc<AtomicU32>,
    harm: Harm,
    sprung: Arc<AtomicBool>,
}

impl Trap {
    fn new(method: &'static str, call: u32, harm: Harm) -> Self {
        Self { method, left: Arc::new(AtomicU32::new(call)), harm, sprung: Arc::default() }
    }

    fn step(&self, method: &str) {
        let one_less = |left: u32| left.checked_sub(1);
        if method != self.method {
            return;
        }
        let left = self.left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_less);
        if left != Ok(1) {
            return;
        }
        self.sprung.store(true, Ordering::Relaxed);
        match self.harm {
            Harm::Panic => panic!("the trap at `{method}`"),
            Harm::Hang => loop {
                std::thread::park();
            },
        }
    }

    fn is_sprung(&self) -> bool {
        self.sprung.load(Ordering::Relaxed)
    }
}

/// A store in memory with a trap.
struct Trapped(MemoryStore, Trap);

struct TrappedWriter(Box<dyn BlobWriter>, Trap);

impl Store for Trapped {
    fn describe(&self) -> String {
        self.1.step("describe");
        "trapped store".to_owned()
    }

    fn fence(&self) -> Result<Fence, StoreError> {
        self.1.step("fence");
        self.0.fence()
    }

    fn claim(&self, term: Term, by: Claimant, block: u64) -> Result<CheckpointId, StoreError> {
        self.1.step("claim");
        self.0.claim(term, by, block)
    }

    fn reserve(&self, term: Term, until: CheckpointId) -> Result<(), StoreError> {
        self.1.step("reserve");
        self.0.reserve(term, until)
    }

    fn create_blob(&self, id: BlobId) -> Result<Box<dyn BlobWriter>, StoreError> {
        self.1.step("create_blob");
        Ok(Box::new(TrappedWriter(self.0.create_blob(id)?, self.1.clone())))
    }

    fn read(&self, section: &Section) -> Result<Vec<u8>, StoreError> {
        self.1.step("read");
        self.0.read(section)
    }

    fn verify_blob(&self, blob: &BlobRef) -> Result<(), StoreError> {
        self.1.step("verify_blob");
        self.0.verify_blob(blob)
    }

    fn put_manifest(&self, term: Term, manifest: &Manifest) -> Result<(), StoreError> {
        self.1.step("put_manifest");
        self.0.put_manifest(term, manifest)
    }

    fn manifest(&self, checkpoint: CheckpointId) -> Result<Manifest, StoreError> {
        self.1.step("manifest");
        self.0.manifest(checkpoint)
    }

    fn manifests(&self) -> Result<Vec<CheckpointId>, StoreError> {
        self.1.step("manifests");
        self.0.manifests()
    }

    fn blobs(&self) -> Result<Vec<BlobRef>, StoreError> {
        self.1.step("blobs");
        self.0.blobs()
    }

    fn delete(
        &self,
        term: Term,
        manifests: &[CheckpointId],
        blobs: &[BlobId],
    ) -> Result<(), StoreError> {
        self.1.step("delete");
        self.0.delete(term, manifests, blobs)
    }
}

impl BlobWriter for TrappedWriter {
    fn append(&mut self, bytes: &[u8]) -> Result<Section, StoreError> {
        self.1.step("append");
        self.0.append(bytes)
    }

    fn finish(self: Box<Self>) -> Result<u64, StoreError> {
        self.1.step("finish");
        self.0.finish()
    }
}

/// A sink in memory with a trap.
#[derive(Clone)]
struct TrappedSink(MemorySink<u64>, Trap);

struct Half<T>(T, Trap);

impl TwoPhaseSink for TrappedSink {
    type Record = u64;
    type Committable = TxnId;
    type Writer = Half<<MemorySink<u64> as TwoPhaseSink>::Writer>;
    type Committer = Half<<MemorySink<u64> as TwoPhaseSink>::Committer>;

    fn open(&self, context: &OpenContext) -> Result<(Self::Writer, Self::Committer), BoxError> {
        self.1.step("open");
        let (writer, committer) = self.0.open(context)?;
        Ok((Half(writer, self.1.clone()), Half(committer, self.1.clone())))
    }
}

impl<W: SinkWriter<Record = u64, Committable = TxnId>> SinkWriter for Half<W> {
    type Record = u64;
    type Committable = TxnId;

    fn write(&mut self, records: &mut Vec<u64>) -> Result<(), BoxError> {
        self.1.step("write");
        self.0.write(records)
    }

    fn close(&mut self, txn: TxnId) -> Result<TxnId, BoxError> {
        self.1.step("close");
        self.0.close(txn)
    }

    fn bytes_written(&self) -> Option<u64> {
        self.1.step("bytes_written");
        Some(0)
    }
}

impl<C: SinkCommitter<Committable = TxnId>> SinkCommitter for Half<C> {
    type Committable = TxnId;

    fn fence(&mut self, attempt: Attempt) -> Result<Vec<(TxnId, TxnId)>, BoxError> {
        self.1.step("fence");
        let mut found = self.0.fence(attempt)?;
        if self.1.method == "roll_back" {
            let before = Attempt { number: attempt.number - 1, ..attempt };
            let (checkpoint, subtask) = (CheckpointId::FIRST, SubtaskId::new(1));
            let orphan = TxnId { checkpoint, attempt: before, subtask };
            found.push((orphan, orphan));
        }
        Ok(found)
    }

    fn prepare(&mut self, txn: TxnId, committable: &TxnId) -> Result<(), BoxError> {
        self.1.step("prepare");
        self.0.prepare(txn, committable)
    }

    fn commit(
        &mut self,
        grant: CommitGrant,
        committable: &TxnId,
    ) -> Result<CommitOutcome, BoxError> {
        self.1.step("commit");
        self.0.commit(grant, committable)
    }

    fn roll_back(&mut self, _txn: TxnId, _committable: &TxnId) -> Result<(), BoxError> {
        self.1.step("roll_back");
        Ok(())
    }
}

fn config(storage: Storage) -> JobConfig {
    let config = JobConfig::new().parallelism(1).checkpoint_interval(ms(5)).storage(storage);
    let config = config.checkpoint_timeout(ms(50)).hang_timeout(LIMIT).id_block(2);
    config.restart(Restart::Fixed { attempts: 3, pause: ms(1) })
}

/// Runs the job until the trap has sprung, asks it to stop, and waits for its end, which must come.
fn stopped(
    sink: impl TwoPhaseSink<Record = u64>,
    config: JobConfig,
    trap: &Trap,
) -> Result<Outcome, JobError> {
    let flow = Dataflow::new("numbers");
    flow.source("in", Generator::new(None, |number| number).rate(20_000)).sink("out", sink);
    let handle = flow.build(config).expect("builds").spawn()?;
    let begin = Instant::now();
    // Some methods are called at the stop only.
    while !trap.is_sprung() && !handle.is_over() && begin.elapsed() < ms(500) {
        std::thread::sleep(ms(1));
    }
    handle.suspend();
    while !handle.is_over() {
        assert!(begin.elapsed() < FOR_EVER, "{trap:?}: it hangs: {:#?}", handle.status());
        std::thread::sleep(ms(1));
    }
    let status = handle.status();
    assert_eq!(status.phase, snapline::JobPhase::Ended, "{trap:?}: {status:?}");
    handle.wait()
}

/// Runs a job and suspends it, so that there is a checkpoint to read.
fn suspended(sink: &MemorySink<u64>) -> MemoryStore {
    let store = MemoryStore::new();
    let nowhere = Trap::new("nowhere", 1, Harm::Panic);
    let ended = stopped(sink.clone(), config(Storage::Memory(store.clone())), &nowhere);
    assert_eq!(ended.expect("nothing fails").ended, Ended::Suspended);
    store
}

const OF_STORES: [&str; 14] = [
    "describe",
    "fence",
    "claim",
    "reserve",
    "create_blob",
    "append",
    "finish",
    "read",
    "verify_blob",
    "put_manifest",
    "manifest",
    "manifests",
    "blobs",
    "delete",
];

const OF_SINKS: [&str; 8] =
    ["open", "write", "close", "bytes_written", "fence", "prepare", "commit", "roll_back"];

/// Checks a trap at the first and at the second call of each method.
fn each(
    methods: &[&'static str],
    harm: Harm,
    run: impl Fn(&Trap) -> Result<Outcome, JobError>,
    check: impl Fn(&Trap, &Result<Outcome, JobError>),
) {
    for method in methods {
        for call in [1, 2] {
            let trap = Trap::new(method, call, harm);
            let outcome = run(&trap);
            assert!(trap.is_sprung() || call == 2, "{trap:?}: it was never called");
            if let Err(error) = &outcome {
                assert!(!matches!(error, JobError::Panicked(_)), "{trap:?}: {error}");
            }
            if trap.is_sprung() {
                check(&trap, &outcome);
            } else {
                assert_eq!(outcome.expect("nothing fails").ended, Ended::Suspended);
            }
        }
    }
}

fn in_a_store(trap: &Trap) -> Result<Outcome, JobError> {
    let sink = MemorySink::new();
    let store = suspended(&sink);
    let storage = Storage::Custom(Arc::new(Trapped(store, trap.clone())));
    stopped(sink, config(storage), trap)
}

fn in_a_sink(trap: &Trap) -> Result<Outcome, JobError> {
    let storage = Storage::Memory(MemoryStore::new());
    stopped(TrappedSink(MemorySink::new(), trap.clone()), config(storage), trap)
}

/// The wait is in vain, and the error reports it.
fn hangs(trap: &Trap, outcome: &Result<Outcome, JobError>) {
    match outcome {
        Err(error @ JobError::Hung { waiting_for, time }) => {
            let text = error.to_string();
            assert!(*time >= LIMIT && text.contains(waiting_for), "{trap:?}: {text}");
            assert!(waiting_for.contains(", "), "{trap:?}: who, and what: {text}");
        }
        other => panic!("{trap:?}: {other:?}"),
    }
}

#[test]
fn a_store_that_panics_ends_no_thread() {
    each(&OF_STORES, Harm::Panic, in_a_store, |trap, outcome| match outcome {
        Ok(outcome) => {
            assert_eq!(outcome.ended, Ended::Suspended, "{trap:?}");
            // Where a task writes, its checkpoint is aborted at once with the cause; its timeout
            // need not pass.
            if ["create_blob", "append", "finish"].contains(&trap.method) {
                let words = format!("the trap at `{}`", trap.method);
                let mut causes = outcome.status.history.iter().filter_map(|it| it.cause.as_ref());
                let said = causes.any(|cause| cause.contains(&words));
                assert!(said, "{trap:?}: {:?}", outcome.status.history);
            }
        }
        Err(JobError::Store(error @ StoreError::Panicked { .. })) => {
            let text = error.to_string();
            assert!(text.contains(&format!("the trap at `{}`", trap.method)), "{text}");
        }
        other => panic!("{trap:?}: {other:?}"),
    });
}

#[test]
fn a_store_that_hangs_is_named_and_left() {
    each(&OF_STORES, Harm::Hang, in_a_store, hangs);
}

#[test]
fn a_sink_that_panics_is_restarted() {
    each(&OF_SINKS, Harm::Panic, in_a_sink, |trap, outcome| {
        let outcome = outcome.as_ref().unwrap_or_else(|error| panic!("{trap:?}: {error}"));
        assert_eq!(outcome.ended, Ended::Suspended, "{trap:?}");
        assert!(outcome.status.restarts > 0, "{trap:?}");
    });
}

#[test]
fn a_sink_that_hangs_is_named_and_left() {
    each(&OF_SINKS, Harm::Hang, in_a_sink, hangs);
}

#[test]
fn a_checkpoint_that_hangs_is_given_up_and_a_cancelled_job_ends() {
    for method in ["append", "finish", "create_blob"] {
        let trap = Trap::new(method, 1, Harm::Hang);
        let storage = Storage::Custom(Arc::new(Trapped(MemoryStore::new(), trap.clone())));
        let config = config(storage).tolerable_failures(1000).hang_timeout(ms(2000));
        let flow = Dataflow::new("numbers");
        let numbers = Generator::new(None, |number| number).rate(20_000);
        flow.source("in", numbers).sink("out", MemorySink::new());
        let handle = flow.build(config).expect("builds").spawn().expect("starts");
        until("a checkpoint is given up", || handle.status().failed > 0);
        handle.cancel();
        let begin = Instant::now();
        let Err(error) = handle.wait() else { panic!("{trap:?}: nothing hung") };
        assert!(begin.elapsed() < FOR_EVER, "{error}");
        assert!(error.to_string().contains("writing a snapshot"), "{error}");
    }
}

#[test]
fn code_that_never_returns_is_named_when_the_job_stops() {
    let flow = Dataflow::new("numbers");
    let trap = Trap::new("map", 1000, Harm::Hang);
    let theirs = trap.clone();
    let map = move |number: u64| {
        theirs.step("map");
        number
    };
    let numbers = Generator::new(None, |number| number).rate(20_000);
    flow.source("in", numbers).map(map).sink("out", MemorySink::new());
    let config = config(Storage::Memory(MemoryStore::new())).checkpoint_timeout(FOR_EVER);
    let handle = flow.build(config).expect("builds").spawn().expect("starts");
    until("it hangs", || trap.is_sprung());
    handle.suspend();
    let Err(error) = handle.wait() else { panic!("nothing hung") };
    assert!(matches!(error, JobError::Hung { .. }), "{error}");
    assert!(error.to_string().contains("code of `in`"), "{error}");
}

#[test]
fn a_fence_without_room_is_an_error() {
    let store = MemoryStore::new();
    let claimed = store.claim(Term::new(1), Claimant(1), u64::MAX - 3);
    claimed.expect("it fits");
    let nowhere = Trap::new("nowhere", 1, Harm::Panic);
    let ended = stopped(MemorySink::new(), config(Storage::Memory(store)).id_block(1024), &nowhere);
    let Err(error @ JobError::Store(_)) = ended else { panic!("{ended:?}") };
    assert!(error.to_string().contains("checkpoint ids are exhausted"), "{error}");
}
