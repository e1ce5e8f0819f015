//! A row group's weights as 16-bit integers, in plain Rust.

use shoal_arith::WeightFormat;
use shoal_arith::limits::{BLOCK, TILE_ROWS};

use crate::Linear;

/// Four columns of 16 rows: `m q + o`, columns in the order 0, 2, 1, 3 of the wide layout.
pub(super) type Wide = [[i16; 4]; TILE_ROWS];

/// `[blocks * 8]` quads.
pub(super) struct WidePanel {
    pub(super) quads: Vec<Wide>,
}

impl WidePanel {
    pub(super) fn new(blocks: usize) -> Self {
        Self { quads: vec![[[0; 4]; TILE_ROWS]; blocks * (BLOCK / 4)] }
    }

    /// Spreads row group `g`.
    pub(super) fn fill(&mut self, weights: &Linear, g: usize) {
        let shape = weights.shape();
        let mut quads = self.quads.chunks_exact_mut(BLOCK / 4);
        for c in 0..shape.tile_columns() {
            let layout = shape.tile(c);
            let tile = weights.tile(g, c);
            for b in 0..layout.blocks {
                let quads = quads.next().expect("one chunk per block");
                let codes = &tile[b * layout.block_bytes..(b + 1) * layout.block_bytes];
                let multipliers = &tile[layout.multipliers_at + b * TILE_ROWS..][..TILE_ROWS];
                let offsets = match shape.format {
                    WeightFormat::I4Offset => &tile[layout.offsets_at + b * TILE_ROWS * 2..],
                    _ => &[],
                };
                for (j, quad) in quads.iter_mut().enumerate() {
                    fill_quad(shape.format, codes, j, multipliers, offsets, quad);
                }
            }
        }
    }
}

fn fill_quad(
    format: WeightFormat,
    codes: &[u8],
    j: usize,
    multipliers: &[u8],
    offsets: &[u8],
    quad: &mut Wide,
) {
    const ORDER: [usize; 4] = [0, 2, 1, 3];
    for (r, out) in quad.iter_mut().enumerate() {
        let multiplier = i16::from(multipliers[r].cast_signed());
        let offset = match offsets {
            [] => 0,
            offsets => i16::from_le_bytes([offsets[r * 2], offsets[r * 2 + 1]]),
        };
        for (out, i) in out.iter_mut().zip(ORDER) {
            let code = match format {
                WeightFormat::I8 => i16::from(codes[(j * TILE_ROWS + r) * 4 + i].cast_signed()),
                _ => {
                    let byte = codes[(j % 4 * TILE_ROWS + r) * 4 + i];
                    i16::from(byte >> (j / 4 * 4) & 15) - 8
                }
            };
            *out = code * multiplier + offset;
        }
    }
}
