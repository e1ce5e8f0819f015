//! How well a package predicts a text.
//!
//! The text is cut into windows of `context` tokens that do not overlap; of each, the second half
//! is scored, so that every scored token has at least half a window before it. A tokenizer that
//! begins texts with a token replaces the first of each window by it. This is the rule of
//! llama.cpp's `llama-perplexity`, so that figures can be compared. Scores are f64 sums of this
//! process alone: no part of the canonical arithmetic.

use std::sync::Arc;

use shoal_arith::limits::CHUNK;
use shoal_base::{GenerateError, TokenId};
use shoal_kernels::Kernels;
use shoal_model::package::Package;

use crate::{Head, LoadError, Segment, SegmentKind, SequenceId, Stage};

/// Rows per step.
const ROWS: usize = 64;

/// The score of one window.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Window {
    /// Sum of `-ln p` over its scored tokens.
    pub nats: f64,
    /// Tokens scored.
    pub tokens: usize,
    /// First token scored, counted from the beginning of the text.
    pub first: usize,
}

/// The score of a text.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Perplexity {
    /// Its windows.
    pub windows: Vec<Window>,
}

impl Perplexity {
    /// Tokens scored.
    #[must_use]
    pub fn tokens(&self) -> usize {
        self.windows.iter().map(|w| w.tokens).sum()
    }

    /// Sum of `-ln p` over all scored tokens.
    #[must_use]
    pub fn nats(&self) -> f64 {
        self.windows.iter().map(|w| w.nats).sum()
    }

    /// `exp(nats / tokens)`
    #[must_use]
    pub fn perplexity(&self) -> f64 {
        (self.nats() / self.tokens() as f64).exp()
    }
}

/// Why a text has no score.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PerplexityError {
    /// The package.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// The window does not fit the model.
    #[error("windows of {got} tokens asked for; this model takes 4 to {limit}")]
    Context {
        /// Asked for.
        got: usize,
        /// The model's context.
        limit: usize,
    },
    /// The text is shorter than one window.
    #[error("the text has {got} tokens, one window needs {need}")]
    TooShort {
        /// Tokens of the text.
        got: usize,
        /// Tokens of a window.
        need: usize,
    },
    /// A sum met an unsound number.
    #[error(transparent)]
    Fault(GenerateError),
}

/// Scores `tokens`. `first` replaces the first token of each window; `progress` is told the share
/// done and says whether to go on (`None` comes back when not).
///
/// # Errors
/// The package is damaged, the window does not fit, or a number went out of range.
pub fn perplexity(
    package: &Package,
    kernels: &Arc<Kernels>,
    tokens: &[TokenId],
    context: usize,
    first: Option<TokenId>,
    progress: &dyn Fn(f64) -> bool,
) -> Result<Option<Perplexity>, PerplexityError> {
    let architecture = &package.manifest().architecture;
    let limit = architecture.context_tokens as usize;
    if !(4..=limit).contains(&context) {
        return Err(PerplexityError::Context { got: context, limit });
    }
    if tokens.len() < context {
        return Err(PerplexityError::TooShort { got: tokens.len(), need: context });
    }
    let pages = context.div_ceil(CHUNK);
    let layers = 0..architecture.layer_count;
    let mut scorer = Scorer {
        stage: Stage::load(Arc::clone(kernels), package, layers, pages)?,
        head: Head::load(Arc::clone(kernels), package)?,
        logits: Vec::new(),
    };
    let windows = tokens.chunks_exact(context);
    let count = windows.len();
    let mut result = Perplexity::default();
    for (i, window) in windows.enumerate() {
        if !progress(i as f64 / count as f64) {
            return Ok(None);
        }
        let mut window = window.to_vec();
        if let Some(first) = first {
            window[0] = first;
        }
        let score = scorer.window(&window).map_err(PerplexityError::Fault)?;
        result.windows.push(Window { first: i * context + score.first, ..score });
    }
    Ok(Some(result))
}

struct Scorer {
    stage: Stage,
    head: Head,
    logits: Vec<f32>,
}

impl Scorer {
    fn window(&mut self, tokens: &[TokenId]) -> Result<Window, GenerateError> {
        let sequence = SequenceId(0);
        // Row `i` predicts token `i + 1`: rows from `half` on score what follows them.
        let half = tokens.len() / 2;
        let mut window = Window { first: half + 1, ..Window::default() };
        self.stage.cache_mut().begin(sequence, &[]);
        self.stage.cache_mut().reserve(sequence, tokens.len()).expect("pages for a window");
        for start in (0..tokens.len() - 1).step_by(ROWS) {
            let end = (tokens.len() - 1).min(start + ROWS);
            let mut rows = self.head.embed(&tokens[start..end]);
            let kind = SegmentKind::Chain { rows: end - start };
            let segment = Segment { sequence, position: start, kind };
            let faults = self.stage.forward(&[segment], &mut rows).expect("pages for a window");
            if let Some((row, layer)) =
                faults.iter().enumerate().find_map(|(i, f)| f.map(|f| (i, f)))
            {
                let position = (start + row) as u32;
                return Err(GenerateError::Fault { layer_index: layer, position });
            }
            let scored = half.max(start)..end;
            if scored.is_empty() {
                continue;
            }
            let width = self.head.width();
            let rows = &rows[(scored.start - start) * width..(scored.end - start) * width];
            let unsound = self.head.logits(rows, &mut self.logits);
            if let Some(row) = unsound.iter().position(|&unsound| unsound) {
                let position = (scored.start + row) as u32;
                return Err(GenerateError::Fault { layer_index: u32::MAX, position });
            }
            let logits = self.logits.chunks_exact(self.head.vocab_count());
            for (logits, position) in logits.zip(scored) {
                window.nats += surprise(logits, tokens[position + 1]);
                window.tokens += 1;
            }
        }
        self.stage.cache_mut().end(sequence);
        Ok(window)
    }
}

/// `-ln p(token)`
fn surprise(logits: &[f32], token: TokenId) -> f64 {
    let largest = f64::from(logits.iter().copied().fold(f32::MIN, f32::max));
    let sum: f64 = logits.iter().map(|&y| (f64::from(y) - largest).exp()).sum();
    sum.ln() + largest - f64::from(logits[token.index()])
}
