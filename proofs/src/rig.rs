//! Building blocks of theorems.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::sync::UnsafeCell;

/// A statement that holds in every schedule.
pub(crate) struct Theorem {
    pub(crate) name: &'static str,
    /// The bound on preemptions in CI, and the deeper one; with `None` every interleaving is tried.
    pub(crate) preemptions: [Option<usize>; 2],
    /// The size of the case: for loom, for loom with deep bounds, for shuttle.
    pub(crate) sizes: [usize; 3],
    /// One execution. It panics, or never ends, if the theorem does not hold.
    pub(crate) run: fn(usize),
}

/// A number whose reads and writes the checker tracks: it detects two concurrent accesses, one of
/// them a write.
pub(crate) struct Tracked(UnsafeCell<u32>);

// SAFETY: none is needed for reads and writes that never overlap; the checker verifies that they do
// not.
#[allow(unsafe_code, reason = "a probe for races must be shareable to find one")]
unsafe impl Send for Tracked {}
// SAFETY: as above.
#[allow(unsafe_code, reason = "as above")]
unsafe impl Sync for Tracked {}

impl Tracked {
    pub(crate) fn new(value: u32) -> Self {
        Self(UnsafeCell::new(value))
    }

    pub(crate) fn get(&self) -> u32 {
        // SAFETY: the cell lives as long as `self`.
        #[allow(unsafe_code, reason = "a read that the checker sees")]
        self.0.with(|value| unsafe { *value })
    }

    pub(crate) fn set(&mut self, to: u32) {
        self.set_shared(to);
    }

    /// Like [`Tracked::set`], for a caller that relies on exclusive access.
    pub(crate) fn set_shared(&self, to: u32) {
        // SAFETY: the cell lives as long as `self`.
        #[allow(unsafe_code, reason = "a write that the checker sees")]
        self.0.with_mut(|value| unsafe { *value = to });
    }
}

impl Clone for Tracked {
    fn clone(&self) -> Self {
        Self::new(self.get())
    }
}

impl Serialize for Tracked {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.get().serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Tracked {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        u32::deserialize(deserializer).map(Self::new)
    }
}

/// A panic of the code under a theorem, which belongs to it.
struct Planned;

/// Panics, in silence.
pub(crate) fn panic_here() -> ! {
    resume_unwind(Box::new(Planned))
}

/// Runs a closure that panics in this way; any other panic propagates.
pub(crate) fn that_panics(run: impl FnOnce()) {
    match catch_unwind(AssertUnwindSafe(run)) {
        Ok(()) => panic!("the closure must panic, and it returned"),
        Err(payload) if payload.is::<Planned>() => {}
        Err(payload) => resume_unwind(payload),
    }
}
