//! Why a task failed: what users' code said, and where.

use std::any::Any;
use std::fmt;
use std::io::ErrorKind;

use snapline_protocol::ids::Attempt;

use crate::connect;
use crate::error::{BoxError, Permanent, Whole, causes};
use crate::state::StateError;
use crate::store::StoreError;

/// A task's failure: which operator, which of its subtasks, in which attempt, and why.
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
    /// Where in its input; `None` if it was not processing records.
    pub at: Option<FailedAt>,
}

/// Where in its input a task failed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct FailedAt {
    /// The input; `None` of a source, and of what is done between records.
    pub input: Option<usize>,
    /// Records that were taken from the input, or read by the source, since the attempt began and before those it was working on.
    pub after: u64,
    /// Records that it was working on: one of them, or what they brought, is the one that it failed with.
    pub among: u64,
}

impl FailedAt {
    /// Whether both may be the same record, if both attempts began with the same checkpoint.
    fn meets(&self, other: &Self) -> bool {
        let end = |at: &Self| at.after.saturating_add(at.among.max(1));
        self.input == other.input && self.after < end(other) && other.after < end(self)
    }
}

impl TaskFailure {
    /// Whether no restart can help (SPEC 15.4): the error is a [`Permanent`] one; or it is known of its kind; or it may go away, like a file
    /// that is not there, but was met by the process's first attempt, so that a wrong path fails the job at once.
    #[must_use]
    pub fn is_permanent(&self) -> bool {
        let first = self.attempt.number == 1;
        is_permanent(&*self.cause, first)
            || (first && self.doing == OPENING && causes(&*self.cause).any(is_refusal))
    }

    /// Whether this is a panic of a user's code that came before, in the same words and at the same record; both attempts began with the
    /// same checkpoint. An error that is returned may be gone the next time, and is not compared: what is returned can say that it is
    /// [`Permanent`].
    pub(crate) fn is_that_of(&self, before: &Self) -> bool {
        let same = |failure: &Self| (failure.operator.clone(), failure.subtask, failure.doing);
        let meets = self.at.zip(before.at).is_some_and(|(at, then)| at.meets(&then));
        let panics = self.cause.is::<Panicked>() && before.cause.is::<Panicked>();
        panics
            && meets
            && same(self) == same(before)
            && self.cause.to_string() == before.cause.to_string()
    }
}

impl fmt::Display for TaskFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "operator `{}`, subtask {}, attempt {}, {}: {}",
            self.operator,
            self.subtask,
            self.attempt,
            self.doing,
            Whole(&*self.cause)
        )
    }
}

snapline_protocol::error_in_words!(TaskFailure);

/// Whether an error is known to be one that no restart mends. `first`: it was met by the process's first attempt.
pub(crate) fn is_permanent(error: &(dyn std::error::Error + 'static), first: bool) -> bool {
    causes(error).any(|error| {
        error.is::<Permanent>()
            || connect::is_permanent(error, first)
            || error.downcast_ref::<StateError>().is_some_and(StateError::is_permanent)
            || error.downcast_ref::<StoreError>().is_some_and(StoreError::is_permanent)
    })
}

/// What a task does that is being opened.
pub(super) const OPENING: &str = "opening";

/// Whether the operating system refuses for a reason that does not pass by itself: a right, or the shape of a path. A full disk may be mended
/// while the job waits.
fn is_refusal(error: &(dyn std::error::Error + 'static)) -> bool {
    connect::io_kind(error).is_some_and(|kind| {
        matches!(
            kind,
            ErrorKind::PermissionDenied
                | ErrorKind::ReadOnlyFilesystem
                | ErrorKind::NotADirectory
                | ErrorKind::IsADirectory
        )
    })
}

/// A panic of users' code.
struct Panicked(String);

impl fmt::Display for Panicked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "panicked: {}", self.0)
    }
}

snapline_protocol::error_in_words!(Panicked);

/// A panic of users' code, as an error.
pub(crate) fn panicked(payload: &(dyn Any + Send)) -> BoxError {
    let text = payload.downcast_ref::<&str>().map(|text| (*text).to_owned());
    let text = text.or_else(|| payload.downcast_ref::<String>().cloned());
    Box::new(Panicked(text.unwrap_or_else(|| "(a payload that is no text)".to_owned())))
}

/// Runs users' code; a panic becomes an error. What the code was working on must not be used again after one.
pub(crate) fn guarded<R>(run: impl FnOnce() -> Result<R, BoxError>) -> Result<R, BoxError> {
    std::panic::catch_unwind(std::panic::AssertUnwindSafe(run))
        .unwrap_or_else(|payload| Err(panicked(&*payload)))
}
