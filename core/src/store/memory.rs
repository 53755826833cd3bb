//! A store in memory, for tests and for jobs whose state need not outlive the process.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::fmt;
use std::io::Cursor;

use snapline_protocol::fence::{Claimant, Fence};
use snapline_protocol::ids::{BlobId, CheckpointId, Term};

use super::format::{self, blob};
use super::{BlobRef, BlobWriter, Manifest, Section, Store, StoreError};
use crate::base::sync::{Arc, Mutex, lock};

/// A store in memory. Clones share it; its content is dropped with the last of them.
///
/// It keeps a store's contract as far as memory can: fenced, complete or invisible, every byte
/// verified on read. Blobs have the bytes that they have on disk, so that lengths and offsets are
/// the same.
#[derive(Clone, Default)]
pub struct MemoryStore {
    content: Arc<Mutex<BlobContent>>,
}

#[derive(Default)]
struct BlobContent {
    fence: Fence,
    blobs: BTreeMap<BlobId, Arc<Vec<u8>>>,
    manifests: BTreeMap<CheckpointId, Manifest>,
}

impl MemoryStore {
    /// An empty, unclaimed store.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    fn blob(&self, id: BlobId) -> Result<Arc<Vec<u8>>, StoreError> {
        let found = lock(&self.content).blobs.get(&id).cloned();
        found.ok_or_else(|| StoreError::Missing { what: name_of_blob(id) })
    }
}

impl fmt::Debug for MemoryStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.describe())
    }
}

fn name_of_blob(id: BlobId) -> String {
    format!("{} in memory", format::blob_name(id))
}

fn name_of_manifest(checkpoint: CheckpointId) -> String {
    format!("{} in memory", format::manifest_name(checkpoint))
}

impl Store for MemoryStore {
    fn describe(&self) -> String {
        "store in memory".to_owned()
    }

    fn fence(&self) -> Result<Fence, StoreError> {
        Ok(lock(&self.content).fence)
    }

    fn claim(
        &self,
        term: Term,
        claimant: Claimant,
        block: u64,
    ) -> Result<CheckpointId, StoreError> {
        Ok(lock(&self.content).fence.claim(term, claimant, block)?)
    }

    fn reserve(&self, term: Term, until: CheckpointId) -> Result<(), StoreError> {
        Ok(lock(&self.content).fence.reserve(term, until)?)
    }

    fn create_blob(&self, id: BlobId) -> Result<Box<dyn BlobWriter>, StoreError> {
        let (encoder, header) = blob::Encoder::new(id);
        let content = Arc::clone(&self.content);
        Ok(Box::new(MemoryBlobWriter { content, id, encoder, bytes: header.to_vec() }))
    }

    fn read(&self, section: &Section) -> Result<Vec<u8>, StoreError> {
        let bytes = self.blob(section.blob)?;
        let what = name_of_blob(section.blob);
        blob::read(&what, section, bytes.len() as u64, &mut Cursor::new(&bytes[..]))
    }

    fn verify_blob(&self, blob: &BlobRef) -> Result<(), StoreError> {
        let bytes = self.blob(blob.id)?;
        let what = name_of_blob(blob.id);
        blob::verify(&what, blob, bytes.len() as u64, &mut Cursor::new(&bytes[..]))
    }

    fn put_manifest(&self, term: Term, manifest: &Manifest) -> Result<(), StoreError> {
        let mut content = lock(&self.content);
        content.fence.admit(term)?;
        match content.manifests.entry(manifest.checkpoint) {
            Entry::Vacant(place) => _ = place.insert(manifest.clone()),
            Entry::Occupied(there) if there.get().same_content(manifest) => {}
            Entry::Occupied(_) => {
                return Err(StoreError::Exists { what: name_of_manifest(manifest.checkpoint) });
            }
        }
        content.fence.complete(manifest.checkpoint);
        Ok(())
    }

    fn manifest(&self, checkpoint: CheckpointId) -> Result<Manifest, StoreError> {
        let found = lock(&self.content).manifests.get(&checkpoint).cloned();
        found.ok_or_else(|| StoreError::Missing { what: name_of_manifest(checkpoint) })
    }

    fn manifests(&self) -> Result<Vec<CheckpointId>, StoreError> {
        Ok(lock(&self.content).manifests.keys().copied().collect())
    }

    fn blobs(&self) -> Result<Vec<BlobRef>, StoreError> {
        let content = lock(&self.content);
        let blobs = content.blobs.iter();
        Ok(blobs.map(|(&id, bytes)| BlobRef { id, length: bytes.len() as u64 }).collect())
    }

    fn delete(
        &self,
        term: Term,
        manifests: &[CheckpointId],
        blobs: &[BlobId],
    ) -> Result<(), StoreError> {
        let mut content = lock(&self.content);
        content.fence.admit(term)?;
        for checkpoint in manifests {
            content.manifests.remove(checkpoint);
        }
        for id in blobs {
            content.blobs.remove(id);
        }
        Ok(())
    }
}

struct MemoryBlobWriter {
    content: Arc<Mutex<BlobContent>>,
    id: BlobId,
    encoder: blob::Encoder,
    bytes: Vec<u8>,
}

impl BlobWriter for MemoryBlobWriter {
    fn append(&mut self, bytes: &[u8]) -> Result<Section, StoreError> {
        self.bytes.extend_from_slice(bytes);
        Ok(self.encoder.section(bytes))
    }

    fn finish(self: Box<Self>) -> Result<u64, StoreError> {
        let Self { content, id, encoder, mut bytes } = *self;
        let (trailer, length) = encoder.finish();
        bytes.extend_from_slice(&trailer);
        match lock(&content).blobs.entry(id) {
            Entry::Vacant(place) => {
                place.insert(Arc::new(bytes));
                Ok(length)
            }
            Entry::Occupied(_) => Err(StoreError::Exists { what: name_of_blob(id) }),
        }
    }
}
