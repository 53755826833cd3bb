//! The command line.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use clap::error::ErrorKind;
use clap::{Args, CommandFactory, Parser, Subcommand, ValueEnum};
use snapline_models::run::Engine;

/// Explores the snapline protocol under failures.
#[derive(Parser, Clone, Debug)]
#[command(name = "snapline", version, arg_required_else_help = true)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What to do.
#[derive(Subcommand, Clone, Debug)]
pub enum Command {
    /// Explore every state within bounds, and look for one that breaks a law.
    Check(CheckArgs),
    /// Switch wrong rules on, one at a time: each must be found by the law written for it.
    Mutants(MutantsArgs),
    /// Take seeded walks through topologies too large to explore.
    Walk(WalkArgs),
    /// Replay a trace file and tell its story.
    Trace(TraceArgs),
}

const EXITS: &str = "Exit status: 0 if all is well; 1 if a law is broken, data may be lost, the check was vacuous or a pinned count \
                     changed; 2 if the command line or a file is wrong; 3 if it was stopped by a limit or Ctrl-C";

/// `snapline check`.
#[derive(Args, Clone, Debug, Default)]
#[command(after_help = EXITS)]
pub struct CheckArgs {
    /// Configurations to explore; --list shows them. With none, those of --ci.
    #[arg(value_name = "NAME", conflicts_with_all = ["ci", "deep", "all", "topology"])]
    pub names: Vec<String>,
    /// Every configuration that is explored on every change.
    #[arg(long, conflicts_with_all = ["deep", "all", "topology"])]
    pub ci: bool,
    /// Every configuration that is too large for that.
    #[arg(long, conflicts_with_all = ["all", "topology"])]
    pub deep: bool,
    /// Every configuration.
    #[arg(long, conflicts_with = "topology")]
    pub all: bool,
    /// Explore the topology, sink and faults in a TOML file instead.
    #[arg(long, value_name = "FILE", conflicts_with = "list")]
    pub topology: Option<PathBuf>,
    /// Worker threads of the stateright engine [default: as many as there are cores].
    #[arg(long, value_name = "N", value_parser = positive)]
    pub threads: Option<usize>,
    /// Stop after this many seconds in all.
    #[arg(long, value_name = "S", value_parser = seconds)]
    pub timeout: Option<Duration>,
    /// Stop when the process takes more memory than this.
    #[arg(long, value_name = "MIB")]
    pub max_memory: Option<u64>,
    /// Which explorer runs; all come to the same counts.
    #[arg(long, value_enum, default_value_t)]
    pub engine: EngineArg,
    /// Write the results to a JSON file.
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
    /// Write the path to the first bad state to a file, for `snapline trace`.
    #[arg(long, value_name = "FILE")]
    pub trace: Option<PathBuf>,
    /// Show the configurations and explore nothing.
    #[arg(long)]
    pub list: bool,
}

/// `snapline mutants`.
#[derive(Args, Clone, Debug, Default)]
pub struct MutantsArgs {
    /// Mutants to hunt; --list shows them. With none, all.
    #[arg(value_name = "NAME")]
    pub names: Vec<String>,
    /// Show the mutants and hunt none.
    #[arg(long)]
    pub list: bool,
    /// Write the results to a JSON file.
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
    /// Write the shortest counterexample of each mutant to a file NAME.json in this directory.
    #[arg(long, value_name = "DIR")]
    pub trace: Option<PathBuf>,
}

/// `snapline walk`.
#[derive(Args, Clone, Debug)]
pub struct WalkArgs {
    /// The first walk's seed; each further walk takes the next number.
    #[arg(long, value_name = "S")]
    pub seed: u64,
    /// Steps of each walk.
    #[arg(long, value_name = "N", default_value_t = 20_000)]
    pub steps: u64,
    /// How many walks.
    #[arg(long, value_name = "K", default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..))]
    pub walks: u64,
    /// Write the shrunk path to the first broken law to a file, for `snapline trace`.
    #[arg(long, value_name = "FILE")]
    pub trace: Option<PathBuf>,
}

/// `snapline trace`.
#[derive(Args, Clone, Debug)]
pub struct TraceArgs {
    /// The trace file.
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
}

/// The names of the explorers.
#[derive(ValueEnum, Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum EngineArg {
    /// stateright, on several threads.
    #[default]
    Stateright,
    /// Breadth first by fingerprints, on one thread.
    Hunt,
    /// Whole states, no fingerprints, on one thread: for small configurations.
    Exact,
}

impl EngineArg {
    /// Its name on the command line.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Stateright => "stateright",
            Self::Hunt => "hunt",
            Self::Exact => "exact",
        }
    }
}

impl From<EngineArg> for Engine {
    fn from(engine: EngineArg) -> Self {
        match engine {
            EngineArg::Stateright => Self::Stateright,
            EngineArg::Hunt => Self::Hunt,
            EngineArg::Exact => Self::Exact,
        }
    }
}

fn positive(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(number) if number > 0 => Ok(number),
        _ => Err("a number from 1 is wanted".into()),
    }
}

fn seconds(text: &str) -> Result<Duration, String> {
    let seconds = text.parse().ok().and_then(|number| Duration::try_from_secs_f64(number).ok());
    seconds.ok_or_else(|| "a number of seconds is wanted, such as 90 or 0.5".into())
}

/// The message for a wrong command line; for a flag that is not known, with those that are.
#[must_use]
pub fn explain(error: &clap::Error, args: &[OsString]) -> String {
    let mut text = error.to_string();
    if error.kind() == ErrorKind::UnknownArgument {
        let root = Cli::command();
        let named = |name: &OsString| root.find_subcommand(name);
        let command = args.iter().skip(1).find_map(named).unwrap_or(&root);
        let flags = command.get_arguments().filter_map(|arg| arg.get_long());
        let flags: Vec<String> = flags.map(|flag| format!("--{flag}")).collect();
        if !flags.is_empty() {
            text += &format!("\nThe flags of {} are: {}\n", command.get_name(), flags.join(", "));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_well_formed() {
        Cli::command().debug_assert();
    }

    #[test]
    fn seconds_are_positive_and_finite() {
        assert_eq!(seconds("0.001"), Ok(Duration::from_millis(1)));
        for text in ["-1", "NaN", "inf", "soon", ""] {
            assert!(seconds(text).is_err(), "{text}");
        }
    }
}
