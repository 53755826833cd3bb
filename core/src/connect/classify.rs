//! Which errors of a connector no retry mends.

use std::error::Error;
use std::io;

/// An error of a connector, which says itself whether a retry can help (SPEC 15.4).
/// [`Source::classify`](super::Source::classify), [`TwoPhaseSink::classify`](super::TwoPhaseSink::classify)
/// and [`LookupSource::classify`](super::lookup::LookupSource::classify) find it among others.
pub trait ConnectorError: Error + 'static {
    /// True if a retry cannot help. What was missing may still come, unless it was never there:
    /// `first` says that this is the process's first attempt.
    fn is_permanent(&self, first: bool) -> bool;

    /// The operating system's error kind, if it reported the error.
    fn io_kind(&self) -> Option<io::ErrorKind> {
        None
    }
}

/// Finds a connector's own error among others: `None` if it is not one.
pub type Classify = for<'a> fn(&'a (dyn Error + 'static)) -> Option<&'a dyn ConnectorError>;

/// What [`Classify`] is for a connector whose error type is `E`.
#[must_use]
pub fn classify_as<'a, E: ConnectorError>(
    error: &'a (dyn Error + 'static),
) -> Option<&'a dyn ConnectorError> {
    error.downcast_ref::<E>().map(|error| error as _)
}
