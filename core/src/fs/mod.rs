//! The file system of stores and sinks in directories, as an interface. At every call tests and
//! simulations can make it fail, kill the process, or cut the power.

mod locks;
#[cfg(unix)]
mod owner;
#[cfg(any(test, feature = "sim"))]
pub mod simulated;

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, ErrorKind, Read, Seek, SeekFrom, Write};
use std::path::Path;
use std::process;

use crate::base::fault::Faults;
use crate::base::sync::{AtomicU64, Ordering};

/// Numbers the names that one process makes, so that each is unique.
static COUNT: AtomicU64 = AtomicU64::new(0);

/// The name that is made and removed to change a directory.
pub const STIR: &str = ".snapline-sync";

/// True if two paths are the same.
pub fn same_path(one: &str, other: &str) -> bool {
    plain_path(one) == plain_path(other)
        || fs::canonicalize(one)
            .is_ok_and(|one| fs::canonicalize(other).is_ok_and(|other| one == other))
}

/// A path without the current directory at its beginning.
pub fn plain_path(path: &str) -> &Path {
    let path = Path::new(path);
    path.strip_prefix(".").unwrap_or(path)
}

/// What exists under a name.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// Nothing.
    Nothing,
    /// A directory.
    Directory,
    /// A file, of this length; or anything else that is not a directory.
    File(u64),
}

/// A file being written.
pub trait Output: Send {
    /// Appends all of the bytes.
    fn write(&mut self, bytes: &[u8]) -> io::Result<()>;

    /// Makes the content durable; a sync of its directory makes the name durable.
    fn sync(&mut self) -> io::Result<()>;

    /// Cuts off everything after this many bytes.
    fn cut(&mut self, length: u64) -> io::Result<()>;
}

/// A file being read.
pub trait Input: Read + Seek + Send {
    /// Its length in bytes.
    fn length(&self) -> io::Result<u64>;
}

/// A file to lock. Locks are between processes, and never durable: the system releases them when
/// their holder releases the file, or dies. A wait for one has a time limit, half a minute, and a
/// longer one while this process holds it: after it, the error names the holder.
pub trait LockFile: Send {
    /// Waits until no other holds it, and holds it exclusively.
    fn lock(&self) -> io::Result<()>;

    /// Waits until no other holds it exclusively, and shares it.
    fn lock_shared(&self) -> io::Result<()>;

    /// Releases the lock, not the file.
    fn unlock(&self) -> io::Result<()>;
}

/// A file system. What is made in it is its owner's alone, to read too, except what is made public.
/// A user with access could read state, and hold a lock that a job waits for. A file in a directory
/// that a group shares is the group's too.
pub trait Files: Send + Sync + 'static {
    /// Creates a file; fails if the name is taken.
    fn create(&self, path: &Path) -> io::Result<Box<dyn Output>>;

    /// Creates a file that others may read, as far as the process's `umask` lets them; fails if the
    /// name is taken.
    fn create_public(&self, path: &Path) -> io::Result<Box<dyn Output>> {
        self.create(path)
    }

    /// Opens an existing file to append to it.
    fn append(&self, path: &Path) -> io::Result<Box<dyn Output>>;

    /// Overwrites part of a file with the bytes that it holds there, and makes them durable even if
    /// an earlier sync of them failed. This takes no additional room.
    fn rewrite(&self, path: &Path, at: u64, bytes: &[u8]) -> io::Result<()>;

    /// Opens a file to read it.
    fn open(&self, path: &Path) -> io::Result<Box<dyn Input>>;

    /// The length of a file, if there is one. Of a link it is the link's own length.
    fn length(&self, path: &Path) -> io::Result<Option<u64>>;

    /// What exists under a name.
    fn kind(&self, path: &Path) -> io::Result<Kind>;

    /// The names in a directory that are Unicode, in any order; all of a store's are.
    fn list(&self, directory: &Path) -> io::Result<Vec<String>>;

    /// Renames a file atomically, replacing any other of that name.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;

    /// Removes a file.
    fn remove(&self, path: &Path) -> io::Result<()>;

    /// Makes a directory.
    fn make_directory(&self, path: &Path) -> io::Result<()>;

    /// Makes a directory that others may read, as far as the process's `umask` lets them.
    fn make_public_directory(&self, path: &Path) -> io::Result<()> {
        self.make_directory(path)
    }

    /// Fails if a directory belongs to another user, who could put anything there at any time.
    /// `root` does not count as another user, and treats none as such. A file made in the directory
    /// shows its owner, since a file system may give all that is made to one user. A directory
    /// shared on purpose passes: a group of this process may write there, and the rest of the world
    /// may not. Where the system does not report owners, nothing fails.
    fn check_owner(&self, _directory: &Path) -> io::Result<()> {
        Ok(())
    }

    /// Makes the names in a directory durable.
    fn sync_directory(&self, path: &Path) -> io::Result<()>;

    /// Changes a directory, so that the next sync has something to do. A sync that is repeated
    /// after a failure, or that covers what another process left, may succeed and do nothing. A
    /// name is made and removed.
    fn stir(&self, directory: &Path) -> io::Result<()> {
        let path = directory.join(STIR);
        match self.create(&path) {
            Ok(made) => drop(made),
            // Another process does the same, or died doing it: to remove it is a change too.
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error),
        }
        match self.remove(&path) {
            Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    /// Opens a file to lock it; makes an empty one if there is none.
    fn open_lock(&self, path: &Path) -> io::Result<Box<dyn LockFile>>;

    /// Makes a new file with this text, locked for as long as the returned guard lives; fails if
    /// the name is taken.
    fn register(&self, path: &Path, text: &str) -> io::Result<Box<dyn Send>>;

    /// The text of a file that a living process has registered; `None` if there is none, or its
    /// process has ended.
    fn holder(&self, path: &Path) -> io::Result<Option<String>>;

    /// A piece of a name that no other living process uses, and this one only once.
    fn unique(&self) -> String;

    /// A name that is unique for ever: each new object gets one, which identifies it.
    fn identity(&self) -> String {
        self.unique()
    }

    /// The faults that are planted in the code that uses it.
    fn faults(&self) -> Faults {
        Faults::default()
    }
}

/// 128 bits at random, as text.
pub fn random_identity() -> String {
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
pub struct Disk;

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

/// Options that make a file its owner's alone.
fn private() -> OpenOptions {
    #[cfg_attr(not(unix), expect(unused_mut, reason = "there are no modes to set"))]
    let mut options = OpenOptions::new();
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options
}

/// Options that make a file at a path its owner's alone. In a directory shared with its group the
/// file is the group's too, as far as the process's `umask` lets them. The group's other users must
/// be able to continue with it.
#[cfg_attr(not(unix), expect(unused_variables, reason = "there are no modes to look at"))]
fn private_at(path: &Path) -> OpenOptions {
    #[cfg_attr(not(unix), expect(unused_mut, reason = "there are no modes to set"))]
    let mut options = private();
    #[cfg(unix)]
    {
        use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
        let parent =
            path.parent().map(|dir| if dir.as_os_str().is_empty() { Path::new(".") } else { dir });
        let parent = parent.and_then(|dir| fs::metadata(dir).ok());
        if parent.is_some_and(|parent| owner::is_shared(parent.mode())) {
            options.mode(0o660);
        }
    }
    options
}

/// Makes a new file to append to that is its owner's alone.
pub fn create_private(path: &Path) -> io::Result<File> {
    private().append(true).create_new(true).open(path)
}

/// Makes a directory that is its owner's alone, and its missing parents with the same modes.
pub fn make_private_directories(path: &Path) -> io::Result<()> {
    private_directory().recursive(true).create(path)
}

fn private_directory() -> fs::DirBuilder {
    #[cfg_attr(not(unix), expect(unused_mut, reason = "there are no modes to set"))]
    let mut builder = fs::DirBuilder::new();
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder
}

impl Files for Disk {
    fn create(&self, path: &Path) -> io::Result<Box<dyn Output>> {
        Ok(Box::new(private_at(path).write(true).create_new(true).open(path)?))
    }

    fn create_public(&self, path: &Path) -> io::Result<Box<dyn Output>> {
        Ok(Box::new(OpenOptions::new().write(true).create_new(true).open(path)?))
    }

    fn append(&self, path: &Path) -> io::Result<Box<dyn Output>> {
        Ok(Box::new(OpenOptions::new().append(true).open(path)?))
    }

    fn rewrite(&self, path: &Path, at: u64, bytes: &[u8]) -> io::Result<()> {
        let mut file = OpenOptions::new().write(true).open(path)?;
        file.seek(SeekFrom::Start(at))?;
        file.write_all(bytes)?;
        file.sync_all()
    }

    fn open(&self, path: &Path) -> io::Result<Box<dyn Input>> {
        // Opening a pipe may wait for ever, and a device may have endless content.
        let kind = fs::metadata(path)?.file_type();
        if !kind.is_file() && !kind.is_dir() {
            return Err(io::Error::new(ErrorKind::InvalidInput, "it is not a plain file"));
        }
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
        private_directory().create(path)
    }

    fn make_public_directory(&self, path: &Path) -> io::Result<()> {
        fs::create_dir(path)
    }

    #[cfg(unix)]
    fn check_owner(&self, directory: &Path) -> io::Result<()> {
        owner::check(directory)
    }

    fn sync_directory(&self, path: &Path) -> io::Result<()> {
        File::open(path)?.sync_all()
    }

    fn open_lock(&self, path: &Path) -> io::Result<Box<dyn LockFile>> {
        // The file is empty and stays so: its past existence need not be durable.
        let file = private_at(path).write(true).create(true).truncate(false).open(path)?;
        Ok(Box::new(file))
    }

    fn register(&self, path: &Path, text: &str) -> io::Result<Box<dyn Send>> {
        let mut file = private_at(path).write(true).create_new(true).open(path)?;
        LockFile::lock(&file)?;
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
                // A registration is a line or two, whatever the file holds.
                (&mut file).take(4096).read_to_end(&mut said)?;
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

#[cfg(all(test, unix, not(snapline_loom)))]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn what_is_made_is_its_owners_alone_unless_it_is_for_others() {
        let place = tempfile::tempdir().expect("a directory");
        let at = |name: &str| place.path().join(name);
        drop(Disk.create(&at("file")).expect("makes"));
        drop(Disk.open_lock(&at("lock")).expect("makes"));
        drop(Disk.register(&at("owner"), "process 1").expect("makes"));
        drop(create_private(&at("trace")).expect("makes"));
        Disk.make_directory(&at("directory")).expect("makes");
        make_private_directories(&at("some/more")).expect("makes");
        drop(Disk.create_public(&at("public")).expect("makes"));
        Disk.make_public_directory(&at("shared")).expect("makes");
        fs::write(at("theirs"), "").expect("writes");
        fs::create_dir(at("their")).expect("makes");
        let mode = |name: &str| {
            let found = fs::metadata(at(name)).expect("it is there");
            found.permissions().mode() & 0o777
        };
        for name in ["file", "lock", "owner", "trace"] {
            assert_eq!(mode(name), 0o600 & mode(name), "{name}");
        }
        for name in ["directory", "some", "some/more"] {
            assert_eq!(mode(name), 0o700 & mode(name), "{name}");
        }
        assert_eq!([mode("public"), mode("shared")], [mode("theirs"), mode("their")]);
    }

    #[test]
    fn a_device_is_not_read() {
        let error = Disk.open(Path::new("/dev/zero")).err().expect("it has no end");
        assert_eq!(error.to_string(), "it is not a plain file");
    }

    #[test]
    fn a_file_in_a_directory_that_a_group_shares_is_the_groups_too() {
        let place = tempfile::tempdir().expect("a directory");
        let at = |name: &str| place.path().join(name);
        let shared = fs::Permissions::from_mode(0o770);
        fs::set_permissions(place.path(), shared).expect("sets the mode");
        drop(Disk.create(&at("file")).expect("makes"));
        drop(Disk.open_lock(&at("lock")).expect("makes"));
        drop(Disk.register(&at("owner"), "process 1").expect("makes"));
        Disk.make_directory(&at("directory")).expect("makes");
        fs::write(at("theirs"), "").expect("writes");
        let mode = |name: &str| fs::metadata(at(name)).expect("it is there").permissions().mode();
        for name in ["file", "lock", "owner"] {
            assert_eq!(mode(name) & 0o777, (0o660 & mode("theirs")) | 0o600, "{name}");
        }
        // Only the owner of a directory can share it.
        assert_eq!(mode("directory") & 0o077, 0);
    }
}
