//! What the engine runs on. In production that is the operating system's threads and clock; a simulator puts its own in their place.

use std::time::Duration;

use snapline_protocol::fence::Claimant;

use super::lanes::Lanes;
use crate::clock::Clock;
#[cfg(feature = "sim")]
use crate::sync::Arc;

/// Whether the code at this place is to do a thing wrong, so that it can be shown that a simulation finds it. Without the feature `sim`
/// there is nothing to ask.
#[cfg(feature = "sim")]
macro_rules! planted {
    ($platform:expr, $mutant:ident) => {
        $platform.plays(crate::sim::Mutant::$mutant)
    };
}
#[cfg(not(feature = "sim"))]
macro_rules! planted {
    ($platform:expr, $mutant:ident) => {{
        let _ = &$platform;
        false
    }};
}
pub(crate) use planted;

/// Clones are the same.
#[derive(Clone, Default)]
pub(crate) struct Platform {
    pub(crate) clock: Clock,
    /// `None`: the operating system.
    #[cfg(feature = "sim")]
    pub(crate) seam: Option<Arc<crate::sim::Seam>>,
}

impl Platform {
    /// Lanes for what may wait, each no longer than the limit for one thing.
    ///
    /// # Errors
    /// If the operating system gives no thread.
    pub(crate) fn lanes(&self, count: usize, limit: Duration) -> std::io::Result<Lanes> {
        #[cfg(feature = "sim")]
        if let Some(seam) = &self.seam {
            return Ok(Lanes::queued(seam.queues(count)));
        }
        Ok(Lanes::start(count)?.limited(limit))
    }

    /// A number that no other coordinator draws (SPEC 2.13).
    pub(crate) fn claimant(&self) -> Claimant {
        #[cfg(feature = "sim")]
        if let Some(seam) = &self.seam {
            return seam.claimant();
        }
        Claimant(random())
    }

    /// What the hashes of keys begin with, in a job that begins here (SPEC 14.1).
    pub(crate) fn hash_seed(&self) -> u64 {
        #[cfg(feature = "sim")]
        if let Some(seam) = &self.seam {
            return seam.hash_seed();
        }
        random()
    }

    #[cfg(feature = "sim")]
    pub(crate) fn plays(&self, mutant: crate::sim::Mutant) -> bool {
        self.seam.as_ref().is_some_and(|seam| seam.plays(mutant))
    }
}

/// A number that nobody can guess, nor tell from another that was drawn before.
pub(crate) fn random() -> u64 {
    use std::hash::{BuildHasher, Hasher, RandomState};
    // The standard library's hash keys are seeded from the operating system's randomness, and are other ones for each.
    let mut hasher = RandomState::new().build_hasher();
    hasher.write_u32(std::process::id());
    hasher.finish()
}
