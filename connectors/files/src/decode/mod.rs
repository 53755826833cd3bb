//! Records from files: CSV, JSON lines and lines of text, compressed or not. The files exist at the
//! start, or arrive one after the other.

mod directory;
mod format;
mod frames;
mod malformed;
mod piece;
mod reader;

use std::collections::VecDeque;
use std::marker::PhantomData;
use std::path::Path;

use serde::{Deserialize, Serialize};

pub use self::directory::DirectorySource;
use self::directory::ReadFiles;
pub use self::format::{
    Csv, CsvDecoder, Decoder, Format, JsonDecoder, JsonLines, LineDecoder, Lines, ParseLine, Text,
};
pub use self::malformed::{Fail, Keep, Malformed, OnMalformed, Skip};
use self::piece::{Opens, Piece};
pub use self::reader::DecodedReader;
use super::compress::{Compression, WINDOW};
use super::file_source::{FileSource, Resume, Split};
use snapline_core::base::error::BoxError;
use snapline_core::connect::{ConnectError, OpenContext, Source};

/// The longest record by default: 1 MiB.
const LONGEST: usize = 1 << 20;

/// A source of the records in files, made by [`FileSource::decode`] and
/// [`DirectorySource::decode`].
///
/// *Compressed files* are those whose names end in `.gz` or `.zst`. A file may consist of several
/// compressed ones, one after the other. A damaged or truncated file fails the job, however
/// malformed records are handled: what is missing is not known. An empty file has no records. Zeros
/// after the compressed data are skipped; anything else there fails the job. (zstd writes no
/// checksum by default. Damage within such a file may appear only as malformed records, or not at
/// all.) A restored job decompresses the file from its beginning up to its position, which takes as
/// long as it took the first time.
///
/// *Malformed records* are those that the format or serde refuses, and those that are longer than
/// [`max_record_bytes`](Self::max_record_bytes). Such a record fails the job with an error that
/// names file, line and cause, unless the source [skips](Self::skip_malformed) or
/// [keeps](Self::keep_malformed) them.
///
/// *Order and position.* The records of a file come in their order, those of several files one file
/// after the other. A file is read by one subtask, so that the line of a malformed record is known.
/// With [`FileSource::split_bytes`], uncompressed files in a format of lines are read in pieces,
/// and errors name the byte instead. A position is a byte of the file, after decompression. A
/// header is read again when a job is restored. Changed files and other paths fail the job as
/// [`FileSource`] and [`DirectorySource`] describe; compressed files are compared by their
/// compressed bytes.
///
/// *Text* is UTF-8. A byte order mark (`EF BB BF`) at the beginning of a file is skipped; a file in
/// UTF-16 fails the job ([`Format::is_text`]).
pub struct Decoded<T, F, P = Fail> {
    inputs: Inputs,
    format: F,
    longest: usize,
    /// The distance that a zstd file may look back, as a power of two.
    window: u32,
    gives: PhantomData<fn() -> (T, P)>,
}

impl<T, F: Clone, P> Clone for Decoded<T, F, P> {
    fn clone(&self) -> Self {
        let (inputs, format) = (self.inputs.clone(), self.format.clone());
        Self { inputs, format, gives: PhantomData, ..*self }
    }
}

impl<T, F: std::fmt::Debug, P> std::fmt::Debug for Decoded<T, F, P> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { inputs, format, longest, .. } = self;
        f.debug_struct("Decoded")
            .field("inputs", inputs)
            .field("format", format)
            .field("max_record_bytes", longest)
            .finish()
    }
}

/// The files to read.
#[derive(Clone, Debug)]
pub(super) enum Inputs {
    /// Those that exist when the job begins.
    There(FileSource),
    /// Those that arrive.
    Coming(DirectorySource),
}

impl Inputs {
    /// True if a file may be opened through a link.
    fn follows(&self, file: &str) -> bool {
        match self {
            Self::There(source) => source.follows(file),
            Self::Coming(directory) => directory.follow,
        }
    }
}

impl<T, F> Decoded<T, F> {
    fn new(inputs: Inputs, format: F) -> Self {
        Self { inputs, format, longest: LONGEST, window: WINDOW, gives: PhantomData }
    }
}

impl<T, F, P> Decoded<T, F, P> {
    /// The longest record, in bytes, its end included; 1 MiB by default. A longer one is malformed,
    /// and memory holds at most this much of it. Reading continues with the next line.
    ///
    /// # Panics
    /// If it is zero.
    #[must_use]
    pub fn max_record_bytes(mut self, bytes: usize) -> Self {
        assert!(bytes > 0, "`max_record_bytes` must be greater than zero");
        self.longest = bytes;
        self
    }

    /// The memory that decompressing a zstd file may take, its window, in bytes; 128 MiB by
    /// default. It is rounded up to a power of two, and is 2 GiB at most (1 GiB where addresses
    /// have 32 bits). A file that takes more fails the job; `zstd --long` writes such files.
    #[must_use]
    pub fn max_zstd_window(mut self, bytes: u64) -> Self {
        let most = if cfg!(target_pointer_width = "64") { 31 } else { 30 };
        let log = bytes.checked_next_power_of_two().map_or(most, u64::trailing_zeros);
        // A window has at least 1 KiB.
        self.window = log.clamp(10, most);
        self
    }

    /// Skips malformed records. They are counted (`snapline::TaskStatus::records_malformed`; the
    /// count is in checkpoints). Some are logged with `tracing` as warnings: the first ten, then
    /// each whose number is a power of ten.
    #[must_use]
    pub fn skip_malformed(self) -> Decoded<T, F, Skip> {
        self.with()
    }

    /// Emits malformed records beside the others, as [`Either::Right`](snapline_core::base::either::Either::Right):
    /// `Stream::split` takes them apart.
    ///
    /// ```
    /// use snapline::connect::{FileSource, Malformed, MemorySink};
    /// use snapline::{Dataflow, JobConfig};
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let place = tempfile::tempdir()?;
    /// # let path = place.path().join("prices.csv");
    /// std::fs::write(&path, "item,cents\npen,120\nink,a lot\npad,300\n")?;
    /// let (flow, prices, dead) = (Dataflow::new("prices"), MemorySink::new(), MemorySink::new());
    /// let source = FileSource::path(&path).csv::<(String, u32)>().keep_malformed();
    /// let (good, bad) = flow.source("prices", source).split();
    /// good.sink("good", prices.clone());
    /// bad.map(|bad: Malformed| format!("line {}: {}", bad.line.unwrap_or(0), bad.why))
    ///     .sink("dead-letters", dead.clone());
    /// flow.build(JobConfig::new().parallelism(1))?.run()?;
    /// assert_eq!(prices.committed(), [("pen".to_owned(), 120), ("pad".to_owned(), 300)]);
    /// assert_eq!(dead.committed(), ["line 3: column `cents`: invalid digit found in string"]);
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn keep_malformed(self) -> Decoded<T, F, Keep> {
        self.with()
    }

    fn with<Q>(self) -> Decoded<T, F, Q> {
        let Self { inputs, format, longest, window, .. } = self;
        Decoded { inputs, format, longest, window, gives: PhantomData }
    }
}

impl FileSource {
    /// Reads records of a format instead of plain lines. Also reads compressed files, see
    /// [`Decoded`].
    pub fn decode<T, F: Format<T>>(self, format: F) -> Decoded<T, F> {
        Decoded::new(Inputs::There(self), format)
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
}

impl<T, F, P> Source for Decoded<T, F, P>
where
    T: Send + 'static,
    F: Format<T>,
    P: OnMalformed<T>,
{
    type Record = P::Record;
    type Position = DecodedPosition;
    type Reader = DecodedReader<T, F, P>;

    fn open(
        &self,
        context: &OpenContext,
        position: Option<DecodedPosition>,
    ) -> Result<Self::Reader, BoxError> {
        let coming = match &self.inputs {
            Inputs::There(_) => None,
            Inputs::Coming(directory) => Some(directory.open(context)?),
        };
        let position = match position {
            Some(mut position) => {
                self.resume(&mut position)?;
                position.check(coming.is_some())?;
                position
            }
            None => {
                let pieces = self.pieces(context)?;
                let offset = pieces.front().map_or(0, |piece| piece.split.from);
                let read = coming.is_some().then(ReadFiles::default);
                let path = Some(self.inputs.path());
                DecodedPosition { pieces, offset, read, path, ..DecodedPosition::default() }
            }
        };
        let opens = Opens { inputs: self.inputs.clone(), window: self.window };
        Ok(DecodedReader::new(self.format.clone(), self.longest, opens, position, coming, context))
    }
}

impl<T, F: Format<T>, P> Decoded<T, F, P> {
    /// Resumes at a position: it must be of the path that is read now.
    fn resume(&self, position: &mut DecodedPosition) -> Result<(), ConnectError> {
        let DecodedPosition { pieces, offset, path, .. } = position;
        let (resume, now) = (self.inputs.resume(), self.inputs.path());
        let files = pieces.iter_mut().map(|piece| &mut piece.split.file);
        resume.at(path.as_deref(), &now, files)?;
        *path = Some(now);
        match (&self.inputs, pieces.front_mut()) {
            (Inputs::There(_), Some(first)) => {
                let plain = first.compression() == Compression::None;
                let offset = plain.then_some(*offset);
                resume.files(pieces.iter_mut().map(|piece| &mut piece.split), offset);
            }
            (Inputs::Coming(_), Some(begun)) if resume.accept_changed => begun.accept(*offset),
            _ => {}
        }
        Ok(())
    }

    /// One subtask's share of the files that are there.
    fn pieces(&self, context: &OpenContext) -> Result<VecDeque<Piece>, ConnectError> {
        let Inputs::There(source) = &self.inputs else { return Ok(VecDeque::new()) };
        let mut pieces = Vec::new();
        for input in source.plan(context)?.iter() {
            let bytes = source.split_bytes.filter(|_| self.format.is_lines());
            pieces.extend(Piece::of(input, bytes));
        }
        Ok(pieces.into_iter().skip(context.index).step_by(context.parallelism).collect())
    }
}

impl Inputs {
    fn path(&self) -> String {
        match self {
            Self::There(source) => source.path.clone(),
            Self::Coming(directory) => directory.path.to_string_lossy().into_owned(),
        }
    }

    const fn resume(&self) -> &Resume {
        match self {
            Self::There(source) => &source.resume,
            Self::Coming(directory) => &directory.resume,
        }
    }
}

/// The position of a reader of a [`Decoded`] source: the pieces still to be read, and the byte from
/// which to read the first. For a directory that grows, also the files that were read.
#[derive(Clone, Default, Debug, Serialize, Deserialize)]
pub struct DecodedPosition {
    /// The pieces to read; the first is being read.
    pieces: VecDeque<Piece>,
    /// The offset in the first piece's file, decompressed.
    offset: u64,
    /// The number of line ends before that, from the beginning of the piece.
    lines: u64,
    /// The number of skipped malformed records, in all.
    skipped: u64,
    /// For a directory that grows: the files that were read and are still there, or only the last.
    read: Option<ReadFiles>,
    /// The path given to the source; the first version did not record it.
    #[serde(default)]
    path: Option<String>,
}

impl DecodedPosition {
    /// The file that is read next, and the byte in it after decompression; `None` at the end, or if
    /// the next file is not known yet.
    #[must_use]
    pub fn next(&self) -> Option<(&Path, u64)> {
        let piece = self.pieces.front()?;
        Some((Path::new(&piece.split.file), self.offset))
    }

    /// The number of malformed records that this subtask has skipped since the job began.
    #[must_use]
    pub const fn skipped(&self) -> u64 {
        self.skipped
    }

    /// Checks that the files still to be read are there.
    fn check(&self, coming: bool) -> Result<(), ConnectError> {
        if self.read.is_some() != coming {
            return Err(ConnectError::BadPosition {
                source: "decoding source",
                why: match coming {
                    true => "it is one of files that are there".into(),
                    false => "it is one of a directory that grows".into(),
                },
            });
        }
        let mut last: Option<&Split> = None;
        for Piece { split, .. } in &self.pieces {
            if last.is_none_or(|last| last.file != split.file) {
                split.check()?;
            }
            last = Some(split);
        }
        match self.pieces.front() {
            Some(piece)
                if piece.compression() == Compression::None
                    && !(piece.split.from..=piece.split.size).contains(&self.offset) =>
            {
                let why = format!("byte {} of `{}`", self.offset, piece.split.file);
                Err(ConnectError::BadPosition { source: "decoding source", why })
            }
            _ => Ok(()),
        }
    }
}
