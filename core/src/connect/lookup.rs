//! The clients of a look-up: one per thread, opened by a source.

use std::error::Error;
use std::fmt;
use std::time::Duration;

use crate::base::error::{BoxError, Whole};
use crate::connect::{ConnectorError, OpenContext};

/// Opens clients that look records up. Implemented for closures that look one up: each thread gets
/// a clone.
pub trait LookupSource<T>: Clone + Send + Sync + 'static {
    /// The result type.
    type Found: Send + 'static;
    /// The client that looks up, on one thread.
    type Client: LookupClient<T, Found = Self::Found> + 'static;

    /// Opens a client, on the thread that will use it.
    ///
    /// # Errors
    /// Any: the request that needed the client fails with it.
    fn open(&self, context: &OpenContext) -> Result<Self::Client, BoxError>;

    /// Its own errors among others: as [`Source::classify`](super::Source::classify).
    fn classify<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a dyn ConnectorError> {
        let _ = error;
        None
    }
}

/// Looks records up.
pub trait LookupClient<T> {
    /// The result type.
    type Found;

    /// Looks a record up. May block.
    ///
    /// # Errors
    /// Any: the request fails with it, and is retried or given up as `Lookup`
    /// specifies.
    fn look_up(&mut self, record: &T) -> Result<Self::Found, BoxError>;
}

impl<T, A, F> LookupSource<T> for F
where
    A: Send + 'static,
    F: FnMut(&T) -> Result<A, BoxError> + Clone + Send + Sync + 'static,
{
    type Found = A;
    type Client = F;

    fn open(&self, _: &OpenContext) -> Result<F, BoxError> {
        Ok(self.clone())
    }
}

impl<T, A, F: FnMut(&T) -> Result<A, BoxError>> LookupClient<T> for F {
    type Found = A;

    fn look_up(&mut self, record: &T) -> Result<A, BoxError> {
        self(record)
    }
}

/// Why a request was given up.
#[non_exhaustive]
pub enum LookupError {
    /// No answer came in time.
    TimedOut {
        /// The time waited in the last try.
        after: Duration,
        /// The number of tries.
        tries: u32,
    },
    /// The call failed, or panicked.
    Failed {
        /// The number of tries.
        tries: u32,
        /// The error of the last try.
        cause: BoxError,
    },
}

impl fmt::Display for LookupError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TimedOut { after, tries } => write!(
                f,
                "a record was looked up {tries} times, and no answer came within {after:?}; wait \
                 longer (`timeout`), or give a fallback (`otherwise`)"
            ),
            Self::Failed { tries, cause } => {
                let cause = Whole(&**cause);
                write!(f, "a record was looked up {tries} times, and the last try failed: {cause}")
            }
        }
    }
}

snapline_protocol::error_in_words!(LookupError);
