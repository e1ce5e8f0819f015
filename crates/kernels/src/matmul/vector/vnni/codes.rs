//! Weights as the VNNI kernel reads them: from the tiles, or from a panel.

use std::arch::x86_64::*;

use super::super::cursor::{Cursor, GROUP_BLOCKS, Panel, Tiles, forward_cursor};
use super::{BLOCK_BYTES, QUADS, VECTOR};
use crate::Linear;
use crate::lanes::{Avx512, Lanes};

/// The weights of a block.
///
/// # Safety
/// Every function needs AVX-512, and a cursor at a block.
pub(super) trait Codes: Cursor {
    /// Whether blocks are read from a panel, in the first caches.
    const IS_NEAR: bool;
    /// Quad `j` with the bias, as bytes.
    unsafe fn quad(&self, j: usize) -> __m512i;
    /// The multipliers, each as `(m, 0)`.
    unsafe fn multipliers(&self) -> __m512i;
    /// The offsets in pairs.
    unsafe fn offsets(&self) -> __m512i;
}

/// Tiles as they are stored.
#[derive(Clone, Copy)]
pub(super) struct Stored<'a, const I4: bool>(pub(super) Tiles<'a>);

forward_cursor!(['a, const I4: bool] Stored<'a, I4>);

impl<const I4: bool> Codes for Stored<'_, I4> {
    const IS_NEAR: bool = false;
    #[inline(always)]
    unsafe fn quad(&self, j: usize) -> __m512i {
        let high = I4 && j >= QUADS / 2;
        let from = self.0.codes.wrapping_add(if high { j - QUADS / 2 } else { j } * VECTOR);
        // SAFETY: as for the trait.
        unsafe {
            let v = Avx512::load(from);
            match (I4, high) {
                (false, _) => _mm512_xor_si512(v, _mm512_set1_epi8(i8::MIN)),
                (true, false) => Avx512::and(v, Avx512::splat8(15)),
                (true, true) => Avx512::and(Avx512::shift_right16::<4>(v), Avx512::splat8(15)),
            }
        }
    }
    #[inline(always)]
    unsafe fn multipliers(&self) -> __m512i {
        // SAFETY: as for the trait.
        unsafe {
            let m = _mm512_cvtepi8_epi32(_mm_loadu_si128(self.0.multipliers.cast()));
            _mm512_and_si512(m, _mm512_set1_epi32(0xffff))
        }
    }
    #[inline(always)]
    unsafe fn offsets(&self) -> __m512i {
        // SAFETY: as for the trait.
        unsafe { Avx512::pairs_of_i16(self.0.offsets) }
    }
}

impl Codes for Panel<BLOCK_BYTES> {
    const IS_NEAR: bool = true;
    #[inline(always)]
    unsafe fn quad(&self, j: usize) -> __m512i {
        // SAFETY: as for the trait.
        unsafe { Avx512::load(self.block.wrapping_add(j * VECTOR)) }
    }
    #[inline(always)]
    unsafe fn multipliers(&self) -> __m512i {
        // SAFETY: as for the trait.
        unsafe { self.quad(QUADS) }
    }
    #[inline(always)]
    unsafe fn offsets(&self) -> __m512i {
        // SAFETY: as for the trait.
        unsafe { self.quad(QUADS + 1) }
    }
}

/// Spreads row group `g` into a panel: for each block the quads with the bias, then the multipliers
/// and the offsets in pairs.
///
/// # Safety
/// The machine has AVX-512.
#[inline(always)]
pub(super) unsafe fn spread<const I4: bool, const OFFSETS: bool>(
    weights: &Linear,
    g: usize,
    panel: &mut [u8],
) {
    let blocks = weights.shape().blocks();
    assert!(panel.len() >= blocks * BLOCK_BYTES, "the panel has room");
    let mut tiles = Stored::<I4>(Tiles::new(weights, g));
    for block in 0..blocks {
        // SAFETY: the block exists, and the panel has room for it (asserted above).
        unsafe {
            match block % GROUP_BLOCKS {
                0 => tiles.begin(block / GROUP_BLOCKS),
                _ => tiles.advance(),
            }
            let to = panel.as_mut_ptr().add(block * BLOCK_BYTES);
            for j in 0..QUADS {
                Avx512::store(to.add(j * VECTOR), tiles.quad(j));
            }
            Avx512::store(to.add(QUADS * VECTOR), tiles.multipliers());
            if OFFSETS {
                Avx512::store(to.add((QUADS + 1) * VECTOR), tiles.offsets());
            }
        }
    }
}
