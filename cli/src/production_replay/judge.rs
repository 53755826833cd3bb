//! The laws of SPEC 9, judged by what one sees who looks at the disk, at the external systems and
//! at what was read from the source. No machine is asked.
//!
//! A cut is judged when its manifest is first seen durable: what is in its transactions and in
//! those before it is what its sinks hold of the stream. Laws that need a look into memory or at
//! every write (L9, L10, L11) are not judged, nor is L15, which is for another mode.

use std::collections::{BTreeMap, BTreeSet};

use snapline::Ended;
use snapline::sim::stage::{KeptCheckpoint, Observation};
use snapline_models::laws::Law;
use snapline_protocol::ids::{CheckpointId, SubtaskId, TxnId};
use snapline_protocol::message::CheckpointKind;

use super::job::ReadLog;

/// The laws that are judged here; [`Law::Progress`] is judged by leaving the job alone.
pub const JUDGED: [Law; 13] = [
    Law::CutComplete,
    Law::CutClean,
    Law::Restorable,
    Law::CommitAfterComplete,
    Law::NoDuplicates,
    Law::Prefix,
    Law::NoLoss,
    Law::LossIsLoud,
    Law::NoLeak,
    Law::FinishedComplete,
    Law::StopIsFinal,
    Law::AtLeastOnce,
    Law::Progress,
];

pub(super) struct Judge {
    /// The source subtasks with their names.
    pub(super) sources: Vec<(SubtaskId, String)>,
    pub(super) records: u64,
    /// `None`: all.
    pub(super) retained: Option<usize>,
    pub(super) log: ReadLog,
    /// How many transactions were visible at the last look.
    committed: usize,
    /// Cuts that were looked at.
    cuts: BTreeSet<CheckpointId>,
    /// What external systems dropped, with its records.
    dropped: BTreeMap<TxnId, Vec<String>>,
    /// The checkpoint that ended the job.
    end: Option<KeptCheckpoint>,
    /// The user has run a suspended job again.
    resumed: bool,
    /// What is broken, since which step, and how.
    pub(super) broken: BTreeMap<Law, (usize, String)>,
}

impl Judge {
    pub(super) fn new(
        sources: Vec<(SubtaskId, String)>,
        records: u64,
        retained: Option<usize>,
        log: ReadLog,
    ) -> Self {
        Self {
            sources,
            records,
            retained,
            log,
            committed: 0,
            cuts: BTreeSet::new(),
            dropped: BTreeMap::new(),
            end: None,
            resumed: false,
            broken: BTreeMap::new(),
        }
    }

    pub(super) fn dropped(&mut self, txn: TxnId, records: Vec<String>) {
        self.dropped.insert(txn, records);
    }

    /// The user runs the suspended job again, and it continues after its end.
    pub(super) fn resume(&mut self) {
        self.resumed = true;
    }

    fn wrong(&mut self, law: Law, step: usize, what: String) {
        self.broken.entry(law).or_insert((step, what));
    }

    /// The records that a cut covers.
    fn covered(&self, kept: &KeptCheckpoint) -> BTreeSet<String> {
        let read = |subtask| kept.positions.get(&subtask).copied().unwrap_or(0);
        let of = |(subtask, name): &(SubtaskId, String)| {
            let name = name.clone();
            (0..read(*subtask)).map(move |seq| format!("{name}/{seq}"))
        };
        self.sources.iter().flat_map(of).collect()
    }

    /// Judges what is visible after a step.
    pub(super) fn look(&mut self, step: usize, seen: &Observation) {
        for kept in &seen.checkpoints {
            if let Some(wrong) = &kept.wrong {
                let what = format!("checkpoint {} cannot be restored: {wrong}", kept.checkpoint);
                self.wrong(Law::Restorable, step, what);
            } else if self.cuts.insert(kept.checkpoint) {
                self.cut(step, kept, seen);
            }
        }
        self.commits(step, seen);
        self.prefix(step, seen);
        self.loss(step, seen);
        if !self.resumed {
            self.stop(step, seen);
        }
        if seen.ended == Some(Ended::Finished) {
            self.finished(step, seen);
        }
    }

    fn cut(&mut self, step: usize, kept: &KeptCheckpoint, seen: &Observation) {
        let covered = self.covered(kept);
        let before = seen.visible.iter().filter(|(_, txn, _)| txn.checkpoint <= kept.checkpoint);
        let held = seen.prepared.iter().filter(|(_, txn, _)| kept.held.contains(txn));
        let mut has = BTreeSet::new();
        for record in before.chain(held).flat_map(|(_, _, records)| records) {
            if !has.insert(record.clone()) {
                let what = format!("checkpoint {} holds {record} twice", kept.checkpoint);
                self.wrong(Law::CutClean, step, what);
            }
        }
        let dropped: BTreeSet<String> = self.dropped.values().flatten().cloned().collect();
        if let Some(record) = covered.iter().find(|r| !has.contains(*r) && !dropped.contains(*r)) {
            let what =
                format!("checkpoint {} lacks {record}, which its source had read", kept.checkpoint);
            self.wrong(Law::CutComplete, step, what);
        }
        if let Some(record) = has.difference(&covered).next() {
            let what = format!(
                "checkpoint {} holds {record}, which its source had not read",
                kept.checkpoint
            );
            self.wrong(Law::CutClean, step, what);
        }
    }

    fn commits(&mut self, step: usize, seen: &Observation) {
        let mut records = BTreeSet::new();
        for (_, txn, _) in seen.visible.iter().skip(self.committed) {
            let holds = |kept: &KeptCheckpoint| kept.held.contains(txn);
            if !seen.checkpoints.iter().any(holds) {
                let durable: Vec<_> =
                    seen.checkpoints.iter().map(|kept| kept.checkpoint.get()).collect();
                let what = format!(
                    "transaction {} is committed, and no durable manifest holds it; durable are \
                     {durable:?}",
                    txn.checkpoint
                );
                self.wrong(Law::CommitAfterComplete, step, what);
            }
        }
        self.committed = seen.visible.len();
        for (system, _, content) in &seen.visible {
            for record in content {
                if !records.insert((system.clone(), record.clone())) {
                    self.wrong(Law::NoDuplicates, step, format!("`{system}` shows {record} twice"));
                }
            }
        }
    }

    fn prefix(&mut self, step: usize, seen: &Observation) {
        let visible: BTreeSet<&String> = seen.visible.iter().flat_map(|(_, _, r)| r).collect();
        let dropped: BTreeSet<&String> = self.dropped.values().flatten().collect();
        let mut holes = Vec::new();
        for (_, name) in &self.sources {
            let mut hole = None;
            for record in (0..self.records).map(|seq| format!("{name}/{seq}")) {
                match (visible.contains(&record), &hole) {
                    (true, Some(hole)) => holes.push(format!("{record} is visible, {hole} is not")),
                    (false, None) if !dropped.contains(&record) => hole = Some(record),
                    _ => {}
                }
            }
        }
        if let Some(what) = holes.into_iter().next() {
            self.wrong(Law::Prefix, step, what);
        }
    }

    fn loss(&mut self, step: usize, seen: &Observation) {
        let Some(newest) = seen.checkpoints.last().filter(|kept| kept.wrong.is_none()) else {
            return;
        };
        let held = seen.prepared.iter().filter(|(_, txn, _)| newest.held.contains(txn));
        let safe: BTreeSet<&String> =
            seen.visible.iter().chain(held).flat_map(|(_, _, r)| r).collect();
        let dropped: BTreeSet<&String> = self.dropped.values().flatten().collect();
        let lost = |record: &&String| !safe.contains(*record) && !dropped.contains(*record);
        if let Some(record) = self.covered(newest).iter().find(lost) {
            let what = format!(
                "checkpoint {} covers {record}, which is neither visible nor prepared under it",
                newest.checkpoint
            );
            self.wrong(Law::NoLoss, step, what);
        }
    }

    fn stop(&mut self, step: usize, seen: &Observation) {
        let ends =
            |kept: &&KeptCheckpoint| kept.kind != CheckpointKind::Periodic && kept.wrong.is_none();
        if self.end.is_none() {
            self.end = seen.checkpoints.iter().find(ends).cloned();
        }
        let Some(end) = self.end.clone() else { return };
        if let Some(newer) = seen.checkpoints.iter().find(|k| k.checkpoint > end.checkpoint) {
            let what = format!(
                "checkpoint {} ended the job, and {} completed after it",
                end.checkpoint, newer.checkpoint
            );
            self.wrong(Law::StopIsFinal, step, what);
        }
        let covered = self.covered(&end);
        let beyond = seen.visible.iter().flat_map(|(_, _, r)| r).find(|r| !covered.contains(*r));
        if let Some(record) = beyond {
            let what = format!("{record} is visible after checkpoint {}", end.checkpoint);
            self.wrong(Law::StopIsFinal, step, what);
        }
        for (subtask, name) in self.sources.clone() {
            let (read, cut) = (
                self.log.read_since(end.attempt, &name),
                end.positions.get(&subtask).copied().unwrap_or(0),
            );
            if read > cut {
                let what = format!(
                    "checkpoint {} ended the job after {cut} records of `{name}`, and {read} were \
                     read",
                    end.checkpoint
                );
                self.wrong(Law::StopIsFinal, step, what);
            }
        }
    }

    fn finished(&mut self, step: usize, seen: &Observation) {
        let visible: BTreeSet<&String> = seen.visible.iter().flat_map(|(_, _, r)| r).collect();
        let dropped: BTreeSet<&String> = self.dropped.values().flatten().collect();
        let names = self
            .sources
            .iter()
            .flat_map(|(_, name)| (0..self.records).map(move |seq| format!("{name}/{seq}")));
        let missing: Vec<String> =
            names.filter(|r| !visible.contains(r) && !dropped.contains(r)).collect();
        let lost =
            self.dropped.values().flatten().find(|record| !visible.contains(record)).cloned();
        if let Some(record) = missing.first() {
            let what = format!("the job has finished, and {record} is not visible");
            self.wrong(Law::FinishedComplete, step, what.clone());
            self.wrong(Law::AtLeastOnce, step, what);
        }
        if let Some(record) = lost {
            let what =
                format!("{record} was dropped, and the job has finished without reporting it");
            self.wrong(Law::LossIsLoud, step, what);
        }
        let last = seen.checkpoints.last();
        let held = |txn: &TxnId| last.is_some_and(|kept| kept.held.contains(txn));
        if let Some((system, txn, _)) = seen.prepared.iter().find(|(_, txn, _)| !held(txn)) {
            let what = format!("the job has finished, and `{system}` still has {txn:?} prepared");
            self.wrong(Law::NoLeak, step, what);
        }
        let Some(retained) = self.retained else { return };
        if seen.checkpoints.len() > retained.max(1) {
            let what = format!(
                "the job has finished, and {} checkpoints are kept of {retained}",
                seen.checkpoints.len()
            );
            self.wrong(Law::NoLeak, step, what);
        }
        let needed: BTreeSet<_> = seen.checkpoints.iter().flat_map(|kept| &kept.blobs).collect();
        if let Some(blob) = seen.blobs.iter().find(|blob| !needed.contains(blob)) {
            let what = format!("the job has finished, and no checkpoint needs {blob:?}");
            self.wrong(Law::NoLeak, step, what);
        }
    }
}
