//! What is known of a job's store and its external systems, over all of its runs.

use std::collections::{BTreeMap, BTreeSet};

use snapline_protocol::committer::CommitOutcome;
use snapline_protocol::coordinator::StoreOp;
use snapline_protocol::ids::{Attempt, BlobId, CheckpointId, SubtaskId, Term, TxnId};
use snapline_protocol::message::CheckpointKind;
use snapline_protocol::recovery::{Facts, Health};
use snapline_protocol::retention::{Inventory, Plan};

use super::rule::{Checked, Rule, breach, ensure};
use crate::trace::format::Header;

/// A requested manifest.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct RecordedManifest {
    pub(super) attempt: Attempt,
    kind: CheckpointKind,
    ended: bool,
    subtasks: usize,
    complete: bool,
}

/// A snapshot as its task took it.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(super) struct RecordedSnapshot {
    /// Its blobs, once they are durable.
    pub(super) needs: Option<Vec<BlobId>>,
    /// A sink's committables.
    pub(super) held: Option<Vec<TxnId>>,
}

/// A transaction.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(super) struct Txn {
    /// The number of its records.
    pub(super) records: u64,
    pub(super) prepared: bool,
    /// Its commit was called for.
    called: bool,
    committed: bool,
    rolled_back: bool,
}

/// What later runs do, each with the last run that does it, counted from 1. A deposed coordinator
/// may live on beside its successors: its trace, which comes first, may then refer to what comes in
/// theirs (SPEC 11.10).
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(super) struct Ahead {
    /// Transactions whose commit is called for.
    pub(super) calls: BTreeMap<TxnId, usize>,
    /// Snapshots taken.
    pub(super) snapshots: BTreeMap<BlobId, usize>,
    /// Requested manifests.
    pub(super) manifests: BTreeMap<CheckpointId, usize>,
    /// Manifests and blobs deleted.
    pub(super) deleted: (BTreeMap<CheckpointId, usize>, BTreeMap<BlobId, usize>),
}

/// Everything that later lines must agree with.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(super) struct History {
    /// What terms before this one named is unknown and trusted; `None`: the traces begin with the
    /// job.
    trusted_before: Option<Term>,
    /// The first id of the first claim; what is below it is trusted.
    first: Option<CheckpointId>,
    owner: Option<(Term, u64)>,
    /// The first id that was not given out, as far as is known.
    until: Option<CheckpointId>,
    manifests: BTreeMap<CheckpointId, RecordedManifest>,
    /// By the name of the blob that is written for it.
    snapshots: BTreeMap<BlobId, RecordedSnapshot>,
    /// Deleted, as far as is known: nothing that is restored needs it.
    deleted: BTreeSet<BlobId>,
    /// Planned to be deleted, perhaps by a coordinator that was refused: it may be missing. A
    /// deposed coordinator may plan to delete what one between it and the last has restored.
    planned: BTreeSet<BlobId>,
    txns: BTreeMap<TxnId, Txn>,
    /// The trace that is being replayed.
    run: usize,
    ahead: Ahead,
    /// By sink subtask, the latest attempt that fenced off earlier ones.
    fenced: BTreeMap<SubtaskId, Attempt>,
}

impl History {
    /// The history of a job whose runs do this.
    pub(super) fn new(ahead: Ahead) -> Self {
        Self { ahead, ..Self::default() }
    }

    /// Whether a run after the one being replayed does this.
    fn later<K: Ord>(&self, doings: &BTreeMap<K, usize>, what: &K) -> bool {
        doings.get(what).is_some_and(|&run| run > self.run)
    }

    /// What is known before a run begins: with a gap in the terms, nothing.
    pub(super) fn begin(&mut self, header: &Header, before: Option<Term>) {
        let run = self.run + 1;
        let follows = before.map_or(1, |term| term.get().saturating_add(1));
        if header.term.get() > follows {
            let ahead = std::mem::take(&mut self.ahead);
            *self = Self { trusted_before: Some(header.term), ..Self::new(ahead) };
        }
        self.run = run;
    }

    fn trusts_attempt(&self, attempt: Attempt) -> bool {
        self.trusted_before.is_some_and(|term| attempt.term < term)
    }

    fn trusts(&self, checkpoint: CheckpointId) -> bool {
        self.trusted_before.is_some() && self.first.is_none_or(|first| checkpoint < first)
    }

    /// SPEC 4.1, 4.2: of two coordinators that chose a term one has it, and no id is given out
    /// twice.
    pub(super) fn claimed(&mut self, header: &Header, first: CheckpointId) -> Checked {
        let me = (header.term, header.claimant.0);
        if let Some(owner) = self.owner {
            ensure(owner == me || owner.0 < me.0, Rule::Names, || {
                format!(
                    "term {} was claimed by another coordinator; is this a trace of another store?",
                    me.0
                )
            })?;
        }
        if let Some(until) = self.until {
            ensure(first >= until, Rule::Names, || {
                format!("ids below {until} were already reserved")
            })?;
        }
        self.owner = Some(me);
        self.first.get_or_insert(first);
        self.until = Some(first.plus(header.id_block));
        Ok(())
    }

    pub(super) fn reserved(&mut self, until: CheckpointId) {
        self.until = self.until.max(Some(until));
    }

    /// SPEC 3.3: a checkpoint that begins has a reserved id.
    pub(super) fn manifest_asked(&mut self, op: StoreOp, subtasks: usize) -> Checked {
        let StoreOp::Manifest { attempt, checkpoint, kind, ended, .. } = op else { return Ok(()) };
        let asked = RecordedManifest { attempt, kind, ended, subtasks, complete: false };
        match self.manifests.get(&checkpoint) {
            // Requested again, since its outcome was unknown.
            Some(known) if RecordedManifest { complete: false, ..known.clone() } == asked => {}
            Some(_) => {
                return Err(breach(
                    Rule::Names,
                    format!(
                        "the manifest of checkpoint {checkpoint} \
                    differs from the one asked for before"
                    ),
                ));
            }
            None => _ = self.manifests.insert(checkpoint, asked),
        }
        Ok(())
    }

    /// SPEC 4.5: the existence of a manifest completes the checkpoint; all its parts were durable
    /// before.
    pub(super) fn completed(&mut self, checkpoint: CheckpointId) -> Checked<bool> {
        let Some(manifest) = self.manifests.get_mut(&checkpoint) else {
            return if self.trusts(checkpoint) {
                Ok(false)
            } else {
                Err(breach(
                    Rule::Complete,
                    format!("no line asks for a manifest of checkpoint {checkpoint}"),
                ))
            };
        };
        let newly = !std::mem::replace(&mut manifest.complete, true);
        let manifest = manifest.clone();
        for (subtask, needs) in self.parts(checkpoint, &manifest).enumerate() {
            let Some(needs) = needs else {
                return Err(breach(
                    Rule::Complete,
                    format!("no line says that the snapshot of subtask {subtask} is durable"),
                ));
            };
            if let Some(gone) = needs.iter().find(|blob| self.deleted.contains(blob)) {
                return Err(breach(
                    Rule::Complete,
                    format!("{gone:?}, which it needs, was deleted"),
                ));
            }
        }
        Ok(newly)
    }

    /// Whether a checkpoint is known to be complete.
    pub(super) fn is_complete(&self, checkpoint: CheckpointId) -> bool {
        self.trusts(checkpoint)
            || self.manifests.get(&checkpoint).is_some_and(|manifest| manifest.complete)
    }

    /// SPEC 7.1: the store's own listing, once its fence was raised.
    pub(super) fn found(&mut self, facts: &Facts) -> Checked {
        if facts.fence != facts.mine {
            return Ok(());
        }
        let newest = facts.manifests.iter().map(|found| found.checkpoint).max();
        let known = self.manifests.iter().rfind(|(_, manifest)| manifest.complete);
        if let Some((&known, _)) = known {
            ensure(newest >= Some(known), Rule::Facts, || {
                format!("checkpoint {known} was complete, but is not found")
            })?;
        }
        for found in &facts.manifests {
            let checkpoint = found.checkpoint;
            // Of a missing one, only its completion is known (SPEC 7.6).
            if self.trusts(checkpoint) || found.health == Health::Missing {
                continue;
            }
            let Some(manifest) = self.manifests.get(&checkpoint) else {
                return Err(breach(
                    Rule::Facts,
                    format!(
                        "no line asks for a manifest of checkpoint {checkpoint}, which is found; \
                         did an earlier trace end before its run?"
                    ),
                ));
            };
            let as_asked = found.health == Health::Unreadable
                || (found.kind, found.ended) == (manifest.kind, manifest.ended);
            ensure(as_asked, Rule::Facts, || {
                format!(
                    "checkpoint {checkpoint} was put with kind {:?} and ended {}",
                    manifest.kind, manifest.ended
                )
            })?;
            self.completed(checkpoint)?;
        }
        Ok(())
    }

    /// SPEC 8.5: every listing contains what is complete and was not deleted, and what is listed
    /// was written.
    pub(super) fn listed(&self, inventory: &Inventory, needed: &[CheckpointId]) -> Checked {
        let wrong = |says: String| Err(breach(Rule::Retention, says));
        let there = |checkpoint: &CheckpointId| {
            inventory.unreadable.contains(checkpoint)
                || inventory.manifests.iter().any(|stored| stored.checkpoint == *checkpoint)
        };
        let (manifests_gone, blobs_gone) = &self.ahead.deleted;
        let gone = |checkpoint: &&CheckpointId| {
            !there(checkpoint) && !self.later(manifests_gone, checkpoint)
        };
        if let Some(gone) = needed.iter().find(gone) {
            return wrong(format!("checkpoint {gone} is complete and needed, and is not listed"));
        }
        let written = |blob: &&BlobId| {
            self.snapshots.contains_key(blob)
                || self.trusts_attempt(blob.attempt)
                || self.later(&self.ahead.snapshots, blob)
        };
        if let Some(foreign) = inventory.blobs.iter().find(|blob| !written(blob)) {
            return wrong(format!("no line asks to write {foreign:?}, which is listed"));
        }
        let listed: BTreeSet<&BlobId> = inventory.blobs.iter().collect();
        for stored in &inventory.manifests {
            let checkpoint = stored.checkpoint;
            let Some(manifest) = self.manifests.get(&checkpoint) else {
                if self.trusts(checkpoint) || self.later(&self.ahead.manifests, &checkpoint) {
                    continue;
                }
                return wrong(format!("no line asks for checkpoint {checkpoint}, which is listed"));
            };
            let blobs: BTreeSet<&BlobId> =
                self.parts(checkpoint, manifest).flatten().flatten().collect();
            if !stored.blobs.iter().eq(blobs.iter().copied()) {
                return wrong(format!("checkpoint {checkpoint} needs the blobs {blobs:?}"));
            }
            let missing = blobs.iter().find(|blob| !listed.contains(*blob));
            let there =
                |blob: &&&BlobId| !self.planned.contains(**blob) && !self.later(blobs_gone, **blob);
            if let Some(missing) = missing.filter(there) {
                return wrong(format!("{missing:?} is durable and needed, and is not listed"));
            }
        }
        Ok(())
    }

    /// The blobs of each subtask's snapshot in a checkpoint, as far as they are known to be
    /// durable.
    fn parts(
        &self,
        checkpoint: CheckpointId,
        manifest: &RecordedManifest,
    ) -> impl Iterator<Item = Option<&Vec<BlobId>>> + use<'_> {
        let attempt = manifest.attempt;
        (0..manifest.subtasks).map(move |subtask| {
            // The topology's limit of 256 subtasks fits a u16.
            let subtask = SubtaskId::new(subtask as u16);
            self.snapshots.get(&BlobId { checkpoint, attempt, subtask })?.needs.as_ref()
        })
    }

    /// A snapshot was taken: from now on its blob may exist.
    pub(super) fn snapshot(&mut self, blob: BlobId) {
        self.snapshots.entry(blob).or_default();
    }

    /// SPEC 8.5: the store is asked to delete.
    pub(super) fn planned(&mut self, plan: &Plan) {
        self.planned.extend(&plan.blobs);
    }

    /// The store reports that it is done.
    pub(super) fn deleted(&mut self, plan: &Plan) {
        self.deleted.extend(&plan.blobs);
    }

    /// SPEC 6.3: a snapshot holds what its sink has pending.
    pub(super) fn held(&mut self, blob: BlobId, pending: &[TxnId]) {
        self.snapshots.entry(blob).or_default().held = Some(pending.to_vec());
    }

    /// SPEC 8.2, 8.3: a snapshot consists of blobs of its own name and of its base's.
    pub(super) fn blob(
        &mut self,
        id: BlobId,
        needs: &[BlobId],
        base: Option<CheckpointId>,
    ) -> Checked {
        let known = self.snapshots.get(&id).is_some_and(|snapshot| snapshot.needs.is_some());
        ensure(!known, Rule::Names, || format!("{id:?} was already written"))?;
        ensure(needs.contains(&id), Rule::Complete, || {
            "a snapshot needs the blob that was written for it".into()
        })?;
        let of_base = base.and_then(|base| {
            let attempt = self.manifests.get(&base)?.attempt;
            let blob = BlobId { checkpoint: base, attempt, subtask: id.subtask };
            self.snapshots.get(&blob)?.needs.clone()
        });
        let trusted = base.is_some_and(|base| self.trusts(base));
        let foreign = needs.iter().find(|&&blob| {
            blob != id && !trusted && !of_base.as_ref().is_some_and(|needs| needs.contains(&blob))
        });
        if let Some(foreign) = foreign {
            return Err(breach(
                Rule::Complete,
                format!(
                    "it shares {foreign:?}, which is not its base's: a snapshot shares with its base alone"
                ),
            ));
        }
        self.snapshots.entry(id).or_default().needs = Some(needs.to_vec());
        Ok(())
    }

    /// SPEC 6.3, 7.2: a sink begins with what the restored checkpoint holds for it.
    pub(super) fn restored(
        &self,
        checkpoint: CheckpointId,
        subtask: SubtaskId,
        pending: &[TxnId],
    ) -> Checked {
        let Some(manifest) = self.manifests.get(&checkpoint) else { return Ok(()) };
        let blob = BlobId { checkpoint, attempt: manifest.attempt, subtask };
        match self.snapshots.get(&blob).and_then(|snapshot| snapshot.held.as_ref()) {
            Some(held) if held == pending => Ok(()),
            Some(held) => Err(breach(
                Rule::Restored,
                format!("the snapshot of checkpoint {checkpoint} holds the transactions {held:?}"),
            )),
            None => Err(breach(
                Rule::Restored,
                format!("no line reports a sink's snapshot in checkpoint {checkpoint}"),
            )),
        }
    }

    /// SPEC 6.1: a transaction's name is unique.
    pub(super) fn closed(&mut self, txn: TxnId, records: u64) -> Checked {
        let known = self.txns.insert(txn, Txn { records, ..Txn::default() });
        ensure(known.is_none(), Rule::Names, || format!("{txn:?} was already closed"))
    }

    /// SPEC 2.8: a sink that was fenced off prepares nothing more.
    pub(super) fn prepared(&mut self, txn: TxnId, two_phase: bool) -> Checked {
        let fenced = self.fenced.get(&txn.subtask).is_some_and(|&by| by > txn.attempt);
        ensure(!(fenced && two_phase), Rule::Attempts, || {
            "a later attempt has fenced this sink off; the external system must refuse it".into()
        })?;
        self.txns.entry(txn).or_default().prepared = true;
        Ok(())
    }

    pub(super) fn is_prepared(&self, txn: &TxnId) -> bool {
        self.txns.get(txn).map_or(self.trusts_attempt(txn.attempt), |txn| txn.prepared)
            || self.trusts_attempt(txn.attempt)
    }

    pub(super) fn fenced(&mut self, subtask: SubtaskId, attempt: Attempt) {
        let latest = self.fenced.entry(subtask).or_insert(attempt);
        *latest = attempt.max(*latest);
    }

    /// SPEC 6.4: a prepared transaction that a sink finds was closed before.
    pub(super) fn listed_txn(&mut self, txn: TxnId, orphan: bool) -> Checked {
        match self.txns.get_mut(&txn) {
            Some(known) => {
                ensure(!(orphan && known.committed && known.records > 0), Rule::Orphans, || {
                    "a committed transaction is not an orphan".into()
                })?;
                known.rolled_back |= orphan;
                Ok(())
            }
            None => ensure(self.trusts_attempt(txn.attempt), Rule::Orphans, || {
                "no line says that a transaction of this name was closed".into()
            }),
        }
    }

    /// A commit call is about to be made: it may take effect, whether or not its answer arrives.
    /// Returns whether it is the first of its name.
    pub(super) fn commit_called(&mut self, txn: TxnId) -> Checked<bool> {
        // SPEC 6.1, 6.2: only a transaction that was prepared, and not rolled back, is committed.
        ensure(self.is_prepared(&txn), Rule::Permit, || {
            "no line says that it was prepared".into()
        })?;
        let known = self.txns.entry(txn).or_default();
        ensure(!known.rolled_back, Rule::Orphans, || "it was rolled back".into())?;
        Ok(!std::mem::replace(&mut known.called, true))
    }

    /// SPEC 2.8: a committed name stays committed, and the answer to a repeated commit says so.
    pub(super) fn commit_returned(
        &mut self,
        txn: TxnId,
        outcome: CommitOutcome,
        first: bool,
        two_phase: bool,
    ) -> Checked {
        let trusted = self.trusts_attempt(txn.attempt);
        let elsewhere = self.later(&self.ahead.calls, &txn);
        let known = self.txns.entry(txn).or_default();
        // An empty one leaves no trace in an external system, which need not recognise it.
        let shows = two_phase && known.records > 0;
        let once = |holds, says: &str| ensure(holds, Rule::CommittedOnce, || says.to_owned());
        match outcome {
            CommitOutcome::Committed => {
                let again = std::mem::replace(&mut known.committed, true);
                once(
                    !(again && shows),
                    "it was already committed, but the sink says that it committed it now",
                )
            }
            CommitOutcome::AlreadyCommitted => {
                known.committed = true;
                once(
                    !first || elsewhere || trusted || !shows,
                    "no line says that a commit of it was called before",
                )
            }
            CommitOutcome::Retry | CommitOutcome::Unknown => Ok(()),
            CommitOutcome::Lost => {
                once(!known.committed, "it was already committed, and cannot be lost")
            }
        }
    }
}
