//! The driver's store operations: requests, retries, and results.

use std::time::{Duration, SystemTime};

use snapline_protocol::coordinator::{Event, StoreOp, StoreResult};
use snapline_protocol::ids::{Attempt, CheckpointId};
use snapline_protocol::message::CheckpointKind;
use snapline_protocol::recovery::Policy;

use crate::base::fault::Mutation;
use crate::plan::config::Resume;
use crate::runtime::coordinator::Driver;
use crate::runtime::coordinator::store_client::asked;
use crate::runtime::events::Cause;
use crate::runtime::handle::JobError;
use crate::store::{Manifest, OperatorRef, SnapshotRef, Store, StoreError};

/// The pause before a store operation is retried, doubled from the first to the last; and the
/// number of tries.
const STORE_PAUSE: (Duration, Duration) = (Duration::from_millis(20), Duration::from_secs(2));
const STORE_TRIES: u32 = 16;

impl Driver {
    pub(crate) fn stored(&mut self, op: StoreOp, result: StoreResult, error: Option<StoreError>) {
        let (manifest, unknown) =
            (matches!(op, StoreOp::Manifest { .. }), result == StoreResult::Unknown);
        let (result, error) = match result {
            _ if unknown
                && self.hosting.platform.faults.is_active(Mutation::UnknownTakenForDone) =>
            {
                (StoreResult::Applied, None)
            }
            _ if unknown
                && manifest
                && self.hosting.platform.faults.is_active(Mutation::UnknownTakenForRefused) =>
            {
                (StoreResult::NotApplied, error)
            }
            result => (result, error),
        };
        if let Some(error) = error {
            let refused = result == StoreResult::Fenced;
            tracing::warn!(
                target: "snapline::store",
                job = self.job(), ?op, ?result, %error, "a store operation failed"
            );
            if let StoreOp::Manifest { checkpoint, .. } = op
                && let Some(gathered) = self.gathered.get_mut(&checkpoint)
            {
                let text = format!("its manifest could not be written: {error}");
                gathered.cause = Some(Cause { text, permanent: error.is_permanent() });
            }
            // A claim that fails for a permanent reason is for the user to mend; later operations
            // are retried for a while.
            let hopeless = matches!(op, StoreOp::Claim { .. }) && (!refused || is_in_use(&error));
            self.store_tries += 1;
            if hopeless || (!refused && self.store_tries > STORE_TRIES) {
                self.end = Some(Err(JobError::Store(error)));
                return;
            }
        } else {
            self.store_tries = 0;
        }
        if let (StoreOp::Manifest { checkpoint, ended, .. }, true) =
            (op, result != StoreResult::Unknown)
        {
            self.manifests.remove(&checkpoint);
            if result == StoreResult::Applied {
                self.input_ended = ended;
            }
        }
        self.handle(Event::Stored { op, result });
    }

    /// How long to wait before the store operation is retried; `None` after the last try.
    pub(crate) fn retry_pause(&mut self) -> Option<Duration> {
        self.store_tries += 1;
        (self.store_tries <= STORE_TRIES).then(|| self.pause())
    }

    fn pause(&self) -> Duration {
        match self.store_tries {
            0 => Duration::ZERO,
            tries => STORE_PAUSE.0.saturating_mul(1 << (tries - 1).min(10)).min(STORE_PAUSE.1),
        }
    }

    pub(crate) fn store(&mut self, op: StoreOp) {
        let pause = self.pause();
        match op {
            StoreOp::Claim { term, claimant, block } => {
                self.store_client.claim(op, term, claimant, block)
            }
            StoreOp::Reserve { term, until } => self.store_client.reserve(op, term, until, pause),
            StoreOp::Manifest { term, attempt, checkpoint, kind, ended } => {
                let known = self.manifests.get(&checkpoint).cloned();
                let manifest =
                    known.unwrap_or_else(|| self.manifest(attempt, checkpoint, kind, ended));
                // A defect of this runtime: written again, it would be refused again (SPEC 8.7).
                if let Err(error) = manifest.check_parts() {
                    self.end = Some(Err(JobError::Store(error)));
                    return;
                }
                self.manifests.insert(checkpoint, manifest.clone());
                self.store_client.manifest(op, term, manifest, pause);
                if self.hosting.platform.faults.is_active(Mutation::CompleteBeforeStored) {
                    self.handle(Event::Stored { op, result: StoreResult::Applied });
                }
            }
            StoreOp::Collect { term } => {
                let roots = self.machine.roots(&self.config);
                let stale = self.hosting.platform.faults.is_active(Mutation::StaleRoots);
                let roots = match self.stale_roots.get() {
                    Some(kept) if stale => kept.get_or_insert(roots).clone(),
                    _ => roots,
                };
                self.store_client.collect(op, term, roots, pause);
            }
        }
    }

    fn manifest(
        &self,
        attempt: Attempt,
        checkpoint: CheckpointId,
        kind: CheckpointKind,
        ended: bool,
    ) -> Manifest {
        let spec = &self.hosting.spec;
        let parts = self.gathered.get(&checkpoint).map(|gathered| gathered.parts.values());
        let snapshots: Vec<SnapshotRef> =
            parts.into_iter().flatten().map(|part| part.snapshot.clone()).collect();
        let operator = |operator: &snapline_protocol::topology::Operator| OperatorRef {
            name: operator.name.clone(),
            parallelism: operator.parallelism,
        };
        let since = self.hosting.platform.clock.date().duration_since(SystemTime::UNIX_EPOCH);
        Manifest {
            checkpoint,
            attempt,
            kind,
            ended,
            written_at: since
                .map_or(0, |since| u64::try_from(since.as_millis()).unwrap_or(u64::MAX)),
            job: spec.name.clone(),
            key_groups: spec.config.key_groups,
            hash_seed: self.hash_seed,
            operators: spec.topology.operators().iter().map(operator).collect(),
            snapshots,
        }
    }
}

const fn is_in_use(error: &StoreError) -> bool {
    matches!(error, StoreError::InUse { .. })
}

/// What the user allows. A resumption names the current checkpoint, so that a later stop is a stop
/// again (SPEC 7.4).
pub(crate) fn policy(
    store: &dyn Store,
    allow_older: bool,
    resume: Resume,
) -> Result<Policy, JobError> {
    let resume_from = match resume {
        Resume::Never => None,
        Resume::From(checkpoint) => Some(checkpoint),
        Resume::Suspended => {
            let listed = asked("listing the checkpoints", || store.manifests());
            let newest = listed.map_err(JobError::Store)?.pop();
            // Recovery handles one that cannot be read.
            let read = |newest| asked("reading a manifest", || store.manifest(newest)).ok();
            let manifest = newest.and_then(read);
            manifest
                .filter(|manifest| manifest.kind == CheckpointKind::Suspend)
                .map(|manifest| manifest.checkpoint)
        }
    };
    Ok(Policy { allow_older, resume_from })
}
