//! Why a task failed: the error of the user's code, and its place.

use std::error::Error;
use std::fmt;
use std::io::{self, ErrorKind};

use snapline_protocol::ids::Attempt;

use crate::base::error::{BoxError, CAUSES, Permanent, Whole};
use crate::base::panic::Panicked;
use crate::state::StateError;
use crate::store::StoreError;
use snapline_core::connect::lookup::LookupError;
use snapline_core::connect::{Classify, ConnectError, ConnectorError, classify_as};

/// A task's failure: operator, subtask, attempt and cause.
pub struct TaskFailure {
    /// The operator's name.
    pub operator: String,
    /// The number of the subtask, from 0.
    pub subtask: usize,
    /// The attempt it failed in.
    pub attempt: Attempt,
    /// The operation that failed.
    pub doing: &'static str,
    /// The cause.
    pub cause: BoxError,
    /// The place in its input; `None` if it was not processing records.
    pub at: Option<FailedAt>,
    /// Finds the errors of the operator's own connectors, which say whether a retry can help.
    pub classify: Classify,
}

/// The place in its input where a task failed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct FailedAt {
    /// The input; `None` for a source, and for what is done between records.
    pub input: Option<usize>,
    /// Records taken from the input, or read by the source, since the attempt began and before
    /// those in hand.
    pub after: u64,
    /// Records in hand: one of them, or what it caused, failed.
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
    /// Whether no restart can help (SPEC 15.4). The error is a [`Permanent`] one, or of a kind
    /// known to be permanent. Or it may go away, like a missing file, but the process's first
    /// attempt met it, so that a wrong path fails the job at once.
    #[must_use]
    pub fn is_permanent(&self) -> bool {
        let first = self.attempt.number == 1;
        is_permanent(&*self.cause, self.classify, first)
            || (first
                && self.doing == OPENING
                && causes(&*self.cause).any(|error| is_refusal(error, self.classify)))
    }

    /// Whether this repeats an earlier panic of a user's code: the same message at the same record,
    /// where both attempts began with the same checkpoint. A returned error may be gone the next
    /// time and is not compared: it can declare itself [`Permanent`].
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

/// Whether an error is of a kind known to be permanent. `first`: the process's first attempt met
/// it.
pub(crate) fn is_permanent(error: &(dyn Error + 'static), classify: Classify, first: bool) -> bool {
    causes(error).any(|error| {
        error.is::<Permanent>()
            || connectors(error, classify).is_some_and(|error| error.is_permanent(first))
            || error.downcast_ref::<StateError>().is_some_and(StateError::is_permanent)
            || error.downcast_ref::<StoreError>().is_some_and(StoreError::is_permanent)
    })
}

/// The error as its connector's: one of the operator's own connectors, or one that reads or writes
/// files, lines or memory.
fn connectors<'a>(
    error: &'a (dyn Error + 'static),
    classify: Classify,
) -> Option<&'a dyn ConnectorError> {
    classify(error).or_else(|| classify_as::<ConnectError>(error))
}

/// What a task does while it is opened.
pub(crate) const OPENING: &str = "opening";

/// Whether the operating system refuses for a permanent reason: a missing permission, or the shape
/// of a path. A full disk may be mended while the job waits.
fn is_refusal(error: &(dyn Error + 'static), classify: Classify) -> bool {
    let kind = match error.downcast_ref::<io::Error>() {
        Some(error) => Some(error.kind()),
        None => connectors(error, classify).and_then(ConnectorError::io_kind),
    };
    kind.is_some_and(|kind| {
        matches!(
            kind,
            ErrorKind::PermissionDenied
                | ErrorKind::ReadOnlyFilesystem
                | ErrorKind::NotADirectory
                | ErrorKind::IsADirectory
        )
    })
}

/// An error and its causes, also those that it prints itself and so does not return as its source.
pub(crate) fn causes<'a>(
    error: &'a (dyn Error + 'static),
) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    let next = |error: &&'a (dyn Error + 'static)| -> Option<&'a (dyn Error + 'static)> {
        let error: &'a (dyn Error + 'static) = *error;
        if let Some(permanent) = error.downcast_ref::<Permanent>() {
            return Some(permanent.get_ref());
        }
        if let Some(LookupError::Failed { cause, .. }) = error.downcast_ref() {
            return Some(&**cause);
        }
        if let Some(StateError::Store(inner)) = error.downcast_ref() {
            return Some(inner);
        }
        if let Some(inner) = error.downcast_ref::<io::Error>().and_then(|it| it.get_ref()) {
            return Some(inner);
        }
        error.source()
    };
    std::iter::successors(Some(error), next).take(CAUSES)
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use snapline_protocol::ids::{Attempt, CheckpointId, Term};
    use snapline_protocol::recovery::{Health, RecoveryError};
    use snapline_protocol::topology::TopologyError;

    use super::*;
    use crate::plan::spec::BuildError;
    use crate::runtime::failure::{TaskFailure, is_permanent};
    use crate::runtime::handle::JobError;
    use crate::store::StoreError;

    /// A user's error that leaves its cause to its source, and one that prints it too.
    struct Users(&'static str, bool, BoxError);

    impl fmt::Display for Users {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str(self.0)?;
            if self.1 { write!(f, ": {}", self.2) } else { Ok(()) }
        }
    }

    impl fmt::Debug for Users {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("Users { .. }")
        }
    }

    #[rustfmt::skip]
    impl Error for Users { fn source(&self) -> Option<&(dyn Error + 'static)> { Some(&*self.2) } }

    fn full() -> io::Error {
        io::Error::new(ErrorKind::StorageFull, "the innermost cause")
    }

    fn failure(cause: impl Into<BoxError>) -> Box<TaskFailure> {
        let attempt = Attempt::first(Term::new(1));
        let (operator, subtask, doing, cause) = ("sink".to_owned(), 0, "writing", cause.into());
        let classify = classify_as::<ConnectError>;
        Box::new(TaskFailure { operator, subtask, attempt, doing, cause, at: None, classify })
    }

    /// Every error of snapline that holds another, around a cause; and a user's in between.
    fn errors() -> Vec<BoxError> {
        let connect = || {
            let (doing, path) = ("write it", PathBuf::from("/out"));
            ConnectError::Io { doing, path, source: full() }
        };
        let store = || StoreError::io("writing /d/x", full());
        let users = |says, cause: BoxError| Users("the user's code", says, cause);
        let checkpoint = CheckpointId::new(7).expect("not 0");
        let error = RecoveryError::NewestUnusable { checkpoint, health: Health::Damaged };
        vec![
            Box::new(connect()),
            Box::new(store()),
            Box::new(StateError::Store(store())),
            Box::new(Permanent::new(users(false, Box::new(connect())))),
            Box::new(LookupError::Failed { tries: 3, cause: users(true, full().into()).into() }),
            Box::new(JobError::Failed(failure(connect()))),
            Box::new(JobError::Repeated(failure(users(false, full().into())))),
            Box::new(JobError::Failed(failure(users(true, Permanent::new(full()).into())))),
            Box::new(JobError::Failed(failure(LookupError::Failed {
                tries: 1,
                cause: full().into(),
            }))),
            Box::new(JobError::Failed(failure(StateError::Store(store())))),
            Box::new(JobError::Store(store())),
            Box::new(JobError::Thread(full())),
            Box::new(JobError::Recovery { error, found: vec![(checkpoint, store())] }),
            Box::new(BuildError::Topology(TopologyError::NoSubtasks("the innermost cause".into()))),
        ]
    }

    /// What printers of error chains print: the error and its sources.
    fn chain(error: &dyn Error) -> String {
        let causes = std::iter::successors(error.source(), |error| (**error).source());
        causes.fold(error.to_string(), |text, cause| format!("{text}\n  caused by: {cause}"))
    }

    #[test]
    fn every_error_says_its_cause_once_and_its_debug_is_its_display() {
        for error in errors() {
            let (text, chain) = (error.to_string(), chain(&*error));
            assert_eq!(format!("{error:?}"), text);
            assert_eq!(chain.matches("the innermost cause").count(), 1, "{chain}");
            assert!(chain.matches("the user's code").count() <= 1, "{chain}");
        }
    }

    #[test]
    fn what_is_permanent_is_found_however_deep_it_is() {
        let permanent = || Permanent::new("never");
        let found: [BoxError; 5] = [
            permanent().into(),
            Users("wrapped", false, permanent().into()).into(),
            LookupError::Failed { tries: 1, cause: permanent().into() }.into(),
            io::Error::other(permanent()).into(),
            StateError::Store(StoreError::ReadOnly { store: "s".into() }).into(),
        ];
        let is =
            |error: &(dyn Error + 'static)| is_permanent(error, classify_as::<ConnectError>, false);
        assert!(found.iter().all(|error| is(&**error)));
        assert!(!is(&full()), "a full disk may be mended while the job waits");
    }
}
