//! Plans when a sink's lives end, and the fate of its checkpoints.

use std::fmt;

use crate::testkit::laws::Law;

/// The end of a life.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Crash {
    /// A task fails: its state is dropped.
    Failed,
    /// The process is killed: no destructor runs.
    Killed,
    /// It is taken for dead, and continues beside the next.
    LivesOn,
}

impl Crash {
    pub(super) const ALL: [Self; 3] = [Self::Failed, Self::Killed, Self::LivesOn];
}

impl fmt::Display for Crash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Failed => "the task fails; what it has is dropped",
            Self::Killed => "the process is killed",
            Self::LivesOn => "the process is taken for dead, but lives on",
        })
    }
}

/// The fate of checkpoints and messages.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Schedule {
    /// Each checkpoint completes, and is committed at once.
    Prompt,
    /// Of two that complete, the sink is notified of the second only: it commits both.
    HeardLate,
    /// Every second one is aborted: its prepared transactions are committed with the next.
    GivenUp,
    /// Each commit is called twice.
    Doubled,
}

impl Schedule {
    pub(super) const ALL: [Self; 4] = [Self::Prompt, Self::HeardLate, Self::GivenUp, Self::Doubled];
}

/// A run: its schedule, and the number of steps after which each of its lives ends; one more life
/// goes to the end.
#[derive(Clone, Debug)]
pub(super) struct RunPlan {
    pub(super) schedule: Schedule,
    pub(super) crashes: Vec<(usize, Crash)>,
}

/// Why a life ends before the work is done.
pub(super) enum Stop {
    Crash(Crash),
    Broken(Broken),
}

/// A law, and the observation.
pub(super) struct Broken(pub(super) Law, pub(super) String);

pub(super) fn broken(law: Law, seen: impl Into<String>) -> Broken {
    Broken(law, seen.into())
}

impl From<Broken> for Stop {
    fn from(broken: Broken) -> Self {
        Self::Broken(broken)
    }
}
