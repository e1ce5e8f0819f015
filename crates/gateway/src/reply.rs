//! An answer on its way out: whole, or as a stream of events.
//!
//! Invariant: what was cut ends in an error, in the body or as the last event. Only a complete
//! answer has a `finish_reason`, and only a complete stream ends in `[DONE]`.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::sync::Arc;

use axum::http::{HeaderMap, HeaderName, HeaderValue};
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse as _, Response};
use futures_util::{Stream, stream};
use serde::Serialize;
use serde_json::{Value, json};
use shoal_base::{FinishReason, Generate, ModelCard, Request, Route, Timings, TokenEvent, Usage};

use crate::answer::Answers;
use crate::app::{App, blocking};
use crate::birth::{Admission, Birth};
use crate::body;
use crate::error::ApiError;
use crate::guard::Caller;
use crate::logprobs::{self, Scored};
use crate::metrics::Meter;
use crate::tools::{Call, CallParser, Piece, Said, ToolUse, Voice, fit_ids};

/// Which endpoint speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Shape {
    /// `/v1/chat/completions`.
    Chat,
    /// `/v1/completions`.
    Text,
}

/// A request, understood.
#[derive(Debug)]
pub(crate) struct Order {
    pub(crate) model: Option<String>,
    pub(crate) shape: Shape,
    /// One for each prompt.
    pub(crate) prompts: Vec<Request>,
    /// Answers for each prompt; the seed of answer `i` is the request's seed plus `i`.
    pub(crate) choices_per_prompt: u32,
    pub(crate) stream: bool,
    pub(crate) include_usage: bool,
    /// Tools that may be called.
    pub(crate) tools: Option<ToolUse>,
}

impl Order {
    /// Fits the prompts to the model; what finds calls in its answers.
    fn fit(&mut self, model: &dyn Generate) -> Result<Option<CallParser>, ApiError> {
        let mut parser = None;
        for request in &mut self.prompts {
            fit_ids(model.card().tool_calls, &mut request.prompt);
            if let Some(tools) = &self.tools {
                parser = Some(tools.apply(model, request)?);
            }
        }
        Ok(parser)
    }

    /// The birth of the answers; all prompts have one seed.
    fn settle(&mut self, card: &ModelCard, admission: &Admission) -> Result<Birth, ApiError> {
        let seed = self.prompts.first().map_or(0, |request| request.sampling.seed);
        let birth = admission.birth(card.package, seed)?;
        for request in &mut self.prompts {
            request.sampling.seed = birth.seed;
        }
        Ok(birth)
    }

    fn requests(&self) -> Vec<Request> {
        let choices = self.prompts.iter().flat_map(|prompt| {
            (0..self.choices_per_prompt).map(|index| {
                let mut request = prompt.clone();
                request.sampling.seed = request.sampling.seed.wrapping_add(u64::from(index));
                request
            })
        });
        choices.collect()
    }
}

/// A piece of a stream. There are as many as tokens, so it is written without a tree in between.
#[derive(Serialize)]
struct Chunk<'a> {
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
struct Heading {
    shape: Shape,
    id: String,
    birth: Birth,
    model: String,
    fingerprint: String,
    has_usage: bool,
    has_logprobs: bool,
    choices_per_prompt: usize,
}

/// One choice so far.
#[derive(Clone, Debug, Default)]
struct Choice {
    said: Said,
    voice: Voice,
    scored: Vec<Scored>,
    offset: usize,
    end: Option<(FinishReason, Usage, Timings)>,
}

impl Choice {
    /// The word for why it ended.
    fn reason(&self) -> Option<&'static str> {
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

/// Answers an order.
pub(crate) async fn reply(
    app: Arc<App>,
    caller: &Caller,
    admission: Admission,
    mut order: Order,
) -> Result<Response, ApiError> {
    order.prompts.iter_mut().for_each(|request| caller.salt_request(request));
    let model = app.open(order.model.clone()).await?;
    let computes = Arc::clone(&model);
    let meter = Meter::new(&app.metrics, &model.card().name);
    let (stream, phase) = (order.stream, app.phase.clone());
    let start = move || {
        let parser = order.fit(&*model)?;
        let birth = order.settle(model.card(), &admission)?;
        let headers = headers(model.card(), order.prompts.first());
        let heading = Heading::new(model.card(), &order, birth);
        let requests = order.requests();
        let choice = Choice { voice: Voice::new(parser), ..Choice::default() };
        let choices = vec![choice; requests.len()];
        Ok((heading, headers, Answers::start(model, requests, phase, meter)?, choices))
    };
    let (heading, mut headers, mut answers, choices) = blocking(start).await?;
    let is_whole = answers.whole();
    // The status is only sent once it is known that there is an answer.
    let first = answers.next().await?;
    add_route(&mut headers, &*computes);
    let mut response = match stream {
        true => {
            let events = events(heading, choices, answers, first);
            Sse::new(events).keep_alive(KeepAlive::default()).into_response()
        }
        false => whole(heading, choices, answers, first).await?,
    };
    response.headers_mut().extend(headers);
    response.extensions_mut().insert(is_whole);
    Ok(response)
}

/// Headers that say who answers.
pub(crate) fn headers(card: &ModelCard, request: Option<&Request>) -> HeaderMap {
    let mut headers = HeaderMap::new();
    let mut add = |name: &'static str, value: String| {
        let value = HeaderValue::from_str(&value).expect("digits and letters");
        headers.insert(HeaderName::from_static(name), value);
    };
    add("x-shoal-package", card.package.to_string());
    add("x-shoal-verification", "none".to_owned());
    if let Some(request) = request {
        add("x-shoal-seed", request.sampling.seed.to_string());
    }
    headers
}

/// Headers that say where it was computed. Known when there is a first event, not before.
pub(crate) fn add_route(headers: &mut HeaderMap, model: &dyn Generate) {
    let (route, privacy) = match model.route() {
        Route::Local => (HeaderValue::from_static("local"), "local"),
        Route::Nodes(nodes) => {
            let route = HeaderValue::from_str(&nodes);
            (route.expect("digits, letters and punctuation"), "none")
        }
    };
    headers.insert(HeaderName::from_static("x-shoal-route"), route);
    let privacy = HeaderValue::from_static(privacy);
    headers.insert(HeaderName::from_static("x-shoal-privacy"), privacy);
}

async fn whole(
    heading: Heading,
    mut choices: Vec<Choice>,
    mut answers: Answers,
    first: (usize, TokenEvent),
) -> Result<Response, ApiError> {
    let (mut index, mut event) = first;
    loop {
        let choice = &mut choices[index];
        match event {
            TokenEvent::Token { text, logprob, top, .. } => {
                choice.said.extend(choice.voice.pieces(&text), &heading.birth, index);
                let scored = logprob.map(|token| Scored { token, top });
                choice.scored.extend(scored.filter(|_| heading.has_logprobs));
            }
            TokenEvent::Finished { reason, text, usage, timings } => {
                choice.said.extend(choice.voice.last_pieces(&text), &heading.birth, index);
                choice.end = Some((reason, usage, timings));
            }
            TokenEvent::Started { .. } | TokenEvent::Failed(_) => {}
        }
        if choices.iter().all(|choice| choice.end.is_some()) {
            break;
        }
        (index, event) = answers.next().await?;
    }
    let timing = server_timing(&choices);
    let body = heading.whole(&mut choices);
    Ok(([("server-timing", timing)], body::json(&body)).into_response())
}

fn server_timing(choices: &[Choice]) -> String {
    let timings = || choices.iter().filter_map(|choice| choice.end).map(|(_, _, timings)| timings);
    let longest = |part: fn(Timings) -> u64| timings().map(part).max().unwrap_or(0) as f64 / 1e3;
    format!(
        "queue;dur={:.3}, prefill;dur={:.3}, decode;dur={:.3}",
        longest(|timings| timings.queue_us),
        longest(|timings| timings.prefill_us),
        longest(|timings| timings.decode_us),
    )
}

/// A stream in progress.
struct Streaming {
    heading: Heading,
    choices: Vec<Choice>,
    /// Absent when it has ended.
    answers: Option<Answers>,
    ready: VecDeque<Event>,
}

fn events(
    heading: Heading,
    choices: Vec<Choice>,
    answers: Answers,
    (index, event): (usize, TokenEvent),
) -> impl Stream<Item = Result<Event, Infallible>> {
    let mut streaming =
        Streaming { heading, choices, answers: Some(answers), ready: VecDeque::new() };
    streaming.add(index, event);
    stream::unfold(streaming, |mut streaming| async {
        let event = streaming.next().await?;
        Some((Ok(event), streaming))
    })
}

impl Streaming {
    async fn next(&mut self) -> Option<Event> {
        loop {
            if let Some(event) = self.ready.pop_front() {
                return Some(event);
            }
            match self.answers.as_mut()?.next().await {
                Ok((index, event)) => self.add(index, event),
                Err(error) => {
                    self.push(&error.to_json());
                    self.answers = None;
                }
            }
        }
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

    fn add(&mut self, index: usize, event: TokenEvent) {
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
                }
            }
            TokenEvent::Failed(_) => {}
        }
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
        self.answers = None;
    }
}

impl Heading {
    fn new(card: &ModelCard, order: &Order, birth: Birth) -> Self {
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

    fn chunk_object(&self) -> &'static str {
        match self.shape {
            Shape::Chat => "chat.completion.chunk",
            Shape::Text => "text_completion",
        }
    }

    fn start(&self, object: &str) -> Value {
        json!({
            "id": self.id,
            "object": object,
            "created": self.birth.created_unix_s,
            "model": self.model,
            "system_fingerprint": self.fingerprint,
        })
    }

    fn logprobs(&self, scored: &[Scored], offset: &mut usize) -> Value {
        match self.shape {
            Shape::Chat => logprobs::chat(scored),
            Shape::Text => logprobs::completion(scored, offset),
        }
    }

    fn text_delta(&self, text: &str) -> Value {
        match self.shape {
            Shape::Chat => json!({ "content": text }),
            Shape::Text => json!(text),
        }
    }

    fn chunk(
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

    fn whole(&self, choices: &mut [Choice]) -> Value {
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
    fn usage(&self, choices: &[Choice]) -> Value {
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
