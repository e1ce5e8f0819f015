//! `POST /v1/embeddings`: mean-pooled final states.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::State;
use axum::response::{IntoResponse as _, Response};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use shoal_base::Generate;
use tokio::sync::oneshot;

use crate::app::{App, blocking};
use crate::body;
use crate::completions::prompts;
use crate::error::ApiError;
use crate::limits::{INPUTS_AT_ONCE, INPUTS_MAX};
use crate::params::{EMBEDDINGS, Fields};
use crate::reply;

pub(crate) async fn embeddings(
    State(app): State<Arc<App>>,
    body: Body,
) -> Result<Response, ApiError> {
    let mut fields = Fields::parse(&body::read(&app, body).await?, EMBEDDINGS)?;
    let name = fields.text("model")?;
    let inputs = prompts(fields.need("input")?, "input", INPUTS_MAX)?;
    let format = fields.text("encoding_format")?;
    let is_base64 = match format.as_deref() {
        None | Some("float") => false,
        Some("base64") => true,
        Some(_) => {
            return Err(ApiError::parameter("encoding_format", "is \"float\" or \"base64\""));
        }
    };
    let dimensions = fields.whole("dimensions")?;
    let model = app.open(name).await?;
    let card = model.card().clone();
    if dimensions.is_some_and(|dimensions| dimensions != card.embedding_width) {
        let rule = format!("is {} for this model", card.embedding_width);
        return Err(ApiError::parameter("dimensions", rule));
    }
    // Dropped with this future when the client goes away.
    let (_waits, still_waits) = oneshot::channel::<()>();
    let computes = Arc::clone(&model);
    let (vectors, tokens) = blocking(move || embed(&*model, &inputs, still_waits)).await?;
    let data = vectors.into_iter().enumerate().map(|(index, vector)| {
        let embedding = match is_base64 {
            true => base64(&vector).into(),
            false => json!(vector),
        };
        json!({ "object": "embedding", "index": index, "embedding": embedding })
    });
    let body = json!({
        "object": "list",
        "data": data.collect::<Value>(),
        "model": card.name,
        "usage": { "prompt_tokens": tokens, "total_tokens": tokens },
    });
    let mut headers = reply::headers(&card, None);
    reply::add_route(&mut headers, &*computes);
    Ok((headers, body::json(&body)).into_response())
}

fn embed(
    model: &dyn Generate,
    inputs: &[shoal_base::Prompt],
    mut still_waits: oneshot::Receiver<()>,
) -> Result<(Vec<Vec<f32>>, u64), ApiError> {
    let mut vectors = Vec::with_capacity(inputs.len());
    let mut tokens = 0;
    for inputs in inputs.chunks(INPUTS_AT_ONCE) {
        if still_waits.try_recv() == Err(oneshot::error::TryRecvError::Closed) {
            return Err(ApiError::Lost);
        }
        for input in inputs {
            tokens += model.tokenize(input)?.len() as u64;
        }
        vectors.extend(model.embed(inputs)?);
    }
    Ok((vectors, tokens))
}

/// Little-endian floats.
fn base64(vector: &[f32]) -> String {
    let bytes: Vec<u8> = vector.iter().flat_map(|number| number.to_le_bytes()).collect();
    STANDARD.encode(bytes)
}
