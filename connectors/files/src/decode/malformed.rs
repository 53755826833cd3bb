//! The handling of records that cannot be read.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use snapline_core::base::either::Either;
use snapline_core::connect::ConnectError;

/// A record that cannot be read, its place, and the reason.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Malformed {
    /// The file.
    pub file: String,
    /// The line in which it begins, from 1; `None` where the file is read in pieces.
    pub line: Option<u64>,
    /// The byte of the (decompressed) file at which it begins, or at which the empty lines before
    /// it begin.
    pub offset: u64,
    /// Its bytes, with its end; of a record that is too long, as many as are allowed.
    pub raw: Vec<u8>,
    /// The reason.
    pub why: String,
}

impl Malformed {
    /// Its bytes as text, without the line end; bytes that are not UTF-8 are replaced.
    #[must_use]
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.raw).trim_matches(['\n', '\r']).to_owned()
    }

    pub(super) fn into_error(self) -> ConnectError {
        let Self { file, line, offset, why, .. } = self;
        ConnectError::Malformed { path: PathBuf::from(file), line, offset, why }
    }
}

/// The handling of a malformed record: [`Fail`], [`Skip`] or [`Keep`].
pub trait OnMalformed<T>: sealed::Sealed + Send + 'static {
    /// The record type of the source.
    type Record: Send + 'static;

    /// A valid record.
    #[doc(hidden)]
    fn good(record: T) -> Self::Record;

    /// A malformed one: the record to emit for it, nothing, or an error.
    #[doc(hidden)]
    fn bad(malformed: Malformed) -> Result<Option<Self::Record>, ConnectError>;
}

mod sealed {
    pub trait Sealed {}

    impl Sealed for super::Fail {}
    impl Sealed for super::Skip {}
    impl Sealed for super::Keep {}
}

/// The first malformed record fails the job.
#[derive(Clone, Copy, Debug)]
pub enum Fail {}

/// Malformed records are skipped and counted.
#[derive(Clone, Copy, Debug)]
pub enum Skip {}

/// Malformed records are emitted beside the others.
#[derive(Clone, Copy, Debug)]
pub enum Keep {}

impl<T: Send + 'static> OnMalformed<T> for Fail {
    type Record = T;

    fn good(record: T) -> T {
        record
    }

    fn bad(malformed: Malformed) -> Result<Option<T>, ConnectError> {
        Err(malformed.into_error())
    }
}

impl<T: Send + 'static> OnMalformed<T> for Skip {
    type Record = T;

    fn good(record: T) -> T {
        record
    }

    fn bad(_: Malformed) -> Result<Option<T>, ConnectError> {
        Ok(None)
    }
}

impl<T: Send + 'static> OnMalformed<T> for Keep {
    type Record = Either<T, Malformed>;

    fn good(record: T) -> Self::Record {
        Either::Left(record)
    }

    fn bad(malformed: Malformed) -> Result<Option<Self::Record>, ConnectError> {
        Ok(Some(Either::Right(malformed)))
    }
}
