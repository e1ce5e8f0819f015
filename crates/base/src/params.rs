//! Every parameter that shapes an answer. Each is honoured or refused; none is dropped.

use crate::{Grammar, TokenId};

/// How the next token is chosen from the logits. Spec 01 §9.
///
/// The order is fixed: bias, penalties, grammar, temperature, top-k, top-p, min-p, then the largest
/// of logit / temperature + noise(seed, position, token).
#[derive(Clone, Debug, PartialEq)]
pub struct Sampling {
    /// 0 means arg-max. At most 100.
    pub temperature: f32,
    /// Keep the `top_k` largest logits; 0 keeps all.
    pub top_k: u32,
    /// Keep the smallest set of largest probabilities that reaches this mass, in (0, 1].
    pub top_p: f32,
    /// Keep tokens with at least this fraction of the largest probability, in [0, 1].
    pub min_p: f32,
    /// Divides positive and multiplies negative logits of tokens seen in prompt or answer, in
    /// [0.01, 100]; 1 is off.
    pub repetition_penalty: f32,
    /// Subtracted once from tokens present in the answer, in [-2, 2].
    pub presence_penalty: f32,
    /// Subtracted per occurrence in the answer, in [-2, 2].
    pub frequency_penalty: f32,
    /// Added to single logits, in [-100, 100]; ids must be distinct and in the vocabulary.
    pub logit_bias: Vec<(TokenId, f32)>,
    /// Seed of the noise stream. Same seed, same answer.
    pub seed: u64,
    /// Restricts the answer's text.
    pub grammar: Option<Grammar>,
}

impl Default for Sampling {
    fn default() -> Self {
        Self {
            temperature: 1.0,
            top_k: 0,
            top_p: 1.0,
            min_p: 0.0,
            repetition_penalty: 1.0,
            presence_penalty: 0.0,
            frequency_penalty: 0.0,
            logit_bias: Vec::new(),
            seed: 0,
            grammar: None,
        }
    }
}

/// When an answer ends.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StopRules {
    /// Tokens to generate at most; `None` means as many as the context holds.
    pub tokens_max: Option<u32>,
    /// The answer ends before the first occurrence of one of these.
    pub strings: Vec<String>,
    /// The answer ends at one of these tokens, besides the package's own end-of-turn tokens.
    pub ids: Vec<TokenId>,
    /// Keep generating past the package's end-of-turn tokens.
    pub ignore_end_of_turn: bool,
}

/// Log-probabilities to report with each token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogprobsRequest {
    /// Alternatives per token, at most [`crate::RequestLimits::TOP_LOGPROBS_MAX`].
    pub top_count: u8,
}

/// Scheduling class of a request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Lane {
    /// Somebody waits for each token.
    #[default]
    Interactive,
    /// Throughput counts; runs when no interactive request needs the machine.
    Batch,
}
