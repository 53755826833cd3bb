//! A job's figures, for monitoring many jobs: through the [`metrics`](https://docs.rs/metrics)
//! facade, and as text for Prometheus.
//!
//! With the feature `metrics` each job publishes its figures through the facade every few seconds
//! ([`JobConfig::metrics_interval`]), and once more when it ends. The recorder that your process
//! installs before the job starts receives them; without one nothing happens.
//!
//! With the feature `prometheus`, [`Prometheus`] renders them as text on request, without a
//! recorder, and the dashboard serves that text as the page `metrics`:
//!
#![cfg_attr(feature = "prometheus", doc = "```")]
#![cfg_attr(not(feature = "prometheus"), doc = "```ignore")]
//! use snapline::connect::{Generator, MemorySink};
//! use snapline::metrics::Prometheus;
//! use snapline::{Dataflow, JobConfig};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let flow = Dataflow::new("squares");
//! flow.source("numbers", Generator::new(None, |number| number).rate(1_000))
//!     .map(|number| number * number)
//!     .sink("out", MemorySink::new());
//! let handle = flow.build(JobConfig::new().parallelism(1))?.spawn()?;
//! let mut metrics = Prometheus::new();
//! metrics.watch(&handle);
//!
//! handle.checkpoint()?;
//! let text = metrics.render(); // what your own server answers to `GET /metrics`
//! assert!(text.contains(r#"snapline_checkpoints_completed_total{job="squares"} 1"#), "{text}");
//! # handle.cancel();
//! # handle.wait()?;
//! # Ok(())
//! # }
//! ```
//!
//! # What they cost
//!
//! Nothing is done for a record. A task makes a few atomic stores for each batch, and its worker
//! reads the clock once for each of its turns, whether or not the feature is on. A thread of its
//! own reads the results.
//!
//! # What they mean
//!
//! Counters begin with 0 when a job is run, and continue over its restarts. What is processed again
//! counts again, since that is the work that was done. For the number of records in the output,
//! query the output.
//!
//! There are as many series as there are subtasks, at most 256 times the rows of the table, and
//! never more while the job runs: no label holds a checkpoint, a time, a key or an error text.
//!
#![doc = include_str!("reference.md")]
//!
//! # Compared with Flink's
//!
//! | Flink | here |
//! |---|---|
//! | `numRecordsIn`, `numRecordsOut`, `numLateRecordsDropped` | `snapline_records_in_total`, `..._out_total`, `..._late_total` |
//! | `numBytesIn`, `numBytesOut` of any task | `snapline_bytes_in_total` of sources and `snapline_bytes_out_total` of sinks only: in between nothing is serialised |
//! | `busyTimeMsPerSecond`, `backPressuredTimeMsPerSecond` | `snapline_busy_ms_per_second`, `snapline_backpressured_ms_per_second` |
//! | `idleTimeMsPerSecond` | what is left; a subtask shares its thread with others, and may also wait for its turn |
//! | `currentInputWatermark` | `snapline_watermark_lag_seconds` |
//! | `lastCheckpointDuration`, `lastCheckpointSize`, `numberOfCompletedCheckpoints`, `numberOfFailedCheckpoints` | `snapline_checkpoint_...` |
//! | `checkpointStartDelayNanos`, `checkpointAlignmentTime` | `snapline_checkpoint_phase_seconds` |
//! | `numRestarts` | `snapline_restarts_total` |
//! | `pendingCommittables`, `successfulCommittables` | `snapline_in_doubt_transactions`, `snapline_commits_total` |
//! | buffer pools, network, JVM, RocksDB | there are none |

mod figures;
#[cfg(feature = "prometheus")]
mod prometheus;
mod publish;

#[cfg(feature = "prometheus")]
pub use prometheus::Prometheus;
pub(crate) use publish::Publishing;

#[cfg(doc)]
use crate::plan::config::JobConfig;

/// All figures, as a table in Markdown.
#[must_use]
pub fn reference() -> String {
    figures::reference()
}
