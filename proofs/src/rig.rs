//! What theorems are made of.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::sync::UnsafeCell;

/// Something that holds in every schedule.
pub(crate) struct Theorem {
    pub(crate) name: &'static str,
    /// The bound on preemptions in CI, and the deeper one; with `None` every interleaving is tried.
    pub(crate) preemptions: [Option<usize>; 2],
    /// How large the case is: for loom, for loom where it is deep, for shuttle.
    pub(crate) sizes: [usize; 3],
    /// One execution. It panics, or comes to no end, if the theorem does not hold.
    pub(crate) run: fn(usize),
}

/// A number whose reads and writes the checker sees: two threads that are at it at once, one of them writing, are found out.
pub(crate) struct Tracked(UnsafeCell<u32>);

// SAFETY: none is needed for reads and writes that do not meet, and that they do not is what is checked.
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

    /// As [`Tracked::set`], by somebody who holds that nobody else is at it.
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

/// Runs what panics so; any other panic goes on.
pub(crate) fn that_panics(run: impl FnOnce()) {
    match catch_unwind(AssertUnwindSafe(run)) {
        Ok(()) => panic!("it was to panic"),
        Err(payload) if payload.is::<Planned>() => {}
        Err(payload) => resume_unwind(payload),
    }
}
