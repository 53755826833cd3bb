//! What users' code may fail with.

use std::error::Error;
use std::fmt;

/// An error of users' code: a source's, an operator's, a sink's. Any error type converts into it with `?`.
pub type BoxError = Box<dyn Error + Send + Sync + 'static>;

/// An error that no restart mends: a setting that is wrong, a record that can never be processed. The job fails with it at once, whatever its
/// [`crate::Restart`] strategy says (SPEC 15.4). Any other error may be gone the next time, and the strategy decides.
///
/// ```
/// use snapline::{BoxError, Permanent};
///
/// fn celsius(line: &str) -> Result<f64, BoxError> {
///     let degrees: f64 = line.parse()?;
///     if degrees < -273.15 {
///         return Err(Permanent::new(format!("{degrees} is colder than it gets")).into());
///     }
///     Ok(degrees)
/// }
/// # assert!(celsius("-300").is_err() && celsius("20").is_ok());
/// ```
#[derive(Debug)]
pub struct Permanent(BoxError);

impl Permanent {
    /// This error, permanently.
    #[must_use]
    pub fn new(error: impl Into<BoxError>) -> Self {
        Self(error.into())
    }
}

impl fmt::Display for Permanent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl Error for Permanent {
    /// What is behind the error; itself it is shown as.
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.0.source()
    }
}
