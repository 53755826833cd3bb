//! What becomes of records that cannot be read.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::base::either::Either;
use crate::connect::ConnectError;

/// A record that cannot be read, where it is, and why.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Malformed {
    /// The file.
    pub file: String,
    /// The line that it begins in, from 1; `None` where the file is read in pieces.
    pub line: Option<u64>,
    /// The byte of the (decompressed) file that it begins at, or that the empty lines before it
    /// begin at.
    pub offset: u64,
    /// Its bytes, with its end; of one that is too long, as many as are allowed.
    pub raw: Vec<u8>,
    /// The reason.
    pub why: String,
}

impl Malformed {
    /// Its bytes as text, without the end of the line; what is not UTF-8 is replaced.
    #[must_use]
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.raw).trim_matches(['\n', '\r']).to_owned()
    }

    pub(super) fn into_error(self) -> ConnectError {
        let Self { file, line, offset, why, .. } = self;
        ConnectError::Malformed { path: PathBuf::from(file), line, offset, why }
    }
}

/// What becomes of a malformed record: [`Fail`], [`Skip`] or [`Keep`].
pub trait OnMalformed<T>: sealed::Sealed + Send + 'static {
    /// What the source gives.
    type Record: Send + 'static;

    /// A record that is well.
    #[doc(hidden)]
    fn good(record: T) -> Self::Record;

    /// One that is not: what is given for it, nothing, or an error.
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

/// Malformed records are skipped, and counted.
#[derive(Clone, Copy, Debug)]
pub enum Skip {}

/// Malformed records are given beside the others.
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
