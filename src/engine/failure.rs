//! Why a task failed: what users' code said, and where.

use std::any::Any;
use std::fmt;

use snapline_protocol::ids::Attempt;

use crate::connect;
use crate::error::{BoxError, Permanent};
use crate::state::StateError;

/// A task's failure: which operator, which of its subtasks, in which attempt, and why.
#[derive(Debug)]
pub struct TaskFailure {
    /// The operator's name.
    pub operator: String,
    /// Which of its subtasks, from 0.
    pub subtask: usize,
    /// The attempt it failed in.
    pub attempt: Attempt,
    /// What was being done.
    pub doing: &'static str,
    /// Why.
    pub cause: BoxError,
}

impl TaskFailure {
    /// Whether no restart can help (SPEC 15.4): somebody says so, with [`Permanent`]; or it is known of the error; or it is one that may go
    /// away, like a file that is not there, but was met by the process's first attempt, which is how a wrong path is told at once.
    #[must_use]
    pub fn is_permanent(&self) -> bool {
        let first = self.attempt.number == 1;
        let mut next: Option<&(dyn std::error::Error + 'static)> = Some(&*self.cause);
        std::iter::from_fn(|| {
            let error = next?;
            next = error.source();
            Some(error)
        })
        .any(|error| {
            error.is::<Permanent>()
                || connect::is_permanent(error, first)
                || error.downcast_ref::<StateError>().is_some_and(StateError::is_permanent)
        })
    }
}

impl fmt::Display for TaskFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "operator `{}`, subtask {}, attempt {}, {}: {}",
            self.operator, self.subtask, self.attempt, self.doing, self.cause
        )
    }
}

impl std::error::Error for TaskFailure {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&*self.cause)
    }
}

/// A panic of users' code, as an error.
pub(crate) fn panicked(payload: &(dyn Any + Send)) -> BoxError {
    let text = payload.downcast_ref::<&str>().map(|text| (*text).to_owned());
    let text = text.or_else(|| payload.downcast_ref::<String>().cloned());
    format!("panicked: {}", text.as_deref().unwrap_or("(a payload that is no text)")).into()
}

/// Runs users' code; a panic becomes an error. What the code was working on must not be used again after one.
pub(crate) fn guarded<R>(run: impl FnOnce() -> Result<R, BoxError>) -> Result<R, BoxError> {
    std::panic::catch_unwind(std::panic::AssertUnwindSafe(run))
        .unwrap_or_else(|payload| Err(panicked(&*payload)))
}
