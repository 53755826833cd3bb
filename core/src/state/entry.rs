//! An entry of a segment, and prefetching it.
//!
//! # Invariant
//! 1. An entry of an *owned* segment ([`super::cow`]) is reached through `&mut` to its table alone.
//!    So the holder of that may write to it by a pointer, as long as no reference made from the
//!    entry is left.
//! 2. An entry of a segment that is not owned is never written to: it is copied with its segment
//!    first. So any number of threads may read it.
//! 3. A pointer to an entry is valid until an entry is inserted into its table or removed from it,
//!    or the table is frozen.
#![allow(unsafe_code, reason = "a pointer into a table that an invariant shows to be good")]

use std::cell::Cell;

/// A key and its value. It is a cell so that a pointer made from a shared reference may write to
/// it, and stays valid when another is made to the same entry.
#[repr(transparent)]
pub(super) struct Entry<K, V>(Cell<(K, V)>);

// SAFETY: a shared reference lets others read (the second invariant); a writer has the table
// exclusively (the first one).
unsafe impl<K: Sync, V: Sync> Sync for Entry<K, V> {}

impl<K, V> Entry<K, V> {
    #[inline]
    pub(super) const fn new(key: K, value: V) -> Self {
        Self(Cell::new((key, value)))
    }

    #[inline(always)]
    pub(super) fn pair(&self) -> &(K, V) {
        // SAFETY: while this reference lives, the table that the entry is in is borrowed, or its
        // segment is shared: no thread writes.
        unsafe { &*self.0.as_ptr() }
    }

    #[inline(always)]
    pub(super) fn key(&self) -> &K {
        &self.pair().0
    }

    #[inline(always)]
    pub(super) fn pair_mut(&mut self) -> &mut (K, V) {
        self.0.get_mut()
    }

    #[inline]
    pub(super) fn into_pair(self) -> (K, V) {
        self.0.into_inner()
    }
}

impl<K: Clone, V: Clone> Clone for Entry<K, V> {
    fn clone(&self) -> Self {
        let (key, value) = self.pair();
        Self::new(key.clone(), value.clone())
    }
}

/// The likely place of a key's entry, looked up before it is needed: nothing waits for its memory.
pub(super) struct PrefetchedEntry<K, V>(*const Entry<K, V>);

impl<K, V> Clone for PrefetchedEntry<K, V> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<K, V> Copy for PrefetchedEntry<K, V> {}

impl<K, V> PrefetchedEntry<K, V> {
    /// Points nowhere.
    pub(super) const NONE: Self = Self(std::ptr::null());

    /// Points to an entry.
    #[inline(always)]
    pub(super) const fn at(entry: &Entry<K, V>) -> Self {
        Self(std::ptr::from_ref(entry))
    }

    /// Points to an entry that is read soon: its memory is prefetched.
    #[inline(always)]
    pub(super) fn soon(entry: &Entry<K, V>) -> Self {
        // SAFETY: a hint, which neither reads nor faults; every processor of this kind has it.
        #[cfg(all(target_arch = "x86_64", not(miri)))]
        unsafe {
            use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
            _mm_prefetch::<_MM_HINT_T0>(std::ptr::from_ref(entry).cast());
        }
        Self::at(entry)
    }

    /// The entry, if it points to one.
    ///
    /// # Safety
    /// The pointer is valid (the third invariant) and the segment is owned. Its table is borrowed
    /// exclusively for as long as the result is used, and nothing else refers to the entry
    /// meanwhile.
    #[inline(always)]
    pub(super) unsafe fn get<'a>(self) -> Option<&'a mut (K, V)> {
        if self.0.is_null() {
            return None;
        }
        // SAFETY: the caller guarantees it. The pointer was made from a shared reference to a cell,
        // which permits writing to its content.
        Some(unsafe { &mut *(*self.0).0.as_ptr() })
    }
}
