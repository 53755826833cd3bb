//! An entry of a segment, and how a task runs ahead of itself to it.
//!
//! # Invariant
//! 1. An entry of an *owned* segment ([`super::cow`]) is reached through `&mut` to its table alone. So whoever has that may write to it by
//!    a pointer, as long as no reference made from the entry is left.
//! 2. An entry of a segment that is not owned is not written to: it is copied with its segment first. So any number of threads may read it.
//! 3. A pointer to an entry is good until something is put into its table or taken out of it, or its table is frozen.
#![allow(unsafe_code, reason = "a pointer into a table that an invariant shows to be good")]

use std::cell::Cell;

/// A key and its value. It is a cell so that a pointer which is made from a shared reference may be written by, and is not spoiled by
/// another one to the same entry.
#[repr(transparent)]
pub(super) struct Entry<K, V>(Cell<(K, V)>);

// SAFETY: a shared reference lets others read (the second invariant); who writes has the table exclusively (the first one).
unsafe impl<K: Sync, V: Sync> Sync for Entry<K, V> {}

impl<K, V> Entry<K, V> {
    #[inline]
    pub(super) const fn new(key: K, value: V) -> Self {
        Self(Cell::new((key, value)))
    }

    #[inline(always)]
    pub(super) fn pair(&self) -> &(K, V) {
        // SAFETY: while this reference lives, the table that the entry is in is borrowed, or its segment is shared: nobody writes.
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

/// Where a key's entry may be, looked up before it is needed: nothing waits for the memory that it is in.
pub(super) struct PrefetchedEntry<K, V>(*const Entry<K, V>);

impl<K, V> Clone for PrefetchedEntry<K, V> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<K, V> Copy for PrefetchedEntry<K, V> {}

impl<K, V> PrefetchedEntry<K, V> {
    /// Nowhere.
    pub(super) const NONE: Self = Self(std::ptr::null());

    /// There.
    #[inline(always)]
    pub(super) const fn at(entry: &Entry<K, V>) -> Self {
        Self(std::ptr::from_ref(entry))
    }

    /// There, and it is looked at soon: the memory is asked for.
    #[inline(always)]
    pub(super) fn soon(entry: &Entry<K, V>) -> Self {
        // SAFETY: a hint, which neither reads nor faults; every processor of this kind knows it.
        #[cfg(all(target_arch = "x86_64", not(miri)))]
        unsafe {
            use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
            _mm_prefetch::<_MM_HINT_T0>(std::ptr::from_ref(entry).cast());
        }
        Self::at(entry)
    }

    /// What is there, if it leads anywhere.
    ///
    /// # Safety
    /// The pointer is good (the third invariant), the segment is owned, and its table is borrowed exclusively for as long as the result is
    /// used; nothing else refers to the entry meanwhile.
    #[inline(always)]
    pub(super) unsafe fn get<'a>(self) -> Option<&'a mut (K, V)> {
        if self.0.is_null() {
            return None;
        }
        // SAFETY: the caller vouches for it. The pointer was made from a shared reference to a cell, whose content may be written by it.
        Some(unsafe { &mut *(*self.0).0.as_ptr() })
    }
}
