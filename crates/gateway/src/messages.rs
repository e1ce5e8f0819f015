//! `POST /v1/messages`: conversations in the words of Anthropic's API: text and tools.
//!
//! Invariant: a cut answer ends in an error; only a complete one has a `stop_reason`.

mod ask;
mod stream;

use std::sync::Arc;

use axum::Extension;
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use serde_json::{Value, json};
use shoal_base::{FinishReason, StopCause, TokenEvent, Usage};

use crate::answer::Answers;
use crate::app::{App, blocking};
use crate::birth::{Admission, Birth};
use crate::error::ApiError;
use crate::feed;
use crate::guard::Caller;
use crate::metrics::Meter;
use crate::tools::{CallParser, Said, Voice, fit_ids};
use crate::{body, reply};
use ask::Ask;
use stream::Streaming;

/// Where it is served.
pub(crate) const PATH: &str = "/v1/messages";

pub(crate) async fn messages(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    Extension(admission): Extension<Admission>,
    body: Body,
) -> Response {
    answer(app, &caller, admission, body).await.unwrap_or_else(|error| refused(&error))
}

/// What all parts of an answer need.
struct Heading {
    birth: Birth,
    model: String,
    stop_sequences: Vec<String>,
}

async fn answer(
    app: Arc<App>,
    caller: &Caller,
    admission: Admission,
    body: Body,
) -> Result<Response, ApiError> {
    let Ask { model, mut request, stream, tools } = ask::ask(&body::read(&app, body).await?)?;
    caller.salt_request(&mut request);
    let model = app.open(Some(model)).await?;
    let computes = Arc::clone(&model);
    let meter = Meter::new(&app.metrics, &model.card().name);
    let phase = app.phase.clone();
    let start = move || {
        fit_ids(model.card().tool_calls, &mut request.prompt);
        let parser = tools.map(|tools| tools.apply(&*model, &mut request)).transpose()?;
        let birth = admission.birth(model.card().package, request.sampling.seed)?;
        request.sampling.seed = birth.seed;
        let headers = reply::headers(model.card(), Some(&request));
        let stop_sequences = request.stop.strings.clone();
        let heading = Heading { birth, model: model.card().name.clone(), stop_sequences };
        Ok((heading, headers, Answers::start(model, vec![request], phase, meter)?, parser))
    };
    let (heading, mut headers, mut answers, parser) = blocking(start).await?;
    let is_whole = answers.whole();
    // The status is only sent once it is known that there is an answer.
    let first = answers.next().await?;
    reply::add_route(&mut headers, &*computes);
    let mut response = match stream {
        true => feed::respond(Streaming::new(heading, parser), answers, first),
        false => body::json(&whole(&heading, answers, parser, first.1).await?),
    };
    response.headers_mut().extend(headers);
    response.extensions_mut().insert(is_whole);
    Ok(response)
}

impl Heading {
    fn message(&self, usage: Value) -> Value {
        json!({
            "id": self.birth.id("msg", 0, 0),
            "type": "message", "role": "assistant", "model": self.model, "content": [],
            "stop_reason": null, "stop_sequence": null, "usage": usage,
        })
    }

    /// Why an answer ended, and the sequence that ended it.
    fn stop(&self, reason: FinishReason, has_calls: bool) -> (&'static str, Value) {
        match reason {
            FinishReason::Stop(StopCause::String { index }) => {
                let sequence = self.stop_sequences.get(usize::from(index));
                ("stop_sequence", sequence.map_or(Value::Null, |text| text.as_str().into()))
            }
            FinishReason::Stop(_) if has_calls => ("tool_use", Value::Null),
            FinishReason::Stop(_) => ("end_turn", Value::Null),
            FinishReason::Length => ("max_tokens", Value::Null),
            FinishReason::Cancelled => unreachable!("answers that were cancelled are errors"),
        }
    }
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

/// The id of a call in this API.
fn use_id(id: &str) -> String {
    format!("toolu_{}", id.trim_start_matches("call_"))
}

async fn whole(
    heading: &Heading,
    mut answers: Answers,
    parser: Option<CallParser>,
    first: TokenEvent,
) -> Result<Value, ApiError> {
    let (mut event, mut said, mut voice) = (first, Said::default(), Voice::new(parser));
    loop {
        match event {
            TokenEvent::Token { text, .. } => said.extend(voice.pieces(&text), &heading.birth, 0),
            TokenEvent::Finished { reason, text, usage, .. } => {
                said.extend(voice.last_pieces(&text), &heading.birth, 0);
                let mut message = heading.message(of_usage(usage));
                let (reason, sequence) = heading.stop(reason, !said.calls.is_empty());
                message["content"] = blocks(&said);
                message["stop_reason"] = reason.into();
                message["stop_sequence"] = sequence;
                return Ok(message);
            }
            TokenEvent::Started { .. } | TokenEvent::Failed(_) => {}
        }
        event = answers.next().await?.1;
    }
}

/// Text first, then calls. A call that was cut has no input to show and is left out.
fn blocks(said: &Said) -> Value {
    let calls = said.calls.iter().filter_map(|call| {
        let input: Value = serde_json::from_str(&call.arguments).ok()?;
        let id = use_id(&call.id);
        Some(json!({ "type": "tool_use", "id": id, "name": call.name, "input": input }))
    });
    let calls: Vec<Value> = calls.collect();
    // Clients expect at least one block.
    let has_text = !said.text.is_empty() || calls.is_empty();
    let text = has_text.then(|| json!({ "type": "text", "text": said.text }));
    text.into_iter().chain(calls).collect()
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

    #[test]
    fn errors_have_the_words_of_this_api() {
        let overloaded = ApiError::Generate(GenerateError::Overloaded { retry_after_ms: 1 });
        assert_eq!(to_json(&overloaded)["error"]["type"], "rate_limit_error");
        let response = refused(&overloaded);
        assert_eq!(response.status(), 429);
        assert!(response.headers().contains_key(header::RETRY_AFTER));
    }
}
