//! 4-bit weights with f16 scales per block of 32, 8-bit x with f32 scales per block of 32.

use std::arch::x86_64::*;

const BLOCK: usize = 32;
const TILE_ROWS: usize = 16;
/// Rows of x taken at once.
const ROWS: usize = 4;
/// Codes of a block of 16 rows as stored, and spread to bytes.
const STORED: usize = 256;
const SPREAD: usize = 512;
/// Row groups that one row of x is multiplied with at once; divides those of the benchmark.
const STREAMS: usize = 4;

/// One multiplication.
pub(super) struct Problem {
    rows: usize,
    blocks: usize,
    t: usize,
    /// `[rows / 16, blocks, 256]`
    codes: Vec<u8>,
    /// f16, `[rows / 16, blocks, 16]`
    scales: Vec<u16>,
    /// `[t, blocks, 32]`
    x: Vec<i8>,
    /// `[t, blocks]`
    x_scales: Vec<f32>,
    /// -8 times the sums of the codes of x that fall into either 16-bit sum, `[t, blocks]`
    x_bias: Vec<i32>,
}

impl Problem {
    pub(super) fn new(rows: usize, columns: usize, t: usize) -> Self {
        let blocks = columns / BLOCK;
        let groups = rows / TILE_ROWS;
        let x: Vec<i8> = (0..t * columns).map(|i| (i * 37 % 201) as u8 as i8 / 2).collect();
        let bias = x.chunks_exact(BLOCK).map(|codes| {
            let sum = |odd: usize| -> i32 {
                let part = codes.iter().enumerate().filter(|(k, _)| (k % 4) / 2 == odd);
                part.map(|(_, &x)| i32::from(x)).sum::<i32>() * -8
            };
            (sum(0) & 0xffff) | (sum(1) << 16)
        });
        Self {
            rows,
            blocks,
            t,
            codes: (0..groups * blocks * STORED).map(|i| (i * 37 % 251) as u8).collect(),
            // About 0.001.
            scales: (0..rows * blocks).map(|i| 0x1419 + (i % 7) as u16).collect(),
            x_scales: (0..t * blocks).map(|i| 1e-2 + (i % 5) as f32 * 1e-3).collect(),
            x_bias: bias.collect(),
            x,
        }
    }

    /// `out`: `[t, rows]`
    ///
    /// # Safety
    /// The machine has AVX2, FMA and F16C.
    #[target_feature(enable = "avx2,fma,f16c")]
    pub(super) fn multiply(&self, out: &mut [f32]) {
        let codes = |g: usize| &self.codes[g * self.blocks * STORED..][..self.blocks * STORED];
        let groups = self.rows / TILE_ROWS;
        if self.t == 1 {
            let apart = groups / STREAMS;
            for g in 0..apart {
                let at = std::array::from_fn(|stream| g + stream * apart);
                self.pass::<1, true, STREAMS>(at, 0, at.map(codes), out);
            }
            return;
        }
        let mut panel = vec![0_u8; self.blocks * SPREAD];
        for g in 0..groups {
            spread(codes(g), &mut panel);
            for first in (0..self.t).step_by(ROWS) {
                self.pass::<ROWS, false, 1>([g], first, [&panel], out);
            }
        }
    }

    #[target_feature(enable = "avx2,fma,f16c")]
    fn pass<const T: usize, const DIRECT: bool, const G: usize>(
        &self,
        at: [usize; G],
        first: usize,
        codes: [&[u8]; G],
        out: &mut [f32],
    ) {
        let mut totals = [[[_mm256_setzero_ps(); 2]; T]; G];
        for block in 0..self.blocks {
            for (i, totals) in totals.iter_mut().enumerate() {
                self.add_block::<T, DIRECT>(at[i], first, block, codes[i], totals);
            }
        }
        for (g, totals) in at.into_iter().zip(&totals) {
            for (t, totals) in totals.iter().enumerate() {
                for (h, total) in totals.iter().enumerate() {
                    let at = (first + t) * self.rows + g * TILE_ROWS + h * 8;
                    // SAFETY: the slice has 8 elements.
                    unsafe { _mm256_storeu_ps(out[at..at + 8].as_mut_ptr(), *total) };
                }
            }
        }
    }

    #[inline]
    #[target_feature(enable = "avx2,fma,f16c")]
    fn add_block<const T: usize, const DIRECT: bool>(
        &self,
        g: usize,
        first: usize,
        block: usize,
        codes: &[u8],
        totals: &mut [[__m256; 2]; T],
    ) {
        let mask = _mm256_set1_epi8(15);
        let ones = _mm256_set1_epi16(1);
        let place = |t: usize| (first + t) * self.blocks + block;
        let mut sums: [[__m256i; 2]; T] =
            std::array::from_fn(|t| [_mm256_set1_epi32(self.x_bias[place(t)]); 2]);
        for j in 0..8 {
            let mut w = [_mm256_setzero_si256(); 2];
            for (h, w) in w.iter_mut().enumerate() {
                let stored = if DIRECT { STORED } else { SPREAD };
                let quad = if DIRECT { j % 4 } else { j };
                let at = block * stored + quad * 64 + h * 32;
                // SAFETY: the codes hold the block.
                *w = unsafe { _mm256_loadu_si256(codes.as_ptr().add(at).cast()) };
                if DIRECT {
                    let half = if j < 4 { *w } else { _mm256_srli_epi16::<4>(*w) };
                    *w = _mm256_and_si256(half, mask);
                }
            }
            for (t, sums) in sums.iter_mut().enumerate() {
                // SAFETY: the block has 32 codes.
                let x: i32 = unsafe {
                    self.x.as_ptr().add(place(t) * BLOCK + j * 4).cast::<i32>().read_unaligned()
                };
                let x = _mm256_set1_epi32(x);
                for (sum, w) in sums.iter_mut().zip(w) {
                    *sum = _mm256_add_epi16(*sum, _mm256_maddubs_epi16(w, x));
                }
            }
        }
        for h in 0..2 {
            let at = (g * self.blocks + block) * TILE_ROWS + h * 8;
            // SAFETY: 16 scales per block.
            let w = unsafe { _mm_loadu_si128(self.scales.as_ptr().add(at).cast()) };
            let w = _mm256_cvtph_ps(w);
            for t in 0..T {
                let dot = _mm256_cvtepi32_ps(_mm256_madd_epi16(sums[t][h], ones));
                let scale = _mm256_mul_ps(w, _mm256_set1_ps(self.x_scales[place(t)]));
                totals[t][h] = _mm256_fmadd_ps(dot, scale, totals[t][h]);
            }
        }
    }
}

/// Codes of all blocks of a row group as bytes.
#[target_feature(enable = "avx2")]
fn spread(codes: &[u8], panel: &mut [u8]) {
    let mask = _mm256_set1_epi8(15);
    for (codes, panel) in codes.chunks_exact(STORED).zip(panel.chunks_exact_mut(SPREAD)) {
        for at in (0..STORED).step_by(32) {
            // SAFETY: both hold these 32 bytes.
            unsafe {
                let stored = _mm256_loadu_si256(codes.as_ptr().add(at).cast());
                let high = _mm256_srli_epi16::<4>(stored);
                let to = panel.as_mut_ptr();
                _mm256_storeu_si256(to.add(at).cast(), _mm256_and_si256(stored, mask));
                _mm256_storeu_si256(to.add(at + STORED).cast(), _mm256_and_si256(high, mask));
            }
        }
    }
}
