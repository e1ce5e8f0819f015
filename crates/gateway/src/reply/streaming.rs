//! A reply as a stream of events.

use std::collections::VecDeque;

use axum::response::sse::Event;
use serde_json::{Value, json};
use shoal_base::TokenEvent;

use super::Shape;
use super::heading::{Choice, Heading};
use crate::error::ApiError;
use crate::feed::Feed;
use crate::logprobs::Scored;
use crate::tools::{Call, Piece};

/// A stream in progress.
pub(super) struct Streaming {
    heading: Heading,
    choices: Vec<Choice>,
    ready: VecDeque<Event>,
}

impl Feed for Streaming {
    fn add(&mut self, index: usize, event: TokenEvent) -> bool {
        match event {
            TokenEvent::Started { .. } => {
                if self.heading.shape == Shape::Chat {
                    let delta = json!({ "role": "assistant", "content": "", "refusal": null });
                    self.push_chunk(index, delta, Value::Null, None);
                }
            }
            TokenEvent::Token { text, logprob, top, .. } => {
                let scored: Vec<_> =
                    logprob.map(|token| Scored { token, top }).into_iter().collect();
                let pieces = self.choices[index].voice.pieces(&text);
                self.pieces(index, pieces, &scored);
            }
            TokenEvent::Finished { reason, text, usage, timings } => {
                let pieces = self.choices[index].voice.last_pieces(&text);
                self.pieces(index, pieces, &[]);
                self.choices[index].end = Some((reason, usage, timings));
                let delta = match self.heading.shape {
                    Shape::Chat => json!({}),
                    Shape::Text => json!(""),
                };
                let reason = self.choices[index].reason();
                self.push_chunk(index, delta, Value::Null, reason);
                if self.choices.iter().all(|choice| choice.end.is_some()) {
                    self.end();
                    return false;
                }
            }
            TokenEvent::Failed(_) => {}
        }
        true
    }

    fn fail(&mut self, error: &ApiError) {
        self.push(&error.to_json());
    }

    fn ready(&mut self) -> Option<Event> {
        self.ready.pop_front()
    }
}

impl Streaming {
    pub(super) const fn new(heading: Heading, choices: Vec<Choice>) -> Self {
        Self { heading, choices, ready: VecDeque::new() }
    }

    fn push(&mut self, value: &Value) {
        self.ready.push_back(Event::default().data(value.to_string()));
    }

    fn push_chunk(
        &mut self,
        index: usize,
        delta: Value,
        logprobs: Value,
        reason: Option<&'static str>,
    ) {
        let chunk = self.heading.chunk(index, delta, logprobs, reason);
        let json = serde_json::to_string(&chunk).expect("keys are texts");
        self.ready.push_back(Event::default().data(json));
    }

    /// Sends pieces; the scores of a token go with the first of them.
    fn pieces(&mut self, index: usize, pieces: Vec<Piece>, scored: &[Scored]) {
        let has_scores = self.heading.has_logprobs && !scored.is_empty();
        let mut logprobs = match has_scores {
            true => self.heading.logprobs(scored, &mut self.choices[index].offset),
            false => Value::Null,
        };
        if pieces.is_empty() && has_scores {
            let delta = self.heading.text_delta("");
            self.push_chunk(index, delta, logprobs.take(), None);
        }
        for piece in pieces {
            let Some(delta) = self.delta(index, piece) else { continue };
            self.push_chunk(index, delta, logprobs.take(), None);
        }
    }

    /// What changes with a piece.
    fn delta(&mut self, index: usize, piece: Piece) -> Option<Value> {
        let calls = &mut self.choices[index].said.calls;
        match piece {
            Piece::Text(text) => Some(self.heading.text_delta(&text)),
            Piece::Begin { name } => {
                let place = calls.len();
                let id = self.heading.birth.call_id(index, place);
                let function = json!({ "name": name, "arguments": "" });
                calls.push(Call::default());
                Some(json!({ "tool_calls": [{
                    "index": place, "id": id, "type": "function", "function": function,
                }] }))
            }
            Piece::Arguments(part) => {
                let place = calls.len().saturating_sub(1);
                let function = json!({ "arguments": part });
                Some(json!({ "tool_calls": [{ "index": place, "function": function }] }))
            }
            Piece::End => None,
        }
    }

    fn end(&mut self) {
        if self.heading.has_usage {
            let mut last = self.heading.start(self.heading.chunk_object());
            last["choices"] = json!([]);
            last["usage"] = self.heading.usage(&self.choices);
            self.push(&last);
        }
        self.ready.push_back(Event::default().data("[DONE]"));
    }
}
