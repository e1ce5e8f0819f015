//! `POST /v1/messages`: conversations in the words of Anthropic's API. Text only.
//!
//! Invariant: a cut answer ends in an error; only a complete one has a `stop_reason`.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::sync::Arc;

use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse as _, Response};
use futures_util::{Stream, stream};
use serde_json::{Map, Value, json};
use shoal_base::{FinishReason, Prompt, Request, TokenEvent, Usage};

use crate::answer::Answers;
use crate::app::{App, blocking};
use crate::error::ApiError;
use crate::limits::MESSAGES_MAX;
use crate::metrics::Meter;
use crate::params::{Fields, MESSAGES};
use crate::{body, reply, sampling};

/// Where it is served.
pub(crate) const PATH: &str = "/v1/messages";

pub(crate) async fn messages(State(app): State<Arc<App>>, body: Body) -> Response {
    answer(app, body).await.unwrap_or_else(|error| refused(&error))
}

async fn answer(app: Arc<App>, body: Body) -> Result<Response, ApiError> {
    let (name, request, stream) = order(&body::read(body).await?)?;
    let model = app.open(Some(name)).await?;
    let headers = reply::headers(model.card(), Some(&request));
    let meter = Meter::new(&app.metrics, &model.card().name);
    let phase = app.phase.clone();
    let name = model.card().name.clone();
    let start = move || Answers::start(model, vec![request], phase, meter);
    let mut answers = blocking(start).await?;
    // The status is only sent once it is known that there is an answer.
    let (_, first) = answers.next().await?;
    let mut response = match stream {
        true => {
            Sse::new(events(name, answers, first)).keep_alive(KeepAlive::default()).into_response()
        }
        false => body::json(&whole(name, answers, first).await?),
    };
    response.headers_mut().extend(headers);
    Ok(response)
}

/// Understands a request: the model, what is asked, whether to stream.
pub(crate) fn order(body: &[u8]) -> Result<(String, Request, bool), ApiError> {
    let mut fields = Fields::parse(body, MESSAGES)?;
    let model = fields.text("model")?;
    let model = model.ok_or_else(|| ApiError::Missing { name: "model".to_owned() })?;
    let limit = fields.whole("max_tokens")?;
    let limit = limit.ok_or_else(|| ApiError::Missing { name: "max_tokens".to_owned() })?;
    let mut request = Request::new(prompt(&mut fields)?);
    if let Some(metadata) = fields.take("metadata") {
        Fields::inner(metadata, "metadata", &["user_id"])?.text("user_id")?;
    }
    let stream = fields.flag("stream")?.unwrap_or(false);
    sampling::read(&mut fields, &mut request)?;
    request.stop.tokens_max = Some(limit);
    Ok((model, request, stream))
}

fn prompt(fields: &mut Fields) -> Result<Prompt, ApiError> {
    let mut messages = Vec::new();
    if let Some(system) = fields.take("system") {
        let text = content(system, "system")?;
        messages.push(json!({ "role": "system", "content": text }));
    }
    let turns = match fields.need("messages")? {
        Value::Array(turns) if (1..=MESSAGES_MAX).contains(&turns.len()) => turns,
        _ => {
            let rule = format!("is a list of 1 to {MESSAGES_MAX} messages");
            return Err(ApiError::parameter("messages", rule));
        }
    };
    let last = turns.len() - 1;
    for (index, turn) in turns.into_iter().enumerate() {
        let place = format!("messages[{index}]");
        let mut turn = Fields::inner(turn, &place, &["role", "content"])?;
        let role = turn.text("role")?;
        match role.as_deref() {
            Some("user") => {}
            Some("assistant") if index < last => {}
            Some("assistant") => {
                let rule = "is \"user\" in the last message; answers cannot be begun here";
                return Err(ApiError::parameter(turn.name("role"), rule));
            }
            _ => {
                return Err(ApiError::parameter(turn.name("role"), "is \"user\" or \"assistant\""));
            }
        }
        let text = content(turn.need("content")?, &turn.name("content"))?;
        messages.push(json!({ "role": role, "content": text }));
    }
    let variables = Map::new();
    Ok(Prompt::Chat { messages, tools: Vec::new(), variables, add_generation_prompt: true })
}

/// A text, or blocks of text.
fn content(value: Value, place: &str) -> Result<String, ApiError> {
    let blocks = match value {
        Value::String(text) => return Ok(text),
        Value::Array(blocks) if !blocks.is_empty() => blocks,
        _ => return Err(ApiError::parameter(place, "is a string or a list of text blocks")),
    };
    let mut whole = String::new();
    for (index, block) in blocks.into_iter().enumerate() {
        let place = format!("{place}[{index}]");
        if block.get("type").and_then(Value::as_str) != Some("text") {
            return Err(ApiError::parameter(format!("{place}.type"), "is \"text\""));
        }
        // Every prefix is cached, so a wish for it is granted already.
        let mut block = Fields::inner(block, &place, &["type", "text", "cache_control"])?;
        if let Some(wish) = block.take("cache_control") {
            Fields::inner(wish, &block.name("cache_control"), &["type", "ttl"])?;
        }
        let text = block.text("text")?;
        whole += &text.ok_or_else(|| ApiError::Missing { name: block.name("text") })?;
    }
    Ok(whole)
}

fn message(name: &str, input: Value) -> Value {
    json!({
        "id": format!("msg_{}", crate::guard::random_id()),
        "type": "message", "role": "assistant", "model": name, "content": [],
        "stop_reason": null, "stop_sequence": null, "usage": input,
    })
}

/// Tokens found in the cache are counted apart.
fn usage(prompt: u32, cached: u32, output: u32) -> Value {
    json!({
        "input_tokens": prompt.saturating_sub(cached),
        "cache_read_input_tokens": cached,
        "cache_creation_input_tokens": 0,
        "output_tokens": output,
    })
}

fn of_usage(used: Usage) -> Value {
    usage(used.prompt_tokens, used.cached_tokens, used.completion_tokens)
}

fn stop_reason(reason: FinishReason) -> &'static str {
    match reason {
        FinishReason::Stop => "end_turn",
        FinishReason::Length => "max_tokens",
        FinishReason::Cancelled => unreachable!("answers that were cancelled are errors"),
    }
}

async fn whole(name: String, mut answers: Answers, first: TokenEvent) -> Result<Value, ApiError> {
    let (mut event, mut whole) = (first, String::new());
    loop {
        match event {
            TokenEvent::Token { text, .. } => whole += &text,
            TokenEvent::Finished { reason, text, usage, .. } => {
                whole += &text;
                let mut message = message(&name, of_usage(usage));
                message["content"] = json!([{ "type": "text", "text": whole }]);
                message["stop_reason"] = stop_reason(reason).into();
                return Ok(message);
            }
            TokenEvent::Started { .. } | TokenEvent::Failed(_) => {}
        }
        event = answers.next().await?.1;
    }
}

struct Streaming {
    name: String,
    /// Absent when it has ended.
    answers: Option<Answers>,
    ready: VecDeque<Event>,
}

fn events(
    name: String,
    answers: Answers,
    first: TokenEvent,
) -> impl Stream<Item = Result<Event, Infallible>> {
    let mut streaming = Streaming { name, answers: Some(answers), ready: VecDeque::new() };
    streaming.add(first);
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
                Ok((_, event)) => self.add(event),
                Err(error) => {
                    self.push("error", to_json(&error));
                    self.answers = None;
                }
            }
        }
    }

    fn push(&mut self, kind: &str, mut value: Value) {
        value["type"] = kind.into();
        self.ready.push_back(Event::default().event(kind).data(value.to_string()));
    }

    fn text(&mut self, text: &str) {
        if !text.is_empty() {
            let delta = json!({ "type": "text_delta", "text": text });
            self.push("content_block_delta", json!({ "index": 0, "delta": delta }));
        }
    }

    fn add(&mut self, event: TokenEvent) {
        match event {
            TokenEvent::Started { prompt_tokens, cached_tokens } => {
                let message = message(&self.name, usage(prompt_tokens, cached_tokens, 0));
                self.push("message_start", json!({ "message": message }));
                let block = json!({ "type": "text", "text": "" });
                self.push("content_block_start", json!({ "index": 0, "content_block": block }));
            }
            TokenEvent::Token { text, .. } => self.text(&text),
            TokenEvent::Finished { reason, text, usage, .. } => {
                self.text(&text);
                self.push("content_block_stop", json!({ "index": 0 }));
                let delta = json!({ "stop_reason": stop_reason(reason), "stop_sequence": null });
                let usage = of_usage(usage);
                self.push("message_delta", json!({ "delta": delta, "usage": usage }));
                self.push("message_stop", json!({}));
                self.answers = None;
            }
            TokenEvent::Failed(_) => {}
        }
    }
}

/// An error in the words of this API.
fn to_json(error: &ApiError) -> Value {
    let kind = match error.status() {
        StatusCode::UNAUTHORIZED => "authentication_error",
        StatusCode::FORBIDDEN => "permission_error",
        StatusCode::NOT_FOUND => "not_found_error",
        StatusCode::PAYLOAD_TOO_LARGE => "request_too_large",
        StatusCode::TOO_MANY_REQUESTS => "rate_limit_error",
        StatusCode::SERVICE_UNAVAILABLE => "overloaded_error",
        status if status.is_server_error() => "api_error",
        _ => "invalid_request_error",
    };
    let message = error.to_json()["error"]["message"].take();
    json!({ "type": "error", "error": { "type": kind, "message": message } })
}

/// A response that says why there is no answer.
pub(crate) fn refused(error: &ApiError) -> Response {
    // The headers are those of the other endpoints.
    let mut response = error.clone().into_response();
    let kind = HeaderValue::from_static("application/json");
    *response.body_mut() = Body::from(to_json(error).to_string());
    response.headers_mut().insert(header::CONTENT_TYPE, kind);
    response.headers_mut().remove(header::CONTENT_LENGTH);
    response
}

#[cfg(test)]
mod tests {
    use super::*;
    use shoal_base::GenerateError;

    fn request() -> Value {
        json!({
            "model": "m", "max_tokens": 5, "messages": [{ "role": "user", "content": "x" }],
        })
    }

    fn name_of(name: &str, value: Value) -> String {
        let mut body = request();
        body[name] = value;
        match order(body.to_string().as_bytes()) {
            Ok(_) => String::new(),
            Err(error) => error.to_json()["error"]["param"].as_str().unwrap().to_owned(),
        }
    }

    #[test]
    fn every_parameter_is_honoured_or_refused_by_name() {
        for (name, _) in MESSAGES {
            let wrong = json!({ "no parameter": [{}] });
            let refused = name_of(name, wrong);
            assert!(
                refused == *name || refused.starts_with(&format!("{name}.")),
                "{name} {refused}"
            );
        }
        assert_eq!(name_of("more", json!(1)), "more");
        assert_eq!(name_of("max_tokens", Value::Null), "max_tokens");
        assert_eq!(name_of("metadata", json!({ "user_id": "u" })), "");
        assert_eq!(name_of("thinking", json!({ "type": "disabled" })), "");
    }

    #[test]
    fn messages_and_system_are_text() {
        let blocks = json!([
            { "type": "text", "text": "a", "cache_control": { "type": "ephemeral" } },
            { "type": "text", "text": "b" },
        ]);
        let mut body = request();
        body["system"] = blocks;
        let (_, request, _) = order(body.to_string().as_bytes()).unwrap();
        let Prompt::Chat { messages, .. } = request.prompt else { panic!("a conversation") };
        assert_eq!(messages[0], json!({ "role": "system", "content": "ab" }));
        let last = json!([{ "role": "assistant", "content": "x" }]);
        assert_eq!(name_of("messages", last), "messages[0].role");
        let image = json!([{ "role": "user", "content": [{ "type": "image" }] }]);
        assert_eq!(name_of("messages", image), "messages[0].content[0].type");
    }

    #[test]
    fn errors_have_the_words_of_this_api() {
        let overloaded = ApiError::Generate(GenerateError::Overloaded { retry_after_ms: 1 });
        assert_eq!(to_json(&overloaded)["error"]["type"], "rate_limit_error");
        let response = refused(&overloaded);
        assert_eq!(response.status(), 429);
        assert!(response.headers().contains_key(header::RETRY_AFTER));
    }
}
