//! Wrappers of a store, sources and sinks that can kill the process before and after each call.

use std::io::Write;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

use snapline::BoxError;
use snapline::connect::{
    Collect, CommitGrant, Delivery, OpenContext, Progress, SinkCommitter, SinkWriter, Source,
    SourceReader, TwoPhaseSink,
};
use snapline::protocol::committer::CommitOutcome;
use snapline::protocol::fence::{Claimant, Fence};
use snapline::protocol::ids::{Attempt, BlobId, CheckpointId, Term, TxnId};
use snapline::store::{BlobRef, BlobWriter, Manifest, Section, Store, StoreError};

use crate::child::COMPLETE;

/// The points at which a process can be killed.
pub(crate) const POINTS: &[&str] = &[
    // The coordinator and its store.
    "store-open-before",
    "store-open-after",
    "claim-before",
    "claim-after",
    "reserve-before",
    "reserve-after",
    "put-manifest-before",
    "put-manifest-after",
    "delete-before",
    "delete-between",
    "delete-after",
    // Recovery.
    "list-manifests",
    "read-manifest",
    "verify-blob",
    "read",
    // Snapshots.
    "create-blob-before",
    "create-blob-after",
    "append",
    "finish-before",
    "finish-after",
    // Sources.
    "open-source",
    "read-source",
    "position",
    // Sinks.
    "open-sink",
    "fence-before",
    "fence-after",
    "write",
    "close-before",
    "close-after",
    "prepare-before",
    "prepare-after",
    "commit-before",
    "commit-after",
    "roll-back-before",
    "roll-back-after",
    // Look-ups, where there are any: on the thread that calls.
    "look-up-before",
    "look-up-after",
];

/// The number of a point.
///
/// # Panics
/// If no point has this name.
pub(crate) fn place(name: &str) -> usize {
    POINTS.iter().position(|point| *point == name).unwrap_or_else(|| panic!("no point `{name}`"))
}

/// The point at which this process is to be killed, and how often it is passed before.
static ARMED: OnceLock<(usize, AtomicU64)> = OnceLock::new();

/// Arms a point: `NAME:COUNT`.
pub(crate) fn arm(kill_at: Option<&str>) {
    if let Some((name, count)) = kill_at.and_then(|at| at.split_once(':')) {
        let count = count.parse().expect("a number");
        ARMED.set((place(name), AtomicU64::new(count))).expect("armed once");
    }
}

/// The process is at a point.
pub(crate) fn point(name: &str) {
    let number = place(name);
    if let Some((armed, left)) = ARMED.get()
        && *armed == number
        && left.fetch_sub(1, Ordering::Relaxed) == 1
    {
        let me = rustix::process::getpid();
        rustix::process::kill_process(me, rustix::process::Signal::KILL).expect("it is ours");
        // Invariant: SIGKILL cannot be caught or blocked, and one that a process sends to itself is
        // delivered before the call returns.
        unreachable!("the signal is delivered before the call returns");
    }
}

/// A store whose process may die.
pub(crate) struct MortalStore(pub(crate) std::sync::Arc<dyn Store>);

impl Store for MortalStore {
    fn describe(&self) -> String {
        self.0.describe()
    }

    fn fence(&self) -> Result<Fence, StoreError> {
        self.0.fence()
    }

    fn claim(
        &self,
        term: Term,
        claimant: Claimant,
        block: u64,
    ) -> Result<CheckpointId, StoreError> {
        point("claim-before");
        let claimed = self.0.claim(term, claimant, block);
        point("claim-after");
        claimed
    }

    fn reserve(&self, term: Term, until: CheckpointId) -> Result<(), StoreError> {
        point("reserve-before");
        let reserved = self.0.reserve(term, until);
        point("reserve-after");
        reserved
    }

    fn create_blob(&self, id: BlobId) -> Result<Box<dyn BlobWriter>, StoreError> {
        point("create-blob-before");
        let writer = self.0.create_blob(id)?;
        point("create-blob-after");
        Ok(Box::new(MortalWriter(writer)))
    }

    fn read(&self, section: &Section) -> Result<Vec<u8>, StoreError> {
        point("read");
        self.0.read(section)
    }

    fn verify_blob(&self, blob: &BlobRef) -> Result<(), StoreError> {
        point("verify-blob");
        self.0.verify_blob(blob)
    }

    fn put_manifest(&self, term: Term, manifest: &Manifest) -> Result<(), StoreError> {
        point("put-manifest-before");
        self.0.put_manifest(term, manifest)?;
        // Not `println!`, which the harness would hold back: the line must be out before the
        // process dies.
        writeln!(std::io::stdout(), "{COMPLETE}").expect("the parent reads");
        point("put-manifest-after");
        Ok(())
    }

    fn manifest(&self, checkpoint: CheckpointId) -> Result<Manifest, StoreError> {
        point("read-manifest");
        self.0.manifest(checkpoint)
    }

    fn manifests(&self) -> Result<Vec<CheckpointId>, StoreError> {
        point("list-manifests");
        self.0.manifests()
    }

    fn blobs(&self) -> Result<Vec<BlobRef>, StoreError> {
        self.0.blobs()
    }

    fn delete(
        &self,
        term: Term,
        manifests: &[CheckpointId],
        blobs: &[BlobId],
    ) -> Result<(), StoreError> {
        point("delete-before");
        self.0.delete(term, manifests, &[])?;
        // SPEC 8.5: manifests first, durably.
        point("delete-between");
        self.0.delete(term, &[], blobs)?;
        point("delete-after");
        Ok(())
    }
}

struct MortalWriter(Box<dyn BlobWriter>);

impl BlobWriter for MortalWriter {
    fn append(&mut self, bytes: &[u8]) -> Result<Section, StoreError> {
        let section = self.0.append(bytes);
        point("append");
        section
    }

    fn finish(self: Box<Self>) -> Result<u64, StoreError> {
        point("finish-before");
        let length = self.0.finish();
        point("finish-after");
        length
    }
}

/// A source or a sink, or a part of one, whose process may die.
#[derive(Clone)]
pub(crate) struct Mortal<T>(pub(crate) T);

impl<S: Source> Source for Mortal<S> {
    type Record = S::Record;
    type Position = S::Position;
    type Reader = Mortal<S::Reader>;

    fn open(
        &self,
        context: &OpenContext,
        position: Option<S::Position>,
    ) -> Result<Self::Reader, BoxError> {
        point("open-source");
        self.0.open(context, position).map(Mortal)
    }

    fn is_replayable(&self) -> bool {
        self.0.is_replayable()
    }
}

impl<R: SourceReader> SourceReader for Mortal<R> {
    type Record = R::Record;
    type Position = R::Position;

    fn read<C: Collect<R::Record>>(
        &mut self,
        limit: usize,
        out: &mut C,
    ) -> Result<Progress, BoxError> {
        point("read-source");
        self.0.read(limit, out)
    }

    fn position(&self) -> R::Position {
        point("position");
        self.0.position()
    }
}

impl<S: TwoPhaseSink> TwoPhaseSink for Mortal<S> {
    type Record = S::Record;
    type Committable = S::Committable;
    type Writer = Mortal<S::Writer>;
    type Committer = Mortal<S::Committer>;

    fn open(&self, context: &OpenContext) -> Result<(Self::Writer, Self::Committer), BoxError> {
        point("open-sink");
        let (writer, committer) = self.0.open(context)?;
        Ok((Mortal(writer), Mortal(committer)))
    }

    fn delivery(&self) -> Delivery {
        self.0.delivery()
    }
}

impl<W: SinkWriter> SinkWriter for Mortal<W> {
    type Record = W::Record;
    type Committable = W::Committable;

    fn write(&mut self, records: &mut Vec<W::Record>) -> Result<(), BoxError> {
        let written = self.0.write(records);
        point("write");
        written
    }

    fn close(&mut self, txn: TxnId) -> Result<W::Committable, BoxError> {
        point("close-before");
        let closed = self.0.close(txn);
        point("close-after");
        closed
    }
}

impl<C: SinkCommitter> SinkCommitter for Mortal<C> {
    type Committable = C::Committable;

    fn fence(&mut self, attempt: Attempt) -> Result<Vec<(TxnId, C::Committable)>, BoxError> {
        point("fence-before");
        let prepared = self.0.fence(attempt);
        point("fence-after");
        prepared
    }

    fn prepare(&mut self, txn: TxnId, committable: &C::Committable) -> Result<(), BoxError> {
        point("prepare-before");
        let prepared = self.0.prepare(txn, committable);
        point("prepare-after");
        prepared
    }

    fn commit(
        &mut self,
        grant: CommitGrant,
        committable: &C::Committable,
    ) -> Result<CommitOutcome, BoxError> {
        point("commit-before");
        let outcome = self.0.commit(grant, committable);
        point("commit-after");
        outcome
    }

    fn roll_back(&mut self, txn: TxnId, committable: &C::Committable) -> Result<(), BoxError> {
        point("roll-back-before");
        let rolled = self.0.roll_back(txn, committable);
        point("roll-back-after");
        rolled
    }
}
