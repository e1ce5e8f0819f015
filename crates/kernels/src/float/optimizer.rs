//! Norm of a gradient and the AdamW step. Spec 05 §6.

use shoal_arith::reference::float::{self, AdamStep};

use crate::Kernels;
use crate::per_isa::per_isa;
use crate::shared::SharedMut;

/// Elements whose squares make one partial sum.
const BLOCK: usize = 4096;

per_isa! {
    fn squares(x: &[f32]) -> f64 = float::lane_squares;
}
per_isa! {
    fn adam(step: AdamStep, g: &[f32], m: &mut [f32], v: &mut [f32], p: &mut [f32])
        = float::adam;
}

impl Kernels {
    /// The sum of squares: lane sums of blocks of 4096 elements, added first to last.
    #[must_use]
    pub fn sum_of_squares(&self, x: &[f32]) -> f64 {
        let mut partial = vec![0.0; x.len().div_ceil(BLOCK)];
        let sums = SharedMut::new(&mut partial);
        self.rows(x.len().div_ceil(BLOCK), BLOCK, &|blocks| {
            for block in blocks {
                let x = &x[block * BLOCK..x.len().min((block + 1) * BLOCK)];
                // SAFETY: blocks do not overlap.
                unsafe { sums.range(block, 1)[0] = squares(self.isa(), x) };
            }
        });
        partial.iter().sum()
    }

    /// One AdamW step; all slices have the same length.
    ///
    /// # Panics
    /// When they have not.
    pub fn adam_step(
        &self,
        step: AdamStep,
        g: &[f32],
        m: &mut [f32],
        v: &mut [f32],
        p: &mut [f32],
    ) {
        let len = g.len();
        assert!(m.len() == len && v.len() == len && p.len() == len, "shapes fit");
        let (m, v, p) = (SharedMut::new(m), SharedMut::new(v), SharedMut::new(p));
        self.rows(len.div_ceil(BLOCK), BLOCK, &|blocks| {
            let at = blocks.start * BLOCK;
            let count = len.min(blocks.end * BLOCK) - at;
            // SAFETY: blocks do not overlap.
            let (m, v, p) = unsafe { (m.range(at, count), v.range(at, count), p.range(at, count)) };
            adam(self.isa(), step, &g[at..][..count], m, v, p);
        });
    }
}
