//! Proof that a snapshot is durable: the one place of the runtime that makes it.

use snapline_protocol::ids::BlobId;
use snapline_protocol::message::Persisted;

use super::{BlobWriter, Section, Store, StoreError};
use crate::base::error::BoxError;
use crate::base::fault::{Faults, Mutation};
use crate::base::sync::{Arc, AtomicBool, Ordering};
use crate::base::watch;

/// Writes one blob, and attests that it is durable: only if its writer was finished, and the store
/// reported success (SPEC 3.5).
///
/// # Errors
/// The error of the closure or of the store; also if the closure succeeds without finishing the
/// blob.
pub fn write_snapshot<R>(
    store: &dyn Store,
    id: BlobId,
    faults: Faults,
    write: impl FnOnce(Box<dyn BlobWriter>) -> Result<R, BoxError>,
) -> Result<(R, Persisted), BoxError> {
    let finished = Arc::new(AtomicBool::new(false));
    let lenient = faults.is_active(Mutation::WriteErrorSwallowed);
    let writer = store.create_blob(id)?;
    let witness = DurableWriter { writer, finished: Arc::clone(&finished), lenient, length: 0 };
    let result = write(Box::new(witness))?;
    if !finished.load(Ordering::Relaxed) {
        return Err("the snapshot's blob was not finished".into());
    }
    Ok((result, Persisted::attest(id.attempt, id.checkpoint)))
}

/// A writer that remembers whether it was finished.
struct DurableWriter {
    writer: Box<dyn BlobWriter>,
    finished: Arc<AtomicBool>,
    /// A planted fault: errors are ignored.
    lenient: bool,
    /// How many bytes were appended.
    length: u64,
}

impl BlobWriter for DurableWriter {
    fn append(&mut self, bytes: &[u8]) -> Result<Section, StoreError> {
        self.length += bytes.len() as u64;
        watch::beat();
        self.writer.append(bytes)
    }

    fn finish(self: Box<Self>) -> Result<u64, StoreError> {
        watch::beat();
        let length = match self.writer.finish() {
            Err(_) if self.lenient => self.length,
            length => length?,
        };
        self.finished.store(true, Ordering::Relaxed);
        Ok(length)
    }
}
