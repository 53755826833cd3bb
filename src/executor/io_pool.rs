//! I/O threads, the *lanes*, for blocking work: writing snapshots, preparing and committing
//! transactions, the coordinator's use of the store.

use std::time::{Duration, Instant};

use crate::base::clock;
use crate::base::sync::{
    Arc, AtomicBool, AtomicUsize, Mailbox, MailboxSender, Ordering, Parker, Unparker, nap, thread,
};
use crate::base::watch;
use crate::base::watch::{Hung, Watch};

/// How long a lane that waits out a pause sleeps before it checks whether its next request is still
/// wanted.
const NAP: Duration = Duration::from_millis(5);

/// The kind of a request to the pool. The simulator shows it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[cfg_attr(not(feature = "sim"), allow(unreachable_pub, reason = "the simulator shows it"))]
pub enum IoKind {
    /// A snapshot's bytes are written.
    Snapshot,
    /// Orphans are rolled back (SPEC 6.4).
    RollBack,
    /// A transaction is prepared (SPEC 6.2).
    Prepare,
    /// A transaction is committed (SPEC 6.6).
    Commit,
    /// The store is claimed (SPEC 4.1).
    Claim,
    /// Ids are reserved (SPEC 4.2).
    Reserve,
    /// A manifest is put (SPEC 4.5).
    Manifest,
    /// Garbage is deleted (SPEC 8.5).
    Collect,
    /// The facts are read (SPEC 7.1).
    Recover,
    /// The lanes of the tasks are waited for (SPEC 8.6).
    Conclude,
    /// A record is looked up (SPEC 15.10): in a simulation only.
    LookUp,
    /// Nothing: a mark between earlier and later requests.
    Mark,
}

impl IoKind {
    /// In words.
    pub(crate) const fn doing(self) -> &'static str {
        match self {
            Self::Snapshot => "writing a snapshot",
            Self::RollBack => "rolling back what earlier attempts prepared",
            Self::Prepare => "preparing a transaction",
            Self::Commit => "committing a transaction",
            Self::Claim => "claiming the store",
            Self::Reserve => "reserving ids",
            Self::Manifest => "writing a manifest",
            Self::Collect => "deleting garbage",
            Self::Recover => "reading the recovery facts",
            Self::Conclude => "waiting for writes in flight",
            Self::LookUp => "looking a record up",
            Self::Mark => "nothing",
        }
    }
}

/// Work for another thread.
pub(crate) struct IoRequest {
    pub(crate) work: IoKind,
    /// How long to wait first.
    pub(crate) pause: Duration,
    /// Raised when the request is no longer wanted: what was not begun by then is not done.
    pub(crate) over: Option<Arc<AtomicBool>>,
    pub(crate) run: Box<dyn FnOnce() + Send>,
}

impl IoRequest {
    /// A request to carry out at once, unconditionally.
    pub(crate) fn new(work: IoKind, run: impl FnOnce() + Send + 'static) -> Self {
        Self { work, pause: Duration::ZERO, over: None, run: Box::new(run) }
    }

    /// Delays it by this time.
    pub(crate) fn after(self, pause: Duration) -> Self {
        Self { pause, ..self }
    }

    /// Cancels it once this is raised.
    pub(crate) fn unless(self, over: &Arc<AtomicBool>) -> Self {
        Self { over: Some(Arc::clone(over)), ..self }
    }

    /// Whether it is no longer wanted.
    pub(crate) fn is_over(&self) -> bool {
        self.over.as_ref().is_some_and(|over| over.load(Ordering::Acquire))
    }
}

/// A lane: one of the threads, and its queue.
struct PoolThread {
    post: MailboxSender<(usize, IoRequest)>,
    handle: Option<thread::JoinHandle<()>>,
    watch: Watch,
}

/// A simulator's queues: the simulator carries out the requests itself.
pub(crate) trait JobQueue: Send + Sync {
    /// Appends a request after all requests of this subtask.
    fn push(&self, subtask: usize, job: IoRequest);
}

/// A few lanes. What one subtask hands over is done in that order, one request at a time. So a
/// transaction is prepared before the snapshot that holds it is acknowledged, and commits go one by
/// one (SPEC 6.2, 6.6).
pub(crate) struct IoPool {
    lanes: Vec<PoolThread>,
    closing: Arc<AtomicBool>,
    /// How long one request may take on a lane before the lane hangs (SPEC 15.13).
    limit: Duration,
    /// Requests go here instead: a simulator carries them out.
    queue: Option<Arc<dyn JobQueue>>,
}

impl IoPool {
    /// # Errors
    /// If the operating system cannot start a thread.
    pub(crate) fn start(count: usize) -> std::io::Result<Self> {
        let closing = Arc::new(AtomicBool::new(false));
        // Complete from the start: if a thread cannot be started, those before it are ended.
        let mut started = Self::none(Arc::clone(&closing));
        for number in 0..count.max(1) {
            let jobs = Mailbox::<(usize, IoRequest)>::new();
            let post = jobs.post();
            let (closing, watch) = (Arc::clone(&closing), Watch::default());
            let watched = watch.clone();
            let run = move || {
                watched.over(|| {
                    while let Some((subtask, job)) = jobs.wait() {
                        carry_out(subtask, job, &closing);
                    }
                });
            };
            let name = format!("snapline-io-{number}");
            let handle = Some(thread::Builder::new().name(name).spawn(run)?);
            started.lanes.push(PoolThread { post, handle, watch });
        }
        Ok(started)
    }

    const fn none(closing: Arc<AtomicBool>) -> Self {
        Self { lanes: Vec::new(), closing, limit: Duration::MAX, queue: None }
    }

    /// With a time limit for one request: at the end, a lane that hangs is left.
    pub(crate) const fn limited(mut self, limit: Duration) -> Self {
        self.limit = limit;
        self
    }

    /// The process was suspended: the time limits of the lanes start again.
    pub(crate) fn thaw(&self) {
        self.lanes.iter().for_each(|lane| lane.watch.thaw());
    }

    /// A lane that hangs.
    pub(crate) fn hung(&self) -> Option<Hung> {
        self.lanes.iter().find_map(|lane| lane.watch.hung(self.limit))
    }

    /// Ends the lanes: what was not begun is not done. Returns one that hangs, if there is one: it
    /// is left.
    pub(crate) fn close(&self, limit: Duration) -> Option<Hung> {
        self.closing.store(true, Ordering::Release);
        self.lanes.iter().for_each(|lane| lane.post.close());
        self.lanes.iter().fold(None, |hung, lane| hung.or(lane.watch.gone(limit).err()))
    }

    /// Lanes without threads.
    #[cfg(feature = "sim")]
    pub(crate) fn queued(queue: Arc<dyn JobQueue>) -> Self {
        let mut lanes = Self::none(Arc::default());
        lanes.queue = Some(queue);
        lanes
    }

    /// Whether a simulator carries out the requests.
    pub(crate) const fn are_simulated(&self) -> bool {
        self.queue.is_some()
    }

    /// Hands a request over, after all earlier requests of this subtask.
    pub(crate) fn submit(&self, subtask: usize, job: IoRequest) {
        if let Some(queue) = &self.queue {
            return queue.push(subtask, job);
        }
        // A lane's thread ends only when its mailbox is closed, which is when `self` is dropped; a
        // request's panic does not end it.
        let _ = self.lanes[subtask % self.lanes.len()].post.send((subtask, job));
    }

    /// Waits until everything handed over so far is done.
    pub(crate) fn settle(&self) {
        // A simulator schedules the waiting thread when it has nothing left to wait for.
        if self.queue.is_some() {
            return;
        }
        let parker = Parker::new();
        let left = Arc::new(AtomicUsize::new(self.lanes.len()));
        for lane in 0..self.lanes.len() {
            let marker = DoneMarker { left: Arc::clone(&left), waiter: parker.unparker().clone() };
            self.submit(lane, IoRequest::new(IoKind::Mark, move || drop(marker)));
        }
        while left.load(Ordering::Acquire) > 0 {
            parker.park();
        }
    }
}

/// Notifies the waiting thread that a lane has come this far. On drop, since a lane that is closing
/// drops its requests.
struct DoneMarker {
    left: Arc<AtomicUsize>,
    waiter: Unparker,
}

impl Drop for DoneMarker {
    fn drop(&mut self) {
        // A release is enough: the waiter's load reads from the last of a row of these, and so sees
        // what happened before each of them.
        if self.left.fetch_sub(1, Ordering::Release) == 1 {
            self.waiter.unpark();
        }
    }
}

/// On a lane's thread.
fn carry_out(subtask: usize, job: IoRequest, closing: &AtomicBool) {
    // A crash would have lost what is still queued when the job is over, too.
    let unwanted = || closing.load(Ordering::Acquire) || job.is_over();
    let until = clock::after(Instant::now(), job.pause);
    while !job.pause.is_zero() && Instant::now() < until && !unwanted() {
        nap(NAP.min(until.saturating_duration_since(Instant::now())));
    }
    if !unwanted() {
        tracing::trace!(target: "snapline::lane", doing = job.work.doing());
        watch::begin(job.work.doing(), Some(subtask));
        watch::guard(job.work.doing(), job.run);
        watch::wait();
    }
}

impl Drop for IoPool {
    fn drop(&mut self) {
        self.closing.store(true, Ordering::Release);
        for PoolThread { post, handle, watch } in self.lanes.drain(..) {
            post.close();
            // One that hangs is left.
            let handle = handle.filter(|_| watch.gone(self.limit).is_ok());
            if let Some(handle) = handle {
                // A lane that panicked has reported it through the task that handed over the
                // request.
                let _ = handle.join();
            }
        }
    }
}

#[cfg(all(test, not(snapline_loom)))]
mod tests {
    use super::*;
    use crate::base::sync::{Mutex, lock};

    #[test]
    fn jobs_of_one_subtask_keep_their_order() {
        let lanes = IoPool::start(2).expect("threads");
        let seen = Arc::new(Mutex::new(Vec::new()));
        for number in 0..100 {
            let seen = Arc::clone(&seen);
            let pause = Duration::from_micros(100 - number);
            let job = IoRequest::new(IoKind::Mark, move || lock(&seen).push(number));
            lanes.submit(3, job.after(pause));
        }
        lanes.settle();
        assert_eq!(*lock(&seen), (0..100).collect::<Vec<_>>());
    }

    #[test]
    fn a_panic_ends_no_lane() {
        let lanes = IoPool::start(1).expect("threads");
        let done = Arc::new(AtomicBool::new(false));
        lanes.submit(0, IoRequest::new(IoKind::Mark, || panic!("planned")));
        let raise = Arc::clone(&done);
        lanes.submit(0, IoRequest::new(IoKind::Mark, move || raise.store(true, Ordering::Release)));
        let begun = Instant::now();
        while !done.load(Ordering::Acquire) {
            assert!(begun.elapsed() < Duration::from_secs(10), "its thread is gone");
            nap(NAP);
        }
    }

    #[test]
    fn what_nobody_wants_any_more_is_not_begun() {
        let lanes = IoPool::start(1).expect("threads");
        let (over, done) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
        let raise = Arc::clone(&over);
        lanes.submit(0, IoRequest::new(IoKind::Mark, move || raise.store(true, Ordering::Release)));
        let late = Arc::clone(&done);
        let job = IoRequest::new(IoKind::Mark, move || late.store(true, Ordering::Release));
        lanes.submit(0, job.after(Duration::from_secs(3600)).unless(&over));
        lanes.settle();
        assert!(!done.load(Ordering::Acquire), "an hour was not waited, and nothing done");
    }
}
