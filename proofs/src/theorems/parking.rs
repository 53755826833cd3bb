//! The parker: core/src/base/sync/parking.rs.

use std::time::Instant;

use crate::base::sync::{Arc, AtomicBool, Ordering, Parker, thread};

/// Several threads do some work and then leave a token. A thread that parks until it has seen all
/// of it, by loads that wait for nothing, comes to an end. No token is lost. A token makes visible
/// the work before it, and the work before the tokens that it was merged with.
pub(super) fn tokens(wakers: usize) {
    all_is_seen(wakers, |_| {});
}

/// The same if the thread has slept with a deadline before, which passes at the very moment at
/// which tokens come. A token taken then is as good as any.
pub(super) fn deadline(wakers: usize) {
    // Loom models no time. A past deadline makes the sleep time out as soon as it has begun.
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
