//! Reports of checkpoints and attempts, to the status and to tracing. SPEC 15.7 lists them.

use std::collections::BTreeSet;
use std::time::Duration;

use snapline_protocol::ids::{Attempt, CheckpointId, SubtaskId};
use snapline_protocol::message::CheckpointKind;
use tracing::Span;
use tracing::field::Empty;

use crate::runtime::coordinator::{Driver, PendingCheckpoint};
use crate::runtime::events::Cause;
use crate::runtime::status::{
    CheckpointStats, InFlightCheckpoint, JobPhase, SubtaskStats, UnderWayStatus,
};

/// The current spans. Each has no parent, and those of checkpoints follow from that of their
/// attempt. Tools show a trace only when it ends, and an attempt may take months.
pub(crate) struct Spans {
    pub(crate) attempt: Span,
    recovery: Span,
}

impl Default for Spans {
    fn default() -> Self {
        Self { attempt: Span::none(), recovery: Span::none() }
    }
}

impl Spans {
    /// A recovery begins, with this pause.
    pub(crate) fn recovers(&mut self, job: &str, pause: Duration) {
        self.recovery = tracing::info_span!(
            target: "snapline::job", parent: None, "recovery",
            job, attempt = Empty, restored = Empty, pause_ms = pause.as_secs_f64() * 1e3,
        );
    }

    /// The recovery has ended, and an attempt begins.
    pub(crate) fn deploys(&mut self, job: &str, attempt: Attempt, restored: Option<CheckpointId>) {
        let recovery = std::mem::replace(&mut self.recovery, Span::none());
        let (name, restored) = (tracing::field::display(attempt), restored.map(CheckpointId::get));
        recovery.record("attempt", &name);
        restored.iter().for_each(|restored| _ = recovery.record("restored", restored));
        self.attempt = tracing::info_span!(
            target: "snapline::job", parent: None, "attempt", job, attempt = name, restored,
        );
        self.attempt.follows_from(&recovery);
    }

    /// A checkpoint is triggered.
    pub(crate) fn checkpoint(
        &self,
        job: &str,
        checkpoint: CheckpointId,
        attempt: Attempt,
        kind: Option<CheckpointKind>,
    ) -> Span {
        let span = tracing::info_span!(
            target: "snapline::checkpoint", parent: None, "checkpoint",
            job, checkpoint = checkpoint.get(), %attempt, ?kind,
            completed = Empty, bytes = Empty, bytes_reused = Empty, missing = Empty, cause = Empty,
            // A name that tracing-opentelemetry knows.
            otel.status_code = Empty,
        );
        span.follows_from(&self.attempt);
        span
    }
}

impl Driver {
    /// Updates the status.
    pub(crate) fn publish(&self) {
        let name = |place: usize| self.name(place);
        let all: BTreeSet<usize> = (0..self.subtasks()).collect();
        let way =
            |(&checkpoint, gathered): (&CheckpointId, &PendingCheckpoint)| InFlightCheckpoint {
                triggered: gathered.triggered,
                status: UnderWayStatus {
                    checkpoint,
                    kind: gathered.kind,
                    acknowledged: gathered.acked.iter().map(name).collect(),
                    missing: all
                        .iter()
                        .copied()
                        .filter(|&s| !gathered.acked.contains(s))
                        .map(name)
                        .collect(),
                    // These are computed when the status is read.
                    running: Duration::ZERO,
                    stages: Vec::new(),
                },
            };
        let under_way = self.gathered.iter().map(way).collect();
        let closing = self.machine.is_over();
        let newest = self.machine.newest();
        let recording_failed = self.hosting.recorder.failure();
        self.board.under_way(under_way);
        self.board.update(|status| {
            status.newest_checkpoint = newest;
            status.recording_failed = recording_failed;
            if closing && status.phase == JobPhase::Running {
                status.phase = JobPhase::Closing;
            }
        });
    }

    /// A checkpoint has completed, or was aborted: its statistics.
    pub(crate) fn checkpoint_ended(
        &mut self,
        checkpoint: CheckpointId,
        completed: bool,
    ) -> Option<CheckpointStats> {
        let gathered = self.gathered.remove(&checkpoint)?;
        let now = self.hosting.platform.clock.now();
        self.last_end = Some(now);
        let triggered = gathered.triggered.unwrap_or(now);
        let acknowledged = gathered.parts.iter().map(|(&subtask, part)| SubtaskStats {
            subtask: self.name(subtask.index()),
            start_delay: part.first_barrier.saturating_duration_since(triggered),
            alignment: part.taken.saturating_duration_since(part.first_barrier),
            sync: part.sync,
            writing: part.writing,
            written: part.snapshot.written,
            reused: part.snapshot.reused,
        });
        let acknowledged: Vec<SubtaskStats> = acknowledged.collect();
        let has = |subtask: &usize| gathered.parts.contains_key(&SubtaskId::new(*subtask as u16));
        let missing = (0..self.subtasks()).filter(|subtask| !has(subtask));
        let missing: Vec<String> = missing.map(|subtask| self.name(subtask)).collect();
        let superfluous = self.machine.newest() > Some(checkpoint);
        let cause = match completed {
            true => None,
            false if superfluous => Some(Cause::passing("a newer one completed first".to_owned())),
            false => gathered.cause.clone().or_else(|| {
                self.failure.as_ref().map(|failure| Cause::passing(failure.to_string()))
            }),
        };
        let stats = CheckpointStats {
            checkpoint,
            attempt: self.machine.attempt(),
            kind: gathered.kind,
            completed,
            duration: now.duration_since(triggered),
            ended_at: self.hosting.platform.clock.date(),
            acknowledged,
            missing,
            cause: cause.as_ref().map(|cause| cause.text.clone()),
        };
        gathered.span.in_scope(|| tell(self.job(), &stats));
        gathered.span.record("completed", completed);
        gathered.span.record("bytes", stats.written());
        gathered.span.record("bytes_reused", stats.reused());
        if !completed {
            gathered.span.record("missing", stats.missing.join(", "));
            gathered.span.record("cause", &stats.cause);
        }
        gathered.span.record("otel.status_code", if completed { "OK" } else { "ERROR" });
        drop(gathered);
        let text = stats.to_string();
        if !completed {
            self.missing.clone_from(&stats.missing);
        }
        self.board.ended(stats.clone());
        // A failed task's report covers the checkpoints it takes with it; a superseded checkpoint
        // is not a failure.
        if completed {
            self.completed();
        } else if !superfluous && self.failure.is_none() {
            self.given_up(text, cause);
        }
        Some(stats)
    }
}

fn tell(job: &str, stats: &CheckpointStats) {
    let (checkpoint, attempt) = (stats.checkpoint.get(), stats.attempt);
    let duration_ms = stats.duration.as_secs_f64() * 1e3;
    for subtask in &stats.acknowledged {
        let ms = |duration: Duration| duration.as_secs_f64() * 1e3;
        tracing::debug!(
            target: "snapline::checkpoint",
            job,
            checkpoint,
            %attempt,
            subtask = subtask.subtask,
            start_delay_ms = ms(subtask.start_delay),
            alignment_ms = ms(subtask.alignment),
            sync_ms = ms(subtask.sync),
            async_ms = ms(subtask.writing),
            bytes = subtask.written,
            bytes_reused = subtask.reused,
            "acknowledged"
        );
    }
    if stats.completed {
        tracing::info!(
            target: "snapline::checkpoint",
            job,
            checkpoint,
            %attempt,
            kind = ?stats.kind,
            duration_ms,
            bytes = stats.written(),
            bytes_reused = stats.reused(),
            "complete"
        );
    } else {
        tracing::warn!(
            target: "snapline::checkpoint",
            job,
            checkpoint,
            %attempt,
            kind = ?stats.kind,
            duration_ms,
            missing = stats.missing.join(", "),
            cause = stats.cause.as_deref().unwrap_or_default(),
            "given up"
        );
    }
}
