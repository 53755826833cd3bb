//! One run, from a seed; the same with less, if it fails.

use std::panic::{AssertUnwindSafe, catch_unwind};

use super::fault::{Fault, Plan};
use super::oracle::Reference;
use super::world::{Marks, Setup, Violation, World};
use super::{Build, Mutant};
use crate::engine::failure::panicked;
use crate::files::simulated::Random;

/// Steps after which a run that has not finished never will.
const LONGEST: u64 = 60_000;

/// What a run came to.
#[derive(Clone, Debug)]
pub(crate) struct Ran {
    pub(crate) violation: Option<Violation>,
    pub(crate) marks: Marks,
    pub(crate) trace: Vec<String>,
    pub(crate) steps: u64,
    pub(crate) faults: u32,
    /// The same for two runs that did the same.
    pub(crate) digest: u64,
}

/// Picks what happens, until the job is over.
pub(crate) fn go_on(
    world: &mut World<'_>,
    random: &mut Random,
    limit: u64,
) -> Result<(), Violation> {
    let mut choices = Vec::new();
    let every = world.every();
    while !world.is_over() {
        if world.steps >= limit {
            let waiting = world.waiting();
            return Err(Violation(format!("the job does not finish: {waiting}")));
        }
        if every < usize::MAX
            && (random.once_in(every) || (world.is_beginning() && random.once_in(12)))
            && let Some(mishap) = world.mishap(random)
        {
            world.apply(mishap)?;
            continue;
        }
        world.enabled(&mut choices);
        if choices.is_empty() {
            let waiting = world.waiting();
            return Err(Violation(format!(
                "nothing is left to do, and the job is not over: {waiting}"
            )));
        }
        let choice = choices[random.below(choices.len())];
        let choice = world.worsened(choice, random).unwrap_or(choice);
        world.apply(choice)?;
    }
    Ok(())
}

fn run_in(world: &mut World<'_>, seed: u64) -> Option<Violation> {
    let run = || {
        go_on(world, &mut Random::new(seed), LONGEST)?;
        world.close(2 * LONGEST)
    };
    match catch_unwind(AssertUnwindSafe(run)) {
        Ok(result) => result.err(),
        Err(payload) => Some(Violation(format!("snapline {}", panicked(&*payload)))),
    }
}

/// The output of a run in which nothing goes wrong.
pub(crate) fn reference(build: Build<'_>, shrink: usize) -> Result<Reference, Violation> {
    let setup = Setup { seed: 0, plan: Plan::calm(), mutant: None, shrink, tell: false };
    let mut world = World::new(build, setup, None);
    match run_in(&mut world, 0) {
        None => Ok(world.into_reference()),
        Some(Violation(what)) => Err(Violation(format!("without any fault: {what}"))),
    }
}

pub(crate) fn run(build: Build<'_>, setup: &Setup, reference: &Reference) -> Ran {
    let mut world = World::new(build, setup.clone(), Some(reference));
    let violation = run_in(&mut world, setup.seed);
    let (steps, digest, faults) = (world.steps, world.digest, world.faults());
    let (marks, trace) = (std::mem::take(&mut world.marks), std::mem::take(&mut world.trace));
    // What a panic left behind may panic once more when it is dropped.
    if catch_unwind(AssertUnwindSafe(|| drop(world))).is_err() {
        tracing::warn!("a simulated process panicked once more while it was cleared away");
    }
    Ran { violation, marks, trace, steps, faults, digest }
}

/// The setup of a seed.
pub(crate) fn setup(seed: u64, allowed: &[Fault], mutant: Option<Mutant>) -> Setup {
    let mut random = Random::new(seed ^ 0x5eed);
    let plan = Plan::draw(&mut random, allowed);
    Setup { seed, plan, mutant, shrink: 1, tell: false }
}

/// Tries to fail with fewer kinds of fault, fewer faults and fewer records. What it comes to fails, with a trace.
pub(crate) fn shrink(build: Build<'_>, failing: &Setup) -> (Setup, Ran) {
    let attempt = |setup: &Setup| {
        let reference = reference(build, setup.shrink).ok()?;
        let ran = run(build, setup, &reference);
        ran.violation.is_some().then_some(ran)
    };
    let mut best = failing.clone();
    let mut shortest = u64::MAX;
    let mut keep = |candidate: Setup, best: &mut Setup| -> bool {
        let Some(ran) = attempt(&candidate) else { return false };
        // A run that fails later is no smaller, but for one that never ends.
        if ran.steps > shortest && ran.steps < LONGEST {
            return false;
        }
        (*best, shortest) = (candidate, ran.steps);
        true
    };
    for shrink in [64, 16, 4, 2] {
        if keep(Setup { shrink, ..best.clone() }, &mut best) {
            break;
        }
    }
    for fault in failing.plan.on.clone() {
        let mut candidate = best.clone();
        candidate.plan.on.retain(|on| *on != fault);
        keep(candidate, &mut best);
    }
    for most in [0, 1, 2, 3, 4, 6, 8, 12] {
        let mut candidate = best.clone();
        candidate.plan.most = most;
        if most < best.plan.most && keep(candidate, &mut best) {
            break;
        }
    }
    best.tell = true;
    let reference = reference(build, best.shrink).unwrap_or_default();
    let ran = run(build, &best, &reference);
    (best, ran)
}
