//! The errors of the crate's connectors.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use snapline_protocol::ids::{Attempt, TxnId};

use super::ConnectorError;
use super::text::UTF_16;

/// Why a source or a sink of this crate failed. The message says what failed, on what, and what can
/// be done.
#[non_exhaustive]
pub enum ConnectError {
    /// A later attempt has fenced this one off: it no longer prepares, commits or rolls back (SPEC
    /// 2.8).
    Fenced {
        /// The sink's operator.
        operator: String,
        /// The attempt that was refused.
        attempt: Attempt,
        /// The attempt in the fence.
        fence: Attempt,
        /// Where the fence is.
        place: String,
    },
    /// Another job, or another operator, writes here.
    Owned {
        /// The file that records the owner.
        path: PathBuf,
        /// The owner of the place: job and operator.
        owner: (String, String),
        /// The one that wanted it: job and operator.
        wanted: (String, String),
    },
    /// The name of a transaction to be prepared was used before, by an earlier life of the job of
    /// which its store has no record.
    NameTaken {
        /// The transaction.
        txn: TxnId,
        /// The place where it was found.
        place: String,
    },
    /// A transaction to be prepared was never closed here, or its file is gone.
    NotClosed {
        /// The transaction.
        txn: TxnId,
        /// The place searched.
        place: String,
    },
    /// The sink writes to another place than the one that the checkpoint was committed to.
    OtherPlace {
        /// The place where the sink writes.
        place: String,
    },
    /// A sink's place has no record of a transaction that was committed there.
    SetBack {
        /// The place searched.
        place: String,
        /// The transaction.
        txn: TxnId,
    },
    /// A name cannot be part of a file's name.
    BadName {
        /// The kind of name.
        what: &'static str,
        /// The name.
        name: String,
        /// The reason.
        why: &'static str,
    },
    /// A file's content is damaged.
    Damaged {
        /// The file.
        path: PathBuf,
        /// The reason.
        why: String,
    },
    /// A position that this source cannot have produced.
    BadPosition {
        /// The source.
        source: &'static str,
        /// What is wrong with the position.
        why: String,
    },
    /// A source's path does not exist.
    NoInput {
        /// The path.
        path: PathBuf,
    },
    /// A source's path is neither a file nor a directory.
    NotAFile {
        /// The path.
        path: PathBuf,
    },
    /// A system file, such as those in `/proc`, whose real length differs from its reported length.
    NoLength {
        /// The file.
        path: PathBuf,
        /// The reported length.
        said: u64,
    },
    /// A link, where links are not followed.
    Link {
        /// The link.
        path: PathBuf,
    },
    /// A directory or a pattern contains only links, which are not followed.
    OnlyLinks {
        /// The directory or the pattern.
        path: PathBuf,
    },
    /// A pattern matches no file.
    NoMatch {
        /// The pattern.
        pattern: String,
    },
    /// A pattern cannot be read.
    BadPattern {
        /// The pattern.
        pattern: String,
        /// The reason.
        why: String,
    },
    /// A file that was to be continued is gone.
    Vanished {
        /// The file.
        path: PathBuf,
        /// The number of bytes it had.
        expected: u64,
    },
    /// A file that was to be continued has become shorter.
    Shrunk {
        /// The file.
        path: PathBuf,
        /// The number of bytes it had.
        expected: u64,
        /// The number of bytes it has.
        found: u64,
    },
    /// A file differs from the one that the job has read, or was to read.
    Replaced {
        /// The file.
        path: PathBuf,
        /// The number of bytes it had, of which the first or the last have changed.
        size: u64,
    },
    /// A file was read, and another one, or a longer one, has taken its place.
    PutAgain {
        /// The file.
        path: PathBuf,
    },
    /// A checkpoint's position is of another path than the job reads.
    OtherPath {
        /// The path or file of the position.
        was: String,
        /// The path that the job reads.
        now: String,
    },
    /// A line is not UTF-8.
    NotUtf8 {
        /// The file.
        path: PathBuf,
        /// The offset in the file of the first byte that is not.
        offset: u64,
    },
    /// A file is text in UTF-16.
    Utf16 {
        /// The file.
        path: PathBuf,
    },
    /// A line exceeds the limit.
    LongLine {
        /// The file.
        path: PathBuf,
        /// The offset in the file of a byte of the line.
        offset: u64,
        /// The limit for a line, in bytes.
        limit: usize,
    },
    /// Decompressing a zstd file takes more memory than is allowed.
    Window {
        /// The file.
        path: PathBuf,
        /// The limit, in bytes.
        limit: u64,
    },
    /// Bytes that are not compressed follow the compressed ones in a file.
    Trailing {
        /// The file.
        path: PathBuf,
        /// The bytes, and their place.
        why: String,
    },
    /// A record of a file cannot be read.
    Malformed {
        /// The file.
        path: PathBuf,
        /// The line in which it begins, from 1; `None` where the file is read in pieces.
        line: Option<u64>,
        /// The byte of the (decompressed) file at which it begins.
        offset: u64,
        /// The reason.
        why: String,
    },
    /// A record cannot be written in a format: the format has no such value, or the record's fields
    /// are not the columns.
    Unwritable {
        /// The format.
        format: &'static str,
        /// The number of the record among those that the subtask has written in this attempt, from
        /// 1.
        record: u64,
        /// The field, or the path to it; `None` if it is the record itself.
        field: Option<String>,
        /// The reason.
        why: String,
    },
    /// A file was changed while it was read.
    Changed {
        /// The file.
        path: PathBuf,
    },
    /// A path is not that of a directory, but must be.
    NotADirectory {
        /// The path.
        path: PathBuf,
    },
    /// In a directory with ascending names, a file appeared after one of a greater name was read.
    NotAscending {
        /// The file.
        path: PathBuf,
        /// The last file that was read.
        newest: String,
    },
    /// The target of an idempotent sink failed before, or its code panicked: entries handed to it
    /// may be lost.
    Broken {
        /// The sink's operator.
        operator: String,
        /// The cause.
        why: String,
    },
    /// The operating system reported an error.
    Io {
        /// The failed operation.
        doing: &'static str,
        /// The file or directory.
        path: PathBuf,
        /// Its error.
        source: io::Error,
    },
}

impl ConnectError {
    /// For `map_err`: the operating system reported an error for this operation on this path.
    pub fn io(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Io { doing, path: path.to_owned(), source }
    }
}

impl ConnectorError for ConnectError {
    /// A path's file may come back, unless it was never there.
    fn is_permanent(&self, first: bool) -> bool {
        match self {
            // A stale attempt may be fenced off, and its failure does not count. If one counts, the
            // job's checkpoints were removed, and none of its attempts ever passes the fence.
            Self::Fenced { .. }
            | Self::Owned { .. }
            | Self::NameTaken { .. }
            | Self::OtherPlace { .. }
            | Self::SetBack { .. }
            | Self::BadName { .. }
            | Self::Damaged { .. }
            | Self::BadPosition { .. }
            | Self::BadPattern { .. }
            | Self::Replaced { .. }
            | Self::PutAgain { .. }
            | Self::OtherPath { .. }
            | Self::NotUtf8 { .. }
            | Self::Utf16 { .. }
            | Self::LongLine { .. }
            | Self::Window { .. }
            | Self::Trailing { .. }
            | Self::NoLength { .. }
            | Self::Unwritable { .. } => true,
            Self::Link { .. }
            | Self::OnlyLinks { .. }
            | Self::NoInput { .. }
            | Self::NotAFile { .. }
            | Self::NotADirectory { .. }
            | Self::NoMatch { .. } => first,
            _ => false,
        }
    }

    fn io_kind(&self) -> Option<io::ErrorKind> {
        match self {
            Self::Io { source, .. } => Some(source.kind()),
            _ => None,
        }
    }
}

impl fmt::Display for ConnectError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Fenced { operator, attempt, fence, place } => write!(
                f,
                "sink `{operator}`: attempt {attempt} was fenced off by attempt {fence} in \
                 {place}; if the job was started again with an empty checkpoint store, give it a \
                 new output place too"
            ),
            Self::Owned { path, owner, wanted } => write!(
                f,
                "{}: belongs to operator `{}` of job `{}`, not to operator `{}` of job `{}`; give one of them another directory or \
                 another operator name",
                path.display(),
                owner.1,
                owner.0,
                wanted.1,
                wanted.0
            ),
            Self::NameTaken { txn, place } => write!(
                f,
                "{place}: transaction {} was committed before by an earlier life of the job, whose \
                 checkpoint store was emptied; give the job a new output place too",
                TxnName(txn)
            ),
            Self::NotClosed { txn, place } => write!(
                f,
                "{place}: cannot prepare transaction {}: it was removed, or it was never closed",
                TxnName(txn)
            ),
            Self::OtherPlace { place } => write!(
                f,
                "{place}: is not the one that the checkpoint was committed to: it was emptied or \
                 replaced; put the right one back (a directory with its `.snapline`), or continue \
                 without what it held: `.accept_other_directory()`, or for a database \
                 `.accept_other_database()`"
            ),
            Self::SetBack { place, txn } => write!(
                f,
                "{place}: transaction {} was committed here, and is not recorded: an older copy \
                 was put back; put the newest one back, or continue without what it held: \
                 `.accept_other_directory()`, or for a database `.accept_other_database()`",
                TxnName(txn)
            ),
            Self::BadName { what, name, why } => {
                write!(f, "{what} `{name}` cannot be part of a file's name: {why}")
            }
            Self::Damaged { path, why } => {
                write!(f, "{}: {why}; restore the file from a copy", path.display())
            }
            Self::BadPosition { source, why } => write!(
                f,
                "{source}: the checkpoint's position does not belong to this source: {why}; \
                 restore with the source that it was taken with"
            ),
            Self::NoInput { path } => {
                write!(f, "{}: no such file or directory to read from", path.display())
            }
            Self::NotAFile { path } => write!(
                f,
                "{}: neither a file nor a directory, and only these can be read again after a failure",
                path.display()
            ),
            Self::NoLength { path, said } => write!(
                f,
                "{}: reports a length of {said} bytes and has another, as files in /proc and /sys \
                 do, and cannot be read again from a position; copy it and read the copy",
                path.display()
            ),
            Self::Link { path } => write!(
                f,
                "{}: is a link, and links are not followed; call `.follow_links()` to follow them",
                path.display()
            ),
            Self::OnlyLinks { path } => write!(
                f,
                "{}: holds only links, and links are not followed; call `.follow_links()` to \
                 follow them",
                path.display()
            ),
            Self::NoMatch { pattern } => write!(f, "`{pattern}`: no file matches"),
            Self::BadPattern { pattern, why } => {
                write!(f, "`{pattern}`: not a valid file pattern: {why}")
            }
            Self::Vanished { path, expected } => write!(
                f,
                "{}: had {expected} bytes when the job began to read it, and is gone; put it back \
                 to resume from the checkpoint",
                path.display()
            ),
            Self::Shrunk { path, expected, found } => write!(
                f,
                "{}: had {expected} bytes when the job began to read it, and has {found}; put the \
                 file back to resume from the checkpoint",
                path.display()
            ),
            Self::Replaced { path, size } => write!(
                f,
                "{}: is not the file that the job began to read: that one had {size} bytes, and \
                 other first or last bytes; put it back, or, if it was repaired only where it was \
                 not read yet, continue in it with `.accept_changed()`",
                path.display()
            ),
            Self::PutAgain { path } => write!(
                f,
                "{}: a file of this name was already read, and this is another one, or it was \
                 changed since; give it a name of its own, or choose to read such files too: \
                 `.accept_changed()`",
                path.display()
            ),
            Self::OtherPath { was, now } => write!(
                f,
                "the checkpoint's position is of `{was}`, and the job reads `{now}`; give the \
                 source its old path back, or, if the files were moved, call \
                 `.moved_from(\"{was}\")`; to read other files, start without the checkpoint"
            ),
            Self::NotUtf8 { path, offset } => write!(
                f,
                "{}: byte {offset} is not UTF-8; repair the file, or read it with `.lossy()`",
                path.display()
            ),
            Self::Utf16 { path } => {
                write!(f, "{}: {UTF_16}; convert it (`iconv -f UTF-16 -t UTF-8`)", path.display())
            }
            Self::LongLine { path, offset, limit } => write!(
                f,
                "{}: the line that holds byte {offset} has more than {limit} bytes; allow more \
                 with `.max_line_bytes(n)`, or read the file with `.decode(Lines::new())`, which \
                 can skip such lines",
                path.display()
            ),
            Self::Window { path, limit } => write!(
                f,
                "{}: takes more than {limit} bytes of memory to decompress, as it was written with a long window (`zstd --long`); allow more with \
                 `.max_zstd_window(bytes)`, or compress it again",
                path.display()
            ),
            Self::Trailing { path, why } => {
                write!(f, "{}: {why}; cut them off, or compress the file again", path.display())
            }
            Self::Malformed { path, line, offset, why } => {
                match line {
                    Some(line) => write!(f, "{}, line {line}: {why}", path.display())?,
                    None => write!(f, "{}, the record at byte {offset}: {why}", path.display())?,
                }
                f.write_str(
                    "; repair it, or choose what to do with malformed records: \
                     `.skip_malformed()`, or for files `.keep_malformed()`",
                )
            }
            Self::Unwritable { format, record, field: Some(field), why } => {
                write!(f, "record {record} cannot be written as {format}: field `{field}`: {why}")
            }
            Self::Unwritable { format, record, field: None, why } => {
                write!(f, "record {record} cannot be written as {format}: {why}")
            }
            Self::Changed { path } => write!(
                f,
                "{}: was changed while it was read; put files there by renaming them when they are complete",
                path.display()
            ),
            Self::NotADirectory { path } => write!(f, "{}: is not a directory", path.display()),
            Self::NotAscending { path, newest } => write!(
                f,
                "{}: appeared after `{newest}` was read and sorts before it, though names are \
                 declared to ascend; give it a greater name",
                path.display()
            ),
            Self::Broken { operator, why } => write!(
                f,
                "sink `{operator}`: {why}; what was written since the last checkpoint is written again when the job is restored"
            ),
            Self::Io { doing, path, source } => {
                write!(f, "{}: cannot {doing}: {source}", path.display())
            }
        }
    }
}

snapline_protocol::error_in_words!(ConnectError);

/// A transaction's name in words.
struct TxnName<'a>(&'a TxnId);

impl fmt::Display for TxnName<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let TxnId { checkpoint, attempt, subtask } = self.0;
        write!(f, "of checkpoint {checkpoint}, attempt {attempt}, subtask {}", subtask.index())
    }
}
