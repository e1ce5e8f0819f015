//! `POST /tokenize` and `POST /detokenize`.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::State;
use axum::response::Response;
use serde_json::{Value, json};
use shoal_base::Prompt;

use crate::app::{App, blocking};
use crate::error::ApiError;
use crate::params::{DETOKENIZE, Fields, TOKENIZE};
use crate::{body, chat, sampling};

pub(crate) async fn tokenize(
    State(app): State<Arc<App>>,
    body: Body,
) -> Result<Response, ApiError> {
    let mut fields = Fields::parse(&body::read(&app, body).await?, TOKENIZE)?;
    let name = fields.text("model")?;
    let prompt = tokenize_prompt(&mut fields)?;
    let model = app.open(name).await?;
    let context_tokens = model.card().context_tokens;
    let ids = blocking(move || Ok(model.tokenize(&prompt)?)).await?;
    let ids: Vec<u32> = ids.into_iter().map(|id| id.0).collect();
    let count = ids.len();
    Ok(body::json(&json!({ "count": count, "max_model_len": context_tokens, "tokens": ids })))
}

/// A text or a conversation.
pub(crate) fn tokenize_prompt(fields: &mut Fields) -> Result<Prompt, ApiError> {
    let text = fields.text("prompt")?;
    let opens_turn = fields.flag("add_generation_prompt")?;
    let Some(text) = text else { return chat::prompt(fields, opens_turn.unwrap_or(true)) };
    let for_chats = [
        ("messages", fields.take("messages").is_some()),
        ("add_generation_prompt", opens_turn.is_some()),
        ("chat_template_kwargs", fields.take("chat_template_kwargs").is_some()),
    ];
    match for_chats.into_iter().find(|(_, is_given)| *is_given) {
        Some((name, _)) => Err(ApiError::parameter(name, "is not given beside prompt")),
        None => Ok(Prompt::Text(text)),
    }
}

pub(crate) async fn detokenize(
    State(app): State<Arc<App>>,
    body: Body,
) -> Result<Response, ApiError> {
    let mut fields = Fields::parse(&body::read(&app, body).await?, DETOKENIZE)?;
    let name = fields.text("model")?;
    let ids = detokenize_ids(fields.need("tokens")?)?;
    let model = app.open(name).await?;
    let text = blocking(move || Ok(model.detokenize(&ids)?)).await?;
    Ok(body::json(&json!({ "prompt": text })))
}

fn detokenize_ids(value: Value) -> Result<Vec<shoal_base::TokenId>, ApiError> {
    sampling::token_ids(value)
        .ok_or_else(|| ApiError::parameter("tokens", "is a list of token ids"))
}
