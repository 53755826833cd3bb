//! The laws for sources and sinks, and the results of a check.

use std::fmt;

/// A requirement on a source or a sink.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[non_exhaustive]
pub enum Law {
    /// Nothing is visible before its checkpoint is complete (SPEC 6.1).
    NothingEarly,
    /// Nothing is visible twice, however often it is committed (SPEC 6.6).
    NothingTwice,
    /// Committed records are visible, and stay so.
    NothingLost,
    /// A prepared transaction can be committed by any process until it is committed or rolled back
    /// (SPEC 6.2, 6.4).
    PreparedIsKept,
    /// A writer or committer of an earlier attempt prepares nothing more once it is fenced off
    /// (SPEC 2.8).
    Fenced,
    /// Fencing finds the prepared transactions of earlier attempts of this subtask, and no others
    /// (SPEC 6.4).
    FoundIsOwn,
    /// A transaction that fencing found and that was rolled back is not found again.
    RolledBackIsGone,
    /// When everything is committed, no transaction is still prepared: those that no checkpoint
    /// holds were rolled back (SPEC 6.4).
    NothingLeft,
    /// Every call returns, without an error or a panic, and a commit is answered in the end.
    CallsReturn,
    /// A committable, or a position, can be written into a checkpoint and read from it.
    StateIsData,
    /// A source gives the same records in the same order from the same position (SPEC 2.12).
    Replayable,
    /// A source that has reported its end gives nothing more.
    EndIsEnd,
    /// A source gives about as many records as requested.
    LimitIsKept,
    /// However many subtasks read it, a source gives the same records.
    SameForAll,
}

impl Law {
    /// The law in words.
    #[must_use]
    pub const fn text(self) -> &'static str {
        match self {
            Self::NothingEarly => "nothing is visible before its checkpoint is complete",
            Self::NothingTwice => "nothing is visible twice",
            Self::NothingLost => "what was committed is visible, and stays visible",
            Self::PreparedIsKept => {
                "what is prepared can be committed by any process until it is committed or rolled \
                 back"
            }
            Self::Fenced => {
                "writers and committers of an earlier attempt prepare nothing once they are fenced off"
            }
            Self::FoundIsOwn => {
                "what fencing finds are prepared transactions of earlier attempts of this subtask"
            }
            Self::RolledBackIsGone => "what was rolled back is not found again",
            Self::NothingLeft => "when everything is committed, nothing prepared is left",
            Self::CallsReturn => "every call comes back, without an error or a panic",
            Self::StateIsData => "committables and positions can be written down and read again",
            Self::Replayable => "the same position gives the same records in the same order",
            Self::EndIsEnd => "after the end nothing more comes",
            Self::LimitIsKept => "a read gives about as many records as it is asked for",
            Self::SameForAll => "any number of subtasks reads the same records",
        }
    }

    /// The usual reason.
    const fn hint(self) -> &'static str {
        match self {
            Self::NothingEarly => {
                "`write`, `close` and `prepare` must leave nothing that readers see; only `commit` may"
            }
            Self::NothingTwice => {
                "`commit` must find out by the transaction's name whether it was committed before, and record that together with its effect"
            }
            Self::NothingLost => {
                "`commit` must not answer before the records are visible \
                permanently"
            }
            Self::PreparedIsKept => {
                "`prepare` must write down, by the transaction's name, all that `commit` needs; `fence` must leave what is prepared as it is: the runtime says which of it is to be rolled back"
            }
            Self::Fenced => {
                "`fence` must raise a number, or take a lock, in the external system that `prepare` of earlier attempts fails at"
            }
            Self::FoundIsOwn => {
                "name prepared transactions by checkpoint, attempt and subtask, and list those of this subtask"
            }
            Self::RolledBackIsGone => "`roll_back` must remove what `prepare` wrote down",
            Self::NothingLeft => {
                "`fence` must find all that is prepared, so that it can be rolled back"
            }
            Self::CallsReturn => "see the error or panic above",
            Self::StateIsData => "derive `Serialize` and `Deserialize`, and keep handles out of it",
            Self::Replayable => {
                "the position must be the one after the last record that was pushed, not after the \
                 last that was fetched"
            }
            Self::EndIsEnd => "keep answering `Progress::End`",
            Self::LimitIsKept => "return `Progress::More` when about `limit` records are pushed",
            Self::SameForAll => {
                "divide the input among `parallelism` subtasks by `index`, without gap or overlap"
            }
        }
    }
}

impl fmt::Display for Law {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.text())
    }
}

/// A broken law: which, how it showed, and all steps until then.
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Violation {
    /// The law.
    pub law: Law,
    /// The observation.
    pub seen: String,
    /// The steps, in order; after the last one the breach was seen.
    pub steps: Vec<String>,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { law, seen, steps } = self;
        writeln!(f, "broken: {law}\n  seen: {seen}\n  usual reason: {}", law.hint())?;
        writeln!(f, "  what was done:")?;
        for (number, step) in steps.iter().enumerate() {
            writeln!(f, "  {:>4}  {step}", number + 1)?;
        }
        Ok(())
    }
}

snapline_protocol::error_in_words!(Violation);

/// The extent of a successful check.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
#[non_exhaustive]
pub struct Report {
    /// How many times the source or sink was taken through its life.
    pub runs: u64,
    /// The number of calls.
    pub calls: u64,
    /// The number of lives that were ended early.
    pub crashes: u64,
    /// The transactions committed again, because the first answer could have been lost.
    pub committed_again: u64,
    /// The prepared transactions that were found and rolled back.
    pub rolled_back: u64,
    /// The records that were read or written.
    pub records: u64,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { runs, calls, crashes, committed_again, rolled_back, records } = self;
        write!(
            f,
            "{runs} runs, {calls} calls, {crashes} crashes, {committed_again} commits repeated, {rolled_back} transactions rolled back, \
             {records} records"
        )
    }
}
