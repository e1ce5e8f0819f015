//! Is it alive, is it ready, does it answer.

use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};
use serde_json::json;
use shoal_base::{Prompt, Request, TokenEvent};

use crate::answer::Answers;
use crate::app::{App, Phase, blocking};
use crate::error::ApiError;
use crate::metrics::Meter;
use crate::{body, catalog};

/// The process serves.
pub(crate) async fn live() -> Response {
    body::json(&json!({ "status": "ok" }))
}

/// Requests are welcome: the server is not stopping, and there is a model.
pub(crate) async fn ready(State(app): State<Arc<App>>) -> Result<Response, ApiError> {
    let offers = catalog::offers(&app).await?;
    let is_serving = *app.phase.borrow() == Phase::Serving;
    let status = match (is_serving, !offers.is_empty()) {
        (true, true) => return Ok(body::json(&json!({ "status": "ready" }))),
        (true, false) => "there is no model",
        (false, _) => "stopping",
    };
    let body = body::json(&json!({ "status": status }));
    Ok((StatusCode::SERVICE_UNAVAILABLE, body).into_response())
}

/// The default model computes a token.
pub(crate) async fn generate(State(app): State<Arc<App>>) -> Result<Response, ApiError> {
    let model = app.open(None).await?;
    let meter = Meter::new(&app.metrics, &model.card().name);
    let phase = app.phase.clone();
    let mut answers = blocking(move || {
        let mut request = Request::new(Prompt::Text("a".to_owned()));
        request.sampling.temperature = 0.0;
        request.stop.tokens_max = Some(1);
        request.stop.ignore_end_of_turn = true;
        Answers::start(model, vec![request], phase, meter)
    })
    .await?;
    loop {
        if let (_, TokenEvent::Finished { .. }) = answers.next().await? {
            return Ok(body::json(&json!({ "status": "ok" })));
        }
    }
}
