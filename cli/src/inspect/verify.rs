//! Reads every byte of a checkpoint directory.

use std::collections::BTreeSet;

use serde::Serialize;
use snapline::state::{Root, to_json};
use snapline::store::{BlobRef, LocalStore, Manifest, Store, StoreError, lost};

use crate::CommandError;
use crate::overview::failure;

/// Something that is not as it was written.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub(super) struct Defect {
    /// Where.
    pub(super) file: String,
    /// What should be there.
    pub(super) expected: String,
    /// What is there.
    pub(super) found: String,
}

/// What has been found so far, each once.
#[derive(Default)]
struct Defects(Vec<Defect>);

impl Defects {
    /// Takes note of an error that says something of the bytes; gives back any other.
    fn note(&mut self, error: StoreError) -> Result<(), CommandError> {
        let (file, expected, found) = match error {
            StoreError::Corrupt { what, expected, found } => (what, expected, found),
            StoreError::Missing { what } => (what, "the file".into(), "nothing".into()),
            StoreError::Version { what, found, known } => {
                (what, format!("format version {known}"), format!("format version {found}"))
            }
            other => return Err(failure(&other)),
        };
        self.put(Defect { file, expected, found });
        Ok(())
    }

    fn put(&mut self, defect: Defect) {
        if !self.0.contains(&defect) {
            self.0.push(defect);
        }
    }
}

/// Everything that is damaged: the fence, manifests, blobs, and state that cannot be read though
/// its bytes are right.
pub(super) fn all(store: &LocalStore) -> Result<Vec<Defect>, CommandError> {
    let mut defects = Defects::default();
    match store.fence() {
        Err(error) => defects.note(error)?,
        // SPEC 7.6
        Ok(_) => {
            if let Some((_, error)) = lost(store).map_err(|error| failure(&error))? {
                defects.note(error)?;
            }
        }
    }
    let mut verified = BTreeSet::new();
    for checkpoint in store.manifests().map_err(|error| failure(&error))? {
        match store.manifest(checkpoint) {
            Ok(manifest) => one(store, &manifest, &mut verified, &mut defects)?,
            // Deleted since the listing.
            Err(StoreError::Missing { .. }) => {}
            Err(error) => defects.note(error)?,
        }
    }
    for blob in store.blobs().map_err(|error| failure(&error))? {
        if verified.insert((blob.id, blob.length)) {
            match store.verify_blob(&blob) {
                // As above.
                Ok(()) | Err(StoreError::Missing { .. }) => {}
                Err(error) => defects.note(error)?,
            }
        }
    }
    Ok(defects.0)
}

/// What is damaged of one checkpoint; nothing if it is deleted meanwhile, as a job that runs does
/// with old ones.
fn one(
    store: &LocalStore,
    manifest: &Manifest,
    verified: &mut BTreeSet<(snapline::protocol::ids::BlobId, u64)>,
    defects: &mut Defects,
) -> Result<(), CommandError> {
    let mut found = Defects::default();
    for snapshot in &manifest.snapshots {
        let mut whole = true;
        for blob in &snapshot.blobs {
            let BlobRef { id, length } = *blob;
            verified.insert((id, length));
            if let Err(error) = store.verify_blob(blob) {
                whole = false;
                found.note(error)?;
            }
        }
        // What rests on damaged bytes would only say it again.
        if whole {
            contents(store, manifest, snapshot, &mut found)?;
        }
    }
    if matches!(store.manifest(manifest.checkpoint), Err(StoreError::Missing { .. })) {
        return Ok(());
    }
    found.0.into_iter().for_each(|defect| defects.put(defect));
    Ok(())
}

fn contents(
    store: &LocalStore,
    manifest: &Manifest,
    snapshot: &snapline::store::SnapshotRef,
    found: &mut Defects,
) -> Result<(), CommandError> {
    let bytes = match store.read(&snapshot.root) {
        Ok(bytes) => bytes,
        Err(error) => return found.note(error),
    };
    let mut broken = |what: &str, error: &dyn std::fmt::Display| {
        let file = store.manifest_path(manifest.checkpoint).display().to_string();
        found.put(Defect { file, expected: what.into(), found: error.to_string() });
    };
    match Root::decode(&bytes) {
        Ok(root) => {
            for entry in &root.entries {
                if let Err(error) = to_json(store, entry, &mut |_| Ok(())) {
                    broken("state that can be decoded", &error);
                }
            }
        }
        Err(error) => broken("a table of contents that can be decoded", &error),
    }
    Ok(())
}
