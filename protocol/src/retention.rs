//! Which checkpoints and blobs may be deleted (SPEC 8). Pure and total.
//!
//! Deletion is by reachability, never by counting references. A blob is deleted when no kept
//! checkpoint, and none under way, can reach it. Names are unique by creation, so garbage stays
//! garbage for ever. A deletion that is late or repeated, or carried out by a deposed coordinator,
//! removes nothing that is needed.

use alloc::collections::{BTreeMap, VecDeque};
use alloc::vec::Vec;

use crate::ids::{Attempt, BlobId, CheckpointId};

/// The facts about a checkpoint under way that deletion depends on.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct UnderWay {
    /// The checkpoint.
    pub checkpoint: CheckpointId,
    /// The completed checkpoint its snapshots may share blobs with.
    pub base: Option<CheckpointId>,
}

/// The checkpoints that must stay reachable, as the coordinator knows them.
#[derive(Clone, PartialEq, Eq, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Roots {
    /// The coordinator's current attempt. It may not delete blobs of later attempts.
    pub attempt: Attempt,
    /// The first id that this coordinator has not used: it knows nothing of this id and later ones.
    pub next: CheckpointId,
    /// The number of newest completed checkpoints to keep, from 1.
    pub retained: usize,
    /// Completed checkpoints whose commits are not resolved, and the newest: kept beside those.
    pub unresolved: Vec<CheckpointId>,
    /// Checkpoints under way, or of unknown outcome.
    pub under_way: Vec<UnderWay>,
}

/// A completed checkpoint in storage.
#[derive(Clone, PartialEq, Eq, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Stored {
    /// The checkpoint.
    pub checkpoint: CheckpointId,
    /// Every blob that it needs.
    pub blobs: Vec<BlobId>,
}

/// The contents of storage.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Inventory {
    /// All readable manifests, in any order.
    pub manifests: Vec<Stored>,
    /// Manifests that cannot be read. They stay, with every blob that they might need, so that they
    /// can be repaired.
    pub unreadable: Vec<CheckpointId>,
    /// All blobs, in any order.
    pub blobs: Vec<BlobId>,
}

/// The garbage: manifests to delete first, durably, then blobs; each list oldest first (SPEC 8.5).
#[derive(Clone, PartialEq, Eq, Debug, Default)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Plan {
    /// Manifests to delete.
    pub manifests: Vec<CheckpointId>,
    /// Blobs to delete once those manifests are durably gone.
    pub blobs: Vec<BlobId>,
}

/// Decides what may be deleted.
#[must_use]
pub fn plan(roots: &Roots, inventory: &Inventory) -> Plan {
    let known = inventory.manifests.iter().map(|stored| stored.checkpoint);
    let mut known: Vec<CheckpointId> =
        known.filter(|&checkpoint| checkpoint < roots.next).collect();
    known.sort_unstable();
    let newest = &known[known.len().saturating_sub(roots.retained.max(1))..];
    // SPEC 8.1: a base of a checkpoint under way is kept too.
    let is_root = |checkpoint: CheckpointId| {
        newest.contains(&checkpoint)
            || roots.unresolved.contains(&checkpoint)
            || roots
                .under_way
                .iter()
                .any(|way| way.base == Some(checkpoint) || way.checkpoint == checkpoint)
            || checkpoint >= roots.next
    };
    let mut plan = Plan::default();
    let mut reachable = Vec::new();
    for stored in &inventory.manifests {
        if is_root(stored.checkpoint) {
            reachable.extend_from_slice(&stored.blobs);
        } else {
            plan.manifests.push(stored.checkpoint);
        }
    }
    // SPEC 8.4: an unreadable manifest may need any of these blobs.
    let unreadable = inventory.unreadable.iter().copied().max();
    // SPEC 8.3: a blob of a checkpoint under way, of a later attempt, or of an unused id is not
    // garbage yet.
    let may_be_named = |blob: &BlobId| {
        unreadable.is_some_and(|newest| blob.checkpoint <= newest)
            || blob.attempt > roots.attempt
            || blob.checkpoint >= roots.next
            || roots.under_way.iter().any(|way| way.checkpoint == blob.checkpoint)
    };
    let garbage = |blob: &&BlobId| !reachable.contains(blob) && !may_be_named(blob);
    plan.blobs = inventory.blobs.iter().filter(garbage).copied().collect();
    plan.manifests.sort_unstable();
    plan.blobs.sort_unstable();
    plan
}

/// A source's positions at its barriers, and the position from which it must be able to read again
/// (SPEC 15.11). `P` is a position.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct ReplayPositions<P> {
    /// The number of complete checkpoints to keep.
    retained: usize,
    /// Positions of checkpoints that are not known to be complete.
    open: BTreeMap<CheckpointId, P>,
    /// Positions of checkpoints that are known to be complete, the oldest first; at most the number
    /// to keep.
    complete: VecDeque<P>,
}

impl<P> ReplayPositions<P> {
    /// For a source that knows of no checkpoint yet, where the store keeps `retained` complete
    /// ones.
    #[must_use]
    pub const fn new(retained: usize) -> Self {
        Self { retained, open: BTreeMap::new(), complete: VecDeque::new() }
    }

    /// Notes the source's position at the barrier of `checkpoint`, which names `base` as complete.
    /// Returns the position in the oldest of the kept checkpoints, if it is new and the source
    /// knows as many complete ones as are kept. No kept checkpoint needs input from before that
    /// position.
    pub fn taken(
        &mut self,
        checkpoint: CheckpointId,
        base: Option<CheckpointId>,
        position: P,
    ) -> Option<&P> {
        self.open.insert(checkpoint, position);
        let base = base?;
        let position = self.open.remove(&base)?;
        // Checkpoints before it are settled too: they are kept no longer than it is.
        self.open = self.open.split_off(&base);
        self.complete.push_back(position);
        if self.complete.len() > self.retained {
            self.complete.pop_front();
        }
        (self.complete.len() == self.retained).then(|| self.complete.front()).flatten()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// SPEC 15.11 against [`plan`]: whichever checkpoints complete, no kept one is older than the
    /// position returned to a source; and a position is returned as soon as enough are known.
    #[test]
    fn a_source_forgets_nothing_that_a_kept_checkpoint_needs() {
        for (retained, fates) in (1..4).flat_map(|retained| (0..64_u64).map(move |f| (retained, f)))
        {
            let (mut replay_positions, mut complete) = (ReplayPositions::new(retained), Vec::new());
            for number in 1..=7 {
                let told =
                    replay_positions.taken(id(number), complete.last().copied(), number).copied();
                if let Some(told) = told {
                    let stored = |&checkpoint| Stored { checkpoint, blobs: Vec::new() };
                    let inventory = Inventory {
                        manifests: complete.iter().map(stored).collect(),
                        ..Inventory::default()
                    };
                    let roots = Roots {
                        attempt: attempt(1),
                        next: id(number + 1),
                        retained,
                        unresolved: Vec::new(),
                        under_way: Vec::new(),
                    };
                    let gone = plan(&roots, &inventory).manifests;
                    let oldest = complete.iter().find(|kept| !gone.contains(kept));
                    assert_eq!(oldest, Some(&id(told)), "{retained} of {fates:b}, at {number}");
                }
                let news = number > 1 && fates >> (number - 2) & 1 == 1;
                assert_eq!(told.is_some(), news && complete.len() >= retained);
                if fates >> (number - 1) & 1 == 1 {
                    complete.push(id(number));
                }
            }
        }
    }
    use crate::ids::{SubtaskId, Term};

    fn id(number: u64) -> CheckpointId {
        CheckpointId::new(number).expect("not zero")
    }

    fn attempt(term: u32) -> Attempt {
        Attempt::first(Term::new(term))
    }

    fn blob(checkpoint: u64, term: u32) -> BlobId {
        BlobId { checkpoint: id(checkpoint), attempt: attempt(term), subtask: SubtaskId::new(0) }
    }

    fn roots(unresolved: &[u64]) -> Roots {
        let unresolved = unresolved.iter().map(|&number| id(number)).collect();
        Roots { attempt: attempt(2), next: id(9), retained: 1, unresolved, under_way: Vec::new() }
    }

    #[test]
    fn a_shared_blob_outlives_the_checkpoint_that_wrote_it() {
        let inventory = Inventory {
            manifests: alloc::vec![
                Stored { checkpoint: id(1), blobs: alloc::vec![blob(1, 2)] },
                Stored { checkpoint: id(2), blobs: alloc::vec![blob(1, 2), blob(2, 2)] },
            ],
            blobs: alloc::vec![blob(1, 2), blob(2, 2), blob(3, 2)],
            ..Inventory::default()
        };
        let plan = plan(&roots(&[2]), &inventory);
        assert_eq!(plan.manifests, [id(1)]);
        assert_eq!(
            plan.blobs,
            [blob(3, 2)],
            "an aborted checkpoint's blob goes, the shared one stays"
        );
    }

    #[test]
    fn the_base_of_a_checkpoint_under_way_stays() {
        let inventory = Inventory {
            manifests: alloc::vec![
                Stored { checkpoint: id(1), blobs: alloc::vec![blob(1, 2)] },
                Stored { checkpoint: id(3), blobs: alloc::vec![blob(3, 2)] },
            ],
            blobs: alloc::vec![blob(1, 2), blob(3, 2), blob(4, 2)],
            ..Inventory::default()
        };
        let mut roots = roots(&[]);
        assert_eq!(plan(&roots, &inventory).manifests, [id(1)], "with nothing under way it goes");
        roots.under_way.push(UnderWay { checkpoint: id(4), base: Some(id(1)) });
        assert_eq!(plan(&roots, &inventory), Plan::default());
    }

    #[test]
    fn as_many_as_asked_for_are_kept_and_those_with_open_commits() {
        let stored = |number| Stored { checkpoint: id(number), blobs: Vec::new() };
        let manifests = (1..=5).map(stored).collect();
        let inventory = Inventory { manifests, ..Inventory::default() };
        let roots = Roots { retained: 2, ..roots(&[2]) };
        assert_eq!(plan(&roots, &inventory).manifests, [id(1), id(3)]);
    }

    #[test]
    fn what_an_unreadable_manifest_might_need_stays() {
        let stored = Stored { checkpoint: id(1), blobs: alloc::vec![blob(1, 2)] };
        let mut inventory = Inventory {
            manifests: alloc::vec![stored],
            unreadable: alloc::vec![id(3)],
            blobs: alloc::vec![blob(1, 2), blob(2, 2), blob(3, 2), blob(4, 2)],
        };
        assert_eq!(plan(&roots(&[]), &inventory).blobs, [blob(4, 2)]);
        inventory.unreadable.clear();
        assert_eq!(plan(&roots(&[]), &inventory).blobs, [blob(2, 2), blob(3, 2), blob(4, 2)]);
    }

    #[test]
    fn what_a_later_coordinator_made_is_not_touched() {
        let inventory = Inventory {
            manifests: alloc::vec![Stored { checkpoint: id(9), blobs: alloc::vec![blob(9, 3)] }],
            blobs: alloc::vec![blob(9, 3), blob(2, 3), blob(9, 1)],
            ..Inventory::default()
        };
        assert_eq!(plan(&roots(&[]), &inventory), Plan::default());
    }
}
