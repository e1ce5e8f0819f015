//! Bytes somebody else owns: a memory map, an embedded file, a buffer.

use std::fmt;
use std::ops::{Deref, Range};
use std::sync::Arc;

/// Alignment of weights in memory: a cache line, and the widest vector.
const ALIGNMENT: usize = 64;

/// A shared, immutable range of bytes. Cheap to clone and to cut.
#[derive(Clone)]
pub struct SharedBytes {
    owner: Arc<dyn AsRef<[u8]> + Send + Sync>,
    range: Range<usize>,
}

impl SharedBytes {
    /// All bytes of `owner`.
    pub fn new(owner: impl AsRef<[u8]> + Send + Sync + 'static) -> Self {
        let range = 0..owner.as_ref().len();
        Self { owner: Arc::new(owner), range }
    }

    /// A copy of `bytes` that begins at a multiple of [`ALIGNMENT`], as a memory map does.
    #[must_use]
    pub fn aligned(bytes: &[u8]) -> Self {
        let mut padded = vec![0; bytes.len() + ALIGNMENT];
        let start = padded.as_ptr().align_offset(ALIGNMENT);
        padded[start..start + bytes.len()].copy_from_slice(bytes);
        Self { owner: Arc::new(padded), range: start..start + bytes.len() }
    }

    /// The bytes of `range`, or `None` when it reaches beyond the end.
    #[must_use]
    pub fn slice(&self, range: Range<usize>) -> Option<Self> {
        let fits = range.start <= range.end && range.end <= self.range.len();
        fits.then(|| Self {
            owner: Arc::clone(&self.owner),
            range: self.range.start + range.start..self.range.start + range.end,
        })
    }
}

impl Deref for SharedBytes {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &(*self.owner).as_ref()[self.range.clone()]
    }
}

impl fmt::Debug for SharedBytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SharedBytes({} bytes)", self.range.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn aligned_copies_are_aligned() {
        for len in [0, 1, 63, 64, 1000] {
            let bytes = SharedBytes::aligned(&vec![7; len]);
            assert!(bytes.as_ptr().addr().is_multiple_of(ALIGNMENT));
            assert_eq!(&*bytes, vec![7; len]);
        }
    }

    #[test]
    fn slices_nest_and_stay_inside() {
        let bytes = SharedBytes::new(vec![0, 1, 2, 3, 4]);
        let middle = bytes.slice(1..4).expect("inside");
        assert_eq!(&*middle, [1, 2, 3]);
        assert_eq!(&*middle.slice(2..3).expect("inside"), [3]);
        assert!(middle.slice(2..4).is_none());
        assert!(bytes.slice(6..6).is_none());
    }
}
