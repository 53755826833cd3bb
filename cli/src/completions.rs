//! `snapline completions`: writes a shell's completion script.

use clap::CommandFactory;

use crate::args::{Cli, CompletionsArgs};
use crate::{CommandError, Exit, Terminal};

/// Carries the command out.
///
/// # Errors
/// If the output cannot be written.
pub fn run(args: &CompletionsArgs, terminal: &mut Terminal<'_>) -> Result<Exit, CommandError> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "snapline", &mut script);
    terminal.out().write_all(&script)?;
    Ok(Exit::Good)
}
