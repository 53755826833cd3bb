//! What is in a checkpoint directory, as `inspect` and `gc` see it. Nothing here writes or locks.

use std::fs;
use std::path::Path;

use serde::Serialize;
use serde_json::Value;
use snapline::state::{Root, to_json};
use snapline::store::{LocalStore, Manifest, SnapshotRef, Store, StoreError};

use crate::CommandError;

/// The name under which a sink's task keeps the transactions that it does not know to be committed
/// (SPEC 6.3).
pub(crate) const COMMITTABLES: &str = "committables";

/// Opens a checkpoint directory to look at it.
pub(crate) fn open(dir: &Path) -> Result<LocalStore, CommandError> {
    // A path that leads nowhere is more often a slip than a store that was never made.
    if !dir.exists() {
        return Err(CommandError::Usage(format!("{} does not exist", dir.display())));
    }
    LocalStore::inspect(dir).map_err(|error| match error {
        StoreError::Missing { .. } if is_empty(dir) => CommandError::Usage(format!(
            "{} is empty: no job has stored checkpoints there",
            dir.display()
        )),
        error => failure(&error),
    })
}

fn is_empty(dir: &Path) -> bool {
    fs::read_dir(dir).is_ok_and(|mut entries| entries.next().is_none())
}

/// A store's error as a command's.
pub(crate) fn failure(error: &StoreError) -> CommandError {
    match error {
        StoreError::Corrupt { .. } | StoreError::Missing { .. } => {
            CommandError::Damaged(error.to_string())
        }
        error => CommandError::Usage(error.to_string()),
    }
}

/// A transaction that a checkpoint holds, since it was not known to be committed when the
/// checkpoint was taken.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub(crate) struct PendingTransaction {
    /// The sink.
    pub(crate) operator: String,
    /// The subtask whose snapshot holds it, of those of the operator.
    pub(crate) subtask: usize,
    /// The checkpoint whose barrier closed it.
    pub(crate) checkpoint: u64,
    /// The attempt that wrote it.
    pub(crate) attempt: String,
    /// What names it to the external system, as the sink writes it.
    pub(crate) committable: Value,
}

/// The subtasks of a manifest: operator, index in it, and part.
pub(crate) fn subtasks(
    manifest: &Manifest,
) -> impl Iterator<Item = (&str, usize, Option<&SnapshotRef>)> {
    manifest.operators.iter().flat_map(move |operator| {
        let name = operator.name.as_str();
        (0..operator.parallelism).map(move |index| (name, index, manifest.part(name, index)))
    })
}

/// Reads what the sinks of a checkpoint may still have to commit.
pub(crate) fn pending(
    store: &dyn Store,
    manifest: &Manifest,
) -> Result<Vec<PendingTransaction>, CommandError> {
    let mut pending = Vec::new();
    for (operator, subtask, part) in subtasks(manifest) {
        let Some(snapshot) = part else {
            let checkpoint = manifest.checkpoint;
            return Err(CommandError::Damaged(format!(
                "checkpoint {checkpoint} lacks the snapshot of `{operator}`, subtask {subtask}"
            )));
        };
        let bytes = store.read(&snapshot.root).map_err(|error| failure(&error))?;
        let broken = |error: &dyn std::fmt::Display| {
            CommandError::Damaged(format!("`{operator}`, subtask {subtask}: {error}"))
        };
        let root = Root::decode(&bytes).map_err(|error| broken(&error))?;
        let Some(entry) = root.entry(operator, COMMITTABLES) else { continue };
        let mut held = Value::Null;
        let shown = to_json(store, entry, &mut |value| {
            held = value;
            Ok(())
        });
        shown.map_err(|error| broken(&error))?;
        for one in held.as_array().into_iter().flatten() {
            let parsed = transaction(operator, subtask, one);
            pending.push(parsed.ok_or_else(|| {
                broken(&format!("{one} is not a transaction with its committable"))
            })?);
        }
    }
    Ok(pending)
}

/// `[{checkpoint, attempt: {term, number}, subtask}, committable]`
fn transaction(operator: &str, subtask: usize, value: &Value) -> Option<PendingTransaction> {
    let [txn, committable] = value.as_array()?.as_slice() else { return None };
    let attempt = txn.get("attempt")?;
    let (term, number) = (attempt.get("term")?.as_u64()?, attempt.get("number")?.as_u64()?);
    Some(PendingTransaction {
        operator: operator.into(),
        subtask,
        checkpoint: txn.get("checkpoint")?.as_u64()?,
        attempt: format!("{term}.{number}"),
        committable: committable.clone(),
    })
}

/// Who owns a store.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum StoreOwner {
    /// A process that is alive, with its id if it is known.
    Alive(Option<u64>),
    /// No process: the last owner has ended.
    Gone,
    /// Unknown: this system reveals the owner only by locking.
    Unknown,
}

impl StoreOwner {
    /// Looks who holds an owner file (SPEC 13.6). To try its lock would be to hold it for a moment,
    /// and a process that starts just then would take this one for the owner. So the system is
    /// asked for its list of locks.
    pub(crate) fn of(dir: &Path) -> Self {
        let Ok(locks) = fs::read_to_string("/proc/locks") else { return Self::Unknown };
        // Without owner files it has no owner.
        let Ok(entries) = fs::read_dir(dir.join("owners")) else { return Self::Gone };
        for entry in entries.flatten() {
            if let Some(inode) = inode(&entry.path())
                && is_locked(&locks, inode)
            {
                let said = fs::read_to_string(entry.path()).unwrap_or_default();
                let process =
                    said.lines().find_map(|line| line.strip_prefix("process ")?.parse().ok());
                return Self::Alive(process);
            }
        }
        Self::Gone
    }
}

impl std::fmt::Display for StoreOwner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Alive(Some(process)) => write!(f, "process {process}, alive"),
            Self::Alive(None) => f.write_str("alive"),
            Self::Gone => f.write_str("not alive"),
            Self::Unknown => f.write_str("unknown on this system"),
        }
    }
}

#[cfg(unix)]
fn inode(path: &Path) -> Option<u64> {
    use std::os::unix::fs::MetadataExt;
    Some(fs::metadata(path).ok()?.ino())
}

#[cfg(not(unix))]
fn inode(_: &Path) -> Option<u64> {
    None
}

/// Whether `/proc/locks` has a lock that `flock` gave on this inode. The device is not compared:
/// some file systems show another one there than to `stat`. That another's file has the same
/// number, and a lock, only makes the answer too careful.
fn is_locked(locks: &str, inode: u64) -> bool {
    let inode = inode.to_string();
    locks.lines().any(|line| {
        // `1: FLOCK  ADVISORY  WRITE 4711 fd:01:1234 0 EOF`; one that waits has `->` before the
        // kind.
        let words: Vec<&str> = line.split_whitespace().collect();
        let held = words.get(1) == Some(&"FLOCK");
        held && words.get(5).and_then(|id| id.rsplit(':').next()) == Some(&inode)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn locks_are_found_by_inode_and_not_those_that_wait() {
        let locks = "1: FLOCK  ADVISORY  WRITE 4711 fd:01:1234 0 EOF\n\
                     2: POSIX  ADVISORY  WRITE 4711 fd:01:99 0 EOF\n\
                     1: -> FLOCK  ADVISORY  WRITE 5 fd:01:77 0 EOF\n";
        assert!(is_locked(locks, 1234));
        for inode in [99, 77, 123, 0] {
            assert!(!is_locked(locks, inode), "{inode}");
        }
    }

    #[test]
    fn transactions_are_read_as_they_are_written() {
        let txn = serde_json::json!({"checkpoint": 12, "attempt": {"term": 3, "number": 1}, "subtask": 7});
        let one = serde_json::json!([txn, ["part-a", 5]]);
        let pending = transaction("out", 1, &one).expect("the value is a transaction");
        assert_eq!((pending.checkpoint, pending.attempt.as_str()), (12, "3.1"));
        assert_eq!(transaction("out", 1, &serde_json::json!([[12], 1])), None);
    }
}
