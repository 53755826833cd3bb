//! Reading a run trace (SPEC 11.5-11.7). Whatever the file holds, the result is a trace or an error
//! that names the line and the field.

use std::fmt;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use snapline_protocol::topology::{Topology, TopologyError};

use super::event::LineEvent;
use super::format::{FORMAT, Header, Line, VERSION, What};

/// The longest line that is read: an inventory of a thousand checkpoints of 256 subtasks fits.
const LONGEST: usize = 64 << 20;

/// The longest file that is read, since it is kept in memory. A job of many tasks that checkpoints
/// every second records as much in days.
const LONGEST_FILE: u64 = 16 << 30;

/// The largest number of a configuration in a header, so that no sum of ids overflows.
const LARGEST: u64 = 1 << 48;

/// One run, as it was recorded.
#[derive(Clone, Debug)]
pub struct RunTrace {
    name: String,
    pub(super) run: Option<Run>,
    torn: Option<usize>,
}

/// A run whose first line is whole.
#[derive(Clone, Debug)]
pub(super) struct Run {
    pub(super) header: Header,
    pub(super) topology: Topology,
    /// Whether its coordinator has claimed its term.
    pub(super) has_claimed: bool,
    /// The lines after the first, as they are in the file: as JSON in memory they would take forty
    /// times as much.
    text: String,
    /// Where each of them ends.
    ends: Vec<usize>,
}

impl Run {
    /// Adds a line that is known to be readable.
    fn push(&mut self, text: &str, number: u64) -> Result<(), Wrong> {
        let (line, _) = further(text, number)?;
        self.has_claimed |= matches!(line.what, What::Store { first: Some(_), .. });
        self.text.push_str(text);
        self.ends.push(self.text.len());
        Ok(())
    }

    /// The lines after the first.
    pub(super) fn lines(&self) -> impl ExactSizeIterator<Item = (Line, LineEvent)> {
        (0..self.ends.len()).map(|place| self.line(place))
    }

    /// One of them, by its index.
    pub(super) fn line(&self, place: usize) -> (Line, LineEvent) {
        let start = place.checked_sub(1).map_or(0, |before| self.ends[before]);
        let read = further(&self.text[start..self.ends[place]], place as u64 + 1);
        // Invariant: a line is kept only after it was read.
        read.expect("it was already read")
    }
}

/// Why a file is not a readable run trace.
pub struct ReadError {
    /// The file.
    pub file: String,
    /// The line, from 1; 0 if it is about the file as a whole.
    pub line: usize,
    /// What is wrong.
    pub wrong: Wrong,
}

/// What is wrong with a line.
#[derive(Debug)]
#[non_exhaustive]
pub enum Wrong {
    /// The file cannot be read.
    Io(io::Error),
    /// There is no trace in the directory.
    NoTraces,
    /// It is not UTF-8.
    NotText,
    /// The file is longer than 16 GiB.
    FileTooLong,
    /// It is longer than any line that is written; holds its length in bytes.
    TooLong(usize),
    /// It is not JSON.
    NotJson {
        /// The column in which it stops being JSON.
        column: usize,
        /// The parser's message.
        why: String,
    },
    /// It is JSON of another kind; holds the value in place of the format.
    NotATrace(String),
    /// It is a trace of another version; holds the version.
    OtherVersion(String),
    /// A field is missing, unknown, or not of its type.
    Field {
        /// The field, with the path to it.
        field: String,
        /// The parser's message.
        why: String,
    },
    /// The operators of the first line do not make a topology.
    Topology(TopologyError),
    /// A line is missing, duplicated, or out of place.
    Clock {
        /// The expected clock.
        expected: u64,
        /// The clock found.
        found: u64,
    },
}

impl fmt::Display for ReadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.file)?;
        if self.line > 0 {
            write!(f, ", line {}", self.line)?;
        }
        match &self.wrong {
            Wrong::Io(error) => write!(f, ": cannot be read: {error}"),
            Wrong::NoTraces => f.write_str(": it holds no run trace (no file *.ndjson)"),
            Wrong::NotText => f.write_str(": it is not UTF-8"),
            Wrong::FileTooLong => write!(
                f,
                ": it is longer than {LONGEST_FILE} bytes, the most that can be replayed; to begin \
                 a new run trace, start the job again"
            ),
            Wrong::TooLong(length) => {
                write!(
                    f,
                    ": it is {length} bytes long; no line of a trace is longer than {LONGEST}"
                )
            }
            Wrong::NotJson { column, why } => {
                write!(f, ", column {column}: it is not JSON ({why}); see SPEC 11.5")
            }
            Wrong::NotATrace(found) => write!(
                f,
                ": this is not a run trace: its format is {found}; a run trace says {FORMAT:?}"
            ),
            Wrong::OtherVersion(found) => write!(
                f,
                ": this is version {found}; this program reads version {VERSION}: use the program that wrote it"
            ),
            Wrong::Field { field, why } => {
                write!(f, ": field `{field}`: {why}; SPEC 11.6 and 11.7 list the fields")
            }
            Wrong::Topology(error) => write!(f, ": field `plan`: {error}"),
            Wrong::Clock { expected, found } => write!(
                f,
                ": its clock is {found}, but must be {expected}: a line is missing, repeated or \
                 out of order"
            ),
        }
    }
}

snapline_protocol::error_in_words!(ReadError);

impl RunTrace {
    /// Reads the content of a file. A last line without its newline is ignored ([`Self::torn`]).
    ///
    /// # Errors
    /// [`ReadError`], for the first line that is wrong.
    pub fn read(name: &str, bytes: &[u8]) -> Result<Self, ReadError> {
        let at = |line, wrong| ReadError { file: name.to_owned(), line, wrong };
        let (whole, rest) = match bytes.iter().rposition(|&byte| byte == b'\n') {
            Some(end) => bytes.split_at(end + 1),
            None => (&[][..], bytes),
        };
        let torn = (!rest.is_empty()).then_some(rest.len());
        let mut trace = Self { name: name.to_owned(), run: None, torn };
        for (place, line) in whole.split_inclusive(|&byte| byte == b'\n').enumerate() {
            let number = place + 1;
            // The newline is there: a line without one was cut off above.
            let text = text(&line[..line.len() - 1]).map_err(|wrong| at(number, wrong))?;
            match &mut trace.run {
                None => trace.run = Some(first(text).map_err(|wrong| at(number, wrong))?),
                Some(run) => {
                    run.push(text, place as u64).map_err(|wrong| at(number, wrong))?;
                }
            }
        }
        Ok(trace)
    }

    /// Reads files, and all files `*.ndjson` of directories.
    ///
    /// # Errors
    /// [`ReadError`], for the first file that cannot be read, or a directory without a trace.
    pub fn read_all(paths: &[impl AsRef<Path>]) -> Result<Vec<Self>, ReadError> {
        let mut traces = Vec::new();
        for path in paths {
            let path = path.as_ref();
            for file in files(path)? {
                let name = file.display().to_string();
                let wrong = |wrong| ReadError { file: name.clone(), line: 0, wrong };
                let open = std::fs::File::open(&file).map_err(|error| wrong(Wrong::Io(error)))?;
                let mut bytes = Vec::new();
                // One byte more than is read, so that a longer file is noticed whatever its
                // reported length.
                let read = open.take(LONGEST_FILE + 1).read_to_end(&mut bytes);
                read.map_err(|error| wrong(Wrong::Io(error)))?;
                if bytes.len() as u64 > LONGEST_FILE {
                    return Err(wrong(Wrong::FileTooLong));
                }
                traces.push(Self::read(&name, &bytes)?);
            }
        }
        Ok(traces)
    }

    /// Whether a file begins like a run trace, perhaps of another version.
    #[must_use]
    pub fn is_one(bytes: &[u8]) -> bool {
        let line = bytes.split(|&byte| byte == b'\n').next().unwrap_or_default();
        let value: Option<serde_json::Value> = serde_json::from_slice(line).ok();
        value.is_some_and(|value| value.get("format").is_some_and(|format| format == FORMAT))
    }

    /// The file's name, as given.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The first line; `None` if it is torn, so that the trace holds nothing.
    #[must_use]
    pub fn header(&self) -> Option<&Header> {
        self.run.as_ref().map(|run| &run.header)
    }

    /// The lines after the first. Each is parsed when it is requested, so that a trace takes little
    /// more memory than its file.
    pub fn lines(&self) -> impl ExactSizeIterator<Item = Line> {
        let count = self.run.as_ref().map_or(0, |run| run.ends.len());
        let run = self.run.as_ref();
        // Invariant: without a run there are no line ends.
        (0..count).map(move |place| run.expect("it has lines").line(place).0)
    }

    /// The length in bytes of an unfinished line at the end, which was being written when the
    /// process was killed.
    #[must_use]
    pub const fn torn(&self) -> Option<usize> {
        self.torn
    }
}

/// A file, or the traces in a directory by their names.
fn files(path: &Path) -> Result<Vec<PathBuf>, ReadError> {
    let wrong = |wrong| ReadError { file: path.display().to_string(), line: 0, wrong };
    if !path.is_dir() {
        return Ok(vec![path.to_owned()]);
    }
    let mut files = Vec::new();
    for entry in std::fs::read_dir(path).map_err(|error| wrong(Wrong::Io(error)))? {
        let file = entry.map_err(|error| wrong(Wrong::Io(error)))?.path();
        if file.extension().is_some_and(|end| end == "ndjson") {
            files.push(file);
        }
    }
    files.sort();
    if files.is_empty() { Err(wrong(Wrong::NoTraces)) } else { Ok(files) }
}

fn text(line: &[u8]) -> Result<&str, Wrong> {
    if line.len() > LONGEST {
        return Err(Wrong::TooLong(line.len()));
    }
    std::str::from_utf8(line).map_err(|_| Wrong::NotText)
}

fn first(text: &str) -> Result<Run, Wrong> {
    let value: serde_json::Value =
        serde_json::from_str(text).map_err(|error| wrong(text, &error))?;
    let found = |field: &str| value.get(field).map_or("missing".into(), shorten);
    if value.get("format").and_then(serde_json::Value::as_str) != Some(FORMAT) {
        return Err(Wrong::NotATrace(found("format")));
    }
    if value.get("version").and_then(serde_json::Value::as_u64) != Some(VERSION) {
        return Err(Wrong::OtherVersion(found("version")));
    }
    let header: Header = serde_json::from_str(text).map_err(|error| wrong(text, &error))?;
    let field = |field: &str, why: &str| Wrong::Field { field: field.into(), why: why.into() };
    if header.max_concurrent == 0 {
        return Err(field("max_concurrent", "it is at least 1"));
    }
    if !(1..=LARGEST).contains(&header.id_block) {
        return Err(field("id_block", "it is from 1 to 2^48"));
    }
    let topology = header.plan.clone().build().map_err(Wrong::Topology)?;
    Ok(Run { header, topology, has_claimed: false, text: String::new(), ends: Vec::new() })
}

fn further(text: &str, expected: u64) -> Result<(Line, LineEvent), Wrong> {
    let line: Line = serde_json::from_str(text).map_err(|error| wrong(text, &error))?;
    if line.at != expected {
        return Err(Wrong::Clock { expected, found: line.at });
    }
    let event = LineEvent::of(&line.what).map_err(|error| Wrong::Field {
        field: format!("what.{}.event", line.what.kind()),
        why: error.to_string(),
    })?;
    if let What::Store { first: Some(first), .. } = &line.what
        && first.get() > LARGEST
    {
        return Err(Wrong::Field {
            field: "what.store.first".into(),
            why: "it is beyond 2^48".into(),
        });
    }
    Ok((line, event))
}

fn wrong(text: &str, error: &serde_json::Error) -> Wrong {
    // Where a word or an object is expected, the parser rejects anything else as invalid JSON.
    if error.is_data() || serde_json::from_str::<serde::de::IgnoredAny>(text).is_ok() {
        let field = field_at(text, error.column());
        // The parser's message ends with a position, which the error gives more precisely.
        let why = error.to_string();
        let why = why.rsplit_once(" at line ").map_or(why.as_str(), |(why, _)| why).to_owned();
        return Wrong::Field { field, why };
    }
    Wrong::NotJson { column: error.column(), why: error.to_string() }
}

/// A value, cut short if it is long.
fn shorten(value: &serde_json::Value) -> String {
    let text = value.to_string();
    match text.char_indices().nth(80) {
        Some((end, _)) => format!("{}...", &text[..end]),
        None => text,
    }
}

/// The path of the field in a column of a line. The text up to there is JSON: the parser has come
/// so far.
fn field_at(text: &str, column: usize) -> String {
    let mut open: Vec<Option<String>> = Vec::new();
    let (mut word, mut in_word, mut escaped) = (String::new(), false, false);
    for byte in text.bytes().take(column) {
        let read = char::from(byte);
        match (in_word, read) {
            (true, _) if escaped => escaped = false,
            (true, '\\') => escaped = true,
            (true, '"') => in_word = false,
            (true, _) if word.len() < 80 => word.push(read),
            (true, _) => {}
            (false, '"') => {
                in_word = true;
                word.clear();
            }
            (false, '{' | '[') => open.push(None),
            (false, '}' | ']') => _ = open.pop(),
            (false, ':') => {
                if let Some(field) = open.last_mut() {
                    *field = Some(std::mem::take(&mut word));
                }
            }
            (false, _) => {}
        }
    }
    let fields: Vec<String> = open.into_iter().flatten().collect();
    if fields.is_empty() { "(the line)".into() } else { fields.join(".") }
}
