//! Threads for what may wait: writing snapshots, preparing and committing transactions.

use crate::sync::{
    Arc, AtomicBool, AtomicUsize, Mailbox, Ordering, Parker, Post, Unparker, thread,
};

/// Something to be done on another thread.
pub(crate) type Job = Box<dyn FnOnce() + Send>;

/// A few threads, each with a queue. What one subtask hands over is done in that order, one thing at a time: a transaction is prepared
/// before the snapshot that holds it is acknowledged, and commits go one by one (SPEC 6.2, 6.6).
pub(crate) struct Lanes {
    lanes: Vec<(Post<Job>, Option<thread::JoinHandle<()>>)>,
    closing: Arc<AtomicBool>,
}

impl Lanes {
    /// # Errors
    /// If the operating system gives no thread.
    pub(crate) fn start(count: usize) -> std::io::Result<Self> {
        let closing = Arc::new(AtomicBool::new(false));
        // Complete from the start: if a thread cannot be had, those that were started are ended.
        let mut started = Self { lanes: Vec::new(), closing: Arc::clone(&closing) };
        for number in 0..count.max(1) {
            let jobs = Mailbox::<Job>::new();
            let post = jobs.post();
            let closing = Arc::clone(&closing);
            let run = move || {
                while let Some(job) = jobs.wait() {
                    // What is still queued when the job is over would have been lost in a crash too.
                    if !closing.load(Ordering::Acquire) {
                        job();
                    }
                }
            };
            let name = format!("snapline-io-{number}");
            started.lanes.push((post, Some(thread::Builder::new().name(name).spawn(run)?)));
        }
        Ok(started)
    }

    /// Hands a job over, behind all that were handed over for this subtask.
    pub(crate) fn submit(&self, subtask: usize, job: Job) {
        // A lane's thread ends only when its mailbox is closed, which is when `self` is dropped; a job never panics (see `guarded`).
        let _ = self.lanes[subtask % self.lanes.len()].0.send(job);
    }

    /// Waits until everything handed over so far is done.
    pub(crate) fn settle(&self) {
        let parker = Parker::new();
        let left = Arc::new(AtomicUsize::new(self.lanes.len()));
        for lane in 0..self.lanes.len() {
            let marker = Marker { left: Arc::clone(&left), waiter: parker.unparker().clone() };
            self.submit(lane, Box::new(move || drop(marker)));
        }
        while left.load(Ordering::Acquire) > 0 {
            parker.park();
        }
    }
}

/// Tells who waits that a lane has come this far. When it is dropped: a lane that is closing drops its jobs.
struct Marker {
    left: Arc<AtomicUsize>,
    waiter: Unparker,
}

impl Drop for Marker {
    fn drop(&mut self) {
        // A release will do: the waiter's load reads from the last of a row of these, and so sees what went before each of them.
        if self.left.fetch_sub(1, Ordering::Release) == 1 {
            self.waiter.unpark();
        }
    }
}

impl Drop for Lanes {
    fn drop(&mut self) {
        self.closing.store(true, Ordering::Release);
        for (post, handle) in self.lanes.drain(..) {
            post.close();
            if let Some(handle) = handle {
                // A lane that panicked has reported it through the task that handed over the job.
                let _ = handle.join();
            }
        }
    }
}

#[cfg(all(test, not(snapline_loom)))]
mod tests {
    use super::*;
    use crate::sync::{Mutex, lock};

    #[test]
    fn jobs_of_one_subtask_keep_their_order() {
        let lanes = Lanes::start(2).expect("threads");
        let seen = Arc::new(Mutex::new(Vec::new()));
        for number in 0..100 {
            let seen = Arc::clone(&seen);
            lanes.submit(3, Box::new(move || lock(&seen).push(number)));
        }
        lanes.settle();
        assert_eq!(*lock(&seen), (0..100).collect::<Vec<_>>());
    }
}
