//! Unpredictable numbers.

/// A number that nobody can guess, nor tell from another that was drawn before.
pub(crate) fn random() -> u64 {
    use std::hash::{BuildHasher, Hasher, RandomState};
    // The standard library's hash keys are seeded from the operating system's randomness, and are other ones for each.
    let mut hasher = RandomState::new().build_hasher();
    hasher.write_u32(std::process::id());
    hasher.finish()
}
