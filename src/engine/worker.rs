//! A worker: one thread that hosts some subtasks and lets them step in turn.

use std::time::Instant;

use super::Notice;
use super::failure::TaskFailure;
use super::task::{News, Step, Task};
use super::turn::{Hosted, turn};
use crate::sync::{Arc, AtomicBool, Mailbox, Ordering, Post, Unparker};

/// Opens a task, on the thread of its worker.
pub(crate) type OpenTask = Box<dyn FnOnce() -> Result<Task, TaskFailure> + Send>;

/// Where news for one task of a worker go.
#[derive(Clone)]
pub(crate) struct Address {
    /// Which of the worker's tasks.
    slot: usize,
    worker: Post<(usize, News)>,
}

impl Address {
    /// Leaves news and wakes the worker. A worker that is gone needs none.
    pub(crate) fn tell(&self, news: News) {
        let _ = self.worker.send((self.slot, news));
    }
}

impl Hosted for Task {
    type News = News;
    type Failure = TaskFailure;

    fn hear(&mut self, news: News) -> Result<(), TaskFailure> {
        Self::hear(self, news)
    }

    fn steps_in_a_row(&self) -> u32 {
        Self::steps_in_a_row(self)
    }

    fn step(&mut self) -> Result<Step, TaskFailure> {
        Self::step(self, Instant::now)
    }
}

/// A worker before it runs: its channels and mailboxes can be made.
pub(crate) struct Seat {
    mailbox: Mailbox<(usize, News)>,
    tasks: usize,
}

impl Seat {
    pub(crate) fn new() -> Self {
        Self { mailbox: Mailbox::new(), tasks: 0 }
    }

    /// What wakes the worker.
    pub(crate) fn unparker(&self) -> Unparker {
        self.mailbox.unparker().clone()
    }

    /// The address of the worker's next task.
    pub(crate) fn next_task(&mut self) -> Address {
        let slot = self.tasks;
        self.tasks += 1;
        Address { slot, worker: self.mailbox.post() }
    }

    /// Runs tasks, in the order of their addresses, until the attempt is over or one of them fails.
    pub(crate) fn run(
        self,
        open: Vec<OpenTask>,
        over: &Arc<AtomicBool>,
        coordinator: &crossbeam_channel::Sender<Notice>,
    ) {
        let report = |failure: TaskFailure| {
            // A coordinator that is gone needs no report.
            let _ = coordinator.send(Notice::Failed(Box::new(failure)));
        };
        let mut tasks = Vec::with_capacity(open.len());
        for open in open {
            if over.load(Ordering::Acquire) {
                return;
            }
            match open() {
                Ok(task) => tasks.push(task),
                Err(failure) => return report(failure),
            }
        }
        if let Err(failure) = turn(&self.mailbox, &mut tasks, over) {
            report(failure);
        }
    }
}
