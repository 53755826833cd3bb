//! A worker: one thread that hosts some subtasks and lets them step in turn.

use std::collections::VecDeque;
use std::time::Instant;

use crate::base::sync::{AtomicBool, Mailbox, MailboxSender, Ordering, Unparker};
use crate::executor::run_loop::{HostedTask, turn};
use crate::runtime::failure::TaskFailure;
use crate::runtime::task::{Step, Task, TaskEvent};

/// Opens a task, on the thread of its worker.
pub(crate) type OpenTask = Box<dyn FnOnce() -> Result<Task, TaskFailure> + Send>;

/// The address for events of one task of a worker.
#[derive(Clone)]
pub(crate) struct Address {
    /// The number of the task within its worker.
    slot: usize,
    worker: MailboxSender<(usize, TaskEvent)>,
}

impl Address {
    /// Leaves an event and wakes the worker. A worker that is gone needs none.
    pub(crate) fn send(&self, event: TaskEvent) {
        let _ = self.worker.send((self.slot, event));
    }
}

impl Address {
    /// A planted fault: the sender of an event does not wake the worker.
    pub(crate) fn silenced(self) -> Self {
        Self { worker: self.worker.silenced(), ..self }
    }
}

impl HostedTask for Task {
    type Event = TaskEvent;
    type Failure = TaskFailure;

    fn on_event(&mut self, news: TaskEvent) -> Result<(), TaskFailure> {
        Self::on_event(self, news)
    }

    fn step(&mut self) -> Result<Step, TaskFailure> {
        Self::step(self)
    }

    fn clock(&self) -> Option<Instant> {
        Some(self.now())
    }

    fn turn_begins(&mut self, now: Instant) {
        self.gauges.turn_begins(now);
        self.reading.begins(now);
    }

    fn turn_ends(&mut self, now: Instant, worked: bool) {
        self.gauges.turn_ends(now, worked);
        if worked {
            self.reading.ends(now);
        }
    }

    fn steps_in_a_row(&self) -> u32 {
        // Consumers step first: a source that runs ahead of its consumers fills the channels, and
        // the caches with them.
        if self.inputs() == 0 { 1 } else { 16 }
    }
}

/// A worker before it runs: its channels and mailboxes can be made.
pub(crate) struct WorkerBuilder {
    mailbox: Mailbox<(usize, TaskEvent)>,
    tasks: usize,
}

impl WorkerBuilder {
    pub(crate) fn new() -> Self {
        Self { mailbox: Mailbox::new(), tasks: 0 }
    }

    /// Wakes the worker.
    pub(crate) fn unparker(&self) -> Unparker {
        self.mailbox.unparker().clone()
    }

    /// The address of the worker's next task.
    pub(crate) fn next_task(&mut self) -> Address {
        let slot = self.tasks;
        self.tasks += 1;
        Address { slot, worker: self.mailbox.post() }
    }

    /// Builds the worker: its tasks are still to be opened, in the order of their addresses.
    pub(crate) fn take(self, open: Vec<OpenTask>) -> Worker {
        let tasks = Vec::with_capacity(open.len());
        Worker { mailbox: self.mailbox, open: open.into(), tasks }
    }
}

/// A worker: its tasks, opened and to be opened.
pub(crate) struct Worker {
    mailbox: Mailbox<(usize, TaskEvent)>,
    open: VecDeque<OpenTask>,
    tasks: Vec<Task>,
}

impl Worker {
    /// Opens the next task; returns whether there was one.
    pub(crate) fn open_next(&mut self) -> Result<bool, TaskFailure> {
        let Some(open) = self.open.pop_front() else { return Ok(false) };
        self.tasks.push(open()?);
        Ok(true)
    }

    /// Works until the attempt is over or one of the tasks fails.
    ///
    /// # Errors
    /// The failure of a task; the others take no further step.
    pub(crate) fn run(mut self, over: &AtomicBool) -> Result<(), TaskFailure> {
        while !over.load(Ordering::Acquire) && self.open_next()? {}
        turn(&self.mailbox, &mut self.tasks, over)
    }
}

/// The simulator's access to a worker that it runs itself.
#[cfg(feature = "sim")]
impl Worker {
    /// Its mailbox.
    pub(crate) const fn mailbox(&self) -> &Mailbox<(usize, TaskEvent)> {
        &self.mailbox
    }

    /// Its tasks that are open.
    pub(crate) fn tasks(&mut self) -> &mut [Task] {
        &mut self.tasks
    }

    /// Its open tasks, to inspect.
    pub(crate) fn open_tasks(&self) -> &[Task] {
        &self.tasks
    }

    /// The number of tasks still to be opened.
    pub(crate) fn unopened(&self) -> usize {
        self.open.len()
    }

    /// Handles the oldest event, if there is one.
    pub(crate) fn take_next_event(&mut self) -> Result<(), TaskFailure> {
        match self.mailbox.take() {
            Some((slot, news)) => self.tasks[slot].on_event(news),
            None => Ok(()),
        }
    }
}
