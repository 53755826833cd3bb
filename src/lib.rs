//! An embeddable, exactly-once stream-processing runtime whose checkpoint protocol is
//! model-checked.
//!
//! A job reads *sources*, processes records in parallel, keeps state by key, and writes to *sinks*;
//! all of it in your process, on a few threads. At intervals it takes a *checkpoint* of everything
//! at once, without stopping. After a failure, or the next time the process starts, it resumes from
//! the newest checkpoint, and the output is as if nothing had failed.
//!
//! ```
//! use std::time::Duration;
//!
//! use snapline::connect::{MemorySink, MemorySource};
//! use snapline::{Dataflow, Emit, Ended, JobConfig, Level};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let lines = vec!["once is enough", "and once is once"];
//! let counts = MemorySink::new();
//!
//! let flow = Dataflow::new("word-count");
//! flow.source("lines", MemorySource::new(lines))
//!     .flat_map(|line| line.split(' ').map(str::to_owned).collect::<Vec<_>>())
//!     .key_by(|word| word.clone())
//!     .count(Emit::AtEnd)
//!     .sink("counts", counts.clone());
//!
//! let config = JobConfig::new()
//!     .parallelism(2)
//!     .checkpoint_interval(Duration::from_secs(1))
//!     .require(Level::ExactlyOnce);
//! let outcome = flow.build(config)?.run()?;
//!
//! assert_eq!(outcome.ended, Ended::Finished);
//! let mut counted: Vec<(String, u64)> = counts.committed();
//! counted.sort();
//! let expected = [("and", 1), ("enough", 1), ("is", 2), ("once", 3)];
//! assert_eq!(counted, expected.map(|(word, count)| (word.to_owned(), count)));
//! # Ok(())
//! # }
//! ```
//!
//! # What it promises
//!
//! A [`Job`] computes its [`Guarantee`] from its parts and explains why it is not higher. With
//! [`JobConfig::require`] a job below the required level is refused. It is *exactly once* if every
//! source can be read again ([`connect::Source::is_replayable`]), every sink writes in transactions
//! ([`connect::TwoPhaseSink`]), and the mode is [`Mode::ExactlyOnce`]. Then each record has its
//! effect on state once and appears in the sinks once, whatever fails. An operator's own effects on
//! the outside (a request sent from [`Stream::map`]) are not covered.
//!
//! Records of one key that come from one subtask stay in order. Between producers there is no
//! order.
//!
//! The crate `snapline-protocol` is its protocol: the types that the model checker explores are
//! those that run here. The clauses are in `SPEC.md`. [`Job::topology`] is what
//! `snapline_models::check::Check` explores, in a test of yours.
//!
//! # How it is configured
//!
//! [`JobConfig`] has a default for everything. The settings to consider:
//!
//! | setting | default | |
//! |---|---|---|
//! | [`storage`](JobConfig::storage), [`directory`](JobConfig::directory) | memory | a directory outlives the process |
//! | [`checkpoint_interval`](JobConfig::checkpoint_interval) | 10 s | how much work is repeated after a failure, and how late output appears |
//! | [`parallelism`](JobConfig::parallelism), [`Stream::parallelism`] | cores | fixed by the first checkpoint |
//! | [`key_groups`](JobConfig::key_groups) | 128 | fixed by the first checkpoint |
//! | [`restart`](JobConfig::restart) | ten in a row | how a job restarts after a failure |
//! | [`require`](JobConfig::require) | nothing | the least guarantee |
//!
//! # State
//!
//! The state of a key is any type that is `Clone + Default` and that serde can handle
//! ([`state::StateValue`]). It is kept as it is, and serialised when a checkpoint is written. Lists
//! and maps that grow large belong into [`state::List`] and [`state::Map`]. Fields may be added
//! with `#[serde(default)]`. A key's [`std::hash::Hash`] must stay as it is.
//!
//! # Time
//!
//! [`Stream::assign_timestamps`] says when records happened. The stream it returns offers windows
//! ([`TimedKeyedStream::window`]), timers ([`TimedKeyedStream::process_with`]) and joins
//! ([`TimedKeyedStream::interval_join`], [`TimedKeyedStream::connect`]). The progress of time is in
//! every checkpoint, so that the same records are late whatever fails (SPEC 16,
//! in `docs/spec/time.md`).
//!
//! # Errors
//!
//! [`BuildError`] says what is wrong with a dataflow before it runs, [`JobError`] why a job failed.
//! A panic or an error in your code is a [`TaskFailure`] that names operator, subtask and attempt.
//! The job is restored as [`JobConfig::restart`] says, unless no restart can help ([`Permanent`]).
//! A loss of data is never silent: a damaged checkpoint ([`JobError::Recovery`]), one of an
//! incompatible job ([`JobError::Mismatch`]) and a transaction that the external system dropped
//! ([`JobError::DataLoss`]) end the job.
//!
//! # Features
//!
//! | feature | | |
//! |---|---|---|
//! | `signals` | on | [`Job::run`] suspends the job on Ctrl-C and SIGTERM |
//! | `formats` | off | CSV, JSON lines, gzip and zstd: [`connect::FileSource`]'s `decode`, `connect::DirectorySource`, [`connect::FileSink`]'s `csv` and `json_lines` |
//! | `parquet` | off | `connect::FileSink::parquet` |
//! | `dashboard` | off | `JobHandle::dashboard` serves a status page of the job, on loopback |
//! | `metrics` | off | a job publishes its figures through the facade of the crate `metrics`; see the module of that name |
//! | `prometheus` | off | the figures as text for Prometheus, which the dashboard serves too; with `metrics` |
//! | `sqlite` | off | `connect::SqliteSink` writes to an SQLite database, exactly once; `connect::SqliteSource` reads one, `connect::SqliteLookup` looks up in one |
//! | `http` | off | `connect::HttpIngest` accepts records by HTTP, `connect::WebhookSink` sends them |
//! | `settings` | off | the module `settings`: a job's configuration from a TOML file and the environment |
//! | `testkit` | off | the module `testkit`: tests for sources and sinks of your own |
//! | `sim` | off | the module `sim`: runs a job in a simulated world that crashes, for tests |
//!
//! # Modules
//!
//! | module | what |
//! |---|---|
//! | (the root) | [`Dataflow`], [`Stream`], [`TimedStream`], [`Job`], [`JobConfig`], [`JobHandle`] |
//! | [`connect`] | sources and sinks, and the traits to write your own |
//! | [`state`] | state by key, and its format |
//! | [`store`] | where checkpoints are kept |
//! | [`trace`] | a recorded run, and its replay |
//! | `metrics` | a job's figures, and what each means; with the feature of that name |
//! | `settings` | a job's configuration from a TOML file and the environment; with the feature of that name |
//! | `testkit` | tests for sources and sinks of your own; with the feature of that name |
//! | `sim` | a simulated world that crashes, for tests of jobs; with the feature of that name |
//! | [`protocol`] | the state machines of the checkpoint protocol |
//! | [`guide`] | a guide for users of Apache Flink |

#[cfg(doctest)]
mod book;
mod channel;
pub mod connect;
#[cfg(feature = "dashboard")]
mod dashboard;
mod dataflow;
mod executor;
#[cfg(feature = "fuzzing")]
#[doc(hidden)]
pub mod fuzzing;
pub mod guide;
#[cfg(feature = "metrics")]
pub mod metrics;
mod operator;
mod plan;
mod runtime;
#[cfg(feature = "settings")]
pub mod settings;
#[cfg(feature = "sim")]
pub mod sim;
#[cfg(feature = "testkit")]
pub mod testkit;
pub mod trace;

pub(crate) use snapline_core::{base, fs};
pub use snapline_core::{state, store};

pub use base::either::Either;
pub use base::error::{BoxError, Permanent};
#[cfg(feature = "dashboard")]
pub use dashboard::{Dashboard, DashboardServer};
pub use dataflow::*;
pub use operator::chain::{
    Filter, FlatMap, Flow, Identity, Inspect, Map, OperatorChain, Then, TryMap,
};
pub use operator::key::Keyer;
pub use operator::time::{Timed, Timestamp};
pub use plan::config::{JobConfig, Mode, Restart, Resume, Storage};
pub use plan::guarantee::{Guarantee, Level};
pub use plan::spec::BuildError;
pub use plan::warnings::{Needed, SettingWarning};
pub use runtime::failure::{FailedAt, TaskFailure};
pub use runtime::handle::{CheckpointFailed, Ended, JobError, JobHandle, Outcome};
pub use runtime::status::{
    CheckpointStats, JobPhase, JobStatus, NextTry, RestartStats, SubtaskStage, SubtaskStats,
    TaskStatus, UnderWayStatus,
};
pub use snapline_core::connect::lookup::{LookupClient, LookupError, LookupSource};
pub use snapline_protocol as protocol;

/// The documents of the specification, for the pages of the command.
#[doc(hidden)]
pub const SPEC: [&str; 6] = [
    include_str!("../SPEC.md"),
    include_str!("../docs/spec/checking.md"),
    include_str!("../docs/spec/runtime.md"),
    include_str!("../docs/spec/storage.md"),
    include_str!("../docs/spec/time.md"),
    include_str!("../docs/spec/traces.md"),
];
