//! `snapline walk`: seeded walks through larger topologies. A seed and a number of steps give the
//! same walk every time.

use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use snapline_models::scenario::{ScenarioError, Setup};
use snapline_models::story::{ending, render, story};
use snapline_models::walk::{Walk, WalkReport, variants};

use crate::args::WalkArgs;
use crate::table::{TextTable, counted, grouped};
use crate::terminal::CLEAR;
use crate::{CommandError, Exit, Terminal, writable, write};

/// Between two looks at Ctrl-C while a walk is taken.
const POLL: Duration = Duration::from_millis(50);

/// Carries the command out.
///
/// # Errors
/// If a file cannot be written, or the output.
pub fn run(args: &WalkArgs, terminal: &mut Terminal<'_>) -> Result<Exit, CommandError> {
    args.trace.iter().try_for_each(|file| writable(file))?;
    let mut table = TextTable::new(
        &[
            "seed",
            "steps",
            "episodes",
            "finished",
            "faults",
            "checkpoints",
            "attempts",
            "seconds",
            "verdict",
        ],
        0..8,
    );
    let (mut exit, mut taken, mut steps) = (Exit::Good, 0_u64, 0_u64);
    for seed in (args.seed..=u64::MAX).take(usize::try_from(args.walks).unwrap_or(usize::MAX)) {
        if terminal.rewrites() {
            let line = format!("\r\x1b[2Kseed {seed}: walk {} of {}", taken + 1, args.walks);
            terminal.complain(&line)?;
        }
        let started = Instant::now();
        let Some(report) = take(seed, args.steps, terminal) else {
            exit = exit.max(Exit::Stopped);
            break;
        };
        let report = report.map_err(|error| CommandError::Usage(error.to_string()))?;
        taken += 1;
        steps += report.steps;
        row(&mut table, &report, started.elapsed());
        if report.violation.is_some() {
            exit = Exit::Bad;
            tell(&report, args, terminal)?;
            break;
        }
    }
    if terminal.rewrites() {
        terminal.complain(CLEAR)?;
    }
    let out = terminal.out();
    table.write(out)?;
    writeln!(out, "total: {taken} of {}, {}", counted(args.walks, "walk"), counted(steps, "step"))?;
    Ok(exit)
}

/// Takes a walk on a thread of its own; `None` if Ctrl-C was pressed before its end.
fn take(
    seed: u64,
    steps: u64,
    terminal: &Terminal<'_>,
) -> Option<Result<WalkReport, ScenarioError>> {
    let (tell, told) = mpsc::channel();
    let walk = Walk { scenarios: variants(), mutant: None, seed, steps };
    let walker = thread::spawn(move || {
        // After Ctrl-C the receiver is gone.
        let _ = tell.send(walk.run());
    });
    loop {
        match told.recv_timeout(POLL) {
            Ok(report) => return Some(report),
            Err(RecvTimeoutError::Timeout) if terminal.is_stopped() => return None,
            Err(RecvTimeoutError::Timeout) => {}
            // It ended without a word, so it panicked: a defect of the model, to be seen as one.
            Err(RecvTimeoutError::Disconnected) => match walker.join() {
                Err(panic) => std::panic::resume_unwind(panic),
                Ok(()) => return None,
            },
        }
    }
}

fn row(table: &mut TextTable, report: &WalkReport, time: Duration) {
    let verdict = match &report.violation {
        Some((law, _)) => format!("violated: L{} {}", law.number(), law.name()),
        None => "holds".into(),
    };
    table.row(vec![
        report.seed.to_string(),
        grouped(report.steps),
        grouped(report.episodes),
        grouped(report.finished + report.failed_loudly),
        grouped(report.faults().map(|(_, times)| times).sum()),
        grouped(report.checkpoints),
        grouped(report.attempts),
        format!("{:.1}", time.as_secs_f64()),
        verdict,
    ]);
}

fn tell(
    report: &WalkReport,
    args: &WalkArgs,
    terminal: &mut Terminal<'_>,
) -> Result<(), CommandError> {
    let Some((law, trace)) = &report.violation else { return Ok(()) };
    if let Some(file) = &args.trace {
        write(file, &trace.write())?;
        writeln!(terminal.err(), "the trace of seed {} is in {}", report.seed, file.display())?;
    }
    let out = terminal.out();
    writeln!(
        out,
        "seed {}: violated: {}; minimised to {}\n",
        report.seed,
        law.broken(),
        counted(trace.steps.len() as u64, "step")
    )?;
    // The walk has laid the same scenario out, and has run the steps.
    let setup = Setup::new(trace.scenario.clone(), trace.mutant);
    if let (Ok(setup), Ok(replay)) = (setup, trace.replay()) {
        writeln!(out, "{}", render(&story(&setup, &trace.steps)))?;
        writeln!(out, "{}", ending(&setup, &replay.last, Some(*law)))?;
    }
    Ok(())
}
