//! The file system as stores and sinks in directories use it: a seam, so that tests and simulations can fail any call of it, let a
//! process die at any of them, or take the power away.

#[cfg(any(test, feature = "sim"))]
pub(crate) mod simulated;

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, ErrorKind, Read, Seek, Write};
use std::path::Path;
use std::process;

use crate::sync::{AtomicU64, Ordering};

/// Numbers what one process names, so that no two of its names are alike.
static COUNT: AtomicU64 = AtomicU64::new(0);

/// What there is under a name.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Kind {
    /// Nothing.
    Nothing,
    /// A directory.
    Directory,
    /// A file, of this length; or anything else that is no directory.
    File(u64),
}

/// A file being written.
pub(crate) trait Output: Send {
    /// Appends all of the bytes.
    fn write(&mut self, bytes: &[u8]) -> io::Result<()>;

    /// Makes the content durable; the name is its directory's business.
    fn sync(&mut self) -> io::Result<()>;

    /// Cuts off what is behind so many bytes.
    fn cut(&mut self, length: u64) -> io::Result<()>;
}

/// A file being read.
pub(crate) trait Input: Read + Seek + Send {
    /// Its length in bytes.
    fn length(&self) -> io::Result<u64>;
}

/// A file that is there to be locked. Locks are between processes, and durable in no sense: the system releases them when their holder
/// lets go of the file, or dies.
pub(crate) trait LockFile: Send {
    /// Waits until nobody else holds it, and holds it.
    fn lock(&self) -> io::Result<()>;

    /// Waits until nobody holds it alone, and holds it with others.
    fn lock_shared(&self) -> io::Result<()>;

    /// Lets go of the lock, not of the file.
    fn unlock(&self) -> io::Result<()>;
}

/// A file system.
pub(crate) trait Files: Send + Sync + 'static {
    /// Begins a file; fails if the name is taken.
    fn create(&self, path: &Path) -> io::Result<Box<dyn Output>>;

    /// Opens a file that is there, to write behind its end.
    fn append(&self, path: &Path) -> io::Result<Box<dyn Output>>;

    /// Opens a file to read it.
    fn open(&self, path: &Path) -> io::Result<Box<dyn Input>>;

    /// How long a file is, if there is one. Of a link it is the link's own length.
    fn length(&self, path: &Path) -> io::Result<Option<u64>>;

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

    /// Opens a file to lock it; makes an empty one if there is none.
    fn open_lock(&self, path: &Path) -> io::Result<Box<dyn LockFile>>;

    /// Makes a new file with this text, locked for as long as what is returned lives; fails if the name is taken.
    fn register(&self, path: &Path, text: &str) -> io::Result<Box<dyn Send>>;

    /// The text of a file that somebody has registered who lives; `None` if there is none, or nobody holds it.
    fn holder(&self, path: &Path) -> io::Result<Option<String>>;

    /// A piece of a name that no other living process uses, nor this one again.
    fn unique(&self) -> String;

    /// A name that nothing else has, ever: what is made new gets one, and is known by it.
    fn identity(&self) -> String {
        self.unique()
    }

    /// Whether the code that uses it is to do this wrong: see [`crate::sim::Mutant`].
    #[cfg(feature = "sim")]
    fn plays(&self, _mutant: crate::sim::Mutant) -> bool {
        false
    }
}

/// 128 bits at random, as text.
pub(crate) fn random_identity() -> String {
    use std::hash::{BuildHasher, Hasher, RandomState};
    // The standard library's hash keys are seeded from the operating system's randomness.
    let word = |number: u64| {
        let mut hasher = RandomState::new().build_hasher();
        hasher.write_u64(number);
        hasher.write_u32(process::id());
        hasher.finish()
    };
    format!("{:016x}{:016x}", word(1), word(2))
}

/// The operating system's files.
pub(crate) struct Disk;

impl Output for File {
    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.write_all(bytes)
    }

    fn sync(&mut self) -> io::Result<()> {
        self.sync_all()
    }

    fn cut(&mut self, length: u64) -> io::Result<()> {
        self.set_len(length)
    }
}

impl Input for File {
    fn length(&self) -> io::Result<u64> {
        Ok(self.metadata()?.len())
    }
}

impl LockFile for File {
    fn lock(&self) -> io::Result<()> {
        Self::lock(self)
    }

    fn lock_shared(&self) -> io::Result<()> {
        Self::lock_shared(self)
    }

    fn unlock(&self) -> io::Result<()> {
        Self::unlock(self)
    }
}

impl Files for Disk {
    fn create(&self, path: &Path) -> io::Result<Box<dyn Output>> {
        Ok(Box::new(OpenOptions::new().write(true).create_new(true).open(path)?))
    }

    fn append(&self, path: &Path) -> io::Result<Box<dyn Output>> {
        Ok(Box::new(OpenOptions::new().append(true).open(path)?))
    }

    fn open(&self, path: &Path) -> io::Result<Box<dyn Input>> {
        Ok(Box::new(File::open(path)?))
    }

    fn length(&self, path: &Path) -> io::Result<Option<u64>> {
        match fs::symlink_metadata(path) {
            Ok(found) => Ok(Some(found.len())),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn kind(&self, path: &Path) -> io::Result<Kind> {
        match fs::metadata(path) {
            Ok(found) if found.is_dir() => Ok(Kind::Directory),
            Ok(found) => Ok(Kind::File(found.len())),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(Kind::Nothing),
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

    fn open_lock(&self, path: &Path) -> io::Result<Box<dyn LockFile>> {
        // The file is empty and stays so: that it was once there need not be durable.
        let file = OpenOptions::new().write(true).create(true).truncate(false).open(path)?;
        Ok(Box::new(file))
    }

    fn register(&self, path: &Path, text: &str) -> io::Result<Box<dyn Send>> {
        let mut file = OpenOptions::new().write(true).create_new(true).open(path)?;
        file.lock()?;
        file.write_all(text.as_bytes())?;
        Ok(Box::new(file))
    }

    fn holder(&self, path: &Path) -> io::Result<Option<String>> {
        let mut file = match File::open(path) {
            Ok(file) => file,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        match file.try_lock() {
            Ok(()) => Ok(None),
            Err(TryLockError::WouldBlock) => {
                let mut said = Vec::new();
                file.read_to_end(&mut said)?;
                Ok(Some(String::from_utf8_lossy(&said).into_owned()))
            }
            Err(TryLockError::Error(error)) => Err(error),
        }
    }

    fn unique(&self) -> String {
        format!("{}-{}", process::id(), COUNT.fetch_add(1, Ordering::Relaxed))
    }

    fn identity(&self) -> String {
        random_identity()
    }
}
