//! Why a task failed: what users' code said, and where.

use std::any::Any;
use std::fmt;

use snapline_protocol::ids::Attempt;

use crate::error::BoxError;

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
