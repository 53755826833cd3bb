//! What the engine runs on. In production that is the operating system's threads and clock; a simulator puts its own in their place.

use std::time::Duration;

use snapline_protocol::fence::Claimant;

use crate::base::clock::Clock;
use crate::base::fault::Faults;
use crate::base::random::random;
use crate::base::sync::Arc;
use crate::executor::io_pool::IoPool;

/// A simulator, which takes the place of the operating system.
pub(crate) trait SimHooks: Send + Sync {
    /// Where what lanes would do is left.
    fn lanes(&self, count: usize) -> IoPool;

    /// The number of a coordinator.
    fn claimant(&self) -> Claimant;

    /// What the hashes of keys begin with.
    fn hash_seed(&self) -> u64;
}

/// Clones are the same.
#[derive(Clone, Default)]
pub(crate) struct Platform {
    pub(crate) clock: Clock,
    /// `None`: the operating system.
    pub(crate) hooks: Option<Arc<dyn SimHooks>>,
    pub(crate) faults: Faults,
}

impl Platform {
    /// Lanes for what may wait, each no longer than the limit for one thing.
    ///
    /// # Errors
    /// If the operating system gives no thread.
    pub(crate) fn lanes(&self, count: usize, limit: Duration) -> std::io::Result<IoPool> {
        match &self.hooks {
            Some(hooks) => Ok(hooks.lanes(count)),
            None => Ok(IoPool::start(count)?.limited(limit)),
        }
    }

    /// A number that no other coordinator draws (SPEC 2.13).
    pub(crate) fn claimant(&self) -> Claimant {
        self.hooks.as_ref().map_or_else(|| Claimant(random()), |hooks| hooks.claimant())
    }

    /// What the hashes of keys begin with, in a job that begins here (SPEC 14.1).
    pub(crate) fn hash_seed(&self) -> u64 {
        self.hooks.as_ref().map_or_else(random, |hooks| hooks.hash_seed())
    }
}
