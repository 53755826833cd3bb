//! The errors of an ingest.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use snapline_core::connect::ConnectorError;

/// Why an [`HttpIngest`](super::HttpIngest) failed. The message says what failed, on what, and what
/// can be done.
#[non_exhaustive]
pub enum IngestError {
    /// A setting is invalid.
    Config {
        /// The setting, and the reason. A token is not shown.
        why: String,
    },
    /// The address cannot be bound.
    Bind {
        /// The address.
        address: SocketAddr,
        /// The operating system's error.
        source: io::Error,
    },
    /// Another process writes to the directory.
    InUse {
        /// The directory.
        dir: PathBuf,
        /// The holder.
        holder: String,
    },
    /// A file of the log is damaged.
    Damaged {
        /// The file.
        path: PathBuf,
        /// The reason.
        why: String,
    },
    /// A requested record was removed, or never accepted: the checkpoint is of another log, or
    /// older than those that are kept.
    Gone {
        /// The log's directory.
        dir: PathBuf,
        /// The record's number.
        wanted: u64,
        /// The first record that is there.
        first: u64,
    },
    /// The checkpoint is of another log than the one now in the directory.
    OtherLog {
        /// The log's directory.
        dir: PathBuf,
        /// The name of the checkpoint's log.
        was: String,
        /// The name of the present log.
        now: String,
    },
    /// The log was finished, and accepts nothing more.
    Ended {
        /// The log's directory.
        dir: PathBuf,
    },
    /// A record of the log does not have the type that is read.
    Decode {
        /// The log's directory.
        dir: PathBuf,
        /// The record's number.
        record: u64,
        /// The reason.
        why: String,
    },
    /// A checkpoint's position belongs to another subtask.
    OtherSubtask {
        /// The subtask that took it, and its parallelism.
        of: (usize, usize),
        /// The subtask that received it, and its parallelism.
        wanted: (usize, usize),
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

impl IngestError {
    pub(super) fn io(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Io { doing, path: path.to_owned(), source }
    }
}

impl IngestError {
    /// True if the disk, or this user's quota, is full.
    pub(super) fn is_for_want_of_room(&self) -> bool {
        use io::ErrorKind::{QuotaExceeded, StorageFull};
        matches!(self.io_kind(), Some(StorageFull | QuotaExceeded))
    }
}

impl fmt::Display for IngestError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Config { why } => write!(f, "the ingest server cannot start: {why}"),
            Self::Bind { address, source } => write!(
                f,
                "cannot listen on {address}: {source}; choose another port, or 0 for any free port"
            ),
            Self::InUse { dir, holder } => write!(
                f,
                "{}: {holder} accepts records into it; end that one, or give this one another directory",
                dir.display()
            ),
            Self::Damaged { path, why } => {
                write!(f, "{}: {why}; restore the file from a copy", path.display())
            }
            Self::Gone { dir, wanted, first } => write!(
                f,
                "{}: the job needs record {wanted}, and the log begins with {first}: records that \
                 no retained checkpoint needs are removed; restore a newer checkpoint, or put back \
                 the directory that belongs to this one",
                dir.display()
            ),
            Self::OtherLog { dir, was, now } => write!(
                f,
                "{}: this log is {now}, and the checkpoint is of {was}: the directory was emptied \
                 or replaced; put the right one back, with its file `identity`; or, if this \
                 directory holds its records and only that file was lost, write {was} into the \
                 file",
                dir.display()
            ),
            Self::Ended { dir } => write!(
                f,
                "{}: the log is finished and accepts no more records; start in another directory",
                dir.display()
            ),
            Self::Decode { dir, record, why } => write!(
                f,
                "{}: record {record} cannot be decoded as the source's type: {why}; read it with \
                 the type that accepted it, or give new fields `#[serde(default)]`",
                dir.display()
            ),
            Self::OtherSubtask { of, wanted } => write!(
                f,
                "ingest: the checkpoint's position is that of subtask {} of {}, not of {} of {}; restore with the same parallelism",
                of.0, of.1, wanted.0, wanted.1
            ),
            Self::Io { doing, path, source } => {
                write!(f, "could not {doing} {}: {source}", path.display())
            }
        }
    }
}

snapline_protocol::error_in_words!(IngestError);

impl ConnectorError for IngestError {
    fn is_permanent(&self, _: bool) -> bool {
        matches!(
            self,
            Self::Damaged { .. }
                | Self::Gone { .. }
                | Self::OtherLog { .. }
                | Self::Decode { .. }
                | Self::OtherSubtask { .. }
        )
    }

    fn io_kind(&self) -> Option<io::ErrorKind> {
        match self {
            Self::Bind { source, .. } | Self::Io { source, .. } => Some(source.kind()),
            _ => None,
        }
    }
}
