//! The definition of correct, checked after every step, and once more at the end.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use snapline_protocol::committer::CommitOutcome;
use snapline_protocol::ids::{Attempt, CheckpointId, SubtaskId, TxnId};
use snapline_protocol::recovery::Health;

use super::external::{Batch, Systems};
use super::world::{Breach, Marks, STORE};
use crate::base::sync::{Arc, Mutex, lock};
use crate::fs::simulated::{Host, SimDisk};
use crate::plan::guarantee::Level;
use crate::runtime::handle::Ended;
use crate::store::{LocalStore, Store, health, manifest_checkpoint};
use crate::trace::format::{Line, What};
use snapline_files::{committed_checkpoint, is_file_of};

/// The count of each record in each sink.
type SinkContents = BTreeMap<String, BTreeMap<String, u64>>;

/// The output of a run without failures.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct Reference {
    output: SinkContents,
}

impl Reference {
    /// The number of records in all sinks together.
    pub(crate) fn records(&self) -> u64 {
        self.output.values().flat_map(BTreeMap::values).sum()
    }
}

/// Directories of file sinks.
pub(crate) type Directories = Arc<Mutex<BTreeSet<PathBuf>>>;

pub(crate) struct Oracle<'a> {
    /// `None`: this run makes it.
    reference: Option<&'a Reference>,
    level: Level,
    output: SinkContents,
    /// Transactions seen, by system.
    seen: BTreeMap<String, usize>,
    /// The newest checkpoint committed, by system and subtask.
    newest: BTreeMap<(String, usize), CheckpointId>,
    directories: Directories,
    /// Committed files, with their contents.
    files: BTreeMap<PathBuf, Vec<u8>>,
    renames: u64,
    /// The durable content of the store.
    manifests: Vec<CheckpointId>,
    blobs: Vec<String>,
    /// The last place in each row of each sink whose records have an order.
    places: BTreeMap<(String, u64), u64>,
    /// The subtasks of sinks that write in transactions, by operator and number in it.
    sinks: BTreeMap<SubtaskId, (String, usize)>,
    /// The latest attempt that has fenced earlier ones off, by subtask.
    fenced: BTreeMap<SubtaskId, Attempt>,
}

fn wrong<T>(what: String) -> Result<T, Breach> {
    Err(Breach(what))
}

impl<'a> Oracle<'a> {
    pub(crate) fn new(reference: Option<&'a Reference>) -> Self {
        Self {
            reference,
            level: Level::ExactlyOnce,
            output: SinkContents::new(),
            seen: BTreeMap::new(),
            newest: BTreeMap::new(),
            directories: Directories::default(),
            files: BTreeMap::new(),
            renames: 0,
            manifests: Vec::new(),
            blobs: Vec::new(),
            places: BTreeMap::new(),
            sinks: BTreeMap::new(),
            fenced: BTreeMap::new(),
        }
    }

    pub(crate) fn directories(&self) -> Directories {
        Arc::clone(&self.directories)
    }

    /// Sets the job's guarantee, and the subtasks that write in transactions.
    pub(crate) fn job(&mut self, level: Level, sinks: BTreeMap<SubtaskId, (String, usize)>) {
        (self.level, self.sinks) = (level, sinks);
    }

    /// Takes in what sinks report about their external systems, as soon as they do.
    pub(crate) fn on_event(&mut self, disk: &SimDisk, lines: &[Line]) -> Result<(), Breach> {
        for Line { attempt, task, what, .. } in lines {
            let (Some(attempt), Some(subtask)) = (*attempt, *task) else { continue };
            let Some((sink, index)) = self.sinks.get(&subtask) else { continue };
            let done = match what {
                What::Fenced {} => {
                    let fenced = self.fenced.entry(subtask).or_insert(attempt);
                    *fenced = attempt.max(*fenced);
                    continue;
                }
                What::Prepared { txn } => *txn,
                What::CommitReturned {
                    txn,
                    outcome: CommitOutcome::Committed | CommitOutcome::AlreadyCommitted,
                } => {
                    self.stays(disk, sink, *index, *txn)?;
                    *txn
                }
                _ => continue,
            };
            if let Some(later) = self.fenced.get(&subtask).filter(|&&later| later > attempt) {
                return wrong(format!(
                    "attempt {attempt} of sink `{sink}` {index} has prepared or committed {done:?} \
                     after the fence of attempt {later} (SPEC 6.4)"
                ));
            }
        }
        Ok(())
    }

    /// SPEC 6.6: a reported commit is durable.
    fn stays(&self, disk: &SimDisk, sink: &str, index: usize, txn: TxnId) -> Result<(), Breach> {
        for directory in &*lock(&self.directories) {
            for path in disk.content(directory).into_keys() {
                let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
                let is_it =
                    path.parent() == Some(&**directory) && is_file_of(name, sink, index, txn);
                if is_it && disk.is_durable(&path) == Some(false) {
                    return wrong(format!(
                        "sink `{sink}` says that {txn:?} is committed, and a loss of power would take {} away (SPEC 6.6)",
                        path.display()
                    ));
                }
            }
        }
        Ok(())
    }

    /// The number of durably complete checkpoints.
    pub(crate) const fn kept(&self) -> usize {
        self.manifests.len()
    }

    /// Names that were not durable may be gone.
    pub(crate) fn power_lost(&mut self) {
        self.renames = u64::MAX;
        for path in std::mem::take(&mut self.files).into_keys() {
            self.output.remove(&sink_of(&path));
        }
    }

    /// Checks what has become visible since the last call.
    pub(crate) fn look(
        &mut self,
        disk: &SimDisk,
        systems: &Systems,
        marks: &mut Marks,
    ) -> Result<(), Breach> {
        let store = Path::new(STORE).join("checkpoints");
        for (name, txn, batch) in systems.committed_since(&self.seen) {
            *self.seen.entry(name.clone()).or_default() += 1;
            *marks.entry("transactions committed").or_default() += 1;
            self.check_commit(disk, &name, txn)?;
            self.check_order(&name, txn)?;
            self.check_places(&name, &batch)?;
            self.add(&name, batch.records)?;
        }
        let renames = disk.renames();
        if self.renames != renames {
            self.renames = renames;
            self.look_at_files(disk, marks)?;
            let durable: Vec<_> =
                disk.durable(&store).iter().filter_map(|name| manifest_checkpoint(name)).collect();
            let blobs = disk.durable(&Path::new(STORE).join("blobs"));
            let fewer = self.blobs.iter().any(|blob| !blobs.contains(blob));
            let newer = durable.last() > self.manifests.last();
            let changed = durable != self.manifests || fewer;
            (self.manifests, self.blobs) = (durable, blobs);
            if newer {
                *marks.entry("checkpoints complete").or_default() += 1;
            }
            if changed {
                self.check_manifests(disk)?;
            }
        }
        Ok(())
    }

    /// Law 4: a committed transaction belongs to a complete checkpoint, or to an older one.
    fn check_commit(&self, disk: &SimDisk, name: &str, txn: TxnId) -> Result<(), Breach> {
        let checkpoints = Path::new(STORE).join("checkpoints");
        let names = disk.durable(&checkpoints);
        let newest = names.iter().filter_map(|name| manifest_checkpoint(name)).max();
        if newest < Some(txn.checkpoint) {
            return wrong(format!(
                "sink `{name}` committed {txn:?}, but the newest checkpoint whose manifest is durable is {newest:?}"
            ));
        }
        Ok(())
    }

    /// Whether a checkpoint, or a newer one, is complete and stays so after a loss of power.
    pub(crate) fn is_durable(&self, disk: &SimDisk, checkpoint: CheckpointId) -> bool {
        let names = disk.durable(&Path::new(STORE).join("checkpoints"));
        let newest = names.iter().filter_map(|name| manifest_checkpoint(name)).max();
        newest >= Some(checkpoint)
    }

    /// SPEC 6.6: a subtask's transactions are committed in the order of checkpoints.
    fn check_order(&mut self, name: &str, txn: TxnId) -> Result<(), Breach> {
        let key = (name.to_owned(), txn.subtask.index());
        let before = self.newest.insert(key, txn.checkpoint);
        match before {
            Some(before) if before >= txn.checkpoint => {
                wrong(format!("sink `{name}` committed {txn:?} after checkpoint {before}"))
            }
            _ => Ok(()),
        }
    }

    /// SPEC 2.2, 15.2: records of one producer are shown in its order.
    fn check_places(&mut self, name: &str, batch: &Batch) -> Result<(), Breach> {
        if self.level < Level::ExactlyOnce {
            return Ok(());
        }
        for (record, &(row, place)) in batch.records.iter().zip(&batch.places) {
            let before = self.places.insert((name.to_owned(), row), place);
            if let Some(before) = before.filter(|&before| before >= place) {
                return wrong(format!(
                    "sink `{name}` shows {record} out of order: it has place {place} of row {row}, \
                     after place {before}"
                ));
            }
        }
        Ok(())
    }

    /// Law 3: every complete checkpoint can be restored, even after a loss of power now.
    fn check_manifests(&self, disk: &SimDisk) -> Result<(), Breach> {
        if self.manifests.is_empty() {
            return Ok(());
        }
        let worst = Box::new(disk.worst().files(&Host::default()));
        let store = match LocalStore::inspect_on(worst, Path::new(STORE)) {
            Ok(store) => store,
            Err(error) => {
                return wrong(format!("the store would not survive a loss of power: {error}"));
            }
        };
        for &checkpoint in &self.manifests {
            match health(&store, checkpoint) {
                Ok((_, Health::Whole, _)) => {}
                Ok((_, _, error)) => {
                    let error = error.map_or_else(String::new, |error| error.to_string());
                    return wrong(format!(
                        "checkpoint {checkpoint} is complete, but would not survive a loss of power: {error}"
                    ));
                }
                Err(error) => {
                    return wrong(format!("checkpoint {checkpoint} cannot be inspected: {error}"));
                }
            }
        }
        Ok(())
    }

    fn look_at_files(&mut self, disk: &SimDisk, marks: &mut Marks) -> Result<(), Breach> {
        let directories: Vec<_> = lock(&self.directories).iter().cloned().collect();
        for directory in directories {
            let mut there = BTreeMap::new();
            for (path, bytes) in disk.content(&directory) {
                let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
                if path.parent() == Some(&*directory) && committed_checkpoint(name).is_some() {
                    there.insert(path, bytes);
                }
            }
            for (path, bytes) in &self.files {
                let mine = path.parent() == Some(&*directory);
                if mine && there.get(path) != Some(bytes) {
                    return wrong(format!("committed file {} was taken back", path.display()));
                }
            }
            for (path, bytes) in there {
                if self.files.contains_key(&path) {
                    continue;
                }
                *marks.entry("files committed").or_default() += 1;
                let text = String::from_utf8_lossy(&bytes).into_owned();
                self.add(&sink_of(&path), text.lines().map(str::to_owned).collect())?;
                self.files.insert(path, bytes);
            }
        }
        Ok(())
    }

    fn add(&mut self, sink: &str, records: Vec<String>) -> Result<(), Breach> {
        let output = self.output.entry(sink.to_owned()).or_default();
        for record in records {
            let times = output.entry(record.clone()).or_default();
            *times += 1;
            let Some(reference) = self.reference else { continue };
            let right = reference.output.get(sink).and_then(|sink| sink.get(&record));
            let right = right.copied().unwrap_or(0);
            if self.level == Level::ExactlyOnce && *times > right {
                return wrong(format!(
                    "sink `{sink}` shows {record} {times} times; without failures it is there {right} times"
                ));
            }
        }
        Ok(())
    }

    /// The job has ended: all output is there.
    pub(crate) fn complete(&self, ended: Ended) -> Result<(), Breach> {
        let Some(reference) = self.reference else { return Ok(()) };
        if ended != Ended::Finished || self.level < Level::AtLeastOnce {
            return Ok(());
        }
        for (sink, records) in &reference.output {
            for (record, &right) in records {
                let found = self.output.get(sink).and_then(|sink| sink.get(record));
                let found = found.copied().unwrap_or(0);
                if found < right {
                    return wrong(format!(
                        "the job has finished, and sink `{sink}` shows {record} {found} times; without failures it is there {right} \
                         times"
                    ));
                }
            }
        }
        Ok(())
    }

    /// Law 12: nothing is left but what the retained checkpoints need, and those are whole.
    pub(crate) fn nothing_left(
        &self,
        disk: &SimDisk,
        systems: &Systems,
        retained: usize,
        unfinished: bool,
    ) -> Result<(), Breach> {
        if let Some((sink, txn)) = systems.prepared().first() {
            return wrong(format!(
                "the job has ended, and sink `{sink}` has {txn:?} still prepared"
            ));
        }
        let files = Box::new(disk.files(&Host::default()));
        let look = || -> Result<Result<(), Breach>, crate::store::StoreError> {
            let store = LocalStore::inspect_on(files, Path::new(STORE))?;
            let manifests = store.manifests()?;
            if manifests.is_empty() || manifests.len() > retained {
                return Ok(wrong(format!(
                    "{} checkpoints are kept of {retained}",
                    manifests.len()
                )));
            }
            let mut needed = BTreeSet::new();
            for checkpoint in manifests {
                let (manifest, health, error) = health(&store, checkpoint)?;
                if health != Health::Whole {
                    return Ok(wrong(format!(
                        "checkpoint {checkpoint} is kept and damaged: {error:?}"
                    )));
                }
                let snapshots = manifest.into_iter().flat_map(|manifest| manifest.snapshots);
                needed.extend(snapshots.flat_map(|s| s.blobs).map(|blob| blob.id));
            }
            for blob in store.blobs()? {
                if !needed.contains(&blob.id) {
                    return Ok(wrong(format!(
                        "the job has ended, and no checkpoint needs blob {:?}",
                        blob.id
                    )));
                }
            }
            Ok(Ok(()))
        };
        match look() {
            Ok(found) => found?,
            Err(error) => return wrong(format!("the store that is left: {error}")),
        }
        if unfinished {
            let left = disk.content(&Path::new(STORE).join("tmp"));
            if let Some(path) = left.keys().next() {
                return wrong(format!("the job has ended, and {} is unfinished", path.display()));
            }
        }
        for directory in &*lock(&self.directories) {
            let prepared = |path: &&PathBuf| {
                path.parent().and_then(Path::file_name).is_some_and(|name| name == "prepared")
            };
            if let Some(path) = disk.content(directory).keys().find(prepared) {
                return wrong(format!(
                    "the job has ended, and {} is still prepared",
                    path.display()
                ));
            }
        }
        Ok(())
    }

    /// Everything that became visible, for comparing two runs.
    pub(crate) fn summary(&self) -> String {
        format!("{:?}{:?}{:?}", self.output, self.files, self.newest)
    }

    pub(crate) fn into_reference(self) -> Reference {
        Reference { output: self.output }
    }
}

/// A file sink is known by its directory.
fn sink_of(path: &Path) -> String {
    path.parent().unwrap_or(path).display().to_string()
}
