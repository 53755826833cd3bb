//! What users' code may fail with.

use std::error::Error;
use std::fmt;

use crate::dataflow::LookupError;
use crate::state::StateError;

/// An error of users' code: a source's, an operator's, a sink's. Any error type converts into it with `?`.
pub type BoxError = Box<dyn Error + Send + Sync + 'static>;

/// A text on one line, with nothing in it that a terminal obeys: control characters are escapes.
pub(crate) fn plain(text: &str) -> String {
    text.chars().fold(String::with_capacity(text.len()), |mut plain, c| {
        match c.is_control() {
            true => plain.extend(c.escape_default()),
            false => plain.push(c),
        }
        plain
    })
}

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

/// How many causes of an error are looked at: a chain that comes back to itself has an end too.
const CAUSES: usize = 32;

/// An error and its chain of causes in one line, each sentence once.
///
/// The rule for every error of snapline: its `Display` says all, its causes too, and its `source` is `None`; the causes are in its fields.
/// Users' errors may do it either way, so what a cause adds is said only if it was not said before.
#[derive(Clone, Copy)]
pub(crate) struct Whole<'a>(pub(crate) &'a (dyn Error + 'static));

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

/// An error and its causes, also those that it says itself and so does not give as its source.
pub(crate) fn causes<'a>(
    error: &'a (dyn Error + 'static),
) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    let next = |error: &&'a (dyn Error + 'static)| -> Option<&'a (dyn Error + 'static)> {
        let error: &'a (dyn Error + 'static) = *error;
        if let Some(Permanent(inner)) = error.downcast_ref() {
            return Some(&**inner);
        }
        if let Some(LookupError::Failed { cause, .. }) = error.downcast_ref() {
            return Some(&**cause);
        }
        if let Some(StateError::Store(inner)) = error.downcast_ref() {
            return Some(inner);
        }
        if let Some(inner) = error.downcast_ref::<std::io::Error>().and_then(|it| it.get_ref()) {
            return Some(inner);
        }
        error.source()
    };
    std::iter::successors(Some(error), next).take(CAUSES)
}

#[cfg(test)]
mod tests {
    use std::io::{self, ErrorKind};
    use std::path::PathBuf;

    use snapline_protocol::ids::{Attempt, CheckpointId, Term};
    use snapline_protocol::recovery::{Health, RecoveryError};
    use snapline_protocol::topology::TopologyError;

    use super::*;
    use crate::connect::ConnectError;
    use crate::dataflow::BuildError;
    use crate::engine::failure::{TaskFailure, is_permanent};
    use crate::engine::handle::JobError;
    use crate::store::StoreError;

    /// A user's error that leaves its cause to its source, and one that says it too.
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
        Box::new(TaskFailure { operator, subtask, attempt, doing, cause, at: None })
    }

    /// Every error of ours that holds another, around a cause; and a user's in between.
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

    /// What printers of chains print: the error and its sources.
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
        assert!(found.iter().all(|error| is_permanent(&**error, false)));
        assert!(!is_permanent(&full(), true), "a full disk may be mended while the job waits");
    }
}
