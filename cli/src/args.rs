//! The command line.
//!
//! Longer than 500 lines: every command's flags and help, in one place, as `--help` has them.

use std::ffi::OsString;
use std::ops::Range;
use std::path::PathBuf;
use std::time::Duration;

use clap::error::ErrorKind;
use clap::{Args, CommandFactory, Parser, Subcommand, ValueEnum};
use snapline_models::run::Engine;

/// Explores the snapline protocol under failures, shows the runtime under SIGKILL, and looks into checkpoint directories.
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
    /// Walk through a configuration by hand, in a browser: choose what happens next, and see which laws hold.
    Explore(ExploreArgs),
    /// Run the production code in a simulated world, where everything fails.
    Sim(SimArgs),
    /// Replay traces: a model's, and tell its story; or those of recorded runs, and hold them against the protocol.
    Trace(TraceArgs),
    /// Count words in a process that is killed again and again, and compare the output with a plain count.
    Demo(DemoArgs),
    /// The process that `snapline demo` kills.
    #[command(hide = true)]
    DemoChild(DemoChildArgs),
    /// Look into a checkpoint directory, also beside a running job.
    Inspect(InspectArgs),
    /// Delete from a checkpoint directory what no checkpoint needs any more.
    Gc(GcArgs),
    /// Read a job's settings as the job would, and say what is wrong or unwise in them.
    Settings(SettingsArgs),
}

const EXITS: &str = "Exit status: 0 if all is well; 1 if a law is broken, data may be lost, the check was vacuous or a pinned count \
                     changed; 2 if the command line or a file is wrong; 3 if it was stopped by a limit or Ctrl-C";

const CHECK_HELP: &str = "\
A topology file is TOML: a table [[operator]] for each operator and a table [[edge]] for each edge. The other keys have defaults.

  [[operator]]  name, role = \"source\", \"transform\" or \"sink\", parallelism (1)
  [[edge]]      from, to, wiring = \"forward\" or \"all-to-all\"
  mode                 \"exactly-once\" (default) or \"at-least-once\"
  records              records of each source subtask (2)
  checkpoints          checkpoints to take; those needed to finish come on top (1)
  capacity             records that a channel holds (1)
  stop                 \"drain\" or \"suspend\": the job is stopped too
  retained             completed checkpoints that are kept; without it nothing is deleted
  shared               true: snapshots share unchanged blobs with their base (false)
  forgets              true: sources drop what no kept checkpoint needs (false)
  id-block             checkpoint ids reserved at a time (8)
  max-concurrent       checkpoints under way at once (1)
  tolerable-failures   checkpoints in a row that may fail (2)
  narrow               the name of an operator that gets only the first record of each source
  prompt-writes        false: every task writes its snapshot in the background, not only sinks (true)
  sink                 \"transactional\" (default), \"atomic-rename\", \"prepare-transaction\",
                       \"producer-with-timeout\", \"producer-with-epoch\", \"marker-in-transaction\"; or a table [sink]:
                       prepared = \"survives\", \"until-timeout\", \"until-new-attempt\" or \"in-checkpoint\",
                       commit = \"by-name\", \"by-producer\" or \"blind\", fences = true or false
  [faults]             how often each may strike in a run; crashes (1), the others 0 but drops where the sink has a
                       timeout: coordinator-crashes, zombie-tasks, zombie-coordinators, losses, duplicates, delays,
                       unknown-writes, refused-writes, failed-snapshots, unknown-commits, refused-commits, drops, timeouts,
                       lost-manifests
  [queued]             true: messages of this kind may arrive late and out of order: triggers (true), aborts, completes,
                       acks, reports (false)

Exit status: 0 if all is well; 1 if a law is broken, data may be lost, the check was vacuous or a pinned count changed; 2 if the command line \
or a file is wrong; 3 if it was stopped by a limit or Ctrl-C";

/// `snapline check`.
#[derive(Args, Clone, Debug, Default)]
#[command(after_help = CHECK_HELP)]
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
    /// Stop when the process takes more memory than this, such as 512MiB or 8GiB; a number alone is in MiB.
    #[arg(long, value_name = "SIZE", value_parser = memory)]
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
    /// Write a report into a directory: a page with the story of each violation, JUnit XML, SARIF and JSON.
    #[arg(long, value_name = "DIR", conflicts_with = "list")]
    pub report: Option<PathBuf>,
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
    /// Write the shortest counterexample of each mutant to a file NAME.json in this directory, for `snapline trace`; the files are listed.
    #[arg(long, value_name = "DIR")]
    pub trace: Option<PathBuf>,
    /// Write a report into a directory: a page with the story of each mutant's end, JUnit XML and JSON.
    #[arg(long, value_name = "DIR", conflicts_with = "list")]
    pub report: Option<PathBuf>,
    /// Replay each counterexample on production code, with the wrong rule switched on in the engine and without it.
    #[arg(long, conflicts_with_all = ["list", "json", "trace", "report"])]
    pub production: bool,
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

const EXPLORE_NOTE: &str = "\
The address that is printed holds a random token; only this machine can connect, and nothing is loaded from anywhere else. Ctrl-C ends it, with \
exit status 0.";

/// `snapline explore`.
#[derive(Args, Clone, Debug)]
#[command(after_help = EXPLORE_NOTE)]
pub struct ExploreArgs {
    /// The configuration; `snapline check --list` shows them. With none, the one that the mutant is hunted in.
    #[arg(value_name = "NAME")]
    pub name: Option<String>,
    /// Switch a wrong rule on; `snapline mutants --list` shows them.
    #[arg(long, value_name = "M")]
    pub mutant: Option<String>,
    /// The port on 127.0.0.1; 0 takes a free one.
    #[arg(long, value_name = "P", default_value_t = 0)]
    pub port: u16,
}

/// `snapline sim`.
#[derive(Args, Clone, Debug)]
#[command(after_help = EXITS)]
pub struct SimArgs {
    /// Seeds to run, from A up to, not including, B.
    #[arg(long, value_name = "A..B", default_value = "0..100", value_parser = seeds)]
    pub seeds: Range<u64>,
    /// Run one seed.
    #[arg(long, value_name = "N", conflicts_with = "seeds")]
    pub seed: Option<u64>,
    /// Run as many seeds from the time on instead; they are printed.
    #[arg(long, conflicts_with_all = ["seed", "mutants"])]
    pub fresh: bool,
    /// The pipeline to run; --list shows them. With none, all.
    #[arg(long, value_name = "NAME")]
    pub pipeline: Option<String>,
    /// Kinds of fault that may come, with commas between them. With none, all that the pipeline can be judged under.
    #[arg(long, value_name = "LIST")]
    pub faults: Option<String>,
    /// Plant a fault in the production code.
    #[arg(long, value_name = "NAME")]
    pub mutant: Option<String>,
    /// Plant each fault in turn: every one must be found.
    #[arg(long, conflicts_with_all = ["mutant", "steps", "seed", "faults"])]
    pub mutants: bool,
    /// How many of the planted faults must be found [default: all].
    #[arg(long, value_name = "N", requires = "mutants")]
    pub at_least: Option<usize>,
    /// Print every step.
    #[arg(long)]
    pub steps: bool,
    /// Write what the processes of a failing run recorded, made smaller, to a directory in this one, for `snapline trace replay`.
    #[arg(long, value_name = "DIR", conflicts_with_all = ["mutants", "steps", "list"])]
    pub traces: Option<PathBuf>,
    /// Show pipelines, faults and mutants, and run nothing.
    #[arg(long)]
    pub list: bool,
}

fn seeds(text: &str) -> Result<Range<u64>, String> {
    let ends = text.split_once("..").and_then(|(a, b)| Some((a.parse().ok()?, b.parse().ok()?)));
    match ends {
        Some((a, b)) if a < b => Ok(a..b),
        _ => Err("two numbers are wanted, the smaller first, as in 0..100".into()),
    }
}
const TRACE_EXITS: &str = "\
Two kinds of traces are told apart by what they say of themselves. One of the model, as `snapline check --trace` writes it, is replayed on the \
World and its story told. Those of recorded runs (JobConfig::record, `snapline demo`) are replayed on fresh machines, all runs of a job \
together in the order of their terms, up to the first line that is not as the protocol has it.

Exit status: 0 if all is as it should be; 1 if a run differs from the protocol, or a model's trace does not show what it claims; 2 if the command \
line is wrong or a file is no trace that can be read";

/// `snapline trace`.
#[derive(Args, Clone, Debug)]
#[command(args_conflicts_with_subcommands = true, arg_required_else_help = true)]
pub struct TraceArgs {
    /// What to do with traces.
    #[command(subcommand)]
    pub command: Option<TraceCommand>,
    /// A trace file: the same as `snapline trace replay FILE`.
    #[arg(value_name = "FILE")]
    pub file: Option<PathBuf>,
    /// Replay it on production code too, with its wrong rule switched on in the engine and without it.
    #[arg(long)]
    pub production: bool,
}

/// What to do with traces.
#[derive(Subcommand, Clone, Debug)]
pub enum TraceCommand {
    /// Replay traces of either kind.
    Replay(ReplayArgs),
    /// Draw a trace: a page to step through, without a server; or a drawing.
    Render(RenderArgs),
    /// Show a trace in columns, one for each task.
    Show(ShowArgs),
    /// Leave out of a trace what the breach of its law does not need.
    Shrink(ShrinkArgs),
}

/// `snapline trace shrink`.
#[derive(Args, Clone, Debug)]
pub struct ShrinkArgs {
    /// The trace file.
    #[arg(value_name = "TRACE")]
    pub trace: PathBuf,
    /// Where to write the short one; with none, to the standard output.
    #[arg(short, long, value_name = "FILE")]
    pub output: Option<PathBuf>,
}

const RENDER_HELP: &str = "\
The page is one file with everything in it. It loads nothing, so it can be opened from a disk, attached to a bug report, or kept by a CI job; \
`#step=N` behind its address opens it at a step, and `?` shows its keys.

A trace of the model is a file that `snapline check --trace`, `mutants --trace` or `walk --trace` wrote. Recorded runs (JobConfig::record, \
`snapline demo`) are drawn together, all runs of a job in the order of their terms; they are replayed on fresh machines, and the first line \
that is not as the protocol has it is marked.

Exit status: 0 if it was drawn; 2 if the command line is wrong or a file is no trace that can be read";

/// `snapline trace render`.
#[derive(Args, Clone, Debug, Default)]
#[command(after_help = RENDER_HELP)]
pub struct RenderArgs {
    /// A trace file of the model; or traces of recorded runs, and directories of them (*.ndjson).
    #[arg(value_name = "TRACE", required = true, num_args = 1..)]
    pub traces: Vec<PathBuf>,
    /// Where to write it; with none, to the standard output.
    #[arg(short, long, value_name = "FILE")]
    pub output: Option<PathBuf>,
    /// A drawing as SVG.
    #[arg(long, conflicts_with_all = ["mermaid", "itf"])]
    pub svg: bool,
    /// A Mermaid sequence diagram.
    #[arg(long, conflicts_with = "itf")]
    pub mermaid: bool,
    /// The JSON format of Apalache and Quint tools, for traces of the model.
    #[arg(long)]
    pub itf: bool,
    /// Another trace, of the same kind, to show beside this one; the first difference is marked.
    #[arg(long, value_name = "TRACE", conflicts_with_all = ["svg", "mermaid", "itf"])]
    pub compare: Option<PathBuf>,
    /// Show the protocol without the trace's wrong rule beside it, on the same schedule as far as it is possible there.
    #[arg(long, conflicts_with_all = ["svg", "mermaid", "itf", "compare"])]
    pub compare_correct: bool,
    /// Replay it on production code too, and mark on the page what came of it, and where.
    #[arg(long, conflicts_with_all = ["svg", "mermaid", "itf"])]
    pub production: bool,
}

/// What a trace is drawn as.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Picture {
    /// A page of HTML.
    Page,
    /// A drawing.
    Svg,
    /// A sequence diagram.
    Mermaid,
    /// The states, for other tools.
    Itf,
}

impl RenderArgs {
    /// What was asked for.
    #[must_use]
    pub const fn picture(&self) -> Picture {
        match (self.svg, self.mermaid, self.itf) {
            (true, _, _) => Picture::Svg,
            (_, true, _) => Picture::Mermaid,
            (_, _, true) => Picture::Itf,
            _ => Picture::Page,
        }
    }
}

/// `snapline trace show`.
#[derive(Args, Clone, Debug)]
pub struct ShowArgs {
    /// A trace file of the model; or traces of recorded runs, and directories of them (*.ndjson).
    #[arg(value_name = "TRACE", required = true, num_args = 1..)]
    pub traces: Vec<PathBuf>,
}

/// `snapline trace replay`.
#[derive(Args, Clone, Debug)]
#[command(after_help = TRACE_EXITS)]
pub struct ReplayArgs {
    /// Trace files, and directories of run traces (*.ndjson).
    #[arg(value_name = "PATH", required = true, num_args = 1..)]
    pub paths: Vec<PathBuf>,
    /// Replay those of the model on production code too, with the wrong rule switched on in the engine and without it.
    #[arg(long)]
    pub production: bool,
}

const DEMO_EXITS: &str = "\
A word count runs in a process of its own: lines -> words -> a running count of each word -> files, exactly once. The process is killed with \
SIGKILL, at moments drawn from the seed, and started anew from the last completed checkpoint. In the end every word must be in the committed \
output with each of its counts 1, 2, 3, ... once: a count that is there twice is a duplicate, one that is missing is lost.

The control, --unsafe-sink, makes its files visible at the barrier, before the checkpoint is complete, and takes 100 ms about it; it is killed \
while a checkpoint is under way. It shows that the comparison can fail, so it is expected to exit with 1.

Exit status: 0 if the output is right; 1 if it is not, which is what --unsafe-sink is for, or the job failed; 2 if the command line is wrong or \
a file cannot be read; 3 if it was stopped by Ctrl-C";

/// `snapline demo`.
#[derive(Args, Clone, Debug, Default)]
#[command(after_help = DEMO_EXITS)]
pub struct DemoArgs {
    /// Texts to count the words of [default: data/austen.txt of the repository that this command was built in].
    #[arg(long, value_name = "PATH", num_args = 1..)]
    pub input: Vec<PathBuf>,
    /// How often the process is killed.
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u64).range(0..=1000))]
    pub kills: u64,
    /// What the moments of the kills are drawn from.
    #[arg(long, value_name = "S", default_value_t = 1)]
    pub seed: u64,
    /// How long the job would take if nobody disturbed it: the text is repeated, and read only so fast.
    #[arg(long, value_name = "S", default_value = "10", value_parser = seconds)]
    pub seconds: Duration,
    /// Keep checkpoints and output here; the directory must be empty or not there. By default they are removed, unless something is wrong.
    #[arg(long, value_name = "DIR")]
    pub dir: Option<PathBuf>,
    /// The control: write with a sink that commits too early. The comparison must find it out.
    #[arg(long)]
    pub unsafe_sink: bool,
}

/// `snapline demo-child`.
#[derive(Args, Clone, Debug)]
pub struct DemoChildArgs {
    /// The texts.
    #[arg(long, num_args = 1.., required = true)]
    pub input: Vec<PathBuf>,
    /// Where checkpoints and output are.
    #[arg(long)]
    pub dir: PathBuf,
    /// How often the text is read.
    #[arg(long)]
    pub passes: u64,
    /// How many lines are read a second.
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..))]
    pub rate: u64,
    /// Whether to commit too early.
    #[arg(long)]
    pub unsafe_sink: bool,
}

const INSPECT_EXITS: &str = "\
Nothing is written and nothing locked: a job that runs there does not notice. What is shown is what was there when it was read; a job may have \
gone on since.

Exit status: 0 if all is well; 1 if something is damaged; 2 if the command line is wrong, or the directory is no checkpoint directory";

/// `snapline inspect`.
#[derive(Args, Clone, Debug)]
#[command(after_help = INSPECT_EXITS)]
pub struct InspectArgs {
    /// The checkpoint directory.
    #[arg(value_name = "DIR")]
    pub dir: PathBuf,
    /// Read every byte of every file, and list each defect: the file, what was expected and what was found.
    #[arg(long, conflicts_with = "state")]
    pub verify: bool,
    /// Print an operator's state as JSON lines: the subtask, the state's name, and its key and value.
    #[arg(long, value_name = "OPERATOR", conflicts_with = "json")]
    pub state: Option<String>,
    /// Which checkpoint's state [default: the newest].
    #[arg(long, value_name = "N", requires = "state", value_parser = clap::value_parser!(u64).range(1..))]
    pub checkpoint: Option<u64>,
    /// Print the overview as JSON.
    #[arg(long)]
    pub json: bool,
}

const GC_EXITS: &str = "\
A job deletes its garbage itself; this is for one that has crashed and will not run again soon. What stays:
  - the newest checkpoints, as many as --retain says;
  - each checkpoint whose transactions the newest one lists as not known to be committed. Whoever restores the newest commits them from what \
it holds itself, so this is more than is needed: whether they were committed since, only the external system knows, and a checkpoint too \
many costs space while one too few may cost output;
  - every checkpoint that cannot be read, and every blob that it might need: it may be repaired.

While a process uses the directory nothing is deleted: a checkpoint under way has blobs that no manifest names yet. --dry-run only looks, and \
beside a running job shows too much for that reason.

Exit status: 0 if it was done; 1 if the newest checkpoint cannot be read, so that nothing can be decided; 2 if the command line is wrong, the \
directory is no checkpoint directory, or it is in use";

/// `snapline gc`.
#[derive(Args, Clone, Debug)]
#[command(after_help = GC_EXITS)]
pub struct GcArgs {
    /// The checkpoint directory.
    #[arg(value_name = "DIR")]
    pub dir: PathBuf,
    /// Only say what would be deleted.
    #[arg(long)]
    pub dry_run: bool,
    /// How many of the newest checkpoints stay.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = positive)]
    pub retain: usize,
}

/// `snapline settings`.
#[derive(Args, Clone, Debug, Default)]
#[command(
    after_help = "Exit status: 0 if a job can have these settings; 1 if there are warnings and --deny-warnings is given; \
                        2 if they cannot be, or a file cannot be read"
)]
pub struct SettingsArgs {
    /// TOML files; of two that give the same key the later counts.
    #[arg(value_name = "FILE", required_unless_present_any = ["environment", "list"])]
    pub files: Vec<PathBuf>,
    /// Read environment variables with this prefix and two underscores too; they count before the files. With one underscore settings are
    /// read as well, and what is none is ignored and listed.
    #[arg(long, value_name = "PREFIX")]
    pub environment: Option<String>,
    /// Exit with 1 if there is a warning.
    #[arg(long)]
    pub deny_warnings: bool,
    /// Show all settings, with their values and defaults, and read nothing.
    #[arg(long, conflicts_with_all = ["files", "environment", "deny_warnings"])]
    pub list: bool,
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

/// Bytes, from a number with a unit; a number alone is in MiB.
fn memory(text: &str) -> Result<u64, String> {
    const UNITS: [(&str, u64); 14] = [
        ("", 1 << 20),
        ("b", 1),
        ("k", 1 << 10),
        ("kib", 1 << 10),
        ("kb", 1_000),
        ("m", 1 << 20),
        ("mib", 1 << 20),
        ("mb", 1_000_000),
        ("g", 1 << 30),
        ("gib", 1 << 30),
        ("gb", 1_000_000_000),
        ("t", 1 << 40),
        ("tib", 1 << 40),
        ("tb", 1_000_000_000_000),
    ];
    let wanted =
        || "a size from 1 byte is wanted, such as 512MiB, 8GiB or 2GB; a number alone is in MiB";
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let unit = unit.trim_start().to_ascii_lowercase();
    let (_, bytes) = UNITS.iter().find(|(name, _)| *name == unit).ok_or_else(wanted)?;
    let number: u64 = number.parse().map_err(|_| wanted())?;
    match number.checked_mul(*bytes) {
        Some(0) => Err(wanted().into()),
        Some(bytes) => Ok(bytes),
        None => Err("it is more than 16 EiB".into()),
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
    fn memory_has_units() {
        let right = [
            ("1", 1 << 20),
            ("512MiB", 512 << 20),
            ("512 MiB", 512 << 20),
            ("8G", 8 << 30),
            ("2gb", 2_000_000_000),
            ("64k", 64 << 10),
            ("3B", 3),
            ("1TiB", 1 << 40),
        ];
        for (text, bytes) in right {
            assert_eq!(memory(text), Ok(bytes), "{text}");
        }
        for text in ["", "0", "0GiB", "MiB", "-1", "1.5G", "8 gibs", "18446744073709551615", "1EiB"]
        {
            assert!(memory(text).is_err(), "{text}");
        }
    }

    /// A key that the file's reader knows and the help does not say would stay a secret.
    #[test]
    fn the_help_says_every_key_of_a_topology_file() {
        let expected = |text: &str| -> Vec<String> {
            let error =
                snapline_models::file::read_scenario(text, "mine").expect_err("no such key");
            let error = error.to_string();
            let (_, known) = error.split_once("expected ").expect(&error);
            // Every second piece is in backticks.
            known.split('`').skip(1).step_by(2).map(str::to_owned).collect()
        };
        let tables = [
            "nonesuch = 1",
            "[faults]\nnonesuch = 1",
            "[queued]\nnonesuch = true",
            "[[operator]]\nnonesuch = 1",
            "[[edge]]\nnonesuch = 1",
            "[sink]\nnonesuch = 1",
            "sink = 'nonesuch'",
            "mode = 'nonesuch'",
        ];
        let mut keys = 0;
        for key in tables.iter().flat_map(|text| expected(text)) {
            assert!(CHECK_HELP.contains(&key), "{key}");
            keys += 1;
        }
        assert!(keys > 40, "only {keys} keys were found");
    }

    #[test]
    fn seconds_are_positive_and_finite() {
        assert_eq!(seconds("0.001"), Ok(Duration::from_millis(1)));
        for text in ["-1", "NaN", "inf", "soon", ""] {
            assert!(seconds(text).is_err(), "{text}");
        }
    }
}
