//! An answer on its way out: whole, or as a stream of events.
//!
//! Invariant: what was cut ends in an error, in the body or as the last event. Only a complete
//! answer has a `finish_reason`, and only a complete stream ends in `[DONE]`.

mod heading;
mod streaming;

use std::sync::Arc;

use axum::http::{HeaderMap, HeaderName, HeaderValue};
use axum::response::{IntoResponse as _, Response};
use shoal_base::{Generate, ModelCard, Request, Route, Timings, TokenEvent};

use self::heading::{Choice, Heading};
use self::streaming::Streaming;
use crate::answer::Answers;
use crate::app::{App, blocking};
use crate::birth::{Admission, Birth};
use crate::body;
use crate::error::ApiError;
use crate::feed;
use crate::guard::Caller;
use crate::logprobs::Scored;
use crate::metrics::Meter;
use crate::tools::{CallParser, ToolUse, Voice, fit_ids};

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
        true => feed::respond(Streaming::new(heading, choices), answers, first),
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
