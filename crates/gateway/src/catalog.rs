//! `GET /v1/models`, `GET /v1/models/{name}` and `GET /version`.

use std::sync::Arc;

use axum::extract::{Path, State};
use axum::response::Response;
use serde_json::{Value, json};

use crate::app::{App, blocking};
use crate::body;
use crate::error::ApiError;
use crate::models::{Offer, OpenError};

pub(crate) async fn list(State(app): State<Arc<App>>) -> Result<Response, ApiError> {
    let offers = offers(&app).await?;
    let models: Value = offers.iter().map(|offer| entry(&app, offer)).collect();
    Ok(body::json(&json!({ "object": "list", "data": models })))
}

pub(crate) async fn show(
    State(app): State<Arc<App>>,
    Path(name): Path<String>,
) -> Result<Response, ApiError> {
    let offers = offers(&app).await?;
    match offers.iter().find(|offer| offer.name == name) {
        Some(offer) => Ok(body::json(&entry(&app, offer))),
        None => Err(OpenError::Unknown { name }.into()),
    }
}

pub(crate) async fn version() -> Response {
    body::json(&json!({ "version": env!("CARGO_PKG_VERSION") }))
}

/// What there is.
pub(crate) async fn offers(app: &Arc<App>) -> Result<Vec<Offer>, ApiError> {
    let app = Arc::clone(app);
    blocking(move || Ok(app.models.offers())).await
}

fn entry(app: &App, offer: &Offer) -> Value {
    let mut entry = json!({
        "id": offer.name,
        "object": "model",
        "created": app.started_unix_s,
        "owned_by": "shoal",
        "loaded": offer.card.is_some(),
    });
    if let Some(card) = &offer.card {
        entry["package"] = card.package.to_string().into();
        entry["max_model_len"] = card.context_tokens.into();
        entry["embedding_width"] = card.embedding_width.into();
        entry["chat"] = card.chat.into();
    }
    entry
}
