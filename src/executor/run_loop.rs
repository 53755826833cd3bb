//! A worker's turns: the order in which tasks get events and step, when the worker sleeps, and how
//! it ends.
//!
//! No wake-up is lost. A thread that gives a worker something to do, or ends it, does so first and
//! leaves a token second. The worker looks at everything it hosts between taking one token and
//! sleeping on the next. See [`crate::channel`] for the one case that needs more.

use std::time::Instant;

use crate::base::sync::{AtomicBool, Mailbox, Ordering, Unparker};

/// Rounds without work before a worker sleeps: waiting for a message that is a moment away costs
/// less than a wake-up.
const IDLE_ROUNDS: u32 = if cfg!(snapline_loom) { 0 } else { 64 };

/// The result of a step.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Step {
    /// There may be more to do.
    Worked,
    /// Nothing to do until a message comes.
    Idle,
    /// Nothing to do until then, or until a message comes.
    Until(Instant),
}

/// A task, which a worker hosts.
pub(crate) trait HostedTask {
    /// An event from outside its channels.
    type Event;
    /// Why it ends of its own accord.
    type Failure;

    /// Handles an event.
    fn on_event(&mut self, news: Self::Event) -> Result<(), Self::Failure>;

    /// How many steps it may take before the next task has its turn.
    fn steps_in_a_row(&self) -> u32;

    /// Does one thing, or finds nothing to do. Never waits.
    fn step(&mut self) -> Result<Step, Self::Failure>;

    /// The metrics of its turns, updated once each; `None` if they are not measured.
    fn clock(&self) -> Option<Instant> {
        None
    }

    /// Its turn begins.
    fn turn_begins(&mut self, now: Instant) {
        let _ = now;
    }

    /// Its turn ends; the flag says whether it has worked.
    fn turn_ends(&mut self, now: Instant, worked: bool) {
        let _ = (now, worked);
    }
}

/// Lets tasks handle events and step in turn until they are `over`; each event names its task.
///
/// # Errors
/// The first failure of a task.
pub(crate) fn turn<T: HostedTask>(
    mailbox: &Mailbox<(usize, T::Event)>,
    tasks: &mut [T],
    over: &AtomicBool,
) -> Result<(), T::Failure> {
    let mut idle = 0;
    // The end of one turn is the beginning of the next, unless there is something in between:
    // reading a clock costs as much as some records.
    let mut clock = None;
    while !over.load(Ordering::Acquire) {
        let mut worked = false;
        while let Some((slot, news)) = mailbox.take() {
            tasks[slot].on_event(news)?;
            worked = true;
        }
        let mut wake: Option<Instant> = None;
        if worked || clock.is_none() {
            clock = tasks.first().and_then(HostedTask::clock);
        }
        for task in tasks.iter_mut() {
            let mut busy = false;
            clock.into_iter().for_each(|now| task.turn_begins(now));
            for _ in 0..task.steps_in_a_row() {
                match task.step()? {
                    Step::Worked => busy = true,
                    Step::Idle => break,
                    Step::Until(until) => {
                        wake = Some(wake.map_or(until, |wake| wake.min(until)));
                        break;
                    }
                }
            }
            worked |= busy;
            // A turn without work takes no time worth measuring.
            if busy {
                clock = task.clock();
            }
            clock.into_iter().for_each(|now| task.turn_ends(now, busy));
        }
        if worked {
            idle = 0;
            continue;
        }
        // The time that passes now belongs to no turn.
        clock = None;
        if idle < IDLE_ROUNDS {
            idle += 1;
            std::hint::spin_loop();
        } else {
            // Anything that came since the last look has left a token, and this returns at once.
            mailbox.sleep(wake);
        }
    }
    Ok(())
}

/// Notifies workers that it is `over`, whether they sleep or not. They end when they have done what
/// they are doing.
pub(crate) fn end(over: &AtomicBool, workers: &[Unparker]) {
    over.store(true, Ordering::Release);
    workers.iter().for_each(Unparker::unpark);
}
