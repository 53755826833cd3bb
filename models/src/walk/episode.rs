//! One run from the first state: turbulence, then healing.

use snapline_protocol::coordinator::Timer;

use super::WalkReport;
use super::draw::RESERVE;
use super::random::WalkRng;
use crate::explore::{MarkSet, TransitionSystem};
use crate::laws::{self, Law};
use crate::model::Model;
use crate::world::{Action, CoordinatorState, KINDS, World};

/// A job that heals must finish within this many steps; those that do take a few hundred.
pub(super) const HEALING: u64 = 10_000;

/// The model distinguishes this many checkpoint ids.
const IDS: u64 = 64;

/// The end of an episode.
pub(super) enum EpisodeEnd {
    Finished,
    FailedLoudly,
    CutShort,
    Broken(Law, Vec<Action>),
}

/// The enabled actions of a state, in the three groups that [`World::enabled`]'s order puts them
/// in.
pub(super) struct EnabledActions {
    actions: Vec<Action>,
    faults: usize,
    zombies: usize,
}

impl EnabledActions {
    pub(super) const fn new() -> Self {
        Self { actions: Vec::new(), faults: 0, zombies: 0 }
    }

    pub(super) fn look(&mut self, model: &Model, world: &World) {
        self.actions.clear();
        world.enabled(&model.setup, &mut self.actions);
        self.faults = self.actions.partition_point(|action| !action.is_fault());
        self.zombies = self.actions.partition_point(|action| action.kind() < ZOMBIES);
    }

    pub(super) fn all(&self) -> &[Action] {
        &self.actions
    }

    /// Removes an action that must not happen now.
    fn rule_out(&mut self, unwanted: Action) {
        let before = self.actions.len();
        self.actions.retain(|action| *action != unwanted);
        let gone = before - self.actions.len();
        self.faults -= gone;
        self.zombies -= gone;
    }

    /// The enabled actions that are not faults.
    pub(super) fn progress(&self) -> &[Action] {
        &self.actions[..self.faults]
    }

    fn faults(&self) -> &[Action] {
        &self.actions[self.faults..self.zombies]
    }

    fn zombies(&self) -> &[Action] {
        &self.actions[self.zombies..]
    }
}

/// Kinds from here on are the acts of tasks and coordinators that should have ended.
const ZOMBIES: usize = Action::ZombieConsume { zombie: 0, input: 0 }.kind();

/// An episode with its preferences.
pub(super) struct Episode<'a> {
    model: &'a Model,
    random: &'a mut WalkRng,
    /// Steps before it heals.
    turbulence: u64,
    /// A fault strikes once in this many steps.
    strikes: usize,
    /// Tasks and coordinators that should have ended act once in this many steps.
    zombie_acts: usize,
    /// The weight of each kind of action: some parties are slow for a whole episode.
    weights: [u32; KINDS.len()],
}

impl<'a> Episode<'a> {
    pub(super) fn new(model: &'a Model, random: &'a mut WalkRng) -> Self {
        let longest = random.one_of(&[30, 100, 300, 600]);
        let turbulence = random.below(longest) as u64;
        let strikes = random.one_of(&[4, 10, 25, 60]);
        let zombie_acts = random.one_of(&[2, 8, 40]);
        let mut weights = [0; KINDS.len()];
        for weight in &mut weights {
            *weight = random.one_of(&[8, 32, 32, 128]);
        }
        weights[Action::Stop.kind()] = 1;
        Self { model, random, turbulence, strikes, zombie_acts, weights }
    }

    pub(super) fn run(mut self, steps: u64, report: &mut WalkReport) -> EpisodeEnd {
        let (mut world, mut path, mut choice) =
            (self.model.initial(), Vec::new(), EnabledActions::new());
        // After the end of the job, the network and parties that should have ended may act for a
        // while.
        let mut aftermath = self.random.below(16);
        let mut healing = 0;
        loop {
            let done = self.model.is_goal(&world);
            if done && aftermath == 0 {
                report.longest_healing = report.longest_healing.max(healing);
                return if world.finished() {
                    EpisodeEnd::Finished
                } else {
                    EpisodeEnd::FailedLoudly
                };
            }
            if report.steps >= steps || world.store.fence.until.get() > IDS + 1 {
                return EpisodeEnd::CutShort;
            }
            choice.look(self.model, &world);
            let turbulent = (path.len() as u64) < self.turbulence || done;
            if spares(self.model, &world, &choice) && (turbulent || choice.progress().len() > 1) {
                choice.rule_out(INTERVAL);
            }
            let next =
                if turbulent { self.any(&choice) } else { fair(choice.progress(), self.random) };
            let Some(action) = next else {
                if done {
                    aftermath = 0;
                    continue;
                }
                if turbulent {
                    self.turbulence = 0;
                    continue;
                }
                return match is_stuck(self.model, &world) {
                    true => EpisodeEnd::Broken(Law::Progress, path),
                    false => EpisodeEnd::CutShort,
                };
            };
            let after = world.apply(&self.model.setup, &action, &mut report.marks);
            count(report, &action, &world, &after);
            path.push(action);
            let broken = broken(self.model, &world, &after);
            world = after;
            if broken != 0 {
                return EpisodeEnd::Broken(Law::ALL[broken.trailing_zeros() as usize], path);
            }
            if done {
                aftermath -= 1;
            } else if !turbulent {
                healing += 1;
                if healing > HEALING {
                    return EpisodeEnd::Broken(Law::Progress, path);
                }
            }
        }
    }

    /// Any enabled action: mostly progress, now and then a fault.
    fn any(&mut self, choice: &EnabledActions) -> Option<Action> {
        if !choice.faults().is_empty() && self.random.once_in(self.strikes) {
            return Some(self.fault(choice.faults()));
        }
        if !choice.zombies().is_empty() && self.random.once_in(self.zombie_acts) {
            return Some(self.random.one_of(choice.zombies()));
        }
        self.weighted(choice.progress())
    }

    /// Every kind of fault is equally likely, however many places it could strike.
    fn fault(&mut self, faults: &[Action]) -> Action {
        let mut kinds = [0; KINDS.len()];
        let mut count = 0;
        for action in faults {
            // In order: equal kinds stand together.
            if count == 0 || kinds[count - 1] != action.kind() {
                kinds[count] = action.kind();
                count += 1;
            }
        }
        let kind = kinds[self.random.below(count)];
        let from = faults.partition_point(|action| action.kind() < kind);
        let to = faults.partition_point(|action| action.kind() <= kind);
        self.random.one_of(&faults[from..to])
    }

    fn weighted(&mut self, actions: &[Action]) -> Option<Action> {
        let all: u32 = actions.iter().map(|action| self.weights[action.kind()]).sum();
        if all == 0 {
            return None;
        }
        // Below the sum, so some action takes it.
        let mut rest = self.random.below(all as usize) as u32;
        actions.iter().copied().find(|action| {
            let weight = self.weights[action.kind()];
            let here = rest < weight;
            rest = rest.saturating_sub(weight);
            here
        })
    }
}

const INTERVAL: Action = Action::Fire { timer: Timer::Interval };

/// True if the interval timer would start one of the checkpoints in reserve.
fn spares(model: &Model, world: &World, choice: &EnabledActions) -> bool {
    world.checkpoints <= RESERVE && choice.progress().contains(&INTERVAL) && {
        let after = world.apply(&model.setup, &INTERVAL, &mut MarkSet::new());
        after.checkpoints < world.checkpoints
    }
}

/// True if the job is not done and only faults can happen, for another reason than that the model's
/// checkpoints are used up.
pub(super) fn is_stuck(model: &Model, world: &World) -> bool {
    let mut choice = EnabledActions::new();
    choice.look(model, world);
    let armed = |coordinator: &CoordinatorState| coordinator.timers.contains(&Timer::Interval);
    let in_circles = world.ghost.issued.count_ones() >= model.setup.most_checkpoints();
    choice.progress().is_empty()
        && !model.is_goal(world)
        && (world.checkpoints > 0 || in_circles || !world.coordinators.last().is_some_and(armed))
}

/// A fair schedule: an action that stays enabled is chosen eventually.
pub(super) fn fair(progress: &[Action], random: &mut WalkRng) -> Option<Action> {
    (!progress.is_empty()).then(|| random.one_of(progress))
}

/// True if a job finishes from here without further faults, or could with more checkpoints; and the
/// number of steps it took to decide.
pub(super) fn finishes(model: &Model, from: &World) -> (bool, u64) {
    let (mut random, mut choice, mut marks) =
        (WalkRng::new(0), EnabledActions::new(), MarkSet::new());
    let mut world = from.clone();
    for steps in 0..HEALING {
        if model.is_goal(&world) {
            return (true, steps);
        }
        choice.look(model, &world);
        if choice.progress().len() > 1 && spares(model, &world, &choice) {
            choice.rule_out(INTERVAL);
        }
        let Some(action) = fair(choice.progress(), &mut random) else {
            return (!is_stuck(model, &world), steps);
        };
        world = world.apply(&model.setup, &action, &mut marks);
    }
    (false, HEALING)
}

/// Laws that depend on storage alone: they hold as long as it does not change.
const OF_STORAGE: u64 = Law::CutComplete.bit() | Law::CutClean.bit() | Law::Restorable.bit();

/// The laws that a state breaks, if its predecessor broke none.
fn broken(model: &Model, before: &World, after: &World) -> u64 {
    let skip = if before.store == after.store { OF_STORAGE } else { 0 };
    let broken = laws::broken(&model.setup, after, model.laws & !skip);
    debug_assert_eq!(broken, laws::broken(&model.setup, after, model.laws), "laws of storage");
    broken
}

fn count(report: &mut WalkReport, action: &Action, before: &World, after: &World) {
    report.steps += 1;
    report.actions[action.kind()] += 1;
    report.attempts += u64::from(before.host != after.host);
    let known = |checkpoint| before.store.manifests.iter().any(|m| m.checkpoint == checkpoint);
    let new = after.store.manifests.iter().filter(|manifest| !known(manifest.checkpoint));
    report.checkpoints += new.count() as u64;
}
