//! The World as a [`TransitionSystem`] to explore.

use crate::explore::{MarkSet, TransitionSystem};
use crate::laws;
use crate::scenario::{Scenario, ScenarioError, Setup};
use crate::sink::Prepared;
use crate::world::rule::WrongRule;
use crate::world::{Action, KINDS, World};

/// A scenario, with or without a wrong rule, ready to be explored.
#[derive(Debug)]
pub struct Model {
    /// The scenario, laid out for the World.
    pub setup: Setup,
    /// The laws that count, as a set of [`laws::Law::bit`]s.
    pub laws: u64,
}

impl Model {
    /// A scenario under all laws.
    ///
    /// # Errors
    /// If the scenario is invalid.
    pub fn new(scenario: Scenario, mutant: Option<WrongRule>) -> Result<Self, ScenarioError> {
        Ok(Self { setup: Setup::new(scenario, mutant)?, laws: u64::MAX })
    }
}

impl TransitionSystem for Model {
    type State = World;
    type Action = Action;

    fn initial(&self) -> World {
        World::new(&self.setup)
    }

    fn actions(&self, state: &World, out: &mut Vec<Action>) {
        state.enabled(&self.setup, out);
    }

    fn apply(&self, state: &World, action: &Action, marks: &mut MarkSet) -> World {
        state.apply(&self.setup, action, marks)
    }

    fn violations(&self, state: &World) -> u64 {
        laws::broken(&self.setup, state, self.laws)
    }

    /// True if the job has finished, or failed loudly for a reason that the environment gave it.
    fn is_goal(&self, state: &World) -> bool {
        let may_drop = match self.setup.scenario.sink.prepared {
            Prepared::UntilTimeout | Prepared::UntilNewAttempt => true,
            Prepared::Survives | Prepared::InCheckpoint => false,
        };
        state.finished() || (may_drop && state.data_loss()) || state.missing_reported(&self.setup)
    }

    fn is_fault(&self, action: &Action) -> bool {
        action.is_fault()
    }

    fn action_kinds(&self) -> &'static [&'static str] {
        KINDS
    }

    fn kind(&self, action: &Action) -> usize {
        action.kind()
    }

    /// Situations are marked on steps, see [`crate::world::Situation`]; states need not carry their
    /// history.
    fn guard_names(&self) -> Vec<String> {
        Vec::new()
    }

    fn guards(&self, _state: &World) -> u64 {
        0
    }
}
