//! Threads, atomics and locks: the one file of this crate that names the standard library's.
//!
//! Everything concurrent in the crate imports from here, so that a model checker for concurrent
//! code can replace it: `proofs/` compiles the files that matter with a `sync` of its own. What is
//! built only on these is below, and is checked too. Nothing else belongs here. (A tidy test looks
//! for `std::sync` and `std::thread` elsewhere.)

mod mailbox;
mod parking;

pub use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, AtomicUsize, Ordering, fence};
pub use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
pub use std::thread;

pub use mailbox::{Mailbox, MailboxSender};
pub use parking::{Parker, Unparker};

/// Memory that two threads use by turns. The standard library's, in the shape in which a model
/// checker sees each access.
pub struct UnsafeCell<T>(std::cell::UnsafeCell<T>);

impl<T> UnsafeCell<T> {
    /// A cell that holds a value.
    pub const fn new(value: T) -> Self {
        Self(std::cell::UnsafeCell::new(value))
    }

    /// Runs a closure on a pointer to the value; the caller promises exclusive access meanwhile.
    pub fn with_mut<R>(&self, use_it: impl FnOnce(*mut T) -> R) -> R {
        use_it(self.0.get())
    }
}

/// Lets the thread sleep for this long.
pub fn nap(time: std::time::Duration) {
    thread::sleep(time);
}

/// Locks a mutex whose data stays valid whatever its holders did: a poisoned lock is taken all the
/// same.
pub fn lock<T: ?Sized>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
