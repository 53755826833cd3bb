//! A source that reads lines of files.

mod resume;
mod split;

use std::fs::File;
use std::io::{BufRead, BufReader, ErrorKind, Read, Seek, SeekFrom, Take};
use std::path::Path;

use serde::{Deserialize, Serialize};
use snapline_protocol::ids::Attempt;

#[cfg(feature = "formats")]
pub(super) use self::{
    resume::Resume,
    split::{Split, SplitFile},
};
#[cfg(not(feature = "formats"))]
use self::{
    resume::Resume,
    split::{Split, SplitFile},
};
use crate::plain_file;
use snapline_core::base::error::BoxError;
use snapline_core::base::sync::{Arc, Mutex, lock};
use snapline_core::connect::text::{MARK, is_utf16};
use snapline_core::connect::{
    Collect, ConnectError, ConnectorError, OpenContext, Progress, Source, SourceReader,
};
use snapline_core::fs::same_path;

/// Bytes of one read.
const BUFFER: usize = 256 * 1024;

/// The longest line by default: 1 MiB.
const LONGEST: usize = 1 << 20;

/// Reads lines, as strings without their ends: `\n` or `\r\n`. The last line of a file needs none.
/// Lines keep their order within a split, which is a file, or a piece of a big one.
///
/// The files and their lengths are determined when the job begins, and are part of the position: a
/// restored job reads the same bytes. A file that vanished or shrank meanwhile fails it. Bytes
/// added to a file later, and new files, are not read.
///
/// *Another file of the same name* fails the job. A file is known by its content: the first and the
/// last 4 KiB of its bytes at the job's start. They are compared each time the file is opened, and
/// after a piece of it was read. So a file may grow and may be copied to another machine; one with
/// unchanged ends counts as the same. After a repair in a part that was not read yet, set
/// [`accept_changed`](Self::accept_changed).
///
/// *Another path* fails a restored job: files that were moved are found with
/// [`moved_from`](Self::moved_from). *Which files.* Plain ones. A path that names a pipe, a socket
/// or a device fails the job: it cannot be read again. So does a file whose length the system does
/// not know (in `/proc`). In a directory, and among a pattern's matches, links are skipped unless
/// they may be [followed](Self::follow_links). Pipes, sockets and devices are skipped too, and so
/// are entries that are gone by then, such as a link that leads nowhere. Each is logged with
/// `tracing` as a warning. A link that the path itself names is followed. An empty file has no
/// lines, compressed or not.
///
/// *Text* is UTF-8. A byte order mark at the beginning of a file is skipped; a file in UTF-16 fails
/// the job.
///
/// ```
/// use snapline::connect::FileSource;
/// let one = FileSource::path("words.txt");
/// let all_in_a_directory = FileSource::path("logs");
/// let matching = FileSource::path("logs/2026-*/*.log").lossy();
/// ```
#[derive(Clone, Debug)]
pub struct FileSource {
    pub(super) path: String,
    lossy: bool,
    longest: usize,
    follow: bool,
    pub(super) split_bytes: Option<u64>,
    pub(super) resume: Resume,
    /// The files that each operator's subtasks read in its latest attempt. Subtasks that begin at
    /// different moments must agree on them; clones share the value.
    plans: Arc<Mutex<Vec<ReadPlan>>>,
}

impl FileSource {
    /// Reads a file, or the visible files directly in a directory, or those that a pattern of `*`,
    /// `?`, `**` and `[...]` matches. Files are read in the order of their names.
    #[must_use]
    pub fn path(path: impl AsRef<Path>) -> Self {
        // A path that is not UTF-8 is not found below, and the error names it as well as possible.
        let path = path.as_ref().to_string_lossy().into_owned();
        let (lossy, longest, follow, split_bytes) = (false, LONGEST, false, None);
        let (resume, plans) = (Resume::default(), Arc::default());
        Self { path, lossy, longest, follow, split_bytes, resume, plans }
    }

    /// Replaces bytes that are not UTF-8 by `U+FFFD`; otherwise they fail the job.
    #[must_use]
    pub const fn lossy(mut self) -> Self {
        self.lossy = true;
        self
    }

    /// The longest line, in bytes without its end; 1 MiB by default. A longer one fails the job,
    /// and memory holds at most this much of it. (For `decode`, `csv` and `json_lines` it is
    /// `max_record_bytes`.)
    ///
    /// # Panics
    /// If it is zero.
    #[must_use]
    pub const fn max_line_bytes(mut self, bytes: usize) -> Self {
        assert!(bytes > 0, "`max_line_bytes` must be greater than zero");
        self.longest = bytes;
        self
    }

    /// Follows links that are in the directory, or that the pattern matches or leads over. A user
    /// who can put a link there can have any file read that the process may read.
    #[must_use]
    pub const fn follow_links(mut self) -> Self {
        self.follow = true;
        self
    }

    /// True if one of its files may be opened through a link: the path that was named may.
    pub(super) fn follows(&self, file: &str) -> bool {
        self.follow || same_path(file, &self.path)
    }

    /// Splits files into pieces of this many bytes. By default there are enough pieces to keep all
    /// subtasks busy.
    ///
    /// # Panics
    /// If it is zero.
    #[must_use]
    pub fn split_bytes(mut self, bytes: u64) -> Self {
        assert!(bytes > 0, "`split_bytes` must be greater than zero");
        self.split_bytes = Some(bytes);
        self
    }

    /// The files that checkpoints know under the path `old` are now under this source's path: a
    /// restored job resumes them here. For a pattern, the directory before its first `*`, `?` or
    /// `[` is what moved. It is needed only until the next checkpoint.
    #[must_use]
    pub fn moved_from(mut self, old: impl AsRef<Path>) -> Self {
        self.resume.moved_from = Some(old.as_ref().to_string_lossy().into_owned());
        self
    }

    /// Restores the job though files have changed: they are read as they are now, from the
    /// checkpoint's byte to their present end. It is for a file that was repaired after that byte;
    /// the part of the old one that was read stays. It is needed only until the next checkpoint. It
    /// has no effect where no file was changed.
    #[must_use]
    pub const fn accept_changed(mut self) -> Self {
        self.resume.accept_changed = true;
        self
    }

    /// The files that the subtasks read when there is no checkpoint.
    pub(super) fn plan(&self, context: &OpenContext) -> Result<Arc<Vec<SplitFile>>, ConnectError> {
        let mut plans = lock(&self.plans);
        let OpenContext { job, operator, attempt, .. } = context;
        let same = |plan: &&ReadPlan| plan.job == *job && plan.operator == *operator;
        if let Some(plan) = plans.iter().find(|plan| same(plan) && plan.attempt == *attempt) {
            return Ok(Arc::clone(&plan.inputs));
        }
        let inputs = Arc::new(split::inputs(&self.path, self.follow)?);
        plans.retain(|plan| !same(&plan));
        plans.push(ReadPlan {
            job: job.clone(),
            operator: operator.clone(),
            attempt: *attempt,
            inputs: Arc::clone(&inputs),
        });
        Ok(inputs)
    }
}

/// The files that the subtasks of one operator read.
#[derive(Debug)]
struct ReadPlan {
    job: String,
    operator: String,
    attempt: Attempt,
    inputs: Arc<Vec<SplitFile>>,
}

impl Source for FileSource {
    type Record = String;
    type Position = FilePosition;
    type Reader = FileReader;

    fn open(
        &self,
        context: &OpenContext,
        position: Option<FilePosition>,
    ) -> Result<FileReader, BoxError> {
        let position = match position {
            Some(mut position) => {
                let splits = Arc::make_mut(&mut position.splits);
                let files = splits.iter_mut().map(|split| &mut split.file);
                self.resume.at(position.path.as_deref(), &self.path, files)?;
                self.resume.files(splits.iter_mut(), Some(position.offset));
                position.path = Some(self.path.as_str().into());
                position.check()?;
                position
            }
            None => {
                let inputs = self.plan(context)?;
                let splits = split::splits(&inputs, self.split_bytes, context);
                let (splits, path) = (Arc::new(splits), Some(self.path.as_str().into()));
                FilePosition { splits, split: 0, offset: 0, path }.at_split(0)
            }
        };
        let source = Self { plans: Arc::default(), ..self.clone() };
        Ok(FileReader { position, source, open: None, bytes: 0 })
    }
}

/// The position of a reader of a [`FileSource`]: its split, and the byte in the file.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(from = "StoredPosition", into = "StoredPosition")]
pub struct FilePosition {
    /// The subtask's splits.
    splits: Arc<Vec<Split>>,
    split: usize,
    offset: u64,
    /// The source's path.
    path: Option<Arc<str>>,
}

impl FilePosition {
    /// The file that is read next and the byte from which; `None` at the end.
    #[must_use]
    pub fn next(&self) -> Option<(&Path, u64)> {
        let split = self.splits.get(self.split)?;
        Some((Path::new(&split.file), self.offset))
    }

    fn at_split(mut self, split: usize) -> Self {
        self.split = split;
        self.offset = self.splits.get(split).map_or(0, |split| split.from);
        self
    }

    /// Checks that the files still to be read are there.
    fn check(&self) -> Result<(), ConnectError> {
        let Some(left) = self.splits.get(self.split..) else {
            return Err(bad(format!("split {} of {}", self.split, self.splits.len())));
        };
        let mut last = None;
        for split in left {
            if last != Some(&split.file) {
                split.check()?;
                last = Some(&split.file);
            }
        }
        match left.first() {
            Some(split) if !(split.from..=split.size).contains(&self.offset) => {
                Err(bad(format!("byte {} of `{}`", self.offset, split.file)))
            }
            _ => Ok(()),
        }
    }
}

fn bad(why: String) -> ConnectError {
    ConnectError::BadPosition { source: "file source", why }
}

/// A position as checkpoints hold it: without the splits that were read.
#[derive(Serialize, Deserialize)]
struct StoredPosition {
    splits: Vec<Split>,
    offset: u64,
    /// The path given to the source; the first version did not record it.
    #[serde(default)]
    path: Option<String>,
}

impl From<FilePosition> for StoredPosition {
    fn from(position: FilePosition) -> Self {
        let splits = position.splits[position.split..].to_vec();
        let path = position.path.map(|path| path.as_ref().into());
        Self { splits, offset: position.offset, path }
    }
}

impl From<StoredPosition> for FilePosition {
    fn from(written: StoredPosition) -> Self {
        let (splits, path) = (Arc::new(written.splits), written.path.map(Arc::from));
        Self { splits, split: 0, offset: written.offset, path }
    }
}

/// Reads one subtask's share of a [`FileSource`].
#[derive(Debug)]
pub struct FileReader {
    position: FilePosition,
    source: FileSource,
    /// The split that is being read, opened at the position.
    open: Option<BufReader<Take<File>>>,
    /// The number of bytes in its lines, with their ends.
    bytes: u64,
}

impl SourceReader for FileReader {
    type Record = String;
    type Position = FilePosition;

    fn read<C: Collect<String>>(
        &mut self,
        limit: usize,
        out: &mut C,
    ) -> Result<Progress, BoxError> {
        let mut read = 0;
        while read < limit {
            let Some(split) = self.position.splits.get(self.position.split) else { break };
            let mut split = split.clone();
            let mut lines = match self.open.take() {
                Some(lines) => lines,
                None => self.open(&mut split)?,
            };
            // A line belongs to the split in which it begins.
            while read < limit && self.position.offset < split.to {
                if let Some(line) = self.line(&split, &mut lines)? {
                    out.push(line);
                }
                read += 1;
            }
            if self.position.offset < split.to {
                self.open = Some(lines);
            } else {
                // It was open all the while, and may have been overwritten.
                split.check_mark(&mut lines.into_inner().into_inner())?;
                let next = self.position.split + 1;
                self.position = self.position.clone().at_split(next);
            }
        }
        let end = self.position.split == self.position.splits.len();
        Ok(if end { Progress::End } else { Progress::More })
    }

    fn position(&self) -> FilePosition {
        self.position.clone()
    }

    fn bytes_read(&self) -> Option<u64> {
        Some(self.bytes)
    }
}

impl FileReader {
    /// Opens a split at the position. If that is its beginning, moves to its first line.
    fn open(&mut self, split: &mut Split) -> Result<BufReader<Take<File>>, ConnectError> {
        let file = split.file.clone();
        let path = Path::new(&file);
        let opened = plain_file::open(path, self.source.follows(&split.file));
        let (mut file, data) = opened.map_err(|error| match error.io_kind() {
            Some(ErrorKind::NotFound) => split.vanished(),
            _ => error,
        })?;
        split.check_size(data.len())?;
        split.check_mark(&mut file)?;
        if split.mark.is_none() {
            // It could not be examined when the job started.
            split.pin(&mut file)?;
            let splits = &mut Arc::make_mut(&mut self.position.splits)[self.position.split..];
            let pieces = splits.iter_mut().take_while(|piece| piece.file == split.file);
            pieces.for_each(|piece| piece.mark = split.mark);
        }
        let offset = self.position.offset;
        // From one byte before: if that is the end of a line, a line begins at the split's
        // beginning.
        let inside = split.from > 0 && offset == split.from;
        let from = if inside { offset - 1 } else { offset };
        file.seek(SeekFrom::Start(from)).map_err(ConnectError::io("read", path))?;
        let mut lines = BufReader::with_capacity(BUFFER, file.take(split.size - from));
        if inside {
            // From the byte before, up to the greatest length of a line, with its end.
            let most = self.source.longest.saturating_add(3) as u64;
            let mut skipped = Vec::new();
            let bytes = lines.by_ref().take(most).read_until(b'\n', &mut skipped);
            let bytes = bytes.map_err(ConnectError::io("read", path))? as u64;
            if bytes == most && skipped.last() != Some(&b'\n') {
                return Err(self.long_line(split, split.from));
            }
            self.position.offset = from + bytes;
        }
        Ok(lines)
    }

    fn long_line(&self, split: &Split, offset: u64) -> ConnectError {
        ConnectError::LongLine { path: (&split.file).into(), offset, limit: self.source.longest }
    }

    /// Reads the line at the position, and moves past it; `None` if there is only a byte order
    /// mark.
    fn line(
        &mut self,
        split: &Split,
        lines: &mut BufReader<Take<File>>,
    ) -> Result<Option<String>, ConnectError> {
        let path = Path::new(&split.file);
        let mut line = Vec::new();
        let mark = if self.position.offset == 0 { MARK.len() } else { 0 };
        let most = self.source.longest.saturating_add(2 + mark);
        let bytes = lines.by_ref().take(most as u64).read_until(b'\n', &mut line);
        let bytes = bytes.map_err(ConnectError::io("read", path))?;
        let (mut begin, end) = (self.position.offset, self.position.offset + bytes as u64);
        if begin == 0 {
            if is_utf16(&line) {
                return Err(ConnectError::Utf16 { path: path.to_owned() });
            }
            if line.starts_with(MARK) {
                line.drain(..MARK.len());
                begin = MARK.len() as u64;
            }
        }
        let is_none = line.is_empty();
        let is_whole = line.pop_if(|last| *last == b'\n').is_some();
        if is_whole {
            line.pop_if(|last| *last == b'\r');
        }
        if line.len() > self.source.longest {
            return Err(self.long_line(split, begin));
        }
        if !is_whole && end < split.size {
            // Only the end of the recorded bytes ends a line without a line end: the file was cut
            // off while it was open.
            return Err(split.shrunk(end));
        }
        let line = match String::from_utf8(line) {
            Ok(line) => line,
            Err(error) if self.source.lossy => {
                String::from_utf8_lossy(error.as_bytes()).into_owned()
            }
            Err(error) => {
                let offset = begin + error.utf8_error().valid_up_to() as u64;
                return Err(ConnectError::NotUtf8 { path: path.to_owned(), offset });
            }
        };
        self.position.offset = end;
        self.bytes += bytes as u64;
        Ok((!is_none).then_some(line))
    }
}

#[cfg(test)]
mod tests {
    use snapline_protocol::ids::Term;

    use super::*;

    /// For instance, there were too many open files when it was listed.
    #[test]
    fn a_file_that_could_not_be_looked_at_is_when_it_is_opened() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("a").to_str().expect("UTF-8").to_owned();
        std::fs::write(&path, "1\n2\n3\n").expect("writes");
        let source = FileSource::path(&path).split_bytes(2);
        let context = OpenContext::new("job", "in", 0, 1, Attempt::first(Term::new(1)));
        let mut reader = source.open(&context, None).expect("opens");
        let marks = |reader: &FileReader| -> Vec<_> {
            reader.position().splits.iter().map(|split| split.mark).collect()
        };
        let known = marks(&reader);
        assert!(known.len() == 3 && known[0].is_some());
        let splits = Arc::make_mut(&mut reader.position.splits);
        splits.iter_mut().for_each(|split| split.mark = None);
        reader.read(1, &mut Vec::new()).expect("reads");
        assert_eq!(marks(&reader), known);
    }
}
