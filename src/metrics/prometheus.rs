//! Text for Prometheus.

use std::fmt;

use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusRecorder};

use super::figures;
use super::publish::Sampler;
use crate::runtime::handle::JobHandle;
use crate::runtime::status::StatusBoard;

/// Bounds of a checkpoint's duration, in seconds.
const BOUNDS: [f64; 14] =
    [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0];

/// Renders the figures of jobs as text, in the format that Prometheus reads (0.0.4). Each request
/// reads the current figures; see [the module](super).
///
/// Milliseconds a second are those since the last request: let a single scraper have one of these.
pub struct Prometheus {
    recorder: PrometheusRecorder,
    samplers: Vec<Sampler>,
}

impl fmt::Debug for Prometheus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Prometheus({} jobs)", self.samplers.len())
    }
}

impl Default for Prometheus {
    fn default() -> Self {
        let duration = Matcher::Full(figures::DURATION.name.to_owned());
        let builder = PrometheusBuilder::new().set_buckets_for_metric(duration, &BOUNDS);
        // Invariant: only an empty list of bounds is refused.
        let recorder = builder.expect("there are bounds").build_recorder();
        Self { recorder, samplers: Vec::new() }
    }
}

impl Prometheus {
    /// The format's media type: the `Content-Type` of the answer.
    pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

    /// Without a job.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Renders the figures of this job too, from now on. When it is over they keep their last
    /// values. Their names distinguish jobs: give them different ones.
    pub fn watch(&mut self, job: &JobHandle) {
        self.watch_board(&job.name, job.board.clone());
    }

    pub(crate) fn watch_board(&mut self, job: &str, board: StatusBoard) {
        self.samplers.push(Sampler::new(job, board));
    }

    /// The current figures.
    #[must_use]
    pub fn render(&mut self) -> String {
        for sampler in &mut self.samplers {
            sampler.publish(&self.recorder);
        }
        self.recorder.handle().render()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_figures_are_described_and_no_two_have_a_name() {
        let mut names: Vec<&str> = figures::names().collect();
        let count = names.len();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), count);
        for figure in figures::FIGURES {
            let counter = figure.kind == figures::MetricKind::Counter;
            assert_eq!(figure.name.ends_with("_total"), counter, "{}", figure.name);
        }
    }
}
