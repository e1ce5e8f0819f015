//! The draw: the largest of logit + noise.

use shoal_arith::reference::noise::{GUMBEL_MAX, Noise, gumbel};
use shoal_arith::scalar::{LOG2_E, exp2};
use shoal_base::TokenId;

use super::filter;

/// At least `2^32 e^-n`: so many words have noise above `n`. The margin covers the divisions.
const WORDS_ABOVE: [f64; 24] = {
    let mut table = [4_294_967_296.0 * 1.001; 24];
    let mut n = 1;
    while n < table.len() {
        table[n] = table[n - 1] / std::f64::consts::E;
        n += 1;
    }
    table
};

/// The best token so far.
struct Best {
    score: f64,
    id: TokenId,
}

impl Best {
    const NONE: Self = Self { score: f64::NEG_INFINITY, id: TokenId(0) };

    /// Takes a token that scores higher, or as high with a lower id.
    fn offer(&mut self, score: f64, id: TokenId) {
        if score > self.score || score == self.score && id < self.id {
            *self = Self { score, id };
        }
    }
}

/// The draw among some tokens.
pub(super) fn largest_of(tokens: &[(TokenId, f32)], seed: u64, position: u32) -> TokenId {
    let mut noise = Noise::new(seed, position);
    let mut best = Best::NONE;
    for &(id, logit) in tokens {
        best.offer(f64::from(logit) + noise.gumbel(id.0), id);
    }
    best.id
}

/// The draw among all tokens. Computes noise only for tokens that can win: with a logit `gap` below
/// the best score, a token needs noise above `gap`, so a word in the last `e^-gap` of all words.
pub(super) fn largest_of_all(logits: &[f32], seed: u64, position: u32) -> TokenId {
    let mut noise = Noise::new(seed, position);
    let first = filter::largest(logits);
    let mut best = Best::NONE;
    best.offer(f64::from(logits[first.index()]) + noise.gumbel(first.0), first);
    // Rounded so that no token that could win falls below it.
    let mut floor = (best.score - GUMBEL_MAX) as f32 - 1e-3;
    for (i, &logit) in logits.iter().enumerate() {
        if logit < floor {
            continue;
        }
        let id = TokenId(i as u32);
        let word = noise.word(id.0);
        if could_win(word, best.score - f64::from(logit)) {
            best.offer(f64::from(logit) + gumbel(word), id);
            floor = floor.max((best.score - GUMBEL_MAX) as f32 - 1e-3);
        }
    }
    best.id
}

/// False only if `gumbel(word) < gap` for certain.
///
/// `-ln(u) >= 1 - u`, so noise above `gap` needs `1 - u <= e^-gap`. The margin covers the rounding
/// of the bound itself.
fn could_win(word: u32, gap: f64) -> bool {
    if gap <= 0.0 {
        return true;
    }
    let from_end = f64::from(u32::MAX - word) + 0.5;
    // Most words lose against the next larger power already, which costs no exponential.
    if from_end > WORDS_ABOVE[(gap as usize).min(WORDS_ABOVE.len() - 1)] {
        return false;
    }
    let share = f64::from(exp2((-gap as f32 * LOG2_E).max(-60.0))) * 1.001;
    from_end <= share * 4_294_967_296.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shortcuts_change_no_draw() {
        let mut state = 1_u64;
        for case in 0..300 {
            let spread = [0.1, 1.0, 4.0, 20.0][case % 4];
            let logits: Vec<f32> = (0..500)
                .map(|_| {
                    state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                    ((state >> 40) as f32 / 8_388_608.0 - 1.0) * spread
                })
                .collect();
            let all: Vec<(TokenId, f32)> =
                logits.iter().enumerate().map(|(i, &l)| (TokenId(i as u32), l)).collect();
            let seed = case as u64;
            assert_eq!(largest_of_all(&logits, seed, 9), largest_of(&all, seed, 9));
        }
    }

    #[test]
    fn no_word_that_wins_is_skipped() {
        for word in (0..=u32::MAX).step_by(65_537).chain(u32::MAX - 5000..=u32::MAX) {
            let g = gumbel(word);
            assert!(could_win(word, g - 1e-9), "{word}");
        }
    }
}
