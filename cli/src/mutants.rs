//! `snapline mutants`: shows that each law finds the wrong rules that it is written for.
//!
//! # The JSON file
//!
//! `--json FILE` writes `{"format": "snapline-mutants", "version": 1, "killed", "hunted",
//! "seconds", "results"}`. Each of `results` has `name`, `rule`, `bug`, `law` (the one written for
//! it), `verdict` (`"killed"`, `"killed-by-another-law"`, `"lives"`, `"stopped"`, `"not-run"`) and,
//! unless it was not run, `by` (the law that saw it, or null), `steps` of the shortest
//! counterexample (or null), `states` and `seconds`.

use std::path::{Path, PathBuf};
use std::time::Instant;

use serde_json::{Value, json};
use snapline_models::explore::{Bounds, StopReason};
use snapline_models::laws::Law;
use snapline_models::mutants::{Mutant, kill};
use snapline_models::run::{ExplorationReport, Judgement};
use snapline_models::trace::Trace;
use snapline_models::world::rule::WrongRule;

use crate::args::MutantsArgs;
use crate::names::unknown;
use crate::report::{self, Directory, ReportedCase};
use crate::table::{TextTable, grouped};
use crate::terminal::CLEAR;
use crate::{CommandError, Exit, Terminal, writable, write};

/// A mutant that is not seen within this many states lives.
const MAX_STATES: u64 = 3_000_000;

/// Carries the command out.
///
/// # Errors
/// If the command line is wrong, or the output cannot be written.
pub fn run(args: &MutantsArgs, terminal: &mut Terminal<'_>) -> Result<Exit, CommandError> {
    let mutants = wanted(&args.names)?;
    if args.list {
        let mut table = TextTable::new(&["mutant", "law", "the wrong rule", "class of bug"], 0..0);
        for mutant in mutants {
            let about = Mutant::of(mutant);
            let row = [about.name(), about.law.name(), mutant.sentence(), about.bug];
            table.row(row.map(String::from).into());
        }
        table.write(terminal.out())?;
        return Ok(Exit::Good);
    }
    if args.production {
        return crate::production_replay::table::run(&mutants, terminal);
    }
    args.json.iter().try_for_each(|file| writable(file))?;
    let reported = args.report.as_deref().map(Directory::open).transpose()?;
    if let Some(directory) = &args.trace {
        std::fs::create_dir_all(directory).map_err(|error| {
            CommandError::Usage(format!("cannot make {}: {error}", directory.display()))
        })?;
    }
    let started = Instant::now();
    let stop = Some(terminal.stop());
    let bounds = Bounds { max_states: Some(MAX_STATES), stop, ..Bounds::default() };
    let (mut hunts, mut traces) = (Vec::new(), Vec::new());
    for (place, &mutant) in mutants.iter().enumerate() {
        if terminal.rewrites() {
            let line = format!("{CLEAR}{} of {}: {}", place + 1, mutants.len(), mutant.name());
            terminal.complain(&line)?;
        }
        let report = (!terminal.is_stopped()).then(|| kill(mutant, &bounds));
        let hunt = Hunt { mutant, report };
        if let Some(directory) = &args.trace {
            traces.extend(hunt.write_trace(directory)?);
        }
        hunts.push(hunt);
    }
    if terminal.rewrites() {
        terminal.complain(CLEAR)?;
    }
    for (name, file) in &traces {
        writeln!(terminal.err(), "the trace of {name} is in {}", file.display())?;
    }
    if args.trace.is_some() && traces.is_empty() {
        writeln!(terminal.err(), "no mutant was found, so no trace was written")?;
    }
    let seconds = started.elapsed().as_secs_f64();
    summarise(&hunts, seconds, terminal)?;
    if let Some(file) = &args.json {
        write(file, &format!("{:#}\n", json(&hunts, seconds)))?;
    }
    if let Some(directory) = &reported {
        let (command, cases) = ("snapline mutants", hunts.iter().map(Hunt::case).collect());
        let results = format!("{:#}\n", json(&hunts, seconds));
        directory.report(&report::CommandReport {
            command,
            cases,
            results,
            seconds,
            scanned: false,
        })?;
        directory.tell(terminal)?;
    }
    Ok(hunts.iter().map(Hunt::exit).max().unwrap_or(Exit::Good))
}

fn wanted(names: &[String]) -> Result<Vec<WrongRule>, CommandError> {
    if names.is_empty() {
        return Ok(WrongRule::ALL.to_vec());
    }
    let mut mutants = Vec::new();
    for name in names {
        let Some(mutant) = WrongRule::find(name) else {
            let known: Vec<&str> = WrongRule::ALL.iter().map(|mutant| mutant.name()).collect();
            return Err(CommandError::Usage(unknown("mutant", name, &known)));
        };
        if !mutants.contains(&mutant) {
            mutants.push(mutant);
        }
    }
    Ok(mutants)
}

/// The outcome of one mutant; empty if the command was stopped earlier.
struct Hunt {
    mutant: WrongRule,
    report: Option<ExplorationReport>,
}

impl Hunt {
    fn by(&self) -> Option<(Law, usize)> {
        match &self.report.as_ref()?.judgement {
            Judgement::Violated { law, path } => Some((*law, path.len())),
            _ => None,
        }
    }

    fn verdict(&self) -> &'static str {
        let Some(report) = &self.report else { return "not-run" };
        match report.judgement {
            Judgement::Violated { law, .. } if law == Mutant::of(self.mutant).law => "killed",
            Judgement::Violated { .. } => "killed-by-another-law",
            Judgement::Stopped(reason) if reason != StopReason::States => "stopped",
            _ => "lives",
        }
    }

    fn exit(&self) -> Exit {
        match self.verdict() {
            "killed" => Exit::Good,
            "stopped" | "not-run" => Exit::Stopped,
            _ => Exit::Bad,
        }
    }

    /// The path to the state that shows it, if one was found.
    fn trace(&self) -> Option<Trace> {
        let ExplorationReport {
            scenario,
            mutant,
            judgement: Judgement::Violated { law, path },
            ..
        } = self.report.as_ref()?
        else {
            return None;
        };
        let (scenario, steps) = (scenario.clone(), path.clone());
        Some(Trace { scenario, mutant: *mutant, law: Some(*law), steps })
    }

    /// The mutant's name, and the file that was written.
    fn write_trace(
        &self,
        directory: &Path,
    ) -> Result<Option<(&'static str, PathBuf)>, CommandError> {
        let Some(trace) = self.trace() else { return Ok(None) };
        let name = self.mutant.name();
        let file = directory.join(format!("{name}.json"));
        write(&file, &trace.write())?;
        Ok(Some((name, file)))
    }

    /// The mutant as a case of a report.
    fn case(&self) -> ReportedCase<'_> {
        let (about, verdict) = (Mutant::of(self.mutant), self.verdict());
        let (rule, law) = (self.mutant.sentence().trim_end_matches('.'), about.law.name());
        let detail = match (verdict, self.by()) {
            ("killed", _) => format!("{rule}; found by {law}"),
            (_, Some((by, _))) => format!("{rule}; found by {}, not by {law}", by.name()),
            (_, None) => format!("{rule}; {law} should find it"),
        };
        let outcome = self.report.as_ref().map(|report| &report.outcome);
        ReportedCase {
            name: about.name(),
            verdict,
            detail: Some(detail),
            exit: self.exit(),
            states: outcome.map(|outcome| outcome.unique),
            seconds: outcome.map(|outcome| outcome.seconds),
            trace: self.trace(),
            file: None,
        }
    }
}

fn summarise(
    hunts: &[Hunt],
    seconds: f64,
    terminal: &mut Terminal<'_>,
) -> Result<(), CommandError> {
    let header = ["mutant", "steps", "states", "seconds", "verdict", "class of bug"];
    let mut table = TextTable::new(&header, 1..4);
    for hunt in hunts {
        let about = Mutant::of(hunt.mutant);
        let verdict = match (hunt.verdict(), hunt.by()) {
            ("killed", _) => format!("killed by {}", about.law.name()),
            (_, Some((by, _))) => {
                format!("KILLED BY {}, not by {}", by.name(), about.law.name())
            }
            ("lives", None) => format!("LIVES; {} should find it", about.law.name()),
            (other, None) => other.into(),
        };
        let outcome = hunt.report.as_ref().map(|report| &report.outcome);
        table.row(vec![
            about.name().into(),
            hunt.by().map_or("-".into(), |(_, steps)| steps.to_string()),
            outcome.map_or("-".into(), |outcome| grouped(outcome.unique)),
            outcome.map_or("-".into(), |outcome| format!("{:.2}", outcome.seconds)),
            verdict,
            about.bug.into(),
        ]);
    }
    let out = terminal.out();
    table.write(out)?;
    let killed = hunts.iter().filter(|hunt| hunt.exit() == Exit::Good).count();
    writeln!(
        out,
        "total: {killed} of {} killed by the law written for them, {seconds:.1} s",
        hunts.len()
    )?;
    Ok(())
}

fn json(hunts: &[Hunt], seconds: f64) -> Value {
    let killed = hunts.iter().filter(|hunt| hunt.exit() == Exit::Good).count();
    let results: Vec<Value> = hunts
        .iter()
        .map(|hunt| {
            let about = Mutant::of(hunt.mutant);
            let mut result = json!({
                "name": about.name(),
                "rule": about.rule.sentence(),
                "bug": about.bug,
                "law": about.law.name(),
                "verdict": hunt.verdict(),
            });
            if let Some(report) = &hunt.report {
                result["by"] = hunt.by().map(|(law, _)| law.name()).into();
                result["steps"] = hunt.by().map(|(_, steps)| steps).into();
                result["states"] = report.outcome.unique.into();
                result["seconds"] = report.outcome.seconds.into();
            }
            result
        })
        .collect();
    json!({
        "format": "snapline-mutants",
        "version": 1,
        "killed": killed,
        "hunted": hunts.len(),
        "seconds": seconds,
        "results": results,
    })
}
