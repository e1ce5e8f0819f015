//! Bounds on what one request may ask for. Checked before anything is allocated.

/// Largest sizes accepted in one request, whatever the model.
#[derive(Clone, Copy, Debug)]
pub struct RequestLimits;

impl RequestLimits {
    /// Text of one prompt. A 10 MB prompt is refused here, before it is tokenized.
    pub const PROMPT_BYTES_MAX: usize = 8 << 20;
    /// Stop strings in one request, and the length of each.
    pub const STOP_STRINGS_MAX: usize = 16;
    /// Longest stop string; the detokenizer holds back this much text at most.
    pub const STOP_STRING_BYTES_MAX: usize = 256;
    /// Stop token ids in one request.
    pub const STOP_IDS_MAX: usize = 64;
    /// Entries of `logit_bias`.
    pub const LOGIT_BIAS_MAX: usize = 1024;
    /// Alternatives reported per token.
    pub const TOP_LOGPROBS_MAX: u8 = 20;
    /// Source text of a grammar, schema or expression.
    pub const GRAMMAR_BYTES_MAX: usize = 256 << 10;
}
