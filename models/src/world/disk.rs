//! Storage: a fence, manifests and blobs. What is here is durable; what is in flight is with whoever writes it.

use std::sync::Arc;

use snapline_protocol::coordinator::{Event, StoreOp, StoreResult};
use snapline_protocol::fence::Fence;
use snapline_protocol::ids::{Attempt, BlobId, CheckpointId, TxnId};
use snapline_protocol::message::CheckpointKind;
use snapline_protocol::recovery::{Facts, Found, Health, Policy};
use snapline_protocol::retention::{self, Inventory, Stored};

use super::rule::WrongRule;
use super::{Guard, Step, World};
use crate::scenario::Setup;
use crate::tally::Tally;

/// A snapshot of one subtask, or what changed in it since its base.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Blob {
    /// Its name. First: blobs sort by it.
    pub id: BlobId,
    /// The blob it builds on.
    pub base: Option<BlobId>,
    /// A source: records read.
    pub position: u8,
    /// Records in the state, without the base's.
    pub tally: Tally,
    /// A sink: committables.
    pub pending: Vec<TxnId>,
    /// Whether all its bytes are there.
    pub whole: bool,
}

/// A completed checkpoint.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Manifest {
    /// Its id.
    pub checkpoint: CheckpointId,
    /// The attempt that took it.
    pub attempt: Attempt,
    /// What for.
    pub kind: CheckpointKind,
    /// Whether all input had ended.
    pub ended: bool,
    /// Whether all its bytes are there.
    pub whole: bool,
}

/// What storage holds.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
pub struct Disk {
    /// Who owns it.
    pub fence: Fence,
    /// Completed checkpoints, ascending.
    pub manifests: Vec<Manifest>,
    /// Those of them whose manifests are lost. Laws read it, and nothing else.
    pub lost: Vec<Manifest>,
    /// Blobs, ascending.
    pub blobs: Vec<Arc<Blob>>,
}

impl Disk {
    /// The blob of this name.
    #[must_use]
    pub fn blob(&self, id: BlobId) -> Option<&Blob> {
        self.blobs
            .binary_search_by_key(&id, |blob| blob.id)
            .ok()
            .map(|place| self.blobs[place].as_ref())
    }

    /// The names of the blobs a snapshot needs: its own, its base's, and so on; a missing one ends the list.
    pub fn closure(&self, id: BlobId) -> impl Iterator<Item = BlobId> + '_ {
        std::iter::successors(Some(id), |&id| self.blob(id).and_then(|blob| blob.base))
    }

    /// The state a snapshot holds, its bases included; `None` if any part is missing or broken.
    #[must_use]
    pub fn state(&self, id: BlobId) -> Option<Tally> {
        let mut tally = Tally::default();
        for id in self.closure(id) {
            tally.merge(self.blob(id).filter(|blob| blob.whole)?.tally);
        }
        Some(tally)
    }
}

/// Wrong names are given to blobs in one place, and looked up by the same.
pub(crate) fn blob_name(setup: &Setup, id: BlobId) -> BlobId {
    match setup.mutant {
        // A counter of the writer's own, which each attempt takes up where its restored snapshot left it.
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
        manifest: &Manifest,
    ) -> impl Iterator<Item = BlobId> + use<'a> {
        let (checkpoint, attempt) = (manifest.checkpoint, manifest.attempt);
        setup.aligners.iter().map(move |config| {
            blob_name(setup, BlobId { checkpoint, attempt, subtask: config.subtask })
        })
    }

    pub(crate) fn health(&self, setup: &Setup, manifest: &Manifest) -> Health {
        if !manifest.whole {
            return Health::Unreadable;
        }
        let whole = |id| self.disk.state(id).is_some();
        if self.roots_of(setup, manifest).all(whole) { Health::Whole } else { Health::Damaged }
    }

    pub(crate) fn facts(&self, setup: &Setup, mine: snapline_protocol::ids::Term) -> Facts {
        let found = |manifest: &Manifest| Found {
            checkpoint: manifest.checkpoint,
            kind: manifest.kind,
            ended: manifest.ended,
            health: self.health(setup, manifest),
        };
        let mut manifests: Vec<Found> = self.disk.manifests.iter().map(found).collect();
        match setup.mutant {
            Some(WrongRule::RestoreOlder) if manifests.len() > 1 => _ = manifests.pop(),
            Some(WrongRule::StopNotInStore) => {
                manifests.retain(|found| found.kind == CheckpointKind::Periodic);
            }
            Some(WrongRule::StartsFromNothing) => manifests.clear(),
            _ => {}
        }
        // SPEC 7.6
        let newest = self.disk.manifests.last().map(|manifest| manifest.checkpoint);
        let missing = self.disk.fence.completed.filter(|&completed| newest < Some(completed));
        manifests.extend(missing.map(|checkpoint| Found {
            checkpoint,
            kind: CheckpointKind::Periodic,
            ended: false,
            health: Health::Missing,
        }));
        Facts { mine, fence: self.disk.fence.term, manifests, policy: Policy::default() }
    }

    /// Everything in storage, as a plan of deletion needs it.
    pub(crate) fn inventory(&self, setup: &Setup) -> Inventory {
        let stored = |manifest: &Manifest| Stored {
            checkpoint: manifest.checkpoint,
            blobs: self.roots_of(setup, manifest).flat_map(|id| self.disk.closure(id)).collect(),
        };
        let (readable, unreadable): (Vec<&Manifest>, Vec<&Manifest>) =
            self.disk.manifests.iter().partition(|manifest| manifest.whole);
        Inventory {
            manifests: readable.into_iter().map(stored).collect(),
            unreadable: unreadable.iter().map(|manifest| manifest.checkpoint).collect(),
            blobs: self.disk.blobs.iter().map(|blob| blob.id).collect(),
        }
    }
}

impl Step<'_> {
    pub(super) fn name(&self, id: BlobId) -> BlobId {
        blob_name(self.setup, id)
    }

    pub(super) fn put_blob(&mut self, blob: Blob) {
        let blobs = &mut self.world.disk.blobs;
        match blobs.binary_search_by_key(&blob.id, |other| other.id) {
            Err(place) => blobs.insert(place, Arc::new(blob)),
            Ok(place) if *blobs[place] == blob => {}
            Ok(place) => {
                self.world.witness.overwritten = true;
                // Wrong: a name that is taken is another's bytes, found or lost.
                if self.setup.mutant != Some(WrongRule::LocalNamesKept) {
                    self.world.disk.blobs[place] = Arc::new(blob);
                }
            }
        }
    }

    /// Carries out a write of a coordinator. `told` is whether it learns the result.
    pub(super) fn store(&mut self, seat: usize, write: usize, told: bool) {
        let op = self.world.seats[seat].writes.remove(write);
        let event = self.store_op(seat, op);
        if matches!(op, StoreOp::Collect { .. }) && !self.world.seats[seat].sweeping.is_empty() {
            // The answer comes when the blobs are gone too, see `sweep`.
            return;
        }
        if told {
            self.conduct(seat, event);
        }
    }

    pub(super) fn store_op(&mut self, seat: usize, op: StoreOp) -> Event {
        let unfenced = self.wrong(WrongRule::NoFence);
        let claims_alike = self.wrong(WrongRule::ClaimsAlike);
        let forgets = self.wrong(WrongRule::CompletionForgotten);
        let newest = self.world.disk.manifests.last().map(|manifest| manifest.checkpoint);
        let notes = newest.filter(|_| !forgets && !self.wrong(WrongRule::ClaimNotesNothing));
        let fence = &mut self.world.disk.fence;
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
                    self.world.witness.unfenced |= !admitted;
                    if !forgets {
                        fence.complete(checkpoint);
                    }
                    self.put_manifest(Manifest { checkpoint, attempt, kind, ended, whole: true });
                    stored(StoreResult::Applied)
                } else {
                    self.guard(Guard::Fenced);
                    stored(StoreResult::Fenced)
                }
            }
            StoreOp::Collect { .. } => {
                self.collect(seat);
                stored(StoreResult::Applied)
            }
        };
        if self.wrong(WrongRule::FenceForgotten) && matches!(op, StoreOp::Collect { .. }) {
            self.world.disk.fence = Fence::default();
        }
        let mut event = event;
        if let (WrongRule::IdsFromRestored, Event::Claimed { first, until }) =
            (self.setup.mutant.unwrap_or(WrongRule::NoFence), &mut event)
        {
            // Wrong: ids go on behind the newest completed checkpoint, not behind the newest given out.
            let newest = self.world.disk.manifests.last();
            *first = newest.map_or(CheckpointId::FIRST, |manifest| manifest.checkpoint.plus(1));
            *until = first.plus(self.setup.scenario.id_block);
        }
        let after = self.world.disk.fence;
        self.world.witness.reused |= after.term < before.term || after.until < before.until;
        event
    }

    fn put_manifest(&mut self, manifest: Manifest) {
        let manifests = &mut self.world.disk.manifests;
        if let Err(place) = manifests.binary_search_by_key(&manifest.checkpoint, |m| m.checkpoint) {
            manifests.insert(place, manifest);
            self.note_lost();
            self.guard(Guard::Completed);
        }
    }

    /// SPEC 8.5: manifests go first, durably; the blobs wait for [`super::Action::Sweep`].
    fn collect(&mut self, seat: usize) {
        let config = &self.setup.coordinator;
        let mut roots = self.world.seats[seat].machine.roots(config);
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
            // Wrong: a blob belongs to the checkpoint that wrote it, and goes with it.
            let gone = |blob: &&BlobId| plan.manifests.contains(&blob.checkpoint);
            let more: Vec<BlobId> = inventory.blobs.iter().filter(gone).copied().collect();
            plan.blobs.extend(more);
        }
        if self.wrong(WrongRule::CollectNothing) {
            plan = retention::Plan::default();
        }
        if !plan.manifests.is_empty() {
            self.guard(Guard::Collected);
        }
        let shared_survivor =
            |blob: &BlobId| plan.manifests.contains(&blob.checkpoint) && !plan.blobs.contains(blob);
        if inventory.blobs.iter().any(shared_survivor) {
            self.guard(Guard::SharedOutlived);
        }
        let disk = &mut self.world.disk;
        let sweeping = &mut self.world.seats[seat].sweeping;
        if self.setup.mutant == Some(WrongRule::CollectBlobsFirst) {
            disk.blobs.retain(|blob| !plan.blobs.contains(&blob.id));
            // Wrong order: the manifests are deleted by the later step, see `sweep`.
            sweeping.extend(plan.blobs);
            return;
        }
        disk.manifests.retain(|manifest| !plan.manifests.contains(&manifest.checkpoint));
        sweeping.extend(plan.blobs);
        sweeping.sort_unstable();
        sweeping.dedup();
    }

    pub(super) fn sweep(&mut self, seat: usize) {
        let term = self.world.seats[seat].machine.term();
        let blobs = core::mem::take(&mut self.world.seats[seat].sweeping);
        self.world.disk.blobs.retain(|blob| !blobs.contains(&blob.id));
        if self.wrong(WrongRule::CollectBlobsFirst) {
            let roots = self.world.seats[seat].machine.roots(&self.setup.coordinator);
            let plan = retention::plan(&roots, &self.world.inventory(self.setup));
            self.world.disk.manifests.retain(|m| !plan.manifests.contains(&m.checkpoint));
        }
        let (op, result) = (StoreOp::Collect { term }, StoreResult::Applied);
        self.conduct(seat, Event::Stored { op, result });
    }
}
