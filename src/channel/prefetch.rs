//! Asks for memory before it is read.

#![allow(unsafe_code, reason = "a prefetch takes a pointer, and reads nothing through it")]

/// Has a batch that another core wrote come nearer, all of it at once: read record by record between accesses to state, each line of it
/// would be waited for. Costs a cycle or two a line where it is near already.
#[inline]
pub(super) fn lines<T>(batch: &[T]) {
    #[cfg(target_arch = "x86_64")]
    {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        let start = batch.as_ptr().cast::<i8>();
        for offset in (0..size_of_val(batch)).step_by(64) {
            // SAFETY: the pointer stays within the slice; a prefetch has no effect but on caches.
            unsafe { _mm_prefetch::<_MM_HINT_T0>(start.add(offset)) };
        }
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = batch;
}
