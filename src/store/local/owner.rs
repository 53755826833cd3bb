//! Who uses a store (SPEC 13.6): locks that the system releases when their holder dies.
//!
//! That a deposed owner writes nothing rests on the fence alone. What is here tells a living owner from a dead one, so that nobody is
//! deposed by mistake; and it makes comparing the fence and writing one step.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{ErrorKind, Read, Write};
use std::path::{Path, PathBuf};
use std::process;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use snapline_protocol::ids::Term;

use crate::store::StoreError;
use crate::sync::{AtomicU64, Mutex, MutexGuard, Ordering, lock};

/// Begins the name of one who has the store open and has not claimed it.
const OPEN: &str = "open-";

/// Numbers what one process names, so that two of its stores name nothing alike.
static COUNT: AtomicU64 = AtomicU64::new(0);

/// A name no other living process uses, nor this one again.
pub(super) fn unique() -> String {
    format!("{}-{}", process::id(), COUNT.fetch_add(1, Ordering::Relaxed))
}

/// The lock under which the fence is compared and written, and names are given.
pub(super) struct Guard {
    path: PathBuf,
    file: Mutex<Locked>,
}

/// What the lock protects within this process.
struct Locked {
    file: File,
    owner: Owner,
}

/// The lock, held.
pub(super) struct Held<'a> {
    locked: MutexGuard<'a, Locked>,
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        // Should it fail the file stays locked until this process closes it: others wait, and nothing is written twice.
        let _ = self.locked.file.unlock();
    }
}

impl Held<'_> {
    /// The owner file that this store holds.
    pub(super) fn owner(&self) -> &Owner {
        &self.locked.owner
    }

    /// Holds another owner file instead. The one held before is released.
    pub(super) fn replace_owner(&mut self, owner: Owner) {
        self.locked.owner = owner;
    }
}

impl Guard {
    /// Opens the lock file, waits for the lock, and runs `admit` under it, which says whose owner file this store holds.
    pub(super) fn open(
        path: PathBuf,
        admit: impl FnOnce() -> Result<Owner, StoreError>,
    ) -> Result<Self, StoreError> {
        let failed =
            |error| StoreError::io(format!("opening and locking {}", path.display()), error);
        // The file is empty and stays so: that it was once there need not be durable.
        let file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .open(&path)
            .map_err(failed)?;
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
pub(super) struct Owner {
    name: String,
    _locked: File,
}

/// The name of the file of a term's owner.
pub(super) fn of_term(term: Term) -> String {
    format!("{:010}", term.get())
}

/// The name of the file of one that has the store open and has not claimed it.
pub(super) fn of_opener() -> String {
    format!("{OPEN}{}", unique())
}

impl Owner {
    /// Its file's name.
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// Makes a new file of this name and locks it, in the place of what there is. The caller holds the guard.
    pub(super) fn register(owners: &Path, name: String) -> Result<Self, StoreError> {
        let path = owners.join(&name);
        let failed = |error| StoreError::io(format!("registering in {}", path.display()), error);
        // A file that is there may be locked by one who never raised the fence. It keeps its lock, on a file without a name.
        match fs::remove_file(&path) {
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(failed(error)),
            _ => {}
        }
        let mut file =
            OpenOptions::new().write(true).create_new(true).open(&path).map_err(failed)?;
        file.lock().map_err(failed)?;
        let since = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_secs());
        writeln!(file, "process {}\nsince {since}", process::id()).map_err(failed)?;
        Ok(Self { name, _locked: file })
    }
}

/// What the one who holds this owner file says of itself; `None` if it is dead or was never there. The caller holds the guard.
pub(super) fn holder(owners: &Path, name: &str) -> Result<Option<String>, StoreError> {
    let path = owners.join(name);
    let failed = |error| StoreError::io(format!("looking at owner file {}", path.display()), error);
    let mut file = match File::open(&path) {
        Ok(file) => file,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(failed(error)),
    };
    match file.try_lock() {
        Ok(()) => Ok(None),
        Err(TryLockError::WouldBlock) => {
            let mut said = Vec::new();
            file.read_to_end(&mut said).map_err(failed)?;
            Ok(Some(introduce(&String::from_utf8_lossy(&said))))
        }
        Err(TryLockError::Error(error)) => Err(failed(error)),
    }
}

/// Whoever has the store open and has not claimed it. The caller holds the guard.
pub(super) fn any_opener(owners: &Path) -> Result<Option<String>, StoreError> {
    for name in names(owners)? {
        if name.starts_with(OPEN)
            && let Some(owner) = holder(owners, &name)?
        {
            return Ok(Some(owner));
        }
    }
    Ok(None)
}

/// Removes the files of the dead that claimed nothing. The caller holds the guard.
pub(super) fn bury_openers(owners: &Path) -> Result<(), StoreError> {
    for name in names(owners)? {
        if name.starts_with(OPEN) && holder(owners, &name)?.is_none() {
            // One that stays is looked at again next time.
            let _ = fs::remove_file(owners.join(name));
        }
    }
    Ok(())
}

/// Removes every owner file but this one, the living's too: they are deposed. The caller holds the guard, and raised the fence.
pub(super) fn remove_others(owners: &Path, mine: &str) -> Result<(), StoreError> {
    for name in names(owners)? {
        if name != mine {
            // One that stays is of a term that is not in the fence, or is looked at again by the next to open.
            let _ = fs::remove_file(owners.join(name));
        }
    }
    Ok(())
}

fn names(owners: &Path) -> Result<Vec<String>, StoreError> {
    let failed = |error| StoreError::io(format!("listing {}", owners.display()), error);
    let mut names = Vec::new();
    for entry in fs::read_dir(owners).map_err(failed)? {
        names.extend(entry.map_err(failed)?.file_name().into_string().ok());
    }
    Ok(names)
}

/// What an owner file says, with how long it has been so.
fn introduce(said: &str) -> String {
    let word = |key: &str| said.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(' '));
    let Some(process) = word("process") else {
        return "another process, which has not said which".to_owned();
    };
    let since = word("since").and_then(|since| Some(Duration::from_secs(since.parse().ok()?)));
    match since.and_then(|since| SystemTime::now().duration_since(UNIX_EPOCH + since).ok()) {
        Some(age) => format!("process {process}, for {} s", age.as_secs()),
        None => format!("process {process}"),
    }
}
