//! What is told of a checkpoint when it has ended: to the status, and to tracing.

use std::collections::BTreeSet;
use std::time::Duration;

use snapline_protocol::ids::{CheckpointId, SubtaskId};

use super::driver::{Driver, Gathered};
use super::status::{CheckpointStats, JobPhase, SubtaskStats, UnderWay, UnderWayStatus};

impl Driver {
    /// Brings the status up to date.
    pub(super) fn publish(&self) {
        let name = |place: usize| self.name(place);
        let all: BTreeSet<usize> = (0..self.subtasks()).collect();
        let way = |(&checkpoint, gathered): (&CheckpointId, &Gathered)| UnderWay {
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
                // These are of the moment at which somebody looks.
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

    /// A checkpoint has completed, or was given up.
    pub(super) fn checkpoint_ended(&mut self, checkpoint: CheckpointId, completed: bool) {
        let Some(gathered) = self.gathered.remove(&checkpoint) else { return };
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
        let stats = CheckpointStats {
            checkpoint,
            attempt: self.machine.attempt(),
            kind: gathered.kind,
            completed,
            duration: now.duration_since(triggered),
            ended_at: self.hosting.platform.clock.date(),
            acknowledged,
            missing,
        };
        tell(&stats);
        if !completed {
            self.missing.clone_from(&stats.missing);
        }
        self.board.ended(stats);
    }
}

fn tell(stats: &CheckpointStats) {
    let checkpoint = stats.checkpoint.get();
    let duration_ms = stats.duration.as_secs_f64() * 1e3;
    for subtask in &stats.acknowledged {
        let ms = |duration: Duration| duration.as_secs_f64() * 1e3;
        tracing::debug!(
            target: "snapline::checkpoint",
            checkpoint,
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
            checkpoint,
            kind = ?stats.kind,
            duration_ms,
            bytes = stats.written(),
            bytes_reused = stats.reused(),
            "complete"
        );
    } else {
        tracing::warn!(
            target: "snapline::checkpoint",
            checkpoint,
            kind = ?stats.kind,
            duration_ms,
            missing = stats.missing.join(", "),
            "given up"
        );
    }
}
