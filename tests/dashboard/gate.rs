//! Blocks a task in the middle of a step.

use std::sync::{Condvar, Mutex};
use std::time::Duration;

/// Blocks every thread that passes while it is shut.
#[derive(Default)]
pub(crate) struct Gate(Mutex<Held>, Condvar);

#[derive(Default)]
struct Held {
    shut: bool,
    /// Whether a thread has arrived since it was shut.
    someone: bool,
}

impl Gate {
    /// Shuts it, and waits until a thread has arrived.
    pub(crate) fn shut(&self) -> Shut<'_> {
        let mut held = self.0.lock().expect("no thread panics");
        *held = Held { shut: true, someone: false };
        let waited = self.1.wait_timeout_while(held, Duration::from_secs(60), |held| !held.someone);
        assert!(!waited.expect("no thread panics").1.timed_out(), "no record comes to the gate");
        Shut(self)
    }

    /// Waits until it is open.
    pub(crate) fn pass(&self) {
        let mut held = self.0.lock().expect("no thread panics");
        held.someone = true;
        self.1.notify_all();
        drop(self.1.wait_while(held, |held| held.shut).expect("no thread panics"));
    }
}

/// Opens the gate on drop, so that a failed test does not wait for its own job.
pub(crate) struct Shut<'a>(&'a Gate);

impl Drop for Shut<'_> {
    fn drop(&mut self) {
        self.0.0.lock().expect("no thread panics").shut = false;
        self.0.1.notify_all();
    }
}
