//! Lanes: src/engine/lanes.rs.

use crate::base::sync::{Arc, AtomicBool, AtomicUsize, Ordering};
use crate::executor::io_pool::{IoKind, IoPool, IoRequest};
use crate::rig::Tracked;

/// What was handed over for one subtask is done in that order, and all of it when the lanes have settled (SPEC 6.2, 8.6).
pub(super) fn settle(count: usize) {
    let lanes = Arc::new(IoPool::start(2).expect("the checker gives threads"));
    // Nothing orders these but the lanes: one that is written out of order, or read before the lane has settled, is found out.
    let seen = Arc::new([Tracked::new(0), Tracked::new(0)]);
    for number in 1..=count as u32 {
        for subtask in 0..if number == 1 { 2 } else { 1 } {
            let seen = Arc::clone(&seen);
            let job = move || {
                assert_eq!(seen[subtask].get(), number - 1, "in order");
                seen[subtask].set_shared(number);
            };
            lanes.submit(subtask, IoRequest::new(IoKind::Snapshot, job));
        }
    }
    lanes.settle();
    assert_eq!([seen[0].get(), seen[1].get()], [count as u32, 1]);
}

/// The lanes end with jobs in flight: each was done or dropped, once, and nothing is done any more when they are gone.
pub(super) fn end(count: usize) {
    let lanes = IoPool::start(1).expect("the checker gives threads");
    let done = Arc::new(AtomicUsize::new(0));
    let gone = Arc::new(AtomicBool::new(false));
    for _ in 0..count {
        let (done, gone) = (Arc::clone(&done), Arc::clone(&gone));
        lanes.submit(
            0,
            IoRequest::new(IoKind::Snapshot, move || {
                assert!(!gone.load(Ordering::Relaxed), "done after the end");
                done.fetch_add(1, Ordering::Relaxed);
            }),
        );
    }
    drop(lanes);
    gone.store(true, Ordering::Relaxed);
    assert!(done.load(Ordering::Relaxed) <= count);
    assert_eq!(Arc::strong_count(&done), 1);
}
