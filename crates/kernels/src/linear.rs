//! The weights of a linear map as the kernels read them: the bytes of its section, checked.

use shoal_arith::limits::TILE_ROWS;
use shoal_arith::tile::{ALIGNMENT, LinearShape, TileError, check_scales, check_tile};
use shoal_arith::{WeightRow, tile};
use shoal_base::SharedBytes;

use crate::Team;

/// A linear map ready to multiply.
///
/// Invariant: the section has the length of its shape, begins at a multiple of 64 bytes, and every
/// scale is in range. Codes and multipliers are in range once [`Linear::check_tiles`] has passed.
#[derive(Clone, Debug)]
pub struct Linear {
    shape: LinearShape,
    section: SharedBytes,
    /// `[row_groups * 16]`
    scales: Vec<f32>,
    /// `[row_groups * 16]` when there is one.
    bias: Option<Vec<f32>>,
}

impl Linear {
    /// Takes a section and, if the map has one, its bias, `[rows]`.
    ///
    /// # Errors
    /// The section breaks a rule of its shape.
    ///
    /// # Panics
    /// When the section does not begin at a multiple of 64 bytes, or the bias has another length.
    pub fn new(
        shape: LinearShape,
        section: SharedBytes,
        bias: Option<&[f32]>,
    ) -> Result<Self, TileError> {
        check_scales(shape, &section)?;
        assert!(section.as_ptr().addr().is_multiple_of(ALIGNMENT), "sections are aligned");
        let rows = shape.row_groups() * TILE_ROWS;
        let scales = section[..rows * 4]
            .chunks_exact(4)
            .map(|bytes| f32::from_le_bytes(bytes.try_into().expect("four bytes")))
            .collect();
        let bias = bias.map(|bias| {
            assert_eq!(bias.len(), shape.rows, "one bias per row");
            let mut padded = bias.to_vec();
            padded.resize(rows, 0.0);
            padded
        });
        Ok(Self { shape, section, scales, bias })
    }

    /// Checks every tile; all threads of `team` read at memory speed.
    ///
    /// # Errors
    /// The first tile with a number out of range.
    pub fn check_tiles(&self, team: &Team) -> Result<(), TileError> {
        let bad_tile = std::sync::atomic::AtomicUsize::new(usize::MAX);
        team.split(self.shape.row_groups(), &|groups| {
            for g in groups {
                for c in 0..self.shape.tile_columns() {
                    if check_tile(self.shape, g, c, self.tile(g, c)).is_err() {
                        let index = g * self.shape.tile_columns() + c;
                        bad_tile.fetch_min(index, std::sync::atomic::Ordering::Relaxed);
                    }
                }
            }
        });
        match bad_tile.into_inner() {
            usize::MAX => Ok(()),
            tile_index => Err(TileError::Range { tile_index }),
        }
    }

    /// Its shape.
    #[must_use]
    pub const fn shape(&self) -> LinearShape {
        self.shape
    }

    /// One row, unpacked.
    ///
    /// # Panics
    /// When the row is beyond the shape.
    #[must_use]
    pub fn row(&self, row: usize) -> WeightRow {
        assert!(row < self.shape.rows, "row within the shape");
        tile::read_row(self.shape, &self.section, row)
    }

    /// Bytes read to multiply once.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.section.len()
    }

    pub(crate) fn tile(&self, g: usize, c: usize) -> &[u8] {
        &self.section[self.shape.tile_at(g, c)..][..self.shape.tile(c).bytes]
    }

    /// The tiles of a row group, one after the other.
    pub(crate) fn row_group(&self, g: usize) -> &[u8] {
        &self.section[self.shape.tile_at(g, 0)..][..self.shape.row_group_bytes()]
    }

    pub(crate) fn scales(&self, g: usize) -> &[f32; TILE_ROWS] {
        self.scales[g * TILE_ROWS..][..TILE_ROWS].try_into().expect("16 rows per group")
    }

    pub(crate) fn bias(&self, g: usize) -> Option<&[f32; TILE_ROWS]> {
        let bias = self.bias.as_ref()?;
        Some(bias[g * TILE_ROWS..][..TILE_ROWS].try_into().expect("16 rows per group"))
    }
}
