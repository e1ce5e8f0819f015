//! Which tokens stay in the draw.

use std::cmp::Ordering;

use shoal_arith::limits::PROBABILITY_BITS;
use shoal_arith::reference::probability::mass;
use shoal_base::TokenId;

/// Tokens looked at first when the cut of top-p is searched; most cuts are among them.
const FIRST_LOOK: usize = 256;

/// The token with the largest logit; of equal ones the first.
pub(super) fn largest(logits: &[f32]) -> TokenId {
    const LANES: usize = 16;
    let mut lanes = [f32::NEG_INFINITY; LANES];
    let chunks = logits.chunks_exact(LANES);
    let rest = chunks.remainder();
    for chunk in chunks {
        for (lane, &logit) in lanes.iter_mut().zip(chunk) {
            *lane = if logit > *lane { logit } else { *lane };
        }
    }
    let top = lanes.iter().chain(rest).fold(f32::NEG_INFINITY, |a, &b| if b > a { b } else { a });
    id(logits.iter().position(|&logit| logit == top).unwrap_or(0))
}

/// The `count` tokens with the largest logits, largest first; of equal ones the first.
pub(super) fn top_tokens(logits: &[f32], count: usize) -> Vec<TokenId> {
    let mut ids: Vec<usize> = (0..logits.len()).collect();
    let count = count.min(ids.len());
    first(&mut ids, count, |&a, &b| descending(logits, a, b));
    ids.into_iter().map(id).collect()
}

/// The tokens that pass top-k, top-p and min-p, with their logits.
pub(super) fn keep(logits: &[f32], top_k: u32, top_p: f32, min_p: f32) -> Vec<(TokenId, f32)> {
    let top = logits[largest(logits).index()];
    let mut ids: Vec<usize> =
        (0..logits.len()).filter(|&i| logits[i] > f32::NEG_INFINITY).collect();
    let top_k = if top_k == 0 { usize::MAX } else { top_k as usize };
    if top_k < ids.len() {
        first(&mut ids, top_k, |&a, &b| descending(logits, a, b));
    }
    if top_p < 1.0 {
        cut_mass(&mut ids, logits, top, top_p);
    }
    let least = (f64::from(min_p) * f64::from(1_u32 << PROBABILITY_BITS)).ceil() as u64;
    let kept = ids.into_iter().filter(|&i| mass(logits[i], top) >= least);
    kept.map(|i| (id(i), logits[i])).collect()
}

/// Keeps the smallest number of largest tokens whose mass reaches `top_p` of the whole, at least
/// one.
fn cut_mass(ids: &mut Vec<usize>, logits: &[f32], top: f32, top_p: f32) {
    let total: u64 = ids.iter().map(|&i| mass(logits[i], top)).sum();
    // `sum >= top_p * total`, in integers.
    let wanted = (f64::from(top_p) * 4_294_967_296.0).ceil() as u128 * u128::from(total);
    let mut look = FIRST_LOOK;
    loop {
        let count = look.min(ids.len());
        let mut head = ids.clone();
        first(&mut head, count, |&a, &b| descending(logits, a, b));
        let mut sum = 0_u128;
        for (i, &token) in head.iter().enumerate() {
            sum += u128::from(mass(logits[token], top));
            if sum << 32 >= wanted {
                head.truncate(i + 1);
                *ids = head;
                return;
            }
        }
        if count == ids.len() {
            return;
        }
        look *= 8;
    }
}

/// Larger logits first; of equal ones the lower id.
fn descending(logits: &[f32], a: usize, b: usize) -> Ordering {
    logits[b].total_cmp(&logits[a]).then(a.cmp(&b))
}

/// Reduces `ids` to its first `count` in the given order, sorted.
fn first(ids: &mut Vec<usize>, count: usize, order: impl Fn(&usize, &usize) -> Ordering) {
    if count < ids.len() {
        if count > 0 {
            ids.select_nth_unstable_by(count - 1, &order);
        }
        ids.truncate(count);
    }
    ids.sort_unstable_by(order);
}

fn id(index: usize) -> TokenId {
    TokenId(u32::try_from(index).expect("a vocabulary has at most 2^20 entries"))
}
