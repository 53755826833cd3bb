//! The record of the transactions that a subtask committed, or is about to commit.
//!
//! One line per transaction, each with a checksum; the newest counts. The file is appended to,
//! which takes one sync, and now and then replaced by a new one. It is also replaced if this
//! committer did not sync it itself. Another process's lines can be seen, but may not be durable;
//! and a failed sync may succeed on retry though bytes are missing.

use std::collections::BTreeMap;
use std::path::PathBuf;

use snapline_protocol::ids::TxnId;

use super::disk;
use snapline_core::base::sync::Arc;
use snapline_core::connect::ConnectError;
use snapline_core::fs::Files;

/// A longer record is replaced by a new file.
const LONG: u64 = 16 * 1024;

/// One subtask's record, as read.
pub(super) struct SubtaskMarker {
    files: Arc<dyn Files>,
    path: PathBuf,
    newest: Option<TxnId>,
    /// The length of the file; `None` if there is none.
    length: Option<u64>,
    /// True if all of it is certainly durable.
    durable: bool,
}

/// The durable length of each file: a committer's own knowledge.
pub(super) type Durable = BTreeMap<PathBuf, u64>;

impl SubtaskMarker {
    /// Reads the record. A line that cannot be read was cut short while it was appended; its
    /// transaction was not committed after it.
    pub(super) fn read(
        files: &Arc<dyn Files>,
        path: PathBuf,
        durable: &Durable,
    ) -> Result<Self, ConnectError> {
        let files = Arc::clone(files);
        let Some(bytes) = disk::read(&*files, &path)? else {
            return Ok(Self { files, path, newest: None, length: None, durable: false });
        };
        let newest = bytes.split(|&byte| byte == b'\n').filter_map(parse).max();
        let length = bytes.len() as u64;
        let durable = durable.get(&path) == Some(&length);
        Ok(Self { files, path, newest, length: Some(length), durable })
    }

    /// The newest transaction that was committed, or is being committed.
    pub(super) const fn newest(&self) -> Option<TxnId> {
        self.newest
    }

    /// True if the transaction was committed, or is being committed.
    pub(super) fn holds(&self, txn: TxnId) -> bool {
        // SPEC 6.6: commits go in order.
        self.newest >= Some(txn)
    }

    /// True if there is a record, and it does not hold this transaction.
    pub(super) fn lacks(&self, txn: Option<TxnId>) -> bool {
        self.length.is_some() && self.newest < txn
    }

    /// Records the transaction durably. If it is recorded already and may not be durable, it is
    /// recorded again.
    pub(super) fn add(&mut self, txn: TxnId, durable: &mut Durable) -> Result<(), ConnectError> {
        if self.durable && self.holds(txn) {
            return Ok(());
        }
        let newest = self.newest.max(Some(txn)).unwrap_or(txn);
        // A truncated line must not swallow the next: every line also begins with a line end.
        let line = format!("\n{}\n", line(newest));
        // Until it is done: after a failed sync the file is rewritten, never appended to.
        durable.remove(&self.path);
        let length = match self.length {
            Some(length) if self.durable && length < LONG => {
                let append = || {
                    let mut file = self.files.append(&self.path)?;
                    file.write(line.as_bytes())?;
                    file.sync()
                };
                append().map_err(ConnectError::io("append to", &self.path))?;
                length + line.len() as u64
            }
            _ => {
                // A new file's name must be durable too.
                disk::replace(&*self.files, &self.path, line.as_bytes())?;
                line.len() as u64
            }
        };
        durable.insert(self.path.clone(), length);
        (self.newest, self.length, self.durable) = (Some(newest), Some(length), true);
        Ok(())
    }
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
    use std::path::Path;

    use super::*;
    use snapline_core::fs::Disk;

    fn read(path: PathBuf) -> Result<SubtaskMarker, ConnectError> {
        let files: Arc<dyn Files> = Arc::new(Disk);
        SubtaskMarker::read(&files, path, &Durable::new())
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
        let mut durable = Durable::new();
        marker.add(txn(1), &mut durable).expect("adds");
        marker.add(txn(3), &mut durable).expect("adds");
        let again = read(path).expect("reads");
        for marker in [marker, again] {
            assert!(marker.holds(txn(1)) && marker.holds(txn(3)) && !marker.holds(txn(4)));
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
            marker.add(txn(3), &mut Durable::new()).expect("adds");
            assert!(read(path.clone()).expect("reads").holds(txn(3)), "cut at {cut}");
        }
    }

    #[test]
    fn it_does_not_grow_for_ever() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("committed-00");
        let (mut durable, files) = (Durable::new(), Arc::new(Disk) as Arc<dyn Files>);
        for number in 1..=600 {
            let marker = SubtaskMarker::read(&files, path.clone(), &durable);
            marker.expect("reads").add(txn(number), &mut durable).expect("adds");
            let length = fs::metadata(&path).expect("is there").len();
            assert!(length < LONG + 200, "{length} bytes");
        }
        assert!(read(path).expect("reads").holds(txn(600)));
    }

    /// A line that was seen and not synced is lost with the power, and lines that failed to sync
    /// are lost with it.
    #[test]
    fn what_may_not_be_durable_is_written_again_and_not_believed() {
        use snapline_core::fs::simulated::{Host, SimDisk, Trouble};
        let path = Path::new("/committed-00");
        for late in [false, true] {
            // The changes that fail: creating, writing, syncing, renaming, and syncing the
            // directory; later appending and syncing.
            for nth in 0..8 {
                let (disk, host) = (SimDisk::new(), Host::default());
                let files: Arc<dyn Files> = Arc::new(disk.files(&host));
                let mut durable = Durable::new();
                let read = |durable: &Durable| {
                    SubtaskMarker::read(&files, path.to_owned(), durable).expect("it can be read")
                };
                host.fails_after(Some((nth, Trouble { kind: std::io::ErrorKind::Other, late })));
                for number in 1..=3 {
                    while read(&durable).add(txn(number), &mut durable).is_err() {}
                    let worst: Arc<dyn Files> = Arc::new(disk.worst().files(&Host::default()));
                    let found = SubtaskMarker::read(&worst, path.to_owned(), &Durable::new());
                    let found = found.expect("it can be read");
                    assert!(found.holds(txn(number)), "{number} after {nth}, {late}");
                }
                // Another life sees the line, and does not know if it is durable.
                host.fails_after(None);
                let mut file = files.append(path).expect("it is there");
                file.write(format!("\n{}\n", line(txn(4))).as_bytes()).expect("writes");
                drop(file);
                let mut durable = Durable::new();
                let mut marker = read(&durable);
                assert!(marker.holds(txn(4)));
                marker.add(txn(4), &mut durable).expect("adds");
                let worst: Arc<dyn Files> = Arc::new(disk.worst().files(&Host::default()));
                let found = SubtaskMarker::read(&worst, path.to_owned(), &Durable::new());
                assert!(found.expect("it can be read").holds(txn(4)), "seen, and not synced");
            }
        }
    }
}
