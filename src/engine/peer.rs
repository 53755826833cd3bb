//! The store's side of the coordinator: each write on a thread of its own, its result a notice (SPEC 3.4).

use std::time::Duration;

use snapline_protocol::coordinator::{StoreOp, StoreResult};
use snapline_protocol::fence::Claimant;
use snapline_protocol::ids::{Attempt, CheckpointId, Term};
use snapline_protocol::recovery::{Policy, decide};
use snapline_protocol::retention::{Roots, plan};

use super::Notice;
use super::lanes::Lanes;
use crate::store::{Manifest, Store, StoreError, inventory, recovery_facts};
use crate::sync::{Arc, AtomicBool, Ordering, thread};
use crate::trace::{Recorder, What};

/// The store, and the thread that uses it for the coordinator.
pub(crate) struct Peer {
    store: Arc<dyn Store>,
    lane: Lanes,
    notices: crossbeam_channel::Sender<Notice>,
    recorder: Recorder,
    /// Raised when the job is over: nobody waits out a pause any more.
    over: Arc<AtomicBool>,
}

impl Peer {
    /// # Errors
    /// If the operating system gives no thread.
    pub(crate) fn start(
        store: Arc<dyn Store>,
        notices: crossbeam_channel::Sender<Notice>,
        recorder: Recorder,
    ) -> std::io::Result<Self> {
        Ok(Self { store, lane: Lanes::start(1)?, notices, recorder, over: Arc::default() })
    }

    fn submit(
        &self,
        pause: Duration,
        job: impl FnOnce(&dyn Store, &Recorder) -> Notice + Send + 'static,
    ) {
        let (store, notices) = (Arc::clone(&self.store), self.notices.clone());
        let (over, recorder) = (Arc::clone(&self.over), self.recorder.clone());
        let job = move || {
            let mut left = pause;
            while !left.is_zero() && !over.load(Ordering::Acquire) {
                let nap = left.min(Duration::from_millis(5));
                thread::sleep(nap);
                left -= nap;
            }
            // A driver that is gone needs no answer.
            let _ = notices.send(job(&*store, &recorder));
        };
        self.lane.submit(0, Box::new(job));
    }

    pub(crate) fn claim(&self, op: StoreOp, term: Term, claimant: Claimant, block: u64) {
        self.submit(Duration::ZERO, move |store, recorder| {
            match store.claim(term, claimant, block) {
                Ok(first) => {
                    let (result, first_id) = (StoreResult::Applied, Some(first));
                    recorder.store(|| What::Store { op, result, first: first_id });
                    Notice::Claimed(first, first.plus(block))
                }
                Err(error) => stored(op, Err(error), recorder),
            }
        });
    }

    pub(crate) fn reserve(&self, op: StoreOp, term: Term, until: CheckpointId, pause: Duration) {
        self.submit(pause, move |store, recorder| stored(op, store.reserve(term, until), recorder));
    }

    pub(crate) fn manifest(&self, op: StoreOp, term: Term, manifest: Manifest, pause: Duration) {
        self.submit(pause, move |store, recorder| {
            stored(op, store.put_manifest(term, &manifest), recorder)
        });
    }

    /// SPEC 8.5: the roots were read before; now the manifests, then the blobs.
    pub(crate) fn collect(&self, op: StoreOp, term: Term, roots: Roots, pause: Duration) {
        self.submit(pause, move |store, recorder| {
            let collected = inventory(store).and_then(|inventory| {
                let plan = plan(&roots, &inventory);
                tracing::debug!(
                    target: "snapline::store",
                    manifests = plan.manifests.len(), blobs = plan.blobs.len(), "deleting garbage"
                );
                recorder.store(|| What::Collect { roots, inventory, plan: plan.clone() });
                store.delete(term, &plan.manifests, &plan.blobs)
            });
            stored(op, collected, recorder)
        });
    }

    pub(crate) fn recover(&self, term: Term, policy: Policy, pause: Duration) {
        self.submit(pause, move |store, recorder| match recovery_facts(store, term, policy) {
            Ok((facts, wrong)) => {
                let decision = decide(&facts);
                recorder.store(|| What::facts(facts, &decision));
                Notice::Recovered(decision, wrong)
            }
            Err(error) => Notice::Unread(error),
        });
    }

    /// Says when everything that was handed to these lanes has ended (SPEC 8.6).
    pub(crate) fn conclude(&self, attempt: Attempt, lanes: Arc<Lanes>) {
        self.submit(Duration::ZERO, move |_, _| {
            lanes.settle();
            Notice::Concluded(attempt)
        });
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Release);
    }
}

fn stored(op: StoreOp, result: Result<(), StoreError>, recorder: &Recorder) -> Notice {
    let error = result.err();
    let result = error.as_ref().map_or(StoreResult::Applied, StoreError::result);
    recorder.store(|| What::Store { op, result, first: None });
    Notice::Stored { op, result, error }
}
