//! Holds a task in the middle of a step.

use std::sync::{Condvar, Mutex};
use std::time::Duration;

/// Holds whoever passes while it is shut.
#[derive(Default)]
pub(crate) struct Gate(Mutex<Held>, Condvar);

#[derive(Default)]
struct Held {
    shut: bool,
    /// Whether somebody has come to it since it was shut.
    someone: bool,
}

impl Gate {
    /// Shuts it, and waits until somebody stands before it.
    pub(crate) fn shut(&self) -> Shut<'_> {
        let mut held = self.0.lock().expect("nobody panics");
        *held = Held { shut: true, someone: false };
        let waited = self.1.wait_timeout_while(held, Duration::from_secs(60), |held| !held.someone);
        assert!(!waited.expect("nobody panics").1.timed_out(), "no record comes to the gate");
        Shut(self)
    }

    /// Goes through, once it is open.
    pub(crate) fn pass(&self) {
        let mut held = self.0.lock().expect("nobody panics");
        held.someone = true;
        self.1.notify_all();
        drop(self.1.wait_while(held, |held| held.shut).expect("nobody panics"));
    }
}

/// Opens the gate again, whatever happens in between: a failed test must not wait for its own job.
pub(crate) struct Shut<'a>(&'a Gate);

impl Drop for Shut<'_> {
    fn drop(&mut self) {
        self.0.0.lock().expect("nobody panics").shut = false;
        self.0.1.notify_all();
    }
}
