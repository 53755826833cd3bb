//! The simulator's hooks into the runtime: work that would go to threads is queued here instead.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use snapline_protocol::fence::Claimant;
use snapline_protocol::ids::{Attempt, SubtaskId};
use snapline_protocol::message::ToTask;

use crate::base::clock::Clock;
use crate::base::fault::Mutation;
use crate::base::sync::{Arc, AtomicBool, Mutex, lock};
use crate::executor::io_pool::{IoKind, IoRequest};
use crate::executor::io_pool::{IoPool, JobQueue};
use crate::executor::platform::SimHooks;
use crate::runtime::attempt::SimStage;
use crate::runtime::worker::{Address, Worker};

/// One process's part of the hooks.
pub(crate) struct Hooks {
    clock: Clock,
    life: u64,
    inner: Mutex<HooksInner>,
}

struct HooksInner {
    claimant: u64,
    /// The coordinator's first, then the tasks'.
    queues: Vec<Arc<Queues>>,
    posted: Vec<Posted>,
    seated: Vec<Seated>,
}

/// A coordinator's message in flight.
pub(crate) struct Posted {
    pub(crate) subtask: SubtaskId,
    pub(crate) address: Address,
    pub(crate) message: ToTask,
}

/// The workers of an attempt.
pub(crate) struct Seated {
    pub(crate) attempt: Attempt,
    pub(crate) over: Arc<AtomicBool>,
    pub(crate) workers: Vec<Worker>,
}

impl Hooks {
    /// `life` numbers the processes of a run: no two of them have the same.
    pub(crate) fn new(clock: Clock, mutant: Option<Mutation>, life: u64) -> Arc<Self> {
        let fresh = mutant != Some(Mutation::ClaimantNotFresh);
        let claimant = if fresh { life << 8 } else { 7 };
        let (queues, posted, seated) = (Vec::new(), Vec::new(), Vec::new());
        let inner = Mutex::new(HooksInner { claimant, queues, posted, seated });
        Arc::new(Self { clock, life, inner })
    }

    /// All queues, the coordinator's first.
    pub(crate) fn all_queues(&self) -> Vec<Arc<Queues>> {
        lock(&self.inner).queues.clone()
    }

    pub(crate) fn take_posted(&self) -> Vec<Posted> {
        std::mem::take(&mut lock(&self.inner).posted)
    }

    pub(crate) fn take_seated(&self) -> Vec<Seated> {
        std::mem::take(&mut lock(&self.inner).seated)
    }
}

impl SimHooks for Hooks {
    fn io_pool(&self, count: usize) -> IoPool {
        let lanes = (0..count.max(1)).map(|_| VecDeque::new()).collect();
        let queues = Arc::new(Queues { clock: self.clock.clone(), lanes: Mutex::new(lanes) });
        lock(&self.inner).queues.push(Arc::clone(&queues));
        IoPool::queued(queues)
    }

    fn claimant(&self) -> Claimant {
        Claimant(lock(&self.inner).claimant)
    }

    /// Differs by process: a process that does not adopt its checkpoint's seed looks for keys where
    /// they are not.
    fn hash_seed(&self) -> u64 {
        self.life
    }
}

impl SimStage for Hooks {
    fn seated(&self, attempt: Attempt, over: Arc<AtomicBool>, workers: Vec<Worker>) {
        lock(&self.inner).seated.push(Seated { attempt, over, workers });
    }

    fn post(&self, subtask: SubtaskId, address: Address, message: ToTask) {
        lock(&self.inner).posted.push(Posted { subtask, address, message });
    }
}

/// I/O requests of some lanes, to be done by the simulator.
pub(crate) struct Queues {
    clock: Clock,
    lanes: Mutex<Vec<VecDeque<Queued>>>,
}

/// A request in a lane's queue.
struct Queued {
    job: IoRequest,
    /// The earliest time at which it is done.
    due: Instant,
    /// Its lane has begun it: it is done even if it is cancelled.
    begun: bool,
}

/// The next request of a lane.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Front {
    pub(crate) work: IoKind,
    pub(crate) due: Instant,
    pub(crate) begun: bool,
    /// It is cancelled.
    pub(crate) over: bool,
}

impl Queues {
    /// The next request of each lane.
    pub(crate) fn fronts(&self) -> Vec<Option<Front>> {
        let lanes = lock(&self.lanes);
        let front = |queued: &Queued| {
            let over = !queued.begun && queued.job.is_over();
            Front { work: queued.job.work, due: queued.due, begun: queued.begun, over }
        };
        lanes.iter().map(|lane| lane.front().map(front)).collect()
    }

    pub(crate) fn is_empty(&self) -> bool {
        lock(&self.lanes).iter().all(VecDeque::is_empty)
    }

    /// The lane begins its next request, which takes at least this pause. A cancelled request is
    /// dropped.
    pub(crate) fn begin(&self, lane: usize, pause: Duration) {
        let mut lanes = lock(&self.lanes);
        let over = lanes[lane].front().is_some_and(|queued| queued.job.is_over());
        if over {
            let dropped = lanes[lane].pop_front();
            drop(lanes);
            drop(dropped);
        } else if let Some(queued) = lanes[lane].front_mut() {
            (queued.begun, queued.due) = (true, self.clock.now() + pause);
        }
    }

    /// Closes the lanes: they finish only what they have begun.
    pub(crate) fn close(&self) {
        let begun = |lane: &mut VecDeque<Queued>| {
            let first = lane.drain(..).next();
            first.filter(|queued| queued.begun)
        };
        let begun: Vec<_> = lock(&self.lanes).iter_mut().filter_map(begun).collect();
        begun.into_iter().for_each(|queued| (queued.job.run)());
    }

    /// The lane does its next request. A cancelled request that was not begun is dropped.
    pub(crate) fn finish(&self, lane: usize) {
        let Some(queued) = lock(&self.lanes)[lane].pop_front() else { return };
        if queued.begun || !queued.job.is_over() {
            (queued.job.run)();
        }
    }

    /// Drops the rest, which will never be done.
    pub(crate) fn clear(&self) {
        let left: Vec<_> = lock(&self.lanes).iter_mut().map(std::mem::take).collect();
        drop(left);
    }
}

impl JobQueue for Queues {
    fn push(&self, subtask: usize, job: IoRequest) {
        let mut lanes = lock(&self.lanes);
        let lane = subtask % lanes.len();
        let due = self.clock.now() + job.pause;
        lanes[lane].push_back(Queued { job, due, begun: false });
    }
}
