//! The settings that exist.

use std::path::PathBuf;
use std::time::Duration;

use snapline_protocol::ids::CheckpointId;

use super::value::{Factor, Flag, Given, Or, Span, WholeNumber};
use crate::plan::config::{JobConfig, Mode, Restart, Resume, Storage};
use crate::plan::guarantee::Level;
use crate::state::VerifyState;
use crate::store::Takeover;

/// A setting.
pub(super) struct SettingKey {
    /// The name of the method of [`JobConfig`], except for parts of a method's argument.
    pub(super) name: &'static str,
    pub(super) takes: &'static str,
    pub(super) default: &'static str,
    pub(super) what: &'static str,
    pub(super) apply: fn(&mut Draft, &Given) -> Result<(), String>,
}

/// A configuration under construction.
#[derive(Default)]
pub(super) struct Draft {
    config: JobConfig,
    directory: Option<PathBuf>,
    takeover: Option<Takeover>,
    restart: Option<Strategy>,
    attempts: Option<Option<u32>>,
    pause: Option<Duration>,
    longest: Option<Duration>,
    factor: Option<f64>,
    reset_after: Option<Duration>,
}

#[derive(Clone, Copy, PartialEq)]
enum Strategy {
    Never,
    Fixed,
    Exponential,
}

macro_rules! key {
    ($name:literal, $takes:literal, $default:literal, $what:literal, |$draft:ident, $given:ident| $apply:expr) => {
        SettingKey {
            name: $name,
            takes: $takes,
            default: $default,
            what: $what,
            apply: |$draft, $given| {
                $apply;
                Ok(())
            },
        }
    };
}

/// All settings, in the order of the reference.
pub(super) const KEYS: &[SettingKey] = &[
    key!(
        "parallelism",
        "number",
        "as the newest checkpoint has it; at the first start the number of cores",
        "subtasks of an operator that was given no number of its own; fixed by the first checkpoint",
        |draft, given| draft.config.parallelism = Some(given.number()?)
    ),
    key!(
        "workers",
        "number",
        "cores, at most the widest operator's subtasks",
        "threads that host subtasks",
        |draft, given| draft.config.workers = Some(given.number()?)
    ),
    key!(
        "key_groups",
        "number",
        "128",
        "the largest parallelism that keyed operators can ever have; fixed by the first checkpoint",
        |draft, given| draft.config.key_groups = given.number()?
    ),
    key!(
        "directory",
        "path",
        "memory",
        "where checkpoints are kept; a directory outlives the process",
        |draft, given| draft.directory = Some(given.read::<String>()?.into())
    ),
    key!(
        "takeover",
        "`\"refuse\"`, `\"depose\"`",
        "`\"refuse\"`",
        "what to do if another process uses the directory",
        |draft, given| draft.takeover =
            Some(given.word(&[("refuse", Takeover::Refuse), ("depose", Takeover::Depose)])?)
    ),
    key!(
        "checkpoint_interval",
        "time, `\"never\"`",
        "10s",
        "from one checkpoint to the next; never: at the end, at a stop and by hand only",
        |draft, given| draft.config.interval = match given.or_word(&["never"])? {
            Or::Word(_) => None,
            Or::Some(Span(interval)) => Some(interval),
        }
    ),
    key!(
        "min_pause",
        "time",
        "0s",
        "between the end of a checkpoint and the next",
        |draft, given| draft.config.min_pause = given.read::<Span>()?.0
    ),
    key!("checkpoint_timeout", "time", "10m", "then a checkpoint is given up", |draft, given| {
        draft.config.timeout = given.read::<Span>()?.0
    }),
    key!(
        "hang_timeout",
        "time",
        "10m",
        "then a call of the store or a sink, or a task at its end, counts as hung and the job fails",
        |draft, given| draft.config.hang_timeout = given.read::<Span>()?.0
    ),
    key!(
        "max_concurrent_checkpoints",
        "number",
        "1",
        "checkpoints under way at once",
        |draft, given| draft.config.max_concurrent = given.number()?
    ),
    key!(
        "tolerable_failures",
        "number",
        "3",
        "checkpoints in a row that may fail before the job is restarted",
        |draft, given| draft.config.tolerable_failures = given.number()?
    ),
    key!(
        "retained_checkpoints",
        "number",
        "1",
        "complete checkpoints that are kept",
        |draft, given| draft.config.retained = given.number()?
    ),
    key!(
        "mode",
        "`\"exactly-once\"`, `\"at-least-once\"`",
        "`\"exactly-once\"`",
        "whether channels wait for each other's barriers",
        |draft, given| draft.config.mode = given
            .word(&[("exactly-once", Mode::ExactlyOnce), ("at-least-once", Mode::AtLeastOnce),])?
    ),
    key!(
        "require",
        "`\"nothing\"`, `\"at-most-once\"`, `\"at-least-once\"`, `\"idempotent\"`, `\"exactly-once\"`",
        "`\"nothing\"`",
        "the least guarantee; a job that cannot give it is refused",
        |draft, given| draft.config.require = given.word(&[
            ("nothing", None),
            ("at-most-once", Some(Level::AtMostOnce)),
            ("at-least-once", Some(Level::AtLeastOnce)),
            ("idempotent", Some(Level::Idempotent)),
            ("exactly-once", Some(Level::ExactlyOnce)),
        ])?
    ),
    key!(
        "restart",
        "`\"never\"`, `\"fixed\"`, `\"exponential\"`",
        "`\"exponential\"`",
        "what happens when a task fails",
        |draft, given| draft.restart = Some(given.word(&[
            ("never", Strategy::Never),
            ("fixed", Strategy::Fixed),
            ("exponential", Strategy::Exponential),
        ])?)
    ),
    key!(
        "restart_attempts",
        "number, `\"unlimited\"`",
        "10",
        "restarts in one run (fixed), or in a row (exponential, which may be unlimited)",
        |draft, given| draft.attempts = Some(match given.or_word(&["unlimited"])? {
            Or::Word(_) => None,
            Or::Some(WholeNumber(attempts)) => {
                Some(u32::try_from(attempts).map_err(|_| format!("{attempts} is too large"))?)
            }
        })
    ),
    key!(
        "restart_pause",
        "time",
        "1s (fixed), 100ms (exponential)",
        "the pause before each restart (fixed), or before the first (exponential)",
        |draft, given| draft.pause = Some(given.read::<Span>()?.0)
    ),
    key!("restart_longest", "time", "1m", "exponential: the longest pause", |draft, given| draft
        .longest =
        Some(given.read::<Span>()?.0)),
    key!(
        "restart_factor",
        "number",
        "2",
        "exponential: by what the pause grows; at least 1",
        |draft, given| {
            let Factor(factor) = given.read()?;
            if !(factor.is_finite() && factor >= 1.0) {
                return Err(format!("{factor} would make the pause shorter"));
            }
            draft.factor = Some(factor);
        }
    ),
    key!(
        "restart_reset_after",
        "time",
        "2m",
        "exponential: how long a job must have run for its next failure to count as the first",
        |draft, given| draft.reset_after = Some(given.read::<Span>()?.0)
    ),
    key!(
        "retry_anyway",
        "`true`, `false`",
        "`false`",
        "restart also after a failure that is known to recur after each restart",
        |draft, given| draft.config.retry_anyway = given.read::<Flag>()?.0
    ),
    key!(
        "stop_timeout",
        "time, `\"never\"`",
        "1m",
        "how long a job that is stopped waits for its sinks to commit; then it fails, and the next run commits",
        |draft, given| draft.config.stop_timeout = match given.or_word(&["never"])? {
            Or::Word(_) => None,
            Or::Some(Span(timeout)) => Some(timeout),
        }
    ),
    key!(
        "quiet",
        "`true`, `false`",
        "`false`",
        "keep `Job::run` from writing to standard error, which it does in a process without a `tracing` subscriber",
        |draft, given| draft.config.quiet = given.read::<Flag>()?.0
    ),
    key!(
        "allow_older",
        "`true`, `false`",
        "`false`",
        "restore an older checkpoint if the newest cannot be read: output since is then written again",
        |draft, given| draft.config.allow_older = given.read::<Flag>()?.0
    ),
    key!(
        "resume",
        "`\"suspended\"`, `\"never\"`, number",
        "`\"suspended\"`",
        "what a suspended job does when it is run again: resumes; finishes its commits and nothing \
         else; resumes from this checkpoint only",
        |draft, given| draft.config.resume = match given.or_word(&["suspended", "never"])? {
            Or::Word(word) if word == "never" => Resume::Never,
            Or::Word(_) => Resume::Suspended,
            Or::Some(WholeNumber(checkpoint)) => Resume::From(
                CheckpointId::new(checkpoint).ok_or("checkpoints are numbered from 1")?,
            ),
        }
    ),
    key!(
        "verify_state",
        "`\"samples\"`, `\"all\"`, `\"off\"`",
        "`\"samples\"`",
        "which values are read back when a checkpoint is written, to find types that do not come \
         back unchanged",
        |draft, given| draft.config.verify_state = given.word(&[
            ("samples", VerifyState::Samples),
            ("all", VerifyState::All),
            ("off", VerifyState::Off),
        ])?
    ),
    key!(
        "upload_threads",
        "number",
        "2",
        "threads that write snapshots and prepare and commit transactions",
        |draft, given| draft.config.upload_threads = given.number()?
    ),
    key!(
        "record",
        "path",
        "nothing is recorded",
        "a directory to record each run in",
        |draft, given| draft.config.recording = Some(PathBuf::from(given.read::<String>()?).into())
    ),
    #[cfg(feature = "metrics")]
    key!(
        "metrics_interval",
        "time, `\"never\"`",
        "5s",
        "how often figures are published; with the feature `metrics`",
        |draft, given| draft.config.metrics_interval = match given.or_word(&["never"])? {
            Or::Word(_) => None,
            Or::Some(Span(interval)) => Some(interval),
        }
    ),
];

impl Draft {
    /// The configuration; or the setting that contradicts the others, and why.
    pub(super) fn finish(self) -> Result<JobConfig, (&'static str, String)> {
        let Self { mut config, directory, takeover, restart, .. } = self;
        match (directory, takeover) {
            (Some(path), takeover) => {
                let takeover = takeover.unwrap_or(Takeover::Refuse);
                config.storage = Storage::Directory { path, takeover };
            }
            (None, Some(_)) => {
                return Err((
                    "takeover",
                    "it has no effect without a `directory`; set one".to_owned(),
                ));
            }
            (None, None) => {}
        }
        let of_exponential = [
            ("restart_longest", self.longest.is_some()),
            ("restart_factor", self.factor.is_some()),
            ("restart_reset_after", self.reset_after.is_some()),
        ];
        let of_any = [
            ("restart_attempts", self.attempts.is_some()),
            ("restart_pause", self.pause.is_some()),
        ];
        let strategy = restart.unwrap_or(Strategy::Exponential);
        let means_nothing = |keys: &[(&'static str, bool)], strategy: &str| {
            let given = keys.iter().find(|(_, given)| *given);
            let what = format!("it has no effect with `restart = \"{strategy}\"`");
            given.map_or(Ok(()), |(key, _)| Err((*key, what)))
        };
        config.restart = match strategy {
            Strategy::Never => {
                means_nothing(&of_any, "never")?;
                means_nothing(&of_exponential, "never")?;
                Restart::Never
            }
            Strategy::Fixed => {
                means_nothing(&of_exponential, "fixed")?;
                let Some(attempts) = self.attempts.unwrap_or(Some(10)) else {
                    let what = "`restart = \"fixed\"` needs a number".to_owned();
                    return Err(("restart_attempts", what));
                };
                Restart::Fixed { attempts, pause: self.pause.unwrap_or(Duration::from_secs(1)) }
            }
            Strategy::Exponential => {
                let first = self.pause.unwrap_or(Duration::from_millis(100));
                let longest = self.longest.unwrap_or(Duration::from_secs(60));
                if first > longest {
                    let key =
                        if self.pause.is_some() { "restart_pause" } else { "restart_longest" };
                    return Err((
                        key,
                        format!(
                            "the first pause, {first:?}, is longer than the longest, {longest:?}"
                        ),
                    ));
                }
                Restart::Exponential {
                    first,
                    longest,
                    factor: self.factor.unwrap_or(2.0),
                    reset_after: self.reset_after.unwrap_or(Duration::from_secs(120)),
                    attempts: self.attempts.unwrap_or(Some(10)),
                }
            }
        };
        Ok(config)
    }
}
