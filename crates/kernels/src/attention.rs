//! Attention over paged keys and values, for chains and trees of tokens. Spec 01 §7.
//!
//! A page holds one chunk of 64 positions, so a chunk's sums come from one page; only the draft
//! tokens of a tree lie elsewhere, in a page of their own, and are added to the chunk of their
//! position.

mod attend;
mod pool;
mod prepare;
mod product;
mod softmax;

pub use attend::{AttentionRow, Span, TreePage};
pub use pool::{KvPool, KvSlot, PageId};
pub use prepare::{HeadNorms, Projections, Queries, RopeRows};

use shoal_arith::limits::HEAD_WIDTH_MAX;

/// Heads of a layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HeadsShape {
    /// `H`
    pub head_count: usize,
    /// `G`, divides `H`.
    pub kv_head_count: usize,
    /// `K`, even, at most 512.
    pub head_width: usize,
}

impl HeadsShape {
    /// Query heads per key/value head.
    #[must_use]
    pub const fn ratio(self) -> usize {
        self.head_count / self.kv_head_count
    }

    /// Head width padded to whole vectors.
    pub(crate) const fn padded_width(self) -> usize {
        self.head_width.next_multiple_of(16)
    }

    pub(crate) fn assert_valid(self) {
        assert!(
            self.kv_head_count > 0
                && self.head_count.is_multiple_of(self.kv_head_count)
                && self.head_width.is_multiple_of(2)
                && (2..=HEAD_WIDTH_MAX).contains(&self.head_width),
            "heads shape is valid"
        );
    }
}
