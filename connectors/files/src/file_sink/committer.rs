//! Prepares, commits and rolls back one subtask's files. The table of the states on the disk is in
//! [`super`].
//!
//! Longer than 500 lines: a third is tests.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::path::Path;

use snapline_protocol::committer::CommitOutcome;
use snapline_protocol::ids::{Attempt, TxnId};

use super::FileCommittable;
use super::disk::{self, Lock};
use super::layout::{Hidden, Layout, MOST_FILES, parse_unnamed};
use super::marker::{Durable, SubtaskMarker};
use super::writer::ClosedFiles;
use snapline_core::base::error::BoxError;
use snapline_core::base::fault::Mutation;
use snapline_core::base::sync::lock;
use snapline_core::connect::{
    CommitGrant, ConnectError, ConnectorError, OpenContext, SinkCommitter,
};
use snapline_core::fs::Files;

/// Prepares and commits one subtask's transactions for a [`FileSink`](super::FileSink).
pub struct FileCommitter {
    layout: Layout,
    /// The attempt it acts for.
    attempt: Attempt,
    /// Why the last commit must be retried.
    trouble: RefCell<Option<String>>,
    /// The newest empty transaction that was committed. Empty transactions leave nothing on the
    /// disk.
    empty: Option<TxnId>,
    /// Files that the writer has closed and that are not prepared.
    closed: ClosedFiles,
    /// The records of committed transactions that are durable.
    durable: Durable,
    /// Makes the names in a directory durable. Tests put a failing function here.
    sync_dir: fn(&dyn Files, &Path) -> Result<(), ConnectError>,
}

impl FileCommitter {
    pub(super) fn new(layout: Layout, closed: ClosedFiles) -> Self {
        let attempt = layout.context.attempt;
        let (sync_dir, durable) = (disk::sync_dir as fn(&dyn Files, &Path) -> _, Durable::new());
        let trouble = RefCell::default();
        Self { layout, attempt, trouble, empty: None, closed, durable, sync_dir }
    }

    /// Makes the names in a directory durable. If an earlier call may have failed at that, the
    /// directory is changed first.
    fn sync_names(&self, dir: &Path, again: bool) -> Result<(), ConnectError> {
        if again {
            disk::stir(self.files(), dir)?;
        }
        (self.sync_dir)(self.files(), dir)
    }

    fn files(&self) -> &dyn Files {
        &*self.layout.files
    }

    /// Handles a file that is not among the closed ones: an earlier call prepared it, or something
    /// is wrong.
    fn prepare_again(&self, txn: TxnId, file: &str) -> Result<(), ConnectError> {
        let _lock = Lock::shared(&self.layout)?;
        disk::check_fence(&self.layout, self.attempt)?;
        let prepared = self.layout.prepared_file(txn, file);
        let committed = self.layout.committed_file(file);
        if disk::length(self.files(), &prepared)?.is_some()
            || disk::length(self.files(), &committed)?.is_some()
        {
            Ok(())
        } else {
            Err(ConnectError::NotClosed { txn, place: prepared.display().to_string() })
        }
    }

    /// Prepares a file of this length, whose name is not durable yet. Returns true if an earlier
    /// call had.
    fn prepare_file(
        &self,
        txn: TxnId,
        committable: &FileCommittable,
        (file, bytes): (&str, u64),
    ) -> Result<bool, ConnectError> {
        let closed = self.layout.closed_file(txn, file);
        let Some(unsynced) = lock(&self.closed).remove(&closed) else {
            self.prepare_again(txn, file)?;
            return Ok(true);
        };
        if let Some(mut output) = unsynced
            && !self.layout.files.faults().is_active(Mutation::PreparedUnsynced)
            && let Err(error) = output.sync()
        {
            // A failed sync may succeed on retry though bytes are missing. So the file must not
            // stay for a retry.
            let _ = disk::remove(self.files(), &closed);
            return Err(ConnectError::io("sync", &closed)(error));
        }
        // A synced file stays synced, should the rest be retried.
        lock(&self.closed).insert(closed.clone(), None);
        let Some(found) = disk::length(self.files(), &closed)? else {
            self.prepare_again(txn, file)?;
            return Ok(true);
        };
        let _lock = Lock::shared(&self.layout)?;
        disk::check_fence(&self.layout, self.attempt)?;
        let path = self.layout.marker(committable)?;
        let marker = SubtaskMarker::read(&self.layout.files, path, &self.durable)?;
        let committed = self.layout.committed_file(file);
        if marker.holds(txn) || disk::length(self.files(), &committed)?.is_some() {
            let place = committed.display().to_string();
            return Err(ConnectError::NameTaken { txn, place });
        }
        check_length(&closed, bytes, found)?;
        disk::rename(self.files(), &closed, &self.layout.prepared_file(txn, file))?;
        Ok(false)
    }

    /// The record of the subtask's commits. It must hold the transaction that the committable names
    /// as committed before it.
    fn marker(&self, committable: &FileCommittable) -> Result<SubtaskMarker, ConnectError> {
        let path = self.layout.marker(committable)?;
        let marker = SubtaskMarker::read(&self.layout.files, path.clone(), &self.durable)?;
        match committable.behind {
            Some(txn) if marker.lacks(committable.behind) && !self.layout.accept_other => {
                Err(ConnectError::SetBack { place: path.display().to_string(), txn })
            }
            _ => Ok(marker),
        }
    }

    /// Commits prepared files, under the lock. `Err` if that was not done, and `Unknown` if it may
    /// have been.
    fn commit_files(
        &mut self,
        txn: TxnId,
        committable: &FileCommittable,
    ) -> Result<CommitOutcome, ConnectError> {
        let shared = Lock::shared(&self.layout)?;
        disk::check_fence(&self.layout, self.attempt)?;
        let mut marker = self.marker(committable)?;
        let mut left = Vec::new();
        for (file, bytes) in committable.files() {
            let prepared = self.layout.prepared_file(txn, &file);
            let committed = self.layout.committed_file(&file);
            let in_place = disk::length(self.files(), &committed)?.is_some();
            match disk::length(self.files(), &prepared)? {
                None if in_place || marker.holds(txn) => {}
                None if self.layout.accept_other && marker.newest() < committable.behind => {
                    tracing::warn!(
                        file = %prepared.display(),
                        "a transaction that this older copy of the directory lacks counts as \
                         committed to the other copy"
                    );
                }
                None => {
                    tracing::error!(
                        file = %prepared.display(),
                        "a prepared file that was never committed is missing: its records are lost"
                    );
                    return Ok(CommitOutcome::Lost);
                }
                Some(found) => {
                    if !in_place {
                        check_length(&prepared, bytes, found)?;
                    }
                    left.push((prepared, committed, in_place));
                }
            }
        }
        // Also a record that is there: its writer may have crashed, or failed, before it was
        // durable; then the next crash would undo it.
        marker.add(txn, &mut self.durable)?;
        // This call's renames change the directories; an earlier call's renames may have failed to
        // become durable.
        let again = left.len() < committable.files().count() || left.iter().any(|left| left.2);
        let mut outcome = CommitOutcome::AlreadyCommitted;
        for (prepared, committed, in_place) in left {
            if in_place {
                disk::remove(self.files(), &prepared)?;
            } else {
                disk::rename(self.files(), &prepared, &committed)?;
                outcome = CommitOutcome::Committed;
            }
        }
        drop(shared);
        for (file, _) in committable.files() {
            lock(&self.closed).remove(&self.layout.closed_file(txn, &file));
        }
        if self.layout.files.faults().is_active(Mutation::CommittedUnsynced) {
            return Ok(outcome);
        }
        // First the name that must exist, then the one that must not.
        match self
            .sync_names(&self.layout.dir, again)
            .and_then(|()| self.sync_names(&self.layout.prepared, again))
        {
            Ok(()) => Ok(outcome),
            Err(error) => {
                tracing::warn!(%error, "files were committed, but perhaps not durably");
                *self.trouble.borrow_mut() = Some(error.to_string());
                Ok(CommitOutcome::Unknown)
            }
        }
    }
}

impl SinkCommitter for FileCommitter {
    type Committable = FileCommittable;

    fn trouble(&self) -> Option<String> {
        self.trouble.borrow().clone()
    }

    fn fence(&mut self, attempt: Attempt) -> Result<Vec<(TxnId, FileCommittable)>, BoxError> {
        let lock = Lock::alone(&self.layout)?;
        let raised_before = disk::raise_fence(&self.layout, attempt)?;
        self.attempt = attempt;
        let OpenContext { index, parallelism, .. } = self.layout.context;
        for (name, path) in disk::names(self.files(), &self.layout.open)? {
            let closed = || Hidden::parse(&name).map(|closed| (closed.index, closed.txn.attempt));
            let whose = parse_unnamed(&name).or_else(closed);
            // After the parallelism fell, the first subtask removes the files of the subtasks that
            // are gone.
            let ours = |of| of == index || (index == 0 && of >= parallelism);
            if whose.is_some_and(|(of, by)| ours(of) && by < attempt) {
                disk::remove(self.files(), &path)?;
            }
        }
        let mut prepared: BTreeMap<TxnId, (String, Vec<u64>)> = BTreeMap::new();
        for (name, path) in disk::names(self.files(), &self.layout.prepared)? {
            let Some(Hidden { txn, index: of, roll, first }) = Hidden::parse(&name) else {
                continue;
            };
            // A name may claim more files than there are. It is not trusted: the claim determines
            // an allocation.
            if of == index && txn.attempt < attempt && roll < MOST_FILES {
                // Without a length it was removed since it was listed, not by this job: there is
                // nothing to commit.
                let Some(bytes) = disk::length(self.files(), &path)? else { continue };
                let (_, lengths) = prepared.entry(txn).or_insert_with(|| (first, Vec::new()));
                let roll = roll as usize;
                lengths.resize(lengths.len().max(roll + 1), 0);
                lengths[roll] = bytes;
            }
        }
        let named = |(txn, (first, lengths)): (_, (String, Vec<u64>))| {
            let place = Some(self.layout.place.clone());
            (txn, FileCommittable { place, ..FileCommittable::of(first, &lengths) })
        };
        // The other subtasks do not wait for the disk: this work is right under any fence.
        drop(lock);
        if raised_before {
            disk::sync_fence(&self.layout)?;
        }
        Ok(prepared.into_iter().map(named).collect())
    }

    fn committed(&mut self) -> Result<Option<TxnId>, BoxError> {
        let _lock = Lock::shared(&self.layout)?;
        let marker = self.layout.own_marker(self.layout.context.index);
        Ok(SubtaskMarker::read(&self.layout.files, marker, &self.durable)?.newest())
    }

    fn prepare(&mut self, txn: TxnId, committable: &FileCommittable) -> Result<(), BoxError> {
        if committable.bytes() == 0 {
            return Ok(disk::check_fence(&self.layout, self.attempt)?);
        }
        let mut again = false;
        for (file, bytes) in committable.files() {
            again |= self.prepare_file(txn, committable, (&file, bytes))?;
        }
        // Also when all were prepared before: the earlier call may have failed before this sync, or
        // at it.
        Ok(self.sync_names(&self.layout.prepared, again)?)
    }

    fn commit(
        &mut self,
        grant: CommitGrant,
        committable: &FileCommittable,
    ) -> Result<CommitOutcome, BoxError> {
        let txn = grant.txn();
        if committable.place.as_ref().is_some_and(|place| *place != self.layout.place) {
            let dir = self.layout.dir.clone();
            if !self.layout.accept_other {
                return Err(ConnectError::OtherPlace { place: dir.display().to_string() }.into());
            }
            tracing::warn!(
                directory = %dir.display(),
                "a transaction of another directory counts as committed there"
            );
            return Ok(CommitOutcome::AlreadyCommitted);
        }
        if committable.bytes() == 0 {
            disk::check_fence(&self.layout, self.attempt)?;
            if committable.behind.is_some() {
                self.marker(committable)?;
            }
            let before = self.empty >= Some(txn);
            self.empty = self.empty.max(Some(txn));
            return Ok(if before {
                CommitOutcome::AlreadyCommitted
            } else {
                CommitOutcome::Committed
            });
        }
        match self.commit_files(txn, committable) {
            Err(error) if may_pass(&error) => {
                tracing::warn!(%error, "cannot commit a file yet");
                *self.trouble.get_mut() = Some(error.to_string());
                Ok(CommitOutcome::Retry)
            }
            outcome => Ok(outcome?),
        }
    }

    fn roll_back(&mut self, txn: TxnId, committable: &FileCommittable) -> Result<(), BoxError> {
        if committable.bytes() == 0 {
            return Ok(());
        }
        let _lock = Lock::shared(&self.layout)?;
        disk::check_fence(&self.layout, self.attempt)?;
        let mut again = false;
        for (file, _) in committable.files() {
            let closed = self.layout.closed_file(txn, &file);
            lock(&self.closed).remove(&closed);
            disk::remove(self.files(), &closed)?;
            again |= !disk::remove(self.files(), &self.layout.prepared_file(txn, &file))?;
        }
        // Also when it was not there: the process that removed it may have crashed, or failed,
        // before that was durable.
        Ok(self.sync_names(&self.layout.prepared, again)?)
    }
}

/// True if the cause may be corrected while the job waits.
fn may_pass(error: &ConnectError) -> bool {
    use ErrorKind::{Interrupted, QuotaExceeded, ResourceBusy, StorageFull, TimedOut, WouldBlock};
    error.io_kind().is_some_and(|kind| {
        matches!(
            kind,
            StorageFull | QuotaExceeded | ResourceBusy | TimedOut | Interrupted | WouldBlock
        )
    })
}

fn check_length(path: &Path, expected: u64, found: u64) -> Result<(), ConnectError> {
    if expected == found {
        return Ok(());
    }
    let why = format!("has {found} bytes where {expected} were written");
    Err(ConnectError::Damaged { path: path.to_owned(), why })
}

#[cfg(test)]
mod tests {
    use snapline_core::connect::testing::granted;
    use std::io;

    use snapline_protocol::ids::{CheckpointId, SubtaskId, Term};

    use super::*;
    use crate::FileSink;
    use crate::read_committed;
    use snapline_core::base::sync::{Arc, thread};
    use snapline_core::connect::{OpenContext, SinkWriter, TwoPhaseSink};
    use snapline_core::fs::simulated::{Host, SimDisk, Trouble};

    fn broken(_: &dyn Files, dir: &Path) -> Result<(), ConnectError> {
        Err(ConnectError::io("sync the directory", dir)(io::Error::other("no luck")))
    }

    fn life(number: u32) -> Attempt {
        Attempt { term: Term::new(1), number }
    }

    fn txn(checkpoint: u64) -> TxnId {
        let checkpoint = CheckpointId::new(checkpoint).expect("above zero");
        TxnId { checkpoint, attempt: life(1), subtask: SubtaskId::new(0) }
    }

    fn closed(dir: &Path) -> (FileCommitter, FileCommittable) {
        let context = OpenContext::new("job", "out", 0, 1, life(1));
        let (mut writer, mut committer) = FileSink::new(dir).open(&context).expect("opens");
        committer.fence(life(1)).expect("fences");
        writer.write(&mut vec![1]).expect("writes");
        (committer, writer.close(txn(1)).expect("closes"))
    }

    #[test]
    fn a_commit_that_may_not_be_durable_is_of_unknown_outcome_until_it_is() {
        let dir = tempfile::tempdir().expect("a directory");
        let (mut committer, one) = closed(dir.path());
        committer.prepare(txn(1), &one).expect("prepares");
        committer.sync_dir = broken;
        for _ in 0..3 {
            let outcome = committer.commit(granted(txn(1)), &one).expect("answers");
            assert_eq!(outcome, CommitOutcome::Unknown);
        }
        committer.sync_dir = disk::sync_dir;
        let outcome = committer.commit(granted(txn(1)), &one).expect("answers");
        assert_eq!(outcome, CommitOutcome::AlreadyCommitted);
        assert_eq!(read_committed(dir.path()).expect("readable"), ["1"]);
    }

    #[test]
    fn what_may_not_be_durable_is_not_prepared_and_not_rolled_back_until_it_is() {
        let dir = tempfile::tempdir().expect("a directory");
        let (mut committer, one) = closed(dir.path());
        committer.sync_dir = broken;
        for _ in 0..3 {
            assert!(committer.prepare(txn(1), &one).is_err());
        }
        committer.sync_dir = disk::sync_dir;
        committer.prepare(txn(1), &one).expect("prepares");
        committer.sync_dir = broken;
        for _ in 0..3 {
            assert!(committer.roll_back(txn(1), &one).is_err());
        }
        committer.sync_dir = disk::sync_dir;
        committer.roll_back(txn(1), &one).expect("rolls back");
        assert!(read_committed(dir.path()).expect("readable").is_empty());
    }

    /// The content of these files in the worst case, if the power failed now.
    fn left(disk: &SimDisk, directory: &str) -> Vec<Vec<u8>> {
        let files = disk.worst().files(&Host::default());
        let directory = Path::new(directory);
        let names = disk::names(&files, directory).unwrap_or_default();
        let parts = names.into_iter().filter(|(name, _)| name.starts_with("part-"));
        parts
            .map(|(_, path)| disk::read(&files, &path).expect("readable").expect("listed"))
            .collect()
    }

    /// Each change of the disk fails in turn, with and without effect. A call that succeeded has
    /// done its work durably, even after retries; and no file of another process is closed and
    /// reopened to be synced.
    #[test]
    fn what_is_answered_for_is_durable_whichever_sync_fails() {
        let mut failed = 0;
        for (late, dir) in [(false, "/out"), (true, "/out"), (false, "/some/more/out")] {
            let at = |name: &str| format!("{dir}{name}");
            for nth in 0.. {
                let (disk, host) = (SimDisk::new(), Host::default());
                let sink = FileSink::<u64>::new(dir).roll_bytes(1);
                let sink = FileSink { files: Arc::new(disk.files(&host)), ..sink };
                let context = OpenContext::new("job", "out", 0, 1, life(1));
                host.fails_after(Some((nth, Trouble { kind: ErrorKind::Other, late })));
                let mut opened = sink.open(&context);
                if opened.is_err() {
                    opened = sink.open(&context);
                }
                let (mut writer, mut committer) = opened.expect("opens, once nothing fails");
                while committer.fence(life(1)).is_err() {}
                let fence = disk.worst().files(&Host::default());
                let fence = disk::read(&fence, Path::new(&at("/.snapline/out/fence")));
                assert!(fence.expect("readable").is_some(), "it fenced after {nth}");
                let written = (0..12).try_for_each(|number| writer.write(&mut vec![number]));
                let Ok(one) = written.and_then(|()| writer.close(txn(1))) else { continue };
                // A retry may find that the transaction was given up.
                if let Ok(()) =
                    committer.prepare(txn(1), &one).or_else(|_| committer.prepare(txn(1), &one))
                {
                    let found = left(&disk, &at("/.snapline/out/prepared"));
                    assert_eq!(found.len(), 12, "prepared after {nth}, {late}");
                    assert!(found.iter().all(|file| !file.is_empty()), "after {nth}, {late}");
                    loop {
                        match committer.commit(granted(txn(1)), &one) {
                            Ok(CommitOutcome::Committed | CommitOutcome::AlreadyCommitted) => break,
                            Ok(CommitOutcome::Lost) => panic!("after {nth}, {late}"),
                            _ => {}
                        }
                    }
                    let found = left(&disk, dir);
                    assert_eq!(found.len(), 12, "committed after {nth}, {late}");
                    assert!(found.iter().all(|file| !file.is_empty()), "after {nth}, {late}");
                    assert!(left(&disk, &at("/.snapline/out/prepared")).is_empty());
                }
                let failures = host.changes().1;
                failed += failures;
                if failures == 0 {
                    break;
                }
            }
        }
        assert!(failed > 100, "{failed} changes failed");
    }

    #[test]
    fn only_what_may_pass_is_tried_again() {
        let error = |kind| ConnectError::io("append to", Path::new("x"))(io::Error::from(kind));
        assert!(may_pass(&error(ErrorKind::StorageFull)));
        assert!(!may_pass(&error(ErrorKind::PermissionDenied)));
        assert!(!may_pass(&ConnectError::NoInput { path: "x".into() }));
    }

    /// A deposed attempt commits while a later one fences it off. Commits after the fence report
    /// that nothing was committed, and each file is in place or prepared, once.
    #[test]
    fn a_fence_comes_between_two_commits_and_never_within_one() {
        for round in 0..20 {
            let dir = tempfile::tempdir().expect("a directory");
            let context = |life| OpenContext::new("job", "out", 0, 1, life);
            let sink = FileSink::<u64>::new(dir.path());
            let (mut writer, mut deposed) = sink.open(&context(life(1))).expect("opens");
            let (_, mut later) = sink.open(&context(life(2))).expect("opens");
            let names: Vec<_> = (1..=8).map(txn).collect();
            let all: Vec<_> = names
                .iter()
                .map(|name| {
                    writer.write(&mut vec![name.checkpoint.get()]).expect("writes");
                    let one = writer.close(*name).expect("closes");
                    deposed.prepare(*name, &one).expect("prepares");
                    one
                })
                .collect();
            let (committed, found) = thread::scope(|scope| {
                let commits = scope.spawn(|| {
                    let pairs = names.iter().zip(&all);
                    pairs
                        .take_while(|(name, one)| deposed.commit(granted(**name), one).is_ok())
                        .count()
                });
                for _ in 0..round * 50 {
                    std::hint::spin_loop();
                }
                let found = later.fence(life(2)).expect("fences");
                (commits.join().expect("no panic"), found)
            });
            assert_eq!(committed + found.len(), names.len());
            for (name, one) in found {
                let outcome = later.commit(granted(name), &one).expect("answers");
                assert_eq!(outcome, CommitOutcome::Committed);
            }
            let expected: Vec<_> = (1..=8).map(|number: u64| number.to_string()).collect();
            assert_eq!(read_committed(dir.path()).expect("readable"), expected);
        }
    }
}
