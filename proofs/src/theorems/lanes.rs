//! The I/O pool: src/executor/io_pool.rs.

use crate::base::sync::{Arc, AtomicBool, AtomicUsize, Ordering};
use crate::executor::io_pool::{IoKind, IoPool, IoRequest};
use crate::rig::Tracked;

/// One subtask's requests are done in the order in which they were submitted, and all of them when
/// the pool has settled (SPEC 6.2, 8.6).
pub(super) fn settle(count: usize) {
    let lanes = Arc::new(IoPool::start(2).expect("the checker gives threads"));
    // Only the pool orders these accesses: a write out of order, or a read before the pool has
    // settled, is detected.
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

/// The pool ends with requests in flight: each was done or dropped, once, and none is done after
/// the end.
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
