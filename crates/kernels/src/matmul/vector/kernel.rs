//! What the kernels of the instruction sets have in common.

use super::cursor::{AHEAD_BYTES, Cursor};
use crate::lanes::Lanes;
use crate::{Linear, Quantized};

/// How a kernel multiplies a block of weights, which `W` is at.
pub(super) trait Kernel<L: Lanes, const H: usize, W> {
    /// Bytes of a block of a row of x.
    const X_BYTES: usize;

    /// The first block of the first row, `[T, blocks]`.
    fn rows(x: &Quantized) -> *const u8;

    /// Adds products of a block with `T` rows.
    ///
    /// # Safety
    /// The machine has the instruction set of `L`; `weights` is at a block, `rows` point to blocks.
    unsafe fn add_block<const T: usize>(
        weights: W,
        rows: &[*const u8; T],
        inner: &mut [[L::V; H]; T],
    );

    /// Adds products of `count` blocks with `T` rows, and moves behind them.
    ///
    /// # Safety
    /// As for [`Kernel::add_block`].
    #[inline(always)]
    unsafe fn add_group<const T: usize>(
        weights: &mut W,
        rows: &mut [*const u8; T],
        count: usize,
        inner: &mut [[L::V; H]; T],
    ) where
        W: Cursor,
    {
        for _ in 0..count {
            weights.ask_for_block(AHEAD_BYTES);
            // SAFETY: as for this function.
            unsafe {
                Self::add_block(*weights, rows, inner);
                weights.advance();
                *rows = rows.map(|row| row.add(Self::X_BYTES));
            }
        }
    }
}

/// A kernel whose products of a block do not depend on the block's multipliers.
pub(super) trait Split<L: Lanes, const H: usize, W>: Kernel<L, H, W> {
    /// Products of a block with `T` rows, which the block's multipliers have yet to scale.
    ///
    /// # Safety
    /// As for [`Kernel::add_block`].
    unsafe fn dots<const T: usize>(weights: W, rows: &[*const u8; T]) -> [[L::V; H]; T];

    /// Scales and adds them.
    ///
    /// # Safety
    /// As for [`Kernel::add_block`].
    unsafe fn add_scaled<const T: usize>(
        weights: W,
        rows: &[*const u8; T],
        dots: &[[L::V; H]; T],
        inner: &mut [[L::V; H]; T],
    );
}

/// How a kernel spreads a row group into a panel.
pub(super) trait Spread<L: Lanes, const H: usize> {
    /// Spreads row group `g`.
    ///
    /// # Safety
    /// The machine has the instruction set of `L`.
    unsafe fn spread(weights: &Linear, g: usize, panel: &mut [u8]);
}
