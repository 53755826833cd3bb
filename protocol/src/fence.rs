//! Fences: who may still write to the store, and which attempt may still run. Both only ever rise (SPEC 2.6, 3.2, 4.1).

use crate::ids::{Attempt, CheckpointId, Term};
use crate::{Verdict, Why};

/// Tells two coordinators apart that chose the same term: a number drawn at random, or from a process-wide source that never repeats.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(transparent))]
pub struct Claimant(pub u64);

/// The durable record a store keeps of its owner: the latest term, the ids given out to it, and how far its checkpoints have come.
///
/// A store changes it, and compares it, in one atomic step with the write that asks (SPEC 2.6). Garbage collection never deletes it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Fence {
    /// The latest term that claimed the store.
    pub term: Term,
    /// Who claimed it.
    pub claimant: Claimant,
    /// The first checkpoint id that nobody was given.
    pub until: CheckpointId,
    /// The newest checkpoint known to be complete; its manifest, or a newer one, is in the store as long as nothing is lost (SPEC 7.6).
    /// `None`: none was, or the store remembers none.
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
    /// Whether a write of this term is let through.
    ///
    /// # Errors
    /// [`Fenced`] if a later term holds the fence.
    pub fn admit(&self, term: Term) -> Result<(), Fenced> {
        if term < self.term { Err(Fenced { by: self.term }) } else { Ok(()) }
    }

    /// Raises the fence for a new coordinator and reserves `block` ids; returns the first of them. A repeated claim of the
    /// same claimant reserves further ids, which leaves a gap and harms nothing.
    ///
    /// # Errors
    /// [`Fenced`] if a later term holds the fence, or the same term in another's hand: of two coordinators that chose one term, the
    /// first to claim has it.
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

    /// Notes that a checkpoint is complete. Its manifest is durable before (SPEC 7.6); an older one changes nothing.
    pub fn complete(&mut self, checkpoint: CheckpointId) {
        self.completed = self.completed.max(Some(checkpoint));
    }
}

/// The process that hosts tasks: runs the latest attempt it was told of.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct Host(Option<Attempt>);

impl Host {
    /// The attempt that runs, if any did.
    #[must_use]
    pub const fn attempt(&self) -> Option<Attempt> {
        self.0
    }

    /// Whether an attempt may be started; if so, every earlier one must end first.
    pub fn admit(&mut self, attempt: Attempt) -> Verdict {
        if self.0 >= Some(attempt) {
            return Verdict::Ignored(Why::Stale);
        }
        self.0 = Some(attempt);
        Verdict::Applied
    }
}
