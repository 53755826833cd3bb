//! The file system as a store in a directory uses it: a seam, so that tests can fail any call of it, or take the power away.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, Write};
use std::path::Path;

/// What there is under a name.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Kind {
    /// Nothing.
    Nothing,
    /// A directory.
    Directory,
    /// A file, of this length; or anything else that is no directory.
    File(u64),
}

/// A file being written.
pub(super) trait Output: Send {
    /// Appends all of the bytes.
    fn write(&mut self, bytes: &[u8]) -> io::Result<()>;

    /// Makes the content durable; the name is its directory's business.
    fn sync(&mut self) -> io::Result<()>;
}

/// A file being read.
pub(super) trait Input: Read + Seek + Send {
    /// Its length in bytes.
    fn length(&self) -> io::Result<u64>;
}

/// A file system. Locks are not among it: they are between processes, and durable in no sense.
pub(super) trait Files: Send + Sync + 'static {
    /// Begins a file; fails if the name is taken.
    fn create(&self, path: &Path) -> io::Result<Box<dyn Output>>;

    /// Opens a file to read it.
    fn open(&self, path: &Path) -> io::Result<Box<dyn Input>>;

    /// What there is under a name.
    fn kind(&self, path: &Path) -> io::Result<Kind>;

    /// The names in a directory that are Unicode, in any order; none of a store's are anything else.
    fn list(&self, directory: &Path) -> io::Result<Vec<String>>;

    /// Renames a file over whatever has the name, at once.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;

    /// Removes a file.
    fn remove(&self, path: &Path) -> io::Result<()>;

    /// Makes a directory.
    fn make_directory(&self, path: &Path) -> io::Result<()>;

    /// Makes the names in a directory durable.
    fn sync_directory(&self, path: &Path) -> io::Result<()>;
}

/// The operating system's files.
pub(super) struct Disk;

impl Output for File {
    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.write_all(bytes)
    }

    fn sync(&mut self) -> io::Result<()> {
        self.sync_all()
    }
}

impl Input for File {
    fn length(&self) -> io::Result<u64> {
        Ok(self.metadata()?.len())
    }
}

impl Files for Disk {
    fn create(&self, path: &Path) -> io::Result<Box<dyn Output>> {
        Ok(Box::new(OpenOptions::new().write(true).create_new(true).open(path)?))
    }

    fn open(&self, path: &Path) -> io::Result<Box<dyn Input>> {
        Ok(Box::new(File::open(path)?))
    }

    fn kind(&self, path: &Path) -> io::Result<Kind> {
        match fs::metadata(path) {
            Ok(found) if found.is_dir() => Ok(Kind::Directory),
            Ok(found) => Ok(Kind::File(found.len())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Kind::Nothing),
            Err(error) => Err(error),
        }
    }

    fn list(&self, directory: &Path) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in fs::read_dir(directory)? {
            names.extend(entry?.file_name().into_string().ok());
        }
        Ok(names)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }

    fn make_directory(&self, path: &Path) -> io::Result<()> {
        fs::create_dir(path)
    }

    fn sync_directory(&self, path: &Path) -> io::Result<()> {
        File::open(path)?.sync_all()
    }
}
