//! An exactly-once sink that writes lines to files.
//!
//! ```text
//! results/                                     a directory for readers
//!   part-counts-00-00000012-t3a1.txt           committed: operator, subtask, checkpoint, term and attempt
//!   part-counts-01-00000012-t3a1.txt
//!   .snapline/counts/                          the operator's own
//!     owner                                    which job and operator write here
//!     LOCK                                     held shared to prepare, commit and roll back, alone to fence
//!     fence                                    the latest attempt: earlier ones are refused
//!     open/00-t3a1-0.open                      being written
//!     open/part-counts-00-...-t3a1.txt.s7      closed, not prepared
//!     prepared/part-counts-00-...-t3a1.txt.s7  prepared: on the disk under its name
//!     committed-00                             what subtask 00 committed, or is about to
//! ```
//!
//! A transaction is a file that is renamed: from `open/` to `prepared/` when it was synced, from there to where readers look. What makes a
//! repeated commit safe, also when a reader has moved the file away, is the record in `committed-00`, which is on the disk *before* the
//! rename:
//!
//! | recorded | prepared | in place | is |
//! |---|---|---|---|
//! | no | yes | no | prepared: commit records it and renames |
//! | yes | yes | no | being committed, perhaps by one who crashed: commit renames |
//! | yes | no | any | committed |
//! | any | yes | yes | committed; a crash brought the old name back, commit removes it |
//! | no | no | yes | committed by somebody who lost the record |
//! | no | no | no | lost |
//!
//! Commits of a subtask go in order (SPEC 6.6), so everything up to the newest recorded transaction counts as recorded.

mod committer;
mod disk;
mod layout;
mod marker;
mod writer;

use std::fmt::{self, Display};
use std::fs;
use std::io::{self, BufRead, BufReader, Write};
use std::marker::PhantomData;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

pub use self::committer::FileCommitter;
use self::layout::{Layout, Part};
pub use self::writer::FileWriter;
use super::{OpenContext, TwoPhaseSink};
use crate::error::BoxError;
use crate::files::{Disk, Files};
use crate::sync::Arc;

/// Writes each record as a line of a file. A file appears, whole, when its transaction is committed, and never changes again: readers need
/// no more than the directory. A file holds what one subtask wrote between two checkpoints; where it wrote nothing there is none.
///
/// The directory and what is in it must be on one file system that renames atomically. Two jobs, or two operators of one name, cannot
/// write to one directory: the second fails to open. Readers may move or delete the files that they have read.
///
/// ```
/// use snapline::connect::FileSink;
/// let numbers = FileSink::<u64>::new("results");
/// let pairs = FileSink::new("results")
///     .encode(|(word, count): &(String, u64), line: &mut Vec<u8>| {
///         line.extend_from_slice(format!("{word},{count}").as_bytes());
///     })
///     .extension("csv");
/// ```
pub struct FileSink<T, E = Plain> {
    dir: PathBuf,
    extension: String,
    encode: E,
    /// The file system that the directory is in.
    files: Arc<dyn Files>,
    takes: PhantomData<fn(T)>,
}

impl<T, E: Clone> Clone for FileSink<T, E> {
    fn clone(&self) -> Self {
        Self {
            dir: self.dir.clone(),
            extension: self.extension.clone(),
            encode: self.encode.clone(),
            files: Arc::clone(&self.files),
            takes: PhantomData,
        }
    }
}

impl<T, E> fmt::Debug for FileSink<T, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FileSink").field("dir", &self.dir).finish_non_exhaustive()
    }
}

impl<T> FileSink<T> {
    /// A sink that writes to files in `dir`, which is made when the job starts. Records are written as they are displayed.
    pub fn new(dir: impl Into<PathBuf>) -> Self {
        let files = Arc::new(Disk);
        Self { dir: dir.into(), extension: "txt".into(), encode: Plain, files, takes: PhantomData }
    }

    /// Writes to another file system than the operating system's.
    #[cfg(feature = "sim")]
    pub(crate) fn on(self, files: impl Files) -> Self {
        Self { files: Arc::new(files), ..self }
    }
}

impl<T, E> FileSink<T, E> {
    /// Writes records as `encode` appends them; the end of the line is added behind. A record that is encoded with line ends inside becomes
    /// several lines.
    #[must_use]
    pub fn encode<F: Fn(&T, &mut Vec<u8>)>(self, encode: F) -> FileSink<T, F> {
        let Self { dir, extension, files, takes, .. } = self;
        FileSink { dir, extension, encode, files, takes }
    }

    /// What committed files' names end in, without the dot; `txt` unless set. Letters, digits and dots.
    #[must_use]
    pub fn extension(mut self, extension: impl Into<String>) -> Self {
        self.extension = extension.into();
        self
    }
}

impl FileSink<String> {
    /// All committed lines in a directory: see [`read_committed`].
    ///
    /// # Errors
    /// Whatever reading the directory or one of its files fails with.
    pub fn read_committed(dir: impl AsRef<Path>) -> io::Result<Vec<String>> {
        read_committed(dir)
    }
}

impl<T, E> TwoPhaseSink for FileSink<T, E>
where
    T: Send + 'static,
    E: Encode<T> + Clone + Send + 'static,
{
    type Record = T;
    type Committable = FileCommittable;
    type Writer = FileWriter<T, E>;
    type Committer = FileCommitter;

    fn open(&self, context: &OpenContext) -> Result<(FileWriter<T, E>, FileCommitter), BoxError> {
        let layout = Layout::of(&self.files, &self.dir, &self.extension, context)?;
        disk::claim(&layout)?;
        let writer = FileWriter::new(layout.clone(), self.encode.clone());
        Ok((writer, FileCommitter::new(layout)))
    }
}

/// The checkpoint that a committed file was closed at, by its name; `None` if it is no such file.
#[cfg(feature = "sim")]
pub(crate) fn committed_checkpoint(name: &str) -> Option<snapline_protocol::ids::CheckpointId> {
    Part::parse(name).map(|part| part.checkpoint)
}

/// Whether a committed file of this name holds a transaction of this operator's subtask.
#[cfg(feature = "sim")]
pub(crate) fn is_file_of(
    name: &str,
    operator: &str,
    index: usize,
    txn: snapline_protocol::ids::TxnId,
) -> bool {
    let snapline_protocol::ids::TxnId { checkpoint, attempt, .. } = txn;
    let part = Part { operator: layout::escape(operator), index, checkpoint, attempt };
    Part::parse(name) == Some(part)
}

/// How a record becomes a line. Closures `Fn(&T, &mut Vec<u8>)` are encoders.
pub trait Encode<T> {
    /// Appends the record, without the end of the line.
    fn encode(&self, record: &T, line: &mut Vec<u8>);
}

/// Encodes a record as it is displayed.
#[derive(Clone, Copy, Default, Debug)]
pub struct Plain;

impl<T: Display> Encode<T> for Plain {
    fn encode(&self, record: &T, line: &mut Vec<u8>) {
        write!(line, "{record}").expect("writing to a vector does not fail");
    }
}

impl<T, F: Fn(&T, &mut Vec<u8>)> Encode<T> for F {
    fn encode(&self, record: &T, line: &mut Vec<u8>) {
        self(record, line);
    }
}

/// A closed transaction of a [`FileSink`].
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct FileCommittable {
    /// The name of the file when it is committed.
    file: String,
    /// How many bytes are in it. With none there is no file.
    bytes: u64,
}

impl FileCommittable {
    /// The name that the committed file has in the sink's directory; `None` if the transaction is empty.
    #[must_use]
    pub fn file(&self) -> Option<&str> {
        (self.bytes > 0).then_some(&self.file)
    }

    /// How many bytes the file has.
    #[must_use]
    pub const fn bytes(&self) -> u64 {
        self.bytes
    }
}

/// All committed lines in a directory that [`FileSink`]s wrote to, file by file: by operator, subtask, and then in the order of commits. Files
/// of other names are passed over.
///
/// # Errors
/// Whatever reading the directory or one of its files fails with.
pub fn read_committed(dir: impl AsRef<Path>) -> io::Result<Vec<String>> {
    let mut parts = Vec::new();
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        let name = path.file_name().and_then(|name| name.to_str());
        if let Some(part) = name.and_then(Part::parse) {
            parts.push((part, path));
        }
    }
    parts.sort();
    let mut lines = Vec::new();
    for (_, path) in parts {
        let name_it =
            |error: io::Error| io::Error::new(error.kind(), format!("{}: {error}", path.display()));
        for line in BufReader::new(fs::File::open(&path).map_err(name_it)?).lines() {
            lines.push(line.map_err(name_it)?);
        }
    }
    Ok(lines)
}
