//! `snapline man`: writes manual pages, one for the command and one for each subcommand.

use clap::CommandFactory;

use crate::args::{Cli, ManArgs};
use crate::{CommandError, Exit, Terminal};

/// Carries the command out.
///
/// # Errors
/// If the directory or a page cannot be written.
pub fn run(args: &ManArgs, terminal: &mut Terminal<'_>) -> Result<Exit, CommandError> {
    let cannot = |error: std::io::Error| {
        CommandError::Usage(format!("cannot write manual pages to {}: {error}", args.dir.display()))
    };
    std::fs::create_dir_all(&args.dir).map_err(cannot)?;
    clap_mangen::generate_to(Cli::command(), &args.dir).map_err(cannot)?;
    let front = args.dir.join("snapline.1");
    writeln!(terminal.out(), "the manual pages are in {}", args.dir.display())?;
    writeln!(terminal.out(), "read them with: man {}", front.display())?;
    Ok(Exit::Good)
}
