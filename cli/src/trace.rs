//! `snapline trace`: replays a model's trace on the World and tells its story, and recorded runs on
//! fresh machines (SPEC 11).

use std::path::{Path, PathBuf};

use snapline::trace::{RunTrace, replay};
use snapline_models::check::describe_bounds;
use snapline_models::scenario::Setup;
use snapline_models::story::{ending, render, story};
use snapline_models::trace::{Claim, Trace};
use snapline_models::walk::shorten;

use crate::args::{ReplayArgs, ShrinkArgs, TraceArgs, TraceCommand};
use crate::table::counted;
use crate::{CommandError, Exit, Terminal, read};

/// Carries the command out. A trace that does not show what it claims, or a run that differs from
/// the protocol, is [`Exit::Bad`].
///
/// # Errors
/// If a file cannot be read, is no trace of a version that this build knows, or cannot be replayed;
/// or the output cannot be written.
pub fn run(args: &TraceArgs, terminal: &mut Terminal<'_>) -> Result<Exit, CommandError> {
    let (paths, production): (Vec<PathBuf>, bool) = match &args.command {
        Some(TraceCommand::Replay(ReplayArgs { paths, production })) => {
            (paths.clone(), *production)
        }
        Some(TraceCommand::Render(args)) => return crate::rendering::render(args, terminal),
        Some(TraceCommand::Shrink(args)) => return shrink(args, terminal),
        Some(TraceCommand::Show(args)) => return crate::rendering::show(args, terminal),
        None => (args.file.iter().cloned().collect(), args.production),
    };
    let mut runs = Vec::new();
    let mut exit = Exit::Good;
    for path in &paths {
        if is_of_a_run(path)? {
            runs.push(path);
        } else {
            exit = exit.max(of_the_model(path, production, terminal)?);
        }
    }
    if !runs.is_empty() {
        exit = exit.max(of_runs(&runs, terminal)?);
    }
    Ok(exit)
}

/// Directories hold traces of runs; so does a file whose first line says so, and one whose name
/// does: its first line may be torn.
pub(crate) fn is_of_a_run(path: &Path) -> Result<bool, CommandError> {
    if path.is_dir() || path.extension().is_some_and(|end| end == "ndjson") {
        return Ok(true);
    }
    let bytes = std::fs::read(path)
        .map_err(|error| CommandError::Usage(format!("cannot read {}: {error}", path.display())))?;
    Ok(RunTrace::is_one(&bytes))
}

fn of_runs(paths: &[&PathBuf], terminal: &mut Terminal<'_>) -> Result<Exit, CommandError> {
    let traces =
        RunTrace::read_all(paths).map_err(|error| CommandError::Usage(error.to_string()))?;
    let out = terminal.out();
    for trace in &traces {
        match trace.header() {
            Some(header) => writeln!(
                out,
                "{}: job {}, term {}, {}",
                trace.name(),
                header.job,
                header.term,
                counted(trace.lines().len() as u64, "line")
            )?,
            None => writeln!(out, "{}: empty, its first line is torn", trace.name())?,
        }
    }
    match replay(&traces) {
        Ok(replayed) => {
            writeln!(out, "{replayed}")?;
            Ok(Exit::Good)
        }
        Err(difference) => {
            writeln!(out, "this run deviates from the protocol:\n{difference}")?;
            Ok(Exit::Bad)
        }
    }
}

fn of_the_model(
    file: &Path,
    production: bool,
    terminal: &mut Terminal<'_>,
) -> Result<Exit, CommandError> {
    let text = read(file)?;
    let wrong =
        |error: &dyn std::fmt::Display| CommandError::Usage(format!("{}: {error}", file.display()));
    let trace = Trace::read(&text).map_err(|error| wrong(&error))?;
    let replay = trace.replay().map_err(|error| wrong(&error))?;
    let setup = Setup::new(trace.scenario.clone(), trace.mutant).map_err(|error| wrong(&error))?;
    let out = terminal.out();
    writeln!(out, "{}: {}", trace.scenario.name, counted(trace.steps.len() as u64, "step"))?;
    if let Some(mutant) = trace.mutant {
        writeln!(out, "wrong rule: {}: {}", mutant.name(), mutant.sentence())?;
    }
    writeln!(out, "bounds: {}\n", describe_bounds(&trace.scenario))?;
    writeln!(out, "{}", render(&story(&setup, &trace.steps)))?;
    let law = trace.law.filter(|law| replay.broken.contains(law));
    writeln!(out, "{}{}", ending(&setup, &replay.last, law), replay.claim)?;
    let told = match replay.claim {
        Claim::Refuted(_) => Exit::Bad,
        Claim::None | Claim::Shown(_) | Claim::NotVisible(_) => Exit::Good,
    };
    match production {
        true => Ok(crate::production_replay::table::one(&trace, terminal)?.max(told)),
        false => Ok(told),
    }
}

fn shrink(args: &ShrinkArgs, terminal: &mut Terminal<'_>) -> Result<Exit, CommandError> {
    let file = &args.trace;
    let wrong =
        |error: &dyn std::fmt::Display| CommandError::Usage(format!("{}: {error}", file.display()));
    if is_of_a_run(file)? {
        return Err(wrong(
            &"this is a recorded run, and only traces of the model can be minimised",
        ));
    }
    let trace = Trace::read(&read(file)?).map_err(|error| wrong(&error))?;
    let short = shorten(&trace).map_err(|error| wrong(&error))?;
    let text = short.write();
    match &args.output {
        None => write!(terminal.out(), "{text}")?,
        Some(path) => {
            std::fs::write(path, text).map_err(|error| {
                CommandError::Usage(format!("cannot write {}: {error}", path.display()))
            })?;
            let (before, after) = (trace.steps.len(), short.steps.len());
            let before = counted(before as u64, "step");
            writeln!(terminal.out(), "{}: {before}, now {after}", path.display())?;
        }
    }
    Ok(Exit::Good)
}
