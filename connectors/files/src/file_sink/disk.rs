//! Durable steps on directories, the lock, the owner and the fence.

use std::io::{ErrorKind, Read};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use snapline_protocol::ids::Attempt;

use super::layout::Layout;
use snapline_core::base::fault::Mutation;
use snapline_core::connect::ConnectError;
use snapline_core::fs::{Files, Kind, LockFile};

/// A lock, held until dropped. Every call opens the file anew, so that threads of one process
/// exclude each other too.
pub(super) struct Lock {
    _file: Box<dyn LockFile>,
}

impl Lock {
    /// Waits until no other lock is held.
    pub(super) fn alone(layout: &Layout) -> Result<Self, ConnectError> {
        Self::take(layout, true)
    }

    /// Waits until no exclusive lock is held.
    pub(super) fn shared(layout: &Layout) -> Result<Self, ConnectError> {
        Self::take(layout, false)
    }

    fn take(layout: &Layout, alone: bool) -> Result<Self, ConnectError> {
        let path = layout.lock();
        let file = layout.files.open_lock(&path).map_err(ConnectError::io("open", &path))?;
        loop {
            match if alone { file.lock() } else { file.lock_shared() } {
                Ok(()) => return Ok(Self { _file: file }),
                // A signal interrupted the wait.
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(ConnectError::io("lock", &path)(error)),
            }
        }
    }
}

/// Makes the directories, and claims the operator's own one for this job; fails if another job owns
/// them. Returns the name of the place.
pub(super) fn claim(layout: &Layout) -> Result<String, ConnectError> {
    let files = &*layout.files;
    let there = |dir: &Path| files.kind(dir).is_ok_and(|kind| kind != Kind::Nothing);
    let missing = layout.own.ancestors().filter(|dir| !there(dir)).count();
    // Directories that jobs of several users share; the private ones are within.
    make_directories(files, layout.own.parent().unwrap_or(&layout.dir), true)?;
    for dir in [&layout.open, &layout.prepared] {
        make_directories(files, dir, false)?;
    }
    files.check_owner(&layout.own).map_err(ConnectError::io("use the directory", &layout.own))?;
    let lock = Lock::alone(layout)?;
    let path = layout.owner();
    let (job, operator) = (layout.context.job.clone(), layout.context.operator.clone());
    let mut mine = SinkOwner { format: 1, job, operator, place: None };
    let found = read_json::<SinkOwner>(files, &path)?;
    mine.place = found.as_ref().and_then(|owner| owner.place.clone());
    match found {
        Some(owner) if owner != mine => {
            let (owner, wanted) = ((owner.job, owner.operator), (mine.job, mine.operator));
            return Err(ConnectError::Owned { path, owner, wanted });
        }
        _ => {}
    }
    let place = match &mine.place {
        Some(place) => place.clone(),
        None => {
            let place = files.identity();
            mine.place = Some(place.clone());
            write_json(files, &path, &mine)?;
            place
        }
    };
    // The rest is slow, and other subtasks do it too: if it fails for one of them, the attempt
    // fails, and the next repeats it.
    drop(lock);
    // The process that made the directories and the file may have crashed before they were durable,
    // or failed to make them so.
    for dir in layout.own.ancestors().take(3).filter(|_| missing == 0) {
        stir(files, dir)?;
    }
    if let Some(above) = layout.dir.parent().filter(|_| missing == 0) {
        // This process may not own it: then no earlier run of it has made the directory in it.
        let _ = files.stir(named(above));
    }
    sync_dir(files, &layout.own)?;
    for dir in layout.own.ancestors().skip(1).take(missing.max(3)) {
        // Up to the parent of the sink's directory.
        sync_dir(files, named(dir))?;
    }
    Ok(place)
}

/// A relative directory of a single name is in the current one.
fn named(dir: &Path) -> &Path {
    if dir.as_os_str().is_empty() { Path::new(".") } else { dir }
}

/// Makes a directory and its missing parents: readable for others, or for the sink alone. The name
/// of each is durable before the next is made in it.
fn make_directories(files: &dyn Files, dir: &Path, public: bool) -> Result<(), ConnectError> {
    let failed = ConnectError::io("make the directory", dir);
    if dir.as_os_str().is_empty() {
        return Ok(());
    }
    match files.kind(dir) {
        Ok(Kind::Directory) => return Ok(()),
        Ok(_) => {}
        Err(error) => return Err(failed(error)),
    }
    let parent = named(dir.parent().unwrap_or(dir));
    if let (Ok(Kind::Directory), Some(above)) = (files.kind(parent), parent.parent()) {
        // An earlier start may have made it and failed to make its name durable. Or it existed
        // before, and belongs to another user.
        let _ = files.stir(named(above)).and_then(|()| files.sync_directory(named(above)));
    }
    if parent != dir {
        make_directories(files, parent, public)?;
    }
    let made = if public { files.make_public_directory(dir) } else { files.make_directory(dir) };
    match made {
        Err(error) if error.kind() != ErrorKind::AlreadyExists => Err(failed(error)),
        // Another process made it meanwhile; or a file is there, which the next use of it reports.
        _ => sync_dir(files, parent),
    }
}

#[derive(PartialEq, Serialize, Deserialize)]
struct SinkOwner {
    format: u32,
    job: String,
    operator: String,
    /// A random name, by which committables know the directory. The first version did not have it.
    #[serde(default)]
    place: Option<String>,
}

/// The attempt in the fence, if it was ever raised.
pub(super) fn read_fence(layout: &Layout) -> Result<Option<Attempt>, ConnectError> {
    read_json(&*layout.files, &layout.fence())
}

/// Fails if a later attempt than `attempt` is in the fence.
pub(super) fn check_fence(layout: &Layout, attempt: Attempt) -> Result<(), ConnectError> {
    match read_fence(layout)? {
        Some(fence) if fence > attempt => Err(fenced(layout, attempt, fence)),
        _ => Ok(()),
    }
}

/// Raises the fence durably; the lock is held exclusively. Returns true if another subtask raised
/// it already. Then it must be made durable ([`sync_fence`]): that subtask may have crashed, or
/// failed, before it was.
pub(super) fn raise_fence(layout: &Layout, attempt: Attempt) -> Result<bool, ConnectError> {
    if layout.files.faults().is_active(Mutation::SinkNotFenced) {
        return Ok(false);
    }
    match read_fence(layout)? {
        Some(fence) if fence > attempt => Err(fenced(layout, attempt, fence)),
        Some(fence) if fence == attempt => Ok(true),
        _ => write_json(&*layout.files, &layout.fence(), &attempt).map(|()| false),
    }
}

/// Makes a visible fence durable. It needs no lock.
pub(super) fn sync_fence(layout: &Layout) -> Result<(), ConnectError> {
    stir(&*layout.files, &layout.own)?;
    sync_dir(&*layout.files, &layout.own)
}

fn fenced(layout: &Layout, attempt: Attempt, fence: Attempt) -> ConnectError {
    let operator = layout.context.operator.clone();
    ConnectError::Fenced { operator, attempt, fence, place: layout.fence().display().to_string() }
}

/// The sink's own files are shorter: names, numbers, and a record that is rewritten when it is
/// long.
const LONGEST: u64 = 1 << 20;

/// The content of a file, if it is there.
pub(super) fn read(files: &dyn Files, path: &Path) -> Result<Option<Vec<u8>>, ConnectError> {
    let mut bytes = Vec::new();
    match files.open(path).and_then(|file| file.take(LONGEST + 1).read_to_end(&mut bytes)) {
        Ok(_) if bytes.len() as u64 > LONGEST => Err(ConnectError::Damaged {
            path: path.to_owned(),
            why: format!("longer than the {LONGEST} bytes that a file sink writes there at most"),
        }),
        Ok(_) => Ok(Some(bytes)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(ConnectError::io("read", path)(error)),
    }
}

fn read_json<T: serde::de::DeserializeOwned>(
    files: &dyn Files,
    path: &Path,
) -> Result<Option<T>, ConnectError> {
    let Some(bytes) = read(files, path)? else { return Ok(None) };
    let damaged = |error| ConnectError::Damaged {
        path: path.to_owned(),
        why: format!("not what a file sink writes there: {error}"),
    };
    serde_json::from_slice(&bytes).map(Some).map_err(damaged)
}

fn write_json<T: Serialize>(files: &dyn Files, path: &Path, value: &T) -> Result<(), ConnectError> {
    let mut text = serde_json::to_vec(value).expect("names and numbers can be written as JSON");
    text.push(b'\n');
    replace(files, path, &text)
}

/// Replaces a file by these bytes, durably: a reader sees the old ones or the new ones.
pub(super) fn replace(files: &dyn Files, path: &Path, bytes: &[u8]) -> Result<(), ConnectError> {
    let new = path.with_extension("new");
    let write = || {
        match files.remove(&new) {
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let mut file = files.create(&new)?;
        file.write(bytes)?;
        file.sync()
    };
    write().map_err(ConnectError::io("write", &new))?;
    rename(files, &new, path)?;
    sync_dir(files, path.parent().expect("it was made by joining a directory and a name"))
}

pub(super) fn rename(files: &dyn Files, from: &Path, to: &Path) -> Result<(), ConnectError> {
    files.rename(from, to).map_err(ConnectError::io("rename into its place", from))
}

/// Removes a file; returns true if it was there.
pub(super) fn remove(files: &dyn Files, path: &Path) -> Result<bool, ConnectError> {
    match files.remove(path) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
        Err(error) => Err(ConnectError::io("remove", path)(error)),
    }
}

/// The length of a file; `None` if it is not there.
pub(super) fn length(files: &dyn Files, path: &Path) -> Result<Option<u64>, ConnectError> {
    files.length(path).map_err(ConnectError::io("inspect", path))
}

/// The names of a directory's files. Those that are not UTF-8 are not ours.
pub(super) fn names(files: &dyn Files, dir: &Path) -> Result<Vec<(String, PathBuf)>, ConnectError> {
    let mut names = files.list(dir).map_err(ConnectError::io("list", dir))?;
    names.sort();
    Ok(names.into_iter().map(|name| (name.clone(), dir.join(name))).collect())
}

/// Changes a directory, so that a sync after one that may have failed has something to do.
pub(super) fn stir(files: &dyn Files, dir: &Path) -> Result<(), ConnectError> {
    files.stir(dir).map_err(ConnectError::io("make a file in", dir))
}

/// Makes the names in a directory durable. Where directories cannot be synced, the file system does
/// that itself.
pub(super) fn sync_dir(files: &dyn Files, dir: &Path) -> Result<(), ConnectError> {
    if cfg!(unix) {
        files.sync_directory(dir).map_err(ConnectError::io("sync the directory", dir))?;
    }
    Ok(())
}

#[cfg(all(test, unix, not(snapline_loom)))]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    use snapline_protocol::ids::Term;

    use super::*;
    use snapline_core::base::sync::Arc;
    use snapline_core::connect::OpenContext;
    use snapline_core::fs::Disk;

    #[test]
    fn what_is_private_is_the_operators_directory_and_not_what_jobs_share() {
        let place = tempfile::tempdir().expect("a directory");
        let at = |name: &str| place.path().join(name);
        let attempt = Attempt { term: Term::new(1), number: 1 };
        let context = OpenContext::new("job", "one", 0, 1, attempt);
        let files: Arc<dyn Files> = Arc::new(Disk);
        let layout = Layout::of(&files, &at("out"), "csv", &context).expect("a layout");
        claim(&layout).expect("claims");
        fs::create_dir(at("their")).expect("makes");
        let mode =
            |name: &str| fs::metadata(at(name)).expect("it is there").permissions().mode() & 0o777;
        assert_eq!([mode("out"), mode("out/.snapline")], [mode("their"); 2]);
        for private in ["out/.snapline/one", "out/.snapline/one/open"] {
            assert_eq!(mode(private) & 0o077, 0, "{private}");
        }
    }
}
