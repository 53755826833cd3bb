//! Turns a panic of users' code into an error.

use std::any::Any;
use std::fmt;

use crate::base::error::BoxError;

/// A panic of users' code.
pub struct Panicked(String);

impl fmt::Display for Panicked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "panicked: {}", self.0)
    }
}

snapline_protocol::error_in_words!(Panicked);

/// A panic of users' code, as an error.
pub fn panicked(payload: &(dyn Any + Send)) -> BoxError {
    let text = payload.downcast_ref::<&str>().map(|text| (*text).to_owned());
    let text = text.or_else(|| payload.downcast_ref::<String>().cloned());
    Box::new(Panicked(text.unwrap_or_else(|| "(a payload that is not text)".to_owned())))
}

/// Runs users' code; a panic becomes an error. What the code was working on must not be used again
/// after a panic.
pub fn guarded<R>(run: impl FnOnce() -> Result<R, BoxError>) -> Result<R, BoxError> {
    std::panic::catch_unwind(std::panic::AssertUnwindSafe(run))
        .unwrap_or_else(|payload| Err(panicked(&*payload)))
}
