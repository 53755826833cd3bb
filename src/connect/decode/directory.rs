//! A directory that files are put into while it is read.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::piece::Piece;
use super::{Csv, Decoded, Format, Inputs, JsonLines};
use crate::clock::Clock;
use crate::connect::plain_file::{self, Found};
use crate::connect::{ConnectError, OpenContext};

/// How often it is looked for new files, unless it is said.
const EVERY: Duration = Duration::from_secs(1);

/// A directory that files are put into while it is read; it is looked into again and again, for ever. With [`decode`](Self::decode) it becomes a source.
///
/// *Which files.* Those in the directory itself, each once, whole. A file must be complete when it appears under its name: it is written under
/// another name, or in another directory of the same file system, and then renamed. Names that begin with `.` or end in `.tmp` are not
/// looked at. Links are passed over unless they may be [followed](Self::follow_links); so are pipes, sockets and devices, and what is gone
/// by the time it is looked at, as a link that leads nowhere is. It is told to `tracing` as a warning, once a name. (The directory itself may be
/// named by a link.) A file that is changed, shortened or removed while it is read fails the job; it may be removed when it was read. Directories
/// within are not looked into.
///
/// *Order.* Of the files that are found together, in the order of their names. Subtasks share them by a hash of the name, so each file is
/// one's, however many there are.
///
/// *What was read* is in the position: the names of the files that were read and are still there. So that it stays small, move or remove files
/// behind their commit, or see to it that names ascend ([`ascending`](Self::ascending)); then it is one name.
///
/// Which file is read next is not in a checkpoint before it is begun: a restored job may read files in another order than the attempt before
/// it, whose output does not count.
///
/// ```
/// use std::time::Duration;
/// use snapline::connect::DirectorySource;
/// #[derive(serde::Deserialize)]
/// struct Click { page: String, at: i64 }
/// let clicks = DirectorySource::path("incoming")
///     .every(Duration::from_secs(5))
///     .json_lines::<Click>()
///     .skip_malformed();
/// ```
#[derive(Clone, Debug)]
pub struct DirectorySource {
    path: PathBuf,
    every: Duration,
    until: Option<String>,
    ascending: bool,
    pub(super) follow: bool,
}

impl DirectorySource {
    /// Reads what is, and will be, in a directory.
    #[must_use]
    pub fn path(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into(), every: EVERY, until: None, ascending: false, follow: false }
    }

    /// How often it is looked for new files, when those that were found are read; every second unless it is said.
    #[must_use]
    pub const fn every(mut self, interval: Duration) -> Self {
        self.every = interval;
        self
    }

    /// The input ends when a file of this name is there, which is not read, and all others have been. To be put there last.
    #[must_use]
    pub fn until(mut self, name: impl Into<String>) -> Self {
        self.until = Some(name.into());
        self
    }

    /// Each file's name is greater, byte by byte, than those of all files that were there before it, as that of a time or of a number with leading
    /// zeros is. The position is then the last name, however many files there are. A file that appears behind one of a greater name that
    /// was read fails the job; one that appeared so while no job ran is taken for read.
    #[must_use]
    pub const fn ascending(mut self) -> Self {
        self.ascending = true;
        self
    }

    /// Follows links that are put into the directory. Whoever can put one there can have any file read that the process may read.
    #[must_use]
    pub const fn follow_links(mut self) -> Self {
        self.follow = true;
        self
    }

    /// Reads records of a format.
    pub fn decode<T, F: Format<T>>(self, format: F) -> Decoded<T, F> {
        Decoded::new(Inputs::Coming(self), format)
    }

    /// Reads [`Csv`] with a header, between commas: `decode(Csv::new())`.
    #[must_use]
    pub fn csv<T>(self) -> Decoded<T, Csv>
    where
        Csv: Format<T>,
    {
        self.decode(Csv::new())
    }

    /// Reads [`JsonLines`]: `decode(JsonLines::new())`.
    #[must_use]
    pub fn json_lines<T>(self) -> Decoded<T, JsonLines>
    where
        JsonLines: Format<T>,
    {
        self.decode(JsonLines::new())
    }

    pub(super) fn open(&self, context: &OpenContext) -> Result<Coming, ConnectError> {
        match fs::metadata(&self.path) {
            Ok(data) if data.is_dir() => {}
            Ok(_) => return Err(ConnectError::NotADirectory { path: self.path.clone() }),
            Err(error) if error.kind() == ErrorKind::NotFound => {
                return Err(ConnectError::NoInput { path: self.path.clone() });
            }
            Err(error) => return Err(ConnectError::io("look at", &self.path)(error)),
        }
        Ok(Coming {
            source: self.clone(),
            index: context.index,
            parallelism: context.parallelism,
            clock: context.clock.clone(),
            found: VecDeque::new(),
            looked: None,
            last: false,
            behind: None,
            odd: BTreeSet::new(),
        })
    }
}

/// What is to be read next.
pub(super) enum Next {
    File(Piece),
    /// Nothing now; look again after this long.
    Wait(Duration),
    /// Nothing any more.
    End,
}

/// One subtask's view of a directory.
pub(super) struct Coming {
    source: DirectorySource,
    index: usize,
    parallelism: usize,
    clock: Clock,
    /// Found, and not begun.
    found: VecDeque<Piece>,
    /// When it was looked last.
    looked: Option<Instant>,
    /// Whether nothing more will come.
    last: bool,
    /// Where names ascend: those that are there and behind the last that was read, as far as they are known.
    behind: Option<BTreeSet<String>>,
    /// What is there and is passed over, which was said.
    odd: BTreeSet<String>,
}

impl Coming {
    /// The next file that was not read.
    pub(super) fn next(&mut self, read: &mut BTreeSet<String>) -> Result<Next, ConnectError> {
        if let Some(piece) = self.found.pop_front() {
            return Ok(Next::File(piece));
        }
        if self.last {
            return Ok(Next::End);
        }
        if let Some(looked) = self.looked {
            let ago = self.clock.since(looked);
            if ago < self.source.every {
                return Ok(Next::Wait(self.source.every - ago));
            }
        }
        self.looked = Some(self.clock.now());
        self.look(read)?;
        match self.found.pop_front() {
            Some(piece) => Ok(Next::File(piece)),
            None if self.last => Ok(Next::End),
            None => Ok(Next::Wait(self.source.every)),
        }
    }

    /// A file was read to its end.
    pub(super) fn was_read(&mut self, piece: &Piece, read: &mut BTreeSet<String>) {
        let name = piece.path().file_name().and_then(|name| name.to_str()).unwrap_or_default();
        if self.source.ascending {
            read.clear();
            // Before it was looked for the first time it is not known what is there.
            self.behind.iter_mut().for_each(|behind| _ = behind.insert(name.into()));
        }
        read.insert(name.into());
    }

    fn look(&mut self, read: &mut BTreeSet<String>) -> Result<(), ConnectError> {
        let (mut there, mut last) = self.list()?;
        if last {
            // What was put there before the last may not have been in a listing that was begun before it.
            (there, last) = self.list()?;
        }
        if self.source.ascending {
            let Some(newest) = read.last() else {
                self.behind = Some(BTreeSet::new());
                self.find(there, last);
                return Ok(());
            };
            let newer = there.split_off(newest);
            let mut behind: BTreeSet<String> = there.into_keys().collect();
            if let Some(known) = &self.behind
                && let Some(late) = behind.iter().find(|&name| !known.contains(name))
            {
                let (path, newest) = (self.source.path.join(late), newest.clone());
                return Err(ConnectError::NotAscending { path, newest });
            }
            there = newer;
            there.remove(newest);
            behind.insert(newest.clone());
            self.behind = Some(behind);
        } else {
            read.retain(|name| there.contains_key(name));
            there.retain(|name, _| !read.contains(name));
        }
        self.find(there, last);
        Ok(())
    }

    fn find(&mut self, there: BTreeMap<String, Piece>, last: bool) {
        self.found = there.into_values().collect();
        self.last = last;
    }

    /// This subtask's files that are there, by name, and whether they are the last.
    fn list(&mut self) -> Result<(BTreeMap<String, Piece>, bool), ConnectError> {
        let dir: &Path = &self.source.path;
        let (mut there, mut last, mut odd) = (BTreeMap::new(), false, BTreeSet::new());
        for entry in fs::read_dir(dir).map_err(ConnectError::io("list", dir))? {
            let path = entry.map_err(ConnectError::io("list", dir))?.path();
            let Some(name) = path.file_name() else { continue };
            let bytes = name.as_encoded_bytes();
            if bytes.starts_with(b".") || bytes.ends_with(b".tmp") {
                continue;
            }
            let text = || path.clone().into_os_string().into_string();
            let (Some(name), Ok(file)) = (name.to_str(), text()) else {
                return Err(ConnectError::BadName {
                    what: "the input",
                    name: path.to_string_lossy().into_owned(),
                    why: "checkpoints hold names of files as text, and it is not UTF-8",
                });
            };
            if self.source.until.as_deref() == Some(name) {
                last = true;
                continue;
            }
            // A hash that is the same in every process, on every machine.
            if crc32fast::hash(name.as_bytes()) as usize % self.parallelism != self.index {
                continue;
            }
            match plain_file::look(&path, self.source.follow)? {
                Found::File(data) => {
                    there.insert(name.to_owned(), Piece::whole(file, &data));
                }
                found => {
                    if !self.odd.contains(name) {
                        found.warn(&path);
                    }
                    odd.insert(name.to_owned());
                }
            }
        }
        self.odd = odd;
        Ok((there, last))
    }
}
