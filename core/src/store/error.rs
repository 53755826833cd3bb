//! Errors of a store, and their meaning for a write.

use std::fmt;
use std::io::{self, ErrorKind};

use snapline_protocol::coordinator::StoreResult;
use snapline_protocol::fence::Fenced;

use crate::base::error::plain;

/// An error of a store: what failed, on what, and what to do.
#[non_exhaustive]
pub enum StoreError {
    /// A later coordinator owns the store.
    Fenced(Fenced),
    /// Another process uses the store.
    InUse {
        /// The store.
        store: String,
        /// Its owner's description: a process id, a time.
        owner: String,
    },
    /// Something that should be there is missing.
    Missing {
        /// Its name.
        what: String,
    },
    /// Something has other bytes than were written.
    Corrupt {
        /// Its name.
        what: String,
        /// What was expected.
        expected: String,
        /// What was found.
        found: String,
    },
    /// The format version is unknown to this build.
    Version {
        /// Its name.
        what: String,
        /// The version found.
        found: u32,
        /// The version this build reads.
        known: u32,
    },
    /// Something else has the name.
    Exists {
        /// The name.
        what: String,
    },
    /// The place holds something other than a store; it was left unchanged.
    NotAStore {
        /// The place.
        what: String,
        /// What is there.
        found: String,
    },
    /// The store was opened for inspection, and a write was requested.
    ReadOnly {
        /// The store.
        store: String,
    },
    /// A call of the store panicked.
    Panicked {
        /// The operation.
        doing: String,
        /// The panic's message.
        what: String,
    },
    /// The operating system reported an error.
    Io {
        /// The operation, and its file.
        doing: String,
        /// The reported error.
        error: io::Error,
        /// Whether the write may have taken effect all the same (SPEC 2.5).
        unknown: bool,
    },
}

impl StoreError {
    /// The outcome of a write that failed with this (SPEC 2.5).
    ///
    /// A store that another process uses answers like a higher fence: the caller must end, not
    /// retry (SPEC 4.1). An error about something missing, corrupt or in the way was found before
    /// anything was written.
    #[must_use]
    pub const fn result(&self) -> StoreResult {
        match self {
            Self::Fenced(_) | Self::InUse { .. } => StoreResult::Fenced,
            Self::Io { unknown: true, .. } | Self::Panicked { .. } => StoreResult::Unknown,
            Self::Missing { .. }
            | Self::Corrupt { .. }
            | Self::Version { .. }
            | Self::Exists { .. }
            | Self::NotAStore { .. }
            | Self::ReadOnly { .. }
            | Self::Io { unknown: false, .. } => StoreResult::NotApplied,
        }
    }

    /// Whether a retry of the read or write cannot help a task (SPEC 15.4). Missing or damaged data
    /// is left to recovery, which reports it for the whole checkpoint; a full disk may be repaired
    /// while the job waits.
    pub const fn is_permanent(&self) -> bool {
        matches!(self, Self::Version { .. } | Self::NotAStore { .. } | Self::ReadOnly { .. })
    }

    /// Whether bytes are gone or wrong for certain. Any other error may be temporary, and says
    /// nothing about them.
    pub const fn is_verdict(&self) -> bool {
        matches!(self, Self::Missing { .. } | Self::Corrupt { .. } | Self::Version { .. })
    }

    /// An I/O error without effect on what is stored.
    pub fn io(doing: impl Into<String>, error: io::Error) -> Self {
        Self::Io { doing: doing.into(), error, unknown: false }
    }

    /// An I/O error of a step after which the write may have taken effect.
    pub fn unknown(doing: impl Into<String>, error: io::Error) -> Self {
        Self::Io { doing: doing.into(), error, unknown: true }
    }

    /// Bytes other than expected. Pieces of them may be quoted: damage can be any bytes.
    pub fn corrupt(
        what: impl Into<String>,
        expected: impl AsRef<str>,
        found: impl AsRef<str>,
    ) -> Self {
        let (expected, found) = (plain(expected.as_ref()), plain(found.as_ref()));
        Self::Corrupt { what: what.into(), expected, found }
    }
}

impl fmt::Display for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Fenced(fenced) => write!(f, "{fenced}. Nothing was written; let it end"),
            Self::InUse { store, owner } => write!(
                f,
                "the {store} is in use by {owner}. Stop that first, or open it with Takeover::Depose to take it over"
            ),
            Self::Missing { what } => write!(
                f,
                "{what} is missing. Put it back from a copy, or restore a checkpoint that does not need it"
            ),
            Self::Corrupt { what, expected, found } => write!(
                f,
                "{what} does not hold what was written to it: expected {expected}, found {found}. Put it back from a copy, or \
                 restore a checkpoint that does not need it"
            ),
            Self::Version { what, found, known } => write!(
                f,
                "{what} is of format version {found}, this build reads version {known}. Use the build that wrote it, or a later one"
            ),
            Self::Exists { what } => write!(
                f,
                "{what} already exists with other content. It was not changed; find out what else \
                 writes to this store"
            ),
            Self::NotAStore { what, found } => write!(
                f,
                "{what} is not a store: there is {found}. It was not changed; name an empty or a \
                 new directory"
            ),
            Self::ReadOnly { store } => {
                write!(f, "the {store} was opened only for inspection. Open it for writing")
            }
            Self::Panicked { doing, what } => write!(
                f,
                "{doing}: the store {what} (whether it took effect is unknown). This is a defect of the store"
            ),
            Self::Io { doing, error, unknown } => {
                write!(f, "{doing}: {error}")?;
                if *unknown {
                    write!(f, " (whether it took effect is unknown)")?;
                }
                match error.kind() {
                    ErrorKind::StorageFull | ErrorKind::QuotaExceeded => {
                        write!(f, ". Free some space")
                    }
                    ErrorKind::ReadOnlyFilesystem => {
                        write!(f, ". The file system is mounted read-only; mount it to write")
                    }
                    ErrorKind::TimedOut => {
                        write!(
                            f,
                            ". End the process that holds it, or find out why its disk is slow"
                        )
                    }
                    ErrorKind::PermissionDenied => {
                        write!(f, ". Give this process permission to read and write there")
                    }
                    _ => write!(f, ". Look at the disk and its mount"),
                }
            }
        }
    }
}

snapline_protocol::error_in_words!(StoreError);

impl From<Fenced> for StoreError {
    fn from(fenced: Fenced) -> Self {
        Self::Fenced(fenced)
    }
}

#[cfg(test)]
mod tests {
    use std::error::Error;

    use snapline_protocol::ids::Term;

    use super::*;

    #[test]
    fn a_refusal_deposes_and_only_the_unknown_is_unknown() {
        let full = || io::Error::from(ErrorKind::StorageFull);
        let in_use = StoreError::InUse { store: "s".into(), owner: "process 1".into() };
        let cases = [
            (StoreError::from(Fenced { by: Term::new(4) }), StoreResult::Fenced),
            (in_use, StoreResult::Fenced),
            (StoreError::io("writing x", full()), StoreResult::NotApplied),
            (StoreError::unknown("syncing x", full()), StoreResult::Unknown),
            (
                StoreError::Panicked { doing: "x".into(), what: "panicked".into() },
                StoreResult::Unknown,
            ),
            (StoreError::Exists { what: "x".into() }, StoreResult::NotApplied),
            (StoreError::corrupt("x", "a", "b"), StoreResult::NotApplied),
        ];
        for (error, result) in cases {
            assert_eq!(error.result(), result, "{error}");
        }
    }

    #[test]
    fn it_says_what_happened_to_what_and_what_to_do() {
        let full = StoreError::io("writing /d/x", ErrorKind::StorageFull.into());
        let text = full.to_string();
        assert!(text.contains("writing /d/x") && text.ends_with("Free some space"), "{text}");
        assert!(matches!(full, StoreError::Io { .. }) && full.source().is_none(), "said once");
        let corrupt = StoreError::corrupt("/d/x", "5 bytes", "4 bytes").to_string();
        assert!(corrupt.contains("expected 5 bytes, found 4 bytes"), "{corrupt}");
    }
}
