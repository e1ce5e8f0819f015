//! Rotary angles for any position from two short tables. Spec 01 §6.2.
//!
//! The cosine and sine of `p * frequency` follow from those of `(p / 256) * 256 * frequency` and
//! `(p % 256) * frequency` by the addition theorem, in f64, so a package carries tables for 256 +
//! context / 256 positions instead of one for each.

/// Positions covered by the fine table.
pub const FINE_POSITIONS: usize = 256;

/// Cosine and sine tables of a package.
#[derive(Clone, Debug, PartialEq)]
pub struct RopeTables {
    /// Rotated pairs per head.
    pub pairs: usize,
    /// `[coarse positions, pairs]` of (cos, sin) at multiples of 256 positions.
    pub coarse: Vec<(f64, f64)>,
    /// `[256, pairs]` of (cos, sin), times the attention factor.
    pub fine: Vec<(f64, f64)>,
}

impl RopeTables {
    /// Writes the cosines and sines of position `p`, `[pairs]` each. `p` must be covered.
    pub fn angles(&self, p: usize, cos: &mut [f32], sin: &mut [f32]) {
        let coarse = &self.coarse[p / FINE_POSITIONS * self.pairs..][..self.pairs];
        let fine = &self.fine[p % FINE_POSITIONS * self.pairs..][..self.pairs];
        for (((c, s), (ca, sa)), (cb, sb)) in cos.iter_mut().zip(sin).zip(coarse).zip(fine) {
            *c = (ca * cb - sa * sb) as f32;
            *s = (sa * cb + ca * sb) as f32;
        }
    }

    /// Positions covered.
    #[must_use]
    pub fn positions(&self) -> usize {
        self.coarse.len().checked_div(self.pairs).unwrap_or(0) * FINE_POSITIONS
    }
}
