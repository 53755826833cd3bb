//! Unpredictable numbers.

/// An unguessable number, different from any drawn before.
pub fn random() -> u64 {
    use std::hash::{BuildHasher, Hasher, RandomState};
    // The standard library's hash keys are seeded from the operating system's randomness, and
    // differ for each state.
    let mut hasher = RandomState::new().build_hasher();
    hasher.write_u32(std::process::id());
    hasher.finish()
}
