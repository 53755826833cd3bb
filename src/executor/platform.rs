//! The platform of the runtime: in production the operating system's threads and clock, which a
//! simulator replaces.

use std::time::Duration;

use snapline_protocol::fence::Claimant;

use crate::base::clock::Clock;
use crate::base::fault::Faults;
use crate::base::random::random;
use crate::base::sync::Arc;
use crate::executor::io_pool::IoPool;

/// A simulator, which replaces the operating system.
pub(crate) trait SimHooks: Send + Sync {
    /// Where requests for lanes are left.
    fn io_pool(&self, count: usize) -> IoPool;

    /// The number of a coordinator.
    fn claimant(&self) -> Claimant;

    /// The seed of key hashes.
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
    /// Lanes for blocking work, with this time limit for one request.
    ///
    /// # Errors
    /// If the operating system cannot start a thread.
    pub(crate) fn io_pool(&self, count: usize, limit: Duration) -> std::io::Result<IoPool> {
        match &self.hooks {
            Some(hooks) => Ok(hooks.io_pool(count)),
            None => Ok(IoPool::start(count)?.limited(limit)),
        }
    }

    /// A number that no other coordinator draws (SPEC 2.13).
    pub(crate) fn claimant(&self) -> Claimant {
        self.hooks.as_ref().map_or_else(|| Claimant(random()), |hooks| hooks.claimant())
    }

    /// The seed of key hashes, in a job that begins here (SPEC 14.1).
    pub(crate) fn hash_seed(&self) -> u64 {
        self.hooks.as_ref().map_or_else(random, |hooks| hooks.hash_seed())
    }
}
