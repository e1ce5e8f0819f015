//! Answers in events of Anthropic's API.

use std::collections::VecDeque;

use axum::response::sse::Event;
use serde_json::{Value, json};
use shoal_base::TokenEvent;

use super::{Heading, of_usage, to_json, usage, use_id};
use crate::error::ApiError;
use crate::feed::Feed;
use crate::tools::{CallParser, Piece, Voice};

/// A stream in progress.
pub(super) struct Streaming {
    heading: Heading,
    voice: Voice,
    /// Blocks so far; the last one is open when `open` says so.
    blocks: usize,
    open: Option<Block>,
    /// Calls so far.
    calls: usize,
    ready: VecDeque<Event>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Block {
    Text,
    Call,
}

impl Feed for Streaming {
    fn add(&mut self, _index: usize, event: TokenEvent) -> bool {
        match event {
            TokenEvent::Started { prompt_tokens, cached_tokens } => {
                let message = self.heading.message(usage(prompt_tokens, cached_tokens, 0));
                self.push("message_start", json!({ "message": message }));
            }
            TokenEvent::Token { text, .. } => {
                self.voice.pieces(&text).into_iter().for_each(|piece| self.piece(piece));
            }
            TokenEvent::Finished { reason, text, usage, .. } => {
                self.voice.last_pieces(&text).into_iter().for_each(|piece| self.piece(piece));
                if self.blocks == 0 {
                    self.begin_text();
                }
                self.close();
                let (reason, sequence) = self.heading.stop(reason, self.calls > 0);
                let delta = json!({ "stop_reason": reason, "stop_sequence": sequence });
                let usage = of_usage(usage);
                self.push("message_delta", json!({ "delta": delta, "usage": usage }));
                self.push("message_stop", json!({}));
                return false;
            }
            TokenEvent::Failed(_) => {}
        }
        true
    }

    fn fail(&mut self, error: &ApiError) {
        self.push("error", to_json(error));
    }

    fn ready(&mut self) -> Option<Event> {
        self.ready.pop_front()
    }
}

impl Streaming {
    pub(super) fn new(heading: Heading, parser: Option<CallParser>) -> Self {
        Self {
            heading,
            voice: Voice::new(parser),
            blocks: 0,
            open: None,
            calls: 0,
            ready: VecDeque::new(),
        }
    }

    fn push(&mut self, kind: &str, mut value: Value) {
        value["type"] = kind.into();
        self.ready.push_back(Event::default().event(kind).data(value.to_string()));
    }

    fn delta(&mut self, delta: Value) {
        let index = self.blocks.saturating_sub(1);
        self.push("content_block_delta", json!({ "index": index, "delta": delta }));
    }

    fn begin(&mut self, kind: Block, block: Value) {
        self.close();
        let index = self.blocks;
        self.blocks += 1;
        self.open = Some(kind);
        self.push("content_block_start", json!({ "index": index, "content_block": block }));
    }

    fn close(&mut self) {
        if self.open.take().is_some() {
            let index = self.blocks.saturating_sub(1);
            self.push("content_block_stop", json!({ "index": index }));
        }
    }

    fn begin_text(&mut self) {
        if self.open != Some(Block::Text) {
            self.begin(Block::Text, json!({ "type": "text", "text": "" }));
        }
    }

    fn piece(&mut self, piece: Piece) {
        match piece {
            Piece::Text(text) => {
                self.begin_text();
                self.delta(json!({ "type": "text_delta", "text": text }));
            }
            Piece::Begin { name } => {
                let id = use_id(&self.heading.birth.call_id(0, self.calls));
                self.calls += 1;
                let block = json!({ "type": "tool_use", "id": id, "name": name, "input": {} });
                self.begin(Block::Call, block);
            }
            Piece::Arguments(part) => {
                self.delta(json!({ "type": "input_json_delta", "partial_json": part }));
            }
            Piece::End => self.close(),
        }
    }
}
