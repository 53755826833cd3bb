//! Shrinks the path of a random walk to a short one that breaks the same law.
//!
//! Steps are left out, large pieces first, and the rest is run again; impossible steps are skipped.
//! Then bounds are lowered, and so on, until nothing helps. Operators with several subtasks are
//! tried with one, by a short walk of their own that looks for the same law. The effort is bounded
//! in steps, not in time: the same walk gives the same trace.

use snapline_protocol::coordinator::StoreOp;
use snapline_protocol::topology::Wiring;

use super::WalkReport;
use super::draw::{BUDGETS, WAITING};
use super::episode::{EnabledActions, Episode, EpisodeEnd, fair, finishes, is_stuck};
use super::random::WalkRng;
use crate::explore::{MarkSet, TransitionSystem};
use crate::laws::Law;
use crate::model::Model;
use crate::scenario::Scenario;
use crate::trace::{Claim, Trace, TraceError};
use crate::world::rule::WrongRule;
use crate::world::{Action, ControlMessage, World};

/// Steps that shrinking may take for one topology.
const EFFORT: u64 = 1_000_000;

/// Steps of a walk that looks for the same violation in a narrower topology.
const NARROW: u64 = 30_000;

/// An action with its object, because its index depends on the steps before it.
#[derive(Clone, Copy)]
struct Meant {
    action: Action,
    letter: Option<ControlMessage>,
    op: Option<StoreOp>,
}

/// A path that breaks the law, with its model.
struct Counterexample {
    model: Model,
    path: Vec<Meant>,
}

struct Shrinker {
    law: Law,
    /// For [`Law::Progress`]: true if the last state must have nothing left to do, else it must not
    /// finish.
    stuck: bool,
    /// Longer paths are of no use.
    longest: usize,
    effort: u64,
}

/// A short trace that breaks the law, from a path that does.
pub(super) fn shrink(model: &Model, law: Law, path: Vec<Action>) -> Trace {
    let mut best = shrink_path(model, law, path, ScenarioBounds::Lowered);
    // One operator after the other; each that stays narrow makes the next search cheaper.
    for place in 0..best.scenario.plan.operators.len() {
        if best.scenario.plan.operators[place].parallelism == 1 {
            continue;
        }
        let mut narrow = best.scenario.clone();
        narrow.plan.operators[place].parallelism = 1;
        for edge in &mut narrow.plan.edges {
            let operators = &narrow.plan.operators;
            if [&edge.from, &edge.to].contains(&&operators[place].name) {
                edge.wiring = Wiring::AllToAll;
            }
        }
        if let Some(trace) = walk_narrow(&narrow, best.mutant, law)
            && trace.steps.len() <= best.steps.len()
        {
            best = trace;
        }
    }
    best
}

/// Looks for the same law in another topology.
fn walk_narrow(scenario: &Scenario, mutant: Option<WrongRule>, law: Law) -> Option<Trace> {
    let mut report = WalkReport::new(0);
    while report.steps < NARROW {
        let mut random = WalkRng::new(0).fork(report.episodes);
        report.episodes += 1;
        let model = Model::new(scenario.clone(), mutant).ok()?;
        if let EpisodeEnd::Broken(found, path) =
            Episode::new(&model, &mut random).run(NARROW, &mut report)
            && found == law
        {
            return Some(shrink_path(&model, law, path, ScenarioBounds::Lowered));
        }
    }
    None
}

/// Leaves out of a trace the steps that the law's breach does not need. The scenario stays. In
/// another one, for instance one whose messages do not wait, several things would happen in one
/// step, and a shorter trace would not be a simpler story.
///
/// # Errors
/// [`ShrinkError`], if the trace cannot be replayed, or does not show a law broken.
pub fn shorten(trace: &Trace) -> Result<Trace, ShrinkError> {
    let replay = trace.replay().map_err(ShrinkError::Replay)?;
    let law = trace.law.ok_or(ShrinkError::NoLaw)?;
    // A breach that no state shows is decided by a search for a path to the end, which shrinking
    // does too.
    if !matches!(replay.claim, Claim::Shown(_)) {
        return Err(ShrinkError::NotShown(replay.claim));
    }
    let model = Model::new(trace.scenario.clone(), trace.mutant)
        .map_err(|error| ShrinkError::Replay(error.into()))?;
    // The steps after the first breach are not needed.
    let (mut steps, mut marks, mut world) = (Vec::new(), MarkSet::new(), model.initial());
    for &action in &trace.steps {
        if law != Law::Progress && !law.holds(&model.setup, &world) {
            break;
        }
        world = world.apply(&model.setup, &action, &mut marks);
        steps.push(action);
    }
    Ok(shrink_path(&model, law, steps, ScenarioBounds::Stay))
}

/// A trace's schedule under another rule: the steps that are possible there, and the number of each
/// in the trace, from 1.
///
/// # Errors
/// [`TraceError`], if the trace cannot be replayed.
pub fn under(trace: &Trace, mutant: Option<WrongRule>) -> Result<(Trace, Vec<usize>), TraceError> {
    trace.replay()?;
    let model = Model::new(trace.scenario.clone(), trace.mutant)?;
    let (meant, _) = meanings(&model, &trace.steps);
    let other = Model::new(trace.scenario.clone(), mutant)?;
    let (mut world, mut marks, mut enabled) = (other.initial(), MarkSet::new(), Vec::new());
    let (mut steps, mut places) = (Vec::new(), Vec::new());
    for (place, meant) in meant.iter().enumerate() {
        let Some(action) = resolve(&world, meant, false) else { continue };
        enabled.clear();
        world.enabled(&other.setup, &mut enabled);
        if enabled.contains(&action) {
            world = world.apply(&other.setup, &action, &mut marks);
            steps.push(action);
            places.push(place + 1);
        }
    }
    Ok((Trace { scenario: trace.scenario.clone(), mutant, law: None, steps }, places))
}

/// The reason for which a trace cannot be shrunk.
#[derive(Clone, PartialEq, Eq)]
pub enum ShrinkError {
    /// The trace cannot be replayed.
    Replay(TraceError),
    /// The trace names no law, so shrinking has nothing to keep.
    NoLaw,
    /// The last state does not show the named law broken.
    NotShown(Claim),
}

impl std::fmt::Display for ShrinkError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Replay(error) => write!(f, "{error}"),
            Self::NoLaw => f.write_str(
                "the trace names no law, so there is no violation to keep while it is minimised",
            ),
            Self::NotShown(claim) => {
                write!(f, "only a trace that shows its law broken can be minimised: {claim}")
            }
        }
    }
}

snapline_protocol::error_in_words!(ShrinkError);

/// Shrinking keeps the scenario, or lowers its bounds.
#[derive(Clone, Copy, PartialEq, Eq)]
enum ScenarioBounds {
    Stay,
    Lowered,
}

fn shrink_path(model: &Model, law: Law, path: Vec<Action>, bounds: ScenarioBounds) -> Trace {
    let setup = &model.setup;
    let trace = |model: &Model, steps: Vec<Action>| Trace {
        scenario: model.setup.scenario.clone(),
        mutant: model.setup.mutant,
        law: Some(law),
        steps,
    };
    let mut shrinker = Shrinker { law, stuck: false, longest: path.len(), effort: EFFORT };
    let Ok(same) = Model::new(setup.scenario.clone(), setup.mutant) else {
        return trace(model, path);
    };
    let (meant, last) = meanings(&same, &path);
    shrinker.stuck = law == Law::Progress && is_stuck(&same, &last);
    let mut best = Counterexample { model: same, path: meant };
    loop {
        let before = (best.path.len(), best.model.setup.scenario.clone());
        shrinker.leave_out(&mut best);
        if bounds == ScenarioBounds::Lowered {
            shrinker.lower(&mut best);
        }
        if before == (best.path.len(), best.model.setup.scenario.clone()) {
            let path = best.path.iter().map(|meant| meant.action).collect();
            return trace(&best.model, path);
        }
    }
}

/// The objects of a possible path's actions, and its last state.
fn meanings(model: &Model, path: &[Action]) -> (Vec<Meant>, World) {
    let (mut world, mut marks) = (model.initial(), MarkSet::new());
    let mut meant = Vec::with_capacity(path.len());
    for &action in path {
        meant.push(meaning(&world, action));
        world = world.apply(&model.setup, &action, &mut marks);
    }
    (meant, world)
}

fn letters(world: &World) -> &[ControlMessage] {
    if world.sent.is_empty() { &world.network } else { &world.sent }
}

fn meaning(world: &World, action: Action) -> Meant {
    let letter = match action {
        Action::Deliver { message }
        | Action::Lose { message }
        | Action::Duplicate { message }
        | Action::Delay { message } => letters(world).get(usize::from(message)).copied(),
        _ => None,
    };
    let op = match action {
        Action::Store { write }
        | Action::StoreUnknown { write, .. }
        | Action::StoreRefused { write } => world
            .coordinators
            .last()
            .and_then(|coordinator| coordinator.writes.get(usize::from(write)))
            .copied(),
        _ => None,
    };
    Meant { action, letter, op }
}

/// The action with the same object in another state. With `loosely`, the action with the same
/// spelling if there is none.
fn resolve(world: &World, meant: &Meant, loosely: bool) -> Option<Action> {
    let index = |place: usize| u8::try_from(place).ok();
    let mut action = meant.action;
    let place = match (meant.letter, meant.op) {
        (Some(letter), _) => letters(world).iter().position(|other| *other == letter),
        (_, Some(op)) => {
            let coordinator = world.coordinators.last();
            coordinator
                .and_then(|coordinator| coordinator.writes.iter().position(|other| *other == op))
        }
        (None, None) => return Some(action),
    };
    let Some(place) = place.and_then(index) else { return loosely.then_some(action) };
    match &mut action {
        Action::Deliver { message }
        | Action::Lose { message }
        | Action::Duplicate { message }
        | Action::Delay { message } => *message = place,
        Action::Store { write }
        | Action::StoreUnknown { write, .. }
        | Action::StoreRefused { write } => *write = place,
        _ => {}
    }
    Some(action)
}

impl Shrinker {
    /// Runs the possible steps of a path. Returns the steps up to where the law is broken, if it
    /// is.
    fn run(&mut self, model: &Model, path: &[Meant], loosely: bool) -> Option<Vec<Meant>> {
        let (mut world, mut choice, mut marks) =
            (model.initial(), EnabledActions::new(), MarkSet::new());
        let mut taken = Vec::with_capacity(path.len());
        for meant in path {
            let Some(action) = resolve(&world, meant, loosely) else { continue };
            choice.look(model, &world);
            if !choice.all().contains(&action) {
                continue;
            }
            self.effort = self.effort.checked_sub(1)?;
            taken.push(meaning(&world, action));
            world = world.apply(&model.setup, &action, &mut marks);
            if !self.law.holds(&model.setup, &world) {
                return Some(taken);
            }
        }
        if self.stuck {
            self.go_on(model, &mut world, &mut taken);
        }
        let bad = self.law == Law::Progress
            && match self.stuck {
                true => is_stuck(model, &world),
                false => {
                    let (finishes, steps) = finishes(model, &world);
                    self.effort = self.effort.saturating_sub(steps);
                    !finishes
                }
            };
        bad.then_some(taken)
    }

    /// Takes steps until none is possible, or the path is as long as the best one.
    fn go_on(&mut self, model: &Model, world: &mut World, taken: &mut Vec<Meant>) {
        let (mut random, mut choice, mut marks) =
            (WalkRng::new(0), EnabledActions::new(), MarkSet::new());
        while taken.len() < self.longest && self.effort > 0 {
            choice.look(model, world);
            let Some(action) = fair(choice.progress(), &mut random) else { break };
            self.effort -= 1;
            taken.push(meaning(world, action));
            *world = world.apply(&model.setup, &action, &mut marks);
        }
    }

    /// Takes a path if it still breaks the law.
    fn accept(&mut self, best: &mut Counterexample, path: &[Meant]) -> bool {
        let found = self
            .run(&best.model, path, false)
            .or_else(|| self.run(&best.model, path, true))
            .filter(|taken| taken.len() < best.path.len());
        let better = found.is_some();
        if let Some(taken) = found {
            best.path = taken;
            self.longest = best.path.len();
        }
        better
    }

    /// Leaves steps out, pieces of half the path first, then smaller ones.
    fn leave_out(&mut self, best: &mut Counterexample) {
        let mut piece = (best.path.len() / 2).max(1);
        loop {
            let before = best.path.len();
            // From the end, where a dropped step disturbs the fewest others.
            let mut end = best.path.len();
            while end > 0 {
                let from = end.saturating_sub(piece);
                let mut shorter = best.path.clone();
                shorter.drain(from..end.min(shorter.len()));
                end = from;
                if self.accept(best, &shorter) {
                    end = end.min(best.path.len());
                }
            }
            if piece > 1 {
                piece /= 2;
            } else if best.path.len() == before {
                return;
            }
        }
    }

    /// Lowers bounds while the path, or its possible steps, still break the law.
    fn lower(&mut self, best: &mut Counterexample) {
        let mut lowered = true;
        while lowered {
            lowered = false;
            for scenario in lower(&best.model.setup.scenario) {
                let Ok(model) = Model::new(scenario, best.model.setup.mutant) else { continue };
                let path = &best.path;
                let found = self.run(&model, path, false).or_else(|| self.run(&model, path, true));
                if let Some(path) = found.filter(|taken| taken.len() <= best.path.len()) {
                    *best = Counterexample { model, path };
                    lowered = true;
                    break;
                }
            }
        }
    }
}

/// Scenarios that differ in one lower bound.
fn lower(scenario: &Scenario) -> Vec<Scenario> {
    let mut all = Vec::new();
    let mut with = |change: &dyn Fn(&mut Scenario)| {
        let mut lower = scenario.clone();
        change(&mut lower);
        if lower != *scenario {
            all.push(lower);
        }
    };
    for budget in BUDGETS {
        with(&|s| *budget(&mut s.faults) = 0);
        with(&|s| *budget(&mut s.faults) = budget(&mut s.faults).saturating_sub(1));
    }
    for waits in WAITING {
        with(&|s| *waits(&mut s.queued) = false);
    }
    with(&|s| s.stop = None);
    with(&|s| s.shared = false);
    with(&|s| s.forgets = false);
    with(&|s| s.retained = None);
    with(&|s| s.prompt_writes = true);
    with(&|s| s.max_concurrent = s.max_concurrent.min(2) - s.max_concurrent.min(2) / 2);
    with(&|s| s.records = (s.records / 2).max(1));
    with(&|s| s.records = s.records.saturating_sub(1).max(1));
    with(&|s| s.checkpoints = s.checkpoints.saturating_sub(1));
    with(&|s| s.capacity = s.capacity.saturating_sub(1).max(1));
    all
}
