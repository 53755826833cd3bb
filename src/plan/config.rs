//! How a job runs: parallelism, checkpoints, restarts, storage.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use snapline_protocol::ids::CheckpointId;

pub use snapline_protocol::aligner::Mode;

use crate::base::sync::{Arc, thread};
use crate::plan::guarantee::Level;
use crate::state::VerifyState;
use crate::store::{LocalStore, MemoryStore, Store, StoreError, Takeover};
use crate::trace::Recording;

/// Where checkpoints go.
#[derive(Clone)]
pub enum Storage {
    /// The process's memory: a restart within the process restores, a new process begins anew.
    Memory(MemoryStore),
    /// A directory of the local file system.
    Directory {
        /// The directory; made if it is missing.
        path: PathBuf,
        /// What to do if another process uses it.
        takeover: Takeover,
    },
    /// A store of your own.
    Custom(Arc<dyn Store>),
}

impl fmt::Debug for Storage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Memory(_) => f.write_str("Memory"),
            Self::Directory { path, takeover } => {
                write!(f, "Directory({}, {takeover:?})", path.display())
            }
            Self::Custom(store) => write!(f, "Custom({})", store.describe()),
        }
    }
}

impl Storage {
    pub(crate) fn open(&self) -> Result<Arc<dyn Store>, StoreError> {
        Ok(match self {
            Self::Memory(store) => Arc::new(store.clone()),
            Self::Directory { path, takeover } => Arc::new(LocalStore::open(path, *takeover)?),
            Self::Custom(store) => Arc::clone(store),
        })
    }
}

/// What happens when a task fails.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Restart {
    /// The job fails.
    Never,
    /// The job is restored after a pause, up to `attempts` times.
    Fixed {
        /// The number of restarts in one run of the job.
        attempts: u32,
        /// The pause before each.
        pause: Duration,
    },
    /// The job is restored after a pause that grows with each failure, and is short again after a
    /// while without one.
    Exponential {
        /// The first pause.
        first: Duration,
        /// The longest pause.
        longest: Duration,
        /// The growth factor of the pause.
        factor: f64,
        /// How long a job must have run for its next failure to count as the first.
        reset_after: Duration,
        /// The number of restarts in a row; `None` for no limit.
        attempts: Option<u32>,
    },
}

impl Default for Restart {
    /// From 100 ms to a minute, doubling, at most ten in a row, reset after two minutes.
    fn default() -> Self {
        Self::Exponential {
            first: Duration::from_millis(100),
            longest: Duration::from_secs(60),
            factor: 2.0,
            reset_after: Duration::from_secs(120),
            attempts: Some(10),
        }
    }
}

/// What a suspended job does: one stopped by [`crate::JobHandle::suspend`], Ctrl-C or SIGTERM.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Resume {
    /// Resumes from the checkpoint that suspended it.
    #[default]
    Suspended,
    /// Resumes from this checkpoint only; if another one is found it stays suspended. A job that
    /// was drained stays over: its input has ended (SPEC 7.4).
    From(CheckpointId),
    /// Finishes pending commits, and nothing else.
    Never,
}

/// How a job runs. Every setting has a sensible default; see each. A number out of its bounds is
/// refused when the dataflow is built ([`crate::BuildError::Setting`]). Any length of time is
/// allowed: longer than a hundred years is as good as for ever.
///
/// ```
/// use std::time::Duration;
///
/// use snapline::{JobConfig, Level, Restart};
///
/// let config = JobConfig::new()
///     .parallelism(4)
///     .checkpoint_interval(Duration::from_secs(5))
///     .retained_checkpoints(3)
///     .restart(Restart::Fixed { attempts: 5, pause: Duration::from_secs(1) })
///     .require(Level::ExactlyOnce)
///     .directory("/var/lib/orders/checkpoints");
/// ```
#[derive(Clone, Debug)]
#[must_use]
pub struct JobConfig {
    /// `None`: that of the checkpoint that the job resumes from; else the number of cores.
    pub(crate) parallelism: Option<usize>,
    pub(crate) workers: Option<usize>,
    pub(crate) key_groups: u16,
    pub(crate) interval: Option<Duration>,
    pub(crate) min_pause: Duration,
    pub(crate) timeout: Duration,
    pub(crate) hang_timeout: Duration,
    pub(crate) max_concurrent: usize,
    pub(crate) tolerable_failures: u32,
    pub(crate) retained: usize,
    pub(crate) mode: Mode,
    pub(crate) restart: Restart,
    pub(crate) storage: Storage,
    pub(crate) require: Option<Level>,
    pub(crate) allow_older: bool,
    pub(crate) resume: Resume,
    pub(crate) verify_state: VerifyState,
    pub(crate) upload_threads: usize,
    /// The number of checkpoint ids reserved in one write (SPEC 4.2).
    pub(crate) id_block: u64,
    pub(crate) recording: Option<Recording>,
    /// Doubtful settings in the text that it was read from.
    #[cfg(feature = "settings")]
    pub(crate) doubts: Vec<super::warnings::SettingWarning>,
    pub(crate) retry_anyway: bool,
    pub(crate) stop_timeout: Option<Duration>,
    pub(crate) quiet: bool,
    #[cfg(feature = "metrics")]
    pub(crate) metrics_interval: Option<Duration>,
}

impl Default for JobConfig {
    fn default() -> Self {
        Self {
            parallelism: None,
            workers: None,
            key_groups: 128,
            interval: Some(Duration::from_secs(10)),
            min_pause: Duration::ZERO,
            timeout: Duration::from_secs(600),
            hang_timeout: Duration::from_secs(600),
            max_concurrent: 1,
            tolerable_failures: 3,
            retained: 1,
            mode: Mode::ExactlyOnce,
            restart: Restart::default(),
            storage: Storage::Memory(MemoryStore::default()),
            require: None,
            allow_older: false,
            resume: Resume::default(),
            verify_state: VerifyState::default(),
            upload_threads: 2,
            id_block: 1024,
            recording: None,
            #[cfg(feature = "settings")]
            doubts: Vec::new(),
            retry_anyway: false,
            stop_timeout: Some(Duration::from_secs(60)),
            quiet: false,
            #[cfg(feature = "metrics")]
            metrics_interval: Some(Duration::from_secs(5)),
        }
    }
}

pub(crate) fn cores() -> usize {
    thread::available_parallelism().map_or(1, usize::from)
}

impl JobConfig {
    /// The defaults: as many subtasks as cores at the first start, exactly-once checkpoints every
    /// ten seconds, one kept, in memory.
    pub fn new() -> Self {
        Self::default()
    }

    /// The number of subtasks of an operator without a number of its own. The job's first
    /// checkpoint fixes it. Default: that of the checkpoint that the job resumes from; at the first
    /// start the number of cores, or fewer if the job cannot have so many. The limits are the
    /// number of key groups, whether the operator has keys or not, and the room in a job. An
    /// explicit number that is impossible is an error.
    pub fn parallelism(mut self, subtasks: usize) -> Self {
        self.parallelism = Some(subtasks);
        self
    }

    /// The number of worker threads. Default: one a core, and at most as many as the widest
    /// operator has subtasks.
    pub fn workers(mut self, threads: usize) -> Self {
        self.workers = Some(threads);
        self
    }

    /// The number of key groups of keyed state: the largest parallelism the job can ever have.
    /// Fixed by the job's first checkpoint. Default: 128.
    pub fn key_groups(mut self, groups: u16) -> Self {
        self.key_groups = groups;
        self
    }

    /// How often a checkpoint is taken; `None`: only at the end, at a stop, and on request.
    /// Default: every ten seconds.
    pub fn checkpoint_interval(mut self, interval: impl Into<Option<Duration>>) -> Self {
        self.interval = interval.into();
        self
    }

    /// The least time between the end of a checkpoint and the beginning of the next. Default: none.
    pub fn min_pause(mut self, pause: Duration) -> Self {
        self.min_pause = pause;
        self
    }

    /// How long a checkpoint may take before it is aborted. Default: ten minutes.
    pub fn checkpoint_timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// How long an operation may take without progress. An operation is one call of the store, one
    /// preparation, commit or roll-back of a sink, or the end of a task (a step of it included)
    /// when the job stops or restarts. A longer one counts as hung, and the job ends with
    /// [`crate::JobError::Hung`], which names it; the thread is left. Default: ten minutes.
    ///
    /// A checkpoint that waits for a hung operation is aborted earlier, if
    /// [`checkpoint_timeout`](Self::checkpoint_timeout) is shorter.
    pub fn hang_timeout(mut self, timeout: Duration) -> Self {
        self.hang_timeout = timeout;
        self
    }

    /// How many checkpoints may be in flight at once, from 1 to 1,000. Default: 1.
    pub fn max_concurrent_checkpoints(mut self, checkpoints: usize) -> Self {
        self.max_concurrent = checkpoints;
        self
    }

    /// How many checkpoints in a row may fail before the job is restarted. Default: 3.
    pub fn tolerable_failures(mut self, failures: u32) -> Self {
        self.tolerable_failures = failures;
        self
    }

    /// How many complete checkpoints are kept, from 1 to 100,000. Default: 1. One with unresolved
    /// commits is kept beyond that, however slow its sinks are (SPEC 8.1): the store grows, and
    /// [`crate::JobStatus::store_bytes`] and [`crate::TaskStatus::in_doubt`] with it.
    pub fn retained_checkpoints(mut self, checkpoints: usize) -> Self {
        self.retained = checkpoints;
        self
    }

    /// The guarantee for records on different sides of a barrier. Default: exactly once.
    pub fn mode(mut self, mode: Mode) -> Self {
        self.mode = mode;
        self
    }

    /// What happens when a task fails. Default: [`Restart::default`].
    pub fn restart(mut self, restart: Restart) -> Self {
        self.restart = restart;
        self
    }

    /// Where checkpoints go. Default: memory.
    pub fn storage(mut self, storage: Storage) -> Self {
        self.storage = storage;
        self
    }

    /// Keeps checkpoints in a directory of the local file system; a second process on it is
    /// refused.
    pub fn directory(self, path: impl Into<PathBuf>) -> Self {
        self.storage(Storage::Directory { path: path.into(), takeover: Takeover::Refuse })
    }

    /// Requires a guarantee: a job that cannot give it is refused when it is built.
    pub fn require(mut self, level: Level) -> Self {
        self.require = Some(level);
        self
    }

    /// Restores an older checkpoint if the newest cannot be read: output committed since is then
    /// written again (SPEC 7.3). Default: no.
    pub fn allow_older(mut self, allow: bool) -> Self {
        self.allow_older = allow;
        self
    }

    /// What a suspended job does when it is run again. Default: it resumes.
    pub fn resume(mut self, resume: Resume) -> Self {
        self.resume = resume;
        self
    }

    /// Restarts a job, as its [`Restart`] strategy says, even after a failure that no restart is
    /// known to mend (SPEC 15.4). That is a permanent error, or a panic that came twice with the
    /// same message and the same records in hand. Default: no, the job fails at once.
    pub fn retry_anyway(mut self, retry: bool) -> Self {
        self.retry_anyway = retry;
        self
    }

    /// How long a stopped job waits for its sinks to commit, once the checkpoint that stops it is
    /// complete; `None` for no limit. Then it fails with [`crate::JobError::Uncommitted`]: nothing
    /// is lost, the next run commits. Default: one minute.
    pub fn stop_timeout(mut self, timeout: impl Into<Option<Duration>>) -> Self {
        self.stop_timeout = timeout.into();
        self
    }

    /// Keeps [`crate::Job::run`] from writing to standard error. In a process without a `tracing`
    /// subscriber it reports failures, restarts and what a stop waits for. Default: no.
    pub fn quiet(mut self, quiet: bool) -> Self {
        self.quiet = quiet;
        self
    }

    /// Which values are read back when they are written into a checkpoint. A type whose `Serialize`
    /// and `Deserialize` disagree then fails the job before a checkpoint relies on it. Default:
    /// samples.
    pub fn verify_state(mut self, which: VerifyState) -> Self {
        self.verify_state = which;
        self
    }

    /// The number of threads that write snapshots and commit transactions, from 1 to 1,024.
    /// Default: 2.
    pub fn upload_threads(mut self, threads: usize) -> Self {
        self.upload_threads = threads;
        self
    }

    /// The number of checkpoint ids reserved in one write (SPEC 4.2), one or more. Default: 1024.
    /// For tests of stores: a job as short as a test needs no second write, and so never calls
    /// [`crate::store::Store::reserve`].
    #[doc(hidden)]
    pub fn id_block(mut self, ids: u64) -> Self {
        self.id_block = ids;
        self
    }

    /// Records each run as a trace, in memory or in a new file of a directory. `snapline trace
    /// replay` and [`crate::trace::replay`] check it against the protocol (SPEC 11.5). A trace that
    /// cannot be written does not affect the job; `tracing` and
    /// [`crate::JobStatus::recording_failed`] report the error. Default: nothing is recorded.
    pub fn record(mut self, to: impl Into<Recording>) -> Self {
        self.recording = Some(to.into());
        self
    }

    /// How often the job's figures are published through the facade of [`crate::metrics`]; `None`
    /// for never. Default: every five seconds. It has no effect unless the process has installed a
    /// recorder.
    #[cfg(feature = "metrics")]
    pub fn metrics_interval(mut self, interval: impl Into<Option<Duration>>) -> Self {
        self.metrics_interval = interval.into();
        self
    }
}
