//! The contract of every machine of this crate.

use alloc::vec::Vec;
use core::fmt::Debug;
use core::hash::Hash;

/// A deterministic state machine: same state, same configuration and same event give the same
/// state, effects and verdict.
///
/// `Config` never changes during a machine's life. It stays outside the state, so that states are
/// small and cheap to hash, compare and clone (SPEC 3.1).
pub trait Machine: Clone + Eq + Hash + Debug {
    /// The values that never change during the machine's life.
    type Config;
    /// An input. `Ord` lets a model sort its actions and a trace print them.
    type Event: Copy + Ord + Debug;
    /// An output: ids and tokens, never payload bytes.
    type Effect: Copy + Ord + Debug;

    /// Takes one event and runs to completion: nothing stays queued inside `self`.
    ///
    /// Input that another party may legally send late, twice or from an earlier life is
    /// [`Verdict::Ignored`]. Input that only a broken driver can send fails an assertion.
    fn handle(
        &mut self,
        config: &Self::Config,
        event: Self::Event,
        out: &mut Out<Self::Effect>,
    ) -> Verdict;
}

/// The buffer for a machine's effects. It belongs to the caller and is reused.
#[derive(Clone, Debug)]
pub struct Out<E>(Vec<E>);

impl<E> Default for Out<E> {
    fn default() -> Self {
        Self::new()
    }
}

impl<E> Out<E> {
    /// An empty buffer; allocates nothing until the first effect.
    #[must_use]
    pub const fn new() -> Self {
        Self(Vec::new())
    }

    /// Adds an effect after the others.
    pub fn push(&mut self, effect: E) {
        self.0.push(effect);
    }

    /// Takes the effects out, in order, leaving the buffer empty with its capacity kept.
    pub fn drain(&mut self) -> impl Iterator<Item = E> + '_ {
        self.0.drain(..)
    }

    /// The effects so far, in order.
    #[must_use]
    pub fn as_slice(&self) -> &[E] {
        &self.0
    }

    /// True if there is no effect.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// A machine's answer to an event.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[must_use]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub enum Verdict {
    /// The event was applied.
    Applied,
    /// The event came late, twice or out of season, which is legal. No checkpoint, commit or phase
    /// moves because of it. (A timer may be armed again, and an input's newest barrier noted.)
    /// Traces print the reason, and tests assert it.
    Ignored(Why),
}

impl Verdict {
    /// True if the event was applied.
    #[must_use]
    pub const fn is_applied(self) -> bool {
        matches!(self, Self::Applied)
    }
}

/// The reason for which an event was ignored.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub enum Why {
    /// The event belongs to an earlier attempt or term, or to one that this machine is not part of
    /// (SPEC 3.2).
    Stale,
    /// The machine has taken in the same event before.
    Duplicate,
    /// The event's checkpoint was completed, aborted or subsumed before.
    Settled,
    /// The machine is not in a phase that takes this event.
    Closed,
    /// A limit (concurrent checkpoints, a stop under way) forbids the event now; a later one may
    /// pass.
    Busy,
}

impl Why {
    /// Every reason, in order of declaration.
    pub const ALL: [Self; 5] =
        [Self::Stale, Self::Duplicate, Self::Settled, Self::Closed, Self::Busy];
}
