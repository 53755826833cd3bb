//! A sink through all its lives.

mod life;
mod plan;

use std::panic::{AssertUnwindSafe, catch_unwind};

use super::laws::{Law, Report, Violation};
use crate::base::error::BoxError;
use crate::base::panic::panicked;
use life::SinkRun;
use plan::{Crash, RunPlan, Schedule, broken};
use snapline_core::connect::{Delivery, TwoPhaseSink};

/// A sink with an external system of its own.
pub trait SinkUnderTest {
    /// The sink.
    type Sink: TwoPhaseSink;

    /// Makes the sink anew, as each process of a job would: only the external system keeps state
    /// between two of them.
    fn sink(&self) -> Self::Sink;

    /// The record of this number. Each is different.
    fn record(&self, number: u64) -> <Self::Sink as TwoPhaseSink>::Record;

    /// The numbers of the records that readers of the external system see now, each as often as
    /// they see it, in any order.
    ///
    /// # Errors
    /// If they cannot be read.
    fn visible(&self) -> Result<Vec<u64>, BoxError>;

    /// The number of transactions that are prepared in the external system, and neither committed
    /// nor rolled back. `None`, the default, if that cannot be known: then transactions that a sink
    /// leaves prepared stay unseen.
    ///
    /// # Errors
    /// If they cannot be counted.
    fn prepared(&self) -> Result<Option<usize>, BoxError> {
        Ok(None)
    }
}

/// A check of a sink, see [`sink`].
#[derive(Debug)]
#[must_use = "nothing is checked before `check` is called"]
pub struct SinkCheck<F> {
    fresh: F,
    subtasks: usize,
    records: u64,
    overlap: bool,
    again: bool,
}

/// A check of the sink that `fresh` gives, each time with a new and empty external system.
///
/// The requirements depend on its [`delivery`](TwoPhaseSink::delivery). In transactions: each
/// record is visible once, none before its checkpoint is complete, and an earlier attempt that is
/// still alive does no harm. By idempotent writes: each is visible once, and may be early. At least
/// once: each is visible at least once.
pub const fn sink<F, U>(fresh: F) -> SinkCheck<F>
where
    F: FnMut() -> U,
    U: SinkUnderTest,
{
    SinkCheck { fresh, subtasks: 2, records: 12, overlap: true, again: true }
}

impl<F, U> SinkCheck<F>
where
    F: FnMut() -> U,
    U: SinkUnderTest,
{
    /// The number of writing subtasks; two by default.
    ///
    /// # Panics
    /// If there are none, or more than 256, which no topology has.
    pub const fn subtasks(mut self, subtasks: usize) -> Self {
        assert!(subtasks > 0 && subtasks <= 256, "a sink has 1 to 256 subtasks");
        self.subtasks = subtasks;
        self
    }

    /// The number of records that each subtask writes; twelve by default, in three checkpoints or
    /// more.
    pub const fn records(mut self, records: u64) -> Self {
        self.records = records;
        self
    }

    /// Ends one life in each run, and none in the recovery after it: some nine times fewer runs,
    /// for a slow sink.
    pub const fn single_crashes(mut self) -> Self {
        self.again = false;
        self
    }

    /// Leaves out earlier attempts that live on beside later ones. For a sink that relies on the
    /// runtime to end them, which it does within one process: two processes at a time are then not
    /// covered.
    pub const fn without_overlap(mut self) -> Self {
        self.overlap = false;
        self
    }

    /// Runs the sink once for each place where its life can end, and for each place in the recovery
    /// after it where it can end again.
    ///
    /// # Errors
    /// The first broken law, with the steps that lead there.
    pub fn check(mut self) -> Result<Report, Box<Violation>> {
        let mut report = Report::default();
        for schedule in Schedule::ALL {
            let whole = self.run(RunPlan { schedule, crashes: Vec::new() }, &mut report)?;
            for first in 0..=whole.steps {
                for crash in Crash::ALL {
                    if crash == Crash::LivesOn && !(self.overlap && whole.transactional) {
                        continue;
                    }
                    let crashes = vec![(first, crash)];
                    let run = self.run(RunPlan { schedule, crashes }, &mut report)?;
                    // An earlier end would repeat the first one, except for the effects of fencing.
                    let again = if self.again { run.recovery } else { 0 };
                    for second in 1..=again {
                        let crashes = vec![(first, crash), (second, Crash::Killed)];
                        self.run(RunPlan { schedule, crashes }, &mut report)?;
                    }
                }
            }
        }
        Ok(report)
    }

    fn run(&mut self, plan: RunPlan, report: &mut Report) -> Result<Went, Box<Violation>> {
        let under = (self.fresh)();
        let transactional = under.sink().delivery() == Delivery::TwoPhase;
        let mut run = SinkRun::new(&under, self.subtasks, self.records, plan);
        let went = catch_unwind(AssertUnwindSafe(|| run.go()));
        let done = went
            .unwrap_or_else(|panic| Err(broken(Law::CallsReturn, panicked(&*panic).to_string())));
        run.report(report);
        let (steps, recovery) = run.lengths();
        match done {
            Ok(()) => Ok(Went { steps, recovery, transactional }),
            Err(broken) => Err(Box::new(run.violation(broken))),
        }
    }
}

/// The result of a run.
struct Went {
    /// Steps of its first life.
    steps: usize,
    /// Steps of its second until it wrote again.
    recovery: usize,
    transactional: bool,
}
