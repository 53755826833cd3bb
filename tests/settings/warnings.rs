//! Settings that are possible and unwise: each warning, with its numbers and its bound.

use std::time::Duration;

use snapline::connect::{
    ForEach, Generator, MemoryCommitter, MemorySink, MemoryWriter, OpenContext, TwoPhaseSink,
};
use snapline::settings::Settings;
use snapline::{BoxError, Dataflow, Job, JobConfig, Level, Restart, SettingWarning};

/// Like Kafka, which drops transactions after a timeout.
#[derive(Clone)]
struct Forgetful(MemorySink<u64>, Option<Duration>);

impl TwoPhaseSink for Forgetful {
    type Record = u64;
    type Committable = <MemorySink<u64> as TwoPhaseSink>::Committable;
    type Writer = MemoryWriter<u64>;
    type Committer = MemoryCommitter<u64>;

    fn open(&self, context: &OpenContext) -> Result<(Self::Writer, Self::Committer), BoxError> {
        self.0.open(context)
    }

    fn transaction_timeout(&self) -> Option<Duration> {
        self.1
    }
}

fn job(config: JobConfig, timeout: Option<Duration>) -> Job {
    let flow = Dataflow::new("warned");
    flow.source("in", Generator::new(1, |number| number))
        .sink("topic", Forgetful(MemorySink::new(), timeout));
    flow.build(config).expect("it builds")
}

fn texts(job: &Job) -> Vec<String> {
    job.warnings().iter().map(ToString::to_string).collect()
}

const SECOND: Duration = Duration::from_secs(1);

#[test]
fn the_defaults_are_no_reason_to_warn() {
    assert_eq!(JobConfig::new().warnings(), []);
    assert_eq!(job(JobConfig::new(), None).warnings(), []);
    // Kafka's timeout, a quarter of an hour.
    assert_eq!(job(JobConfig::new(), Some(900 * SECOND)).warnings(), []);
}

#[test]
fn a_transaction_that_may_not_live_long_enough() {
    let config = || {
        let restart = Restart::Fixed { attempts: 5, pause: 2 * SECOND };
        let config = JobConfig::new().checkpoint_interval(10 * SECOND).restart(restart);
        config.checkpoint_timeout(60 * SECOND).tolerable_failures(0)
    };
    // 10 + 60 + 5 * 2
    assert_eq!(job(config(), Some(80 * SECOND)).warnings(), []);
    let short = job(config(), Some(79 * SECOND));
    assert_eq!(short.warnings()[0].setting(), "checkpoint_timeout");
    assert_eq!(
        texts(&short),
        [
            "`checkpoint_timeout`: sink `topic` drops transactions after 79s, but one may have to live for 80s: open for `checkpoint_interval` = 10s, \
          until its checkpoint is complete at most `checkpoint_timeout` = 60s, and while the job restarts (`restart`) 10s. What is dropped is \
          lost, and the job fails: give the external system more time, or make these shorter"
        ]
    );
    let tolerant = texts(&job(config().tolerable_failures(2), Some(79 * SECOND)));
    assert!(
        tolerant[0].contains("as `tolerable_failures` allows, 120s more. What"),
        "{tolerant:?}"
    );
    let never = job(config().checkpoint_interval(None), Some(3600 * SECOND));
    assert!(
        matches!(never.warnings()[..], [SettingWarning::TransactionTimeout { needed: None, .. }]),
        "{never:?}"
    );
    assert!(texts(&never)[0].contains("without periodic checkpoints"), "{:?}", texts(&never));
}

#[test]
fn a_checkpoint_that_is_kept_longer_than_its_transactions_are_known() {
    let config = |retained| {
        let config = JobConfig::new().checkpoint_interval(60 * SECOND).allow_older(true);
        config.checkpoint_timeout(60 * SECOND).retained_checkpoints(retained)
    };
    let has = |retained| {
        let warnings = job(config(retained), Some(900 * SECOND)).warnings();
        let outlives =
            |it: &SettingWarning| matches!(it, SettingWarning::OldestOutlivesTransactions { .. });
        warnings.into_iter().find(outlives)
    };
    // 15 intervals are exactly the timeout.
    assert_eq!(has(16), None);
    let warning = has(17).expect("16 minutes are more than 15");
    assert_eq!(warning.setting(), "retained_checkpoints");
    assert!(warning.to_string().contains("is 960s old or more"), "{warning}");
    assert!(warning.to_string().contains("`topic` knows its transactions for 900s"), "{warning}");
    // Without permission, no older checkpoint is restored.
    assert_eq!(job(config(17).allow_older(false), Some(900 * SECOND)).warnings(), []);
}

#[test]
fn older_checkpoints_are_no_exactly_once_or_are_not_there() {
    let text = |retained| {
        let config = JobConfig::new().allow_older(true).retained_checkpoints(retained);
        config.warnings()[0].to_string()
    };
    assert!(text(1).contains("`retained_checkpoints` = 1; keep more"), "{}", text(1));
    assert!(text(3).contains("newest of 3 checkpoints"), "{}", text(3));
    assert!(text(3).contains("not exactly once"), "{}", text(3));
}

#[test]
fn less_than_exactly_once_though_the_mode_is() {
    let less = |config: JobConfig| {
        let flow = Dataflow::new("less");
        flow.source("in", Generator::new(1, |number| number)).sink("log", ForEach::new(|_| ()));
        flow.build(config).expect("it builds")
    };
    let warned = less(JobConfig::new());
    assert_eq!(warned.warnings()[0].setting(), "require");
    let text = texts(&warned).remove(0);
    assert!(text.contains("the job delivers at least once; sink `log` has no"), "{text}");
    assert_eq!(less(JobConfig::new().require(Level::AtLeastOnce)).warnings(), []);
    let mode = JobConfig::new().mode(snapline::Mode::AtLeastOnce);
    assert_eq!(less(mode).warnings(), [], "it was asked for");
}

#[test]
fn times_that_contradict_each_other() {
    let config = |interval, timeout, pause| {
        let text = format!(
            "checkpoint_interval = '{interval}s'\ncheckpoint_timeout = '{timeout}s'\nmin_pause = '{pause}s'"
        );
        let settings = Settings::new().toml("job.toml", &text).expect("it can be read");
        settings.config().expect("it can be")
    };
    assert_eq!(config(60, 60, 59).warnings(), []);
    let short = config(60, 59, 0).warnings();
    assert_eq!((short.len(), short[0].setting()), (1, "checkpoint_interval"));
    assert!(short[0].to_string().contains("`checkpoint_timeout` = 59s"), "{}", short[0]);
    let paused = config(60, 60, 60).warnings();
    assert_eq!((paused.len(), paused[0].setting()), (1, "min_pause"));
    assert!(paused[0].to_string().contains("`checkpoint_interval` = 60s"), "{}", paused[0]);
}
