//! Rotary positions. Spec 01 §6.2.

use crate::scalar::flush;

/// Which elements of a head form a pair.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pairing {
    /// 2i and 2i + 1.
    Interleaved,
    /// i and i + pairs.
    Half,
}

/// Rotates one head in place, before it becomes integers. `cos`, `sin`: `[pairs]`; elements beyond
/// 2 * pairs pass through.
#[inline(always)]
pub fn rotate(head: &mut [f32], cos: &[f32], sin: &[f32], pairing: Pairing) {
    let pairs = cos.len();
    for i in 0..pairs {
        let (ia, ib) = match pairing {
            Pairing::Interleaved => (2 * i, 2 * i + 1),
            Pairing::Half => (i, i + pairs),
        };
        let (a, b) = (head[ia], head[ib]);
        head[ia] = flush(a * cos[i] - b * sin[i]);
        head[ib] = flush(a * sin[i] + b * cos[i]);
    }
}
