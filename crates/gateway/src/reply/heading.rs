//! The objects of a reply: what all its parts repeat, its choices, its pieces.

use serde::Serialize;
use serde_json::{Value, json};
use shoal_base::{FinishReason, ModelCard, Timings, Usage};

use super::{Order, Shape};
use crate::birth::Birth;
use crate::logprobs::{self, Scored};
use crate::tools::{Call, Said, Voice};

/// A piece of a stream. There are as many as tokens, so it is written without a tree in between.
#[derive(Serialize)]
pub(super) struct Chunk<'a> {
    id: &'a str,
    object: &'static str,
    created: u64,
    model: &'a str,
    system_fingerprint: &'a str,
    choices: [ChunkChoice; 1],
    /// `null`, if the last piece has it.
    #[serde(skip_serializing_if = "Option::is_none")]
    usage: Option<()>,
}

#[derive(Serialize)]
struct ChunkChoice {
    index: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    delta: Option<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    text: Option<Value>,
    logprobs: Value,
    finish_reason: Option<&'static str>,
}

/// What all parts of a reply repeat.
#[derive(Debug)]
pub(super) struct Heading {
    pub(super) shape: Shape,
    id: String,
    pub(super) birth: Birth,
    model: String,
    fingerprint: String,
    pub(super) has_usage: bool,
    pub(super) has_logprobs: bool,
    choices_per_prompt: usize,
}

/// One choice so far.
#[derive(Clone, Debug, Default)]
pub(super) struct Choice {
    pub(super) said: Said,
    pub(super) voice: Voice,
    pub(super) scored: Vec<Scored>,
    pub(super) offset: usize,
    pub(super) end: Option<(FinishReason, Usage, Timings)>,
}

impl Choice {
    /// The word for why it ended.
    pub(super) fn reason(&self) -> Option<&'static str> {
        let (reason, ..) = self.end?;
        Some(match reason {
            FinishReason::Stop(_) if !self.said.calls.is_empty() => "tool_calls",
            reason => reason.as_str(),
        })
    }

    fn message(&mut self) -> Value {
        let Said { text, calls } = std::mem::take(&mut self.said);
        let content = if text.is_empty() && !calls.is_empty() { Value::Null } else { text.into() };
        let mut message = json!({ "role": "assistant", "content": content, "refusal": null });
        if !calls.is_empty() {
            message["tool_calls"] = calls.iter().map(call_json).collect();
        }
        message
    }
}

fn call_json(call: &Call) -> Value {
    let function = json!({ "name": call.name, "arguments": call.arguments });
    json!({ "id": call.id, "type": "function", "function": function })
}

impl Heading {
    pub(super) fn new(card: &ModelCard, order: &Order, birth: Birth) -> Self {
        let prefix = match order.shape {
            Shape::Chat => "chatcmpl",
            Shape::Text => "cmpl",
        };
        Self {
            shape: order.shape,
            id: birth.id(prefix, 0, 0).replacen('_', "-", 1),
            birth,
            model: card.name.clone(),
            fingerprint: card.package.to_string(),
            has_usage: order.include_usage,
            has_logprobs: order.prompts.iter().any(|request| request.logprobs.is_some()),
            choices_per_prompt: order.choices_per_prompt as usize,
        }
    }

    pub(super) fn chunk_object(&self) -> &'static str {
        match self.shape {
            Shape::Chat => "chat.completion.chunk",
            Shape::Text => "text_completion",
        }
    }

    pub(super) fn start(&self, object: &str) -> Value {
        json!({
            "id": self.id,
            "object": object,
            "created": self.birth.created_unix_s,
            "model": self.model,
            "system_fingerprint": self.fingerprint,
        })
    }

    pub(super) fn logprobs(&self, scored: &[Scored], offset: &mut usize) -> Value {
        match self.shape {
            Shape::Chat => logprobs::chat(scored),
            Shape::Text => logprobs::completion(scored, offset),
        }
    }

    pub(super) fn text_delta(&self, text: &str) -> Value {
        match self.shape {
            Shape::Chat => json!({ "content": text }),
            Shape::Text => json!(text),
        }
    }

    pub(super) fn chunk(
        &self,
        index: usize,
        delta: Value,
        logprobs: Value,
        finish_reason: Option<&'static str>,
    ) -> Chunk<'_> {
        let (delta, text) = match self.shape {
            Shape::Chat => (Some(delta), None),
            Shape::Text => (None, Some(delta)),
        };
        Chunk {
            id: &self.id,
            object: self.chunk_object(),
            created: self.birth.created_unix_s,
            model: &self.model,
            system_fingerprint: &self.fingerprint,
            choices: [ChunkChoice { index, delta, text, logprobs, finish_reason }],
            usage: self.has_usage.then_some(()),
        }
    }

    pub(super) fn whole(&self, choices: &mut [Choice]) -> Value {
        let mut body = self.start(match self.shape {
            Shape::Chat => "chat.completion",
            Shape::Text => "text_completion",
        });
        let usage = self.usage(choices);
        let choices = choices.iter_mut().enumerate().map(|(index, choice)| {
            let logprobs = match self.has_logprobs {
                true => self.logprobs(&choice.scored, &mut choice.offset),
                false => Value::Null,
            };
            let reason = choice.reason();
            let (key, said) = match self.shape {
                Shape::Chat => ("message", choice.message()),
                Shape::Text => ("text", std::mem::take(&mut choice.said.text).into()),
            };
            json!({
                "index": index, key: said, "logprobs": logprobs, "finish_reason": reason,
            })
        });
        body["choices"] = choices.collect();
        body["usage"] = usage;
        body
    }

    /// Each prompt counts once, however many answers it has.
    pub(super) fn usage(&self, choices: &[Choice]) -> Value {
        let usages = || choices.iter().filter_map(|choice| choice.end).map(|(_, usage, _)| usage);
        let firsts = || usages().step_by(self.choices_per_prompt);
        let prompt: u64 = firsts().map(|usage| u64::from(usage.prompt_tokens)).sum();
        let cached: u64 = firsts().map(|usage| u64::from(usage.cached_tokens)).sum();
        let completion: u64 = usages().map(|usage| u64::from(usage.completion_tokens)).sum();
        json!({
            "prompt_tokens": prompt,
            "completion_tokens": completion,
            "total_tokens": prompt + completion,
            "prompt_tokens_details": { "cached_tokens": cached },
        })
    }
}
