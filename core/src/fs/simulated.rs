//! A simulated disk, with its content after a power loss, and the processes that use it (SPEC 2.4).
//!
//! There are two images of it: the visible one and the durable one. A file's content becomes
//! durable when it is synced, a name when its directory is. A power loss keeps any part of what is
//! not durable: changes of names one by one, and of a file's bytes all, none, or some. A rename is
//! one change: after it there are both names, or either, and never none.
//!
//! Longer than 500 lines: one disk, and every call of it.
//!
//! A process uses the disk through its [`Host`], which can die before any of its changes, and fail
//! any of them.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Cursor, ErrorKind};
use std::path::{Path, PathBuf};

use crate::base::fault::Faults;
use crate::base::sync::{Arc, Mutex, lock};
use crate::fs::{Files, Input, Kind, LockFile, Output};

/// Pseudo-random numbers, the same for the same seed everywhere.
#[derive(Clone, Debug)]
pub struct Random(u64);

impl Random {
    /// The numbers of a seed.
    pub const fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// Any number: splitmix64.
    pub const fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below `end`, which is above zero.
    pub const fn below(&mut self, end: usize) -> usize {
        (self.next() % end as u64) as usize
    }

    /// Yes, once in this many times.
    pub const fn once_in(&mut self, times: usize) -> bool {
        self.below(times) == 0
    }
}

/// How a change fails.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Trouble {
    /// The error that the caller gets.
    pub kind: ErrorKind,
    /// Whether it takes effect all the same.
    pub late: bool,
}

#[derive(Debug, Default)]
struct Life {
    dead: bool,
    /// Changes until it dies.
    fuse: Option<u64>,
    /// Changes until one fails, and how.
    trouble: Option<(u64, Trouble)>,
    /// Changes made so far.
    changes: u64,
    /// Changes that failed.
    failed: u64,
}

/// A process, as the disk and external systems that it uses see it.
#[derive(Clone, Debug, Default)]
pub struct Host(Arc<Mutex<Life>>);

/// What happens to a change.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fate {
    /// It is made.
    Done,
    /// It fails, with or without effect.
    Fails(Trouble),
    /// The process died before it.
    Dead,
}

impl Host {
    /// It dies before the change that comes after this many.
    pub fn dies_after(&self, changes: u64) {
        lock(&self.0).fuse = Some(changes);
    }

    /// It is dead from now on.
    pub fn kill(&self) {
        lock(&self.0).dead = true;
    }

    /// True once it was killed.
    pub fn is_dead(&self) -> bool {
        lock(&self.0).dead
    }

    /// The change that comes after this many fails.
    pub fn fails_after(&self, trouble: Option<(u64, Trouble)>) {
        lock(&self.0).trouble = trouble;
    }

    /// The number of its changes, and of those that failed.
    pub fn changes(&self) -> (u64, u64) {
        let life = lock(&self.0);
        (life.changes, life.failed)
    }

    /// What happens to the next change.
    pub fn change(&self) -> Fate {
        let mut life = lock(&self.0);
        match &mut life.fuse {
            Some(0) => life.dead = true,
            Some(left) => *left -= 1,
            None => {}
        }
        if life.dead {
            return Fate::Dead;
        }
        life.changes += 1;
        match &mut life.trouble {
            Some((0, trouble)) => {
                let trouble = *trouble;
                (life.trouble, life.failed) = (None, life.failed + 1);
                Fate::Fails(trouble)
            }
            Some((left, _)) => {
                *left -= 1;
                Fate::Done
            }
            None => Fate::Done,
        }
    }

    fn around<T>(&self, change: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
        match self.change() {
            Fate::Done => change(),
            Fate::Fails(Trouble { kind, late: false }) => Err(kind.into()),
            Fate::Fails(Trouble { kind, late: true }) => {
                change()?;
                Err(kind.into())
            }
            Fate::Dead => Err(dead()),
        }
    }

    fn alive(&self) -> io::Result<()> {
        if self.is_dead() { Err(dead()) } else { Ok(()) }
    }
}

fn dead() -> io::Error {
    io::Error::other("the process is dead")
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum DiskNode {
    Directory,
    File(usize),
}

#[derive(Clone, Debug, Default)]
struct FileContent {
    seen: Vec<u8>,
    durable: Vec<u8>,
    /// A sync failed, or the file was closed before one: later syncs succeed, but do not make
    /// durable what was written until then.
    dropped: bool,
}

/// A change of names that is not durable.
#[derive(Clone, Debug)]
enum Change {
    Add(PathBuf, DiskNode),
    Remove(PathBuf),
    Rename { from: PathBuf, to: PathBuf, node: DiskNode },
}

#[derive(Clone, Debug, Default)]
struct DiskImage {
    files: Vec<FileContent>,
    seen: BTreeMap<PathBuf, DiskNode>,
    durable: BTreeMap<PathBuf, DiskNode>,
    /// In the order in which they were made.
    pending: Vec<Change>,
    /// Files registered by a living process.
    registered: BTreeSet<usize>,
    /// Locked files, and the number of their locks; `usize::MAX`: exclusive.
    locked: BTreeMap<usize, usize>,
    names: u64,
    /// The number of changes of names.
    renames: u64,
    /// Directories whose sync failed, and that have not changed since: later syncs succeed and do
    /// nothing.
    dropped: BTreeSet<PathBuf>,
}

impl DiskImage {
    fn put(names: &mut BTreeMap<PathBuf, DiskNode>, change: &Change) {
        match change {
            Change::Add(path, node) => _ = names.insert(path.clone(), *node),
            Change::Remove(path) => _ = names.remove(path),
            Change::Rename { from, to, node } => {
                names.remove(from);
                names.insert(to.clone(), *node);
            }
        }
    }

    fn make(&mut self, change: Change) {
        self.renames += 1;
        let (Change::Add(path, _) | Change::Remove(path) | Change::Rename { from: path, .. }) =
            &change;
        self.dropped.retain(|directory| path.parent() != Some(directory));
        if let Change::Rename { to, .. } = &change {
            self.dropped.retain(|directory| to.parent() != Some(directory));
        }
        Self::put(&mut self.seen, &change);
        self.pending.push(change);
    }

    fn find(&self, path: &Path) -> io::Result<DiskNode> {
        self.seen.get(path).copied().ok_or_else(|| ErrorKind::NotFound.into())
    }

    fn find_file(&self, path: &Path) -> io::Result<usize> {
        match self.find(path)? {
            DiskNode::File(number) => Ok(number),
            DiskNode::Directory => Err(ErrorKind::IsADirectory.into()),
        }
    }

    fn add(&mut self, path: &Path, node: DiskNode) -> io::Result<()> {
        if self.seen.contains_key(path) {
            return Err(ErrorKind::AlreadyExists.into());
        }
        let parent = path.parent().ok_or(ErrorKind::NotFound)?;
        if self.find(parent)? != DiskNode::Directory {
            return Err(ErrorKind::NotADirectory.into());
        }
        self.make(Change::Add(path.to_owned(), node));
        Ok(())
    }

    fn add_file(&mut self, path: &Path) -> io::Result<usize> {
        let number = self.files.len();
        self.add(path, DiskNode::File(number))?;
        self.files.push(FileContent::default());
        Ok(number)
    }

    fn sync_names(&mut self, directory: &Path) {
        if self.dropped.contains(directory) {
            return;
        }
        self.renames += 1;
        let inside = |path: &PathBuf| path.parent() == Some(directory);
        let mut left = Vec::new();
        for change in std::mem::take(&mut self.pending) {
            match &change {
                Change::Add(path, _) | Change::Remove(path) if !inside(path) => left.push(change),
                // The new name is durable, the old one may come back.
                Change::Rename { from, to, node } if inside(to) && !inside(from) => {
                    self.durable.insert(to.clone(), *node);
                    left.push(Change::Remove(from.clone()));
                }
                Change::Rename { from, to, .. } if !inside(from) && !inside(to) => {
                    left.push(change)
                }
                _ => Self::put(&mut self.durable, &change),
            }
        }
        self.pending = left;
    }

    /// What remains when the power is back; `None` keeps nothing that was not durable.
    fn lose_power(&mut self, mut random: Option<&mut Random>) {
        let mut names = std::mem::take(&mut self.durable);
        // Some file systems keep changes of names in order, up to some point; others any of them.
        let pending = std::mem::take(&mut self.pending);
        let (ordered, point) = match &mut random {
            Some(random) => (random.once_in(2), random.below(pending.len() + 1)),
            None => (true, 0),
        };
        for (place, change) in pending.iter().enumerate() {
            let kept = match &mut random {
                Some(random) if !ordered => random.once_in(2),
                _ => place < point,
            };
            if kept {
                Self::put(&mut names, change);
            }
        }
        for file in &mut self.files {
            let kept = match &mut random {
                Some(random) if file.seen != file.durable => partly(file, random),
                _ => file.durable.clone(),
            };
            *file = FileContent { seen: kept.clone(), durable: kept, dropped: false };
        }
        // A lost directory loses its content. Names sort after the directory they are in.
        let mut whole = BTreeMap::new();
        for (path, node) in names {
            if path.parent().is_none_or(|parent| whole.contains_key(parent)) {
                whole.insert(path, node);
            }
        }
        (self.seen, self.durable) = (whole.clone(), whole);
        self.registered.clear();
        self.locked.clear();
        self.dropped.clear();
    }
}

/// What remains of a file that was not synced since it was written to.
fn partly(file: &FileContent, random: &mut Random) -> Vec<u8> {
    let FileContent { seen, durable, .. } = file;
    let common = seen.iter().zip(durable).take_while(|(seen, durable)| seen == durable).count();
    match random.below(4) {
        0 => durable.clone(),
        1 => seen.clone(),
        // Cut short.
        2 => seen[..common + random.below(seen.len() - common + 1)].to_vec(),
        // Its length is there, its bytes are not.
        _ => {
            let mut torn = seen.clone();
            let from = common + random.below(seen.len() - common + 1);
            torn[from..].fill(0);
            torn
        }
    }
}

/// A simulated disk. Clones are the same disk.
#[derive(Clone, Debug)]
pub struct SimDisk(Arc<Mutex<DiskImage>>);

impl SimDisk {
    /// An empty disk.
    #[allow(clippy::new_without_default, reason = "a root directory is no default value")]
    pub fn new() -> Self {
        let mut image = DiskImage::default();
        let root = PathBuf::from("/");
        image.seen.insert(root.clone(), DiskNode::Directory);
        image.durable.insert(root, DiskNode::Directory);
        Self(Arc::new(Mutex::new(image)))
    }

    /// The disk as a process sees it.
    pub fn files(&self, host: &Host) -> SimFiles {
        SimFiles { disk: self.clone(), host: host.clone(), faults: Faults::default() }
    }

    /// The power goes, for all processes, and comes back.
    pub fn lose_power(&self, random: &mut Random) {
        lock(&self.0).lose_power(Some(random));
    }

    /// Another disk, with the worst-case remains of this one: nothing but what is durable.
    pub fn worst(&self) -> Self {
        let mut image = lock(&self.0).clone();
        image.lose_power(None);
        Self(Arc::new(Mutex::new(image)))
    }

    /// Holds the disk: every other use of it waits until the returned guard is dropped.
    #[cfg(any(test, feature = "sim"))]
    pub fn hold(&self) -> impl Sized + '_ {
        lock(&self.0)
    }
}

/// A simulated disk, used by one process.
#[derive(Clone, Debug)]
pub struct SimFiles {
    disk: SimDisk,
    host: Host,
    /// The fault that is planted, if one is.
    pub faults: Faults,
}

impl SimFiles {
    fn change<T>(&self, change: impl FnOnce(&mut DiskImage) -> io::Result<T>) -> io::Result<T> {
        self.host.around(|| change(&mut lock(&self.disk.0)))
    }

    fn look<T>(&self, look: impl FnOnce(&DiskImage) -> io::Result<T>) -> io::Result<T> {
        self.host.alive()?;
        look(&lock(&self.disk.0))
    }

    fn writer(&self, number: usize) -> Box<dyn Output> {
        Box::new(SimOutput { files: self.clone(), number })
    }
}

struct SimOutput {
    files: SimFiles,
    number: usize,
}

impl Output for SimOutput {
    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        let disk = self.files.disk.clone();
        let write = |bytes: &[u8]| {
            lock(&disk.0).files[self.number].seen.extend_from_slice(bytes);
            Ok(())
        };
        match self.files.host.change() {
            Fate::Done => write(bytes),
            // A full disk takes what fits.
            Fate::Fails(Trouble { kind, .. }) => {
                write(&bytes[..bytes.len() / 2])?;
                Err(kind.into())
            }
            Fate::Dead => Err(dead()),
        }
    }

    fn sync(&mut self) -> io::Result<()> {
        let fate = self.files.host.change();
        let mut disk = lock(&self.files.disk.0);
        let file = &mut disk.files[self.number];
        match fate {
            Fate::Done => {
                if !file.dropped {
                    file.durable = file.seen.clone();
                }
                Ok(())
            }
            Fate::Fails(Trouble { kind, late }) => {
                match late {
                    true => file.durable = file.seen.clone(),
                    false => file.dropped = true,
                }
                Err(kind.into())
            }
            Fate::Dead => Err(dead()),
        }
    }

    fn cut(&mut self, length: u64) -> io::Result<()> {
        let fate = self.files.host.change();
        let seen = &mut lock(&self.files.disk.0).files[self.number].seen;
        let mut cut = || seen.truncate(usize::try_from(length).unwrap_or(usize::MAX));
        match fate {
            Fate::Done => cut(),
            Fate::Fails(Trouble { kind, late }) => {
                if late {
                    cut();
                }
                return Err(kind.into());
            }
            Fate::Dead => return Err(dead()),
        }
        Ok(())
    }
}

impl Drop for SimOutput {
    fn drop(&mut self) {
        let mut disk = lock(&self.files.disk.0);
        let file = &mut disk.files[self.number];
        file.dropped |= file.seen != file.durable;
    }
}

impl Input for Cursor<Vec<u8>> {
    fn length(&self) -> io::Result<u64> {
        Ok(self.get_ref().len() as u64)
    }
}

/// Releases a registered file.
struct Registered {
    disk: SimDisk,
    number: usize,
}

impl Drop for Registered {
    fn drop(&mut self) {
        lock(&self.disk.0).registered.remove(&self.number);
    }
}

struct SimLock {
    files: SimFiles,
    number: usize,
    /// How it is held: exclusive, shared, or not at all.
    held: Mutex<Option<bool>>,
}

impl SimLock {
    fn take(&self, alone: bool) -> io::Result<()> {
        let mut disk = lock(&self.files.disk.0);
        let holders = disk.locked.entry(self.number).or_default();
        // One thread does everything: a caller that waits here would wait for itself.
        if *holders == usize::MAX || (alone && *holders > 0) {
            return Err(ErrorKind::Deadlock.into());
        }
        *holders = if alone { usize::MAX } else { *holders + 1 };
        *lock(&self.held) = Some(alone);
        Ok(())
    }
}

impl LockFile for SimLock {
    fn lock(&self) -> io::Result<()> {
        self.take(true)
    }

    fn lock_shared(&self) -> io::Result<()> {
        self.take(false)
    }

    fn unlock(&self) -> io::Result<()> {
        let mut disk = lock(&self.files.disk.0);
        match lock(&self.held).take() {
            Some(true) => _ = disk.locked.remove(&self.number),
            Some(false) => {
                if let Some(holders) = disk.locked.get_mut(&self.number) {
                    *holders = holders.saturating_sub(1);
                }
            }
            None => {}
        }
        Ok(())
    }
}

impl Drop for SimLock {
    fn drop(&mut self) {
        // Unlocking cannot fail here.
        let _ = self.unlock();
    }
}

impl Files for SimFiles {
    fn create(&self, path: &Path) -> io::Result<Box<dyn Output>> {
        let number = self.change(|disk| disk.add_file(path))?;
        Ok(self.writer(number))
    }

    fn append(&self, path: &Path) -> io::Result<Box<dyn Output>> {
        let number = self.look(|disk| disk.find_file(path))?;
        Ok(self.writer(number))
    }

    fn rewrite(&self, path: &Path, at: u64, bytes: &[u8]) -> io::Result<()> {
        self.change(|disk| {
            let number = disk.find_file(path)?;
            let (file, at) = (&mut disk.files[number], at as usize);
            assert_eq!(file.seen[at..at + bytes.len()], *bytes, "the same is written again");
            // Exactly these bytes. Where a file is too short it reads as zeros.
            file.durable.resize(file.durable.len().max(at + bytes.len()), 0);
            file.durable[at..at + bytes.len()].copy_from_slice(bytes);
            Ok(())
        })
    }

    fn open(&self, path: &Path) -> io::Result<Box<dyn Input>> {
        let bytes = self.look(|disk| Ok(disk.files[disk.find_file(path)?].seen.clone()))?;
        Ok(Box::new(Cursor::new(bytes)))
    }

    fn length(&self, path: &Path) -> io::Result<Option<u64>> {
        Ok(match self.kind(path)? {
            Kind::Nothing => None,
            Kind::Directory => Some(0),
            Kind::File(length) => Some(length),
        })
    }

    fn kind(&self, path: &Path) -> io::Result<Kind> {
        self.look(|disk| {
            Ok(match disk.seen.get(path) {
                None => Kind::Nothing,
                Some(DiskNode::Directory) => Kind::Directory,
                Some(DiskNode::File(number)) => Kind::File(disk.files[*number].seen.len() as u64),
            })
        })
    }

    fn list(&self, directory: &Path) -> io::Result<Vec<String>> {
        self.look(|disk| {
            if disk.find(directory)? != DiskNode::Directory {
                return Err(ErrorKind::NotADirectory.into());
            }
            let mut names = Vec::new();
            for path in disk.seen.keys().filter(|path| path.parent() == Some(directory)) {
                names.extend(path.file_name().and_then(|name| name.to_str()).map(str::to_owned));
            }
            Ok(names)
        })
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.change(|disk| {
            let node = disk.find(from)?;
            if to.parent().is_none_or(|parent| !disk.seen.contains_key(parent)) {
                return Err(ErrorKind::NotFound.into());
            }
            disk.make(Change::Rename { from: from.to_owned(), to: to.to_owned(), node });
            Ok(())
        })
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.change(|disk| {
            disk.find_file(path)?;
            disk.make(Change::Remove(path.to_owned()));
            Ok(())
        })
    }

    fn make_directory(&self, path: &Path) -> io::Result<()> {
        self.change(|disk| disk.add(path, DiskNode::Directory))
    }

    fn sync_directory(&self, path: &Path) -> io::Result<()> {
        let fate = self.host.change();
        let mut disk = lock(&self.disk.0);
        match fate {
            Fate::Done => {
                disk.find(path)?;
                disk.sync_names(path);
                Ok(())
            }
            Fate::Fails(Trouble { kind, late }) => {
                match late {
                    true => disk.sync_names(path),
                    false => _ = disk.dropped.insert(path.to_owned()),
                }
                Err(kind.into())
            }
            Fate::Dead => Err(dead()),
        }
    }

    fn open_lock(&self, path: &Path) -> io::Result<Box<dyn LockFile>> {
        self.host.alive()?;
        let mut disk = lock(&self.disk.0);
        let number = match disk.find_file(path) {
            Ok(number) => number,
            Err(_) => disk.add_file(path)?,
        };
        drop(disk);
        Ok(Box::new(SimLock { files: self.clone(), number, held: Mutex::new(None) }))
    }

    fn register(&self, path: &Path, text: &str) -> io::Result<Box<dyn Send>> {
        let number = self.change(|disk| {
            let number = disk.add_file(path)?;
            disk.files[number].seen.extend_from_slice(text.as_bytes());
            disk.registered.insert(number);
            Ok(number)
        })?;
        Ok(Box::new(Registered { disk: self.disk.clone(), number }))
    }

    fn holder(&self, path: &Path) -> io::Result<Option<String>> {
        self.look(|disk| {
            let Ok(number) = disk.find_file(path) else { return Ok(None) };
            let said = || String::from_utf8_lossy(&disk.files[number].seen).into_owned();
            Ok(disk.registered.contains(&number).then(said))
        })
    }

    fn unique(&self) -> String {
        let mut disk = lock(&self.disk.0);
        disk.names += 1;
        format!("{:06}", disk.names)
    }

    fn faults(&self) -> Faults {
        self.faults
    }
}

/// The simulator's access to a disk.
#[cfg(feature = "sim")]
impl SimDisk {
    /// Every visible name in a directory, and the content of each file.
    pub fn content(&self, directory: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
        let image = lock(&self.0);
        let mut found = BTreeMap::new();
        for (path, node) in &image.seen {
            if let (DiskNode::File(number), true) = (node, path.starts_with(directory)) {
                found.insert(path.clone(), image.files[*number].seen.clone());
            }
        }
        found
    }

    /// The names in a directory that are durable.
    pub fn durable(&self, directory: &Path) -> Vec<String> {
        let image = lock(&self.0);
        let names = image.durable.keys().filter(|path| path.parent() == Some(directory));
        names.filter_map(|path| Some(path.file_name()?.to_str()?.to_owned())).collect()
    }

    /// Whether a visible file would be found unchanged after a power loss now; `None`: there is no
    /// such file.
    pub fn is_durable(&self, path: &Path) -> Option<bool> {
        let image = lock(&self.0);
        let Some(node @ DiskNode::File(number)) = image.seen.get(path) else { return None };
        let FileContent { seen, durable, .. } = &image.files[*number];
        Some(image.durable.get(path) == Some(node) && seen == durable)
    }

    /// A number that changes whenever a name or its durability changes.
    pub fn renames(&self) -> u64 {
        lock(&self.0).renames
    }

    /// The number of changes of names and contents that are not durable.
    pub fn volatile(&self) -> usize {
        let image = lock(&self.0);
        image.pending.len() + image.files.iter().filter(|file| file.seen != file.durable).count()
    }
}
