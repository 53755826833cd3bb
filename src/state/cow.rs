//! Shared until written: the nodes that a table and its images have in common.
//!
//! A [`Node`] is an `Arc` with the number of its creation, its *version*, from the [`Clock`] of the table that owns it. The clock's
//! *floor* is what it stood at when the table was last frozen. A node with a version below the floor may be shared with an image, and is
//! copied before the first write (or taken back, if the image is gone by then); one at or above it was created since, is reachable
//! from the table alone, and is written in place. So a write costs a comparison of two numbers, where `Arc::get_mut` would cost atomic
//! operations.
//!
//! # Invariant
//! 1. The `Arc` in a node is cloned in [`Node::fork`] alone, and that asserts that the version is below the floor.
//! 2. The floor never falls, and new versions are at or above it.
//! 3. A node is written with the clock that numbered it, which is why both are private fields of one table, and a clock cannot be
//!    cloned.
//!
//! By these a node whose version is not below the floor has exactly one `Arc`: it had one when it was created, and none was made since.
//! No `Weak` is ever made. A node within a node (a segment in a group) is reached for writing through its parent's `write` only, so that
//! a shared parent is copied first, which forks what is in it.
#![allow(
    unsafe_code,
    reason = "a write in place to what an invariant, not the type, shows to be unshared"
)]

use crate::sync::Arc;

/// Numbers the nodes of one table.
#[derive(Debug)]
pub(super) struct Clock {
    next: u64,
    floor: u64,
}

impl Clock {
    pub(super) fn new() -> Self {
        Self { next: 0, floor: 0 }
    }

    /// From now on every node there is may be shared.
    pub(super) fn raise(&mut self) {
        self.floor = self.next;
    }

    fn tick(&mut self) -> u64 {
        let version = self.next;
        self.next += 1;
        version
    }
}

/// A copy of what may be shared; nodes within are forked.
pub(super) trait Fork {
    fn fork(&self, clock: &Clock) -> Self;
}

struct Numbered<T> {
    version: u64,
    value: T,
}

pub(super) struct Node<T>(Arc<Numbered<T>>);

impl<T: Fork> Node<T> {
    pub(super) fn new(value: T, clock: &mut Clock) -> Self {
        Self(Arc::new(Numbered { version: clock.tick(), value }))
    }

    #[inline(always)]
    pub(super) fn get(&self) -> &T {
        &self.0.value
    }

    pub(super) fn version(&self) -> u64 {
        self.0.version
    }

    /// Whether a write would change it in place.
    #[inline(always)]
    pub(super) fn is_owned(&self, clock: &Clock) -> bool {
        self.0.version >= clock.floor
    }

    #[inline(always)]
    pub(super) fn write(&mut self, clock: &mut Clock) -> &mut T {
        if !self.is_owned(clock) {
            self.own(clock);
        }
        debug_assert_eq!(Arc::strong_count(&self.0), 1, "a node above the floor is shared");
        // SAFETY: the version is at or above the floor, hence this is the only `Arc` (the invariant above), and `&mut self` borrows it
        // for as long as the reference lives. `as_ptr` keeps the leave to write that the allocation has.
        unsafe { &mut (*Arc::as_ptr(&self.0).cast_mut()).value }
    }

    #[cold]
    #[inline(never)]
    fn own(&mut self, clock: &mut Clock) {
        let version = clock.tick();
        if let Some(alone) = Arc::get_mut(&mut self.0) {
            alone.version = version;
        } else {
            let value = self.0.value.fork(clock);
            self.0 = Arc::new(Numbered { version, value });
        }
    }

    /// A second handle to the same node, for an image or for a copy of the node it is in.
    ///
    /// # Panics
    /// If the node is not below the floor; it would be written while shared.
    pub(super) fn fork(&self, clock: &Clock) -> Self {
        assert!(!self.is_owned(clock), "only what is below the floor is shared");
        Self(Arc::clone(&self.0))
    }

    /// What is in it: moved out if nobody shares it, else a copy.
    pub(super) fn take(self, clock: &Clock) -> T {
        match Arc::try_unwrap(self.0) {
            Ok(alone) => alone.value,
            Err(shared) => shared.value.fork(clock),
        }
    }
}
