//! Rows of activations as the matrix kernels read them: the integers of spec 01 §4, laid out twice.
//!
//! `narrow` keeps the 8-bit codes with their multipliers apart; `wide` holds `r q` (a8) or `q`
//! (a12) in 16 bits. Which layouts are filled depends on the weights that will be multiplied.

mod row;

use std::sync::atomic::{AtomicBool, Ordering};

use shoal_arith::limits::{BLOCK, GROUP};
use shoal_arith::{ActivationFormat, WeightFormat};

use crate::shared::SharedMut;
use crate::{Isa, Kernels};
use row::{RowOut, quantize_row};

/// Which layouts a set of weights reads.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct QuantizeNeeds {
    narrow: bool,
    wide: bool,
}

impl QuantizeNeeds {
    /// What a map of format `weights` reads under `isa`.
    #[must_use]
    pub const fn of(isa: Isa, weights: WeightFormat, x: ActivationFormat) -> Self {
        let narrow = match (x, isa, weights) {
            (ActivationFormat::A12, ..) | (_, Isa::Portable, _) => false,
            (_, Isa::Avx512Vnni, _) => true,
            (_, _, WeightFormat::I8) => false,
            (_, _, WeightFormat::I4 | WeightFormat::I4Offset) => true,
        };
        Self { narrow, wide: !narrow }
    }

    pub(crate) const fn is_narrow(self) -> bool {
        self.narrow
    }

    /// What either of two reads.
    #[must_use]
    pub const fn and(self, other: Self) -> Self {
        Self { narrow: self.narrow || other.narrow, wide: self.wide || other.wide }
    }
}

/// A block of a row as the byte kernels read it, everything behind one pointer.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct NarrowBlock {
    /// The codes.
    pub(crate) codes: [i8; BLOCK],
    /// -8 times the sums of the codes at `k % 4 < 2` and at `k % 4 >= 2`, as two i16.
    pub(crate) bias_pair: i32,
    /// `(r, r)` as two i16.
    pub(crate) multiplier_pair: i32,
    /// `(r, r of the next block)` where this block is an even one of its row, as two i16.
    pub(crate) two_multipliers: i32,
    /// `r` times the sum of the codes, split into two i16 that add up to it.
    pub(crate) offset_pair: i32,
    /// -8 times the sum of the codes.
    pub(crate) bias_i4: i32,
    /// -128 times the sum of the codes.
    pub(crate) bias_i8: i32,
}

/// `T` quantized rows. Buffers are reused from step to step and may be longer than the rows.
#[derive(Clone, Debug)]
pub struct Quantized {
    pub(crate) rows: usize,
    pub(crate) columns: usize,
    pub(crate) format: ActivationFormat,
    pub(crate) needs: QuantizeNeeds,
    /// `d`, `[T]`
    pub(crate) scales: Vec<f32>,
    /// `n`, `[T, groups]`; 1 in a12.
    pub(crate) group_multipliers: Vec<f64>,
    /// `[T, blocks]`
    pub(crate) narrow: Vec<NarrowBlock>,
    /// `[T, blocks * 32]`, the four codes of a quad in the order 0, 2, 1, 3
    pub(crate) wide: Vec<i16>,
}

impl Default for Quantized {
    fn default() -> Self {
        Self {
            rows: 0,
            columns: 0,
            format: ActivationFormat::A8,
            needs: QuantizeNeeds::default(),
            scales: Vec::new(),
            group_multipliers: Vec::new(),
            narrow: Vec::new(),
            wide: Vec::new(),
        }
    }
}

impl Quantized {
    /// Rows held.
    #[must_use]
    pub const fn rows(&self) -> usize {
        self.rows
    }

    /// Bytes held; grows to the largest step and stays.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.narrow.capacity() * size_of::<NarrowBlock>()
            + self.wide.capacity() * 2
            + self.scales.capacity() * 4
            + self.group_multipliers.capacity() * 8
    }

    fn resize(&mut self, rows: usize, columns: usize) {
        let blocks = rows * columns.div_ceil(BLOCK);
        self.rows = rows;
        self.columns = columns;
        let narrow = if self.needs.narrow { blocks } else { 0 };
        let wide = if self.needs.wide { blocks * BLOCK } else { 0 };
        grow(&mut self.scales, rows, 0.0);
        grow(&mut self.group_multipliers, rows * columns.div_ceil(GROUP), 0.0);
        grow(&mut self.narrow, narrow, NarrowBlock::default());
        grow(&mut self.wide, wide, 0);
    }
}

/// Makes room. What is there is overwritten, so nothing is filled again.
fn grow<T: Clone>(buffer: &mut Vec<T>, len: usize, filler: T) {
    if buffer.len() < len {
        buffer.resize(len, filler);
    }
}

impl Kernels {
    /// Quantizes `x`, `[T, columns]`, into `out`.
    ///
    /// Row `t` that holds an unsound element sets `faults[t]` and is quantized as zeros. `faults`:
    /// `[T]`.
    ///
    /// # Panics
    /// When `x` does not hold `faults.len()` rows of `columns`.
    pub fn quantize(
        &self,
        x: &[f32],
        columns: usize,
        format: ActivationFormat,
        needs: QuantizeNeeds,
        out: &mut Quantized,
        faults: &[AtomicBool],
    ) {
        let rows = faults.len();
        assert_eq!(x.len(), rows * columns, "x holds T rows");
        out.format = format;
        out.needs = needs;
        out.resize(rows, columns);
        let (blocks, groups) = (columns.div_ceil(BLOCK), columns.div_ceil(GROUP));
        let (narrow_blocks, wide_blocks) =
            (if needs.narrow { blocks } else { 0 }, if needs.wide { blocks } else { 0 });
        let scales = SharedMut::new(&mut out.scales);
        let group_multipliers = SharedMut::new(&mut out.group_multipliers);
        let narrow = SharedMut::new(&mut out.narrow);
        let wide = SharedMut::new(&mut out.wide);
        self.rows(rows, columns, &|range| {
            for t in range {
                // SAFETY: each row is written by the one member whose range holds it.
                let mut out = unsafe {
                    RowOut {
                        group_multipliers: group_multipliers.range(t * groups, groups),
                        narrow: narrow.range(t * narrow_blocks, narrow_blocks),
                        wide: wide.range(t * wide_blocks * BLOCK, wide_blocks * BLOCK),
                    }
                };
                let row = &x[t * columns..(t + 1) * columns];
                let scale = quantize_row(self.isa(), row, format, &mut out);
                if scale.is_none() {
                    faults[t].store(true, Ordering::Relaxed);
                }
                // SAFETY: as above.
                let scales = unsafe { scales.range(t, 1) };
                scales[0] = scale.unwrap_or(0.0);
            }
        });
    }
}
