//! Where a multiplication is in a row group's weights: in the tiles as stored, or in a panel.

use shoal_arith::limits::{BLOCK, GROUP, TILE_COLUMNS, TILE_ROWS};
use shoal_arith::tile::{LinearShape, TileLayout};

use crate::Linear;
use crate::lanes::prefetch;

/// Blocks of a group.
pub(super) const GROUP_BLOCKS: usize = GROUP / BLOCK;
pub(super) const TILE_GROUPS: usize = TILE_COLUMNS / GROUP;
const LINE: usize = 64;

/// A position that moves from block to block.
///
/// # Safety
/// What a cursor points to exists as long as `begin` and `advance` stay within the blocks of the
/// row group.
pub(super) trait Cursor: Copy {
    /// Moves to the first block of a group.
    unsafe fn begin(&mut self, group: usize);
    /// Moves to the next block of the group.
    unsafe fn advance(&mut self);
    /// Asks for what comes after the group that begins here.
    #[inline(always)]
    fn ask_for_group(&self, _group: usize) {}
    /// Asks for the block that comes so many bytes after this one.
    #[inline(always)]
    fn ask_for_block(&self, _ahead: usize) {}
    /// Leaves a group.
    #[inline(always)]
    unsafe fn end(&self, _group: usize) {}
}

/// A cursor that is another one, field 0, seen as weights of some format.
macro_rules! forward_cursor {
    ([$($generics:tt)*] $cursor:ty) => {
        impl<$($generics)*> Cursor for $cursor {
            #[inline(always)]
            unsafe fn begin(&mut self, group: usize) {
                // SAFETY: as for the trait.
                unsafe { self.0.begin(group) }
            }
            #[inline(always)]
            unsafe fn advance(&mut self) {
                // SAFETY: as for the trait.
                unsafe { self.0.advance() }
            }
            #[inline(always)]
            fn ask_for_group(&self, group: usize) {
                self.0.ask_for_group(group);
            }
            #[inline(always)]
            fn ask_for_block(&self, ahead: usize) {
                self.0.ask_for_block(ahead);
            }
            #[inline(always)]
            unsafe fn end(&self, group: usize) {
                // SAFETY: as for the trait.
                unsafe { self.0.end(group) }
            }
        }
    };
}
pub(super) use forward_cursor;

/// Tiles as they are stored.
#[derive(Clone, Copy)]
pub(super) struct Tiles<'a> {
    row_group: &'a [u8],
    /// Layout of every tile but the last.
    full: TileLayout,
    last: TileLayout,
    tile_columns: usize,
    pub(super) codes: *const u8,
    pub(super) multipliers: *const u8,
    pub(super) offsets: *const u8,
}

impl<'a> Tiles<'a> {
    pub(super) fn new(weights: &'a Linear, g: usize) -> Self {
        let nowhere = std::ptr::null();
        let shape = weights.shape();
        let tile_columns = shape.tile_columns();
        Self {
            row_group: weights.row_group(g),
            full: shape.tile(0),
            last: shape.tile(tile_columns - 1),
            tile_columns,
            codes: nowhere,
            multipliers: nowhere,
            offsets: nowhere,
        }
    }

    const fn layout(&self, c: usize) -> &TileLayout {
        if c + 1 == self.tile_columns { &self.last } else { &self.full }
    }
}

impl Cursor for Tiles<'_> {
    #[inline(always)]
    unsafe fn begin(&mut self, group: usize) {
        let c = group / TILE_GROUPS;
        let block = group % TILE_GROUPS * GROUP_BLOCKS;
        let layout = *self.layout(c);
        let tile = self.row_group.as_ptr().wrapping_add(c * self.full.bytes);
        self.codes = tile.wrapping_add(block * layout.block_bytes);
        self.multipliers = tile.wrapping_add(layout.multipliers_at + block * TILE_ROWS);
        self.offsets = tile.wrapping_add(layout.offsets_at + block * TILE_ROWS * 2);
    }
    #[inline(always)]
    unsafe fn advance(&mut self) {
        self.codes = self.codes.wrapping_add(self.full.block_bytes);
        self.multipliers = self.multipliers.wrapping_add(TILE_ROWS);
        self.offsets = self.offsets.wrapping_add(TILE_ROWS * 2);
    }
    /// The multipliers and offsets that the next tile has for this group. They lie behind the codes
    /// and are read with the first of them: what is asked for ahead of the codes would bring them
    /// too late.
    #[inline(always)]
    fn ask_for_group(&self, group: usize) {
        let c = group / TILE_GROUPS;
        let block = group % TILE_GROUPS * GROUP_BLOCKS;
        let tile = self.row_group.as_ptr().wrapping_add(c * self.full.bytes);
        let next = self.layout(if c + 1 == self.tile_columns { 0 } else { c + 1 });
        let tile = tile.wrapping_add(self.layout(c).bytes);
        let lines = |from: usize, bytes: usize| {
            for line in (0..bytes).step_by(LINE) {
                prefetch(tile.wrapping_add(from + line));
            }
        };
        lines(next.multipliers_at + block * TILE_ROWS, GROUP_BLOCKS * TILE_ROWS);
        if next.offsets_at != next.end {
            lines(next.offsets_at + block * TILE_ROWS * 2, GROUP_BLOCKS * TILE_ROWS * 2);
        }
    }
    #[inline(always)]
    fn ask_for_block(&self, ahead: usize) {
        for line in (0..self.full.block_bytes).step_by(LINE) {
            prefetch(self.codes.wrapping_add(ahead + line));
        }
    }
    /// Reads the lines between the codes of this tile and those of the next, at their place in the
    /// order of memory. The machine reads ahead as long as it sees one line after the other; a gap
    /// stops it: one row, one thread of a Zen 4, 11 GB/s with the gap, 25 without.
    #[inline(always)]
    unsafe fn end(&self, group: usize) {
        let c = group / TILE_GROUPS;
        let layout = self.layout(c);
        if (group % TILE_GROUPS + 1) * GROUP_BLOCKS >= layout.blocks {
            let tile = self.row_group.as_ptr().wrapping_add(c * self.full.bytes);
            for at in (layout.multipliers_at..layout.bytes).step_by(LINE) {
                // SAFETY: the tile has these bytes.
                unsafe { tile.wrapping_add(at).read_volatile() };
            }
        }
    }
}

/// A row group spread out, `BYTES` per block.
///
/// While it is multiplied, the tiles of the next row group are brought into the cache, a few lines
/// with each block, so that memory works all the time.
#[derive(Clone, Copy)]
pub(super) struct Panel<const BYTES: usize> {
    start: *const u8,
    pub(super) block: *const u8,
    ahead: *const u8,
    lines: usize,
}

impl<const BYTES: usize> Panel<BYTES> {
    /// The panel at `start`, for pass `pass` of `passes`; row group `next` comes after.
    #[inline(always)]
    pub(super) fn new(
        start: *const u8,
        shape: LinearShape,
        next: Option<&[u8]>,
        pass: usize,
        passes: usize,
    ) -> Self {
        /// Passes among which the lines of the next row group are divided.
        const SHARES: usize = 4;
        let shares = passes.min(SHARES);
        let (ahead, lines) = match next {
            Some(next) if pass < shares => {
                let lines = next.len().div_ceil(LINE * shares * shape.blocks());
                (next.as_ptr().wrapping_add(pass * lines * shape.blocks() * LINE), lines)
            }
            _ => (start, 0),
        };
        Self { start, block: start, ahead, lines }
    }
}

impl<const BYTES: usize> Cursor for Panel<BYTES> {
    #[inline(always)]
    unsafe fn begin(&mut self, group: usize) {
        self.block = self.start.wrapping_add(group * GROUP_BLOCKS * BYTES);
    }
    #[inline(always)]
    unsafe fn advance(&mut self) {
        for _ in 0..self.lines {
            prefetch(self.ahead);
            self.ahead = self.ahead.wrapping_add(LINE);
        }
        self.block = self.block.wrapping_add(BYTES);
    }
}

/// How far ahead of the tiles' reader several rows ask for weights.
pub(super) const AHEAD_BYTES: usize = 2048;
