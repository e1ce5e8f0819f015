//! An answer as items and as the events that build them.
//!
//! Invariant: the items of a whole answer are those that its stream built.

use serde_json::{Value, json};
use shoal_base::{FinishReason, Usage};

use crate::birth::Birth;
use crate::error::ApiError;
use crate::logprobs::{self, Scored};
use crate::tools::Piece;

/// An answer in progress.
pub(super) struct Items {
    /// The answer without its items, usage and end.
    response: Value,
    birth: Birth,
    done: Vec<Value>,
    open: Option<Open>,
    events: Vec<Value>,
    sequence: u64,
    scored: Vec<Scored>,
}

enum Open {
    Text { id: String, text: String, logprobs: Vec<Value> },
    Call { id: String, call_id: String, name: String, arguments: String },
}

impl Items {
    pub(super) fn new(response: Value, birth: Birth) -> Self {
        Self {
            response,
            birth,
            done: Vec::new(),
            open: None,
            events: Vec::new(),
            sequence: 0,
            scored: Vec::new(),
        }
    }

    /// Takes the events since the last call.
    pub(super) fn take_events(&mut self) -> Vec<Value> {
        std::mem::take(&mut self.events)
    }

    fn event(&mut self, kind: &str, mut value: Value) {
        value["type"] = kind.into();
        value["sequence_number"] = self.sequence.into();
        self.sequence += 1;
        self.events.push(value);
    }

    /// The beginning.
    pub(super) fn start(&mut self) {
        for kind in ["response.created", "response.in_progress"] {
            let response = self.response.clone();
            self.event(kind, json!({ "response": response }));
        }
    }

    /// Scores of a token; they go with the next text.
    pub(super) fn score(&mut self, scored: Scored) {
        self.scored.push(scored);
    }

    /// Takes a piece.
    pub(super) fn piece(&mut self, piece: Piece) {
        match piece {
            Piece::Text(text) => self.text(&text),
            Piece::Begin { name } => self.begin_call(name),
            Piece::Arguments(part) => self.arguments(&part),
            Piece::End => self.close("completed"),
        }
    }

    fn place(&self) -> usize {
        self.done.len()
    }

    fn text(&mut self, more: &str) {
        if !matches!(self.open, Some(Open::Text { .. })) {
            self.begin_text();
        }
        let place = self.place();
        let new = match logprobs::chat(&std::mem::take(&mut self.scored))["content"].take() {
            Value::Array(new) => new,
            _ => Vec::new(),
        };
        let Some(Open::Text { id, text, logprobs }) = &mut self.open else { return };
        text.push_str(more);
        logprobs.extend(new.iter().cloned());
        let delta = json!({
            "item_id": id, "output_index": place, "content_index": 0, "delta": more,
            "logprobs": new,
        });
        self.event("response.output_text.delta", delta);
    }

    fn begin_text(&mut self) {
        self.close("completed");
        let place = self.place();
        let id = self.birth.id("msg", 0, place);
        let item = message(&id, "in_progress", Vec::new());
        let part = json!({
            "item_id": id, "output_index": place, "content_index": 0, "part": part("", &[]),
        });
        self.open = Some(Open::Text { id, text: String::new(), logprobs: Vec::new() });
        let added = json!({ "output_index": place, "item": item });
        self.event("response.output_item.added", added);
        self.event("response.content_part.added", part);
    }

    fn begin_call(&mut self, name: String) {
        self.close("completed");
        let place = self.place();
        let (id, call_id) = (self.birth.id("fc", 0, place), self.birth.call_id(0, place));
        let item = call(&id, "in_progress", &call_id, &name, "");
        let added = json!({ "output_index": place, "item": item });
        self.open = Some(Open::Call { id, call_id, name, arguments: String::new() });
        self.event("response.output_item.added", added);
    }

    fn arguments(&mut self, part: &str) {
        let place = self.place();
        let Some(Open::Call { id, arguments, .. }) = &mut self.open else { return };
        arguments.push_str(part);
        let delta = json!({ "item_id": id, "output_index": place, "delta": part });
        self.event("response.function_call_arguments.delta", delta);
    }

    /// Ends the open item.
    fn close(&mut self, status: &str) {
        let place = self.place();
        let item = match self.open.take() {
            None => return,
            Some(Open::Text { id, text, logprobs }) => {
                let part = part(&text, &logprobs);
                let at = json!({ "item_id": id, "output_index": place, "content_index": 0 });
                let mut done = at.clone();
                done["text"] = text.into();
                done["logprobs"] = logprobs.into();
                self.event("response.output_text.done", done);
                let mut done = at;
                done["part"] = part.clone();
                self.event("response.content_part.done", done);
                message(&id, status, vec![part])
            }
            Some(Open::Call { id, call_id, name, arguments }) => {
                if status == "completed" {
                    let done = json!({
                        "item_id": id, "output_index": place, "name": name,
                        "arguments": arguments,
                    });
                    self.event("response.function_call_arguments.done", done);
                }
                call(&id, status, &call_id, &name, &arguments)
            }
        };
        self.done.push(item.clone());
        self.event("response.output_item.done", json!({ "output_index": place, "item": item }));
    }

    /// The end of a complete answer; the whole of it.
    pub(super) fn finish(&mut self, reason: FinishReason, used: Usage) -> Value {
        if self.done.is_empty() && self.open.is_none() {
            self.begin_text();
        }
        let is_cut = reason == FinishReason::Length;
        let status = if is_cut { "incomplete" } else { "completed" };
        self.close(status);
        let mut whole = self.response.clone();
        whole["status"] = status.into();
        whole["output"] = std::mem::take(&mut self.done).into();
        whole["usage"] = usage(used);
        if is_cut {
            whole["incomplete_details"] = json!({ "reason": "max_output_tokens" });
        } else {
            whole["completed_at"] = crate::app::unix_s().into();
        }
        self.event(&format!("response.{status}"), json!({ "response": whole }));
        whole
    }

    /// The end of an answer that was cut by an error.
    pub(super) fn fail(&mut self, error: &ApiError) {
        let mut whole = self.response.clone();
        let message = error.to_json()["error"]["message"].take();
        whole["status"] = "failed".into();
        whole["error"] = json!({ "code": "server_error", "message": message });
        self.event("response.failed", json!({ "response": whole }));
    }
}

fn part(text: &str, logprobs: &[Value]) -> Value {
    json!({ "type": "output_text", "text": text, "annotations": [], "logprobs": logprobs })
}

fn message(id: &str, status: &str, content: Vec<Value>) -> Value {
    json!({
        "id": id, "type": "message", "status": status, "role": "assistant", "content": content,
    })
}

fn call(id: &str, status: &str, call_id: &str, name: &str, arguments: &str) -> Value {
    json!({
        "id": id, "type": "function_call", "status": status, "call_id": call_id, "name": name,
        "arguments": arguments,
    })
}

fn usage(used: Usage) -> Value {
    let (input, output) = (used.prompt_tokens, used.completion_tokens);
    json!({
        "input_tokens": input,
        "input_tokens_details": { "cached_tokens": used.cached_tokens, "cache_write_tokens": 0 },
        "output_tokens": output,
        "output_tokens_details": { "reasoning_tokens": 0 },
        "total_tokens": u64::from(input) + u64::from(output),
    })
}
