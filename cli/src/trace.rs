//! `snapline trace`: replays a trace file (SPEC 11) on the World and tells its story.

use snapline_models::check::describe_bounds;
use snapline_models::scenario::Setup;
use snapline_models::story::{ending, render, story};
use snapline_models::trace::{Claim, Trace};

use crate::args::TraceArgs;
use crate::{Exit, Failure, Terminal, read};

/// Carries the command out. A trace that does not show what it claims is [`Exit::Bad`].
///
/// # Errors
/// If the file cannot be read, is no trace of this version, or cannot be replayed; or the output cannot be written.
pub fn run(args: &TraceArgs, terminal: &mut Terminal<'_>) -> Result<Exit, Failure> {
    let text = read(&args.file)?;
    let wrong =
        |error: &dyn std::fmt::Display| Failure::Usage(format!("{}: {error}", args.file.display()));
    let trace = Trace::read(&text).map_err(|error| wrong(&error))?;
    let replay = trace.replay().map_err(|error| wrong(&error))?;
    let setup = Setup::new(trace.scenario.clone(), trace.mutant).map_err(|error| wrong(&error))?;
    let out = terminal.out();
    writeln!(out, "{}: {} steps", trace.scenario.name, trace.steps.len())?;
    if let Some(mutant) = trace.mutant {
        writeln!(out, "wrong rule: {}: {}", mutant.name(), mutant.about().rule)?;
    }
    writeln!(out, "bounds: {}\n", describe_bounds(&trace.scenario))?;
    writeln!(out, "{}", render(&story(&setup, &trace.steps)))?;
    let law = trace.law.filter(|law| replay.broken.contains(law));
    writeln!(out, "{}{}", ending(&setup, &replay.last, law), replay.claim)?;
    let told = match replay.claim {
        Claim::Refuted(_) => Exit::Bad,
        Claim::None | Claim::Shown(_) | Claim::NotVisible(_) => Exit::Good,
    };
    match args.production {
        true => Ok(crate::onto::table::one(&trace, terminal)?.max(told)),
        false => Ok(told),
    }
}
