//! What takes two samples to see: how many records a second, how busy each task is, and which has
//! been in one step for long.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use snapline_protocol::ids::Attempt;

use crate::runtime::status::TaskStatus;

/// The number of samples over which the pace of a task is measured: five seconds.
const LOOKS: usize = 11;

/// A sample of a task.
#[derive(Clone, Copy, Default, Debug)]
struct TaskSample {
    records_in: u64,
    records_out: u64,
    busy: Duration,
    waited: Duration,
}

/// The pace of a task over the last few seconds.
#[derive(Clone, Copy, PartialEq, Default, Debug)]
pub(super) struct TaskPace {
    /// Records a second.
    pub(super) records_in: f64,
    /// Records a second.
    pub(super) records_out: f64,
    /// The share of the time in which it worked, at most 1.
    pub(super) busy: f64,
    /// The share of the time in which its output waited for room, at most 1.
    pub(super) backpressured: f64,
}

/// The last few samples of a job's tasks.
#[derive(Default, Debug)]
pub(super) struct TaskHistory {
    attempt: Option<Attempt>,
    looks: VecDeque<(Instant, Vec<TaskSample>)>,
    /// By task: the number of its step, and when it was first seen there.
    steps: Vec<(u64, Instant)>,
}

impl TaskHistory {
    /// Samples.
    pub(super) fn look(&mut self, now: Instant, attempt: Option<Attempt>, tasks: &[TaskStatus]) {
        if self.attempt != attempt || self.steps.len() != tasks.len() {
            // Another attempt starts anew.
            (self.attempt, self.looks) = (attempt, VecDeque::new());
            self.steps = tasks.iter().map(|task| (task.steps, now)).collect();
        }
        for (seen, task) in self.steps.iter_mut().zip(tasks) {
            if seen.0 != task.steps {
                *seen = (task.steps, now);
            }
        }
        if self.looks.len() >= LOOKS {
            self.looks.pop_front();
        }
        let seen = |task: &TaskStatus| TaskSample {
            records_in: task.records_in,
            records_out: task.records_out,
            busy: task.busy,
            waited: task.waited_for_room,
        };
        self.looks.push_back((now, tasks.iter().map(seen).collect()));
    }

    /// The pace of a task over the last few seconds; `None` while there are too few samples.
    pub(super) fn pace(&self, task: usize) -> Option<TaskPace> {
        let ((before, first), (now, last)) = (self.looks.front()?, self.looks.back()?);
        let (first, last) = (first.get(task)?, last.get(task)?);
        let seconds = now.saturating_duration_since(*before).as_secs_f64();
        let rate = |before: u64, now: u64| now.saturating_sub(before) as f64 / seconds;
        // The samples and the tasks read the clock at different moments: a share may come out a
        // little too large.
        let share = |before: Duration, now: Duration| {
            (now.saturating_sub(before).as_secs_f64() / seconds).min(1.0)
        };
        (seconds > 0.0).then(|| TaskPace {
            records_in: rate(first.records_in, last.records_in),
            records_out: rate(first.records_out, last.records_out),
            busy: share(first.busy, last.busy),
            backpressured: share(first.waited, last.waited),
        })
    }

    /// For how long, at least, a task has been in one step; zero if it is in none.
    pub(super) fn in_one_step(&self, task: usize) -> Duration {
        let Some(((now, _), (step, since))) = self.looks.back().zip(self.steps.get(task)) else {
            return Duration::ZERO;
        };
        match step % 2 {
            1 => now.saturating_duration_since(*since),
            _ => Duration::ZERO,
        }
    }
}

#[cfg(test)]
mod tests {
    use snapline_protocol::ids::Term;

    use super::*;

    fn task(steps: u64, records_in: u64) -> TaskStatus {
        TaskStatus {
            subtask: "map".into(),
            operator: "map".into(),
            worker: 0,
            inputs: Vec::new(),
            steps,
            waits_for_room: false,
            records_in,
            records_out: records_in / 2,
            busy: Duration::from_millis(5 * records_in),
            waited_for_room: Duration::from_millis(40 * records_in),
            ..TaskStatus::default()
        }
    }

    #[test]
    fn pace_and_long_steps_are_seen_by_looking_twice() {
        let (mut watch, start) = (TaskHistory::default(), Instant::now());
        let attempt = Some(Attempt::first(Term::new(1)));
        let look = |watch: &mut TaskHistory, after: u64, steps, records| {
            let now = start + Duration::from_secs(after);
            watch.look(now, attempt, &[task(steps, records)]);
        };
        assert_eq!((watch.pace(0), watch.in_one_step(0)), (None, Duration::ZERO));
        look(&mut watch, 0, 7, 0);
        assert_eq!(watch.pace(0), None, "one look tells no pace");
        look(&mut watch, 2, 7, 100);
        // 0.5 s of 2 s; and 4 s of them, which is impossible.
        let pace = TaskPace { records_in: 50.0, records_out: 25.0, busy: 0.25, backpressured: 1.0 };
        assert_eq!(watch.pace(0), Some(pace));
        assert_eq!(watch.in_one_step(0), Duration::from_secs(2));
        assert_eq!(watch.in_one_step(1), Duration::ZERO, "there is no such task");
        look(&mut watch, 3, 8, 100);
        assert_eq!(watch.in_one_step(0), Duration::ZERO, "between two steps it is in none");
        for after in 4..100 {
            look(&mut watch, after, 8, 100);
        }
        assert_eq!(watch.pace(0), Some(TaskPace::default()), "what was long ago does not count");
        watch.look(start, Some(Attempt::first(Term::new(2))), &[task(0, 5)]);
        assert_eq!(watch.pace(0), None, "another attempt counts anew");
    }
}
