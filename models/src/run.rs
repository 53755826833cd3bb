//! A named configuration, explored and judged.

use std::sync::Arc;

use crate::configs::Configuration;
use crate::explore::{
    self, Bounds, SearchOutcome, SearchProgress, SearchVerdict, StateViolation, StopReason,
};
use crate::laws::Law;
use crate::model::Model;
use crate::scenario::{Scenario, ScenarioError};
use crate::world::rule::WrongRule;
use crate::world::{Action, Situation};

/// An explorer.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Engine {
    /// stateright, on several threads; the default.
    #[default]
    Stateright,
    /// The breadth-first search of this crate, by fingerprints, on one thread: shortest
    /// counterexamples at once.
    Hunt,
    /// Whole states, no fingerprints, on one thread: for small configurations and to check the
    /// other two.
    Exact,
}

/// The result of an exploration under the laws.
#[derive(Clone, PartialEq, Debug)]
pub enum Judgement {
    /// Every law holds in every state within the bounds, and every situation was reached.
    Holds,
    /// Every law holds, but these situations were not reached: the result proves too little.
    Vacuous(Vec<Situation>),
    /// Every law holds, but the number of states is not the pinned one: the protocol or the model
    /// changed.
    CountChanged {
        /// The pinned number.
        pinned: u64,
    },
    /// A law is broken.
    Violated {
        /// The law.
        law: Law,
        /// A shortest path to the broken law, from the initial state.
        path: Vec<Action>,
    },
    /// The exploration was stopped; nothing is known of the states that it did not reach.
    Stopped(StopReason),
}

/// The report of an exploration.
#[derive(Clone, Debug)]
pub struct ExplorationReport {
    /// The scenario that was explored.
    pub scenario: Scenario,
    /// The wrong rule that was switched on, if any.
    pub mutant: Option<WrongRule>,
    /// The result under the laws.
    pub judgement: Judgement,
    /// The explorer's figures.
    pub outcome: SearchOutcome<Action>,
}

impl ExplorationReport {
    /// True if all laws hold, all situations were reached, and the count is the pinned one.
    #[must_use]
    pub fn is_ok(&self) -> bool {
        self.judgement == Judgement::Holds
    }
}

/// Explores a scenario under the given laws. It must reach `situations`, and find `pinned` states
/// if a number is given.
///
/// # Errors
/// If the scenario is invalid.
pub fn explore(
    scenario: Scenario,
    mutant: Option<WrongRule>,
    engine: Engine,
    bounds: &Bounds,
    situations: &[Situation],
    pinned: Option<u64>,
    progress: &dyn Fn(SearchProgress),
) -> Result<ExplorationReport, ScenarioError> {
    let mut model = Model::new(scenario.clone(), mutant)?;
    model.laws = bounds.laws;
    let mut bounds = bounds.clone();
    bounds.liveness &= bounds.laws & Law::Progress.bit() != 0;
    let outcome = match engine {
        Engine::Stateright => explore::check(&Arc::new(model), &bounds, progress),
        Engine::Hunt => explore::hunt(&model, &bounds, progress),
        Engine::Exact => explore::check_exact(&model, &bounds, progress),
    };
    let judgement = match &outcome.verdict {
        SearchVerdict::Stopped(reason) => Judgement::Stopped(*reason),
        SearchVerdict::Violated { violation, path, .. } => {
            let law = match violation {
                StateViolation::Law(index) => Law::ALL[*index],
                StateViolation::Trap => Law::Progress,
            };
            Judgement::Violated { law, path: path.clone() }
        }
        SearchVerdict::Holds => {
            let missed = |situation: &&Situation| !outcome.marks.contains(situation.mark());
            let missed: Vec<Situation> = situations.iter().filter(missed).copied().collect();
            match pinned {
                _ if !missed.is_empty() => Judgement::Vacuous(missed),
                Some(pinned) if pinned != outcome.unique => Judgement::CountChanged { pinned },
                _ => Judgement::Holds,
            }
        }
    };
    Ok(ExplorationReport { scenario, mutant, judgement, outcome })
}

/// Explores a named configuration, without wrong rules.
///
/// # Panics
/// If the configuration is invalid; a test builds every one.
#[must_use]
pub fn run(
    config: &Configuration,
    engine: Engine,
    bounds: &Bounds,
    progress: &dyn Fn(SearchProgress),
) -> ExplorationReport {
    let scenario = config.scenario.clone();
    explore(scenario, None, engine, bounds, &config.situations, config.states, progress)
        .expect("the configurations that ship are valid: tests/ builds each")
}
