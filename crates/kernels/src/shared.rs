//! A mutable slice that the members of a team write to at places that do not overlap.

use std::marker::PhantomData;

/// A slice whose elements several threads write, each element at most one of them.
#[derive(Clone, Copy)]
pub(crate) struct SharedMut<'a, T> {
    start: *mut T,
    len: usize,
    _borrow: PhantomData<&'a mut [T]>,
}

// SAFETY: access goes through `range` and `pointer`, whose callers promise disjoint places.
unsafe impl<T: Send> Send for SharedMut<'_, T> {}
// SAFETY: as above.
unsafe impl<T: Send> Sync for SharedMut<'_, T> {}

impl<'a, T> SharedMut<'a, T> {
    pub(crate) fn new(slice: &'a mut [T]) -> Self {
        Self { start: slice.as_mut_ptr(), len: slice.len(), _borrow: PhantomData }
    }

    /// The elements `at .. at + len`.
    ///
    /// # Safety
    /// No other thread uses these elements while the result lives.
    ///
    /// # Panics
    /// When they are beyond the slice.
    #[expect(clippy::mut_from_ref, reason = "the caller promises that ranges do not overlap")]
    pub(crate) unsafe fn range(&self, at: usize, len: usize) -> &mut [T] {
        assert!(at <= self.len && len <= self.len - at, "range within the slice");
        // SAFETY: in bounds by the assertion; exclusive by the caller's promise.
        unsafe { std::slice::from_raw_parts_mut(self.start.add(at), len) }
    }

    /// Where element `at` lies.
    ///
    /// # Panics
    /// When it is beyond the slice.
    pub(crate) fn pointer(&self, at: usize) -> *mut T {
        assert!(at <= self.len, "element within the slice");
        // SAFETY: in bounds or one past the end, by the assertion.
        unsafe { self.start.add(at) }
    }
}
