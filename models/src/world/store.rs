//! Storage: a fence, manifests and blobs. Everything here is durable; a write in flight is with its
//! writer.

use std::sync::Arc;

use snapline_protocol::coordinator::{Event, StoreOp, StoreResult};
use snapline_protocol::fence::Fence;
use snapline_protocol::ids::{Attempt, BlobId, CheckpointId, TxnId};
use snapline_protocol::message::CheckpointKind;
use snapline_protocol::recovery::{Facts, Found, Health, Policy};
use snapline_protocol::retention::{self, Inventory, Stored};

use super::rule::WrongRule;
use super::{Situation, Transition, World};
use crate::scenario::Setup;
use crate::tally::RecordTally;

/// A snapshot of one subtask, or its changes since its base.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Blob {
    /// The blob's name. First: blobs sort by it.
    pub id: BlobId,
    /// The blob it builds on.
    pub base: Option<BlobId>,
    /// Of a source: the number of records read.
    pub position: u8,
    /// Records in the state, without the base's.
    pub tally: RecordTally,
    /// Of a sink: its committables.
    pub pending: Vec<TxnId>,
    /// True if all its bytes are in storage.
    pub whole: bool,
}

/// A completed checkpoint.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct ManifestState {
    /// Its id.
    pub checkpoint: CheckpointId,
    /// The attempt that took it.
    pub attempt: Attempt,
    /// The checkpoint's kind.
    pub kind: CheckpointKind,
    /// True if all input had ended.
    pub ended: bool,
    /// True if all its bytes are in storage.
    pub whole: bool,
}

/// The contents of storage.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
pub struct StoreState {
    /// The fence, which names the owner.
    pub fence: Fence,
    /// Completed checkpoints, ascending.
    pub manifests: Vec<ManifestState>,
    /// Completed checkpoints whose manifests are lost. Only the laws read them.
    pub lost: Vec<ManifestState>,
    /// Blobs, ascending.
    pub blobs: Vec<Arc<Blob>>,
}

impl StoreState {
    /// The blob of this name.
    #[must_use]
    pub fn blob(&self, id: BlobId) -> Option<&Blob> {
        self.blobs
            .binary_search_by_key(&id, |blob| blob.id)
            .ok()
            .map(|place| self.blobs[place].as_ref())
    }

    /// The names of the blobs that a snapshot needs: its own, its base's, and so on; a missing one
    /// ends the list.
    pub fn closure(&self, id: BlobId) -> impl Iterator<Item = BlobId> + '_ {
        std::iter::successors(Some(id), |&id| self.blob(id).and_then(|blob| blob.base))
    }

    /// The state a snapshot holds, its bases included; `None` if any part is missing or broken.
    #[must_use]
    pub fn state(&self, id: BlobId) -> Option<RecordTally> {
        let mut tally = RecordTally::default();
        for id in self.closure(id) {
            tally.merge(self.blob(id).filter(|blob| blob.whole)?.tally);
        }
        Some(tally)
    }
}

/// Gives wrong names to blobs, in one place, so that writers and readers agree on them.
pub(crate) fn blob_name(setup: &Setup, id: BlobId) -> BlobId {
    match setup.mutant {
        // A counter of the writer's own, which each attempt continues from its restored snapshot.
        Some(WrongRule::LocalNamesKept | WrongRule::LocalNamesOverwritten) => {
            let later = u64::from(id.attempt.number.saturating_sub(1));
            let number = id.checkpoint.get().saturating_sub(later).max(1);
            let checkpoint = CheckpointId::new(number).unwrap_or(id.checkpoint);
            let attempt = Attempt { number: 1, ..id.attempt };
            BlobId { checkpoint, attempt, ..id }
        }
        _ => id,
    }
}

impl World {
    /// The blobs of a completed checkpoint, by subtask.
    pub(crate) fn roots_of<'a>(
        &self,
        setup: &'a Setup,
        manifest: &ManifestState,
    ) -> impl Iterator<Item = BlobId> + use<'a> {
        let (checkpoint, attempt) = (manifest.checkpoint, manifest.attempt);
        setup.aligners.iter().map(move |config| {
            blob_name(setup, BlobId { checkpoint, attempt, subtask: config.subtask })
        })
    }

    pub(crate) fn health(&self, setup: &Setup, manifest: &ManifestState) -> Health {
        if !manifest.whole {
            return Health::Unreadable;
        }
        let whole = |id| self.store.state(id).is_some();
        if self.roots_of(setup, manifest).all(whole) { Health::Whole } else { Health::Damaged }
    }

    pub(crate) fn facts(&self, setup: &Setup, mine: snapline_protocol::ids::Term) -> Facts {
        let found = |manifest: &ManifestState| Found {
            checkpoint: manifest.checkpoint,
            kind: manifest.kind,
            ended: manifest.ended,
            health: self.health(setup, manifest),
        };
        let mut manifests: Vec<Found> = self.store.manifests.iter().map(found).collect();
        match setup.mutant {
            Some(WrongRule::RestoreOlder) if manifests.len() > 1 => _ = manifests.pop(),
            Some(WrongRule::StopNotInStore) => {
                manifests.retain(|found| found.kind == CheckpointKind::Periodic);
            }
            Some(WrongRule::StartsFromNothing) => manifests.clear(),
            _ => {}
        }
        // SPEC 7.6
        let newest = self.store.manifests.last().map(|manifest| manifest.checkpoint);
        let missing = self.store.fence.completed.filter(|&completed| newest < Some(completed));
        manifests.extend(missing.map(|checkpoint| Found {
            checkpoint,
            kind: CheckpointKind::Periodic,
            ended: false,
            health: Health::Missing,
        }));
        Facts { mine, fence: self.store.fence.term, manifests, policy: Policy::default() }
    }

    /// Everything in storage, in the form that a plan of deletion needs.
    pub(crate) fn inventory(&self, setup: &Setup) -> Inventory {
        let stored = |manifest: &ManifestState| Stored {
            checkpoint: manifest.checkpoint,
            blobs: self.roots_of(setup, manifest).flat_map(|id| self.store.closure(id)).collect(),
        };
        let (readable, unreadable): (Vec<&ManifestState>, Vec<&ManifestState>) =
            self.store.manifests.iter().partition(|manifest| manifest.whole);
        Inventory {
            manifests: readable.into_iter().map(stored).collect(),
            unreadable: unreadable.iter().map(|manifest| manifest.checkpoint).collect(),
            blobs: self.store.blobs.iter().map(|blob| blob.id).collect(),
        }
    }
}

impl Transition<'_> {
    pub(super) fn name(&self, id: BlobId) -> BlobId {
        blob_name(self.setup, id)
    }

    pub(super) fn put_blob(&mut self, blob: Blob) {
        let blobs = &mut self.world.store.blobs;
        match blobs.binary_search_by_key(&blob.id, |other| other.id) {
            Err(place) => blobs.insert(place, Arc::new(blob)),
            Ok(place) if *blobs[place] == blob => {}
            Ok(place) => {
                self.world.ghost.overwritten = true;
                // Wrong: a name in use belongs to other bytes, which are kept or lost.
                if self.setup.mutant != Some(WrongRule::LocalNamesKept) {
                    self.world.store.blobs[place] = Arc::new(blob);
                }
            }
        }
    }

    /// Carries out a write of a coordinator. `reported` is true if it learns the result.
    pub(super) fn store(&mut self, coordinator: usize, write: usize, reported: bool) {
        let op = self.world.coordinators[coordinator].writes.remove(write);
        let event = self.store_op(coordinator, op);
        if matches!(op, StoreOp::Collect { .. })
            && !self.world.coordinators[coordinator].sweeping.is_empty()
        {
            // The answer comes when the blobs are gone too, see `sweep`.
            return;
        }
        if reported {
            self.conduct(coordinator, event);
        }
    }

    pub(super) fn store_op(&mut self, coordinator: usize, op: StoreOp) -> Event {
        let unfenced = self.wrong(WrongRule::NoFence);
        let claims_alike = self.wrong(WrongRule::ClaimsAlike);
        let forgets = self.wrong(WrongRule::CompletionForgotten);
        let newest = self.world.store.manifests.last().map(|manifest| manifest.checkpoint);
        let notes = newest.filter(|_| !forgets && !self.wrong(WrongRule::ClaimNotesNothing));
        let fence = &mut self.world.store.fence;
        let before = *fence;
        let stored = |result| Event::Stored { op, result };
        let event = match op {
            StoreOp::Claim { term, claimant, block } => {
                if claims_alike && term == fence.term {
                    fence.claimant = claimant;
                }
                match fence.claim(term, claimant, block) {
                    Ok(first) => {
                        // SPEC 7.6: an owner that died may not have noted what it completed.
                        notes.into_iter().for_each(|newest| fence.complete(newest));
                        Event::Claimed { first, until: fence.until }
                    }
                    Err(_) => stored(StoreResult::Fenced),
                }
            }
            StoreOp::Reserve { term, until } => match fence.reserve(term, until) {
                Ok(()) => stored(StoreResult::Applied),
                Err(_) => stored(StoreResult::Fenced),
            },
            StoreOp::Manifest { term, attempt, checkpoint, kind, ended } => {
                let admitted = fence.admit(term).is_ok();
                if admitted || unfenced {
                    self.world.ghost.unfenced |= !admitted;
                    if !forgets {
                        fence.complete(checkpoint);
                    }
                    self.put_manifest(ManifestState {
                        checkpoint,
                        attempt,
                        kind,
                        ended,
                        whole: true,
                    });
                    stored(StoreResult::Applied)
                } else {
                    self.reached(Situation::Fenced);
                    stored(StoreResult::Fenced)
                }
            }
            StoreOp::Collect { .. } => {
                self.collect(coordinator);
                stored(StoreResult::Applied)
            }
        };
        if self.wrong(WrongRule::FenceForgotten) && matches!(op, StoreOp::Collect { .. }) {
            self.world.store.fence = Fence::default();
        }
        let mut event = event;
        if let (WrongRule::IdsFromRestored, Event::Claimed { first, until }) =
            (self.setup.mutant.unwrap_or(WrongRule::NoFence), &mut event)
        {
            // Wrong: ids continue after the newest completed checkpoint, not after the newest one
            // used.
            let newest = self.world.store.manifests.last();
            *first = newest.map_or(CheckpointId::FIRST, |manifest| manifest.checkpoint.plus(1));
            *until = first.plus(self.setup.scenario.id_block);
        }
        let after = self.world.store.fence;
        self.world.ghost.reused |= after.term < before.term || after.until < before.until;
        event
    }

    fn put_manifest(&mut self, manifest: ManifestState) {
        let manifests = &mut self.world.store.manifests;
        if let Err(place) = manifests.binary_search_by_key(&manifest.checkpoint, |m| m.checkpoint) {
            manifests.insert(place, manifest);
            self.note_lost();
            self.reached(Situation::Completed);
        }
    }

    /// SPEC 8.5: manifests go first, durably; the blobs wait for [`super::Action::Sweep`].
    fn collect(&mut self, coordinator: usize) {
        let config = &self.setup.coordinator;
        let mut roots = self.world.coordinators[coordinator].machine.roots(config);
        if self.wrong(WrongRule::CollectIgnoresPending) {
            roots.under_way.clear();
        }
        if self.wrong(WrongRule::CollectIgnoresBase) {
            for way in &mut roots.under_way {
                way.base = None;
            }
        }
        let inventory = self.world.inventory(self.setup);
        let mut plan = retention::plan(&roots, &inventory);
        if self.wrong(WrongRule::CollectByCreator) {
            // Wrong: a blob belongs to the checkpoint that wrote it, and is deleted with it.
            let gone = |blob: &&BlobId| plan.manifests.contains(&blob.checkpoint);
            let more: Vec<BlobId> = inventory.blobs.iter().filter(gone).copied().collect();
            plan.blobs.extend(more);
        }
        if self.wrong(WrongRule::CollectNothing) {
            plan = retention::Plan::default();
        }
        if !plan.manifests.is_empty() {
            self.reached(Situation::Collected);
        }
        let shared_survivor =
            |blob: &BlobId| plan.manifests.contains(&blob.checkpoint) && !plan.blobs.contains(blob);
        if inventory.blobs.iter().any(shared_survivor) {
            self.reached(Situation::SharedOutlived);
        }
        let store = &mut self.world.store;
        let sweeping = &mut self.world.coordinators[coordinator].sweeping;
        if self.setup.mutant == Some(WrongRule::CollectBlobsFirst) {
            store.blobs.retain(|blob| !plan.blobs.contains(&blob.id));
            // Wrong order: the manifests are deleted by the later step, see `sweep`.
            sweeping.extend(plan.blobs);
            return;
        }
        store.manifests.retain(|manifest| !plan.manifests.contains(&manifest.checkpoint));
        sweeping.extend(plan.blobs);
        sweeping.sort_unstable();
        sweeping.dedup();
    }

    pub(super) fn sweep(&mut self, coordinator: usize) {
        let term = self.world.coordinators[coordinator].machine.term();
        let blobs = core::mem::take(&mut self.world.coordinators[coordinator].sweeping);
        self.world.store.blobs.retain(|blob| !blobs.contains(&blob.id));
        if self.wrong(WrongRule::CollectBlobsFirst) {
            let roots = self.world.coordinators[coordinator].machine.roots(&self.setup.coordinator);
            let plan = retention::plan(&roots, &self.world.inventory(self.setup));
            self.world.store.manifests.retain(|m| !plan.manifests.contains(&m.checkpoint));
        }
        let (op, result) = (StoreOp::Collect { term }, StoreResult::Applied);
        self.conduct(coordinator, Event::Stored { op, result });
    }
}
