//! Threads for what may wait: writing snapshots, preparing and committing transactions.

use crate::sync::{Arc, AtomicBool, Ordering, thread};

/// Something to be done on another thread.
pub(crate) type Job = Box<dyn FnOnce() + Send>;

/// A few threads, each with a queue. What one subtask hands over is done in that order, one thing at a time: a transaction is prepared
/// before the snapshot that holds it is acknowledged, and commits go one by one (SPEC 6.2, 6.6).
pub(crate) struct Lanes {
    lanes: Vec<(crossbeam_channel::Sender<Job>, Option<thread::JoinHandle<()>>)>,
    closing: Arc<AtomicBool>,
}

impl Lanes {
    /// # Errors
    /// If the operating system gives no thread.
    pub(crate) fn start(count: usize) -> std::io::Result<Self> {
        let closing = Arc::new(AtomicBool::new(false));
        let mut lanes = Vec::new();
        for number in 0..count.max(1) {
            let (sender, jobs) = crossbeam_channel::unbounded::<Job>();
            let closing = Arc::clone(&closing);
            let run = move || {
                for job in jobs {
                    // What is still queued when the job is over would have been lost in a crash too.
                    if !closing.load(Ordering::Acquire) {
                        job();
                    }
                }
            };
            let name = format!("snapline-io-{number}");
            lanes.push((sender, Some(thread::Builder::new().name(name).spawn(run)?)));
        }
        Ok(Self { lanes, closing })
    }

    /// Hands a job over, behind all that were handed over for this subtask.
    pub(crate) fn submit(&self, subtask: usize, job: Job) {
        // A lane's thread ends only when its sender is dropped, which is with `self`; a job never panics (see `guarded`).
        let _ = self.lanes[subtask % self.lanes.len()].0.send(job);
    }

    /// Waits until everything handed over so far is done.
    pub(crate) fn settle(&self) {
        let (done, all) = crossbeam_channel::bounded(self.lanes.len());
        for lane in 0..self.lanes.len() {
            let done = done.clone();
            self.submit(lane, Box::new(move || drop(done)));
        }
        drop(done);
        // Ends when every sender is dropped: each lane has come to its marker.
        let _: Option<()> = all.iter().next();
    }
}

impl Drop for Lanes {
    fn drop(&mut self) {
        self.closing.store(true, Ordering::Release);
        for (sender, handle) in self.lanes.drain(..) {
            drop(sender);
            if let Some(handle) = handle {
                // A lane that panicked has reported it through the task that handed over the job.
                let _ = handle.join();
            }
        }
    }
}

#[cfg(test)]
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
