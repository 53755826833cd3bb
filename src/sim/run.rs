//! One run, from a seed; and its minimisation, if it fails.

use std::panic::{AssertUnwindSafe, catch_unwind};

use super::Build;
use super::fault::{Fault, FaultPlan};
use super::oracle::Reference;
use super::world::{Breach, Marks, Setup, World};
use crate::base::fault::Mutation;
use crate::base::panic::panicked;
use crate::fs::simulated::Random;
use crate::trace::{MemoryTrace, RunTrace, replay};

/// Steps after which a run that has not finished is taken to never finish.
const LONGEST: u64 = 60_000;

/// The result of a run.
#[derive(Clone, Debug)]
pub(crate) struct Ran {
    pub(crate) violation: Option<Breach>,
    pub(crate) marks: Marks,
    pub(crate) trace: Vec<String>,
    /// The record of all processes, if the run is wrong.
    pub(crate) files: Vec<(String, Vec<u8>)>,
    /// Whether the replay of the recorded runs found the violation.
    pub(crate) replayed: bool,
    pub(crate) steps: u64,
    pub(crate) faults: u32,
    /// The same for two runs that did the same.
    pub(crate) digest: u64,
}

/// Picks steps, until the job is over.
pub(crate) fn go_on(world: &mut World<'_>, random: &mut Random, limit: u64) -> Result<(), Breach> {
    let mut choices = Vec::new();
    let every = world.every();
    while !world.is_over() && !world.is_cut_off() {
        if world.steps >= limit {
            let waiting = world.waiting();
            return Err(Breach(format!("the job does not finish: {waiting}")));
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
            return Err(Breach(format!(
                "nothing is left to do, but the job has not ended: {waiting}"
            )));
        }
        let choice = choices[random.below(choices.len())];
        let choice = world.worsened(choice, random).unwrap_or(choice);
        world.apply(choice)?;
    }
    Ok(())
}

/// Checks the record of all processes against the protocol (SPEC 11.9); returns its size.
fn replayed(recorded: &MemoryTrace) -> Result<u64, Breach> {
    let files = recorded.files();
    let traces = files.iter().map(|(name, bytes)| RunTrace::read(name, bytes));
    let traces: Result<Vec<RunTrace>, _> = traces.collect();
    let traces = traces.map_err(|error| Breach(error.to_string()))?;
    let replayed = replay(&traces);
    replayed
        .map(|replayed| replayed.tally.lines)
        .map_err(|difference| Breach(difference.to_string()))
}

/// The violation, and whether the replay found it.
fn run_in(world: &mut World<'_>, seed: u64) -> (Option<Breach>, bool) {
    let run = || {
        go_on(world, &mut Random::new(seed), LONGEST)?;
        if world.is_cut_off() { Ok(()) } else { world.close(2 * LONGEST) }
    };
    let wrong = match catch_unwind(AssertUnwindSafe(run)) {
        Ok(result) => result.err(),
        Err(payload) => Some(Breach(format!("snapline {}", panicked(&*payload)))),
    };
    if wrong.is_some() || !world.replays() {
        return (wrong, false);
    }
    match replayed(&world.recorded) {
        Ok(lines) => {
            *world.marks.entry("trace lines replayed").or_default() += lines;
            (None, false)
        }
        Err(difference) => (Some(difference), true),
    }
}

/// The output of a run without faults.
pub(crate) fn reference(build: Build<'_>, shrink: usize) -> Result<Reference, Breach> {
    let setup = Setup { shrink, ..Setup::calm(0) };
    let mut world = World::new(build, setup, None);
    match run_in(&mut world, 0).0 {
        None => Ok(world.into_reference()),
        Some(Breach(what)) => Err(Breach(format!("without any fault: {what}"))),
    }
}

pub(crate) fn run(build: Build<'_>, setup: &Setup, reference: &Reference) -> Ran {
    let mut world = World::new(build, setup.clone(), Some(reference));
    let (violation, replayed) = run_in(&mut world, setup.seed);
    let files = if violation.is_some() { world.recorded.files() } else { Vec::new() };
    let (steps, digest, faults) = (world.steps, world.digest, world.faults());
    let (marks, trace) = (std::mem::take(&mut world.marks), std::mem::take(&mut world.trace));
    // The remains of a panic may panic once more when they are dropped.
    if catch_unwind(AssertUnwindSafe(|| drop(world))).is_err() {
        tracing::warn!("a simulated process panicked again during its cleanup");
    }
    Ran { violation, marks, trace, files, replayed, steps, faults, digest }
}

/// The setup of a seed.
pub(crate) fn setup(seed: u64, allowed: &[Fault], mutant: Option<Mutation>) -> Setup {
    let mut random = Random::new(seed ^ 0x5eed);
    let plan = FaultPlan::draw(&mut random, allowed);
    Setup { plan, mutant, ..Setup::calm(seed) }
}

/// Tries to fail with fewer kinds of fault, fewer faults and fewer records, and then in fewer
/// steps. The resulting run fails, with a trace.
pub(crate) fn shrink(build: Build<'_>, failing: &Setup) -> (Setup, Ran) {
    let attempt = |setup: &Setup| {
        let reference = reference(build, setup.shrink).ok()?;
        let ran = run(build, setup, &reference);
        ran.violation.is_some().then_some(ran)
    };
    let mut best = failing.clone();
    let smallest = std::cell::Cell::new((u32::MAX, u64::MAX));
    let keep = |candidate: Setup, best: &mut Setup| -> bool {
        let Some(ran) = attempt(&candidate) else { return false };
        // Fewer faults, then fewer steps. A run that fails later is no smaller, but for one that
        // never ends.
        let size = (ran.faults, ran.steps);
        if size > smallest.get() && ran.steps < LONGEST {
            return false;
        }
        *best = candidate;
        smallest.set(size);
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
    // The remaining faults may need each other by chance. One or two of a kind alone, at other
    // moments, may do.
    'alone: for fault in best.plan.on.clone() {
        for every in [failing.plan.every, 4, 12, 40, 120] {
            if smallest.get().0 <= 2 {
                break 'alone;
            }
            let mut candidate = best.clone();
            candidate.plan = FaultPlan { on: vec![fault], most: 2, every };
            keep(candidate, &mut best);
        }
    }
    let reference = reference(build, best.shrink).unwrap_or_default();
    let mut ran = run(build, &best, &reference);
    if ran.replayed {
        // Every other violation ends the run at its step. The record up to some step fails for
        // good, or not yet.
        let (mut good, mut bad) = (0, ran.steps);
        while good + 1 < bad {
            let middle = good.midpoint(bad);
            let limit = Some(middle);
            let ran = run(build, &Setup { limit, ..best.clone() }, &reference);
            if ran.violation.is_some() {
                bad = middle;
            } else {
                good = middle;
            }
        }
        best.limit = Some(bad);
    }
    // A reader of the trace needs the record too.
    (best.tell, best.replay) = (true, true);
    ran = run(build, &best, &reference);
    (best, ran)
}
