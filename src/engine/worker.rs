//! A worker: one thread that hosts some subtasks and lets them step in turn.

use std::time::Instant;

use super::Notice;
use super::failure::TaskFailure;
use super::task::{News, Step, Task};
use crate::sync::{Arc, AtomicBool, Ordering, Parker, Unparker};

/// Rounds without work before a worker sleeps: a message that is a moment away costs less to wait for than to be woken by.
const IDLE_ROUNDS: u32 = 64;

/// Opens a task, on the thread of its worker.
pub(crate) type OpenTask = Box<dyn FnOnce() -> Result<Task, TaskFailure> + Send>;

/// Where news for one task of a worker go.
#[derive(Clone)]
pub(crate) struct Address {
    /// Which of the worker's tasks.
    slot: usize,
    mailbox: crossbeam_channel::Sender<(usize, News)>,
    worker: Unparker,
}

impl Address {
    /// Leaves news and wakes the worker. A worker that is gone needs none.
    pub(crate) fn tell(&self, news: News) {
        if self.mailbox.send((self.slot, news)).is_ok() {
            self.worker.unpark();
        }
    }
}

/// A worker before it runs: its channels and mailboxes can be made.
pub(crate) struct Seat {
    parker: Parker,
    sender: crossbeam_channel::Sender<(usize, News)>,
    mailbox: crossbeam_channel::Receiver<(usize, News)>,
    tasks: usize,
}

impl Seat {
    pub(crate) fn new() -> Self {
        let (sender, mailbox) = crossbeam_channel::unbounded();
        Self { parker: Parker::new(), sender, mailbox, tasks: 0 }
    }

    /// What wakes the worker.
    pub(crate) fn unparker(&self) -> Unparker {
        self.parker.unparker().clone()
    }

    /// The address of the worker's next task.
    pub(crate) fn next_task(&mut self) -> Address {
        let slot = self.tasks;
        self.tasks += 1;
        Address { slot, mailbox: self.sender.clone(), worker: self.unparker() }
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
        if let Err(failure) = self.turn(&mut tasks, over) {
            report(failure);
        }
    }

    fn turn(&self, tasks: &mut [Task], over: &AtomicBool) -> Result<(), TaskFailure> {
        let mut idle = 0;
        while !over.load(Ordering::Acquire) {
            let mut worked = false;
            while let Ok((slot, news)) = self.mailbox.try_recv() {
                tasks[slot].hear(news)?;
                worked = true;
            }
            let mut wake: Option<Instant> = None;
            for task in tasks.iter_mut() {
                for _ in 0..task.steps_in_a_row() {
                    match task.step(Instant::now)? {
                        Step::Worked => worked = true,
                        Step::Idle => break,
                        Step::Until(until) => {
                            wake = Some(wake.map_or(until, |wake| wake.min(until)));
                            break;
                        }
                    }
                }
            }
            if worked {
                idle = 0;
            } else if idle < IDLE_ROUNDS {
                idle += 1;
                std::hint::spin_loop();
            } else {
                // Whatever came since the last look has left a token, and this returns at once.
                match wake {
                    Some(until) => self.parker.park_deadline(until),
                    None => self.parker.park(),
                }
            }
        }
        Ok(())
    }
}
