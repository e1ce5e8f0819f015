//! Memory for keys and values, in pages of 64 positions.
//!
//! Per layer and key/value head a page holds
//! ```text
//! keys    [K / 2, 64, 2] i16    pair of elements, position, element of the pair
//! values  [32, padded K, 2] i16 pair of positions, element, position of the pair
//! scales  [64] f32 of the keys, [64] f32 of the values
//! ```
//! so that a vector lane is a position for scores and an element for outputs.

use shoal_arith::limits::CHUNK;

use super::HeadsShape;

/// Index of a page in its pool.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PageId(pub u32);

/// A place for one position.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KvSlot {
    /// The page.
    pub page: PageId,
    /// The place in it, below 64.
    pub slot: u32,
}

/// Pages of one stage. Memory of a page is taken from the system when it is first written, and
/// stays until the pool goes: pages of a server come and go, and the heap would be cut into pieces.
#[derive(Debug)]
pub struct KvPool {
    shape: HeadsShape,
    layer_count: usize,
    pages: Vec<Option<Page>>,
}

#[derive(Debug)]
struct Page {
    /// `[layers, G]` of keys then values.
    codes: Box<[i16]>,
    /// `[layers, G]` of key scales then value scales.
    scales: Box<[f32]>,
}

/// Keys and values of one layer and head in one page.
#[derive(Clone, Copy)]
pub(super) struct PageHead<'a> {
    pub(super) keys: &'a [i16],
    pub(super) values: &'a [i16],
    pub(super) key_scales: &'a [f32],
    pub(super) value_scales: &'a [f32],
}

impl KvPool {
    /// A pool of `page_count` pages for `layer_count` layers.
    ///
    /// # Panics
    /// When the shape is not valid.
    #[must_use]
    pub fn new(shape: HeadsShape, layer_count: usize, page_count: usize) -> Self {
        shape.assert_valid();
        let pages = std::iter::repeat_with(|| None).take(page_count).collect();
        Self { shape, layer_count, pages }
    }

    /// Heads of each layer.
    #[must_use]
    pub const fn shape(&self) -> HeadsShape {
        self.shape
    }

    /// Pages, used or not.
    #[must_use]
    pub fn page_count(&self) -> usize {
        self.pages.len()
    }

    /// Bytes of one page.
    #[must_use]
    pub const fn page_bytes(shape: HeadsShape, layer_count: usize) -> usize {
        layer_count * shape.kv_head_count * (codes_len(shape) * 2 + CHUNK * 2 * 4)
    }

    /// Copies a page to another one; one that was never written leaves the other as it is.
    ///
    /// # Panics
    /// When a page does not exist.
    pub fn copy(&mut self, from: PageId, to: PageId) {
        let Some(source) = self.pages[from.0 as usize].as_ref() else {
            return;
        };
        let (codes, scales) = (source.codes.clone(), source.scales.clone());
        self.pages[to.0 as usize] = Some(Page { codes, scales });
    }

    /// Copies one position to another, in every layer.
    ///
    /// # Panics
    /// When a page was never written or a slot is not below 64.
    pub fn copy_slot(&mut self, from: KvSlot, to: KvSlot) {
        let mut key = vec![0; self.shape.head_width];
        let mut value = vec![0; self.shape.head_width];
        for layer in 0..self.layer_count {
            for head in 0..self.shape.kv_head_count {
                let source = self.head(from.page, layer, head);
                let slot = from.slot as usize;
                read_slot(self.shape, source, slot, &mut key, &mut value);
                let scales = (source.key_scales[slot], source.value_scales[slot]);
                self.ensure(to.page);
                self.write(layer, head, to, (&key, scales.0), (&value, scales.1));
            }
        }
    }

    /// Takes memory for a page, if it has none.
    pub(super) fn ensure(&mut self, page: PageId) {
        let heads = self.layer_count * self.shape.kv_head_count;
        let shape = self.shape;
        self.pages[page.0 as usize].get_or_insert_with(|| Page {
            codes: vec![0; heads * codes_len(shape)].into_boxed_slice(),
            scales: vec![0.0; heads * CHUNK * 2].into_boxed_slice(),
        });
    }

    /// Writes key and value of one head at `to`; the page has memory.
    pub(super) fn write(
        &mut self,
        layer: usize,
        head: usize,
        to: KvSlot,
        key: (&[i16], f32),
        value: (&[i16], f32),
    ) {
        let shape = self.shape;
        let index = layer * shape.kv_head_count + head;
        let slot = to.slot as usize;
        assert!(slot < CHUNK && layer < self.layer_count && head < shape.kv_head_count);
        let page =
            self.pages[to.page.0 as usize].as_mut().expect("pages are ensured before writes");
        let scales = &mut page.scales[index * CHUNK * 2..(index + 1) * CHUNK * 2];
        scales[slot] = key.1;
        scales[CHUNK + slot] = value.1;
        let codes = &mut page.codes[index * codes_len(shape)..(index + 1) * codes_len(shape)];
        let (keys, values) = codes.split_at_mut(shape.head_width * CHUNK);
        for (pair, key) in keys.chunks_exact_mut(CHUNK * 2).zip(key.0.chunks_exact(2)) {
            pair[slot * 2..slot * 2 + 2].copy_from_slice(key);
        }
        let row = &mut values[slot / 2 * shape.padded_width() * 2..][..shape.head_width * 2];
        for (element, &value) in row.chunks_exact_mut(2).zip(value.0) {
            element[slot % 2] = value;
        }
    }

    /// One layer and head of a page that was written.
    pub(super) fn head(&self, page: PageId, layer: usize, head: usize) -> PageHead<'_> {
        let index = layer * self.shape.kv_head_count + head;
        let page = self.pages[page.0 as usize].as_ref().expect("only written pages are read");
        let len = codes_len(self.shape);
        let (keys, values) =
            page.codes[index * len..(index + 1) * len].split_at(self.shape.head_width * CHUNK);
        let (key_scales, value_scales) =
            page.scales[index * CHUNK * 2..(index + 1) * CHUNK * 2].split_at(CHUNK);
        PageHead { keys, values, key_scales, value_scales }
    }
}

const fn codes_len(shape: HeadsShape) -> usize {
    CHUNK * (shape.head_width + shape.padded_width())
}

fn read_slot(
    shape: HeadsShape,
    page: PageHead<'_>,
    slot: usize,
    key: &mut [i16],
    value: &mut [i16],
) {
    for (key, pair) in key.chunks_exact_mut(2).zip(page.keys.chunks_exact(CHUNK * 2)) {
        key.copy_from_slice(&pair[slot * 2..slot * 2 + 2]);
    }
    let row = &page.values[slot / 2 * shape.padded_width() * 2..];
    for (value, element) in value.iter_mut().zip(row.chunks_exact(2)) {
        *value = element[slot % 2];
    }
}
