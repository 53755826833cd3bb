//! A task's snapshots: captured in its step, written on its lane (SPEC 5.4, 6.2).

use std::collections::BTreeMap;
use std::time::Duration;

use snapline_protocol::aligner;
use snapline_protocol::committer;
use snapline_protocol::ids::{BlobId, CheckpointId};
use snapline_protocol::message::{Barrier, Persisted};

use crate::base::error::{BoxError, Whole};
use crate::base::fault::Mutation;
use crate::base::panic::guarded;
use crate::base::sync::{Arc, Ordering, lock};
use crate::executor::io_pool::{IoKind, IoRequest};
use crate::operator::body::POSITION;
use crate::runtime::events::{AckDetails, Cause};
use crate::runtime::failure::is_permanent;
use crate::runtime::task::{Links, TASK_STATE, Task, TaskEvent, TaskIdentity, Timing};
use crate::state::{self, NamedImage, StateError, Written};
use crate::store::{self, SnapshotRef};
use crate::trace::What;

impl Task {
    pub(crate) fn written(
        &mut self,
        checkpoint: CheckpointId,
        result: Result<(Written, Persisted, Duration), BoxError>,
    ) -> Result<(), BoxError> {
        let timing = self.timing.remove(&checkpoint);
        self.gauges.written(checkpoint, result.is_ok(), self.links.platform.clock.now());
        match result {
            Ok((written, persisted, duration)) => {
                self.past.insert(checkpoint, Arc::new(written.locations));
                if let Some(timing) = timing {
                    let snapshot = SnapshotRef {
                        subtask: self.identity.subtask,
                        root: written.root,
                        blobs: written.blobs,
                        written: written.written,
                        reused: written.reused,
                    };
                    let Timing { first_barrier, snapshot: taken, sync } = timing;
                    let part =
                        AckDetails { snapshot, first_barrier, taken, sync, writing: duration };
                    self.parts.insert(checkpoint, Box::new(part));
                }
                self.align(aligner::Event::Durable(persisted))
            }
            Err(error) => {
                let TaskIdentity { job, operator, index, attempt, .. } = &self.identity;
                let said = Whole(&*error);
                tracing::warn!(
                    target: "snapline::checkpoint",
                    job, checkpoint = checkpoint.get(), operator, subtask = index, %attempt, error = %said,
                    "a snapshot could not be written"
                );
                let attempt = *attempt;
                // A value that cannot be written readably will fail the next time too: the user
                // must see it.
                if error.downcast_ref::<StateError>().is_some_and(StateError::is_permanent) {
                    return Err(error);
                }
                let text = format!("{} could not write its snapshot: {said}", self.gauges.name);
                let classify = self.identity.classify;
                let permanent = is_permanent(&*error, classify, attempt.number == 1);
                self.unwritten = Some((checkpoint, Cause { text, permanent }));
                self.align(aligner::Event::WriteFailed { attempt, checkpoint })
            }
        }
    }

    /// SPEC 5.4, 6.2: the state as it is now; the I/O pool writes its bytes asynchronously.
    pub(crate) fn snapshot(&mut self, barrier: Barrier) -> Result<(), BoxError> {
        let began = self.links.platform.clock.now();
        let checkpoint = barrier.checkpoint;
        let late = self.links.platform.faults.is_active(Mutation::EffectsOutOfOrder);
        if !late {
            self.commit(committer::Event::Barrier(checkpoint))?;
        }
        let mut images =
            vec![NamedImage::single(&self.identity.operator, TASK_STATE, &self.flushed)?];
        self.body.freeze(&mut images)?;
        self.body.taken(checkpoint, barrier.base);
        if late {
            self.commit(committer::Event::Barrier(checkpoint))?;
        }
        if let Some(stale) = self.stale_position.get().and_then(Option::take) {
            images.retain(|named| named.state != POSITION);
            images.push(stale);
        }
        if self.links.platform.faults.is_active(Mutation::OffsetEmpty)
            && self.identity.attempt.number > 1
        {
            images.retain(|named| named.state != POSITION);
        }
        let mut base = barrier.base.and_then(|base| self.past.get(&base).cloned());
        if self.links.platform.faults.is_active(Mutation::BaseNotComplete) {
            base = self.past.last_key_value().map(|(_, newest)| Arc::clone(newest));
        }
        let mut obsolete = BTreeMap::new();
        if let Some(base) = barrier.base {
            // No later snapshot builds on an older one.
            let kept = self.past.split_off(&base);
            obsolete = std::mem::replace(&mut self.past, kept);
        }
        let TaskIdentity { subtask, attempt, .. } = self.identity;
        let id = BlobId { checkpoint, attempt, subtask };
        let Links { store, me, over, platform, io_pool, checks, .. } = self.links.clone();
        let (note, broken) = (self.noting(), Arc::clone(&self.broken));
        let write = move || {
            // Here, since it takes longer the more state there is, and no record need wait for it.
            drop(obsolete);
            if broken.load(Ordering::Acquire) {
                return;
            }
            let began = platform.clock.now();
            let result = guarded(|| {
                store::write_snapshot(&*store, id, platform.faults, |writer| {
                    Ok(state::write(images, base.as_deref(), &mut lock(&checks), writer)?)
                })
            });
            let result = result
                .map(|(written, persisted)| (written, persisted, platform.clock.since(began)));
            let needs = result.as_ref().map_or(&[][..], |(written, ..)| &written.blobs);
            note(What::Blob {
                id,
                needs: needs.iter().map(|blob| blob.id).collect(),
                durable: result.is_ok(),
            });
            me.send(TaskEvent::Written { checkpoint, result });
        };
        let first_barrier = self.arrived.remove(&checkpoint).unwrap_or(began);
        // Records wait until here for the state to be captured; from here on only for a core, if
        // the lanes have their own.
        let timing =
            Timing { first_barrier, snapshot: began, sync: self.links.platform.clock.since(began) };
        self.timing.insert(checkpoint, timing);
        self.gauges.taken(checkpoint, began);
        io_pool.submit(subtask.index(), IoRequest::new(IoKind::Snapshot, write).unless(&over));
        if self.links.platform.faults.is_active(Mutation::AckBeforeWritten) {
            // In memory everything is written at once.
            let mut images = Vec::new();
            self.body.freeze(&mut images)?;
            let (memory, faults) = (store::MemoryStore::new(), self.links.platform.faults);
            let (written, persisted) = store::write_snapshot(&memory, id, faults, |writer| {
                Ok(state::write(images, None, &mut state::Checks::default(), writer)?)
            })?;
            self.written(checkpoint, Ok((written, persisted, Duration::ZERO)))?;
        }
        Ok(())
    }
}
