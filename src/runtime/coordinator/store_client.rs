//! The store's side of the coordinator: each write on a thread of its own, its result an event
//! (SPEC 3.4).

use std::collections::BTreeSet;
use std::time::Duration;

use snapline_protocol::coordinator::{StoreOp, StoreResult};
use snapline_protocol::fence::Claimant;
use snapline_protocol::ids::{Attempt, CheckpointId, Term};
use snapline_protocol::message::CheckpointKind;
use snapline_protocol::recovery::{Health, Policy, decide};
use snapline_protocol::retention::{Plan, Roots, plan};

use crate::base::fault::Mutation;
use crate::base::panic::guarded;
use crate::base::sync::{Arc, AtomicBool, Ordering};
use crate::base::watch;
use crate::base::watch::Hung;
use crate::executor::io_pool::{IoKind, IoPool, IoRequest};
use crate::executor::platform::Platform;
use crate::runtime::events::DriverEvent;
use crate::runtime::status::StatusBoard;
use crate::store::{Manifest, Store, StoreError, found, recovery_facts, sized_inventory};
use crate::trace::{Recorder, What};

/// The store, and the thread that uses it for the coordinator.
pub(crate) struct StoreClient {
    store: Arc<dyn Store>,
    /// Dropped with the driver: no thread waits out a pause any more.
    lane: IoPool,
    notices: crossbeam_channel::Sender<DriverEvent>,
    recorder: Recorder,
    platform: Platform,
    board: StatusBoard,
    /// Raised to cancel a recovery that waits out its pause.
    waiting: Arc<AtomicBool>,
    /// Whether that recovery has begun, or is cancelled: whichever came first.
    begun: Arc<AtomicBool>,
}

impl StoreClient {
    pub(crate) fn new(
        store: Arc<dyn Store>,
        lane: IoPool,
        notices: crossbeam_channel::Sender<DriverEvent>,
        recorder: Recorder,
        platform: Platform,
        board: StatusBoard,
    ) -> Self {
        Self {
            store,
            lane,
            notices,
            recorder,
            platform,
            board,
            waiting: Arc::default(),
            begun: Arc::default(),
        }
    }

    /// Runs a store operation. If it panics, `failed` makes the panic an error of the store's.
    fn submit(
        &self,
        work: IoKind,
        pause: Duration,
        failed: impl FnOnce(StoreError, &Recorder) -> DriverEvent + Send + 'static,
        job: impl FnOnce(&dyn Store, &Recorder) -> DriverEvent + Send + 'static,
    ) {
        let (store, notices) = (Arc::clone(&self.store), self.notices.clone());
        let recorder = self.recorder.clone();
        // A simulation has to see a panic, which is a defect.
        let simulated = self.lane.are_simulated();
        let begun = (work == IoKind::Recover).then(|| Arc::clone(&self.begun));
        let job = move || {
            if begun.is_some_and(|begun| begun.swap(true, Ordering::AcqRel)) {
                return;
            }
            let done = match simulated {
                true => Ok(job(&*store, &recorder)),
                false => asked(work.doing(), || Ok(job(&*store, &recorder))),
            };
            // A driver that is gone needs no answer.
            let _ = notices.send(done.unwrap_or_else(|error| failed(error, &recorder)));
        };
        let job = IoRequest::new(work, job).after(pause);
        // A recovery may be cancelled; nothing else is.
        let job = if work == IoKind::Recover { job.unless(&self.waiting) } else { job };
        self.lane.submit(0, job);
    }

    pub(crate) fn claim(&self, op: StoreOp, term: Term, claimant: Claimant, block: u64) {
        let failed = move |error, recorder: &Recorder| stored(op, Err(error), recorder);
        self.submit(IoKind::Claim, Duration::ZERO, failed, move |store, recorder| {
            match store.claim(term, claimant, block) {
                Ok(first) => {
                    let (result, first_id) = (StoreResult::Applied, Some(first));
                    recorder.store(|| What::Store { op, result, first: first_id });
                    DriverEvent::Claimed(first, first.plus(block))
                }
                Err(error) => stored(op, Err(error), recorder),
            }
        });
    }

    pub(crate) fn reserve(&self, op: StoreOp, term: Term, until: CheckpointId, pause: Duration) {
        let failed = move |error, recorder: &Recorder| stored(op, Err(error), recorder);
        self.submit(IoKind::Reserve, pause, failed, move |store, recorder| {
            stored(op, store.reserve(term, until), recorder)
        });
    }

    pub(crate) fn manifest(&self, op: StoreOp, term: Term, manifest: Manifest, pause: Duration) {
        let failed = move |error, recorder: &Recorder| stored(op, Err(error), recorder);
        self.submit(IoKind::Manifest, pause, failed, move |store, recorder| {
            stored(op, store.put_manifest(term, &manifest), recorder)
        });
    }

    /// SPEC 8.5: the roots were read before; now the manifests, then the blobs.
    pub(crate) fn collect(&self, op: StoreOp, term: Term, roots: Roots, pause: Duration) {
        let nothing = self.platform.faults.is_active(Mutation::NothingCollected);
        let board = self.board.clone();
        let failed = move |error, recorder: &Recorder| stored(op, Err(error), recorder);
        self.submit(IoKind::Collect, pause, failed, move |store, recorder| {
            let collected = sized_inventory(store).and_then(|(inventory, blobs)| {
                let plan = if nothing { Plan::default() } else { plan(&roots, &inventory) };
                tracing::debug!(
                    target: "snapline::store",
                    manifests = plan.manifests.len(), blobs = plan.blobs.len(), "deleting garbage"
                );
                recorder.store(|| What::Collect { roots, inventory, plan: plan.clone() });
                store.delete(term, &plan.manifests, &plan.blobs)?;
                let gone: BTreeSet<_> = plan.blobs.iter().collect();
                let left = blobs.iter().filter(|blob| !gone.contains(&blob.id));
                let left: u64 = left.map(|blob| blob.length).sum();
                board.update(|status| status.store_bytes = Some(left));
                Ok(())
            });
            stored(op, collected, recorder)
        });
    }

    /// Recovers now, although a recovery waits out its pause. One that has begun is not repeated.
    pub(crate) fn hurry(&mut self, term: Term, policy: Policy) {
        if self.begun.swap(true, Ordering::AcqRel) {
            return;
        }
        self.waiting.store(true, Ordering::Release);
        self.waiting = Arc::default();
        self.recover(term, policy, Duration::ZERO);
    }

    pub(crate) fn recover(&mut self, term: Term, policy: Policy, pause: Duration) {
        self.begun = Arc::default();
        let nothing = self.platform.faults.is_active(Mutation::StartsFromNothing);
        let older = self.platform.faults.is_active(Mutation::OlderRestored);
        let periodic = self.platform.faults.is_active(Mutation::StopsIgnored);
        let failed = |error, _: &Recorder| DriverEvent::Unread(error);
        self.submit(IoKind::Recover, pause, failed, move |store, recorder| {
            match recovery_facts(store, term, policy) {
                Ok((mut facts, wrong)) => {
                    if periodic {
                        facts.manifests.retain(|found| found.kind == CheckpointKind::Periodic);
                    } else if nothing {
                        facts.manifests.clear();
                    } else if older && let Ok([.., before, _]) = store.manifests().as_deref() {
                        let manifest = store.manifest(*before).ok();
                        facts.manifests = vec![found(*before, manifest.as_ref(), Health::Whole)];
                    }
                    let decision = decide(&facts);
                    recorder.store(|| What::facts(facts, &decision));
                    DriverEvent::Recovered(decision, wrong)
                }
                Err(error) => DriverEvent::Unread(error),
            }
        });
    }

    /// The process was suspended: the store's time limit starts again.
    pub(crate) fn thaw(&self) {
        self.lane.thaw();
    }

    /// The hanging store operation. Waiting for writes in progress is not the store's fault.
    pub(crate) fn hung(&self) -> Option<Hung> {
        self.lane.hung().filter(|hung| hung.doing != IoKind::Conclude.doing())
    }

    /// Ends the lane; returns what hangs.
    pub(crate) fn close(&self, limit: Duration) -> Option<Hung> {
        self.lane.close(limit)
    }

    /// Reports when everything that was handed to these lanes has ended (SPEC 8.6).
    pub(crate) fn conclude(&self, attempt: Attempt, io_pool: Arc<IoPool>) {
        let failed = |error, _: &Recorder| DriverEvent::Unread(error);
        self.submit(IoKind::Conclude, Duration::ZERO, failed, move |_, _| {
            io_pool.settle();
            DriverEvent::Concluded(attempt)
        });
    }
}

/// Calls the store: a panic becomes an error of the store's, and this thread is watched meanwhile.
pub(crate) fn asked<R>(
    doing: &'static str,
    ask: impl FnOnce() -> Result<R, StoreError>,
) -> Result<R, StoreError> {
    watch::begin(doing, None);
    guarded(|| Ok(ask())).unwrap_or_else(|what| {
        Err(StoreError::Panicked { doing: doing.into(), what: what.to_string() })
    })
}

fn stored(op: StoreOp, result: Result<(), StoreError>, recorder: &Recorder) -> DriverEvent {
    let error = result.err();
    let result = error.as_ref().map_or(StoreResult::Applied, StoreError::result);
    recorder.store(|| What::Store { op, result, first: None });
    DriverEvent::Stored { op, result, error }
}
