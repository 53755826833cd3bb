//! Tests of the room as a whole.

mod collections;
mod hash;
mod restore;
mod sharing;
mod table;
mod thinning;

use std::collections::BTreeMap;

use crate::base::sync::{Arc, Mutex, lock};
use crate::state::{Checks, Image, NamedImage, SegmentLocations, VerifyState, Written, write};
use crate::store::{BlobRef, BlobWriter, Manifest, Section, SnapshotRef, Store, StoreError};
use snapline_protocol::fence::{Claimant, Fence};
use snapline_protocol::ids::{Attempt, BlobId, CheckpointId, SubtaskId, Term};

type Blobs = Arc<Mutex<BTreeMap<BlobId, Vec<u8>>>>;

/// Blobs in memory, and nothing else.
#[derive(Default)]
struct Memory(Blobs);

struct MemoryBlob {
    id: BlobId,
    bytes: Vec<u8>,
    blobs: Blobs,
}

impl BlobWriter for MemoryBlob {
    fn append(&mut self, bytes: &[u8]) -> Result<Section, StoreError> {
        let (offset, length) = (self.bytes.len() as u64, bytes.len() as u64);
        self.bytes.extend_from_slice(bytes);
        Ok(Section { blob: self.id, offset, length, checksum: crc32fast::hash(bytes) })
    }

    fn finish(self: Box<Self>) -> Result<u64, StoreError> {
        let length = self.bytes.len() as u64;
        assert!(lock(&self.blobs).insert(self.id, self.bytes).is_none(), "one name, one content");
        Ok(length)
    }
}

// Invariant: `state` calls only `create_blob` and `read` of a store; a change of that fails here.
impl Store for Memory {
    fn create_blob(&self, id: BlobId) -> Result<Box<dyn BlobWriter>, StoreError> {
        Ok(Box::new(MemoryBlob { id, bytes: Vec::new(), blobs: Arc::clone(&self.0) }))
    }

    fn read(&self, section: &Section) -> Result<Vec<u8>, StoreError> {
        let blobs = lock(&self.0);
        let Some(blob) = blobs.get(&section.blob) else {
            return Err(StoreError::Missing { what: format!("{:?}", section.blob) });
        };
        let (start, length) = (section.offset as usize, section.length as usize);
        let bytes = blob[start..start + length].to_vec();
        assert_eq!(crc32fast::hash(&bytes), section.checksum);
        Ok(bytes)
    }

    // Invariant, of all that follows: the code under test creates blobs and reads them. Another
    // call would be a defect, and fails the test.

    fn describe(&self) -> String {
        unreachable!("state only reads and writes blobs")
    }

    fn fence(&self) -> Result<Fence, StoreError> {
        unreachable!("state only reads and writes blobs")
    }

    fn claim(&self, _: Term, _: Claimant, _: u64) -> Result<CheckpointId, StoreError> {
        unreachable!("state only reads and writes blobs")
    }

    fn reserve(&self, _: Term, _: CheckpointId) -> Result<(), StoreError> {
        unreachable!("state only reads and writes blobs")
    }

    fn verify_blob(&self, _: &BlobRef) -> Result<(), StoreError> {
        unreachable!("state only reads and writes blobs")
    }

    fn put_manifest(&self, _: Term, _: &Manifest) -> Result<(), StoreError> {
        unreachable!("state only reads and writes blobs")
    }

    fn manifest(&self, _: CheckpointId) -> Result<Manifest, StoreError> {
        unreachable!("state only reads and writes blobs")
    }

    fn manifests(&self) -> Result<Vec<CheckpointId>, StoreError> {
        unreachable!("state only reads and writes blobs")
    }

    fn blobs(&self) -> Result<Vec<BlobRef>, StoreError> {
        unreachable!("state only reads and writes blobs")
    }

    fn delete(&self, _: Term, _: &[CheckpointId], _: &[BlobId]) -> Result<(), StoreError> {
        unreachable!("state only reads and writes blobs")
    }
}

impl Memory {
    /// Writes images as the snapshot of the next checkpoint.
    fn write(&self, images: Vec<NamedImage>, base: Option<&SegmentLocations>) -> Written {
        let last = lock(&self.0).keys().next_back().map_or(0, |id| id.checkpoint.get());
        let number = last + 1;
        let id = BlobId {
            checkpoint: CheckpointId::new(number).expect("it is not zero"),
            attempt: Attempt::first(Term::new(1)),
            subtask: SubtaskId::new(0),
        };
        let writer = self.create_blob(id).expect("memory takes blobs");
        let mut checks = Checks::new(VerifyState::All);
        let written = write(images, base, &mut checks, writer).expect("it can be encoded");
        assert_eq!(written.root.blob, id);
        written
    }

    /// Deletes all blobs but those of a snapshot, as retention would.
    fn keep_only(&self, written: &Written) {
        lock(&self.0).retain(|id, _| written.blobs.iter().any(|blob| blob.id == *id));
    }
}

fn named(state: &str, image: Box<dyn Image>) -> NamedImage {
    NamedImage { operator: "count".into(), state: state.into(), image }
}

fn snapshot(written: &Written) -> SnapshotRef {
    SnapshotRef {
        subtask: SubtaskId::new(0),
        root: written.root,
        blobs: written.blobs.clone(),
        written: written.written,
        reused: written.reused,
    }
}
