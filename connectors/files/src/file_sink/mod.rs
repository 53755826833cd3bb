//! An exactly-once sink that writes lines to files.
//!
//! ```text
//! results/                                     a directory for readers
//!   part-counts-00-00000012-t3a1.txt           committed: operator, subtask, checkpoint,
//!                                              term and attempt
//!   part-counts-01-00000012-t3a1.txt
//!   part-counts-01-00000012-t3a1r1.txt         of the same transaction, after a file was long or
//!                                              old enough
//!   .snapline/counts/                          the operator's own
//!     owner                                    the job and operator that write here, and a random
//!                                              name, by which committables know the place
//!     LOCK                                     held shared to prepare, commit and roll back,
//!                                              exclusively to fence
//!     fence                                    the latest attempt: earlier ones are refused
//!     open/00-t3a1-0.open                      being written
//!     open/part-counts-00-...-t3a1.txt.s7      closed, not prepared
//!     prepared/part-counts-00-...-t3a1.txt.s7  prepared: on the disk under its name
//!     committed-00                             the transactions that subtask 00 committed, or is
//!                                              about to commit
//! ```
//!
//! A transaction is one or more files. Each is renamed twice: from `open/` to `prepared/` after a
//! sync, and from there to the readers' directory. The record in `committed-00`, which is on the
//! disk *before* the rename, makes a repeated commit safe, also when a reader has moved the file
//! away:
//!
//! | recorded | prepared | in place | is |
//! |---|---|---|---|
//! | no | yes | no | prepared: commit records it and renames |
//! | yes | yes | no | being committed, perhaps by a crashed process: commit renames |
//! | yes | no | any | committed |
//! | any | yes | yes | committed; a crash brought the old name back, commit removes it |
//! | no | no | yes | committed by a process whose record was lost |
//! | no | no | no | lost |
//!
//! Commits of a subtask go in order (SPEC 6.6), so everything up to the newest recorded transaction
//! counts as recorded.
//!
//! In a transaction of several files the table holds for each. They are prepared in order, recorded
//! together, and renamed in order; a retried call continues with the remaining ones. If one of them
//! is lost, the transaction is lost, and no remaining file is renamed.

mod committer;
#[cfg(feature = "formats")]
mod csv;
mod disk;
#[cfg(feature = "fuzzing")]
pub(crate) mod door;
mod encode;
mod layout;
mod marker;
#[cfg(feature = "parquet")]
mod parquet;
#[cfg(feature = "formats")]
mod row;
mod writer;

use std::fmt;
use std::fs;
use std::io::{self, BufRead, BufReader};
use std::marker::PhantomData;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use snapline_protocol::ids::TxnId;

pub use self::committer::FileCommitter;
#[cfg(feature = "formats")]
pub use self::csv::CsvEncoder;
#[cfg(feature = "formats")]
pub use self::encode::JsonEncoder;
pub use self::encode::{ByLine, Encode, EncodeFile, FileEncoder, LineEncoder, Plain};
use self::layout::{Layout, Part};
use self::marker::{Durable, SubtaskMarker};
#[cfg(feature = "parquet")]
pub use self::parquet::{Parquet, ParquetEncoder};
pub use self::writer::FileWriter;
use self::writer::{ClosedFiles, Rolling};
use super::compress::{Compression, WINDOW};
#[cfg(feature = "formats")]
use super::decode::{Csv, JsonLines};
use snapline_core::base::error::BoxError;
use snapline_core::base::sync::Arc;
use snapline_core::connect::{ConnectError, OpenContext, TwoPhaseSink};
use snapline_core::fs::{Disk, Files};

/// Writes records to files: as lines, or in another format. A file appears, whole, when its
/// transaction is committed, and never changes again: readers need only the directory. A file holds
/// the records that one subtask wrote between two checkpoints, or part of them
/// ([`roll_bytes`](Self::roll_bytes), [`roll_every`](Self::roll_every)); without records there is
/// no file. Files of one transaction appear one after the other, those of several subtasks in any
/// order.
///
/// The directory and what is in it must be on one file system that renames atomically. Two jobs, or
/// two operators of one name, cannot write to one directory: the second fails to open. A restored
/// job must find the directory that its checkpoint was committed to, with `.snapline` in it. An
/// emptied one, another job's, or an older copy fails it
/// ([`accept_other_directory`](Self::accept_other_directory)). Readers may move or delete the files
/// that they have read. Prepared files stay, in a directory whose name begins with a dot, until
/// they are committed or rolled back, however long that takes. So there is no
/// [`transaction_timeout`](snapline_core::connect::TwoPhaseSink::transaction_timeout), unless old files are removed
/// from the directory by other means.
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
    rolling: Rolling,
    accept_other: bool,
    /// The file system of the directory.
    files: Arc<dyn Files>,
    takes: PhantomData<fn(T)>,
}

impl<T, E: Clone> Clone for FileSink<T, E> {
    fn clone(&self) -> Self {
        Self {
            dir: self.dir.clone(),
            extension: self.extension.clone(),
            encode: self.encode.clone(),
            rolling: self.rolling,
            accept_other: self.accept_other,
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
    /// A sink that writes to files in `dir`, which is made when the job starts. Records are written
    /// by their `Display`.
    pub fn new(dir: impl Into<PathBuf>) -> Self {
        Self::of(dir.into(), Plain, "txt")
    }

    /// Writes to another file system than the operating system's.
    #[cfg(feature = "sim")]
    pub fn on(self, files: impl Files) -> Self {
        Self { files: Arc::new(files), ..self }
    }
}

#[cfg(feature = "formats")]
impl<T: Serialize> FileSink<T, Csv> {
    /// A sink that writes [`Csv`], between commas. If a record is a struct or a map, every file
    /// begins with a header of its fields' names. A tuple has no names, and its files have no
    /// header. A struct with a list or a struct inside fails the job.
    ///
    /// *Columns* are the fields of the first record that a subtask writes, or those of
    /// [`Csv::header`] or [`Csv::columns`]. They are the same in all files of the subtask. Each
    /// value is written under its own name. A field that is skipped (`skip_serializing_if`), or
    /// that a map or a flattened struct lacks, is an empty value. A field without a column fails
    /// the job with [`ConnectError::Unwritable`]. So does a struct that lacks a column's field, and
    /// a tuple of another length.
    ///
    /// *Values.* An empty text and `None` are both an empty field. NaN and infinities are `NaN`,
    /// `inf` and `-inf`.
    ///
    /// ```
    /// use snapline::connect::{Csv, FileSink};
    /// #[derive(serde::Serialize)]
    /// struct Total { customer: String, cents: i64 }
    /// let totals = FileSink::<Total, _>::csv("totals").extension("csv.gz").roll_bytes(64 << 20);
    /// let others = FileSink::<Total>::new("others").format(Csv::new().delimiter(b';')).extension("csv");
    /// ```
    pub fn csv(dir: impl Into<PathBuf>) -> Self {
        Self::of(dir.into(), Csv::new(), "csv")
    }
}

#[cfg(feature = "formats")]
impl<T: Serialize> FileSink<T, JsonLines> {
    /// A sink that writes [`JsonLines`]: one record per line.
    pub fn json_lines(dir: impl Into<PathBuf>) -> Self {
        Self::of(dir.into(), JsonLines::new(), "jsonl")
    }
}

impl<T, E> FileSink<T, E> {
    fn of(dir: PathBuf, encode: E, extension: &str) -> Self {
        let (files, rolling) = (Arc::new(Disk), Rolling::default());
        let (extension, takes) = (extension.into(), PhantomData);
        Self { dir, extension, encode, rolling, accept_other: false, files, takes }
    }

    /// Writes records as `encode` appends them, each followed by a line end. A record that is
    /// encoded with line ends inside becomes several lines.
    #[must_use]
    pub fn encode<F: Fn(&T, &mut Vec<u8>)>(self, encode: F) -> FileSink<T, ByLine<F>> {
        self.with(ByLine(encode))
    }

    /// Writes another format. The extension stays as it is.
    #[must_use]
    pub fn format<F: EncodeFile<T>>(self, format: F) -> FileSink<T, F> {
        self.with(format)
    }

    fn with<F>(self, encode: F) -> FileSink<T, F> {
        let Self { dir, extension, rolling, accept_other, files, takes, .. } = self;
        FileSink { dir, extension, encode, rolling, accept_other, files, takes }
    }

    /// The end of committed files' names, without the dot; the default is `txt`, or the format's.
    /// Letters, digits and dots. Files whose names end in `.gz` or `.zst` are compressed so (with
    /// the feature `formats`; without it the sink does not open).
    #[must_use]
    pub fn extension(mut self, extension: impl Into<String>) -> Self {
        self.extension = extension.into();
        self
    }

    /// Restores the job though its checkpoint was committed to another directory than this one,
    /// which may be emptied, new, or an older copy. Output that the checkpoint records as committed
    /// to the other directory counts as committed; if it was not, it is lost. It is needed only
    /// until the next checkpoint.
    #[must_use]
    pub const fn accept_other_directory(mut self) -> Self {
        self.accept_other = true;
        self
    }

    /// Ends a file when it has this many bytes, compressed, and begins the next. Between two
    /// checkpoints there are at most 65,536 files; the last has no bound. The length is checked
    /// after each batch of records, so a file may be longer by up to one batch. Bytes gathered
    /// before compression count at their full length.
    ///
    /// # Panics
    /// If it is zero.
    #[must_use]
    pub fn roll_bytes(mut self, bytes: u64) -> Self {
        assert!(bytes > 0, "`roll_bytes` must be greater than zero");
        self.rolling.bytes = Some(bytes);
        self
    }

    /// Ends a file when its first record is this old, and begins the next. The age is checked after
    /// each batch of records; without a batch, the next checkpoint ends the file, as always. This
    /// does not change when a file appears: that is with the checkpoint.
    #[must_use]
    pub const fn roll_every(mut self, time: Duration) -> Self {
        self.rolling.every = Some(time);
        self
    }
}

impl FileSink<String> {
    /// All committed lines in a directory: see [`read_committed`].
    ///
    /// # Errors
    /// If the directory or one of its files cannot be read.
    pub fn read_committed(dir: impl AsRef<Path>) -> io::Result<Vec<String>> {
        read_committed(dir)
    }
}

impl<T, E> TwoPhaseSink for FileSink<T, E>
where
    T: Send + 'static,
    E: EncodeFile<T>,
{
    type Record = T;
    type Committable = FileCommittable;
    type Writer = FileWriter<T, E::Encoder>;
    type Committer = FileCommitter;

    fn open(&self, context: &OpenContext) -> Result<(Self::Writer, FileCommitter), BoxError> {
        let mut layout = Layout::of(&self.files, &self.dir, &self.extension, context)?;
        layout.accept_other = self.accept_other;
        let compression = Compression::of(&layout.part_like());
        if !compression.is_built_in() {
            let (what, name) = ("the extension", self.extension.clone());
            let why = "compressed files need the crate's feature `formats`";
            return Err(ConnectError::BadName { what, name, why }.into());
        }
        layout.place = disk::claim(&layout)?;
        let own = layout.own_marker(context.index);
        let newest = SubtaskMarker::read(&layout.files, own, &Durable::new())?.newest();
        let (encoder, closed) = (self.encode.encoder(), ClosedFiles::default());
        let (place, unsynced) = (layout.clone(), Arc::clone(&closed));
        let writer = FileWriter::new(place, encoder, compression, self.rolling, newest, unsynced);
        Ok((writer, FileCommitter::new(layout, closed)))
    }
}

/// The checkpoint at which a committed file was closed, by its name; `None` if the name is not a
/// committed file's.
#[cfg(feature = "sim")]
pub fn committed_checkpoint(name: &str) -> Option<snapline_protocol::ids::CheckpointId> {
    Part::parse(name).map(|part| part.checkpoint)
}

/// True if a committed file of this name holds a transaction of this operator's subtask.
#[cfg(feature = "sim")]
pub fn is_file_of(name: &str, operator: &str, index: usize, txn: TxnId) -> bool {
    let TxnId { checkpoint, attempt, .. } = txn;
    let part = Part::parse(name).map(|part| Part { roll: 0, ..part });
    part == Some(Part { operator: layout::escape(operator), index, checkpoint, attempt, roll: 0 })
}

/// A closed transaction of a [`FileSink`].
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct FileCommittable {
    /// The name of the first file when it is committed.
    file: String,
    /// Its number of bytes. With none, it does not exist.
    bytes: u64,
    /// The bytes of the further files.
    #[serde(default)]
    rolled: Vec<u64>,
    /// The name of the place that it was written to; the first version did not record it.
    #[serde(default)]
    place: Option<String>,
    /// A transaction of the subtask that is committed before this one.
    #[serde(default)]
    behind: Option<TxnId>,
}

impl FileCommittable {
    fn of(file: String, lengths: &[u64]) -> Self {
        let (bytes, rolled) = match lengths {
            [] => (0, Vec::new()),
            [bytes, rolled @ ..] => (*bytes, rolled.to_vec()),
        };
        Self { file, bytes, rolled, place: None, behind: None }
    }

    /// The name of the first committed file in the sink's directory; `None` if the transaction is
    /// empty.
    #[must_use]
    pub fn file(&self) -> Option<&str> {
        (self.bytes > 0).then_some(&self.file)
    }

    /// The names of the committed files in the sink's directory, and their lengths in bytes.
    pub fn files(&self) -> impl Iterator<Item = (String, u64)> {
        let lengths = || std::iter::once(&self.bytes).chain(&self.rolled);
        let files = (0..lengths().count()).zip(lengths());
        let there: Vec<_> = files.filter(|(_, bytes)| **bytes > 0).collect();
        there.into_iter().map(|(roll, bytes)| (self.name(roll), *bytes))
    }

    /// The number of bytes in all files.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        // A checkpoint that others wrote can contain any numbers.
        self.rolled.iter().fold(self.bytes, |sum, bytes| sum.saturating_add(*bytes))
    }

    fn name(&self, roll: usize) -> String {
        layout::rolled(&self.file, roll as u32)
    }
}

/// All committed lines in a directory that [`FileSink`]s wrote to, file by file: by operator,
/// subtask, and then in the order of commits. Files of other names are skipped. Compressed files
/// are decompressed; a header is a line.
///
/// # Errors
/// If the directory or one of its files cannot be read.
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
        let compression = Compression::of(&path.to_string_lossy());
        let file = fs::File::open(&path).and_then(|file| compression.reader(file, WINDOW));
        for line in BufReader::new(file.map_err(name_it)?).lines() {
            lines.push(line.map_err(name_it)?);
        }
    }
    Ok(lines)
}
