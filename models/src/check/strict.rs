//! A stricter World: the laws excuse a job that loses data and reports it; a user's question does
//! not.

use crate::explore::{MarkSet, TransitionSystem};
use crate::model::Model;
use crate::scenario::{Scenario, ScenarioError};
use crate::world::{Action, World};

/// The World under one law: nothing that a completed checkpoint covers was dropped.
pub(super) struct Strict(Model);

impl Strict {
    pub(super) fn new(scenario: Scenario) -> Result<Self, ScenarioError> {
        Model::new(scenario, None).map(Self)
    }
}

impl TransitionSystem for Strict {
    type State = World;
    type Action = Action;

    fn initial(&self) -> World {
        self.0.initial()
    }

    fn actions(&self, state: &World, out: &mut Vec<Action>) {
        self.0.actions(state, out);
    }

    fn apply(&self, state: &World, action: &Action, marks: &mut MarkSet) -> World {
        self.0.apply(state, action, marks)
    }

    fn violations(&self, state: &World) -> u64 {
        u64::from(state.external.iter().any(|external| external.lost != 0))
    }

    fn is_goal(&self, state: &World) -> bool {
        self.0.is_goal(state)
    }

    fn is_fault(&self, action: &Action) -> bool {
        self.0.is_fault(action)
    }

    fn action_kinds(&self) -> &'static [&'static str] {
        self.0.action_kinds()
    }

    fn kind(&self, action: &Action) -> usize {
        self.0.kind(action)
    }

    fn guard_names(&self) -> Vec<String> {
        self.0.guard_names()
    }

    fn guards(&self, state: &World) -> u64 {
        self.0.guards(state)
    }
}
