//! A walk whose steps its caller chooses: its state, the possible steps, the broken laws, and the
//! results of a search or a random walk from there.

use super::random::WalkRng;
use crate::explore::{
    Bounds, MarkSet, SearchVerdict, StateViolation, StopReason, TransitionSystem, hunt,
};
use crate::laws::{Law, broken};
use crate::model::Model;
use crate::scenario::{Scenario, ScenarioError, Setup};
use crate::story::{StoryLine, line};
use crate::trace::{Trace, TraceError};
use crate::world::rule::WrongRule;
use crate::world::{Action, World};

/// In a random walk a fault strikes once in this many steps, if one may.
const STRIKES: usize = 6;

/// A path from the first state, and the state it leads to.
#[derive(Debug)]
pub struct ByHand {
    model: Model,
    steps: Vec<Action>,
    world: World,
}

/// A step that is possible next.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct EnabledStep {
    /// The action.
    pub action: Action,
    /// The step in words, with its consequences.
    pub line: StoryLine,
    /// The laws that the step would break, and that hold now.
    pub breaks: Vec<Law>,
}

/// The result of a search.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Hunted {
    /// A shortest path from here breaks this law, which holds here. The walk is extended by that
    /// path.
    Found(Law),
    /// Every state that can be reached from here keeps the laws; holds the number of those states.
    Nothing(u64),
    /// A bound stopped the search after this many states; nothing is known of the others.
    Stopped(StopReason, u64),
}

/// The states that can follow from one.
struct Onward {
    model: Model,
    start: World,
}

impl TransitionSystem for Onward {
    type State = World;
    type Action = Action;

    fn initial(&self) -> World {
        self.start.clone()
    }

    fn actions(&self, state: &World, out: &mut Vec<Action>) {
        self.model.actions(state, out);
    }

    fn apply(&self, state: &World, action: &Action, marks: &mut MarkSet) -> World {
        self.model.apply(state, action, marks)
    }

    fn violations(&self, state: &World) -> u64 {
        self.model.violations(state)
    }

    fn is_goal(&self, state: &World) -> bool {
        self.model.is_goal(state)
    }

    fn is_fault(&self, action: &Action) -> bool {
        self.model.is_fault(action)
    }

    fn action_kinds(&self) -> &'static [&'static str] {
        self.model.action_kinds()
    }

    fn kind(&self, action: &Action) -> usize {
        self.model.kind(action)
    }

    fn guard_names(&self) -> Vec<String> {
        self.model.guard_names()
    }

    fn guards(&self, state: &World) -> u64 {
        self.model.guards(state)
    }
}

impl ByHand {
    /// A walk at the first state.
    ///
    /// # Errors
    /// If the scenario is invalid.
    pub fn new(scenario: Scenario, mutant: Option<WrongRule>) -> Result<Self, ScenarioError> {
        let model = Model::new(scenario, mutant)?;
        let world = model.initial();
        Ok(Self { model, steps: Vec::new(), world })
    }

    /// A walk after these steps.
    ///
    /// # Errors
    /// [`TraceError::Scenario`], or [`TraceError::NotEnabled`] for the first step that is not
    /// possible.
    pub fn after(
        scenario: Scenario,
        mutant: Option<WrongRule>,
        steps: &[Action],
    ) -> Result<Self, TraceError> {
        let mut walk = Self::new(scenario, mutant)?;
        for (place, &action) in steps.iter().enumerate() {
            let enabled = walk.enabled();
            if !enabled.contains(&action) {
                return Err(TraceError::NotEnabled { step: place + 1, action, enabled });
            }
            walk.step(action);
        }
        Ok(walk)
    }

    fn step(&mut self, action: Action) {
        self.world = self.model.apply(&self.world, &action, &mut MarkSet::new());
        self.steps.push(action);
    }

    fn enabled(&self) -> Vec<Action> {
        let mut enabled = Vec::new();
        self.model.actions(&self.world, &mut enabled);
        enabled
    }

    fn broken_in(&self, world: &World) -> u64 {
        broken(&self.model.setup, world, self.model.laws)
    }

    /// The scenario, laid out for the World.
    #[must_use]
    pub const fn setup(&self) -> &Setup {
        &self.model.setup
    }

    /// The steps so far.
    #[must_use]
    pub fn steps(&self) -> &[Action] {
        &self.steps
    }

    /// The current state.
    #[must_use]
    pub const fn world(&self) -> &World {
        &self.world
    }

    /// True if everything that was asked for is done.
    #[must_use]
    pub fn is_done(&self) -> bool {
        self.model.is_goal(&self.world)
    }

    /// True if it is not done and only a fault can happen: [`Law::Progress`] is broken.
    #[must_use]
    pub fn is_stuck(&self) -> bool {
        !self.is_done() && self.enabled().iter().all(Action::is_fault)
    }

    /// The possible steps, in the World's order.
    #[must_use]
    pub fn choices(&self) -> Vec<EnabledStep> {
        let (setup, before) = (&self.model.setup, self.broken_in(&self.world));
        let choice = |action: Action| {
            let after = self.model.apply(&self.world, &action, &mut MarkSet::new());
            let new = self.broken_in(&after) & !before;
            EnabledStep {
                action,
                line: line(setup, self.steps.len() + 1, action, &self.world, &after),
                breaks: Law::ALL.into_iter().filter(|law| new & law.bit() != 0).collect(),
            }
        };
        self.enabled().into_iter().map(choice).collect()
    }

    /// The laws that the current state breaks; [`Law::Progress`] only if it [is
    /// stuck](Self::is_stuck).
    #[must_use]
    pub fn broken(&self) -> Vec<Law> {
        let set = self.broken_in(&self.world);
        let stuck = self.is_stuck();
        let is_broken = |law: &Law| set & law.bit() != 0 || (*law == Law::Progress && stuck);
        Law::ALL.into_iter().filter(is_broken).collect()
    }

    /// Extends the walk, by a shortest path, to a state that breaks a law that holds here.
    pub fn hunt(&mut self, bounds: &Bounds) -> Hunted {
        let known = self.broken_in(&self.world);
        let stuck = self.is_stuck();
        let laws = bounds.laws & !known;
        let bounds = Bounds { laws, liveness: bounds.liveness && !stuck, ..bounds.clone() };
        let Setup { scenario, mutant, .. } = &self.model.setup;
        let model = Model::new(scenario.clone(), *mutant);
        // Invariant: the same scenario was laid out when the walk began.
        let model = model.expect("a scenario that was laid out once can be laid out again");
        let onward = Onward { model, start: self.world.clone() };
        let outcome = hunt(&onward, &bounds, &|_| {});
        match outcome.verdict {
            SearchVerdict::Holds => Hunted::Nothing(outcome.unique),
            SearchVerdict::Stopped(reason) => Hunted::Stopped(reason, outcome.unique),
            SearchVerdict::Violated { violation, path, .. } => {
                path.into_iter().for_each(|action| self.step(action));
                Hunted::Found(match violation {
                    StateViolation::Law(index) => Law::ALL[index],
                    StateViolation::Trap => Law::Progress,
                })
            }
        }
    }

    /// Takes up to `steps` random steps, a function of the seed. It ends early where a law breaks,
    /// or where all is done. Returns the number of steps taken.
    pub fn wander(&mut self, seed: u64, steps: usize) -> usize {
        let mut random = WalkRng::new(seed);
        let before = self.broken_in(&self.world);
        for taken in 0..steps {
            let enabled = self.enabled();
            let (faults, progress): (Vec<Action>, Vec<Action>) =
                enabled.into_iter().partition(Action::is_fault);
            let strikes = !faults.is_empty() && random.once_in(STRIKES);
            let action = match (strikes, progress.is_empty()) {
                (true, _) => random.one_of(&faults),
                (false, false) => random.one_of(&progress),
                (false, true) => return taken,
            };
            self.step(action);
            if self.broken_in(&self.world) & !before != 0 || self.is_done() {
                return taken + 1;
            }
        }
        steps
    }

    /// The path as a trace, which claims the first law that its last state breaks, if any.
    #[must_use]
    pub fn trace(&self) -> Trace {
        let Setup { scenario, mutant, .. } = &self.model.setup;
        let law = self.broken().first().copied();
        Trace { scenario: scenario.clone(), mutant: *mutant, law, steps: self.steps.clone() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mutants::Mutant;
    use crate::scenario::Faults;
    use crate::topologies::chain;
    use crate::trace::Claim;

    fn scenario() -> Scenario {
        let faults = Faults { crashes: 1, ..Faults::default() };
        Scenario { faults, ..Scenario::new("by-hand", chain()) }
    }

    #[test]
    fn choices_are_what_is_enabled_and_lead_where_they_say() {
        let mut walk = ByHand::new(scenario(), None).expect("the scenario is valid");
        for _ in 0..40 {
            let choices = walk.choices();
            let Some(choice) = choices.iter().find(|choice| !choice.action.is_fault()) else {
                break;
            };
            assert!(!choice.line.text.is_empty() && choice.breaks.is_empty());
            let steps: Vec<Action> = walk.steps().iter().copied().chain([choice.action]).collect();
            walk = ByHand::after(scenario(), None, &steps).expect("the chosen step is possible");
            assert_eq!(walk.trace().replay().expect("every step is possible").claim, Claim::None);
        }
        assert!(walk.is_done(), "without faults the job ends: {:?}", walk.steps());
    }

    #[test]
    fn a_step_that_is_not_possible_is_refused() {
        let error = ByHand::after(scenario(), None, &[Action::Conclude])
            .expect_err("the job has not ended");
        assert!(matches!(error, TraceError::NotEnabled { step: 1, .. }), "{error}");
    }

    #[test]
    fn a_hunt_goes_on_from_here_and_its_path_replays() {
        let mutant = Mutant::of(WrongRule::AckBeforeDurable);
        let mut walk =
            ByHand::new((mutant.scenario)(), Some(mutant.rule)).expect("the scenario is valid");
        walk.wander(1, 3);
        let begun = walk.steps().to_vec();
        let hunted = walk.hunt(&Bounds::default());
        let Hunted::Found(law) = hunted else { panic!("{hunted:?}") };
        assert!(walk.steps().len() > begun.len() && walk.steps().starts_with(&begun));
        assert!(walk.broken().contains(&law));
        assert_eq!(walk.trace().replay().expect("every step is possible").claim, Claim::Shown(law));
        // The second search finds another law.
        if let Hunted::Found(next) =
            walk.hunt(&Bounds { max_states: Some(50_000), ..Bounds::default() })
        {
            assert_ne!(next, law);
        }
    }

    #[test]
    fn a_hunt_says_when_there_is_nothing_and_when_it_was_stopped() {
        let mut walk =
            ByHand::new(Scenario::new("calm", chain()), None).expect("the scenario is valid");
        assert!(matches!(walk.hunt(&Bounds::default()), Hunted::Nothing(states) if states > 10));
        let bounds = Bounds { max_states: Some(5), ..Bounds::default() };
        assert!(matches!(walk.hunt(&bounds), Hunted::Stopped(StopReason::States, _)));
        assert!(walk.steps().is_empty(), "a search without a result takes no step");
    }

    #[test]
    fn a_random_walk_is_a_function_of_its_seed() {
        let walked = |seed| {
            let mut walk = ByHand::new(scenario(), None).expect("the scenario is valid");
            walk.wander(seed, 30);
            walk.steps().to_vec()
        };
        assert_eq!(walked(7), walked(7));
        assert!((0..20).any(|seed| walked(seed) != walked(7)));
    }
}
