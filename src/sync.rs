//! Threads, atomics and locks: the one file of this crate that names the standard library's.
//!
//! Everything concurrent in the crate imports from here, so that a model checker for concurrent code can be put in its place: built with
//! `--cfg loom`, the names are loom's. Nothing else belongs here. (A tidy test looks for `std::sync` and `std::thread` elsewhere.)

#[cfg(not(loom))]
mod real {
    pub(crate) use std::sync::atomic::{
        AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering, fence,
    };
    pub(crate) use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError, Weak};
    pub(crate) use std::thread::{self, JoinHandle};
}

#[cfg(not(loom))]
pub(crate) use real::*;

/// Locks a mutex whose data stays whole whatever its holders did: a poisoned lock is taken all the same.
pub(crate) fn lock<T: ?Sized>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
