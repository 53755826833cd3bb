//! Shared until written: the nodes that a table and its images have in common.
//!
//! A [`Node`] is an `Arc` with the number of its creation, its *version*, from the
//! [`VersionCounter`] of the table that owns it. The counter's *floor* is its value when the table
//! was last frozen. A node with a version below the floor may be shared with an image. It is copied
//! before the first write, or taken back if the image has been dropped by then. A node at or above
//! the floor was created since, is reachable from the table alone, and is written in place. So a
//! write costs a comparison of two numbers, where `Arc::get_mut` would cost atomic operations.
//!
//! # Invariant
//! 1. The `Arc` in a node is cloned in [`Node::fork`] alone, which asserts that the version is
//!    below the floor.
//! 2. The floor never falls, and new versions are at or above it.
//! 3. A node is written with the counter that numbered it: both are private fields of one table,
//!    and a counter cannot be cloned.
//!
//! 4. A [`SegmentPtr`] is made from an owned node, and is dropped before that node leaves its place
//!    in the table.
//!
//! By these a node at or above the floor has exactly one `Arc`: it had one when it was created, and
//! none was made since. No `Weak` is ever made. A node within a node (a segment in a group) is
//! reached for writing through its parent's `write` only. So a shared parent is copied first, which
//! forks the nodes in it. A [`SegmentPtr`] skips the parent. It is valid while its version is at or
//! above the floor: until then its node is neither copied nor replaced, nor is any parent shared.
#![allow(
    unsafe_code,
    reason = "a write in place to what an invariant, not the type, shows to be unshared"
)]

use std::mem::ManuallyDrop;

use crate::base::sync::Arc;

/// Numbers the nodes of one table.
#[derive(Debug)]
pub(super) struct VersionCounter {
    next: u64,
    floor: u64,
}

impl VersionCounter {
    pub(super) fn new() -> Self {
        // No version is 0, which stands for none.
        Self { next: 1, floor: 1 }
    }

    /// From now on every existing node may be shared.
    pub(super) fn raise(&mut self) {
        self.floor = self.next;
    }

    fn tick(&mut self) -> u64 {
        let version = self.next;
        self.next += 1;
        version
    }
}

/// A copy of a shared value; nodes within are forked.
pub(super) trait Fork {
    fn fork(&self, clock: &VersionCounter) -> Self;
}

/// On a cache line of its own, after the counts: the fields that are looked up first are at its
/// front.
#[repr(C, align(64))]
struct Numbered<T> {
    version: u64,
    value: T,
}

pub(super) struct Node<T>(Arc<Numbered<T>>);

impl<T> Node<T> {
    pub(super) fn new(value: T, clock: &mut VersionCounter) -> Self {
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
    pub(super) fn is_owned(&self, clock: &VersionCounter) -> bool {
        self.0.version >= clock.floor
    }
}

impl<T: Fork> Node<T> {
    #[inline(always)]
    pub(super) fn write(&mut self, clock: &mut VersionCounter) -> &mut T {
        if !self.is_owned(clock) {
            self.own(clock);
        }
        debug_assert_eq!(Arc::strong_count(&self.0), 1, "a node above the floor is shared");
        // SAFETY: the version is at or above the floor, hence this is the only `Arc` (the invariant
        // above). `&mut self` borrows it for as long as the reference lives. `as_ptr` keeps the
        // allocation's permission to write.
        unsafe { &mut (*Arc::as_ptr(&self.0).cast_mut()).value }
    }

    #[cold]
    #[inline(never)]
    fn own(&mut self, clock: &mut VersionCounter) {
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
    /// If the node is at or above the floor; it would be written while shared.
    pub(super) fn fork(&self, clock: &VersionCounter) -> Self {
        assert!(!self.is_owned(clock), "only what is below the floor is shared");
        Self(Arc::clone(&self.0))
    }

    /// Its value: moved out if it is not shared, else a copy.
    pub(super) fn take(self, clock: &VersionCounter) -> T {
        match Arc::try_unwrap(self.0) {
            Ok(alone) => alone.value,
            Err(shared) => shared.value.fork(clock),
        }
    }
}

/// A pointer to a node that is written to often; it skips the parent nodes.
pub(super) struct SegmentPtr<T> {
    version: u64,
    at: *mut Numbered<T>,
}

// SAFETY: it is used like a reference to the pointee, shared from `&self` and exclusive from
// `&mut self`, and moves together with the table that owns the node. The node's `Arc` may be used
// from other threads too, hence both bounds.
unsafe impl<T: Send + Sync> Send for SegmentPtr<T> {}
// SAFETY: as above.
unsafe impl<T: Send + Sync> Sync for SegmentPtr<T> {}

impl<T> Clone for SegmentPtr<T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for SegmentPtr<T> {}

impl<T> SegmentPtr<T> {
    /// Points nowhere: its version is below every floor.
    pub(super) const NONE: Self = Self { version: 0, at: std::ptr::null_mut() };

    pub(super) fn of(node: &Node<T>) -> Self {
        Self { version: node.0.version, at: Arc::as_ptr(&node.0).cast_mut() }
    }

    /// The node's content, if it still is written in place.
    ///
    /// # Safety
    /// Unless the counter was raised since the pointer was made, its node is where it was then.
    /// Nothing else refers to its content for as long as the result is used, which is at most as
    /// long as the table is borrowed.
    #[inline(always)]
    pub(super) unsafe fn get<'a>(self, clock: &VersionCounter) -> Option<&'a mut T> {
        if self.version < clock.floor {
            return None;
        }
        // SAFETY: the version is not below the floor, so the counter was not raised since, and the
        // caller guarantees the rest. The value made of the pointer for the assertions is never
        // dropped.
        unsafe {
            debug_assert_eq!((*self.at).version, self.version, "the handle outlived its node");
            debug_assert_eq!(
                Arc::strong_count(&ManuallyDrop::new(Arc::from_raw(self.at))),
                1,
                "a node above the floor is shared"
            );
            Some(&mut (*self.at).value)
        }
    }
}
