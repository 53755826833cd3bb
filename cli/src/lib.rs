//! The `snapline` command, as a library: [`run`] takes arguments and a [`Terminal`], and gives an
//! [`Exit`].
//!
//! | command | what it does | module |
//! |---|---|---|
//! | `snapline check` | explores named configurations, or the topology in a file | [`check`] |
//! | `snapline mutants` | switches wrong rules on, one at a time; a law must find each | [`mutants`] |
//! | `snapline walk` | takes seeded walks through larger topologies | [`walk`] |
//! | `snapline explore` | serves a configuration to walk through by hand, in a browser | [`explore`] |
//! | `snapline trace` | replays traces, of the model and of recorded runs | [`trace`] |
//! | `snapline sim` | runs the production code in a simulated world, under seeds | [`sim`] |
//! | `snapline demo` | counts words in a process that is killed repeatedly | [`demo`] |
//! | `snapline inspect` | inspects a checkpoint directory | [`inspect`] |
//! | `snapline gc` | deletes files that no checkpoint needs | [`gc`] |
//! | `snapline settings` | reads a job's settings, and reports errors and warnings | [`settings`] |
//! | `snapline completions` | prints a completion script for a shell | [`completions`] |
//! | `snapline man` | writes manual pages | [`man`] |
//!
//! Results go to stdout, progress and complaints to stderr. The exit status is the same for all:
//! see [`Exit`].
#![forbid(unsafe_code)]

pub mod args;
pub mod check;
pub mod completions;
pub mod coverage;
pub mod demo;
pub mod explore;
pub mod gc;
pub mod inspect;
pub mod man;
pub mod mutants;
pub mod names;
mod overview;
pub mod production_replay;
pub mod progress;
mod rendering;
mod report;
pub mod settings;
pub mod sim;
pub mod table;
mod terminal;
pub mod trace;
pub mod walk;

use std::ffi::OsString;
use std::fmt;
use std::io;
use std::path::Path;

use clap::Parser;

pub use terminal::Terminal;

use args::{Cli, Command};

/// How a command ended.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Exit {
    /// All laws hold, all guards were reached, all counts are as pinned; every mutant was killed by
    /// its law.
    Good,
    /// A limit or Ctrl-C stopped the search; it found nothing wrong so far.
    Stopped,
    /// Something is wrong: a law is broken, data may be lost, a guard was not reached, a count
    /// changed, a mutant lives, a checkpoint is damaged.
    Bad,
    /// The command line, or a file that it names, is invalid.
    Usage,
}

impl Exit {
    /// The exit status of the process.
    #[must_use]
    pub const fn code(self) -> u8 {
        match self {
            Self::Good => 0,
            Self::Bad => 1,
            Self::Usage => 2,
            Self::Stopped => 3,
        }
    }
}

/// The reason why a command was not carried out.
pub enum CommandError {
    /// The command line or a file that it names is invalid; the message says how to correct it.
    Usage(String),
    /// An input is damaged; the message names it.
    Damaged(String),
    /// The output could not be written.
    Output(io::Error),
}

impl fmt::Display for CommandError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Usage(message) | Self::Damaged(message) => f.write_str(message),
            Self::Output(error) => write!(f, "cannot write the output: {error}"),
        }
    }
}

snapline_protocol::error_in_words!(CommandError);

impl From<io::Error> for CommandError {
    fn from(error: io::Error) -> Self {
        Self::Output(error)
    }
}

/// Carries out a command line, the program's name first.
pub fn run(args: impl IntoIterator<Item = OsString>, terminal: &mut Terminal<'_>) -> Exit {
    let args: Vec<OsString> = args.into_iter().collect();
    let cli = match Cli::try_parse_from(&args) {
        Ok(cli) => cli,
        Err(error) if error.use_stderr() => {
            // A caller that closed stderr does not read complaints.
            let _ = terminal.complain(&args::explain(&error, &args));
            return Exit::Usage;
        }
        Err(help) => {
            let _ = write!(terminal.out(), "{help}");
            return Exit::Good;
        }
    };
    let result = match cli.command {
        Command::Check(args) => check::run(&args, terminal),
        Command::Mutants(args) => mutants::run(&args, terminal),
        Command::Walk(args) => walk::run(&args, terminal),
        Command::Explore(args) => explore::run(&args, terminal),
        Command::Sim(args) => sim::run(&args, terminal),
        Command::Trace(args) => trace::run(&args, terminal),
        Command::Demo(args) => demo::run(&args, terminal),
        Command::DemoChild(args) => demo::child::run(&args, terminal),
        Command::Inspect(args) => inspect::run(&args, terminal),
        Command::Gc(args) => gc::run(&args, terminal),
        Command::Settings(args) => settings::run(&args, terminal),
        Command::Completions(args) => completions::run(&args, terminal),
        Command::Man(args) => man::run(&args, terminal),
    };
    let result = result.and_then(|exit| Ok(terminal.out().flush().map(|()| exit)?));
    result.unwrap_or_else(|failure| {
        let _ = terminal.complain(&format!("error: {failure}\n"));
        match failure {
            CommandError::Usage(_) | CommandError::Output(_) => Exit::Usage,
            CommandError::Damaged(_) => Exit::Bad,
        }
    })
}

/// Reads a text file that the command line names.
fn read(file: &Path) -> Result<String, CommandError> {
    std::fs::read_to_string(file)
        .map_err(|error| CommandError::Usage(format!("cannot read {}: {error}", file.display())))
}

/// Checks early that a file can be written.
fn writable(file: &Path) -> Result<(), CommandError> {
    let directory = file.parent().filter(|parent| !parent.as_os_str().is_empty());
    match directory.is_none_or(Path::is_dir) && !file.is_dir() {
        true => Ok(()),
        false => Err(CommandError::Usage(format!(
            "cannot write {}: the parent directory must exist, and the path must not be a \
             directory",
            file.display()
        ))),
    }
}

/// Writes a text file that the command line names.
fn write(file: &Path, text: &str) -> Result<(), CommandError> {
    std::fs::write(file, text)
        .map_err(|error| CommandError::Usage(format!("cannot write {}: {error}", file.display())))
}
