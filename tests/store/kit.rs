//! Helpers that the tests of stores share.

use snapline::protocol::fence::Claimant;
use snapline::protocol::ids::{Attempt, BlobId, CheckpointId, SubtaskId, Term};
use snapline::protocol::message::CheckpointKind;
use snapline::store::{BlobRef, Manifest, OperatorRef, Section, SnapshotRef, Store, StoreError};

pub(crate) fn id(number: u64) -> CheckpointId {
    CheckpointId::new(number).expect("not zero")
}

pub(crate) fn term(number: u32) -> Term {
    Term::new(number)
}

pub(crate) fn blob_id(checkpoint: u64, subtask: u16) -> BlobId {
    let attempt = Attempt::first(term(1));
    BlobId { checkpoint: id(checkpoint), attempt, subtask: SubtaskId::new(subtask) }
}

/// Writes a blob of these sections.
pub(crate) fn blob(
    store: &dyn Store,
    id: BlobId,
    sections: &[&[u8]],
) -> Result<(BlobRef, Vec<Section>), StoreError> {
    let mut writer = store.create_blob(id)?;
    let written = sections.iter().map(|bytes| writer.append(bytes)).collect::<Result<_, _>>()?;
    Ok((BlobRef { id, length: writer.finish()? }, written))
}

pub(crate) fn claim(store: &dyn Store, number: u32) {
    store.claim(term(number), Claimant(u64::from(number)), 100).expect("no other claim exists");
}

pub(crate) fn manifest(number: u64, snapshots: Vec<SnapshotRef>) -> Manifest {
    Manifest {
        checkpoint: id(number),
        attempt: Attempt::first(term(1)),
        kind: CheckpointKind::Periodic,
        ended: false,
        written_at: 1_700_000_000_000,
        job: "job with \"quotes\" and ümlauts".to_owned(),
        key_groups: 128,
        hash_seed: None,
        operators: vec![OperatorRef { name: "all".to_owned(), parallelism: snapshots.len() }],
        snapshots,
    }
}

/// Takes a checkpoint of two subtasks. The second shares the blob that it wrote for the
/// checkpoint's base, if there is one.
pub(crate) fn checkpoint(store: &dyn Store, number: u64, base: Option<&Manifest>) -> Manifest {
    let snapshots = (0..2).map(|subtask| {
        let state = vec![subtask as u8 + 1; 300];
        let root = format!("root of {subtask} at {number}");
        let sections: [&[u8]; 3] = [&state, b"", root.as_bytes()];
        let (own, written) = blob(store, blob_id(number, subtask), &sections).expect("written");
        let shared = base.filter(|_| subtask == 1).map(|base| base.snapshots[1].blobs.clone());
        let mut blobs = shared.unwrap_or_default();
        blobs.push(own);
        SnapshotRef {
            subtask: SubtaskId::new(subtask),
            root: written[2],
            blobs,
            written: own.length,
            reused: 0,
        }
    });
    let manifest = manifest(number, snapshots.collect());
    store.put_manifest(term(1), &manifest).expect("it is ours");
    manifest
}
