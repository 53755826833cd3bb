//! What a task reports to the coordinator: messages, their details, and failures.

use snapline_protocol::message::{Report, ToCoordinator};

use crate::base::error::BoxError;
use crate::base::fault::Mutation;
use crate::runtime::events::{AckDetails, Beside, Cause, DriverEvent};
use crate::runtime::failure::{FailedAt, TaskFailure};
use crate::runtime::task::{Task, TaskIdentity};

impl Task {
    pub(in crate::runtime) fn failure(&self, doing: &'static str, cause: BoxError) -> TaskFailure {
        let TaskIdentity { operator, index, attempt, classify, .. } = &self.identity;
        let (operator, subtask) = (operator.clone(), *index);
        let (attempt, classify) = (*attempt, *classify);
        TaskFailure { operator, subtask, attempt, doing, cause, at: None, classify }
    }

    /// Its place in its input.
    pub(crate) fn place(&self) -> FailedAt {
        let in_hand = self.body.in_hand();
        match self.looking_at {
            _ if self.inputs() == 0 => {
                FailedAt { input: None, after: self.body.read_before(), among: in_hand.max(1) }
            }
            Some(input) => {
                FailedAt { input: Some(input), after: self.taken[input], among: in_hand }
            }
            None => FailedAt { input: None, after: self.received(), among: 1 },
        }
    }

    pub(in crate::runtime) fn send(&mut self, message: ToCoordinator) {
        let part = |part: Option<Box<AckDetails>>| part.map_or(Beside::Nothing, Beside::AckDetails);
        let beside = match message.report {
            Report::Ack(_)
                if self.links.platform.faults.is_active(Mutation::AbortedUploadAcked) =>
            {
                part(self.parts.pop_first().map(|(_, part)| part))
            }
            Report::Ack(ack) => part(self.parts.remove(&ack.checkpoint())),
            Report::Decline { checkpoint, .. } => {
                let unwritten = self.unwritten.take_if(|(declined, _)| *declined == checkpoint);
                let name = &self.gauges.name;
                Beside::Cause(unwritten.map_or_else(
                    || Cause::passing(format!("{name} has seen the barrier of a later one")),
                    |(_, cause)| cause,
                ))
            }
            Report::Resolved { .. } => Beside::Nothing,
        };
        self.notify(DriverEvent::Report(message, beside));
    }

    pub(crate) fn notify(&self, notice: DriverEvent) {
        // A coordinator that is gone has ended this attempt, or is about to.
        let _ = self.links.coordinator.send(notice);
    }
}
