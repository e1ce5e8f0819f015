//! From projections to integers: head norms, rotation, 12-bit codes, the write into the pages.

use std::sync::atomic::{AtomicBool, Ordering};

use shoal_arith::limits::{A12_CODE_MAX, ATTENTION_INPUT_LARGEST, HEAD_WIDTH_MAX};
use shoal_arith::reference::rope::{Pairing, rotate};
use shoal_arith::scalar::{magnitude_bits, nearest};

use super::{KvPool, KvSlot};
use crate::element::{clamp, norm_row};
use crate::per_isa::per_isa;
use crate::shared::SharedMut;
use crate::{Isa, Kernels};

/// Norms on each head before rotation.
#[derive(Clone, Copy, Debug)]
pub struct HeadNorms<'a> {
    /// `[K]`
    pub query: &'a [f32],
    /// `[K]`
    pub key: &'a [f32],
    /// Added to the mean square.
    pub epsilon: f32,
}

/// Angles of each row.
#[derive(Clone, Copy, Debug)]
pub struct RopeRows<'a> {
    /// `[T, pairs]`
    pub cos: &'a [f32],
    /// `[T, pairs]`
    pub sin: &'a [f32],
    /// Rotated pairs per head.
    pub pairs: usize,
    /// Which elements pair up.
    pub pairing: Pairing,
}

/// Query, key and value projections of `T` rows; overwritten by what is made of them.
#[derive(Debug)]
pub struct Projections<'a> {
    /// `[T, H * K]`
    pub query: &'a mut [f32],
    /// `[T, G * K]`
    pub key: &'a mut [f32],
    /// `[T, G * K]`
    pub value: &'a mut [f32],
}

/// Heads as integers. Buffers are reused from step to step.
#[derive(Clone, Debug, Default)]
pub struct Queries {
    pub(super) query: Heads,
    key: Heads,
    value: Heads,
}

/// `[T, heads]` heads of integers.
#[derive(Clone, Debug, Default)]
pub(super) struct Heads {
    /// `[T, heads, K]`
    pub(super) codes: Vec<i16>,
    /// `[T, heads]`; of queries, times the score scale.
    pub(super) scales: Vec<f32>,
}

/// What is done with a head before it becomes integers.
#[derive(Clone, Copy)]
struct Before<'a> {
    norm: Option<(&'a [f32], f32)>,
    rope: Option<RopeRows<'a>>,
}

impl Kernels {
    /// Makes query, key and value heads of `T` rows ready for attention in `layer`.
    ///
    /// - `slots`: where each row's key and value go, `[T]`
    /// - `score_scale`: log2(e) / sqrt(K) as the package states it
    /// - `faults`: `[T]`; a head with an element of 2^40 or more becomes zeros and sets its row's
    ///   flag
    ///
    /// # Panics
    /// When a shape does not fit.
    #[expect(clippy::too_many_arguments, reason = "the operands of one operation")]
    pub fn prepare_heads(
        &self,
        x: Projections<'_>,
        norms: Option<HeadNorms<'_>>,
        rope: RopeRows<'_>,
        score_scale: f32,
        slots: &[KvSlot],
        layer: usize,
        pool: &mut KvPool,
        heads: &mut Queries,
        faults: &[AtomicBool],
    ) {
        let shape = pool.shape();
        let rows = slots.len();
        let angles = rows * rope.pairs;
        assert_eq!(
            (rope.cos.len(), rope.sin.len(), faults.len()),
            (angles, angles, rows),
            "T rows"
        );
        assert!(rope.pairs * 2 <= shape.head_width, "rotated elements are within the head");
        let rope = Some(rope);
        let query = Before { norm: norms.map(|norms| (norms.query, norms.epsilon)), rope };
        let key = Before { norm: norms.map(|norms| (norms.key, norms.epsilon)), rope };
        let value = Before { norm: None, rope: None };
        let (h, g, width) = (shape.head_count, shape.kv_head_count, shape.head_width);
        self.heads(x.query, h, width, query, score_scale, &mut heads.query, faults);
        self.heads(x.key, g, width, key, 1.0, &mut heads.key, faults);
        self.heads(x.value, g, width, value, 1.0, &mut heads.value, faults);
        for (t, &slot) in slots.iter().enumerate() {
            pool.ensure(slot.page);
            for head in 0..g {
                let at = t * g + head;
                let row = |heads: &Heads| (at * width..(at + 1) * width, heads.scales[at]);
                let (codes, key_scale) = row(&heads.key);
                let key = (&heads.key.codes[codes], key_scale);
                let (codes, value_scale) = row(&heads.value);
                let value = (&heads.value.codes[codes], value_scale);
                pool.write(layer, head, slot, key, value);
            }
        }
    }

    #[expect(clippy::too_many_arguments, reason = "the operands of one operation")]
    fn heads(
        &self,
        x: &mut [f32],
        count: usize,
        width: usize,
        before: Before<'_>,
        factor: f32,
        out: &mut Heads,
        faults: &[AtomicBool],
    ) {
        let rows = faults.len();
        assert_eq!(x.len(), rows * count * width, "T rows of heads");
        out.codes.resize(x.len(), 0);
        out.scales.resize(rows * count, 0.0);
        let x = SharedMut::new(x);
        let codes = SharedMut::new(&mut out.codes);
        let scales = SharedMut::new(&mut out.scales);
        self.rows(rows, count * width, &|range| {
            for t in range {
                for at in t * count..(t + 1) * count {
                    // SAFETY: row `t` belongs to one member, and with it these places.
                    let (head, codes, scale) = unsafe {
                        let head = at * width;
                        (x.range(head, width), codes.range(head, width), scales.range(at, 1))
                    };
                    let sound = prepare_head(self.isa(), head, t, before);
                    match quantize_head(self.isa(), head, codes).filter(|_| sound) {
                        Some(head_scale) => scale[0] = head_scale * factor,
                        None => {
                            codes.fill(0);
                            scale[0] = 0.0;
                            faults[t].store(true, Ordering::Relaxed);
                        }
                    }
                }
            }
        });
    }
}

/// Norm and rotation; false when an element is not sound.
fn prepare_head(isa: Isa, head: &mut [f32], t: usize, before: Before<'_>) -> bool {
    let mut sound = true;
    if let Some((weight, epsilon)) = before.norm {
        let mut normed = [0.0; HEAD_WIDTH_MAX];
        let normed = &mut normed[..head.len()];
        sound = norm_row(isa, head, weight, epsilon, normed);
        head.copy_from_slice(normed);
    }
    if let Some(rope) = before.rope {
        let angles = t * rope.pairs..(t + 1) * rope.pairs;
        rotate_head(isa, head, &rope.cos[angles.clone()], &rope.sin[angles], rope.pairing);
    }
    sound
}

per_isa! {
    fn rotate_head(head: &mut [f32], cos: &[f32], sin: &[f32], pairing: Pairing) = rotate;
}

per_isa! {
    /// Quantizes a head to 12 bits and returns its scale; `None` when an element is too large.
    fn quantize_head(head: &[f32], codes: &mut [i16]) -> Option<f32> = generic_quantize_head;
}

#[inline(always)]
fn generic_quantize_head(head: &[f32], codes: &mut [i16]) -> Option<f32> {
    let limit = A12_CODE_MAX as f32;
    let bits = head.iter().fold(0, |largest, &x| magnitude_bits(x).max(largest));
    if bits >= ATTENTION_INPUT_LARGEST.to_bits() {
        return None;
    }
    let scale = f32::from_bits(bits) / limit;
    let inverse = if scale == 0.0 { 0.0 } else { 1.0 / scale };
    for (code, &x) in codes.iter_mut().zip(head) {
        *code = nearest(clamp(x * inverse, limit)) as i16;
    }
    Some(scale)
}
