//! How the weights of a linear map lie in memory and on disk. Spec 02 §5.
//!
//! A linear map of `[rows, columns]` is a section: the row scales, then tiles of 16 rows by up to
//! 1024 columns, row group by row group. A tile interleaves its 16 rows so that one vector lane is
//! one row; it is read by the kernels as it is, and it is a leaf of the package's Merkle tree.
//!
//! ```text
//! section   D: f32 x 16 per row group, padded with 0 to a multiple of 64 bytes; tiles
//! tile      q of each block; m: i8 x 16 of each block; o: i16 x 16 of each block (I4Offset only);
//!           zeros up to a multiple of 64 bytes
//! q, I8     8 x 64 bytes: part j holds, row by row, columns 4j .. 4j+4 as i8
//! q, I4     4 x 64 bytes: part j holds, row by row, 4 bytes; byte i has column 4j+i in its low and
//!           column 16+4j+i in its high half, each as code + 8
//! ```
//! Rows and columns beyond the shape are stored as code 0, multiplier 0, offset 0, scale 0.

use crate::limits::{BLOCK, COLUMNS_MAX, TILE_COLUMNS, TILE_ROWS};
use crate::weight::row_scale_is_valid;
use crate::{WeightFormat, WeightRow};

/// Sections, tiles and blobs begin at multiples of this.
pub const ALIGNMENT: usize = 64;
/// Columns of a 4-byte part of a row.
const QUAD: usize = 4;
/// The 4-bit code stored for 0.
const I4_BIAS: i8 = 8;

/// Shape and format of a linear map.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LinearShape {
    /// Output rows.
    pub rows: usize,
    /// Input columns.
    pub columns: usize,
    /// Format of the weights.
    pub format: WeightFormat,
}

/// A rule that the bytes of a section break.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TileError {
    /// The section has another length than its shape asks for.
    #[error("section of {got} bytes, its shape needs {expected}")]
    Length {
        /// Its length.
        got: usize,
        /// The length its shape asks for.
        expected: usize,
    },
    /// A code, multiplier or offset is outside its format's range, or a filler is not zero.
    #[error("tile {tile_index} holds a number outside its format's range")]
    Range {
        /// The tile, counted row group by row group.
        tile_index: usize,
    },
    /// A row scale is neither 0 nor in 2^-60..=2^40.
    #[error("scale of row {row_index} is out of range")]
    Scale {
        /// The row.
        row_index: usize,
    },
}

/// Byte offsets within a tile.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TileLayout {
    /// Blocks of 32 columns.
    pub blocks: usize,
    /// Bytes of one block's codes.
    pub block_bytes: usize,
    /// Where the multipliers begin.
    pub multipliers_at: usize,
    /// Where the offsets begin; equal to `end` without offsets.
    pub offsets_at: usize,
    /// Where the filler begins.
    pub end: usize,
    /// Bytes of the tile.
    pub bytes: usize,
}

impl TileLayout {
    /// The layout of a tile with `blocks` blocks.
    #[must_use]
    pub const fn new(format: WeightFormat, blocks: usize) -> Self {
        let (block_bytes, offset_bytes) = match format {
            WeightFormat::I8 => (TILE_ROWS * BLOCK, 0),
            WeightFormat::I4 => (TILE_ROWS * BLOCK / 2, 0),
            WeightFormat::I4Offset => (TILE_ROWS * BLOCK / 2, TILE_ROWS * 2),
        };
        let multipliers_at = blocks * block_bytes;
        let offsets_at = multipliers_at + blocks * TILE_ROWS;
        let end = offsets_at + blocks * offset_bytes;
        let bytes = end.next_multiple_of(ALIGNMENT);
        Self { blocks, block_bytes, multipliers_at, offsets_at, end, bytes }
    }
}

impl LinearShape {
    /// Groups of 16 rows.
    #[must_use]
    pub const fn row_groups(self) -> usize {
        self.rows.div_ceil(TILE_ROWS)
    }

    /// Blocks of 32 columns.
    #[must_use]
    pub const fn blocks(self) -> usize {
        self.columns.div_ceil(BLOCK)
    }

    /// Tiles per row group.
    #[must_use]
    pub const fn tile_columns(self) -> usize {
        self.columns.div_ceil(TILE_COLUMNS)
    }

    /// All tiles.
    #[must_use]
    pub const fn tiles(self) -> usize {
        self.row_groups() * self.tile_columns()
    }

    /// The layout of the tiles in column `c`.
    #[must_use]
    pub const fn tile(self, c: usize) -> TileLayout {
        const TILE_BLOCKS: usize = TILE_COLUMNS / BLOCK;
        let left = self.blocks() - c * TILE_BLOCKS;
        TileLayout::new(self.format, if left < TILE_BLOCKS { left } else { TILE_BLOCKS })
    }

    /// Bytes of one row group's tiles.
    #[must_use]
    pub const fn row_group_bytes(self) -> usize {
        let full = self.tile_columns() - 1;
        full * self.tile(0).bytes + self.tile(full).bytes
    }

    /// Bytes of the row scales.
    #[must_use]
    pub const fn scale_bytes(self) -> usize {
        (self.row_groups() * TILE_ROWS * 4).next_multiple_of(ALIGNMENT)
    }

    /// Where tile (`g`, `c`) begins in the section.
    #[must_use]
    pub const fn tile_at(self, g: usize, c: usize) -> usize {
        self.scale_bytes() + g * self.row_group_bytes() + c * self.tile(0).bytes
    }

    /// Bytes of the section.
    #[must_use]
    pub const fn bytes(self) -> usize {
        self.tile_at(self.row_groups(), 0)
    }

    /// Whether the shape is not empty and not too wide.
    #[must_use]
    pub const fn is_valid(self) -> bool {
        self.rows > 0 && self.columns > 0 && self.columns <= COLUMNS_MAX
    }
}

/// Writes up to 16 rows, the tiles of row group `g`, into `section`.
pub fn write_row_group(shape: LinearShape, g: usize, rows: &[WeightRow], section: &mut [u8]) {
    let start = shape.tile_at(g, 0);
    let scales_at = g * TILE_ROWS * 4;
    let scales = &mut section[scales_at..scales_at + TILE_ROWS * 4];
    encode_scales(rows, scales);
    encode_row_group(shape, rows, &mut section[start..start + shape.row_group_bytes()]);
}

/// Writes the scales of up to 16 rows as `[16]` f32, little-endian.
pub fn encode_scales(rows: &[WeightRow], out: &mut [u8]) {
    out.fill(0);
    for (row, out) in rows.iter().zip(out.chunks_exact_mut(4)) {
        out.copy_from_slice(&row.scale.to_le_bytes());
    }
}

/// Writes the tiles of up to 16 rows, `[row_group_bytes]`.
pub fn encode_row_group(shape: LinearShape, rows: &[WeightRow], out: &mut [u8]) {
    let mut at = 0;
    for c in 0..shape.tile_columns() {
        let layout = shape.tile(c);
        let tile = &mut out[at..at + layout.bytes];
        tile.fill(0);
        for r in 0..TILE_ROWS {
            write_tile_row(shape, layout, c * TILE_COLUMNS, r, rows.get(r), tile);
        }
        at += layout.bytes;
    }
}

fn write_tile_row(
    shape: LinearShape,
    layout: TileLayout,
    first_column: usize,
    r: usize,
    row: Option<&WeightRow>,
    tile: &mut [u8],
) {
    for b in 0..layout.blocks {
        let block = first_column / BLOCK + b;
        let mut codes = [0_i8; BLOCK];
        if let Some(row) = row {
            let columns = &row.codes[block * BLOCK..shape.columns.min((block + 1) * BLOCK)];
            codes[..columns.len()].copy_from_slice(columns);
            tile[layout.multipliers_at + b * TILE_ROWS + r] =
                row.multipliers[block].cast_unsigned();
            if shape.format == WeightFormat::I4Offset {
                let at = layout.offsets_at + (b * TILE_ROWS + r) * 2;
                tile[at..at + 2].copy_from_slice(&row.offsets[block].to_le_bytes());
            }
        }
        let bytes = &mut tile[b * layout.block_bytes..(b + 1) * layout.block_bytes];
        for (k, &code) in codes.iter().enumerate() {
            put_code(shape.format, bytes, r, k, code);
        }
    }
}

/// Byte and shift of column `k` of row `r` within a block.
const fn place(format: WeightFormat, r: usize, k: usize) -> (usize, u32) {
    let half = BLOCK / 2;
    let (k, shift) = match format {
        WeightFormat::I8 => (k, 0),
        WeightFormat::I4 | WeightFormat::I4Offset if k < half => (k, 0),
        WeightFormat::I4 | WeightFormat::I4Offset => (k - half, 4),
    };
    ((k / QUAD * TILE_ROWS + r) * QUAD + k % QUAD, shift)
}

fn put_code(format: WeightFormat, block: &mut [u8], r: usize, k: usize, code: i8) {
    let (byte, shift) = place(format, r, k);
    match format {
        WeightFormat::I8 => block[byte] = code.cast_unsigned(),
        _ => block[byte] |= (code + I4_BIAS).cast_unsigned() << shift,
    }
}

fn get_code(format: WeightFormat, block: &[u8], r: usize, k: usize) -> i8 {
    let (byte, shift) = place(format, r, k);
    match format {
        WeightFormat::I8 => block[byte].cast_signed(),
        _ => (block[byte] >> shift & 15).cast_signed() - I4_BIAS,
    }
}

/// Reads one row of a section of the right length.
#[must_use]
pub fn read_row(shape: LinearShape, section: &[u8], row: usize) -> WeightRow {
    let (g, r) = (row / TILE_ROWS, row % TILE_ROWS);
    let mut unpacked = WeightRow {
        codes: Vec::with_capacity(shape.columns),
        multipliers: Vec::with_capacity(shape.blocks()),
        offsets: Vec::with_capacity(shape.blocks()),
        scale: f32::from_le_bytes(section[row * 4..row * 4 + 4].try_into().expect("four bytes")),
    };
    for c in 0..shape.tile_columns() {
        let layout = shape.tile(c);
        let tile = &section[shape.tile_at(g, c)..][..layout.bytes];
        for b in 0..layout.blocks {
            let block = &tile[b * layout.block_bytes..(b + 1) * layout.block_bytes];
            let columns = (shape.columns - unpacked.codes.len()).min(BLOCK);
            unpacked.codes.extend((0..columns).map(|k| get_code(shape.format, block, r, k)));
            unpacked
                .multipliers
                .push(tile[layout.multipliers_at + b * TILE_ROWS + r].cast_signed());
            unpacked.offsets.push(match shape.format {
                WeightFormat::I4Offset => offset(tile, layout, b, r),
                _ => 0,
            });
        }
    }
    unpacked
}

fn offset(tile: &[u8], layout: TileLayout, b: usize, r: usize) -> i16 {
    let at = layout.offsets_at + (b * TILE_ROWS + r) * 2;
    i16::from_le_bytes([tile[at], tile[at + 1]])
}

/// Checks the length of a section and its scales.
///
/// # Errors
/// The length, or the first scale out of range.
pub fn check_scales(shape: LinearShape, section: &[u8]) -> Result<(), TileError> {
    if section.len() != shape.bytes() {
        return Err(TileError::Length { got: section.len(), expected: shape.bytes() });
    }
    let scales = section[..shape.scale_bytes()].chunks_exact(4);
    for (row_index, bytes) in scales.enumerate() {
        let scale = f32::from_le_bytes(bytes.try_into().expect("four bytes"));
        let filler = row_index >= shape.rows;
        if !row_scale_is_valid(scale) || filler && scale.to_bits() != 0 {
            return Err(TileError::Scale { row_index });
        }
    }
    Ok(())
}

/// Checks every number of tile (`g`, `c`), which is `tile`.
///
/// After this no sum over the tile can overflow (see [`crate::limits`]).
///
/// # Errors
/// The tile holds a number out of range.
pub fn check_tile(shape: LinearShape, g: usize, c: usize, tile: &[u8]) -> Result<(), TileError> {
    let layout = shape.tile(c);
    let codes = &tile[..layout.multipliers_at];
    let multipliers = &tile[layout.multipliers_at..layout.offsets_at];
    let offsets = &tile[layout.offsets_at..layout.end];
    // Folds instead of `all`, so that the loops vectorise: this runs over whole packages at load.
    let bad_code = match shape.format {
        WeightFormat::I8 => codes.iter().fold(false, |bad, &q| bad | (q == 0x80)),
        WeightFormat::I4 | WeightFormat::I4Offset => false,
    };
    let (low, high) = shape.format.multiplier_range();
    let bad_multiplier = multipliers.iter().fold(false, |bad, &m| {
        let m = m.cast_signed();
        bad | (m < low as i8) | (m > high as i8)
    });
    let bad_offset = offsets.chunks_exact(2).fold(false, |bad, o| {
        let limit = shape.format.offset_max() as i16;
        bad | !(-limit..=limit).contains(&i16::from_le_bytes([o[0], o[1]]))
    });
    let bad_filler = tile[layout.end..].iter().any(|&b| b != 0);
    let bad = bad_code
        || bad_multiplier
        || bad_offset
        || bad_filler
        || !padding_is_canonical(shape, g, c, tile);
    let tile_index = g * shape.tile_columns() + c;
    if bad { Err(TileError::Range { tile_index }) } else { Ok(()) }
}

/// Rows and columns beyond the shape hold code 0, multiplier 0, offset 0.
fn padding_is_canonical(shape: LinearShape, g: usize, c: usize, tile: &[u8]) -> bool {
    let layout = shape.tile(c);
    let rows = (shape.rows - g * TILE_ROWS).min(TILE_ROWS);
    let columns = (shape.columns - c * TILE_COLUMNS).min(layout.blocks * BLOCK);
    let last = layout.blocks - 1;
    let codes_are_zero = |r: usize, b: usize, from: usize| {
        let block = &tile[b * layout.block_bytes..(b + 1) * layout.block_bytes];
        (from..BLOCK).all(|k| get_code(shape.format, block, r, k) == 0)
    };
    let tail = columns - last * BLOCK;
    let columns_ok = tail == BLOCK || (0..rows).all(|r| codes_are_zero(r, last, tail));
    let rows_ok = (rows..TILE_ROWS).all(|r| {
        (0..layout.blocks).all(|b| {
            let no_offset =
                shape.format != WeightFormat::I4Offset || offset(tile, layout, b, r) == 0;
            codes_are_zero(r, b, 0)
                && tile[layout.multipliers_at + b * TILE_ROWS + r] == 0
                && no_offset
        })
    });
    columns_ok && rows_ok
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn row(format: WeightFormat, columns: usize, seed: usize) -> WeightRow {
        let (low, high) = format.code_range();
        let span = (high - low + 1) as usize;
        let blocks = columns.div_ceil(BLOCK);
        let (m_low, m_high) = format.multiplier_range();
        let m_span = (m_high - m_low + 1) as usize;
        let multiplier = |b: usize| m_low + ((seed + b * 5) % m_span) as i32;
        let offset = |b: usize| match format.offset_max() {
            0 => 0,
            max => ((seed * 7 + b * 331) % (2 * max as usize + 1)) as i16 - max as i16,
        };
        WeightRow {
            codes: (0..columns).map(|k| (low + ((seed * 3 + k * 7) % span) as i32) as i8).collect(),
            multipliers: (0..blocks).map(|b| multiplier(b) as i8).collect(),
            offsets: (0..blocks).map(offset).collect(),
            scale: 1.0 + seed as f32,
        }
    }

    fn section(shape: LinearShape) -> (Vec<WeightRow>, Vec<u8>) {
        let rows: Vec<_> = (0..shape.rows).map(|r| row(shape.format, shape.columns, r)).collect();
        let mut bytes = vec![0; shape.bytes()];
        for (g, rows) in rows.chunks(TILE_ROWS).enumerate() {
            write_row_group(shape, g, rows, &mut bytes);
        }
        (rows, bytes)
    }

    proptest! {
        #[test]
        fn rows_come_back_and_pass_the_checks(
            rows in 1usize..40, columns in 1usize..2100, format in 0usize..3,
        ) {
            let shape = LinearShape { rows, columns, format: WeightFormat::ALL[format] };
            let (expected, bytes) = section(shape);
            prop_assert_eq!(check_scales(shape, &bytes), Ok(()));
            for g in 0..shape.row_groups() {
                for c in 0..shape.tile_columns() {
                    let tile = &bytes[shape.tile_at(g, c)..][..shape.tile(c).bytes];
                    prop_assert_eq!(check_tile(shape, g, c, tile), Ok(()));
                }
            }
            for (r, expected) in expected.iter().enumerate() {
                prop_assert_eq!(&read_row(shape, &bytes, r), expected);
            }
        }
    }

    #[test]
    fn tiles_have_the_sizes_the_spec_names() {
        let bytes = |format| TileLayout::new(format, TILE_COLUMNS / BLOCK).bytes;
        assert_eq!(WeightFormat::ALL.map(bytes), [16_896, 8_704, 9_728]);
    }

    #[test]
    fn numbers_out_of_range_are_found() {
        let shape = LinearShape { rows: 3, columns: 40, format: WeightFormat::I8 };
        let (_, bytes) = section(shape);
        let layout = shape.tile(0);
        let start = shape.tile_at(0, 0);
        let cases = [
            (0, 0x80),                        // code -128
            (layout.multipliers_at, 32),      // multiplier
            (layout.multipliers_at + 3, 1),   // multiplier of a row beyond the shape
            (layout.block_bytes + 4 * 64, 1), // code of a column beyond the shape
            (layout.bytes - 1, 1),            // filler
        ];
        for (at, value) in cases {
            let mut damaged = bytes.clone();
            damaged[start + at] = value;
            let tile = &damaged[start..start + layout.bytes];
            assert_eq!(
                check_tile(shape, 0, 0, tile),
                Err(TileError::Range { tile_index: 0 }),
                "{at}"
            );
        }
        let mut damaged = bytes.clone();
        damaged[4..8].copy_from_slice(&f32::NAN.to_le_bytes());
        assert_eq!(check_scales(shape, &damaged), Err(TileError::Scale { row_index: 1 }));
        let expected = bytes.len();
        assert_eq!(
            check_scales(shape, &bytes[1..]),
            Err(TileError::Length { got: expected - 1, expected })
        );
    }
}
