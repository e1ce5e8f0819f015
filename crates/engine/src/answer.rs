//! One answer: logits in, events out. The same machine serves the local engine and a swarm head.
//!
//! Owns sampling, grammar, stop rules, detokenization, usage. Does not own where logits come from.
//! Everything but the timings is a function of (prompt, parameters, logits).

use std::sync::Arc;

use shoal_base::{
    FinishReason, GenerateError, Request, StopCause, StopRules, TokenEvent, TokenId, TokenLogprob,
};
use shoal_model::sampler::{Sampled, Sampler};
use shoal_model::tokenizer::{ControlTokens, DecodeFrom, Detokenizer, Tokenizer};

use crate::grammar::Constraint;
use crate::stop::{Passed, StopMatcher};

/// An answer in progress.
#[derive(Debug)]
pub struct Answer {
    tokenizer: Arc<Tokenizer>,
    sampler: Sampler,
    constraint: Option<Constraint>,
    stop: StopRules,
    matcher: StopMatcher,
    detokenizer: Detokenizer,
    prompt_count: u32,
    count: u32,
    limit: u32,
    logprobs: bool,
}

/// What a token led to.
#[derive(Clone, Debug, PartialEq)]
pub enum Next {
    /// The answer goes on with this token.
    Token(TokenId, TokenEvent),
    /// The answer is over; the event, if any, belongs to its last token. `text` was held back until
    /// now.
    End {
        /// The last token's event; an end-of-turn token has none.
        event: Option<TokenEvent>,
        /// Why.
        reason: FinishReason,
        /// Text held back.
        text: String,
    },
}

impl Answer {
    /// An answer to `prompt` of at most `limit` tokens.
    #[must_use]
    pub(crate) fn new(
        tokenizer: Arc<Tokenizer>,
        request: &Request,
        constraint: Option<Constraint>,
        prompt: &[TokenId],
        limit: u32,
    ) -> Self {
        let sampler = Sampler::new(request.sampling.clone(), request.logprobs, prompt);
        let from = if prompt.is_empty() { DecodeFrom::Start } else { DecodeFrom::Middle };
        let control = match request.show_control {
            true => ControlTokens::Show,
            false => ControlTokens::Skip,
        };
        let detokenizer = Detokenizer::new(Arc::clone(&tokenizer), from, control);
        Self {
            tokenizer,
            sampler,
            constraint,
            matcher: StopMatcher::new(&request.stop.strings),
            stop: request.stop.clone(),
            detokenizer,
            prompt_count: u32::try_from(prompt.len()).expect("prompts are bounded"),
            count: 0,
            limit,
            logprobs: request.logprobs.is_some(),
        }
    }

    /// Tokens generated so far.
    #[must_use]
    pub const fn count(&self) -> u32 {
        self.count
    }

    pub(crate) const fn sampler(&self) -> &Sampler {
        &self.sampler
    }

    /// Most tokens it may have.
    #[must_use]
    pub const fn limit(&self) -> u32 {
        self.limit
    }

    /// Chooses the next token from its logits, `[V]`, which are overwritten.
    ///
    /// # Errors
    /// The grammar cannot go on.
    pub fn advance(&mut self, logits: &mut [f32]) -> Result<Next, GenerateError> {
        let mask = self.constraint.as_mut().map(Constraint::mask).transpose()?;
        let position = self.prompt_count + self.count;
        let sampled = self.sampler.sample(logits, position, mask.as_deref());
        let id = sampled.id;
        self.count += 1;
        self.sampler.commit(id);
        if let Some(cause) = self.end_at(id) {
            let reason = FinishReason::Stop(cause);
            return Ok(Next::End { event: None, reason, text: self.finish() });
        }
        if let Some(constraint) = &mut self.constraint {
            constraint.commit(id)?;
        }
        let piece = self.detokenizer.push(id).expect("sampled ids are in the vocabulary");
        let (text, stopped) = match self.matcher.push(&piece) {
            Passed::Text(text) => (text, None),
            Passed::Stopped(text, index) => (text, Some(StopCause::String { index })),
        };
        let event = self.event(sampled, text);
        if let Some(cause) = stopped {
            let (reason, text) = (FinishReason::Stop(cause), String::new());
            return Ok(Next::End { event: Some(event), reason, text });
        }
        let complete = self.constraint.as_ref().is_some_and(Constraint::is_complete);
        let reason = match (complete, self.count >= self.limit) {
            (true, _) => FinishReason::Stop(StopCause::Grammar),
            (_, true) => FinishReason::Length,
            _ => return Ok(Next::Token(id, event)),
        };
        Ok(Next::End { event: Some(event), reason, text: self.finish() })
    }

    /// The text held back, when the answer is cut.
    pub fn finish(&mut self) -> String {
        let mut text = self.matcher.finish();
        let rest = self.detokenizer.clone().finish();
        text.push_str(&rest);
        text
    }

    /// What ends the answer at this token, if anything does.
    fn end_at(&self, id: TokenId) -> Option<StopCause> {
        if self.stop.ids.contains(&id) {
            return Some(StopCause::Token(id));
        }
        let end_of_turn = &self.tokenizer.spec().special.end_of_turn;
        let ends = !self.stop.ignore_end_of_turn && end_of_turn.contains(&id);
        ends.then_some(StopCause::EndOfTurn)
    }

    fn event(&self, sampled: Sampled, text: String) -> TokenEvent {
        let of = |id: TokenId, logprob: f32| {
            let bytes = self.tokenizer.token_bytes(id).unwrap_or_default().to_vec();
            TokenLogprob { id, bytes, logprob }
        };
        let logprob = sampled.logprob.filter(|_| self.logprobs).map(|l| of(sampled.id, l));
        let top = sampled.top.into_iter().map(|(id, logprob)| of(id, logprob)).collect();
        TokenEvent::Token { id: sampled.id, text, logprob, top }
    }
}
