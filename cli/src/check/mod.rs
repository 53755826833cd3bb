//! `snapline check`: explores, and says what came of it. [`json`] has the format of its `--json`
//! file.

pub mod json;

use std::path::Path;
use std::time::Instant;

use snapline_models::check::{Check, Finding, describe_bounds, describe_stop};
use snapline_models::configs::{self, Configuration, Suite};
use snapline_models::explore::{Bounds, MarkSet, SearchOutcome, SearchProgress};
use snapline_models::file::read_scenario;
use snapline_models::laws::Law;
use snapline_models::run::{self, ExplorationReport, Judgement};
use snapline_models::scenario::{Scenario, Setup};
use snapline_models::story::{ending, render, story};
use snapline_models::trace::Trace;
use snapline_models::world::{Action, World};

use crate::args::CheckArgs;
use crate::coverage::Coverage;
use crate::names::unknown;
use crate::progress::Meter;
use crate::report::{self, Directory, ReportedCase};
use crate::table::{TextTable, grouped, rate};
use crate::{CommandError, Exit, Terminal, read, writable, write};

/// Carries the command out.
///
/// # Errors
/// If the command line or a file it names is wrong, or the output cannot be written.
pub fn run(args: &CheckArgs, terminal: &mut Terminal<'_>) -> Result<Exit, CommandError> {
    let subjects = subjects(args)?;
    if args.list {
        list(&subjects, terminal)?;
        return Ok(Exit::Good);
    }
    // Not after an hour of exploring.
    args.json.iter().chain(&args.trace).try_for_each(|file| writable(file))?;
    let directory = args.report.as_deref().map(Directory::open).transpose()?;
    let started = Instant::now();
    let mut results = Vec::new();
    for subject in subjects {
        let stopped = results.iter().any(|result: &Outcomes| result.exit() == Exit::Stopped);
        let result = match stopped || terminal.is_stopped() {
            true => Outcomes { name: subject.name().into(), explored: None },
            false => explore(&subject, &bounds(args, started, terminal), args, terminal)?,
        };
        tell(&result, terminal)?;
        results.push(result);
    }
    let seconds = started.elapsed().as_secs_f64();
    let suite = args.names.is_empty() && args.topology.is_none();
    summarise(&results, seconds, suite, terminal)?;
    if let Some(file) = &args.trace {
        write_trace(file, &results, terminal)?;
    }
    let written = || format!("{:#}\n", json::results(args.engine.name(), &results, seconds));
    if let Some(file) = &args.json {
        write(file, &written())?;
    }
    if let Some(directory) = &directory {
        let case = |result| case(result, args.topology.as_deref());
        let cases = results.iter().map(case).collect();
        let (command, results) = ("snapline check", written());
        directory.report(&report::CommandReport {
            command,
            cases,
            results,
            seconds,
            scanned: true,
        })?;
        directory.tell(terminal)?;
    }
    Ok(results.iter().map(Outcomes::exit).max().unwrap_or(Exit::Good))
}

/// The target of a check.
enum CheckTarget {
    Named(Configuration),
    File(Scenario),
}

impl CheckTarget {
    fn name(&self) -> &str {
        match self {
            Self::Named(config) => &config.scenario.name,
            Self::File(scenario) => &scenario.name,
        }
    }
}

/// The outcome of one target; empty if an earlier one was stopped.
struct Outcomes {
    name: String,
    explored: Option<Explored>,
}

struct Explored {
    report: ExplorationReport,
    finding: Finding,
    /// The pinned count, if it differs from the number of states. That fails the check although no
    /// state is bad.
    changed: Option<u64>,
}

impl Explored {
    /// A named configuration is judged by the laws and guards it comes with. Some are there to show
    /// that a loss is reported.
    fn named(report: ExplorationReport) -> Self {
        let (finding, changed) = match report.judgement.clone() {
            Judgement::Holds => (Finding::Holds, None),
            Judgement::CountChanged { pinned } => (Finding::Holds, Some(pinned)),
            Judgement::Vacuous(missed) => (Finding::Vacuous(missed), None),
            Judgement::Violated { law, path } => (Finding::Violated { law, path }, None),
            Judgement::Stopped(reason) => (Finding::Stopped(reason), None),
        };
        Self { report, finding, changed }
    }
}

impl Outcomes {
    fn exit(&self) -> Exit {
        match &self.explored {
            None | Some(Explored { finding: Finding::Stopped(_), .. }) => Exit::Stopped,
            Some(Explored { finding: Finding::Holds, changed: None, .. }) => Exit::Good,
            Some(_) => Exit::Bad,
        }
    }

    /// A word, and more words.
    fn verdict(&self) -> (&'static str, Option<String>) {
        let Some(Explored { report, finding, changed }) = &self.explored else {
            return ("not-run", None);
        };
        match finding {
            Finding::Violated { law, .. } => {
                ("violated", Some(format!("L{} {}", law.number(), law.name())))
            }
            Finding::Loss { .. } => {
                ("loss", Some("the external system may drop data that has to be committed".into()))
            }
            Finding::Vacuous(missed) => {
                let missed: Vec<String> = missed.iter().map(|guard| format!("{guard:?}")).collect();
                ("vacuous", Some(format!("never reached: {}", missed.join(", "))))
            }
            Finding::Stopped(reason) => ("stopped", Some(describe_stop(*reason).into())),
            Finding::Holds => match changed {
                Some(pinned) => {
                    let now = grouped(report.outcome.unique);
                    (
                        "count-changed",
                        Some(format!("{} states are pinned, {now} were found", grouped(*pinned))),
                    )
                }
                None => ("holds", None),
            },
        }
    }

    fn path(&self) -> Option<(&ExplorationReport, Option<Law>, &[Action])> {
        let Explored { report, finding, .. } = self.explored.as_ref()?;
        match finding {
            Finding::Violated { law, path } => Some((report, Some(*law), path)),
            Finding::Loss { path } => Some((report, None, path)),
            Finding::Holds | Finding::Vacuous(_) | Finding::Stopped(_) => None,
        }
    }
}

fn subjects(args: &CheckArgs) -> Result<Vec<CheckTarget>, CommandError> {
    if let Some(file) = &args.topology {
        let name = file.file_stem().map_or("topology".into(), |stem| stem.to_string_lossy());
        let scenario = read_scenario(&read(file)?, &name)
            .map_err(|error| CommandError::Usage(format!("{}: {error}", file.display())))?;
        return Ok(vec![CheckTarget::File(scenario)]);
    }
    let all = configs::all();
    if args.names.is_empty() {
        let every = args.all || (args.list && !args.ci && !args.deep);
        let suite = if args.deep { Suite::Deep } else { Suite::Ci };
        let wanted = all.into_iter().filter(|config| every || config.suite == suite);
        return Ok(wanted.map(CheckTarget::Named).collect());
    }
    let known: Vec<&str> = all.iter().map(|config| config.scenario.name.as_str()).collect();
    let mut wanted = Vec::new();
    for name in &args.names {
        let Some(place) = known.iter().position(|other| other == name) else {
            return Err(CommandError::Usage(unknown("configuration", name, &known)));
        };
        if !wanted.contains(&place) {
            wanted.push(place);
        }
    }
    Ok(wanted.into_iter().map(|place| CheckTarget::Named(all[place].clone())).collect())
}

fn list(subjects: &[CheckTarget], terminal: &mut Terminal<'_>) -> Result<(), CommandError> {
    let mut table = TextTable::new(&["configuration", "suite", "states", "shows"], 2..3);
    for subject in subjects {
        let CheckTarget::Named(config) = subject else { continue };
        let suite = match config.suite {
            Suite::Ci => "ci",
            Suite::Deep => "deep",
        };
        let states = config.states.map_or("-".into(), grouped);
        let name = config.scenario.name.clone();
        table.row(vec![name, suite.into(), states, config.shows.into()]);
    }
    Ok(table.write(terminal.out())?)
}

/// Limits of one exploration. Time is for all of them together.
fn bounds(args: &CheckArgs, started: Instant, terminal: &Terminal<'_>) -> Bounds {
    let cores = || std::thread::available_parallelism().map_or(1, usize::from);
    Bounds {
        threads: args.threads.unwrap_or_else(cores),
        max_memory: args.max_memory,
        timeout: args.timeout.map(|limit| limit.saturating_sub(started.elapsed())),
        stop: Some(terminal.stop()),
        ..Bounds::default()
    }
}

fn explore(
    subject: &CheckTarget,
    bounds: &Bounds,
    args: &CheckArgs,
    terminal: &mut Terminal<'_>,
) -> Result<Outcomes, CommandError> {
    let rewrites = terminal.rewrites();
    let mut line = terminal.line();
    let meter = Meter::new(subject.name(), &mut line, rewrites);
    let show = |progress: SearchProgress| meter.show(progress);
    let engine = args.engine.into();
    let explored = match subject {
        CheckTarget::Named(config) => Explored::named(run::run(config, engine, bounds, &show)),
        CheckTarget::File(scenario) => {
            let check = Check::scenario(scenario.clone()).bounds(bounds.clone()).engine(engine);
            // The file was read, so the scenario can be built.
            let checked = check
                .try_run(&show)
                .map_err(|error| CommandError::Usage(format!("{}: {error}", scenario.name)))?;
            Explored {
                report: checked.report().clone(),
                finding: checked.finding().clone(),
                changed: None,
            }
        }
    };
    meter.end();
    Ok(Outcomes { name: subject.name().into(), explored: Some(explored) })
}

/// Reports a bad outcome as soon as it is known.
fn tell(result: &Outcomes, terminal: &mut Terminal<'_>) -> Result<(), CommandError> {
    let out = terminal.out();
    let (verdict, Some(detail)) = result.verdict() else { return Ok(()) };
    writeln!(out, "{}: {verdict}: {detail}", result.name)?;
    if let Some((report, law, path)) = result.path() {
        writeln!(out, "{}", tell_path(report, law, path))?;
    }
    if let Some(Explored { report, finding: Finding::Stopped(_), .. }) = &result.explored {
        let SearchOutcome { unique, depth, .. } = report.outcome;
        writeln!(out, "{} states were reached, up to depth {depth}", grouped(unique))?;
    }
    Ok(out.flush()?)
}

/// The story of a path to a bad state, and the state.
fn tell_path(report: &ExplorationReport, law: Option<Law>, path: &[Action]) -> String {
    let bounds = describe_bounds(&report.scenario);
    // The exploration has laid the same scenario out.
    let Ok(setup) = Setup::new(report.scenario.clone(), report.mutant) else { return bounds };
    let mut last = World::new(&setup);
    for action in path {
        last = last.apply(&setup, action, &mut MarkSet::new());
    }
    format!("bounds: {bounds}\n\n{}\n{}", render(&story(&setup, path)), ending(&setup, &last, law))
}

/// A result as a case of a report.
fn case<'a>(result: &'a Outcomes, file: Option<&'a Path>) -> ReportedCase<'a> {
    let (verdict, detail) = result.verdict();
    let outcome = result.explored.as_ref().map(|explored| &explored.report.outcome);
    let trace = result.path().map(|(report, law, path)| Trace {
        scenario: report.scenario.clone(),
        mutant: report.mutant,
        law,
        steps: path.to_vec(),
    });
    ReportedCase {
        name: &result.name,
        verdict,
        detail,
        exit: result.exit(),
        states: outcome.map(|outcome| outcome.unique),
        seconds: outcome.map(|outcome| outcome.seconds),
        trace,
        file,
    }
}

fn write_trace(
    file: &Path,
    results: &[Outcomes],
    terminal: &mut Terminal<'_>,
) -> Result<(), CommandError> {
    let Some((name, (report, law, path))) =
        results.iter().find_map(|result| Some((&result.name, result.path()?)))
    else {
        return Ok(writeln!(terminal.err(), "no law is broken, so no trace was written")?);
    };
    let scenario = report.scenario.clone();
    let trace = Trace { scenario, mutant: report.mutant, law, steps: path.to_vec() };
    write(file, &trace.write())?;
    Ok(writeln!(terminal.err(), "the trace of {name} is in {}", file.display())?)
}

fn summarise(
    results: &[Outcomes],
    seconds: f64,
    suite: bool,
    terminal: &mut Terminal<'_>,
) -> Result<(), CommandError> {
    let header =
        ["configuration", "states", "depth", "seconds", "states/s", "collisions", "verdict"];
    let mut table = TextTable::new(&header, 1..6);
    let mut coverage = Coverage::default();
    let mut states = 0;
    for result in results {
        let (word, detail) = result.verdict();
        let verdict = detail.map_or(word.into(), |detail| format!("{word}: {detail}"));
        let Some(Explored { report, .. }) = &result.explored else {
            let mut row = vec![result.name.clone()];
            row.resize(header.len() - 1, "-".into());
            row.push(verdict);
            table.row(row);
            continue;
        };
        let SearchOutcome { unique, depth, seconds, collision_bound, .. } = report.outcome;
        states += unique;
        coverage.add(&report.outcome);
        table.row(vec![
            result.name.clone(),
            grouped(unique),
            depth.to_string(),
            format!("{seconds:.1}"),
            rate(unique, seconds),
            format!("{collision_bound:.0e}"),
            verdict,
        ]);
    }
    let good = results.iter().filter(|result| result.exit() == Exit::Good).count();
    let out = terminal.out();
    table.write(out)?;
    writeln!(
        out,
        "total: {good} of {} hold, {} states, {seconds:.1} s",
        results.len(),
        grouped(states)
    )?;
    if suite {
        coverage.write(out)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use snapline_models::topologies::chain;
    use snapline_models::world::Situation;

    use super::*;

    fn explored(situations: &[Situation], states: Option<u64>) -> Outcomes {
        let (scenario, situations) = (Scenario::new("chain", chain()), situations.to_vec());
        let (shows, cannot) = ("", "");
        let config =
            Configuration { scenario, suite: Suite::Ci, shows, cannot, situations, states };
        let report = run::run(&config, run::Engine::Hunt, &Bounds::default(), &|_| {});
        Outcomes { name: "chain".into(), explored: Some(Explored::named(report)) }
    }

    #[test]
    fn a_vacuous_check_and_a_changed_count_are_bad() {
        let good = explored(&[Situation::Finished], None);
        assert_eq!((good.exit(), good.verdict()), (Exit::Good, ("holds", None)));
        let vacuous = explored(&[Situation::Finished, Situation::Restored], None);
        let detail = Some("never reached: Restored".into());
        assert_eq!((vacuous.exit(), vacuous.verdict()), (Exit::Bad, ("vacuous", detail)));
        let changed = explored(&[], Some(1_000_000));
        assert_eq!((changed.exit(), changed.verdict().0), (Exit::Bad, "count-changed"));
        let detail = changed.verdict().1.expect("the verdict has a detail");
        assert!(detail.starts_with("1,000,000 states are pinned, "), "{detail}");
    }
}
