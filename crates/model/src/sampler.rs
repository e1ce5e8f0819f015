//! From logits to the next token. Spec 01 §9.
//!
//! Order: bias, penalties, (log-probabilities), mask of the grammar, temperature, top-k, top-p,
//! min-p, then the largest of logit / temperature + noise. Everything is a function of (logits,
//! parameters, tokens so far, seed, position): no state is hidden in a generator. Ties go to the
//! lowest id.

mod filter;
mod noise;

use std::collections::BTreeMap;

use shoal_arith::reference::probability::{log_total, logprob, mass};
use shoal_base::{LogprobsRequest, Sampling, TokenId};

/// Chooses tokens for one answer.
#[derive(Clone, Debug)]
pub struct Sampler {
    sampling: Sampling,
    logprobs: Option<LogprobsRequest>,
    /// Occurrences in prompt and answer, and in the answer alone. Empty when no penalty is on.
    seen: BTreeMap<TokenId, Seen>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Seen {
    in_prompt: bool,
    in_answer: u32,
}

/// A token and what was asked about it.
#[derive(Clone, Debug, PartialEq)]
pub struct Sampled {
    /// The token.
    pub id: TokenId,
    /// Its log-probability, when asked for.
    pub logprob: Option<f32>,
    /// The most probable tokens, largest first, when asked for.
    pub top: Vec<(TokenId, f32)>,
}

/// Which tokens a grammar allows: bit `i % 32` of word `i / 32`.
pub type TokenMask<'a> = &'a [u32];

impl Sampler {
    /// A sampler for an answer to `prompt`.
    #[must_use]
    pub fn new(sampling: Sampling, logprobs: Option<LogprobsRequest>, prompt: &[TokenId]) -> Self {
        let mut seen = BTreeMap::new();
        if sampling.repetition_penalty != 1.0 {
            for &id in prompt {
                seen.insert(id, Seen { in_prompt: true, in_answer: 0 });
            }
        }
        Self { sampling, logprobs, seen }
    }

    /// Notes a token of the answer, so that penalties see it.
    pub fn commit(&mut self, id: TokenId) {
        let Sampling { repetition_penalty, presence_penalty, frequency_penalty, .. } =
            self.sampling;
        if (repetition_penalty, presence_penalty, frequency_penalty) != (1.0, 0.0, 0.0) {
            self.seen.entry(id).or_default().in_answer += 1;
        }
    }

    /// The token at `position` (the number of tokens before it). Overwrites `logits`, `[V]`.
    ///
    /// `mask`: tokens the grammar allows; at least one.
    #[must_use]
    pub fn sample(
        &self,
        logits: &mut [f32],
        position: u32,
        mask: Option<TokenMask<'_>>,
    ) -> Sampled {
        self.adjust(logits);
        let before = self.logprobs.map(|asked| (logits.to_vec(), asked));
        if let Some(mask) = mask {
            apply_mask(logits, mask);
        }
        let id = match self.sampling.temperature == 0.0 {
            true => filter::largest(logits),
            false => self.draw(logits, position),
        };
        let Some((logits, asked)) = before else {
            return Sampled { id, logprob: None, top: Vec::new() };
        };
        let top = logits[filter::largest(&logits).index()];
        let log_total = log_total(logits.iter().map(|&logit| mass(logit, top)).sum());
        let of = |id: TokenId| logprob(logits[id.index()], top, log_total);
        let tokens = filter::top_tokens(&logits, asked.top_count.into());
        let tokens = tokens.into_iter().map(|id| (id, of(id))).collect();
        Sampled { id, logprob: Some(of(id)), top: tokens }
    }

    /// Bias and penalties.
    fn adjust(&self, logits: &mut [f32]) {
        for &(id, bias) in &self.sampling.logit_bias {
            logits[id.index()] += bias;
        }
        let Sampling { repetition_penalty, presence_penalty, frequency_penalty, .. } =
            self.sampling;
        for (id, seen) in &self.seen {
            let logit = &mut logits[id.index()];
            if seen.in_prompt || seen.in_answer > 0 {
                *logit = match *logit > 0.0 {
                    true => *logit / repetition_penalty,
                    false => *logit * repetition_penalty,
                };
            }
            if seen.in_answer > 0 {
                *logit -= presence_penalty;
                *logit -= frequency_penalty * seen.in_answer as f32;
            }
        }
    }

    fn draw(&self, logits: &mut [f32], position: u32) -> TokenId {
        for logit in logits.iter_mut() {
            *logit /= self.sampling.temperature;
        }
        let Sampling { top_k, top_p, min_p, seed, .. } = self.sampling;
        if top_k == 0 && top_p >= 1.0 && min_p <= 0.0 {
            return noise::largest_of_all(logits, seed, position);
        }
        let kept = filter::keep(logits, top_k, top_p, min_p);
        noise::largest_of(&kept, seed, position)
    }
}

/// Minus infinity for tokens that are not allowed.
fn apply_mask(logits: &mut [f32], mask: TokenMask<'_>) {
    for (i, logit) in logits.iter_mut().enumerate() {
        let allowed = mask.get(i / 32).is_some_and(|word| word >> (i % 32) & 1 == 1);
        if !allowed {
            *logit = f32::NEG_INFINITY;
        }
    }
}

#[cfg(test)]
mod tests;
