//! The figures that exist. The reference is generated from this table.

/// How a figure changes over time.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum MetricKind {
    /// It grows, from 0 at the start of the run.
    Counter,
    /// It goes up and down.
    Gauge,
    /// It is a distribution.
    Histogram,
}

/// What a figure describes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Of {
    /// The job.
    Job,
    /// Checkpoints of the job, by `result`.
    Result,
    /// Each subtask.
    Subtask,
    /// Each subtask of a source that counts bytes.
    Source,
    /// Each subtask of a sink; of bytes, each that counts them.
    Sink,
    /// Each subtask that has event time.
    Timed,
    /// Each subtask, by `phase`.
    Phase,
}

impl Of {
    /// The labels.
    const fn labels(self) -> &'static str {
        match self {
            Self::Job => "`job`",
            Self::Result => "`job`, `result`",
            Self::Subtask | Self::Source | Self::Sink | Self::Timed => {
                "`job`, `operator`, `subtask`"
            }
            Self::Phase => "`job`, `operator`, `subtask`, `phase`",
        }
    }
}

/// A figure.
#[derive(Clone, Copy, Debug)]
pub(super) struct Figure {
    pub(super) name: &'static str,
    pub(super) kind: MetricKind,
    pub(super) unit: metrics::Unit,
    pub(super) of: Of,
    pub(super) what: &'static str,
    /// When to alert; empty if the figure is for people to look at.
    pub(super) alert: &'static str,
}

macro_rules! figures {
    ($($constant:ident = $name:literal, $kind:ident, $unit:ident, $of:ident, $what:literal, $alert:literal;)*) => {
        $(pub(super) const $constant: Figure = Figure {
            name: $name,
            kind: MetricKind::$kind,
            unit: metrics::Unit::$unit,
            of: Of::$of,
            what: $what,
            alert: $alert,
        };)*

        /// All of them, in the order of the reference.
        pub(super) const FIGURES: &[Figure] = &[$($constant),*];
    };
}

figures! {
    RUNNING = "snapline_job_running", Gauge, Count, Job,
        "1 while the job processes records; 0 while it starts, restores or closes, and after its \
         end",
        "0 for longer than a restart may take";
    RESTARTS = "snapline_restarts_total", Counter, Count, Job,
        "how often the job was restored after a failure",
        "it grows again and again";
    COMPLETED = "snapline_checkpoints_completed_total", Counter, Count, Job,
        "checkpoints that completed", "";
    FAILED = "snapline_checkpoints_failed_total", Counter, Count, Job,
        "checkpoints that were given up",
        "it grows: more of them in a row than `tolerable_failures` restart the job";
    UNDER_WAY = "snapline_checkpoints_under_way", Gauge, Count, Job,
        "checkpoints under way", "";
    UNDER_WAY_FOR = "snapline_checkpoint_under_way_seconds", Gauge, Seconds, Job,
        "how long the oldest checkpoint under way has been; 0 if there is none",
        "near `checkpoint_timeout`";
    NEWEST = "snapline_checkpoint_newest", Gauge, Count, Job,
        "the number of the newest complete checkpoint; 0 if there is none", "";
    AGE = "snapline_checkpoint_age_seconds", Gauge, Seconds, Job,
        "time since the newest checkpoint of this run completed, or if none has, since the tasks \
         were started: about as much is processed again after a failure",
        "above three times `checkpoint_interval`";
    DURATION = "snapline_checkpoint_duration_seconds", Histogram, Seconds, Result,
        "from the trigger of a checkpoint to its end; `result` is `completed` or `failed`",
        "its upper quantiles come near `checkpoint_timeout`";
    WRITTEN = "snapline_checkpoint_written_bytes_total", Counter, Bytes, Job,
        "bytes of state that checkpoints have written; of those given up, what was acknowledged", "";
    REUSED = "snapline_checkpoint_reused_bytes_total", Counter, Bytes, Job,
        "bytes of state that checkpoints shared with the one before, not written again", "";
    STORE = "snapline_store_bytes", Gauge, Bytes, Job,
        "bytes of all blobs in the store, as of the last time it was cleaned, after a complete checkpoint; manifests, a few kilobytes each, do not \
         count",
        "it grows without the state: commits are too slow, and what they await is kept";
    PHASE = "snapline_checkpoint_phase_seconds", Gauge, Seconds, Phase,
        "of the last checkpoint that this subtask acknowledged: `start_delay` (trigger to first barrier), `alignment` (first barrier to last), `sync` \
         (records wait while state is taken), `async` (bytes are made durable)",
        "`start_delay` or `alignment` near `checkpoint_interval`: back-pressure";
    RECORDS_IN = "snapline_records_in_total", Counter, Count, Subtask,
        "records read; those read again after a restart count again",
        "the rate of a source is 0 though there is input";
    RECORDS_OUT = "snapline_records_out_total", Counter, Count, Subtask,
        "records emitted, to all consumers together; of a sink, records written", "";
    RECORDS_LATE = "snapline_records_late_total", Counter, Count, Subtask,
        "records of a timed operator that came too late and were dropped",
        "it grows faster than is acceptable";
    RECORDS_MALFORMED = "snapline_records_malformed_total", Counter, Count, Source,
        "records that could not be read and were skipped, because the source is configured to; \
         those read again after a restart count once",
        "it grows: the input holds what you do not expect";
    BYTES_IN = "snapline_bytes_in_total", Counter, Bytes, Source,
        "bytes read from outside, of sources that count them (`SourceReader::bytes_read`); between tasks records are values in memory, and no bytes", "";
    BYTES_OUT = "snapline_bytes_out_total", Counter, Bytes, Sink,
        "bytes written to the outside, committed or not, of sinks that count them (`SinkWriter::bytes_written`)", "";
    BUSY = "snapline_busy_milliseconds_total", Counter, Milliseconds, Subtask,
        "the time spent working; its rate is in milliseconds a second", "";
    BUSY_RATE = "snapline_busy_ms_per_second", Gauge, Count, Subtask,
        "milliseconds a second spent working, since the metrics were last published or queried. \
         What is left to 1000 is idle, or the turn of another subtask of the same worker: those of \
         one worker together have 1000",
        "near 1000 for long: this is the bottleneck; give the operator more subtasks";
    WAITED = "snapline_backpressured_milliseconds_total", Counter, Milliseconds, Subtask,
        "the time during which output waited for room; its rate is in milliseconds a second", "";
    WAITED_RATE = "snapline_backpressured_ms_per_second", Gauge, Count, Subtask,
        "milliseconds a second during which output waited for room, since the metrics were last \
         published or queried: what it feeds is too slow",
        "near 1000 for long: look at what is downstream";
    LAG = "snapline_watermark_lag_seconds", Gauge, Seconds, Timed,
        "how far event time lags the clock of this machine; large for old data",
        "it grows: windows and timers fire ever later";
    IN_DOUBT = "snapline_in_doubt_transactions", Gauge, Count, Sink,
        "transactions that are closed and not known to be committed or rolled back; one or two are usual",
        "it grows: commits are slower than checkpoints";
    COMMITS = "snapline_commits_total", Counter, Count, Sink,
        "transactions that were committed", "";
    COMMITTED_AGE = "snapline_committed_epoch_age_seconds", Gauge, Seconds, Sink,
        "time since the arrival of the barrier that ended the newest committed transaction, or if \
         none was committed in this run, since its first start: readers see nothing newer",
        "above three times `checkpoint_interval`";
}

/// The names of all figures.
#[cfg(test)]
pub(super) fn names() -> impl Iterator<Item = &'static str> {
    FIGURES.iter().map(|figure| figure.name)
}

/// All figures, as a table in Markdown.
pub(super) fn reference() -> String {
    let mut text =
        "| name | type | unit | labels | what it is | alert on |\n|---|---|---|---|---|---|\n"
            .to_owned();
    for Figure { name, kind, unit, of, what, alert } in FIGURES {
        let kind = format!("{kind:?}").to_lowercase();
        let (unit, labels) = (unit.as_str(), of.labels());
        text.push_str(&format!("| `{name}` | {kind} | {unit} | {labels} | {what} | {alert} |\n"));
    }
    text
}
