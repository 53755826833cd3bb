//! The home of checkpoints: blobs, manifests and a fence (SPEC 8, 13).
//!
//! A [`Store`] is a peer of the protocol: it keeps data and decides nothing.
//! [`snapline_protocol::recovery`] decides which checkpoint is restored, and
//! [`snapline_protocol::retention`] what may be deleted.

mod durable_writer;
mod error;
mod facts;
#[doc(hidden)]
pub mod format;
mod local;
mod memory;

#[doc(hidden)]
pub use durable_writer::write_snapshot;
pub use error::StoreError;
#[doc(hidden)]
pub use facts::sized_inventory;
pub use facts::{found, health, inventory, lost, recovery_facts};
#[doc(hidden)]
pub use format::parse_manifest_name as manifest_checkpoint;
pub use local::{LocalStore, Takeover};
pub use memory::MemoryStore;

use snapline_protocol::fence::{Claimant, Fence};
use snapline_protocol::ids::{Attempt, BlobId, CheckpointId, SubtaskId, Term};
use snapline_protocol::message::CheckpointKind;

/// A run of bytes in a blob: its place, length and checksum. Reading it verifies all three.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, serde::Serialize, serde::Deserialize)]
pub struct Section {
    /// The blob it is in.
    pub blob: BlobId,
    /// Its start, in bytes from the start of the blob.
    pub offset: u64,
    /// Its length in bytes.
    pub length: u64,
    /// CRC-32 (IEEE) of its bytes.
    pub checksum: u32,
}

/// A blob that a snapshot needs, as the manifest names it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, serde::Serialize, serde::Deserialize)]
pub struct BlobRef {
    /// The blob.
    pub id: BlobId,
    /// Its whole length in bytes.
    pub length: u64,
}

/// One subtask's part of a checkpoint, as the manifest names it.
#[derive(Clone, PartialEq, Eq, Debug, serde::Serialize, serde::Deserialize)]
pub struct SnapshotRef {
    /// The subtask.
    pub subtask: SubtaskId,
    /// The place of its table of contents ([`crate::state`]).
    pub root: Section,
    /// Every blob it needs, the one written for this checkpoint and those shared with its base.
    pub blobs: Vec<BlobRef>,
    /// Bytes written for it.
    pub written: u64,
    /// Bytes it shares with its base, not written again.
    pub reused: u64,
}

/// An operator as a manifest describes it.
#[derive(Clone, PartialEq, Eq, Debug, serde::Serialize, serde::Deserialize)]
pub struct OperatorRef {
    /// Its name, unique in the job.
    pub name: String,
    /// The number of its subtasks.
    pub parallelism: usize,
}

/// The durable list of a checkpoint's snapshots. Its durability completes the checkpoint (SPEC
/// 4.5).
#[derive(Clone, PartialEq, Eq, Debug, serde::Serialize, serde::Deserialize)]
pub struct Manifest {
    /// The checkpoint.
    pub checkpoint: CheckpointId,
    /// The attempt whose snapshots it lists.
    pub attempt: Attempt,
    /// The checkpoint's kind.
    pub kind: CheckpointKind,
    /// Whether every subtask's input had ended before its barrier.
    pub ended: bool,
    /// The time of writing, in milliseconds since the Unix epoch. For people; nothing is decided by
    /// it.
    pub written_at: u64,
    /// The job's name.
    pub job: String,
    /// The number of key groups, fixed at the job's first run.
    pub key_groups: u16,
    /// The seed that the job's first start drew for the hashes of its keys (SPEC 14.1), handed on
    /// to every later checkpoint. It is a secret, by which colliding keys can be made. `None` in a
    /// checkpoint of a job whose first was taken without.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hash_seed: Option<u64>,
    /// The operators, in the order of the topology: subtasks are numbered through them.
    pub operators: Vec<OperatorRef>,
    /// The snapshots, by subtask.
    pub snapshots: Vec<SnapshotRef>,
}

impl Manifest {
    /// Checks that there is one part for each subtask, in their order, and that each part is its
    /// subtask's own: its root is in the blob that the subtask wrote for this checkpoint, and all
    /// blobs that it needs are the subtask's (SPEC 8.7). The runtime checks it before a store
    /// writes a manifest, and recovery checks what it reads.
    ///
    /// # Errors
    /// [`StoreError::Corrupt`]: a part is missing, is there twice, or belongs to another subtask.
    pub fn check_parts(&self) -> Result<(), StoreError> {
        let subtasks: usize = self.operators.iter().map(|operator| operator.parallelism).sum();
        let wrong = |expected: String, found: String| {
            let what = format!("the manifest of checkpoint {}", self.checkpoint);
            Err(StoreError::corrupt(what, expected, found))
        };
        if self.snapshots.len() != subtasks {
            let expected = format!("snapshots of {subtasks} subtasks");
            return wrong(expected, self.snapshots.len().to_string());
        }
        for (place, part) in self.snapshots.iter().enumerate() {
            let Self { checkpoint, attempt, .. } = *self;
            let subtask = part.subtask;
            if subtask.index() != place {
                let expected = format!("the part of subtask {place} in its place");
                return wrong(expected, format!("that of subtask {}", subtask.index()));
            }
            let own = BlobId { checkpoint, attempt, subtask };
            if part.root.blob != own {
                let found = format!("{:?}", part.root.blob);
                return wrong(format!("the root of subtask {place} in {own:?}"), found);
            }
            if let Some(blob) = part.blobs.iter().find(|blob| blob.id.subtask != subtask) {
                let found = format!("{:?} of another", blob.id);
                return wrong(format!("blobs of subtask {place} in its part"), found);
            }
        }
        Ok(())
    }

    /// The part of a subtask, by the operator's name and the subtask's index in it. `None` if the
    /// manifest has no such subtask.
    #[must_use]
    pub fn part(&self, operator: &str, index: usize) -> Option<&SnapshotRef> {
        let place = self.operators.iter().position(|it| it.name == operator)?;
        let before = self.operators[..place].iter().map(|it| it.parallelism);
        let number = before.sum::<usize>() + index;
        let is_there = index < self.operators[place].parallelism;
        self.snapshots.iter().find(|part| is_there && part.subtask.index() == number)
    }

    /// Whether both have the same content, apart from the time of writing.
    #[must_use]
    pub fn same_content(&self, other: &Self) -> bool {
        // By name, so that a field added later is not forgotten here.
        let Self {
            checkpoint,
            attempt,
            kind,
            ended,
            written_at: _,
            job,
            key_groups,
            hash_seed,
            operators,
            snapshots,
        } = self;
        (checkpoint, attempt, kind, ended)
            == (&other.checkpoint, &other.attempt, &other.kind, &other.ended)
            && (job, key_groups, hash_seed) == (&other.job, &other.key_groups, &other.hash_seed)
            && (operators, snapshots) == (&other.operators, &other.snapshots)
    }
}

/// The place where checkpoints are kept. One job has one store; its methods may be called from
/// several threads at once, and may block.
///
/// # Contract
/// When [`Store::put_manifest`], [`Store::claim`] or [`BlobWriter::finish`] returns `Ok`, the
/// effect is durable, and visible to every later read (SPEC 2.4-2.6). A write either compares the
/// fence in one atomic step with itself or is not fenced at all; see each method.
pub trait Store: Send + Sync + 'static {
    /// A description for people: its kind and place, such as `directory /data/job`.
    fn describe(&self) -> String;

    /// The current fence; [`Fence::default`] for a store that was never claimed.
    ///
    /// # Errors
    /// [`StoreError`] if it cannot be read.
    fn fence(&self) -> Result<Fence, StoreError>;

    /// Raises the fence ([`Fence::claim`]) and returns the first id reserved (SPEC 4.1). The
    /// visible writes of earlier owners are durable when it returns: recovery may build on
    /// everything it finds (SPEC 13.7). The newest manifest is noted in the fence
    /// ([`Fence::complete`]), if it was not.
    ///
    /// # Errors
    /// [`StoreError::Fenced`] if a later term, or another claimant of the same, holds it.
    /// [`StoreError::InUse`] from a store that was opened without deposing its owner, while that
    /// owner lives.
    fn claim(&self, term: Term, claimant: Claimant, block: u64)
    -> Result<CheckpointId, StoreError>;

    /// Reserves ids ([`Fence::reserve`]) (SPEC 4.2).
    ///
    /// # Errors
    /// [`StoreError::Fenced`] if a later term holds the fence.
    fn reserve(&self, term: Term, until: CheckpointId) -> Result<(), StoreError>;

    /// Begins a blob; nothing of it is visible until it is finished. Not fenced: its name is its
    /// own (SPEC 8.2).
    ///
    /// # Errors
    /// [`StoreError`] if it cannot be begun.
    fn create_blob(&self, id: BlobId) -> Result<Box<dyn BlobWriter>, StoreError>;

    /// Reads a section and verifies its length and checksum.
    ///
    /// # Errors
    /// [`StoreError::Missing`] or [`StoreError::Corrupt`], which name the file, the expected and
    /// the found.
    fn read(&self, section: &Section) -> Result<Vec<u8>, StoreError>;

    /// Reads and verifies every byte of a blob, framing included.
    ///
    /// # Errors
    /// [`StoreError::Missing`] or [`StoreError::Corrupt`], which name the file, the expected and
    /// the found.
    fn verify_blob(&self, blob: &BlobRef) -> Result<(), StoreError>;

    /// Puts a manifest if absent, under the fence: compared with `term` in one step with the write
    /// (SPEC 2.6). An existing one with the same content counts as put, and is durable on return;
    /// [`Manifest::written_at`] is not compared, since nothing is decided by it. Only when the
    /// manifest is durable, the store notes in its fence that the checkpoint is complete
    /// ([`Fence::complete`]).
    ///
    /// # Errors
    /// [`StoreError::Fenced`]; [`StoreError::Exists`] if another one has the name;
    /// [`StoreError::Corrupt`] if an unreadable one has it.
    fn put_manifest(&self, term: Term, manifest: &Manifest) -> Result<(), StoreError>;

    /// Reads a manifest and verifies it.
    ///
    /// # Errors
    /// [`StoreError::Missing`] or [`StoreError::Corrupt`].
    fn manifest(&self, checkpoint: CheckpointId) -> Result<Manifest, StoreError>;

    /// Every manifest, readable or not, ascending.
    ///
    /// # Errors
    /// [`StoreError`] if the listing fails.
    fn manifests(&self) -> Result<Vec<CheckpointId>, StoreError>;

    /// Every blob, with its length in bytes, ascending; unfinished ones are not listed.
    ///
    /// # Errors
    /// [`StoreError`] if the listing fails.
    fn blobs(&self) -> Result<Vec<BlobRef>, StoreError>;

    /// Deletes manifests, durably, then blobs, each in the order given; missing ones count as
    /// deleted. Also removes the remains of unfinished writes of earlier terms. Compares the fence
    /// first (SPEC 8.5).
    ///
    /// # Errors
    /// [`StoreError::Fenced`] if a later term holds the fence; then nothing is deleted.
    fn delete(
        &self,
        term: Term,
        manifests: &[CheckpointId],
        blobs: &[BlobId],
    ) -> Result<(), StoreError>;
}

/// A blob being written. If it is dropped without [`BlobWriter::finish`], nothing of it stays.
pub trait BlobWriter: Send {
    /// Appends bytes as one section.
    ///
    /// # Errors
    /// [`StoreError::Io`].
    fn append(&mut self, bytes: &[u8]) -> Result<Section, StoreError>;

    /// Makes the blob durable and visible under its name: written, synced, and reachable after a
    /// crash. Returns its whole length.
    ///
    /// # Errors
    /// [`StoreError::Io`]; [`StoreError::Exists`] if the name is taken.
    fn finish(self: Box<Self>) -> Result<u64, StoreError>;
}
