//! The rules that a replay checks a run against, beside the machines themselves (SPEC 11.9).

use std::fmt;

/// A rule that a recorded run must keep.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Rule {
    /// A machine's verdict and effects are those of a fresh one with the same events.
    Machine,
    /// No machine gets an event that only a broken driver can produce.
    Possible,
    /// A message that arrives was sent.
    Sent,
    /// An answer, a result, a decision was requested, and arrived.
    Asked,
    /// Barriers and ends arrive in the order in which they were sent, each after as many records.
    Fifo,
    /// What a machine requests is done, and done in its order.
    CarriedOut,
    /// What is acknowledged is durable, and prepared.
    Durable,
    /// A completed checkpoint has all its parts.
    Complete,
    /// A commit call has a permit of its own, of a completed checkpoint.
    Permit,
    /// What was committed stays committed, and is not committed again.
    CommittedOnce,
    /// What is rolled back is an orphan.
    Orphans,
    /// A restored task holds what the checkpoint holds.
    Restored,
    /// A name is used for one thing.
    Names,
    /// One attempt runs at a time, and nothing of one that has ended.
    Attempts,
    /// Facts agree with what the store must hold.
    Facts,
    /// What is deleted is garbage.
    Retention,
    /// A timer that fires was armed.
    Timers,
}

impl Rule {
    /// Every rule, in the order of SPEC 11.9.
    pub const ALL: [Self; 17] = [
        Self::Machine,
        Self::Possible,
        Self::Sent,
        Self::Asked,
        Self::Fifo,
        Self::CarriedOut,
        Self::Durable,
        Self::Complete,
        Self::Permit,
        Self::CommittedOnce,
        Self::Orphans,
        Self::Restored,
        Self::Names,
        Self::Attempts,
        Self::Facts,
        Self::Retention,
        Self::Timers,
    ];

    /// Its name in SPEC 11.9.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Machine => "machine",
            Self::Possible => "possible",
            Self::Sent => "sent",
            Self::Asked => "asked",
            Self::Fifo => "fifo",
            Self::CarriedOut => "carried-out",
            Self::Durable => "durable",
            Self::Complete => "complete",
            Self::Permit => "permit",
            Self::CommittedOnce => "committed-once",
            Self::Orphans => "orphans",
            Self::Restored => "restored",
            Self::Names => "names",
            Self::Attempts => "attempts",
            Self::Facts => "facts",
            Self::Retention => "retention",
            Self::Timers => "timers",
        }
    }

    /// The clauses of SPEC that it rests on.
    #[must_use]
    pub const fn clause(self) -> &'static str {
        match self {
            Self::Machine => "3.1, 3.2, 7",
            Self::Possible => "3.1, 5.2, 6.4",
            Self::Sent => "2.3",
            Self::Asked => "3.4",
            Self::Fifo => "2.2, 15.2",
            Self::CarriedOut => "4.8, 5.4, 5.7, 6.4, 15.1, 15.9",
            Self::Durable => "5.4, 6.2",
            Self::Complete => "4.5, 8.3",
            Self::Permit => "3.5, 6.1",
            Self::CommittedOnce => "2.8",
            Self::Orphans => "6.4",
            Self::Restored => "6.3, 7.4",
            Self::Names => "3.3, 4.1, 8.2",
            Self::Attempts => "3.2, 8.6",
            Self::Facts => "2.6, 7.1",
            Self::Retention => "8.1, 8.5",
            Self::Timers => "2.7",
        }
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}, SPEC {}", self.name(), self.clause())
    }
}

/// The rule that a line breaks.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Breach {
    pub(super) rule: Rule,
    /// The expectation, for people.
    pub(super) says: String,
}

/// The result of checking a line, or a part of it.
pub(super) type Checked<T = ()> = Result<T, Breach>;

/// A breach.
pub(super) fn breach(rule: Rule, says: impl Into<String>) -> Breach {
    Breach { rule, says: says.into() }
}

/// Breaks the rule unless this holds.
pub(super) fn ensure(holds: bool, rule: Rule, says: impl FnOnce() -> String) -> Checked {
    if holds { Ok(()) } else { Err(breach(rule, says())) }
}
