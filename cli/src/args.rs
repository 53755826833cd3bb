//! The command line.
//!
//! Longer than 500 lines: the flags and help texts of all commands, in the order of `--help`.

use std::ffi::OsString;
use std::ops::Range;
use std::path::PathBuf;
use std::time::Duration;

use clap::builder::RangedU64ValueParser;
use clap::error::ErrorKind;
use clap::{Args, CommandFactory, Parser, Subcommand, ValueEnum};
use snapline_models::run::Engine;

/// Checks the snapline protocol under failures, runs the runtime under SIGKILL and in simulation,
/// and inspects checkpoint directories.
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
    /// Explore every state within bounds, and search for one that breaks a law.
    Check(CheckArgs),
    /// Switch wrong rules on, one at a time: the law written for each must find it.
    Mutants(MutantsArgs),
    /// Take seeded walks through topologies too large to explore.
    Walk(WalkArgs),
    /// Walk through a configuration by hand, in a browser: choose each step, and see which laws
    /// hold.
    Explore(ExploreArgs),
    /// Run the production code in a simulated world in which everything fails.
    Sim(SimArgs),
    /// Replay traces: tell the story of a model's trace, or check recorded runs against the
    /// protocol.
    Trace(TraceArgs),
    /// Count words in a process that is killed repeatedly, and compare the output with a plain
    /// count.
    Demo(DemoArgs),
    /// The process that `snapline demo` kills.
    #[command(hide = true)]
    DemoChild(DemoChildArgs),
    /// Inspect a checkpoint directory, also next to a running job.
    Inspect(InspectArgs),
    /// Delete from a checkpoint directory the files that no checkpoint needs any more.
    Gc(GcArgs),
    /// Read a job's settings as the job would, and report errors and warnings.
    Settings(SettingsArgs),
    /// Print a script that completes this command in a shell.
    Completions(CompletionsArgs),
    /// Write manual pages: one for this command, one for each subcommand.
    Man(ManArgs),
}

const EXITS: &str = "\
Exit status:
  0  every check passed
  1  a law is broken, data may be lost, the check was vacuous, or a pinned count changed
  2  the command line or a file is invalid
  3  stopped by a limit or Ctrl-C";

const CHECK_HELP: &str = "\
A topology file is TOML: a table [[operator]] for each operator and a table [[edge]] for each
edge. The other keys have defaults.

  [[operator]]  name, role = \"source\", \"transform\" or \"sink\", parallelism (1)
  [[edge]]      from, to, wiring = \"forward\" or \"all-to-all\"
  mode                 \"exactly-once\" (default) or \"at-least-once\"
  records              records of each source subtask (2)
  checkpoints          checkpoints to take, without those needed to finish (1)
  capacity             records that a channel holds (1)
  stop                 \"drain\" or \"suspend\": the user also stops the job
  retained             completed checkpoints to keep; without it nothing is deleted
  shared               true: snapshots share unchanged blobs with their base (false)
  forgets              true: sources drop input that no kept checkpoint needs (false)
  id-block             checkpoint ids reserved at a time (8)
  max-concurrent       checkpoints in progress at once (1)
  tolerable-failures   consecutive checkpoints that may fail (2)
  narrow               the name of an operator that receives only the first record of each
                       source
  prompt-writes        false: every task writes its snapshot in the background, not only sinks
                       (true)
  sink                 \"transactional\" (default), \"atomic-rename\", \"prepare-transaction\",
                       \"producer-with-timeout\", \"producer-with-epoch\",
                       \"marker-in-transaction\"; or a table [sink]:
                       prepared = \"survives\", \"until-timeout\", \"until-new-attempt\" or
                       \"in-checkpoint\",
                       commit = \"by-name\", \"by-producer\" or \"blind\", fences = true or false
  [faults]             how often each fault may occur in a run: crashes (1); drops (0, or 1 for a
                       sink with a timeout); the others (0): coordinator-crashes, zombie-tasks,
                       zombie-coordinators, losses, duplicates, delays, unknown-writes,
                       refused-writes, failed-snapshots, unknown-commits, refused-commits,
                       timeouts, lost-manifests
  [queued]             true: messages of this kind may arrive late and out of order: triggers
                       (true), aborts, completes, acks, reports (false)

Exit status:
  0  every check passed
  1  a law is broken, data may be lost, the check was vacuous, or a pinned count changed
  2  the command line or a file is invalid
  3  stopped by a limit or Ctrl-C";

/// `snapline check`.
#[derive(Args, Clone, Debug, Default)]
#[command(after_help = CHECK_HELP)]
pub struct CheckArgs {
    /// Configurations to explore; --list shows them. Without a name, those of --ci.
    #[arg(value_name = "NAME", conflicts_with_all = ["ci", "deep", "all", "topology"])]
    pub names: Vec<String>,
    /// Every configuration that CI explores for each change.
    #[arg(long, conflicts_with_all = ["deep", "all", "topology"])]
    pub ci: bool,
    /// Every configuration that is too large for CI.
    #[arg(long, conflicts_with_all = ["all", "topology"])]
    pub deep: bool,
    /// Every configuration.
    #[arg(long, conflicts_with = "topology")]
    pub all: bool,
    /// Explore the topology, sink and faults in a TOML file instead.
    #[arg(long, value_name = "FILE", conflicts_with = "list")]
    pub topology: Option<PathBuf>,
    /// Worker threads of the stateright engine [default: the number of cores].
    #[arg(long, value_name = "N", value_parser = positive)]
    pub threads: Option<usize>,
    /// Stop after this many seconds in total.
    #[arg(long, value_name = "S", value_parser = seconds)]
    pub timeout: Option<Duration>,
    /// Stop when the process takes more memory than this, such as 512MiB or 8GiB; a plain number is
    /// in MiB.
    #[arg(long, value_name = "SIZE", value_parser = memory)]
    pub max_memory: Option<u64>,
    /// The explorer; all reach the same counts.
    #[arg(long, value_enum, default_value_t)]
    pub engine: EngineArg,
    /// Write the results to a JSON file.
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
    /// Write the path to the first bad state to a file, for `snapline trace`.
    #[arg(long, value_name = "FILE")]
    pub trace: Option<PathBuf>,
    /// Write a report into a directory: a page with the story of each violation, JUnit XML, SARIF
    /// and JSON.
    #[arg(long, value_name = "DIR", conflicts_with = "list")]
    pub report: Option<PathBuf>,
    /// List the configurations and explore nothing.
    #[arg(long)]
    pub list: bool,
}

/// `snapline mutants`.
#[derive(Args, Clone, Debug, Default)]
pub struct MutantsArgs {
    /// Mutants to hunt; --list shows them. Without a name, all.
    #[arg(value_name = "NAME")]
    pub names: Vec<String>,
    /// List the mutants and hunt none.
    #[arg(long)]
    pub list: bool,
    /// Write the results to a JSON file.
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
    /// Write the shortest counterexample of each mutant to DIR/NAME.json, for `snapline trace`, and
    /// list the files.
    #[arg(long, value_name = "DIR")]
    pub trace: Option<PathBuf>,
    /// Write a report into a directory: a page with the story of each killed mutant, JUnit XML and
    /// JSON.
    #[arg(long, value_name = "DIR", conflicts_with = "list")]
    pub report: Option<PathBuf>,
    /// Replay each counterexample on production code, with the wrong rule in the engine and without
    /// it.
    #[arg(long, conflicts_with_all = ["list", "json", "trace", "report"])]
    pub production: bool,
}

/// `snapline walk`.
#[derive(Args, Clone, Debug)]
pub struct WalkArgs {
    /// The first walk's seed; each further walk takes the next number.
    #[arg(long, value_name = "S")]
    pub seed: u64,
    /// The number of steps of each walk.
    #[arg(long, value_name = "N", default_value_t = 20_000)]
    pub steps: u64,
    /// The number of walks.
    #[arg(long, value_name = "K", default_value_t = 1, value_parser = at_least_one())]
    pub walks: u64,
    /// Write the minimised path to the first broken law to a file, for `snapline trace`.
    #[arg(long, value_name = "FILE")]
    pub trace: Option<PathBuf>,
}

const EXPLORE_NOTE: &str = "\
The printed address contains a random token. Only this machine can connect, and the page loads
nothing from elsewhere. Ctrl-C ends the command with exit status 0.";

/// `snapline explore`.
#[derive(Args, Clone, Debug)]
#[command(after_help = EXPLORE_NOTE)]
pub struct ExploreArgs {
    /// The configuration; `snapline check --list` shows them. Without a name, the one in which the
    /// mutant is hunted.
    #[arg(value_name = "NAME")]
    pub name: Option<String>,
    /// Switch on a wrong rule; `snapline mutants --list` shows them.
    #[arg(long, value_name = "M")]
    pub mutant: Option<String>,
    /// The port on 127.0.0.1; 0 selects a free one.
    #[arg(long, value_name = "P", default_value_t = 0)]
    pub port: u16,
}

/// `snapline sim`.
#[derive(Args, Clone, Debug)]
#[command(after_help = EXITS)]
pub struct SimArgs {
    /// Seeds to run, from A up to B; B is excluded.
    #[arg(long, value_name = "A..B", default_value = "0..100", value_parser = seeds)]
    pub seeds: Range<u64>,
    /// Run one seed.
    #[arg(long, value_name = "N", conflicts_with = "seeds")]
    pub seed: Option<u64>,
    /// Run the same number of seeds, counted from the current time; the first is printed.
    #[arg(long, conflicts_with_all = ["seed", "mutants"])]
    pub fresh: bool,
    /// The pipeline to run; --list shows them. Without a name, all.
    #[arg(long, value_name = "NAME")]
    pub pipeline: Option<String>,
    /// The kinds of fault that may occur, separated by commas. Without a list, all that the
    /// pipeline supports.
    #[arg(long, value_name = "LIST")]
    pub faults: Option<String>,
    /// Plant a fault in the production code.
    #[arg(long, value_name = "NAME")]
    pub mutant: Option<String>,
    /// Plant each fault in turn; every one must be found.
    #[arg(long, conflicts_with_all = ["mutant", "steps", "seed", "faults"])]
    pub mutants: bool,
    /// The number of planted faults that must be found [default: all].
    #[arg(long, value_name = "N", requires = "mutants")]
    pub at_least: Option<usize>,
    /// Print every step.
    #[arg(long)]
    pub steps: bool,
    /// Write the recordings of a failing run, minimised, into a directory below DIR, for
    /// `snapline trace replay`.
    #[arg(long, value_name = "DIR", conflicts_with_all = ["mutants", "steps", "list"])]
    pub traces: Option<PathBuf>,
    /// List pipelines, faults and mutants, and run nothing.
    #[arg(long)]
    pub list: bool,
}

fn seeds(text: &str) -> Result<Range<u64>, String> {
    let ends = text.split_once("..").and_then(|(a, b)| Some((a.parse().ok()?, b.parse().ok()?)));
    match ends {
        Some((a, b)) if a < b => Ok(a..b),
        _ => Err("expected two numbers, the smaller first, as in 0..100".into()),
    }
}
const TRACE_EXITS: &str = "\
The header of a trace names its kind:
  - A trace of the model, as `snapline check --trace` writes it, is replayed on the World, and its
    story is printed.
  - Traces of recorded runs (JobConfig::record, `snapline demo`) are replayed on fresh state
    machines: all runs of a job together, in the order of their terms, up to the first line that
    deviates from the protocol.

Exit status:
  0  every trace conforms to the protocol and to its own claim
  1  a run deviates from the protocol, or a model's trace does not show what it claims
  2  the command line is invalid, or a file cannot be read as a trace";

/// `snapline trace`.
#[derive(Args, Clone, Debug)]
#[command(args_conflicts_with_subcommands = true, arg_required_else_help = true)]
pub struct TraceArgs {
    /// What to do with traces.
    #[command(subcommand)]
    pub command: Option<TraceCommand>,
    /// A trace file; short for `snapline trace replay FILE`.
    #[arg(value_name = "FILE")]
    pub file: Option<PathBuf>,
    /// Also replay it on production code, with its wrong rule in the engine and without it.
    #[arg(long)]
    pub production: bool,
}

/// What to do with traces.
#[derive(Subcommand, Clone, Debug)]
pub enum TraceCommand {
    /// Replay traces of either kind.
    Replay(ReplayArgs),
    /// Draw a trace: as a page to step through, without a server, or as a drawing.
    Render(RenderArgs),
    /// Print a trace in columns, one for each task.
    Show(ShowArgs),
    /// Minimise a counterexample trace.
    Shrink(ShrinkArgs),
}

/// `snapline trace shrink`.
#[derive(Args, Clone, Debug)]
pub struct ShrinkArgs {
    /// The trace file.
    #[arg(value_name = "TRACE")]
    pub trace: PathBuf,
    /// The file for the minimised trace [default: standard output].
    #[arg(short, long, value_name = "FILE")]
    pub output: Option<PathBuf>,
}

const RENDER_HELP: &str = "\
The page is one self-contained file. It loads nothing: open it from a disk, attach it to a bug
report, or keep it as an artifact of CI. `#step=N` at the end of its address opens it at a step, and
`?` shows its keys.

`snapline check --trace`, `mutants --trace` and `walk --trace` write traces of the model. Recorded
runs (JobConfig::record, `snapline demo`) are drawn together: all runs of a job, in the order of
their terms. They are replayed on fresh state machines, and the first line that deviates from the
protocol is marked.

Exit status:
  0  the trace was drawn
  2  the command line is invalid, or a file cannot be read as a trace";

/// `snapline trace render`.
#[derive(Args, Clone, Debug, Default)]
#[command(after_help = RENDER_HELP)]
pub struct RenderArgs {
    /// A trace file of the model; or traces of recorded runs (*.ndjson) and directories of them.
    #[arg(value_name = "TRACE", required = true, num_args = 1..)]
    pub traces: Vec<PathBuf>,
    /// The output file [default: standard output].
    #[arg(short, long, value_name = "FILE")]
    pub output: Option<PathBuf>,
    /// Draw an SVG image.
    #[arg(long, conflicts_with_all = ["mermaid", "itf"])]
    pub svg: bool,
    /// Draw a Mermaid sequence diagram.
    #[arg(long, conflicts_with = "itf")]
    pub mermaid: bool,
    /// Write the states as ITF, the JSON format of Apalache and Quint; for traces of the model.
    #[arg(long)]
    pub itf: bool,
    /// Show another trace of the same kind next to this one; the first difference is marked.
    #[arg(long, value_name = "TRACE", conflicts_with_all = ["svg", "mermaid", "itf"])]
    pub compare: Option<PathBuf>,
    /// Show the correct protocol next to the trace, on the same schedule as far as that is
    /// possible.
    #[arg(long, conflicts_with_all = ["svg", "mermaid", "itf", "compare"])]
    pub compare_correct: bool,
    /// Also replay the trace on production code, and mark the outcome on the page.
    #[arg(long, conflicts_with_all = ["svg", "mermaid", "itf"])]
    pub production: bool,
}

/// The output format of `snapline trace render`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum RenderFormat {
    /// An HTML page.
    Page,
    /// An SVG image.
    Svg,
    /// A Mermaid sequence diagram.
    Mermaid,
    /// The states as ITF, for other tools.
    Itf,
}

impl RenderArgs {
    /// The requested format.
    #[must_use]
    pub const fn format(&self) -> RenderFormat {
        match (self.svg, self.mermaid, self.itf) {
            (true, _, _) => RenderFormat::Svg,
            (_, true, _) => RenderFormat::Mermaid,
            (_, _, true) => RenderFormat::Itf,
            _ => RenderFormat::Page,
        }
    }
}

/// `snapline trace show`.
#[derive(Args, Clone, Debug)]
pub struct ShowArgs {
    /// A trace file of the model; or traces of recorded runs (*.ndjson) and directories of them.
    #[arg(value_name = "TRACE", required = true, num_args = 1..)]
    pub traces: Vec<PathBuf>,
}

/// `snapline trace replay`.
#[derive(Args, Clone, Debug)]
#[command(after_help = TRACE_EXITS)]
pub struct ReplayArgs {
    /// Trace files, and directories of traces of recorded runs (*.ndjson).
    #[arg(value_name = "PATH", required = true, num_args = 1..)]
    pub paths: Vec<PathBuf>,
    /// Also replay the model's traces on production code, with the wrong rule in the engine and
    /// without it.
    #[arg(long)]
    pub production: bool,
}

const DEMO_EXITS: &str = "\
A word count runs in a process of its own, exactly once: lines -> words -> a running count of each
word -> files. The process is killed with SIGKILL, at moments drawn from the seed. It restarts from
its latest completed checkpoint. In the end the committed output must hold every word with each of
its counts 1, 2, 3, ... once. A repeated count is a duplicate, a missing one is lost.

The control, --unsafe-sink, makes its files visible at the barrier, before the checkpoint completes,
and takes 100 ms for it. It is killed during a checkpoint. It shows that the comparison can fail, so
the expected exit status is 1.

Exit status:
  0  the output is right
  1  the output is wrong, as intended with --unsafe-sink, or the job failed
  2  the command line is invalid, or a file cannot be read
  3  stopped by Ctrl-C";

/// `snapline demo`.
#[derive(Args, Clone, Debug, Default)]
#[command(after_help = DEMO_EXITS)]
pub struct DemoArgs {
    /// The texts whose words are counted [default: data/austen.txt in the repository of this
    /// build].
    #[arg(long, value_name = "PATH", num_args = 1..)]
    pub input: Vec<PathBuf>,
    /// The number of kills.
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = up_to_1000())]
    pub kills: u64,
    /// The seed from which the moments of the kills are drawn.
    #[arg(long, value_name = "S", default_value_t = 1)]
    pub seed: u64,
    /// The duration of an undisturbed job: the text is repeated, and read at a matching rate.
    #[arg(long, value_name = "S", default_value = "10", value_parser = seconds)]
    pub seconds: Duration,
    /// Keep checkpoints and output in this directory, which must be empty or absent. By default
    /// they are removed unless something is wrong.
    #[arg(long, value_name = "DIR")]
    pub dir: Option<PathBuf>,
    /// The control: write with a sink that commits too early. The comparison must detect it.
    #[arg(long)]
    pub unsafe_sink: bool,
}

/// `snapline demo-child`.
#[derive(Args, Clone, Debug)]
pub struct DemoChildArgs {
    /// The texts.
    #[arg(long, num_args = 1.., required = true)]
    pub input: Vec<PathBuf>,
    /// The directory of checkpoints and output.
    #[arg(long)]
    pub dir: PathBuf,
    /// The number of times the text is read.
    #[arg(long)]
    pub passes: u64,
    /// The number of lines read per second.
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..))]
    pub rate: u64,
    /// Commit too early.
    #[arg(long)]
    pub unsafe_sink: bool,
}

const INSPECT_EXITS: &str = "\
The command writes nothing and takes no lock, so it does not affect a running job. The output shows
the directory as it was when it was read; a running job may have changed it since.

Exit status:
  0  no damage was found
  1  something is damaged
  2  the command line is invalid, or the directory is not a checkpoint directory";

/// `snapline inspect`.
#[derive(Args, Clone, Debug)]
#[command(after_help = INSPECT_EXITS)]
pub struct InspectArgs {
    /// The checkpoint directory.
    #[arg(value_name = "DIR")]
    pub dir: PathBuf,
    /// Read every byte of every file, and list each defect: the file, the expected and the actual
    /// content.
    #[arg(long, conflicts_with = "state")]
    pub verify: bool,
    /// Print an operator's state as JSON lines: subtask, name of the state, key and value.
    #[arg(long, value_name = "OPERATOR", conflicts_with = "json")]
    pub state: Option<String>,
    /// The checkpoint to read the state from [default: the newest].
    #[arg(long, value_name = "N", requires = "state", value_parser = at_least_one())]
    pub checkpoint: Option<u64>,
    /// Print the overview as JSON.
    #[arg(long)]
    pub json: bool,
}

const GC_EXITS: &str = "\
A running job deletes its own garbage. This command is for a job that crashed and will not run again
soon. It keeps:
  - the newest checkpoints, as many as --retain says;
  - each checkpoint whose transactions the newest one lists as not known to be committed. A job
    that restores the newest commits them from that one, so this is more than is needed. Only the
    external system knows whether they were committed since. An extra checkpoint costs space, a
    missing one may cost output;
  - every checkpoint that cannot be read, and every blob that it might need, so that it can be
    repaired.

Nothing is deleted while a process uses the directory, because a checkpoint in progress has blobs
that no manifest names yet. For the same reason --dry-run lists too much next to a running job.

Exit status:
  0  done
  1  the newest checkpoint cannot be read, so nothing was deleted
  2  the command line is invalid, the directory is not a checkpoint directory, or it is in use";

/// `snapline gc`.
#[derive(Args, Clone, Debug)]
#[command(after_help = GC_EXITS)]
pub struct GcArgs {
    /// The checkpoint directory.
    #[arg(value_name = "DIR")]
    pub dir: PathBuf,
    /// List the files without deleting them.
    #[arg(long)]
    pub dry_run: bool,
    /// The number of newest checkpoints to keep.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = positive)]
    pub retain: usize,
}

const SETTINGS_EXITS: &str = "\
Exit status:
  0  the settings are valid
  1  there are warnings, and --deny-warnings is given
  2  the settings are invalid, or a file cannot be read";

/// `snapline settings`.
#[derive(Args, Clone, Debug, Default)]
#[command(after_help = SETTINGS_EXITS)]
pub struct SettingsArgs {
    /// TOML files; a later file overrides an earlier one.
    #[arg(value_name = "FILE", required_unless_present_any = ["environment", "list"])]
    pub files: Vec<PathBuf>,
    /// Also read environment variables with this prefix and two underscores; they override the
    /// files. With one underscore, settings are read too, and other variables are ignored and
    /// listed.
    #[arg(long, value_name = "PREFIX")]
    pub environment: Option<String>,
    /// Exit with status 1 if there is a warning.
    #[arg(long)]
    pub deny_warnings: bool,
    /// List all settings with their values and defaults, and read nothing.
    #[arg(long, conflicts_with_all = ["files", "environment", "deny_warnings"])]
    pub list: bool,
}

const COMPLETIONS_HELP: &str = "\
Bash:  snapline completions bash > ~/.local/share/bash-completion/completions/snapline
Zsh:   snapline completions zsh > DIR/_snapline, with DIR in $fpath
Fish:  snapline completions fish > ~/.config/fish/completions/snapline.fish";

/// `snapline completions`.
#[derive(Args, Clone, Debug)]
#[command(after_help = COMPLETIONS_HELP)]
pub struct CompletionsArgs {
    /// The shell.
    #[arg(value_name = "SHELL", value_enum)]
    pub shell: clap_complete::Shell,
}

/// `snapline man`.
#[derive(Args, Clone, Debug)]
pub struct ManArgs {
    /// The directory for the pages; it is created if it does not exist.
    #[arg(value_name = "DIR")]
    pub dir: PathBuf,
}

/// The explorers.
#[derive(ValueEnum, Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum EngineArg {
    /// The stateright library, on several threads.
    #[default]
    Stateright,
    /// Breadth first, by fingerprints, on one thread.
    Hunt,
    /// Whole states without fingerprints, on one thread; for small configurations.
    Exact,
}

impl EngineArg {
    /// The explorer's name on the command line.
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

fn at_least_one() -> RangedU64ValueParser {
    clap::value_parser!(u64).range(1..)
}

fn up_to_1000() -> RangedU64ValueParser {
    clap::value_parser!(u64).range(0..=1000)
}

fn positive(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(number) if number > 0 => Ok(number),
        _ => Err("expected a number of at least 1".into()),
    }
}

/// Parses a number of bytes with a unit; a plain number is in MiB.
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
    let wanted = || "expected a size such as 512MiB, 8GiB or 2GB; a plain number is in MiB";
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let unit = unit.trim_start().to_ascii_lowercase();
    let (_, bytes) = UNITS.iter().find(|(name, _)| *name == unit).ok_or_else(wanted)?;
    let number: u64 = number.parse().map_err(|_| wanted())?;
    match number.checked_mul(*bytes) {
        Some(0) => Err(wanted().into()),
        Some(bytes) => Ok(bytes),
        None => Err("the size exceeds 16 EiB".into()),
    }
}

fn seconds(text: &str) -> Result<Duration, String> {
    let seconds = text.parse().ok().and_then(|number| Duration::try_from_secs_f64(number).ok());
    seconds.ok_or_else(|| "expected a number of seconds, such as 90 or 0.5".into())
}

/// Returns the message for an invalid command line; an unknown flag gets the list of known ones.
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

    /// The help lists each key that the reader of topology files knows.
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
