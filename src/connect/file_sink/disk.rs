//! Durable steps on directories, the lock, the owner and the fence.

use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use snapline_protocol::ids::Attempt;

use super::super::ConnectError;
use super::layout::Layout;

/// Held until dropped. Every call opens the file anew, so that threads of one process keep each other out too.
pub(super) struct Lock {
    _file: File,
}

impl Lock {
    /// Waits until nobody else holds it.
    pub(super) fn alone(layout: &Layout) -> Result<Self, ConnectError> {
        Self::take(layout, File::lock)
    }

    /// Waits until nobody holds it alone.
    pub(super) fn shared(layout: &Layout) -> Result<Self, ConnectError> {
        Self::take(layout, File::lock_shared)
    }

    fn take(layout: &Layout, lock: fn(&File) -> io::Result<()>) -> Result<Self, ConnectError> {
        let path = layout.lock();
        let file = OpenOptions::new().create(true).truncate(false).write(true).open(&path);
        let file = file.map_err(ConnectError::io("open", &path))?;
        loop {
            match lock(&file) {
                Ok(()) => return Ok(Self { _file: file }),
                // A signal came while waiting.
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(ConnectError::io("lock", &path)(error)),
            }
        }
    }
}

/// Makes the directories, and the operator's own this job's; refuses if they are another's.
pub(super) fn claim(layout: &Layout) -> Result<(), ConnectError> {
    let missing = layout.own.ancestors().filter(|dir| !dir.exists()).count();
    for dir in [&layout.open, &layout.prepared] {
        fs::create_dir_all(dir).map_err(ConnectError::io("make the directory", dir))?;
    }
    let _lock = Lock::alone(layout)?;
    let path = layout.owner();
    let (job, operator) = (layout.context.job.clone(), layout.context.operator.clone());
    let mine = Owner { format: 1, job, operator };
    match read_json::<Owner>(&path)? {
        Some(owner) if owner == mine => {}
        Some(owner) => {
            let (owner, wanted) = ((owner.job, owner.operator), (mine.job, mine.operator));
            return Err(ConnectError::Owned { path, owner, wanted });
        }
        None => write_json(&path, &mine)?,
    }
    // Whoever made the directories and the file may have crashed before they were durable.
    sync_dir(&layout.own)?;
    for dir in layout.own.ancestors().skip(1).take(missing.max(3)) {
        // Up to the one that the sink's directory is in; a relative one of a single name is in the current directory.
        sync_dir(if dir.as_os_str().is_empty() { Path::new(".") } else { dir })?;
    }
    Ok(())
}

#[derive(PartialEq, Serialize, Deserialize)]
struct Owner {
    format: u32,
    job: String,
    operator: String,
}

/// The attempt in the fence, if it was ever raised.
pub(super) fn read_fence(layout: &Layout) -> Result<Option<Attempt>, ConnectError> {
    read_json(&layout.fence())
}

/// Fails if a later attempt than `attempt` is in the fence.
pub(super) fn check_fence(layout: &Layout, attempt: Attempt) -> Result<(), ConnectError> {
    match read_fence(layout)? {
        Some(fence) if fence > attempt => Err(fenced(layout, attempt, fence)),
        _ => Ok(()),
    }
}

/// Raises the fence durably; the lock is held alone.
pub(super) fn raise_fence(layout: &Layout, attempt: Attempt) -> Result<(), ConnectError> {
    match read_fence(layout)? {
        Some(fence) if fence > attempt => Err(fenced(layout, attempt, fence)),
        // Another subtask raised it, and may have crashed before it was durable.
        Some(fence) if fence == attempt => sync_dir(&layout.own),
        _ => write_json(&layout.fence(), &attempt),
    }
}

fn fenced(layout: &Layout, attempt: Attempt, fence: Attempt) -> ConnectError {
    let operator = layout.context.operator.clone();
    ConnectError::Fenced { operator, attempt, fence, place: layout.fence().display().to_string() }
}

fn read_json<T: serde::de::DeserializeOwned>(path: &Path) -> Result<Option<T>, ConnectError> {
    let bytes = match fs::read(path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(ConnectError::io("read", path)(error)),
    };
    let damaged = |error| ConnectError::Damaged {
        path: path.to_owned(),
        why: format!("not what a file sink writes there: {error}"),
    };
    serde_json::from_slice(&bytes).map(Some).map_err(damaged)
}

fn write_json<T: Serialize>(path: &Path, value: &T) -> Result<(), ConnectError> {
    let mut text = serde_json::to_vec(value).expect("names and numbers can be written as JSON");
    text.push(b'\n');
    replace(path, &text)
}

/// Puts these bytes in a file's place, durably: a reader sees the old ones or the new ones.
pub(super) fn replace(path: &Path, bytes: &[u8]) -> Result<(), ConnectError> {
    let new = path.with_extension("new");
    let write = || {
        let mut file = File::create(&new)?;
        file.write_all(bytes)?;
        file.sync_all()
    };
    write().map_err(ConnectError::io("write", &new))?;
    rename(&new, path)?;
    sync_dir(path.parent().expect("it was made by joining a directory and a name"))
}

pub(super) fn rename(from: &Path, to: &Path) -> Result<(), ConnectError> {
    fs::rename(from, to).map_err(ConnectError::io("rename into its place", from))
}

/// Removes a file; says whether it was there.
pub(super) fn remove(path: &Path) -> Result<bool, ConnectError> {
    match fs::remove_file(path) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
        Err(error) => Err(ConnectError::io("remove", path)(error)),
    }
}

/// How long a file is, or that it is not there.
pub(super) fn length(path: &Path) -> Result<Option<u64>, ConnectError> {
    match fs::symlink_metadata(path) {
        Ok(data) => Ok(Some(data.len())),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(ConnectError::io("look at", path)(error)),
    }
}

/// The names of a directory's files. Those that are not UTF-8 are not ours.
pub(super) fn names(dir: &Path) -> Result<Vec<(String, PathBuf)>, ConnectError> {
    let mut names = Vec::new();
    for entry in fs::read_dir(dir).map_err(ConnectError::io("list", dir))? {
        let entry = entry.map_err(ConnectError::io("list", dir))?;
        if let Ok(name) = entry.file_name().into_string() {
            names.push((name, entry.path()));
        }
    }
    names.sort();
    Ok(names)
}

/// Makes the names in a directory durable. Where directories cannot be synced the file system does it by itself.
pub(super) fn sync_dir(dir: &Path) -> Result<(), ConnectError> {
    if cfg!(unix) {
        let sync = File::open(dir).and_then(|dir| dir.sync_all());
        sync.map_err(ConnectError::io("sync the directory", dir))?;
    }
    Ok(())
}
