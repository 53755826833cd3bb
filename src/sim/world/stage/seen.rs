//! What an observer of the disk and of the external systems sees of a job.

use std::collections::{BTreeMap, BTreeSet};

use snapline_protocol::ids::{Attempt, BlobId, CheckpointId, SubtaskId, Term, TxnId};
use snapline_protocol::message::CheckpointKind;
use snapline_protocol::recovery::Health;

use crate::operator::body::POSITION;
use crate::operator::sink::COMMITTABLES;
use crate::runtime::handle::Ended;
use crate::state::Restored;
use crate::store::{LocalStore, StoreError, health};

/// A completed checkpoint, as read from the durable image of the disk.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct KeptCheckpoint {
    /// Its id.
    pub checkpoint: CheckpointId,
    /// The attempt that took it.
    pub attempt: Attempt,
    /// Its kind.
    pub kind: CheckpointKind,
    /// What is wrong with it, in words; `None` if it is whole.
    pub wrong: Option<String>,
    /// By subtask: the position of a source. None for one that does not report it.
    pub positions: BTreeMap<SubtaskId, u64>,
    /// The transactions that its sinks hold.
    pub held: BTreeSet<TxnId>,
    /// The blobs that it needs.
    pub blobs: BTreeSet<BlobId>,
}

/// A transaction in an external system: the system's name, its own, and its records.
pub type ExternalTransaction = (String, TxnId, Vec<String>);

/// What an observer sees without a running machine.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Observation {
    /// Completed checkpoints whose manifests are durable, ascending.
    pub checkpoints: Vec<KeptCheckpoint>,
    /// Blobs that are durable.
    pub blobs: BTreeSet<BlobId>,
    /// The committed transactions, in the order of their commits.
    pub visible: Vec<ExternalTransaction>,
    /// The prepared transactions.
    pub prepared: Vec<ExternalTransaction>,
    /// How the job ended, if it has.
    pub ended: Option<Ended>,
    /// Whether it has failed, and reported that an external system dropped data.
    pub data_loss: bool,
}

/// Reads one completed checkpoint.
///
/// # Errors
/// If it cannot be read now, which says nothing about it.
pub(super) fn kept(
    store: &LocalStore,
    checkpoint: CheckpointId,
) -> Result<KeptCheckpoint, StoreError> {
    let (manifest, state, error) = health(store, checkpoint)?;
    let wrong = (state != Health::Whole)
        .then(|| error.map_or_else(|| format!("{state:?}"), |error| error.to_string()));
    let mut kept = KeptCheckpoint {
        checkpoint,
        attempt: Attempt::first(Term::new(0)),
        kind: CheckpointKind::Periodic,
        wrong,
        positions: BTreeMap::new(),
        held: BTreeSet::new(),
        blobs: BTreeSet::new(),
    };
    let Some(manifest) = manifest else { return Ok(kept) };
    (kept.attempt, kept.kind) = (manifest.attempt, manifest.kind);
    for snapshot in &manifest.snapshots {
        kept.blobs.extend(snapshot.blobs.iter().map(|blob| blob.id));
        // An unreadable one is reported above.
        let Ok(mut restored) = Restored::read(store, snapshot) else { continue };
        for operator in &manifest.operators {
            if let Ok(Some(position)) = restored.single::<u64>(&operator.name, POSITION) {
                kept.positions.insert(snapshot.subtask, position);
            }
            let held = restored.single::<Vec<(TxnId, TxnId)>>(&operator.name, COMMITTABLES);
            kept.held.extend(held.ok().flatten().into_iter().flatten().map(|(txn, _)| txn));
        }
    }
    Ok(kept)
}
