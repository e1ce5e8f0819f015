//! `POST /v1/responses`: text and tools in the words of OpenAI's newer API.
//!
//! Nothing is kept: an answer cannot be fetched or continued by its id. Invariant: only a complete
//! answer is `completed`; one that ran into its limit is `incomplete`, one that was cut `failed`.

mod ask;
mod items;

use std::collections::VecDeque;
use std::sync::Arc;

use axum::Extension;
use axum::body::Body;
use axum::extract::State;
use axum::response::Response;
use axum::response::sse::Event;
use serde_json::{Value, json};
use shoal_base::{ModelCard, TokenEvent};

use crate::answer::Answers;
use crate::app::{App, blocking};
use crate::birth::{Admission, Birth};
use crate::error::ApiError;
use crate::feed::{self, Feed};
use crate::guard::Caller;
use crate::logprobs::Scored;
use crate::metrics::Meter;
use crate::tools::{Voice, fit_ids};
use crate::{body, reply};
use ask::Ask;
use items::Items;

pub(crate) async fn responses(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    Extension(admission): Extension<Admission>,
    body: Body,
) -> Result<Response, ApiError> {
    let Ask { model, mut request, stream, tools, echo } = ask::ask(&body::read(&app, body).await?)?;
    caller.salt_request(&mut request);
    let model = app.open(model).await?;
    let computes = Arc::clone(&model);
    let meter = Meter::new(&app.metrics, &model.card().name);
    let phase = app.phase.clone();
    let start = move || {
        fit_ids(model.card().tool_calls, &mut request.prompt);
        let parser = tools.map(|tools| tools.apply(&*model, &mut request)).transpose()?;
        let birth = admission.birth(model.card().package, request.sampling.seed)?;
        request.sampling.seed = birth.seed;
        let headers = reply::headers(model.card(), Some(&request));
        let items = Items::new(heading(model.card(), echo, &birth), birth);
        let building = Building { items, voice: Voice::new(parser) };
        Ok((headers, Answers::start(model, vec![request], phase, meter)?, building))
    };
    let (mut headers, mut answers, mut building) = blocking(start).await?;
    let is_whole = answers.whole();
    // The status is only sent once it is known that there is an answer.
    let first = answers.next().await?;
    reply::add_route(&mut headers, &*computes);
    let mut response = match stream {
        true => feed::respond(Streaming { building, ready: VecDeque::new() }, answers, first),
        false => {
            let (_, mut event) = first;
            let whole = loop {
                match building.add(event) {
                    Some(whole) => break whole,
                    None => event = answers.next().await?.1,
                }
                // Nobody sees the events of a whole answer.
                building.items.take_events();
            };
            body::json(&whole)
        }
    };
    response.headers_mut().extend(headers);
    response.extensions_mut().insert(is_whole);
    Ok(response)
}

/// An answer before anything was said.
fn heading(card: &ModelCard, mut echo: Value, birth: &Birth) -> Value {
    let mut heading = json!({
        "id": birth.id("resp", 0, 0),
        "object": "response",
        "created_at": birth.created_unix_s,
        "completed_at": null,
        "status": "in_progress",
        "background": false,
        "error": null,
        "incomplete_details": null,
        "max_tool_calls": null,
        "model": card.name,
        "output": [],
        "previous_response_id": null,
        "reasoning": { "effort": null, "summary": null },
        "service_tier": "default",
        "store": false,
        "truncation": "disabled",
        "usage": null,
    });
    for (name, value) in echo.as_object_mut().into_iter().flatten() {
        heading[name.as_str()] = value.take();
    }
    heading
}

struct Building {
    items: Items,
    voice: Voice,
}

impl Building {
    /// Takes an event; the whole answer, when it is the last.
    fn add(&mut self, event: TokenEvent) -> Option<Value> {
        match event {
            TokenEvent::Started { .. } => self.items.start(),
            TokenEvent::Token { text, logprob, top, .. } => {
                if let Some(token) = logprob {
                    self.items.score(Scored { token, top });
                }
                self.voice.pieces(&text).into_iter().for_each(|piece| self.items.piece(piece));
            }
            TokenEvent::Finished { reason, text, usage, .. } => {
                self.voice.last_pieces(&text).into_iter().for_each(|piece| self.items.piece(piece));
                return Some(self.items.finish(reason, usage));
            }
            TokenEvent::Failed(_) => {}
        }
        None
    }
}

struct Streaming {
    building: Building,
    ready: VecDeque<Value>,
}

impl Feed for Streaming {
    fn add(&mut self, _index: usize, event: TokenEvent) -> bool {
        self.building.add(event).is_none()
    }

    fn fail(&mut self, error: &ApiError) {
        self.building.items.fail(error);
    }

    fn ready(&mut self) -> Option<Event> {
        self.ready.extend(self.building.items.take_events());
        let value = self.ready.pop_front()?;
        let kind = value["type"].as_str().unwrap_or_default();
        Some(Event::default().event(kind).data(value.to_string()))
    }
}
