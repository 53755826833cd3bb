//! The laws of SPEC 9, each a function of the World. The code has no other definition of
//! correctness.

use snapline_protocol::aligner::Mode;
use snapline_protocol::coordinator::Phase;
use snapline_protocol::message::CheckpointKind;
use snapline_protocol::recovery::Health;

use crate::scenario::Setup;
use crate::world::{ManifestState, World};

/// A law: its number and name in SPEC 9.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Law {
    /// L1: a completed checkpoint holds everything from before its barriers.
    CutComplete,
    /// L2: in exactly-once mode it holds nothing from after them, and nothing twice.
    CutClean,
    /// L3: every manifest in storage has all its blobs, whole, and the newest ones, up to the
    /// number kept, find their input.
    Restorable,
    /// L4: a transaction is committed only when a completed checkpoint holds it.
    CommitAfterComplete,
    /// L5: in exactly-once mode readers see no record twice.
    NoDuplicates,
    /// L6: readers see a prefix of each source's stream.
    Prefix,
    /// L7: output that the newest completed checkpoint covers is visible, or prepared and held by
    /// it.
    NoLoss,
    /// L8: a job whose external system dropped data does not finish as if nothing had happened.
    LossIsLoud,
    /// L9: no checkpoint id is given out twice, and the fence never falls.
    IdsMonotone,
    /// L10: no write of a party that was fenced off takes effect.
    Fenced,
    /// L11: no blob name is written with other content.
    OneNameOneContent,
    /// L12: a finished job leaves no orphaned transaction and no unreachable blob.
    NoLeak,
    /// L13: in exactly-once mode, finished means that all output is committed.
    FinishedComplete,
    /// L14: after the checkpoint that ended a job nothing is read, completed or made visible.
    StopIsFinal,
    /// L15: at-least-once mode loses nothing.
    AtLeastOnce,
    /// L16: without further faults the job can still finish, from every state.
    Progress,
}

impl Law {
    /// Every law, by number. [`Law::Progress`] is last: it is about paths, not about a state.
    pub const ALL: [Self; 16] = [
        Self::CutComplete,
        Self::CutClean,
        Self::Restorable,
        Self::CommitAfterComplete,
        Self::NoDuplicates,
        Self::Prefix,
        Self::NoLoss,
        Self::LossIsLoud,
        Self::IdsMonotone,
        Self::Fenced,
        Self::OneNameOneContent,
        Self::NoLeak,
        Self::FinishedComplete,
        Self::StopIsFinal,
        Self::AtLeastOnce,
        Self::Progress,
    ];

    /// The law's name in SPEC 9.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::CutComplete => "cut-complete",
            Self::CutClean => "cut-clean",
            Self::Restorable => "restorable",
            Self::CommitAfterComplete => "commit-after-complete",
            Self::NoDuplicates => "no-duplicates",
            Self::Prefix => "prefix",
            Self::NoLoss => "no-loss",
            Self::LossIsLoud => "loss-is-loud",
            Self::IdsMonotone => "ids-monotone",
            Self::Fenced => "fenced",
            Self::OneNameOneContent => "one-name-one-content",
            Self::NoLeak => "no-leak",
            Self::FinishedComplete => "finished-complete",
            Self::StopIsFinal => "stop-is-final",
            Self::AtLeastOnce => "at-least-once",
            Self::Progress => "progress",
        }
    }

    /// The law's number in SPEC 9: L1, L2, ...
    #[must_use]
    pub const fn number(self) -> usize {
        self as usize + 1
    }

    /// The failure when the law is broken, in a sentence.
    #[must_use]
    pub const fn broken(self) -> &'static str {
        match self {
            Self::CutComplete => "a completed checkpoint lacks a record from before its barriers",
            Self::CutClean => {
                "a completed checkpoint holds a record from after its barriers, or one twice"
            }
            Self::Restorable => "a completed checkpoint in storage cannot be restored",
            Self::CommitAfterComplete => {
                "a transaction was committed that no completed checkpoint holds"
            }
            Self::NoDuplicates => "readers see a record twice",
            Self::Prefix => "readers see a record before an earlier one of the same stream",
            Self::NoLoss => {
                "output that a completed checkpoint covers is neither visible nor held by it"
            }
            Self::LossIsLoud => {
                "the external system dropped data and the job finished without reporting it"
            }
            Self::IdsMonotone => "a checkpoint id was given out twice, or the fence fell",
            Self::Fenced => "a write of a party that was fenced off took effect",
            Self::OneNameOneContent => "a blob's name was written with other content",
            Self::NoLeak => {
                "the job finished and left a transaction or a blob that will never be deleted"
            }
            Self::FinishedComplete => "the job finished without all of its output committed",
            Self::StopIsFinal => "the job continued after the checkpoint that ended it",
            Self::AtLeastOnce => "the job finished and a record was never made visible",
            Self::Progress => "without any further fault the job can never finish",
        }
    }

    /// The set that holds only this law.
    #[must_use]
    pub const fn bit(self) -> u64 {
        1 << self as u64
    }

    /// True if the state keeps the law. [`Law::Progress`] always holds here: it is decided over
    /// paths.
    #[must_use]
    pub fn holds(self, setup: &Setup, world: &World) -> bool {
        let exactly_once = setup.scenario.mode == Mode::ExactlyOnce;
        match self {
            Self::CutComplete => cuts(setup, world).all(|cut| cut.is_complete(setup, world)),
            Self::CutClean => {
                !exactly_once || cuts(setup, world).all(|cut| cut.is_clean(setup, world))
            }
            Self::Restorable => {
                world.store.manifests.iter().all(|m| world.health(setup, m) == Health::Whole)
                    && finds_input(setup, world)
            }
            Self::CommitAfterComplete => !world.ghost.early_commit,
            Self::NoDuplicates => {
                !exactly_once || world.external.iter().all(|external| external.visible.twice == 0)
            }
            Self::Prefix => prefix(setup, world),
            Self::NoLoss => no_loss(setup, world),
            Self::LossIsLoud => !world.finished() || world.external.iter().all(|x| x.lost == 0),
            Self::IdsMonotone => !world.ghost.reused,
            Self::Fenced => !world.ghost.unfenced,
            Self::OneNameOneContent => !world.ghost.overwritten,
            Self::NoLeak => !world.finished() || no_leak(setup, world),
            Self::FinishedComplete => !exactly_once || finished_complete(setup, world),
            Self::StopIsFinal => stop_is_final(setup, world),
            Self::AtLeastOnce => exactly_once || finished_complete(setup, world),
            Self::Progress => true,
        }
    }
}

/// The laws that this state breaks, as a set of [`Law::bit`]s.
#[must_use]
pub fn broken(setup: &Setup, world: &World, laws: u64) -> u64 {
    let asked = Law::ALL.into_iter().filter(|law| laws & law.bit() != 0);
    asked.filter(|law| !law.holds(setup, world)).fold(0, |set, law| set | law.bit())
}

/// A completed checkpoint, with the number of records that each source had read at its barrier.
struct Cut<'a> {
    manifest: &'a ManifestState,
    read: [u8; 256],
}

fn cuts<'a>(setup: &'a Setup, world: &'a World) -> impl Iterator<Item = Cut<'a>> {
    world.store.manifests.iter().filter_map(|manifest| cut(setup, world, manifest))
}

/// `None` if a source's part is missing: [`Law::Restorable`] reports that.
fn cut<'a>(setup: &Setup, world: &World, manifest: &'a ManifestState) -> Option<Cut<'a>> {
    let mut read = [0; 256];
    for source in setup.topology.sources().iter() {
        let root = world.roots_of(setup, manifest).nth(source)?;
        read[source] = world.store.blob(root)?.position;
    }
    Some(Cut { manifest, read })
}

impl Cut<'_> {
    fn expected(&self, setup: &Setup, subtask: usize) -> u64 {
        setup.expected(subtask, |source| self.read[source])
    }

    fn is_complete(&self, setup: &Setup, world: &World) -> bool {
        world.roots_of(setup, self.manifest).enumerate().all(|(subtask, root)| {
            let expected = self.expected(setup, subtask);
            world.store.state(root).is_none_or(|state| expected & !state.once == 0)
        })
    }

    fn is_clean(&self, setup: &Setup, world: &World) -> bool {
        world.roots_of(setup, self.manifest).enumerate().all(|(subtask, root)| {
            let expected = self.expected(setup, subtask);
            world
                .store
                .state(root)
                .is_none_or(|state| state.once & !expected == 0 && state.twice == 0)
        })
    }
}

/// True if the newest checkpoints, up to the number kept (SPEC 8.1), begin at input that their
/// sources still have (SPEC 15.11).
fn finds_input(setup: &Setup, world: &World) -> bool {
    let retained = setup.scenario.retained.unwrap_or(usize::MAX).max(1);
    world.store.manifests.iter().rev().take(retained).all(|manifest| {
        let roots = world.roots_of(setup, manifest).map(|root| world.store.blob(root));
        // The other half of the law covers a missing blob.
        let begins = roots.map(|blob| blob.map_or(u8::MAX, |blob| blob.position));
        let mut of_sources = begins.enumerate();
        world.dropped.is_empty()
            || of_sources.all(|(subtask, begins)| {
                !setup.topology.sources().contains(subtask) || begins >= world.dropped[subtask]
            })
    })
}

fn prefix(setup: &Setup, world: &World) -> bool {
    setup.topology.sinks().iter().zip(&world.external).all(|(sink, external)| {
        let seen = external.visible.once;
        setup.streams[sink].iter().all(|stream| {
            let mut hole = false;
            // Data that the external system dropped does not break the order.
            let kept = |record: &&u8| external.lost >> **record & 1 == 0;
            stream.iter().filter(kept).all(|record| {
                let here = seen >> record & 1 == 1;
                let kept = !(here && hole);
                hole |= !here;
                kept
            })
        })
    })
}

fn no_loss(setup: &Setup, world: &World) -> bool {
    let Some(manifest) = world.store.manifests.last() else { return true };
    let Some(cut) = cut(setup, world, manifest) else { return true };
    setup.topology.sinks().iter().zip(&world.external).all(|(sink, external)| {
        let mut safe = external.visible.once | external.lost;
        let root = world.roots_of(setup, manifest).nth(sink);
        if let Some(blob) = root.and_then(|root| world.store.blob(root)) {
            for transaction in &external.prepared {
                if blob.pending.contains(&transaction.txn) {
                    safe |= transaction.content.once;
                }
            }
        }
        cut.expected(setup, sink) & !safe == 0
    })
}

/// The output of a finished job must hold everything; of a stopped job, the records that its last
/// checkpoint covers.
fn finished_complete(setup: &Setup, world: &World) -> bool {
    let Some(Phase::Finished(kind)) = world.coordinator().map(|c| c.phase()) else { return true };
    let Some(manifest) = world.store.manifests.last() else { return false };
    let Some(cut) = cut(setup, world, manifest) else { return true };
    setup.topology.sinks().iter().zip(&world.external).all(|(sink, external)| {
        let expected = match kind {
            CheckpointKind::Periodic => setup.passing[sink],
            CheckpointKind::Drain | CheckpointKind::Suspend => cut.expected(setup, sink),
        };
        expected & !(external.visible.once | external.lost) == 0
    })
}

fn no_leak(setup: &Setup, world: &World) -> bool {
    let last = world.store.manifests.last();
    let held = |txn| {
        last.is_some_and(|manifest| {
            world
                .roots_of(setup, manifest)
                .any(|root| world.store.blob(root).is_some_and(|blob| blob.pending.contains(&txn)))
        })
    };
    // The next start rolls back and deletes late writes of a task of an earlier attempt.
    let running = world.host.attempt();
    let late = |attempt| !world.zombies.is_empty() && Some(attempt) < running;
    let transactions = world.external.iter().flat_map(|external| &external.prepared);
    let mut orphans = transactions.filter(|transaction| !held(transaction.txn));
    if orphans.any(|orphan| !late(orphan.txn.attempt)) {
        return false;
    }
    let Some(retained) = setup.scenario.retained else { return true };
    let inventory = world.inventory(setup);
    let reachable = |id| inventory.manifests.iter().any(|stored| stored.blobs.contains(id));
    inventory.manifests.len() <= retained.max(1)
        && inventory.blobs.iter().all(|id| reachable(id) || late(id.attempt))
}

fn stop_is_final(setup: &Setup, world: &World) -> bool {
    let ends = |manifest: &&ManifestState| manifest.kind != CheckpointKind::Periodic;
    let Some(end) = world.store.manifests.iter().find(ends) else { return true };
    let Some(cut) = cut(setup, world, end) else { return true };
    let newer = world.store.manifests.last().is_some_and(|last| last.checkpoint > end.checkpoint);
    let reads_on = setup.topology.sources().iter().any(|source| {
        world.tasks.get(source).is_some_and(|task| {
            task.alive && task.aligner.attempt() >= end.attempt && task.position > cut.read[source]
        })
    });
    let shows = setup
        .topology
        .sinks()
        .iter()
        .zip(&world.external)
        .any(|(sink, external)| external.visible.once & !cut.expected(setup, sink) != 0);
    !newer && !reads_on && !shows
}
