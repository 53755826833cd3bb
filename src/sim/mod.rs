//! Runs a job again and again in a simulated world, on one thread, with crashes at any point
//! (feature `sim`). For tests.
//!
//! The code that runs is the production code: the step functions of tasks and coordinator, the
//! machines of the protocol, snapshots, the store in a directory, the connectors. Its environment
//! is simulated. The disk refuses calls, and loses and tears unsynced data when the power fails.
//! There are external systems with two-phase commit, the control network between the coordinator
//! and its tasks, threads, and the time. A seed decides every step, and the same seed gives the
//! same run, bit for bit.
//!
//! [`check`] runs a pipeline of yours over a range of seeds and compares its committed output with
//! a run without failures:
//!
//! ```
//! use snapline::connect::MemorySource;
//! use snapline::sim::{self, Env};
//! use snapline::{BuildError, Dataflow, Emit, Job, JobConfig};
//!
//! fn word_count(env: &Env) -> Result<Job, BuildError> {
//!     let words: Vec<u64> = (0..env.records(40) as u64).collect();
//!     let flow = Dataflow::new("word-count");
//!     flow.source("words", MemorySource::new(words))
//!         .key_by(|word| word % 5)
//!         .count(Emit::EachChange)
//!         .sink("counts", env.sink("counts"));
//!     flow.build(JobConfig::new().parallelism(2))
//! }
//!
//! sim::check(word_count, 0..20);
//! ```
//!
//! # Checks
//! After every step:
//!
//! - No sink shows a record more often than the run without failures does.
//! - No visible record is taken back.
//! - Committed output belongs to a complete checkpoint and comes in order.
//! - A complete checkpoint would survive a loss of power.
//!
//! Whenever nothing can be done, no worker sleeps that has something to do. At the end:
//!
//! - The job ends, and all records are there.
//! - No transaction is left prepared.
//! - The store holds whole checkpoints and nothing else.
//!
//! A job with a lower guarantee than exactly once may show records more often. The protocol events
//! that all processes recorded are replayed on fresh machines ([`crate::trace`]). A run that
//! departs from the protocol is wrong even if its output is right.
//!
//! # Assumptions
//! SPEC section 2, and that a pipeline's output, as a multiset, does not depend on the order in
//! which records of different producers meet. A task's step, a call of the store and a call of a
//! committer each run without interruption. A process may die between any two changes that they
//! make. Channels and parking run on one thread: their memory ordering is for loom to explore.

mod choice;
mod external;
mod fault;
mod hooks;
mod oracle;
pub mod pipelines;
mod run;
mod world;
pub use world::stage;

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

pub use crate::base::fault::Mutation;
pub use external::{Committer, Sink, Writer};
pub use fault::Fault;

use crate::base::fault::Faults;
use crate::base::sync::lock;
use crate::connect::FileSink;
use crate::dataflow::Job;
use crate::fs::simulated::{Host, SimDisk};
use crate::plan::spec::BuildError;
use external::Systems;
use oracle::{Directories, Reference};
use run::Ran;
use world::Setup;

/// Builds a pipeline, for each process that runs it.
pub(crate) type Build<'a> = &'a dyn Fn(&Env) -> Result<Job, BuildError>;

/// The world of a pipeline under simulation: the origin of its sinks. A pipeline may use anything
/// else that is a function of nothing else: no clock, no randomness, no files except through this.
#[derive(Clone, Debug)]
pub struct Env {
    disk: SimDisk,
    systems: Systems,
    host: Host,
    mutant: Option<Mutation>,
    shrink: usize,
    directories: Directories,
}

impl Env {
    /// A sink whose external system is simulated. Sinks of one name write to one system.
    #[must_use]
    pub fn sink<T: fmt::Debug + Send + 'static>(&self, name: &str) -> Sink<T> {
        let (name, systems) = (name.to_owned(), self.systems.clone());
        let faults = Faults::plant(self.mutant);
        Sink { name, systems, host: self.host.clone(), place: None, faults }
    }

    /// An exactly-once file sink that writes to this directory of the simulated disk.
    #[must_use]
    pub fn file_sink<T>(&self, directory: &str) -> FileSink<T> {
        let directory = Path::new("/").join(directory);
        lock(&self.directories).insert(directory.clone());
        let mut files = self.disk.files(&self.host);
        files.faults = Faults::plant(self.mutant);
        FileSink::new(directory).on(files)
    }

    /// The number of records for a source that has this many: fewer while a failure is being
    /// minimised, and never none.
    #[must_use]
    pub fn records(&self, full: usize) -> usize {
        full.div_ceil(self.shrink.max(1)).max(1)
    }
}

/// Simulates a pipeline with each of these seeds.
///
/// # Panics
/// With the first failure: what is wrong, how to run it again, and the steps that lead there, as
/// few as were found. The environment variable `SNAPLINE_SIM_SEED` runs that seed and no other.
///
/// The record of the failing run's processes (SPEC 11.5) is written to files for
/// `snapline trace replay`, and the message names their directory. The variable
/// `SNAPLINE_SIM_TRACES` sets it; the default is `tmp` of cargo's target directory.
pub fn check(
    build: impl Fn(&Env) -> Result<Job, BuildError>,
    seeds: impl IntoIterator<Item = u64>,
) {
    let simulation = Simulation::new(build);
    let only = std::env::var("SNAPLINE_SIM_SEED").ok();
    let only = only.map(|seed| seed.parse().expect("SNAPLINE_SIM_SEED must be a number"));
    let report = match only {
        Some(seed) => simulation.run([seed]),
        None => simulation.run(seeds),
    };
    match report {
        Ok(Report { failure: None, .. }) => {}
        Ok(Report { failure: Some(failure), .. }) => {
            let traces = match failure.write_traces(&traces_directory()) {
                Ok(path) => format!(
                    "the traces of its processes are in {0}; inspect them with: snapline trace \
                     replay {0}",
                    path.display()
                ),
                Err(error) => format!("the traces of its processes cannot be written: {error}"),
            };
            panic!(
                "{failure}\nrun this test with SNAPLINE_SIM_SEED={} to reproduce \
                 it\n{traces}\n\n{}",
                failure.seed,
                failure.trace.join("\n")
            )
        }
        Err(what) => panic!("the pipeline cannot be simulated: {what}"),
    }
}

/// Where [`check`] writes traces. Cargo runs tests from `deps` of a profile's directory, and keeps
/// scratch files in `tmp` beside that.
fn traces_directory() -> PathBuf {
    if let Some(named) = std::env::var_os("SNAPLINE_SIM_TRACES") {
        return named.into();
    }
    let test = std::env::current_exe().unwrap_or_default();
    let name = test.file_stem().unwrap_or_default().to_owned();
    let deps = test.parent().filter(|it| it.file_name().is_some_and(|it| it == "deps"));
    let target = deps.and_then(|deps| Some(deps.parent()?.parent()?.join("tmp")));
    target.unwrap_or_else(std::env::temp_dir).join("snapline-sim").join(name)
}

/// Builds a pipeline; owned.
type Builder<'a> = Box<dyn Fn(&Env) -> Result<Job, BuildError> + 'a>;

/// A simulation of a pipeline, to be run over many seeds.
pub struct Simulation<'a> {
    build: Builder<'a>,
    faults: Vec<Fault>,
    mutant: Option<Mutation>,
    stop: Box<dyn Fn() -> bool + 'a>,
    /// One seed in this many is replayed; 0: none.
    replayed: u64,
}

impl fmt::Debug for Simulation<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Simulation")
            .field("faults", &self.faults)
            .field("mutant", &self.mutant)
            .finish_non_exhaustive()
    }
}

impl<'a> Simulation<'a> {
    /// Every fault except [`Fault::Drain`], each on in half of the runs. A drained job ends early.
    /// Its output can be compared, as a part of the whole, only where results do not depend on the
    /// end of the input.
    pub fn new(build: impl Fn(&Env) -> Result<Job, BuildError> + 'a) -> Self {
        let kept = |fault: &&Fault| **fault != Fault::Drain;
        let faults = Fault::ALL.iter().filter(kept).copied().collect();
        Self { build: Box::new(build), faults, mutant: None, stop: Box::new(|| false), replayed: 1 }
    }

    /// Restricts the faults to these.
    #[must_use]
    pub fn faults(mut self, faults: &[Fault]) -> Self {
        self.faults = faults.to_vec();
        self
    }

    /// Plants this fault in the production code.
    #[must_use]
    pub const fn mutant(mut self, mutant: Option<Mutation>) -> Self {
        self.mutant = mutant;
        self
    }

    /// Records and replays one seed in n, those that n divides; 0: none. By default every seed is.
    #[must_use]
    pub const fn replay_every(mut self, seeds: u64) -> Self {
        self.replayed = seeds;
        self
    }

    /// Called before every seed; ends the simulation early if it returns true.
    #[must_use]
    pub fn stop(mut self, stop: impl Fn() -> bool + 'a) -> Self {
        self.stop = Box::new(stop);
        self
    }

    /// Runs the seeds, up to the first that fails, which is then minimised.
    ///
    /// # Errors
    /// In words, what is wrong with the pipeline without any fault.
    pub fn run(&self, seeds: impl IntoIterator<Item = u64>) -> Result<Report, String> {
        let reference = run::reference(&*self.build, 1).map_err(|violation| violation.0)?;
        let mut report = Report { records: reference.records(), ..Report::default() };
        for seed in seeds {
            if (self.stop)() {
                report.stopped = true;
                break;
            }
            let ran = self.one(seed, &reference);
            report.add(&ran);
            if let Some(violation) = &ran.violation {
                report.failure = Some(self.explain(seed, &violation.0));
                break;
            }
        }
        Ok(report)
    }

    /// Looks for a failing seed, and returns its place in the sequence; nothing is minimised.
    ///
    /// # Errors
    /// In words, what is wrong with the pipeline without any fault.
    pub fn hunt(
        &self,
        seeds: impl IntoIterator<Item = u64>,
    ) -> Result<Option<(u64, String)>, String> {
        let reference = run::reference(&*self.build, 1).map_err(|violation| violation.0)?;
        for (tried, seed) in (1..).zip(seeds) {
            if let Some(violation) = self.one(seed, &reference).violation {
                return Ok(Some((tried, violation.0)));
            }
        }
        Ok(None)
    }

    /// Runs one seed and writes down every step; also returns what is wrong, if anything.
    ///
    /// # Errors
    /// In words, what is wrong with the pipeline without any fault.
    pub fn trace(&self, seed: u64) -> Result<(Vec<String>, Option<String>), String> {
        let reference = run::reference(&*self.build, 1).map_err(|violation| violation.0)?;
        let setup = Setup { tell: true, ..self.setup(seed) };
        let ran = run::run(&*self.build, &setup, &reference);
        Ok((ran.trace, ran.violation.map(|violation| violation.0)))
    }

    fn one(&self, seed: u64, reference: &Reference) -> Ran {
        run::run(&*self.build, &self.setup(seed), reference)
    }

    fn setup(&self, seed: u64) -> Setup {
        let replay = seed.checked_rem(self.replayed) == Some(0);
        Setup { replay, ..run::setup(seed, &self.faults, self.mutant) }
    }

    fn explain(&self, seed: u64, found: &str) -> Failure {
        let (smaller, ran) = run::shrink(&*self.build, &self.setup(seed));
        let what = ran.violation.map_or_else(|| found.to_owned(), |violation| violation.0);
        let on: Vec<&str> = smaller.plan.on.iter().map(|fault| fault.name()).collect();
        Failure {
            seed,
            found: found.to_owned(),
            what,
            faults: on.join(","),
            count: ran.faults,
            records: smaller.shrink,
            trace: ran.trace,
            files: ran.files,
        }
    }
}

/// A run that broke a law.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Failure {
    /// Its seed.
    pub seed: u64,
    /// The violation.
    pub found: String,
    /// The violation in the minimised run.
    pub what: String,
    /// The kinds of fault that the minimised run needs, by name.
    pub faults: String,
    /// The number of its faults.
    pub count: u32,
    /// It has one in this many of the records.
    pub records: usize,
    /// Its steps.
    pub trace: Vec<String>,
    /// The record of the minimised run's processes (SPEC 11.5): name and content of each file.
    pub files: Vec<(String, Vec<u8>)>,
}

impl Failure {
    /// Writes [`Self::files`] to a directory for this seed in `directory`, replacing its earlier
    /// content; returns its path. `snapline trace replay` reads it.
    ///
    /// # Errors
    /// If a file cannot be written.
    pub fn write_traces(&self, directory: &Path) -> io::Result<PathBuf> {
        let own = directory.join(format!("seed-{}", self.seed));
        std::fs::create_dir_all(&own)?;
        for entry in std::fs::read_dir(&own)? {
            let path = entry?.path();
            if path.extension().is_some_and(|end| end == "ndjson") {
                std::fs::remove_file(path)?;
            }
        }
        for (name, content) in &self.files {
            std::fs::write(own.join(name), content)?;
        }
        Ok(own)
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "seed {}: {}", self.seed, self.found)?;
        write!(
            f,
            "minimised: {} steps, {} faults of the kinds [{}], one in {} of the records: {}",
            self.trace.len(),
            self.count,
            self.faults,
            self.records,
            self.what
        )
    }
}

/// The totals of the runs.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct Report {
    /// The number of runs.
    pub runs: u64,
    /// Steps in all of them.
    pub steps: u64,
    /// Faults in all of them.
    pub faults: u64,
    /// The number of records that a run without failures commits.
    pub records: u64,
    /// Counts of events, by name.
    pub marks: BTreeMap<&'static str, u64>,
    /// Depends on everything that happened: two reports of the same seeds have the same.
    pub digest: u64,
    /// Whether it was stopped before the last seed.
    pub stopped: bool,
    /// The first that failed.
    pub failure: Option<Failure>,
}

impl Report {
    fn add(&mut self, ran: &Ran) {
        self.runs += 1;
        self.steps += ran.steps;
        self.faults += u64::from(ran.faults);
        for (mark, times) in &ran.marks {
            *self.marks.entry(mark).or_default() += times;
        }
        self.digest = crate::state::hash(&(self.digest, ran.digest));
    }
}
