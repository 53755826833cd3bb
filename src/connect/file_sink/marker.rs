//! The record of what a subtask committed, or is about to.
//!
//! A line a transaction, each with a checksum; the newest counts. It is appended to, which takes one sync, and now and then written anew.

use std::path::{Path, PathBuf};

use snapline_protocol::ids::TxnId;

use super::super::ConnectError;
use super::disk;
use crate::files::Files;
use crate::sync::Arc;

/// Longer records are written anew.
const LONG: u64 = 16 * 1024;

/// One subtask's record, as read.
pub(super) struct Marker {
    files: Arc<dyn Files>,
    path: PathBuf,
    newest: Option<TxnId>,
    /// How long the file is; `None` if there is none.
    length: Option<u64>,
}

impl Marker {
    /// Reads it. What cannot be read is a line whose append was cut short, and whose transaction was not committed after it.
    pub(super) fn read(files: &Arc<dyn Files>, path: PathBuf) -> Result<Self, ConnectError> {
        let files = Arc::clone(files);
        let Some(bytes) = disk::read(&*files, &path)? else {
            return Ok(Self { files, path, newest: None, length: None });
        };
        let newest = bytes.split(|&byte| byte == b'\n').filter_map(parse).max();
        Ok(Self { files, path, newest, length: Some(bytes.len() as u64) })
    }

    /// Whether the transaction was committed, or is being.
    pub(super) fn holds(&self, txn: TxnId) -> bool {
        // SPEC 6.6: commits go in order.
        self.newest >= Some(txn)
    }

    /// The newest transaction that was committed, or is being.
    pub(super) const fn newest(&self) -> Option<TxnId> {
        self.newest
    }

    /// Whether there is a record, and it does not hold this transaction.
    pub(super) fn lacks(&self, txn: Option<TxnId>) -> bool {
        self.length.is_some() && self.newest < txn
    }

    /// Records the transaction, durably.
    pub(super) fn add(&mut self, txn: TxnId) -> Result<(), ConnectError> {
        // A line cut short must not swallow the next: every line begins with its own end of line too.
        let line = format!("\n{}\n", line(txn));
        if self.length.is_none_or(|length| length >= LONG) {
            // A new file's name must be durable too.
            disk::replace(&*self.files, &self.path, line.as_bytes())?;
            self.length = Some(line.len() as u64);
        } else {
            let append = || {
                let mut file = self.files.append(&self.path)?;
                file.write(line.as_bytes())?;
                file.sync()
            };
            append().map_err(ConnectError::io("append to", &self.path))?;
            self.length = self.length.map(|length| length + line.len() as u64);
        }
        self.newest = self.newest.max(Some(txn));
        Ok(())
    }

    /// Makes durable what was read: who wrote it may have crashed before it was.
    pub(super) fn sync(&self) -> Result<(), ConnectError> {
        if self.length.is_none() {
            return Ok(());
        }
        sync_file(&*self.files, &self.path)
    }
}

/// Makes a file's bytes durable, whoever wrote them.
pub(super) fn sync_file(files: &dyn Files, path: &Path) -> Result<(), ConnectError> {
    // Opened to write, which some systems want of who syncs.
    let sync = files.append(path).and_then(|mut file| file.sync());
    sync.map_err(ConnectError::io("sync", path))
}

fn line(txn: TxnId) -> String {
    let name = serde_json::to_string(&txn).expect("numbers can be written as JSON");
    let sum = crc32fast::hash(name.as_bytes());
    format!("{name} {sum:08x}")
}

fn parse(line: &[u8]) -> Option<TxnId> {
    let (name, sum) = std::str::from_utf8(line).ok()?.rsplit_once(' ')?;
    let whole = u32::from_str_radix(sum, 16).ok()? == crc32fast::hash(name.as_bytes());
    if whole { serde_json::from_str(name).ok() } else { None }
}

#[cfg(test)]
mod tests {
    use snapline_protocol::ids::{Attempt, CheckpointId, SubtaskId, Term};

    use std::fs;

    use super::*;
    use crate::files::Disk;

    fn read(path: PathBuf) -> Result<Marker, ConnectError> {
        let files: Arc<dyn Files> = Arc::new(Disk);
        Marker::read(&files, path)
    }

    fn txn(checkpoint: u64) -> TxnId {
        let checkpoint = CheckpointId::new(checkpoint).expect("above zero");
        TxnId { checkpoint, attempt: Attempt::first(Term::new(1)), subtask: SubtaskId::new(0) }
    }

    #[test]
    fn everything_up_to_the_newest_is_held() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("committed-00");
        let mut marker = read(path.clone()).expect("reads");
        assert!(!marker.holds(txn(1)));
        marker.add(txn(1)).expect("adds");
        marker.add(txn(3)).expect("adds");
        let again = read(path).expect("reads");
        for marker in [marker, again] {
            assert!(marker.holds(txn(1)) && marker.holds(txn(3)) && !marker.holds(txn(4)));
            marker.sync().expect("syncs");
        }
    }

    #[test]
    fn a_line_cut_short_anywhere_counts_for_nothing_and_harms_no_other() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("committed-00");
        let whole = |number| format!("\n{}\n", line(txn(number)));
        let second = whole(2);
        for cut in 0..second.len() - 1 {
            fs::write(&path, whole(1) + &second[..cut]).expect("writes");
            let mut marker = read(path.clone()).expect("reads");
            assert!(marker.holds(txn(1)) && !marker.holds(txn(2)), "cut at {cut}");
            marker.add(txn(3)).expect("adds");
            assert!(read(path.clone()).expect("reads").holds(txn(3)), "cut at {cut}");
        }
    }

    #[test]
    fn it_does_not_grow_for_ever() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("committed-00");
        for number in 1..=600 {
            read(path.clone()).expect("reads").add(txn(number)).expect("adds");
            let length = fs::metadata(&path).expect("is there").len();
            assert!(length < LONG + 200, "{length} bytes");
        }
        assert!(read(path).expect("reads").holds(txn(600)));
    }
}
