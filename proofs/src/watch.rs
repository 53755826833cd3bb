//! The runtime's `core/src/base/watch.rs`, as far as the I/O pool uses it: no checker models time, so
//! nothing hangs.

use std::time::Duration;

/// The watch of a thread that is never found to hang.
#[derive(Clone, Default)]
pub(crate) struct Watch(());

/// A hanging thread: there is none.
#[derive(Debug)]
pub(crate) enum Hung {}

impl Watch {
    pub(crate) fn over<R>(&self, run: impl FnOnce() -> R) -> R {
        run()
    }

    pub(crate) fn hung(&self, _limit: Duration) -> Option<Hung> {
        None
    }

    pub(crate) fn thaw(&self) {}

    pub(crate) fn gone(&self, _limit: Duration) -> Result<(), Hung> {
        Ok(())
    }
}

pub(crate) fn begin(_doing: &'static str, _subtask: Option<usize>) {}

/// A panic belongs to a theorem that does not hold: it propagates to the checker.
pub(crate) fn guard(_doing: &'static str, run: impl FnOnce()) {
    run();
}

pub(crate) fn wait() {}
