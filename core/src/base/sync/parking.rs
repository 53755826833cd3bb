//! Lets a thread sleep without losing a wake-up.
//!
//! A parker holds a token or none. Leaving one ([`Unparker::unpark`]) and taking it
//! ([`Parker::park`]) are read-modify-writes of one atomic, so that of a token left and a sleep
//! begun one sees the other. What was done before a token was left is seen by the thread that takes
//! that token or a later one. Channels and mailboxes rely on nothing else.

use std::cell::Cell;
use std::marker::PhantomData;
use std::time::Instant;

use crate::base::sync::{Arc, AtomicU8, Condvar, Mutex, Ordering, PoisonError, lock};

/// No token.
const EMPTY: u8 = 0;
/// No token, and the thread sleeps or is about to: it holds the lock from before it sets this until
/// it sleeps.
const ASLEEP: u8 = 1;
/// A token.
const NOTIFIED: u8 = 2;

struct Token {
    state: AtomicU8,
    bed: Mutex<()>,
    bell: Condvar,
}

impl Token {
    /// Takes the token if it is there.
    fn take(&self) -> bool {
        self.state.compare_exchange(NOTIFIED, EMPTY, Ordering::Acquire, Ordering::Relaxed).is_ok()
    }
}

/// Lets the thread that has it sleep. There may be a token before there is a thread.
pub struct Parker {
    unparker: Unparker,
    /// One thread at a time: it may be sent, but not shared.
    one: PhantomData<Cell<()>>,
}

/// Wakes the thread that has the parker, or prevents it from falling asleep.
#[derive(Clone)]
pub struct Unparker {
    token: Arc<Token>,
}

impl Default for Parker {
    fn default() -> Self {
        Self::new()
    }
}

impl Parker {
    /// A parker that is not woken yet.
    pub fn new() -> Self {
        let (state, bed, bell) = (AtomicU8::new(EMPTY), Mutex::new(()), Condvar::new());
        let token = Arc::new(Token { state, bed, bell });
        Self { unparker: Unparker { token }, one: PhantomData }
    }

    /// Its unparker.
    pub const fn unparker(&self) -> &Unparker {
        &self.unparker
    }

    /// Waits for a token and takes it.
    pub fn park(&self) {
        self.sleep(None);
    }

    /// Like [`Parker::park`], but no longer than until then.
    pub fn park_deadline(&self, deadline: Instant) {
        self.sleep(Some(deadline));
    }

    fn sleep(&self, until: Option<Instant>) {
        let token = &*self.unparker.token;
        if token.take() {
            return;
        }
        let mut bed = lock(&token.bed);
        let (now, seen) = (Ordering::Relaxed, Ordering::Relaxed);
        if token.state.compare_exchange(EMPTY, ASLEEP, now, seen).is_err() {
            // Only this thread takes it: it is there.
            token.take();
            return;
        }
        loop {
            bed = match until {
                None => token.bell.wait(bed).unwrap_or_else(PoisonError::into_inner),
                Some(until) => {
                    let left = until.saturating_duration_since(Instant::now());
                    if left.is_zero() {
                        // A token that has come in the meantime is taken: this returns either way.
                        token.state.swap(EMPTY, Ordering::Acquire);
                        return;
                    }
                    let woken = token.bell.wait_timeout(bed, left);
                    woken.unwrap_or_else(PoisonError::into_inner).0
                }
            };
            if token.take() {
                return;
            }
        }
    }
}

impl Unparker {
    /// Leaves a token, if there is none, and wakes the thread if it sleeps.
    pub fn unpark(&self) {
        // A read-modify-write even if a token is there already: the thread that takes it sees what
        // was done before this one too.
        if self.token.state.swap(NOTIFIED, Ordering::Release) == ASLEEP {
            // A thread that has had the lock finds the other asleep, not on its way there: the
            // notification arrives.
            drop(lock(&self.token.bed));
            self.token.bell.notify_one();
        }
    }
}

#[cfg(all(test, not(snapline_loom)))]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::base::sync::thread;

    #[test]
    fn a_token_is_taken_once() {
        let parker = Parker::new();
        parker.unparker().unpark();
        parker.unparker().unpark();
        parker.park();
        let (begun, nap) = (Instant::now(), Duration::from_millis(20));
        parker.park_deadline(begun + nap);
        assert!(begun.elapsed() >= nap, "two tokens");
        parker.park_deadline(begun);
    }

    #[test]
    fn a_sleeper_is_woken() {
        let parker = Parker::new();
        let waker = parker.unparker().clone();
        let sleeper = thread::spawn(move || {
            let far = Instant::now() + Duration::from_secs(3600);
            parker.park();
            parker.park_deadline(far);
            assert!(Instant::now() < far);
            parker
        });
        // The first may come before the sleep or after; the second must not fall together with the
        // first.
        waker.unpark();
        while waker.token.state.load(Ordering::Relaxed) == NOTIFIED {
            thread::yield_now();
        }
        waker.unpark();
        let parker = sleeper.join().expect("the sleeper does not panic");
        parker.park_deadline(Instant::now());
        assert_eq!(waker.token.state.load(Ordering::Relaxed), EMPTY);
    }
}

/// The simulator's access to a parker.
#[cfg(feature = "sim")]
impl Parker {
    /// Takes the token, if there is one; returns whether there was.
    pub fn try_park(&self) -> bool {
        self.unparker.token.take()
    }

    /// Whether there is a token to be taken.
    pub fn is_called(&self) -> bool {
        self.unparker.token.state.load(Ordering::Relaxed) == NOTIFIED
    }
}
