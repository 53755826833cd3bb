//! Tracks the users of a store (SPEC 13.6) with locks that the system releases when their holder
//! dies.
//!
//! That a deposed owner writes nothing rests on the fence alone. This module distinguishes a living
//! owner from a dead one, so that none is deposed by mistake. It also makes comparing the fence and
//! writing one step.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::process;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use snapline_protocol::ids::Term;

use crate::base::sync::{Mutex, MutexGuard, lock};
use crate::fs::{Files, LockFile};
use crate::store::StoreError;

/// Begins the file name of a process that has the store open and has not claimed it.
const OPEN: &str = "open-";

/// The lock under which the fence is compared and written, and names are given.
pub(super) struct FenceLock {
    path: PathBuf,
    file: Mutex<Locked>,
}

/// The state that the lock protects within this process.
struct Locked {
    file: Box<dyn LockFile>,
    owner: OwnerFile,
}

/// The lock, held.
pub(super) struct Held<'a> {
    locked: MutexGuard<'a, Locked>,
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        // Should it fail, the file stays locked until this process closes it: others wait, and
        // nothing is written twice.
        let _ = self.locked.file.unlock();
    }
}

impl Held<'_> {
    /// The owner file that this store holds.
    pub(super) fn owner(&self) -> &OwnerFile {
        &self.locked.owner
    }

    /// Holds another owner file instead, and releases the earlier one.
    pub(super) fn replace_owner(&mut self, owner: OwnerFile) {
        self.locked.owner = owner;
    }
}

impl FenceLock {
    /// Opens the lock file, waits for the lock, and runs `admit` under it, which returns the owner
    /// file that this store holds.
    pub(super) fn open(
        files: &dyn Files,
        path: PathBuf,
        admit: impl FnOnce() -> Result<OwnerFile, StoreError>,
    ) -> Result<Self, StoreError> {
        let failed =
            |error| StoreError::io(format!("opening and locking {}", path.display()), error);
        let file = files.open_lock(&path).map_err(failed)?;
        file.lock().map_err(failed)?;
        let admitted = admit();
        file.unlock().map_err(failed)?;
        let file = Mutex::new(Locked { file, owner: admitted? });
        Ok(Self { path, file })
    }

    /// Waits until no other thread or process holds the lock, and holds it.
    pub(super) fn hold(&self) -> Result<Held<'_>, StoreError> {
        let locked = lock(&self.file);
        locked
            .file
            .lock()
            .map_err(|error| StoreError::io(format!("locking {}", self.path.display()), error))?;
        Ok(Held { locked })
    }
}

/// An owner file, locked for as long as this is alive.
pub(super) struct OwnerFile {
    name: String,
    _locked: Box<dyn Send>,
}

/// The name of the file of a term's owner.
pub(super) fn of_term(term: Term) -> String {
    format!("{:010}", term.get())
}

/// The name of the file of a process that has the store open and has not claimed it.
pub(super) fn of_opener(files: &dyn Files) -> String {
    format!("{OPEN}{}", files.unique())
}

impl OwnerFile {
    /// Its file's name.
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// Makes a new file of this name and locks it, replacing an existing one. The caller holds the
    /// guard.
    pub(super) fn register(
        files: &dyn Files,
        owners: &Path,
        name: String,
    ) -> Result<Self, StoreError> {
        let path = owners.join(&name);
        let failed = |error| StoreError::io(format!("registering in {}", path.display()), error);
        // An existing file may be locked by a process that never raised the fence. It keeps its
        // lock, on a file without a name.
        match files.remove(&path) {
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(failed(error)),
            _ => {}
        }
        let since = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_secs());
        let said = format!("process {}\nsince {since}\n", process::id());
        let file = files.register(&path, &said).map_err(failed)?;
        Ok(Self { name, _locked: file })
    }
}

/// The self-description of the holder of this owner file; `None` if it is dead or was never there.
/// The caller holds the guard.
pub(super) fn holder(
    files: &dyn Files,
    owners: &Path,
    name: &str,
) -> Result<Option<String>, StoreError> {
    let path = owners.join(name);
    let failed = |error| StoreError::io(format!("inspecting owner file {}", path.display()), error);
    let said = files.holder(&path).map_err(failed)?;
    Ok(said.map(|said| introduce(&said)))
}

/// A process that has the store open and has not claimed it. The caller holds the guard.
pub(super) fn any_opener(files: &dyn Files, owners: &Path) -> Result<Option<String>, StoreError> {
    for name in names(files, owners)? {
        if name.starts_with(OPEN)
            && let Some(owner) = holder(files, owners, &name)?
        {
            return Ok(Some(owner));
        }
    }
    Ok(None)
}

/// Removes the files of dead processes that claimed nothing. The caller holds the guard.
pub(super) fn bury_openers(files: &dyn Files, owners: &Path) -> Result<(), StoreError> {
    for name in names(files, owners)? {
        if name.starts_with(OPEN) && holder(files, owners, &name)?.is_none() {
            // If it stays, it is checked again next time.
            let _ = files.remove(&owners.join(name));
        }
    }
    Ok(())
}

/// Removes every owner file but this one, also those of living processes: they are deposed. The
/// caller holds the guard, and raised the fence.
pub(super) fn remove_others(
    files: &dyn Files,
    owners: &Path,
    mine: &str,
) -> Result<(), StoreError> {
    for name in names(files, owners)? {
        if name != mine {
            // If it stays, it is of a term that is not in the fence, or the next process to open
            // checks it again.
            let _ = files.remove(&owners.join(name));
        }
    }
    Ok(())
}

fn names(files: &dyn Files, owners: &Path) -> Result<Vec<String>, StoreError> {
    files
        .list(owners)
        .map_err(|error| StoreError::io(format!("listing {}", owners.display()), error))
}

/// The content of an owner file, with its age.
fn introduce(said: &str) -> String {
    let word = |key: &str| said.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(' '));
    let Some(process) = word("process") else {
        return "another process, which has not written its id".to_owned();
    };
    let since = word("since").and_then(|since| Some(Duration::from_secs(since.parse().ok()?)));
    let since = since.and_then(|since| UNIX_EPOCH.checked_add(since));
    match since.and_then(|since| SystemTime::now().duration_since(since).ok()) {
        Some(age) => format!("process {process}, for {} s", age.as_secs()),
        None => format!("process {process}"),
    }
}
