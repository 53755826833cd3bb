//! Coverage of a suite as a whole: kinds of action that were never taken, arms of the
//! machines that were never reached.

use std::io::{self, Write};

use serde_json::{Value, json};
use snapline_models::explore::{MarkSet, SearchOutcome};
use snapline_models::world::{ARMS, Action, KINDS, arm_exists, arm_name};

/// Adds up what explorations have driven.
#[derive(Clone, Debug)]
pub struct Coverage {
    taken: Vec<u64>,
    marks: MarkSet,
}

impl Default for Coverage {
    fn default() -> Self {
        Self { taken: vec![0; KINDS.len()], marks: MarkSet::new() }
    }
}

impl Coverage {
    /// Adds an exploration.
    pub fn add(&mut self, outcome: &SearchOutcome<Action>) {
        for (taken, more) in self.taken.iter_mut().zip(&outcome.action_counts) {
            *taken += more;
        }
        self.marks.union(&outcome.marks);
    }

    /// Kinds of action that were never taken.
    #[must_use]
    pub fn never_taken(&self) -> Vec<&'static str> {
        let kinds = KINDS.iter().zip(&self.taken);
        kinds.filter(|(_, taken)| **taken == 0).map(|(kind, _)| *kind).collect()
    }

    /// Arms of the machines that were never driven, of those that the code has.
    #[must_use]
    pub fn never_driven(&self) -> Vec<String> {
        let never = |arm: &usize| arm_exists(*arm) && !self.marks.contains(*arm);
        (0..ARMS).filter(never).map(arm_name).collect()
    }

    /// Writes what is missing; arms of one event share a line.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn write(&self, out: &mut dyn Write) -> io::Result<()> {
        let list = |list: Vec<&str>| if list.is_empty() { "none".into() } else { list.join(", ") };
        writeln!(out, "not driven")?;
        writeln!(out, "  actions: {}", list(self.never_taken()))?;
        let arms = self.never_driven();
        if arms.is_empty() {
            return writeln!(out, "  arms: none");
        }
        let all = (0..ARMS).filter(|arm| arm_exists(*arm)).count();
        writeln!(out, "  arms ({} of {all}):", arms.len())?;
        let parts = |arm: &str| {
            let (event, verdict) = arm.rsplit_once(", ").unwrap_or((arm, ""));
            (event.to_owned(), verdict.trim_start_matches("ignored as ").to_lowercase())
        };
        let mut events: Vec<(String, Vec<String>)> = Vec::new();
        for arm in &arms {
            let (event, verdict) = parts(arm);
            match events.last_mut().filter(|(last, _)| *last == event) {
                Some((_, verdicts)) => verdicts.push(verdict),
                None => events.push((event, vec![verdict])),
            }
        }
        events
            .iter()
            .try_for_each(|(event, verdicts)| writeln!(out, "    {event}: {}", verdicts.join(", ")))
    }

    /// What is missing, for a file.
    #[must_use]
    pub fn json(&self) -> Value {
        json!({ "actions_never_taken": self.never_taken(), "arms_never_driven": self.never_driven() })
    }
}
