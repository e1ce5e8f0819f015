//! How much memory a target holds at once.

use peak_alloc::PeakAlloc;

#[global_allocator]
static ALLOCATOR: PeakAlloc = PeakAlloc;

/// Largest amount of memory held while `work` ran, in addition to what was held before.
pub(crate) fn peak_bytes<T>(work: impl FnOnce() -> T) -> (T, usize) {
    ALLOCATOR.reset_peak_usage();
    let before = ALLOCATOR.current_usage();
    let result = work();
    (result, ALLOCATOR.peak_usage().saturating_sub(before))
}

#[cfg(test)]
mod tests {
    use super::peak_bytes;

    #[test]
    fn memory_that_is_freed_again_counts() {
        // Far more than what other tests of this process hold or free at the same time.
        let bytes = 1 << 28;
        let work = || drop(std::hint::black_box(Vec::<u8>::with_capacity(bytes)));
        let ((), peak) = peak_bytes(work);
        assert!(peak >= bytes / 2, "{peak}");
    }
}
