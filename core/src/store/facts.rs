//! Reads from a store the input of the protocol's pure functions: inventories (SPEC 8.5) and facts
//! (SPEC 7).

use std::collections::BTreeSet;

use snapline_protocol::ids::{CheckpointId, Term};
use snapline_protocol::message::CheckpointKind;
use snapline_protocol::recovery::{Facts, Found, Health, Policy};
use snapline_protocol::retention::{Inventory, Stored};

use super::{BlobRef, Manifest, Store, StoreError};
use crate::base::watch;

/// The newest checkpoint that the store knows to be complete, if its manifest is gone and no newer
/// one is there. With it, the job's commits since the newest remaining checkpoint are lost (SPEC
/// 7.6). Also returns the error of reading it. A store without such a note, as earlier builds
/// wrote, gives none.
///
/// # Errors
/// [`StoreError`] if the fence cannot be read, or a listing fails: then nothing is known.
pub fn lost(store: &dyn Store) -> Result<Option<(CheckpointId, StoreError)>, StoreError> {
    let mut known = store.fence()?.completed;
    loop {
        let Some(completed) = known else { return Ok(None) };
        if store.manifests()?.last() >= Some(&completed) {
            return Ok(None);
        }
        let missing = match store.manifest(completed) {
            Err(error @ StoreError::Missing { .. }) => error,
            Ok(_) => return Ok(None),
            // It is there, and was not when the rest was listed.
            Err(error) if error.is_verdict() => return Ok(None),
            Err(error) => return Err(error),
        };
        // A running job may have completed the next, and deleted this one, between the two reads.
        let again = store.fence()?.completed;
        if again == known {
            return Ok(Some((completed, missing)));
        }
        known = again;
    }
}

/// Reads the content of the store, for [`snapline_protocol::retention::plan`]. The roots must have
/// been read before (SPEC 8.5).
///
/// A manifest of a format version that is unknown to this build counts as unreadable: it stays,
/// with everything it might need. So does one that is [`lost`]: it may be put back.
///
/// # Errors
/// [`StoreError`] if a listing or a read fails: then nothing is known, and nothing may be deleted.
pub fn inventory(store: &dyn Store) -> Result<Inventory, StoreError> {
    Ok(sized_inventory(store)?.0)
}

/// The same, and the length of each blob.
pub fn sized_inventory(store: &dyn Store) -> Result<(Inventory, Vec<BlobRef>), StoreError> {
    let mut inventory = Inventory::default();
    // SPEC 8.5: manifests, oldest first, then blobs. A listed blob was there before any manifest
    // that is not listed.
    for checkpoint in store.manifests()? {
        watch::beat();
        match store.manifest(checkpoint) {
            Ok(manifest) => {
                let blobs = manifest.snapshots.iter().flat_map(|snapshot| &snapshot.blobs);
                let blobs: BTreeSet<_> = blobs.map(|blob| blob.id).collect();
                inventory.manifests.push(Stored { checkpoint, blobs: blobs.into_iter().collect() });
            }
            // Deleted since the listing.
            Err(StoreError::Missing { .. }) => {}
            // SPEC 8.4
            Err(error) if error.is_verdict() => inventory.unreadable.push(checkpoint),
            Err(error) => return Err(error),
        }
    }
    // SPEC 8.4
    inventory.unreadable.extend(lost(store)?.map(|(checkpoint, _)| checkpoint));
    let blobs = store.blobs()?;
    inventory.blobs = blobs.iter().map(|blob| blob.id).collect();
    Ok((inventory, blobs))
}

/// Verifies a checkpoint: its manifest, and every byte of every blob it needs. Also returns what is
/// wrong, if anything.
///
/// # Errors
/// [`StoreError`] if something cannot be read now, which says nothing about the checkpoint.
pub fn health(
    store: &dyn Store,
    checkpoint: CheckpointId,
) -> Result<(Option<Manifest>, Health, Option<StoreError>), StoreError> {
    let manifest = match store.manifest(checkpoint) {
        Ok(manifest) => manifest,
        Err(error) if error.is_verdict() => return Ok((None, Health::Unreadable, Some(error))),
        Err(error) => return Err(error),
    };
    match verify(store, &manifest) {
        Ok(()) => Ok((Some(manifest), Health::Whole, None)),
        Err(error) if error.is_verdict() => Ok((Some(manifest), Health::Damaged, Some(error))),
        Err(error) => Err(error),
    }
}

fn verify(store: &dyn Store, manifest: &Manifest) -> Result<(), StoreError> {
    manifest.check_parts()?;
    let mut verified = BTreeSet::new();
    for snapshot in &manifest.snapshots {
        for blob in &snapshot.blobs {
            // Snapshots of one subtask share blobs over time, those of one checkpoint do not. But
            // nothing here depends on that.
            if verified.insert((blob.id, blob.length)) {
                watch::beat();
                store.verify_blob(blob)?;
            }
        }
        let root = &snapshot.root;
        if !snapshot.blobs.iter().any(|blob| blob.id == root.blob) {
            return Err(StoreError::corrupt(
                format!("the manifest of checkpoint {}", manifest.checkpoint),
                format!("the root of {:?} in one of the blobs it needs", snapshot.subtask),
                format!("it in {:?}", root.blob),
            ));
        }
        store.read(root)?;
    }
    Ok(())
}

/// A manifest as recovery sees it. Of an unreadable one only the health counts: its kind is
/// unknown, and not used.
#[must_use]
pub fn found(checkpoint: CheckpointId, manifest: Option<&Manifest>, health: Health) -> Found {
    let kind = manifest.map_or(CheckpointKind::Periodic, |manifest| manifest.kind);
    let ended = manifest.is_some_and(|manifest| manifest.ended);
    Found { checkpoint, kind, ended, health }
}

fn not_given_out(checkpoint: CheckpointId, until: CheckpointId) -> StoreError {
    let what = format!("the manifest of checkpoint {checkpoint}");
    let expected = format!("an id below {until}, the first that the fence has not given out");
    StoreError::corrupt(what, expected, checkpoint.to_string())
}

/// Reads the facts for [`snapline_protocol::recovery::decide`], after the fence was raised (SPEC
/// 7.1), and what is wrong with each manifest that is not whole.
///
/// Checkpoints are verified newest first, and only as far as the decision looks: to the newest, or,
/// where older ones are allowed, to the newest whole one. Older ones are left out, not called
/// whole. They cannot change the decision, which depends on the newest one's health alone (SPEC
/// 7.2), or, with older ones allowed, on the newest whole one's (SPEC 7.3). Either is in the facts,
/// and so are all newer ones. Nothing older is left out of facts without a whole one, unless the
/// newest decides. In a store whose fence has another term nothing is decided by manifests (SPEC
/// 7.1), and none is read.
///
/// # Errors
/// [`StoreError`] if something cannot be read now. Calling it missing would give up a whole
/// checkpoint.
pub fn recovery_facts(
    store: &dyn Store,
    mine: Term,
    policy: Policy,
) -> Result<(Facts, Vec<(CheckpointId, StoreError)>), StoreError> {
    let mut facts = Facts { mine, fence: store.fence()?.term, manifests: Vec::new(), policy };
    let mut wrong = Vec::new();
    if facts.fence != mine {
        return Ok((facts, wrong));
    }
    if let Some((checkpoint, error)) = lost(store)? {
        // SPEC 7.6
        facts.manifests.push(found(checkpoint, None, Health::Missing));
        wrong.push((checkpoint, error));
    }
    let until = store.fence()?.until;
    let decided = |facts: &Facts| !facts.manifests.is_empty() && !policy.allow_older;
    for checkpoint in store.manifests()?.into_iter().rev() {
        if decided(&facts) {
            break;
        }
        let (manifest, health, error) = match checkpoint < until {
            true => health(store, checkpoint)?,
            // SPEC 4.2: an id that was never reserved; the fence was set back, or the manifest is
            // not a job's.
            false => (None, Health::Unreadable, Some(not_given_out(checkpoint, until))),
        };
        if manifest.is_none() && matches!(error, Some(StoreError::Missing { .. })) {
            // Deleted since the listing: as garbage, by a deposed process (SPEC 8.1).
            continue;
        }
        facts.manifests.push(found(checkpoint, manifest.as_ref(), health));
        wrong.extend(error.map(|error| (checkpoint, error)));
        if health == Health::Whole {
            break;
        }
    }
    // Read again: a process deposed meanwhile has read what its successor was changing.
    facts.fence = store.fence()?.term;
    Ok((facts, wrong))
}
