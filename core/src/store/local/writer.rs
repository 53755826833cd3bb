//! A blob being written into a directory.

use std::io;
use std::path::PathBuf;

use snapline_protocol::ids::BlobId;

use super::LocalStoreInner;
use super::layout::behind_the_effect;
use crate::base::fault::Mutation;
use crate::base::sync::Arc;
use crate::fs::{Kind, Output};
use crate::store::format::{self, blob};
use crate::store::{BlobWriter, Section, StoreError};

/// Small sections are gathered up to this many bytes.
const GATHER: usize = 256 * 1024;

/// Writes a blob under an unfinished name, and names it when it is whole.
pub(super) struct LocalBlobWriter {
    store: Arc<LocalStoreInner>,
    id: BlobId,
    encoder: Option<blob::Encoder>,
    output: Box<dyn Output>,
    gathered: Vec<u8>,
    unfinished: PathBuf,
    named: bool,
}

impl LocalBlobWriter {
    pub(super) fn begin(store: Arc<LocalStoreInner>, id: BlobId) -> Result<Self, StoreError> {
        let (encoder, header) = blob::Encoder::new(id);
        let (unfinished, output) = store.layout.begin(&format::blob_name(id))?;
        let gathered = header.to_vec();
        let encoder = Some(encoder);
        Ok(Self { store, id, encoder, output, gathered, unfinished, named: false })
    }

    fn failed(&self, error: io::Error) -> StoreError {
        StoreError::io(format!("writing {}", self.unfinished.display()), error)
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), StoreError> {
        if self.gathered.len() + bytes.len() <= GATHER {
            self.gathered.extend_from_slice(bytes);
            return Ok(());
        }
        self.flush()?;
        if bytes.len() < GATHER {
            self.gathered.extend_from_slice(bytes);
            return Ok(());
        }
        self.output.write(bytes).map_err(|error| self.failed(error))
    }

    fn flush(&mut self) -> Result<(), StoreError> {
        self.output.write(&self.gathered).map_err(|error| self.failed(error))?;
        self.gathered.clear();
        Ok(())
    }

    /// Takes the encoder: after an error the content of the file is unknown, and nothing may be
    /// added to it.
    fn take(&mut self) -> Result<blob::Encoder, StoreError> {
        self.encoder.take().ok_or_else(|| self.failed(io::Error::other("an earlier write failed")))
    }
}

impl BlobWriter for LocalBlobWriter {
    fn append(&mut self, bytes: &[u8]) -> Result<Section, StoreError> {
        let mut encoder = self.take()?;
        self.write(bytes)?;
        let section = encoder.section(bytes);
        self.encoder = Some(encoder);
        Ok(section)
    }

    fn finish(mut self: Box<Self>) -> Result<u64, StoreError> {
        let (trailer, length) = self.take()?.finish();
        self.write(&trailer)?;
        self.flush()?;
        if !self.store.layout.files.faults().is_active(Mutation::AckBeforeSync) {
            self.output.sync().map_err(|error| self.failed(error))?;
        }
        let store = Arc::clone(&self.store);
        let path = store.layout.blob(self.id);
        {
            // SPEC 13.7: names are given under the guard, so that a free one stays free until it is
            // given.
            let _held = store.access()?.guard.hold()?;
            if store.layout.kind(&path)? != Kind::Nothing {
                return Err(StoreError::Exists { what: path.display().to_string() });
            }
            store.layout.rename(&self.unfinished, &path)?;
            self.named = true;
        }
        store.layout.sync(&store.layout.blobs()).map_err(behind_the_effect)?;
        Ok(length)
    }
}

impl Drop for LocalBlobWriter {
    fn drop(&mut self) {
        if !self.named {
            // If it stays, a later owner's deletion sweeps it.
            let _ = self.store.layout.files.remove(&self.unfinished);
        }
    }
}
