//! The contents of the runtime's `core/src/base/sync/`, in a checker's types. Every use of an atomic or
//! a fence in a file of the runtime is recorded with its place, and one of them can be weakened.
//! That shows which orderings matter.

use std::cell::RefCell;
use std::panic::Location;
use std::sync::OnceLock;

#[cfg(feature = "loom")]
use loom as checker;
#[cfg(not(feature = "loom"))]
use shuttle as checker;

#[path = "../../core/src/base/sync/mailbox.rs"]
mod mailbox;
#[path = "../../core/src/base/sync/parking.rs"]
mod parking;

pub(crate) use checker::sync::{Arc, Condvar, Mutex, MutexGuard};
pub(crate) use checker::thread;
pub(crate) use std::sync::PoisonError;
pub(crate) use std::sync::atomic::Ordering;

pub(crate) use mailbox::{Mailbox, MailboxSender};
pub(crate) use parking::{Parker, Unparker};

#[cfg(feature = "loom")]
pub(crate) use loom::cell::UnsafeCell;

/// Shuttle does not track memory.
#[cfg(not(feature = "loom"))]
pub(crate) struct UnsafeCell<T>(std::cell::UnsafeCell<T>);

#[cfg(not(feature = "loom"))]
impl<T> UnsafeCell<T> {
    pub(crate) fn new(value: T) -> Self {
        Self(std::cell::UnsafeCell::new(value))
    }

    pub(crate) fn with<R>(&self, use_it: impl FnOnce(*const T) -> R) -> R {
        use_it(self.0.get())
    }

    pub(crate) fn with_mut<R>(&self, use_it: impl FnOnce(*mut T) -> R) -> R {
        use_it(self.0.get())
    }
}

/// No checker models time: a sleeping thread lets the others go first.
pub(crate) fn nap(_time: std::time::Duration) {
    thread::yield_now();
}

/// As in the runtime.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// One use of an atomic or a fence, and its ordering.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) struct Site {
    /// `file:line:column`, from the runtime's `src`.
    pub(crate) place: String,
    pub(crate) operation: String,
    pub(crate) ordering: String,
}

/// The site that is weakened, and the new ordering (`none` for a fence that is left out).
pub(crate) static WEAKENED: OnceLock<(String, String)> = OnceLock::new();

thread_local! {
    /// The sites seen, by their address in memory. Loom's threads are one thread of the operating
    /// system, and so are shuttle's.
    static SEEN: RefCell<Vec<(&'static Location<'static>, &'static str, Ordering, bool)>> = const { RefCell::new(Vec::new()) };
}

/// The place of a use, if it is in a file of the runtime.
fn place(at: &Location<'_>) -> Option<String> {
    let file = at.file().replace('\\', "/");
    let (_, short) = file.rsplit_once("../")?;
    Some(format!("{short}:{}:{}", at.line(), at.column()))
}

/// Every site seen so far.
pub(crate) fn sites() -> Vec<Site> {
    let mut sites: Vec<Site> = SEEN.with_borrow(|seen| {
        let site = |&(at, operation, ordering, _): &(&Location<'_>, &str, Ordering, bool)| {
            let ordering = format!("{ordering:?}");
            Some(Site { place: place(at)?, operation: operation.to_owned(), ordering })
        };
        seen.iter().filter_map(site).collect()
    });
    sites.sort();
    sites.dedup();
    sites
}

/// The ordering to which a use is weakened, if it is.
fn weaker(
    at: &'static Location<'static>,
    operation: &'static str,
    ordering: Ordering,
) -> Option<&'static str> {
    let known = SEEN.with_borrow(|seen| {
        let found =
            seen.iter().find(|(other, op, _, _)| std::ptr::eq(*other, at) && *op == operation);
        found.map(|(.., weakened)| *weakened)
    });
    let weakened = known.unwrap_or_else(|| {
        let weakened = WEAKENED.get().is_some_and(|(site, _)| place(at).as_ref() == Some(site));
        SEEN.with_borrow_mut(|seen| seen.push((at, operation, ordering, weakened)));
        weakened
    });
    if weakened { WEAKENED.get().map(|(_, to)| to.as_str()) } else { None }
}

#[track_caller]
fn order(operation: &'static str, ordering: Ordering) -> Ordering {
    match weaker(Location::caller(), operation, ordering) {
        None => ordering,
        Some("Acquire") => Ordering::Acquire,
        Some("Release") => Ordering::Release,
        Some(_) => Ordering::Relaxed,
    }
}

#[track_caller]
pub(crate) fn fence(ordering: Ordering) {
    match weaker(Location::caller(), "fence", ordering) {
        None => checker::sync::atomic::fence(ordering),
        Some("AcqRel") => checker::sync::atomic::fence(Ordering::AcqRel),
        Some(_) => {}
    }
}

macro_rules! atomic {
    ($name:ident, $value:ty) => {
        pub(crate) struct $name(checker::sync::atomic::$name);

        impl $name {
            #[track_caller]
            pub(crate) fn new(value: $value) -> Self {
                Self(checker::sync::atomic::$name::new(value))
            }

            #[track_caller]
            pub(crate) fn load(&self, ordering: Ordering) -> $value {
                self.0.load(order("load", ordering))
            }

            #[track_caller]
            pub(crate) fn store(&self, value: $value, ordering: Ordering) {
                self.0.store(value, order("store", ordering));
            }

            #[track_caller]
            pub(crate) fn swap(&self, value: $value, ordering: Ordering) -> $value {
                self.0.swap(value, order("swap", ordering))
            }

            #[track_caller]
            pub(crate) fn compare_exchange(
                &self,
                current: $value,
                new: $value,
                success: Ordering,
                failure: Ordering,
            ) -> Result<$value, $value> {
                let success = order("compare_exchange", success);
                self.0.compare_exchange(current, new, success, failure)
            }
        }
    };
}

atomic!(AtomicBool, bool);
atomic!(AtomicU8, u8);
atomic!(AtomicUsize, usize);

impl AtomicUsize {
    #[track_caller]
    pub(crate) fn fetch_add(&self, value: usize, ordering: Ordering) -> usize {
        self.0.fetch_add(value, order("fetch_add", ordering))
    }

    #[track_caller]
    pub(crate) fn fetch_sub(&self, value: usize, ordering: Ordering) -> usize {
        self.0.fetch_sub(value, order("fetch_sub", ordering))
    }
}
