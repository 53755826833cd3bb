//! A worker's turns: who is heard and steps when, when the worker sleeps, and how it comes to an end.
//!
//! No wake-up is lost: whoever gives a worker something to do, or ends it, does so first and leaves a token second; the worker looks at
//! everything it hosts between taking one token and sleeping on the next. See [`crate::channel`] for the one case that needs more.

use std::time::Instant;

use crate::base::sync::{AtomicBool, Mailbox, Ordering, Unparker};

/// Rounds without work before a worker sleeps: a message that is a moment away costs less to wait for than to be woken by.
const IDLE_ROUNDS: u32 = if cfg!(snapline_loom) { 0 } else { 64 };

/// What a step came to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Step {
    /// There may be more to do.
    Worked,
    /// Nothing to do until a message comes.
    Idle,
    /// Nothing to do until then, or until a message comes.
    Until(Instant),
}

/// What a worker hosts: a task.
pub(crate) trait HostedTask {
    /// What comes for it from beside its channels.
    type Event;
    /// Why it ends before it is told to.
    type Failure;

    /// Takes news in.
    fn on_event(&mut self, news: Self::Event) -> Result<(), Self::Failure>;

    /// How many steps it may take before the next has its turn.
    fn steps_in_a_row(&self) -> u32;

    /// Does one thing, or finds that there is none to do. Never waits.
    fn step(&mut self) -> Result<Step, Self::Failure>;

    /// By what its turns are measured, once each; `None` if they are not.
    fn clock(&self) -> Option<Instant> {
        None
    }

    /// Its turn begins.
    fn turn_begins(&mut self, now: Instant) {
        let _ = now;
    }

    /// Its turn ends; whether it has worked.
    fn turn_ends(&mut self, now: Instant, worked: bool) {
        let _ = (now, worked);
    }
}

/// Lets tasks hear and step in turn until they are `over`; news say for which of them they are.
///
/// # Errors
/// The first failure of a task.
pub(crate) fn turn<T: HostedTask>(
    mailbox: &Mailbox<(usize, T::Event)>,
    tasks: &mut [T],
    over: &AtomicBool,
) -> Result<(), T::Failure> {
    let mut idle = 0;
    // The end of one turn is the beginning of the next, unless there is something in between: reading a clock costs as much as some records.
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
            // One that finds nothing to do takes no time worth measuring.
            if busy {
                clock = task.clock();
            }
            clock.into_iter().for_each(|now| task.turn_ends(now, busy));
        }
        if worked {
            idle = 0;
            continue;
        }
        // What passes now is nobody's turn.
        clock = None;
        if idle < IDLE_ROUNDS {
            idle += 1;
            std::hint::spin_loop();
        } else {
            // Whatever came since the last look has left a token, and this returns at once.
            mailbox.sleep(wake);
        }
    }
    Ok(())
}

/// Tells workers that it is `over`, whether they sleep or not. They end when they have done what they are doing.
pub(crate) fn end(over: &AtomicBool, workers: &[Unparker]) {
    over.store(true, Ordering::Release);
    workers.iter().for_each(Unparker::unpark);
}
