//! A directory that grows while it is read.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::piece::Piece;
use super::{Csv, Decoded, Format, Inputs, JsonLines};
use crate::file_source::Resume;
use crate::fingerprint::Fingerprint;
use crate::plain_file::{self, Found};
use snapline_core::base::clock::Clock;
use snapline_core::base::watch::beat;
use snapline_core::connect::{ConnectError, ConnectorError, OpenContext};

/// How often the source looks for new files, by default.
const EVERY: Duration = Duration::from_secs(1);

/// A directory that grows while it is read; it is listed again and again, forever. With
/// [`decode`](Self::decode) it becomes a source.
///
/// *Which files.* Each file in the directory itself is read once, whole. A file must be complete
/// when it appears under its name. So write it under another name, or in another directory of the
/// same file system, and then rename it. Names that begin with `.` or end in `.tmp` are ignored.
/// Links are skipped unless they may be [followed](Self::follow_links). Pipes, sockets and devices
/// are skipped too, and so are entries that are gone by then, such as a link that leads nowhere.
/// Each is logged with `tracing` as a warning, once a name. (The directory itself may be named by a
/// link.) A file that is changed, shortened or removed while it is read fails the job; it may be
/// removed after it was read. Directories within are ignored.
///
/// *Order.* Files that are found together are read in the order of their names. Subtasks share them
/// by a hash of the name, so each file belongs to one subtask.
///
/// *What was read* is in the position: the names of the files that were read and are still there.
/// To keep it small, move or remove files after their commit. Or let names ascend
/// ([`ascending`](Self::ascending)): then it is one name.
///
/// *A file is known by its name.* The job fails if another or a longer file appears under a name
/// that was read. Otherwise that file would be left out silently. Give each file a name of its own,
/// or set [`accept_changed`](Self::accept_changed). (Size and time are compared, and where these
/// differ, the first and the last 4 KiB; so a copy of the directory is the same.) Where names
/// ascend, only the last is known. A file that is renamed within the directory is a new one and is
/// read again: move read files to another directory. A name can be used again after its file was
/// found gone. Another directory than the checkpoint's fails the job too; set
/// [`moved_from`](Self::moved_from) if it was moved.
///
/// A file is in a checkpoint only once it is begun. A restored job may read files in another order
/// than the attempt before it, whose output does not count.
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
    pub(super) path: PathBuf,
    every: Duration,
    until: Option<String>,
    ascending: bool,
    pub(super) resume: Resume,
    pub(super) follow: bool,
}

impl DirectorySource {
    /// Reads the files that are in a directory, and those that will be.
    #[must_use]
    pub fn path(path: impl Into<PathBuf>) -> Self {
        let (every, resume) = (EVERY, Resume::default());
        Self { path: path.into(), every, until: None, ascending: false, follow: false, resume }
    }

    /// How often the source looks for new files, after it has read those that it found; every
    /// second by default.
    #[must_use]
    pub const fn every(mut self, interval: Duration) -> Self {
        self.every = interval;
        self
    }

    /// Ends the input when a file of this name is there and all others have been read. It is not
    /// read itself, and must be put there last.
    #[must_use]
    pub fn until(mut self, name: impl Into<String>) -> Self {
        self.until = Some(name.into());
        self
    }

    /// Promises ascending names: each is greater, byte by byte, than those of all files that were
    /// there before it. Times and numbers with leading zeros are such names. The position is then
    /// the last name, however many files there are. A file that appears after one of a greater name
    /// was read fails the job; if that happened while no job ran, it counts as read.
    #[must_use]
    pub const fn ascending(mut self) -> Self {
        self.ascending = true;
        self
    }

    /// The directory that checkpoints know as `old` is now at this source's path: a restored job
    /// resumes here.
    #[must_use]
    pub fn moved_from(mut self, old: impl AsRef<Path>) -> Self {
        self.resume.moved_from = Some(old.as_ref().to_string_lossy().into_owned());
        self
    }

    /// Takes files as they are. A file that has replaced one that was read is read too, whole. A
    /// file that was changed while it was read is continued after a restore, from the checkpoint's
    /// byte.
    #[must_use]
    pub const fn accept_changed(mut self) -> Self {
        self.resume.accept_changed = true;
        self
    }

    /// Follows links that are put into the directory. A user who can put one there can have any
    /// file read that the process may read.
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
            Err(error) => return Err(ConnectError::io("inspect", &self.path)(error)),
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

/// The files of a directory that were read, by name. The first version wrote only a list of names.
#[derive(Clone, Default, Debug, Serialize, Deserialize)]
#[serde(from = "ReadAs", into = "BTreeMap<String, Option<Known>>")]
pub(super) struct ReadFiles(BTreeMap<String, Option<Known>>);

#[derive(Deserialize)]
#[serde(untagged)]
enum ReadAs {
    Names(BTreeSet<String>),
    Files(BTreeMap<String, Option<Known>>),
}

impl From<ReadAs> for ReadFiles {
    fn from(read: ReadAs) -> Self {
        match read {
            ReadAs::Names(names) => Self(names.into_iter().map(|name| (name, None)).collect()),
            ReadAs::Files(files) => Self(files),
        }
    }
}

impl From<ReadFiles> for BTreeMap<String, Option<Known>> {
    fn from(read: ReadFiles) -> Self {
        read.0
    }
}

/// The size and time by which a file that was read differs from another of its name.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
#[serde(from = "(u64, u64, Option<Fingerprint>)", into = "(u64, u64, Option<Fingerprint>)")]
struct Known {
    size: u64,
    /// In nanoseconds since 1970.
    modified: u64,
    mark: Option<Fingerprint>,
}

impl Known {
    fn of(piece: &Piece) -> Self {
        let modified = piece.modified.unwrap_or_default();
        Self { size: piece.split.size, modified, mark: piece.split.mark }
    }
}

impl From<(u64, u64, Option<Fingerprint>)> for Known {
    fn from((size, modified, mark): (u64, u64, Option<Fingerprint>)) -> Self {
        Self { size, modified, mark }
    }
}

impl From<Known> for (u64, u64, Option<Fingerprint>) {
    fn from(Known { size, modified, mark }: Known) -> Self {
        (size, modified, mark)
    }
}

/// The next thing to read.
pub(super) enum Next {
    File(Piece),
    /// Nothing now; list again after this long.
    Wait(Duration),
    /// Nothing more, ever.
    End,
}

/// One subtask's view of a directory.
pub(super) struct Coming {
    source: DirectorySource,
    index: usize,
    parallelism: usize,
    clock: Clock,
    /// Found, but not begun.
    found: VecDeque<Piece>,
    /// The time of the last listing.
    looked: Option<Instant>,
    /// True if nothing more will come.
    last: bool,
    /// Where names ascend: the known ones that are there and come after the last that was read.
    behind: Option<BTreeSet<String>>,
    /// Skipped entries that were reported.
    odd: BTreeSet<String>,
}

impl Coming {
    /// The next file to read.
    pub(super) fn next(&mut self, read: &mut ReadFiles) -> Result<Next, ConnectError> {
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

    /// Records that a file was read to its end.
    pub(super) fn was_read(&mut self, piece: &Piece, read: &mut ReadFiles) {
        let name = piece.path().file_name().and_then(|name| name.to_str()).unwrap_or_default();
        if self.source.ascending {
            read.0.clear();
            // Before the first listing the directory's content is unknown.
            self.behind.iter_mut().for_each(|behind| _ = behind.insert(name.into()));
        }
        read.0.insert(name.into(), Some(Known::of(piece)));
    }

    fn look(&mut self, read: &mut ReadFiles) -> Result<(), ConnectError> {
        let (mut there, mut last) = self.list()?;
        if last {
            // A file put there before the last one may be missing in a listing that was begun
            // before it.
            (there, last) = self.list()?;
        }
        if self.source.ascending {
            let Some((newest, known)) = read.0.last_key_value() else {
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
            let (newest, mut known) = (newest.clone(), *known);
            behind.insert(newest.clone());
            there = newer;
            // A file that is read again is still the newest: no lesser name may come.
            if let Some(piece) = there.get(&newest)
                && let Some(now) = self.look_again(piece, known)?
            {
                known = Some(now);
                there.remove(&newest);
            }
            read.0.insert(newest, known);
            self.behind = Some(behind);
        } else {
            let mut kept = BTreeMap::new();
            for (name, known) in std::mem::take(&mut read.0) {
                if let Some(piece) = there.get(&name)
                    && let Some(known) = self.look_again(piece, known)?
                {
                    there.remove(&name);
                    kept.insert(name, Some(known));
                }
            }
            read.0 = kept;
        }
        self.find(there, last);
        Ok(())
    }

    /// Compares a file with the one of its name that was read. Returns what is known of it now;
    /// `None` if it is to be read too; or an error.
    fn look_again(
        &self,
        piece: &Piece,
        known: Option<Known>,
    ) -> Result<Option<Known>, ConnectError> {
        let now = Known::of(piece);
        // The first version knew only the name, and a later one took over only size and time: then
        // the present file counts.
        let known = known.unwrap_or(now);
        let is_same = (known.size, known.modified) == (now.size, now.modified);
        if is_same && known.mark.is_some() {
            return Ok(Some(known));
        }
        if known.size == now.size {
            beat();
            let mark = match plain_file::open(piece.path(), self.source.follow) {
                Ok((mut file, _)) => Fingerprint::of(&mut file, now.size)
                    .map_err(ConnectError::io("read", piece.path()))?,
                // It was removed since it was listed.
                Err(error) if error.io_kind() == Some(ErrorKind::NotFound) => {
                    return Ok(Some(known));
                }
                Err(error) => return Err(error),
            };
            if mark == known.mark || known.mark.is_none() {
                return Ok(Some(Known { mark, ..now }));
            }
        }
        match self.source.resume.accept_changed {
            true => Ok(None),
            false => Err(ConnectError::PutAgain { path: piece.path().to_owned() }),
        }
    }

    fn find(&mut self, there: BTreeMap<String, Piece>, last: bool) {
        self.found = there.into_values().collect();
        self.last = last;
    }

    /// This subtask's files that are there, by name, and true if they are the last.
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
                    why: "checkpoints hold file names as text, and this name is not UTF-8",
                });
            };
            beat();
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

#[cfg(test)]
mod tests {
    use snapline_protocol::ids::{Attempt, Term};

    use super::*;

    /// A file was listed, and is removed before it is compared with what was read.
    #[test]
    fn a_file_that_goes_before_it_is_looked_into_is_no_other() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("a");
        fs::write(&path, "1\n").expect("writes");
        let context = OpenContext::new("job", "in", 0, 1, Attempt::first(Term::new(1)));
        let coming = DirectorySource::path(dir.path()).open(&context).expect("it is there");
        let data = fs::metadata(&path).expect("it is there");
        let piece = Piece::whole(path.to_str().expect("UTF-8").to_owned(), &data);
        let known = Known { modified: 7, ..Known::of(&piece) };
        fs::remove_file(&path).expect("removes");
        let found = coming.look_again(&piece, Some(known)).expect("it is passed over");
        assert!(found.is_some_and(|found| found.modified == 7));
    }
}
