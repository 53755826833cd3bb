//! Prepares, commits and rolls back one subtask's files. The table of what is on the disk is in [`super`].

use std::io::ErrorKind;

use snapline_protocol::committer::CommitOutcome;
use snapline_protocol::ids::{Attempt, TxnId};

use super::super::{ConnectError, OpenContext, SinkCommitter};
use super::FileCommittable;
use super::disk::{self, Lock, sync_dir};
use super::layout::{self, Layout};
use super::marker::{Marker, sync_file};
use crate::error::BoxError;

/// Prepares and commits one subtask's transactions for a [`FileSink`](super::FileSink).
pub struct FileCommitter {
    layout: Layout,
    /// The attempt it acts for.
    attempt: Attempt,
    /// The newest empty transaction that was committed. There is nothing on the disk of those, nor need there be.
    empty: Option<TxnId>,
}

impl FileCommitter {
    pub(super) fn new(layout: Layout) -> Self {
        let attempt = layout.context.attempt;
        Self { layout, attempt, empty: None }
    }

    /// The file is not among the closed ones: it was prepared by an earlier call, or something is wrong.
    fn prepare_again(&self, txn: TxnId, committable: &FileCommittable) -> Result<(), ConnectError> {
        let _lock = Lock::shared(&self.layout)?;
        disk::check_fence(&self.layout, self.attempt)?;
        let prepared = self.layout.prepared_file(txn, committable);
        let committed = self.layout.committed_file(committable);
        if disk::length(&prepared)?.is_some() {
            // The earlier call may have failed between its rename and this.
            sync_dir(&self.layout.prepared)
        } else if disk::length(&committed)?.is_some() {
            Ok(())
        } else {
            Err(ConnectError::NotClosed { txn, place: prepared.display().to_string() })
        }
    }

    /// Commits a prepared file, under the lock. `Err` if that was not done, and `Unknown` if it perhaps was.
    fn commit_file(
        &self,
        txn: TxnId,
        committable: &FileCommittable,
    ) -> Result<CommitOutcome, ConnectError> {
        let lock = Lock::shared(&self.layout)?;
        disk::check_fence(&self.layout, self.attempt)?;
        let mut marker = Marker::read(self.layout.marker(committable)?)?;
        let prepared = self.layout.prepared_file(txn, committable);
        let committed = self.layout.committed_file(committable);
        let in_place = disk::length(&committed)?.is_some();
        let outcome = match disk::length(&prepared)? {
            None if marker.holds(txn) => {
                // Whoever committed it may have crashed before it was durable; then the next crash would undo it.
                marker.sync()?;
                CommitOutcome::AlreadyCommitted
            }
            None if in_place => {
                marker.add(txn)?;
                CommitOutcome::AlreadyCommitted
            }
            None => {
                tracing::error!(
                    file = %prepared.display(),
                    "a prepared file is gone that was never committed: its records are lost"
                );
                return Ok(CommitOutcome::Lost);
            }
            Some(_) if in_place => {
                disk::remove(&prepared)?;
                CommitOutcome::AlreadyCommitted
            }
            Some(bytes) => {
                check_length(&prepared, committable.bytes, bytes)?;
                if !marker.holds(txn) {
                    marker.add(txn)?;
                }
                disk::rename(&prepared, &committed)?;
                CommitOutcome::Committed
            }
        };
        drop(lock);
        // First the name that must be there, then the one that must not.
        match sync_dir(&self.layout.dir).and_then(|()| sync_dir(&self.layout.prepared)) {
            Ok(()) => Ok(outcome),
            Err(error) => {
                tracing::warn!(%error, "a file was committed, perhaps not durably");
                Ok(CommitOutcome::Unknown)
            }
        }
    }
}

impl SinkCommitter for FileCommitter {
    type Committable = FileCommittable;

    fn fence(&mut self, attempt: Attempt) -> Result<Vec<(TxnId, FileCommittable)>, BoxError> {
        let _lock = Lock::alone(&self.layout)?;
        disk::raise_fence(&self.layout, attempt)?;
        self.attempt = attempt;
        let OpenContext { index, parallelism, .. } = self.layout.context;
        for (name, path) in disk::names(&self.layout.open)? {
            let closed = || layout::parse_hidden(&name).map(|(txn, of, _)| (of, txn.attempt));
            let whose = layout::parse_unnamed(&name).or_else(closed);
            // Those of subtasks that there are no more, since the parallelism fell, are the first's to clear away.
            let ours = |of| of == index || (index == 0 && of >= parallelism);
            if whose.is_some_and(|(of, by)| ours(of) && by < attempt) {
                disk::remove(&path)?;
            }
        }
        let mut prepared = Vec::new();
        for (name, path) in disk::names(&self.layout.prepared)? {
            let Some((txn, of, file)) = layout::parse_hidden(&name) else { continue };
            if of == index && txn.attempt < attempt {
                // With none it was removed since it was listed, by nobody of ours: there is nothing to commit.
                let Some(bytes) = disk::length(&path)? else { continue };
                prepared.push((txn, FileCommittable { file: file.into(), bytes }));
            }
        }
        prepared.sort_by_key(|(txn, _)| *txn);
        Ok(prepared)
    }

    fn prepare(&mut self, txn: TxnId, committable: &FileCommittable) -> Result<(), BoxError> {
        if committable.bytes == 0 {
            return Ok(disk::check_fence(&self.layout, self.attempt)?);
        }
        let closed = self.layout.closed_file(txn, committable);
        match sync_file(&closed) {
            Ok(()) => {}
            Err(error) if error.io_kind() == Some(ErrorKind::NotFound) => {
                return Ok(self.prepare_again(txn, committable)?);
            }
            Err(error) => {
                // A sync that failed may succeed when it is called again though bytes are missing: there must be nothing to call it on.
                let _ = disk::remove(&closed);
                return Err(error.into());
            }
        }
        let lock = Lock::shared(&self.layout)?;
        disk::check_fence(&self.layout, self.attempt)?;
        let marker = Marker::read(self.layout.marker(committable)?)?;
        let committed = self.layout.committed_file(committable);
        if marker.holds(txn) || disk::length(&committed)?.is_some() {
            let place = committed.display().to_string();
            return Err(ConnectError::NameTaken { txn, place }.into());
        }
        check_length(&closed, committable.bytes, disk::length(&closed)?.unwrap_or(0))?;
        disk::rename(&closed, &self.layout.prepared_file(txn, committable))?;
        drop(lock);
        Ok(sync_dir(&self.layout.prepared)?)
    }

    fn commit(
        &mut self,
        txn: TxnId,
        committable: &FileCommittable,
    ) -> Result<CommitOutcome, BoxError> {
        if committable.bytes == 0 {
            disk::check_fence(&self.layout, self.attempt)?;
            let before = self.empty >= Some(txn);
            self.empty = self.empty.max(Some(txn));
            return Ok(if before {
                CommitOutcome::AlreadyCommitted
            } else {
                CommitOutcome::Committed
            });
        }
        match self.commit_file(txn, committable) {
            Err(error) if may_pass(&error) => {
                tracing::warn!(%error, "a file could not be committed yet");
                Ok(CommitOutcome::Retry)
            }
            outcome => Ok(outcome?),
        }
    }

    fn roll_back(&mut self, txn: TxnId, committable: &FileCommittable) -> Result<(), BoxError> {
        if committable.bytes == 0 {
            return Ok(());
        }
        let _lock = Lock::shared(&self.layout)?;
        disk::check_fence(&self.layout, self.attempt)?;
        disk::remove(&self.layout.closed_file(txn, committable))?;
        disk::remove(&self.layout.prepared_file(txn, committable))?;
        // Also when it was not there: whoever removed it may have crashed before that was durable.
        Ok(sync_dir(&self.layout.prepared)?)
    }
}

/// Whether somebody may put it right while the job waits.
fn may_pass(error: &ConnectError) -> bool {
    use ErrorKind::{Interrupted, QuotaExceeded, ResourceBusy, StorageFull, TimedOut, WouldBlock};
    error.io_kind().is_some_and(|kind| {
        matches!(
            kind,
            StorageFull | QuotaExceeded | ResourceBusy | TimedOut | Interrupted | WouldBlock
        )
    })
}

fn check_length(path: &std::path::Path, expected: u64, found: u64) -> Result<(), ConnectError> {
    if expected == found {
        return Ok(());
    }
    let why = format!("has {found} bytes where {expected} were written");
    Err(ConnectError::Damaged { path: path.to_owned(), why })
}
