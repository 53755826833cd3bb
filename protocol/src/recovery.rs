//! From the facts found in storage to the start of a new attempt (SPEC 7). Pure and total: any
//! facts give a decision or a typed error.

use alloc::vec::Vec;
use core::fmt;

use crate::ids::{CheckpointId, Term};
use crate::message::{CheckpointKind, CommitPermit};

/// The state of one checkpoint's manifest and blobs in storage.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub enum Health {
    /// The manifest and every blob it needs are there, with the right length and checksum.
    Whole,
    /// The manifest exists but its bytes are wrong.
    Unreadable,
    /// The manifest is whole; a blob it needs is missing or wrong.
    Damaged,
    /// The store knows that the checkpoint was complete, and its manifest is gone (SPEC 7.6).
    Missing,
}

/// One manifest that was found, or is known to be missing.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Found {
    /// The checkpoint.
    pub checkpoint: CheckpointId,
    /// The checkpoint's kind.
    pub kind: CheckpointKind,
    /// True if the input of every subtask had ended at its barrier.
    pub ended: bool,
    /// The state of its bytes.
    pub health: Health,
}

/// The user's permissions for recovery.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Policy {
    /// Fall back to an older checkpoint when the newest is unreadable. Committed output of the
    /// newer ones is then written twice. The guarantee is lost, so the user must ask for it (SPEC
    /// 7.3).
    pub allow_older: bool,
    /// Resume from this checkpoint, which stopped the job, rather than only finish its commits
    /// (SPEC 7.4). The policy names the checkpoint, so that a later stop of the resumed job is a
    /// stop again.
    pub resume_from: Option<CheckpointId>,
}

/// The facts that a decision depends on. Read *after* the fence was raised, never before (SPEC
/// 7.1).
#[derive(Clone, PartialEq, Eq, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Facts {
    /// The term of the coordinator that reads.
    pub mine: Term,
    /// The term in the store's fence.
    pub fence: Term,
    /// Every manifest found, and the missing one if the store knows of one (SPEC 7.6), in any
    /// order.
    pub manifests: Vec<Found>,
    /// The user's permissions.
    pub policy: Policy,
}

/// The start of a new attempt.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub enum Decision {
    /// There is no completed checkpoint: sources start at their beginning, sinks abort every
    /// prepared transaction (SPEC 7.5).
    Fresh,
    /// Restore this checkpoint, commit its transactions again, abort those that no completed
    /// checkpoint holds.
    Restore {
        /// Permission to commit everything up to the checkpoint, which it names.
        permit: CommitPermit,
        /// The job is over but for its commits: `Some` with the kind that ended it,
        /// [`CheckpointKind::Periodic`] if all input had ended (SPEC 7.4).
        terminal: Option<CheckpointKind>,
    },
}

/// The reason for which nothing can be restored unless the user decides.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub enum RecoveryError {
    /// A later coordinator has raised the fence.
    Deposed {
        /// The term found in the fence.
        fence: Term,
    },
    /// The fence holds an earlier term than this coordinator raised it to: the store was replaced
    /// or rolled back.
    FenceFell {
        /// The term found in the fence.
        fence: Term,
        /// The term it was raised to.
        mine: Term,
    },
    /// The newest completed checkpoint cannot be read, and falling back to an older one was not
    /// allowed.
    NewestUnusable {
        /// The checkpoint.
        checkpoint: CheckpointId,
        /// The state of its bytes.
        health: Health,
    },
    /// Falling back was allowed, but no completed checkpoint can be read.
    NoneUsable {
        /// The newest of them.
        newest: CheckpointId,
    },
}

/// The remedy where nothing may be left to restore. Committed output cannot be taken back.
const FROM_NOTHING: &str =
    "; or, to start without state, use another checkpoint directory and another output";

impl fmt::Display for RecoveryError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Deposed { fence } => write!(
                f,
                "another coordinator has taken over (term {fence} is in the fence); \
                 this one must stop"
            ),
            Self::FenceFell { fence, mine } => write!(
                f,
                "the store's fence holds term {fence}, but this coordinator had raised it to \
                 {mine}: the store was replaced or rolled back; nothing in it can be trusted"
            ),
            Self::NewestUnusable { checkpoint, health } => {
                let what = health.what();
                write!(f, "the newest checkpoint {checkpoint} cannot be restored ({what}); ")?;
                f.write_str(match health {
                    Health::Missing => "copy its manifest back",
                    _ => "repair it",
                })?;
                f.write_str(
                    ", or allow an older one and accept that output committed since \
                     is written again",
                )?;
                match health {
                    Health::Missing => f.write_str(FROM_NOTHING),
                    _ => Ok(()),
                }
            }
            Self::NoneUsable { newest } => {
                write!(
                    f,
                    "no checkpoint up to {newest} can be restored; repair one of them{FROM_NOTHING}"
                )
            }
        }
    }
}

crate::error_in_words!(RecoveryError);

/// A sink has committed output that the restored checkpoint does not cover: a newer one was
/// complete, and is lost (SPEC 7.7).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Outrun {
    /// The checkpoint of the newest transaction that the sink has committed.
    pub committed: CheckpointId,
    /// The restored checkpoint; `None`: the job starts from the beginning.
    pub restored: Option<CheckpointId>,
}

impl fmt::Display for Outrun {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { committed, restored } = self;
        write!(
            f,
            "the sink has committed the output of checkpoint {committed}, so that checkpoint or a \
             later one was complete, but "
        )?;
        match restored {
            Some(restored) => write!(f, "the newest in the store is {restored}")?,
            None => f.write_str("the store has none")?,
        }
        f.write_str(
            ": checkpoints are missing from the store, or it is another store; copy them back, or \
             allow an older checkpoint and accept that output committed since is written again, or \
             use a new output",
        )
    }
}

crate::error_in_words!(Outrun);

/// Decides if a sink that has committed the output of `committed` may begin from `restored` (SPEC
/// 7.7).
///
/// # Errors
/// [`Outrun`] if it has committed more than that, and falling back to an older checkpoint was not
/// allowed.
pub fn keeps_up(
    restored: Option<CheckpointId>,
    committed: Option<CheckpointId>,
    policy: Policy,
) -> Result<(), Outrun> {
    match committed {
        Some(committed) if restored < Some(committed) && !policy.allow_older => {
            Err(Outrun { committed, restored })
        }
        _ => Ok(()),
    }
}

impl Health {
    const fn what(self) -> &'static str {
        match self {
            Self::Whole => "whole",
            Self::Unreadable => "its manifest is unreadable",
            Self::Damaged => "a blob of it is missing or damaged",
            Self::Missing => "it was complete, but its manifest is missing",
        }
    }
}

/// Decides the start of a new attempt.
///
/// # Errors
/// [`RecoveryError`]: deposed, or nothing restorable without the user's word.
pub fn decide(facts: &Facts) -> Result<Decision, RecoveryError> {
    // SPEC 7.1
    if facts.fence > facts.mine {
        return Err(RecoveryError::Deposed { fence: facts.fence });
    }
    if facts.fence < facts.mine {
        return Err(RecoveryError::FenceFell { fence: facts.fence, mine: facts.mine });
    }
    let mut newest_first: Vec<Found> = facts.manifests.clone();
    newest_first.sort_unstable_by_key(|found| core::cmp::Reverse(found.checkpoint));
    // SPEC 7.5
    let Some(&newest) = newest_first.first() else { return Ok(Decision::Fresh) };
    // SPEC 7.3
    let chosen = if facts.policy.allow_older {
        let usable = newest_first.iter().find(|found| found.health == Health::Whole);
        *usable.ok_or(RecoveryError::NoneUsable { newest: newest.checkpoint })?
    } else if newest.health == Health::Whole {
        newest
    } else {
        let Found { checkpoint, health, .. } = newest;
        return Err(RecoveryError::NewestUnusable { checkpoint, health });
    };
    // SPEC 7.2, 7.4
    let stopped = match chosen.kind {
        CheckpointKind::Periodic => false,
        CheckpointKind::Drain | CheckpointKind::Suspend => {
            facts.policy.resume_from != Some(chosen.checkpoint)
        }
    };
    let terminal = (stopped || chosen.ended).then_some(chosen.kind);
    Ok(Decision::Restore { permit: CommitPermit::new(chosen.checkpoint), terminal })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(number: u64, health: Health) -> Found {
        let checkpoint = CheckpointId::new(number).expect("not zero");
        Found { checkpoint, kind: CheckpointKind::Periodic, ended: false, health }
    }

    fn facts(manifests: &[Found]) -> Facts {
        let term = Term::new(3);
        Facts { mine: term, fence: term, manifests: manifests.to_vec(), policy: Policy::default() }
    }

    fn restored(decision: Result<Decision, RecoveryError>) -> Option<u64> {
        match decision.expect("decided") {
            Decision::Fresh => None,
            Decision::Restore { permit, .. } => Some(permit.checkpoint().get()),
        }
    }

    #[test]
    fn the_newest_is_restored_in_whatever_order_it_is_found() {
        let (one, two) = (found(1, Health::Whole), found(2, Health::Whole));
        assert_eq!(restored(decide(&facts(&[two, one]))), Some(2));
        assert_eq!(restored(decide(&facts(&[one, two]))), Some(2));
        assert_eq!(restored(decide(&facts(&[]))), None);
    }

    #[test]
    fn an_older_one_is_restored_only_when_allowed() {
        let manifests = [found(1, Health::Whole), found(2, Health::Damaged)];
        let mut facts = facts(&manifests);
        let error = decide(&facts).expect_err("the newest is damaged");
        assert!(matches!(error, RecoveryError::NewestUnusable { health: Health::Damaged, .. }));
        facts.policy.allow_older = true;
        assert_eq!(restored(decide(&facts)), Some(1));
        facts.manifests = alloc::vec![found(2, Health::Unreadable)];
        assert!(matches!(decide(&facts), Err(RecoveryError::NoneUsable { .. })));
    }

    #[test]
    fn a_deposed_coordinator_decides_nothing() {
        let mut facts = facts(&[found(1, Health::Whole)]);
        facts.fence = Term::new(4);
        assert_eq!(decide(&facts), Err(RecoveryError::Deposed { fence: Term::new(4) }));
    }

    #[test]
    fn a_stopped_job_is_finished_unless_resumed() {
        let mut stopped = found(2, Health::Whole);
        stopped.kind = CheckpointKind::Suspend;
        let mut facts = facts(&[stopped]);
        let terminal = |facts: &Facts| match decide(facts) {
            Ok(Decision::Restore { terminal, .. }) => terminal,
            other => panic!("{other:?}"),
        };
        assert_eq!(terminal(&facts), Some(CheckpointKind::Suspend));
        facts.policy.resume_from = CheckpointId::new(2);
        assert_eq!(terminal(&facts), None);
        facts.manifests[0].checkpoint = CheckpointId::new(3).expect("not zero");
        assert!(terminal(&facts).is_some(), "a later stop is not the one that was to be resumed");
        facts.policy.resume_from = CheckpointId::new(3);
        facts.manifests[0].ended = true;
        assert!(terminal(&facts).is_some(), "ended input cannot be resumed");
    }
}
