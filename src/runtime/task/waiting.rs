//! What a task does by the clock.

use crate::base::clock;
use crate::base::error::BoxError;
use crate::operator::time::Timestamp;
use crate::runtime::task::{Step, Task};

impl Task {
    /// Does what is due by the clock; `None` if nothing will be due without a new event.
    pub(crate) fn wake(&mut self) -> Result<Option<Step>, BoxError> {
        let Some(at) = self.body.wake() else { return Ok(None) };
        let inputs = self.aligner_config.inputs;
        // What is due at the end comes with it, and a suspended source emits nothing.
        if self.aligner.has_ended(&self.aligner_config) || (inputs == 0 && !self.aligner.may_emit())
        {
            return Ok(None);
        }
        self.wait_for(at).map(Some)
    }

    /// Does what is due at this time, if it has come.
    pub(crate) fn wait_for(&mut self, at: Timestamp) -> Result<Step, BoxError> {
        let wall = &self.links.platform.clock;
        let date = wall.date();
        // To the nanosecond: a sleep rounded to a millisecond would end after work is due.
        let left = at.date().and_then(|at| at.duration_since(date).ok());
        match left.filter(|left| !left.is_zero()) {
            Some(left) => Ok(Step::Until(clock::after(wall.now(), left))),
            None => {
                self.body.due(Timestamp::from(date))?;
                self.count(0);
                Ok(Step::Worked)
            }
        }
    }
}
