//! `snapline mutants --production` and `snapline trace FILE --production`: what counterexamples
//! come to on production, for people.

use snapline_models::trace::Trace;
use snapline_models::world::rule::WrongRule;

use super::{Played, Unmapped, play, replay};
use crate::table::{TextTable, counted};
use crate::{CommandError, Exit, Terminal};

/// Hunts mutants in the model and replays each counterexample on production. A mutant that was
/// asked for and is not replayed is [`Exit::Bad`]; with all asked for, only one that the engine has
/// a switch for.
///
/// # Errors
/// If the output cannot be written.
pub fn run(mutants: &[WrongRule], terminal: &mut Terminal<'_>) -> Result<Exit, CommandError> {
    let all = mutants.len() == WrongRule::ALL.len();
    let header =
        ["mutant", "law", "steps", "choices", "with the rule", "steps without", "without the rule"];
    let mut table = TextTable::new(&header, 2..4);
    let (mut exit, mut played, mut good, mut apart) = (Exit::Good, 0, 0, Vec::new());
    for &mutant in mutants {
        if terminal.is_stopped() {
            exit = exit.max(Exit::Stopped);
            break;
        }
        match play(mutant) {
            Ok(outcome) => {
                played += 1;
                good += usize::from(outcome.is_ok());
                if !outcome.is_ok() {
                    exit = Exit::Bad;
                }
                table.row(row(&outcome));
            }
            Err(why) => {
                if !(all && matches!(why, Unmapped::Rule(..))) {
                    exit = Exit::Bad;
                }
                apart.push(format!("{}: {why}", mutant.name()));
            }
        }
    }
    let out = terminal.out();
    table.write(out)?;
    if !apart.is_empty() {
        writeln!(out, "\nnot replayed:\n  {}", apart.join("\n  "))?;
    }
    writeln!(
        out,
        "\n{good} of {played} replayed counterexamples break the same law with the wrong rule, \
         and are correct without it"
    )?;
    Ok(exit)
}

/// Replays one trace on production.
///
/// # Errors
/// If it is not mapped, or the output cannot be written.
pub fn one(trace: &Trace, terminal: &mut Terminal<'_>) -> Result<Exit, CommandError> {
    let played = replay(trace).map_err(|why| CommandError::Usage(why.to_string()))?;
    let out = terminal.out();
    writeln!(out, "\non production, {} of the simulator:", counted(played.choices, "choice"))?;
    match &played.broken {
        Some((step, what)) => writeln!(
            out,
            "with the wrong rule {} is broken, after step {step}: {what}",
            played.law.name()
        )?,
        None => writeln!(out, "with the wrong rule {} HOLDS", played.law.name())?,
    }
    let steps = format!("{} of {} steps are possible", played.sound_steps, played.steps);
    match played.wrong.as_slice() {
        [] => writeln!(out, "without it {steps}; then the job ends, and its output is correct")?,
        wrong => writeln!(out, "WITHOUT IT, {steps}: {}", wrong.join("; "))?,
    }
    Ok(if played.is_ok() { Exit::Good } else { Exit::Bad })
}

fn row(played: &Played) -> Vec<String> {
    let with = match &played.broken {
        Some((step, _)) => format!("broken after step {step}"),
        None => "HOLDS".into(),
    };
    let without = match played.wrong.as_slice() {
        [] => format!("correct, {}", counted(played.sound_choices, "choice")),
        wrong => format!("WRONG: {}", wrong.join("; ")),
    };
    vec![
        played.mutant.name().into(),
        played.law.name().into(),
        played.steps.to_string(),
        played.choices.to_string(),
        with,
        played.sound_steps.to_string(),
        without,
    ]
}
