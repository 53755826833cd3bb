//! The directory of a store (SPEC 13.1): its content, its creation, and how it is recognised.

use std::io::{ErrorKind, Read};
use std::path::{Path, PathBuf};

use snapline_protocol::fence::Fence;
use snapline_protocol::ids::{BlobId, CheckpointId};

use crate::base::fault::Mutation;
use crate::fs;
use crate::fs::{Files, Kind};
use crate::store::{StoreError, format};

/// The marker: a directory with it is a store.
const FORMAT: &str = "FORMAT";
const FENCE: &str = "fence";
const LOCK: &str = "LOCK";
const OWNERS: &str = "owners";
const BLOBS: &str = "blobs";
const CHECKPOINTS: &str = "checkpoints";
const TMP: &str = "tmp";

/// Ends the name of every unfinished file.
pub(super) const UNFINISHED: &str = ".tmp";

/// A directory, and the file system it is in.
pub(super) struct Layout {
    /// The directory, as an absolute path.
    pub(super) dir: PathBuf,
    /// The file system.
    pub(super) files: Box<dyn Files>,
}

impl Layout {
    /// Names the directory, without access to it.
    pub(super) fn new(files: Box<dyn Files>, dir: &Path) -> Result<Self, StoreError> {
        let dir = std::path::absolute(dir)
            .map_err(|error| StoreError::io(format!("naming {}", dir.display()), error))?;
        Ok(Self { dir, files })
    }

    pub(super) fn lock(&self) -> PathBuf {
        self.dir.join(LOCK)
    }

    pub(super) fn fence(&self) -> PathBuf {
        self.dir.join(FENCE)
    }

    pub(super) fn owners(&self) -> PathBuf {
        self.dir.join(OWNERS)
    }

    pub(super) fn blobs(&self) -> PathBuf {
        self.dir.join(BLOBS)
    }

    pub(super) fn checkpoints(&self) -> PathBuf {
        self.dir.join(CHECKPOINTS)
    }

    pub(super) fn tmp(&self) -> PathBuf {
        self.dir.join(TMP)
    }

    pub(super) fn blob(&self, id: BlobId) -> PathBuf {
        self.blobs().join(format::blob_name(id))
    }

    pub(super) fn manifest(&self, checkpoint: CheckpointId) -> PathBuf {
        self.checkpoints().join(format::manifest_name(checkpoint))
    }

    /// Whether the directory is a store; an error if it is something else, or of a version that is
    /// unknown to this build. Writes nothing.
    pub(super) fn recognise(&self) -> Result<bool, StoreError> {
        let what = self.dir.display().to_string();
        match self.kind(&self.dir)? {
            Kind::Nothing => return Ok(false),
            Kind::File(_) => {
                return Err(StoreError::NotAStore { what, found: "a file".to_owned() });
            }
            Kind::Directory => {}
        }
        let marker = self.dir.join(FORMAT);
        if self.kind(&marker)? != Kind::Nothing {
            format::decode_marker(&marker.display().to_string(), &self.read(&marker)?)?;
            return Ok(true);
        }
        // SPEC 13.1: without a marker it is a store whose making was cut short, before anything was
        // put into it; or it is foreign.
        for name in self.list(&self.dir)? {
            let ours = [FENCE, LOCK, OWNERS, BLOBS, CHECKPOINTS, TMP].contains(&name.as_str());
            // A dedicated file system has the first at its root; the other is of a sync that was
            // cut short.
            if !ours && name != "lost+found" && name != fs::STIR {
                let found = format!("no {FORMAT} in it, but {name:?}");
                return Err(StoreError::NotAStore { what, found });
            }
        }
        let mut used = false;
        for directory in [self.blobs(), self.checkpoints()] {
            used |= self.kind(&directory)? == Kind::Directory && !self.list(&directory)?.is_empty();
        }
        if self.kind(&self.fence())? != Kind::Nothing {
            used |= self.read(&self.fence())? != format::encode_fence(&Fence::default());
        }
        if used {
            return Err(StoreError::Missing { what: marker.display().to_string() });
        }
        Ok(false)
    }

    /// Makes the directory and its ancestors, if missing.
    pub(super) fn make_directory(&self) -> Result<(), StoreError> {
        self.make_with_ancestors(&self.dir)
    }

    fn make_with_ancestors(&self, path: &Path) -> Result<(), StoreError> {
        let parent = path.parent().unwrap_or(path);
        if parent != path && self.kind(path)? == Kind::Nothing {
            if let (Kind::Directory, Some(above)) = (self.kind(parent)?, parent.parent()) {
                // An earlier start may have made it and failed to make its name durable. It may
                // also have been there before, and be foreign.
                let _ = self.files.stir(above).and_then(|()| self.files.sync_directory(above));
            }
            self.make_with_ancestors(parent)?;
        }
        match self.make(path)? {
            true => self.sync(parent),
            false => Ok(()),
        }
    }

    /// Makes a directory if missing; returns whether it did. Its name is durable when the directory
    /// that it is in is synced.
    fn make(&self, path: &Path) -> Result<bool, StoreError> {
        match self.kind(path)? {
            Kind::Directory => return Ok(false),
            Kind::File(_) => {
                let what = path.display().to_string();
                return Err(StoreError::NotAStore { what, found: "a file".to_owned() });
            }
            Kind::Nothing => {}
        }
        match self.files.make_directory(path) {
            Err(error) if error.kind() != ErrorKind::AlreadyExists => {
                Err(StoreError::io(format!("making directory {}", path.display()), error))
            }
            _ => Ok(true),
        }
    }

    /// Makes a store of the directory. The caller holds the guard. The marker comes last: with it,
    /// everything is there and durable.
    pub(super) fn initialise(&self) -> Result<(), StoreError> {
        // If its making was cut short, its name may not be durable.
        if let Some(parent) = self.dir.parent() {
            // Where the directory was there before, its parent may be read-only to this process.
            let _ = self.files.stir(parent);
            self.sync(parent)?;
        }
        for ancestor in self.dir.ancestors().skip(2) {
            // Most were there before, and this process may lack permission to read them.
            let _ = self.files.sync_directory(ancestor);
        }
        for directory in [self.blobs(), self.checkpoints(), self.owners(), self.tmp()] {
            self.make(&directory)?;
        }
        self.sync_anew(&self.dir)?;
        self.put(&self.fence(), &format::encode_fence(&Fence::default()))?;
        self.put(&self.dir.join(FORMAT), &format::encode_marker())
    }

    /// Makes the directories that hold nothing durable, which a copy of a store may lack. The
    /// caller holds the guard.
    pub(super) fn restore_directories(&self) -> Result<(), StoreError> {
        for directory in [self.owners(), self.tmp()] {
            if self.make(&directory)? {
                self.sync(&self.dir)?;
            }
        }
        Ok(())
    }

    /// Begins an unfinished file; returns its path.
    pub(super) fn begin(&self, name: &str) -> Result<(PathBuf, Box<dyn fs::Output>), StoreError> {
        loop {
            let path = self.tmp().join(format!("{name}.{}{UNFINISHED}", self.files.unique()));
            match self.files.create(&path) {
                Ok(output) => return Ok((path, output)),
                // Left by an earlier process of the same number. It is removed with the next
                // deletion.
                Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
                Err(error) => {
                    return Err(StoreError::io(format!("creating {}", path.display()), error));
                }
            }
        }
    }

    /// Writes a file whole or not at all, replacing one of its name (SPEC 13.7). The caller holds
    /// the guard.
    pub(super) fn put(&self, path: &Path, bytes: &[u8]) -> Result<(), StoreError> {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let (unfinished, mut output) = self.begin(&name)?;
        let written = output
            .write(bytes)
            .and_then(|()| match self.files.faults().is_active(Mutation::RenameBeforeSync) {
                true => Ok(()),
                false => output.sync(),
            })
            .map_err(|error| StoreError::io(format!("writing {}", path.display()), error));
        drop(output);
        let put = written.and_then(|()| self.rename(&unfinished, path));
        if put.is_err() {
            // If it stays, a later deletion sweeps it.
            let _ = self.files.remove(&unfinished);
        }
        put?;
        if self.files.faults().is_active(Mutation::NameNotSynced) {
            return Ok(());
        }
        let directory = path.parent().unwrap_or(&self.dir);
        self.sync(directory).map_err(behind_the_effect)
    }

    /// Renames an unfinished file to its name.
    pub(super) fn rename(&self, from: &Path, to: &Path) -> Result<(), StoreError> {
        self.files.rename(from, to).map_err(|error| {
            // SPEC 2.5: these come before any change; any other error may come too late.
            let refused = matches!(
                error.kind(),
                ErrorKind::StorageFull
                    | ErrorKind::QuotaExceeded
                    | ErrorKind::ReadOnlyFilesystem
                    | ErrorKind::PermissionDenied
                    | ErrorKind::NotFound
            );
            let doing = format!("naming {}", to.display());
            StoreError::Io { doing, error, unknown: !refused }
        })
    }

    pub(super) fn sync(&self, directory: &Path) -> Result<(), StoreError> {
        self.files.sync_directory(directory).map_err(|error| {
            StoreError::io(format!("syncing directory {}", directory.display()), error)
        })
    }

    /// Makes the names in a directory durable, also those that an earlier sync of any process
    /// failed to.
    pub(super) fn sync_anew(&self, directory: &Path) -> Result<(), StoreError> {
        self.files.stir(directory).map_err(|error| {
            StoreError::io(format!("making a file in {}", directory.display()), error)
        })?;
        self.sync(directory)
    }

    pub(super) fn kind(&self, path: &Path) -> Result<Kind, StoreError> {
        self.files
            .kind(path)
            .map_err(|error| StoreError::io(format!("inspecting {}", path.display()), error))
    }

    pub(super) fn list(&self, directory: &Path) -> Result<Vec<String>, StoreError> {
        self.files
            .list(directory)
            .map_err(|error| StoreError::io(format!("listing {}", directory.display()), error))
    }

    /// Reads a whole text.
    pub(super) fn read(&self, path: &Path) -> Result<Vec<u8>, StoreError> {
        let mut bytes = Vec::new();
        let read = self.open(path)?.take(format::LONGEST_TEXT + 1).read_to_end(&mut bytes);
        read.map_err(|error| reading(path, error))?;
        if bytes.len() as u64 > format::LONGEST_TEXT {
            let expected = format!("a text of at most {} bytes", format::LONGEST_TEXT);
            return Err(StoreError::corrupt(path.display().to_string(), expected, "a longer file"));
        }
        Ok(bytes)
    }

    /// Opens a file to read it. Distinguishes a missing file from a missing directory.
    pub(super) fn open(&self, path: &Path) -> Result<Box<dyn fs::Input>, StoreError> {
        self.files.open(path).map_err(|error| {
            let gone = error.kind() == ErrorKind::NotFound;
            let directory = path.parent().unwrap_or(&self.dir);
            match self.files.kind(directory) {
                Ok(Kind::Directory) if gone => {
                    StoreError::Missing { what: path.display().to_string() }
                }
                _ => reading(path, error),
            }
        })
    }

    /// Removes a file; a missing one counts as removed. Returns whether it was there.
    pub(super) fn remove(&self, path: &Path) -> Result<bool, StoreError> {
        match self.files.remove(path) {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
            Err(error) => Err(StoreError::io(format!("deleting {}", path.display()), error)),
        }
    }
}

/// An error of reading a file. That a directory has the name is certain; every other error may be
/// temporary.
pub(super) fn reading(path: &Path, error: std::io::Error) -> StoreError {
    let what = path.display().to_string();
    match error.kind() {
        ErrorKind::IsADirectory => StoreError::corrupt(what, "a file", "a directory"),
        _ => StoreError::io(format!("reading {what}"), error),
    }
}

/// An error of a step that makes durable what is already visible.
pub(super) fn behind_the_effect(error: StoreError) -> StoreError {
    match error {
        StoreError::Io { doing, error, .. } => StoreError::unknown(doing, error),
        other => other,
    }
}
