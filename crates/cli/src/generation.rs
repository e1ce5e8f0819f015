//! One answer from a request, as it streams: to the terminal or into a JSON object.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};

use serde::Serialize;
use shoal_base::{FinishReason, Flow, Generate, Request, Timings, TokenEvent, TokenLogprob, Usage};
use shoal_engine::EngineStats;

use crate::failure::Failure;
use crate::interrupt;

/// A whole answer. The fields are those of `run --json`.
#[derive(Debug, Serialize)]
pub(crate) struct Answer {
    pub(crate) text: String,
    token_ids: Vec<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    logprobs: Option<Vec<Logprob>>,
    finish_reason: &'static str,
    usage: UsageShape,
    timings: TimingsShape,
    #[serde(skip)]
    pub(crate) reason: FinishReason,
}

#[derive(Debug, Serialize)]
struct Logprob {
    #[serde(flatten)]
    token: Alternative,
    top: Vec<Alternative>,
}

#[derive(Debug, Serialize)]
struct Alternative {
    token_id: u32,
    /// Not necessarily whole characters.
    bytes: Vec<u8>,
    logprob: f32,
}

#[derive(Debug, Serialize)]
struct UsageShape {
    prompt_tokens: u32,
    cached_tokens: u32,
    completion_tokens: u32,
}

/// Rates; absent (null) when too little happened to measure one.
#[derive(Debug, Serialize)]
struct TimingsShape {
    prefill_tokens_per_s: Option<f64>,
    decode_tokens_per_s: Option<f64>,
    /// Tokens that a pass of the model gave where a draft model guessed ahead.
    #[serde(skip_serializing_if = "Option::is_none")]
    tokens_per_pass: Option<f64>,
}

impl From<TokenLogprob> for Alternative {
    fn from(token: TokenLogprob) -> Self {
        Self { token_id: token.id.0, bytes: token.bytes, logprob: token.logprob }
    }
}

impl TimingsShape {
    fn new(usage: Usage, timings: Timings) -> Self {
        let rate = |tokens: u32, us: u64| {
            (tokens > 0 && us > 0).then(|| f64::from(tokens) * 1e6 / us as f64)
        };
        let computed = usage.prompt_tokens.saturating_sub(usage.cached_tokens);
        // The first token comes with the prompt.
        let decoded = usage.completion_tokens.saturating_sub(1);
        Self {
            prefill_tokens_per_s: rate(computed, timings.prefill_us),
            decode_tokens_per_s: rate(decoded, timings.decode_us),
            tokens_per_pass: None,
        }
    }
}

impl Answer {
    /// Adds how well a draft model guessed.
    pub(crate) fn set_guesses(&mut self, stats: EngineStats) {
        if stats.guess_passes > 0 {
            let per_pass = stats.guess_tokens as f64 / stats.guess_passes as f64;
            self.timings.tokens_per_pass = Some(per_pass);
        }
    }
}

/// Runs a request and hands out its text as it comes. Ctrl-C ends it, and so does an error of
/// `show`.
pub(crate) fn run(
    model: &dyn Generate,
    request: Request,
    mut show: impl FnMut(&str) -> Result<(), Failure>,
) -> Result<Answer, Failure> {
    interrupt::watch();
    let wants_logprobs = request.logprobs.is_some();
    let (sender, events) = channel();
    let sink = move |event| match sender.send(event) {
        Ok(()) => Flow::Continue,
        Err(_) => Flow::Stop,
    };
    let generation = model.submit(request, Box::new(sink))?;
    let cancelled = Arc::clone(&generation);
    let _guard = interrupt::on_ask(move || cancelled.cancel());
    collect(&events, wants_logprobs, &mut show)
}

fn collect(
    events: &Receiver<TokenEvent>,
    wants_logprobs: bool,
    show: &mut dyn FnMut(&str) -> Result<(), Failure>,
) -> Result<Answer, Failure> {
    let mut whole = String::new();
    let mut token_ids = Vec::new();
    let mut logprobs = wants_logprobs.then(Vec::new);
    let mut add = |text: String| {
        whole.push_str(&text);
        if text.is_empty() { Ok(()) } else { show(&text) }
    };
    while let Ok(event) = events.recv() {
        match event {
            TokenEvent::Started { .. } => {}
            TokenEvent::Token { id, text, logprob, top } => {
                token_ids.push(id.0);
                if let (Some(list), Some(token)) = (&mut logprobs, logprob) {
                    let top = top.into_iter().map(Alternative::from).collect();
                    list.push(Logprob { token: token.into(), top });
                }
                add(text)?;
            }
            TokenEvent::Finished { reason, text, usage, timings } => {
                add(text)?;
                let Usage { prompt_tokens, cached_tokens, completion_tokens } = usage;
                return Ok(Answer {
                    text: whole,
                    token_ids,
                    logprobs,
                    finish_reason: reason.as_str(),
                    usage: UsageShape { prompt_tokens, cached_tokens, completion_tokens },
                    timings: TimingsShape::new(usage, timings),
                    reason,
                });
            }
            TokenEvent::Failed(error) => return Err(error.into()),
        }
    }
    Err(shoal_base::GenerateError::ShuttingDown.into())
}
