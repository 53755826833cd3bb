//! `snapline sim`: the production code in a simulated world. A seed gives the same run every time.

use std::collections::BTreeMap;
use std::ops::Range;
use std::panic;
use std::path::Path;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use snapline::sim::pipelines::{PIPELINES, Pipeline};
use snapline::sim::{Fault, Mutation, Simulation};

use crate::args::SimArgs;
use crate::table::{TextTable, counted, grouped};
use crate::terminal::CLEAR;
use crate::{CommandError, Exit, Terminal};

/// What a report names as never having happened, if it did not.
const MARKS: &[&str] = &[
    "checkpoints complete",
    "commit calls",
    "commits repeated",
    "control messages doubled",
    "control messages lost",
    "coordinators crashed",
    "declines",
    "deposed",
    "drains",
    "false alarms",
    "files committed",
    "jobs failed",
    "losses of power with something to lose",
    "orders of an earlier attempt",
    "processes beside another",
    "processes killed",
    "recoveries",
    "reports of an earlier attempt",
    "slow writes",
    "suspended and run again",
    "tasks failed",
    "timers fired early",
    "trace lines replayed",
    "transactions committed",
    "troubles of claims",
    "troubles of commits",
    "troubles of deletions",
    "troubles of manifests",
    "troubles of preparations",
    "troubles of roll-backs",
    "troubles of snapshots",
    "workers crashed",
];

/// Carries the command out.
///
/// # Errors
/// If a name is wrong, or the output cannot be written.
pub fn run(args: &SimArgs, terminal: &mut Terminal<'_>) -> Result<Exit, CommandError> {
    if args.list {
        return list(terminal);
    }
    let pipelines = pipelines(args)?;
    let faults = faults(args)?;
    if args.mutants {
        return hunt(args, &pipelines, terminal);
    }
    let mutant = args.mutant.as_deref().map(mutant).transpose()?;
    let seeds = match args.seed {
        Some(seed) => seed..seed.saturating_add(1),
        None if args.fresh => {
            let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |now| now.as_secs());
            writeln!(terminal.out(), "a fresh seed: {now}")?;
            now..now + args.seeds.end.saturating_sub(args.seeds.start)
        }
        None => args.seeds.clone(),
    };
    let planted = args.mutant.iter().map(|name| format!(" --mutant {name}"));
    let allowed = args.faults.iter().map(|names| format!(" --faults {names}"));
    let again: String = planted.chain(allowed).collect();
    // What a planted fault breaks are assertions, which say the same in the report.
    let hook = mutant.is_some().then(panic::take_hook);
    if hook.is_some() {
        panic::set_hook(Box::new(|_| {}));
    }
    let simulation = |pipeline: &Pipeline| {
        let simulation = pipeline.simulation().mutant(mutant);
        match &faults {
            Some(faults) => simulation.faults(faults),
            None => simulation,
        }
    };
    let exit = match args.steps {
        true => steps(&pipelines, seeds, simulation, terminal),
        false => {
            simulate(&pipelines, seeds, simulation, (&again, args.traces.as_deref()), terminal)
        }
    };
    if let Some(hook) = hook {
        panic::set_hook(hook);
    }
    exit
}

fn simulate(
    pipelines: &[Pipeline],
    seeds: Range<u64>,
    simulation: impl Fn(&Pipeline) -> Simulation<'static>,
    (again, traces): (&str, Option<&Path>),
    terminal: &mut Terminal<'_>,
) -> Result<Exit, CommandError> {
    let header =
        ["pipeline", "runs", "steps", "faults", "checkpoints", "recoveries", "seconds", "verdict"];
    let mut table = TextTable::new(&header, 1..7);
    let mut marks: BTreeMap<&'static str, u64> = BTreeMap::new();
    let (mut exit, mut failures, began) = (Exit::Good, Vec::new(), Instant::now());
    for pipeline in pipelines {
        if terminal.rewrites() {
            terminal.complain(&format!("{CLEAR}{}", pipeline.name))?;
        }
        let started = Instant::now();
        let stop = terminal.stop();
        let stop = move || stop.load(std::sync::atomic::Ordering::Relaxed);
        let report =
            simulation(pipeline).stop(stop).run(seeds.clone()).map_err(CommandError::Damaged)?;
        for (mark, times) in &report.marks {
            *marks.entry(mark).or_default() += times;
        }
        let count = |mark| grouped(report.marks.get(mark).copied().unwrap_or(0));
        table.row(vec![
            pipeline.name.into(),
            grouped(report.runs),
            grouped(report.steps),
            grouped(report.faults),
            count("checkpoints complete"),
            count("recoveries"),
            format!("{:.1}", started.elapsed().as_secs_f64()),
            report.failure.as_ref().map_or("holds".into(), |_| "VIOLATED".into()),
        ]);
        if report.stopped {
            exit = exit.max(Exit::Stopped);
        }
        failures.extend(report.failure.map(|failure| (pipeline.name, failure)));
    }
    if terminal.rewrites() {
        terminal.complain(CLEAR)?;
    }
    let minutes = began.elapsed().as_secs_f64() / 60.0;
    let out = terminal.out();
    table.write(out)?;
    writeln!(out)?;
    let mut rates = TextTable::new(&["event", "times", "per minute"], 1..3);
    for (mark, times) in &marks {
        rates.row(vec![(*mark).into(), grouped(*times), grouped((*times as f64 / minutes) as u64)]);
    }
    rates.write(out)?;
    let never: Vec<&str> = MARKS.iter().copied().filter(|mark| !marks.contains_key(mark)).collect();
    writeln!(
        out,
        "coverage: {} of {} marks reached{}{}",
        MARKS.len() - never.len(),
        MARKS.len(),
        if never.is_empty() { "" } else { "; never: " },
        never.join(", ")
    )?;
    for (pipeline, failure) in failures {
        exit = Exit::Bad;
        writeln!(out, "\n{pipeline}: {failure}")?;
        for line in &failure.trace {
            writeln!(out, "{line}")?;
        }
        if let Some(traces) = traces {
            let directory = traces.join(pipeline);
            let written = failure.write_traces(&directory).map_err(|error| {
                CommandError::Usage(format!("cannot write to {}: {error}", directory.display()))
            })?;
            writeln!(
                out,
                "replay the recordings of its processes: snapline trace replay {}",
                written.display()
            )?;
        }
        let seed = failure.seed;
        writeln!(
            out,
            "see every step: snapline sim --pipeline {pipeline} --seed {seed}{again} --steps"
        )?;
    }
    Ok(exit)
}

fn steps(
    pipelines: &[Pipeline],
    seeds: Range<u64>,
    simulation: impl Fn(&Pipeline) -> Simulation<'static>,
    terminal: &mut Terminal<'_>,
) -> Result<Exit, CommandError> {
    let mut exit = Exit::Good;
    for pipeline in pipelines {
        for seed in seeds.clone() {
            let (lines, wrong) = simulation(pipeline).trace(seed).map_err(CommandError::Damaged)?;
            let out = terminal.out();
            writeln!(out, "{}, seed {seed}", pipeline.name)?;
            for line in lines {
                writeln!(out, "{line}")?;
            }
            match wrong {
                Some(wrong) => {
                    exit = Exit::Bad;
                    writeln!(out, "violated: {wrong}")?;
                }
                None => writeln!(out, "holds")?,
            }
        }
    }
    Ok(exit)
}

/// Looks for a seed that finds each mutant: all pipelines with the first seed, then with the
/// second, and so on.
fn hunt(
    args: &SimArgs,
    pipelines: &[Pipeline],
    terminal: &mut Terminal<'_>,
) -> Result<Exit, CommandError> {
    // Most mutants break assertions: what they say is in the table.
    let hook = panic::take_hook();
    panic::set_hook(Box::new(|_| {}));
    let mut table = TextTable::new(&["mutant", "seeds", "runs", "pipeline", "found as"], 1..3);
    let (mut exit, mut found) = (Exit::Good, 0);
    'mutants: for &mutant in Mutation::ALL {
        let mut runs = 0;
        let mut kill = None;
        'seeds: for seed in args.seeds.clone() {
            for pipeline in pipelines {
                if terminal.is_stopped() {
                    exit = exit.max(Exit::Stopped);
                    break 'mutants;
                }
                runs += 1;
                let hunted = pipeline.simulation().mutant(Some(mutant)).hunt([seed]);
                if let Some((_, wrong)) = hunted.map_err(CommandError::Damaged)? {
                    kill = Some((seed - args.seeds.start + 1, pipeline.name, wrong));
                    break 'seeds;
                }
            }
        }
        let (seeds, pipeline, wrong) = match kill {
            Some((seeds, pipeline, wrong)) => {
                found += 1;
                let line = wrong.lines().next().unwrap_or_default();
                (seeds.to_string(), pipeline, line.chars().take(100).collect())
            }
            None => ("-".into(), "-", "NOT FOUND".to_owned()),
        };
        table.row(vec![mutant.name().into(), seeds, runs.to_string(), pipeline.into(), wrong]);
    }
    panic::set_hook(hook);
    if exit == Exit::Good && found < args.at_least.unwrap_or(Mutation::ALL.len()) {
        exit = Exit::Bad;
    }
    let out = terminal.out();
    table.write(out)?;
    writeln!(
        out,
        "found: {found} of {}, each within {}",
        Mutation::ALL.len(),
        counted(args.seeds.end - args.seeds.start, "seed")
    )?;
    Ok(exit)
}

fn list(terminal: &mut Terminal<'_>) -> Result<Exit, CommandError> {
    let out = terminal.out();
    let mut table = TextTable::new(&["pipeline", "description"], 2..2);
    PIPELINES.iter().for_each(|it| table.row(vec![it.name.into(), it.about.into()]));
    table.write(out)?;
    writeln!(out)?;
    let mut table = TextTable::new(&["fault", "description"], 2..2);
    Fault::ALL.iter().for_each(|it| table.row(vec![it.name().into(), it.about().trim().into()]));
    table.write(out)?;
    writeln!(out)?;
    let mut table = TextTable::new(&["mutant", "wrong rule"], 2..2);
    Mutation::ALL
        .iter()
        .for_each(|it| table.row(vec![it.name().into(), it.breaks().trim().into()]));
    table.write(out)?;
    Ok(Exit::Good)
}

fn pipelines(args: &SimArgs) -> Result<Vec<Pipeline>, CommandError> {
    let Some(name) = &args.pipeline else { return Ok(PIPELINES.to_vec()) };
    match PIPELINES.iter().find(|it| it.name == name) {
        Some(pipeline) => Ok(vec![*pipeline]),
        None => Err(unknown("pipeline", name, PIPELINES.iter().map(|it| it.name))),
    }
}

fn mutant(name: &str) -> Result<Mutation, CommandError> {
    let found = Mutation::ALL.iter().find(|it| it.name() == name).copied();
    found.ok_or_else(|| unknown("mutant", name, Mutation::ALL.iter().map(|it| it.name())))
}

fn faults(args: &SimArgs) -> Result<Option<Vec<Fault>>, CommandError> {
    let Some(names) = &args.faults else { return Ok(None) };
    let mut faults = Vec::new();
    for name in names.split(',').filter(|name| !name.is_empty()) {
        let found = Fault::ALL.iter().find(|it| it.name() == name).copied();
        faults.push(
            found.ok_or_else(|| unknown("fault", name, Fault::ALL.iter().map(|it| it.name())))?,
        );
    }
    Ok(Some(faults))
}

fn unknown(what: &str, name: &str, all: impl Iterator<Item = &'static str>) -> CommandError {
    let all: Vec<&str> = all.collect();
    CommandError::Usage(format!("there is no {what} `{name}`; the {what}s are: {}", all.join(", ")))
}
