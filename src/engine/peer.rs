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

/// The store, and the thread that uses it for the coordinator.
pub(crate) struct Peer {
    store: Arc<dyn Store>,
    lane: Lanes,
    notices: crossbeam_channel::Sender<Notice>,
    /// Raised when the job is over: nobody waits out a pause any more.
    over: Arc<AtomicBool>,
}

impl Peer {
    /// # Errors
    /// If the operating system gives no thread.
    pub(crate) fn start(
        store: Arc<dyn Store>,
        notices: crossbeam_channel::Sender<Notice>,
    ) -> std::io::Result<Self> {
        Ok(Self { store, lane: Lanes::start(1)?, notices, over: Arc::default() })
    }

    fn submit(&self, pause: Duration, job: impl FnOnce(&dyn Store) -> Notice + Send + 'static) {
        let (store, notices) = (Arc::clone(&self.store), self.notices.clone());
        let over = Arc::clone(&self.over);
        let job = move || {
            let mut left = pause;
            while !left.is_zero() && !over.load(Ordering::Acquire) {
                let nap = left.min(Duration::from_millis(5));
                thread::sleep(nap);
                left -= nap;
            }
            // A driver that is gone needs no answer.
            let _ = notices.send(job(&*store));
        };
        self.lane.submit(0, Box::new(job));
    }

    pub(crate) fn claim(&self, op: StoreOp, term: Term, claimant: Claimant, block: u64) {
        self.submit(Duration::ZERO, move |store| match store.claim(term, claimant, block) {
            Ok(first) => Notice::Claimed(first, first.plus(block)),
            Err(error) => stored(op, Err(error)),
        });
    }

    pub(crate) fn reserve(&self, op: StoreOp, term: Term, until: CheckpointId, pause: Duration) {
        self.submit(pause, move |store| stored(op, store.reserve(term, until)));
    }

    pub(crate) fn manifest(&self, op: StoreOp, term: Term, manifest: Manifest, pause: Duration) {
        self.submit(pause, move |store| stored(op, store.put_manifest(term, &manifest)));
    }

    /// SPEC 8.5: the roots were read before; now the manifests, then the blobs.
    pub(crate) fn collect(&self, op: StoreOp, term: Term, roots: Roots, pause: Duration) {
        self.submit(pause, move |store| {
            let collected = inventory(store).and_then(|inventory| {
                let plan = plan(&roots, &inventory);
                tracing::debug!(
                    target: "snapline::store",
                    manifests = plan.manifests.len(), blobs = plan.blobs.len(), "deleting garbage"
                );
                store.delete(term, &plan.manifests, &plan.blobs)
            });
            stored(op, collected)
        });
    }

    pub(crate) fn recover(&self, term: Term, policy: Policy, pause: Duration) {
        self.submit(pause, move |store| match recovery_facts(store, term, policy) {
            Ok((facts, wrong)) => Notice::Recovered(decide(&facts), wrong),
            Err(error) => Notice::Unread(error),
        });
    }

    /// Says when everything that was handed to these lanes has ended (SPEC 8.6).
    pub(crate) fn conclude(&self, attempt: Attempt, lanes: Arc<Lanes>) {
        self.submit(Duration::ZERO, move |_| {
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

fn stored(op: StoreOp, result: Result<(), StoreError>) -> Notice {
    match result {
        Ok(()) => Notice::Stored { op, result: StoreResult::Applied, error: None },
        Err(error) => Notice::Stored { op, result: error.result(), error: Some(error) },
    }
}
