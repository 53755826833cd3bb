//! The parker: src/sync/parking.rs.

use std::time::Instant;

use crate::base::sync::{Arc, AtomicBool, Ordering, Parker, thread};

/// Several threads do something and then leave a token. Who parks until it has seen all of it, by loads that wait for nothing, comes to
/// an end: no token is lost, and with a token comes what was done before it and before those that it fell together with.
pub(super) fn tokens(wakers: usize) {
    all_is_seen(wakers, |_| {});
}

/// The same if the thread has slept with a deadline before, which passes at the very moment at which tokens come: one that is taken then
/// is as good as any.
pub(super) fn deadline(wakers: usize) {
    // Loom knows no time. One that is over makes the sleep one that times out as soon as it has begun.
    let past = Instant::now();
    all_is_seen(wakers, |parker| parker.park_deadline(past));
}

fn all_is_seen(wakers: usize, first: impl FnOnce(&Parker)) {
    let parker = Parker::new();
    let done: Vec<Arc<AtomicBool>> =
        (0..wakers).map(|_| Arc::new(AtomicBool::new(false))).collect();
    let threads: Vec<_> = done
        .iter()
        .map(|done| {
            let (done, unparker) = (Arc::clone(done), parker.unparker().clone());
            thread::spawn(move || {
                done.store(true, Ordering::Relaxed);
                unparker.unpark();
            })
        })
        .collect();
    first(&parker);
    while !done.iter().all(|done| done.load(Ordering::Relaxed)) {
        parker.park();
    }
    for thread in threads {
        thread.join().expect("a waker does not panic");
    }
}
