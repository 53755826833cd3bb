//! Fences: which coordinator may write to the store, and which attempt may run. Both only rise
//! (SPEC 2.6, 3.2, 4.1).

use crate::ids::{Attempt, CheckpointId, Term};
use crate::{Verdict, Why};

/// Distinguishes two coordinators that chose the same term: a number drawn at random, or from a
/// process-wide source that never repeats.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(transparent))]
pub struct Claimant(pub u64);

/// The durable record of a store's owner: the latest term, the ids reserved for it, and its newest
/// complete checkpoint.
///
/// A store compares and changes the fence in one atomic step with the write that asks (SPEC 2.6).
/// Garbage collection never deletes it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Fence {
    /// The latest term that claimed the store.
    pub term: Term,
    /// The coordinator that claimed it.
    pub claimant: Claimant,
    /// The first checkpoint id that no coordinator has reserved.
    pub until: CheckpointId,
    /// The newest checkpoint known to be complete. The store has its manifest, or a newer one,
    /// unless it lost some (SPEC 7.6). `None`: no checkpoint was complete, or the store remembers
    /// none.
    #[cfg_attr(feature = "serde", serde(default, skip_serializing_if = "Option::is_none"))]
    pub completed: Option<CheckpointId>,
}

impl core::fmt::Debug for Fence {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        let Self { term, claimant, until, completed } = self;
        let mut shown = f.debug_struct("Fence");
        shown.field("term", term).field("claimant", claimant).field("until", until);
        // Where none is remembered, as in the models, there is nothing to show.
        if let Some(completed) = completed {
            shown.field("completed", completed);
        }
        shown.finish()
    }
}

impl Default for Fence {
    fn default() -> Self {
        let (term, claimant) = (Term::new(0), Claimant(0));
        Self { term, claimant, until: CheckpointId::FIRST, completed: None }
    }
}

/// A later term owns the store.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Fenced {
    /// The term in the fence.
    pub by: Term,
}

impl core::fmt::Display for Fenced {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(
            f,
            "the store belongs to another coordinator, of term {}; this one was deposed",
            self.by
        )
    }
}

crate::error_in_words!(Fenced);

impl Fence {
    /// Lets a write of this term pass, or refuses it.
    ///
    /// # Errors
    /// [`Fenced`] if a later term holds the fence.
    pub fn admit(&self, term: Term) -> Result<(), Fenced> {
        if term < self.term { Err(Fenced { by: self.term }) } else { Ok(()) }
    }

    /// Raises the fence for a new coordinator and reserves `block` ids; returns the first of them.
    /// A repeated claim of the same claimant reserves further ids, which leaves a gap and harms
    /// nothing.
    ///
    /// # Errors
    /// [`Fenced`] if a later term holds the fence, or another claimant holds the same term. Of two
    /// coordinators that chose one term, the first to claim has it.
    pub fn claim(
        &mut self,
        term: Term,
        claimant: Claimant,
        block: u64,
    ) -> Result<CheckpointId, Fenced> {
        self.admit(term)?;
        if term == self.term && claimant != self.claimant {
            return Err(Fenced { by: self.term });
        }
        let first = self.until;
        *self = Self { term, claimant, until: first.plus(block), completed: self.completed };
        Ok(first)
    }

    /// Reserves ids below `until`; a repeated reservation changes nothing.
    ///
    /// # Errors
    /// [`Fenced`] if a later term holds the fence.
    pub fn reserve(&mut self, term: Term, until: CheckpointId) -> Result<(), Fenced> {
        self.admit(term)?;
        self.until = self.until.max(until);
        Ok(())
    }

    /// Notes that a checkpoint is complete. Its manifest must be durable before (SPEC 7.6). An
    /// older checkpoint changes nothing.
    pub fn complete(&mut self, checkpoint: CheckpointId) {
        self.completed = self.completed.max(Some(checkpoint));
    }
}

/// The process that hosts tasks. It runs the latest attempt that it has admitted.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct Host(Option<Attempt>);

impl Host {
    /// The attempt that runs, if any.
    #[must_use]
    pub const fn attempt(&self) -> Option<Attempt> {
        self.0
    }

    /// Admits an attempt if it is later than the last one. The host must then end every earlier
    /// attempt before it starts this one.
    pub fn admit(&mut self, attempt: Attempt) -> Verdict {
        if self.0 >= Some(attempt) {
            return Verdict::Ignored(Why::Stale);
        }
        self.0 = Some(attempt);
        Verdict::Applied
    }
}
