//! The errors that users' code returns.

use std::error::Error;
use std::fmt;

/// An error of users' code: a source's, an operator's, a sink's. Any error type converts into it
/// with `?`.
pub type BoxError = Box<dyn Error + Send + Sync + 'static>;

/// A text on one line, without control characters: they become escapes.
pub fn plain(text: &str) -> String {
    text.chars().fold(String::with_capacity(text.len()), |mut plain, c| {
        match c.is_control() {
            true => plain.extend(c.escape_default()),
            false => plain.push(c),
        }
        plain
    })
}

/// An error that no restart mends: a wrong setting, a record that can never be processed. The job
/// fails with it at once, whatever its `snapline::Restart` strategy says (SPEC 15.4). Any other
/// error may be gone the next time, and the strategy decides.
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
pub struct Permanent(BoxError);

impl Permanent {
    /// This error, permanently.
    #[must_use]
    pub fn new(error: impl Into<BoxError>) -> Self {
        Self(error.into())
    }

    /// The error.
    #[must_use]
    pub fn get_ref(&self) -> &(dyn Error + Send + Sync + 'static) {
        &*self.0
    }
}

impl fmt::Display for Permanent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Whole(&*self.0).fmt(f)
    }
}

snapline_protocol::error_in_words!(Permanent);

/// The number of causes of an error that are followed: a chain that returns to itself ends too.
pub const CAUSES: usize = 32;

/// An error and its chain of causes in one line, each sentence once.
///
/// The rule for every error of snapline: its `Display` prints everything, its causes too, and its
/// `source` is `None`; the causes are in its fields. Users' errors may do it either way, so a cause
/// is added only if it was not printed before.
#[derive(Clone, Copy)]
pub struct Whole<'a>(pub &'a (dyn Error + 'static));

impl fmt::Display for Whole<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut said = self.0.to_string();
        let causes = std::iter::successors(self.0.source(), |error| (**error).source());
        for cause in causes.take(CAUSES) {
            let text = cause.to_string();
            if !said.contains(&text) {
                said = format!("{said}: {text}");
            }
        }
        f.write_str(&said)
    }
}
