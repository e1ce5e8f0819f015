//! `POST /v1/completions`.

use std::sync::Arc;

use axum::Extension;
use axum::body::Body;
use axum::extract::State;
use axum::response::Response;
use serde_json::Value;
use shoal_base::{LogprobsRequest, Prompt, Request};

use crate::app::App;
use crate::birth::Admission;
use crate::body;
use crate::chat::{choices, top_count};
use crate::error::ApiError;
use crate::guard::Caller;
use crate::limits::CHOICES_MAX;
use crate::params::{COMPLETIONS, Fields};
use crate::reply::{Order, Shape, reply};
use crate::sampling;

/// Tokens of an answer when the request does not say, as published.
const TOKENS_DEFAULT: u32 = 16;

pub(crate) async fn completions(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    Extension(admission): Extension<Admission>,
    body: Body,
) -> Result<Response, ApiError> {
    let order = order(&body::read(&app, body).await?)?;
    reply(app, &caller, admission, order).await
}

/// Understands a request.
pub(crate) fn order(body: &[u8]) -> Result<Order, ApiError> {
    let mut fields = Fields::parse(body, COMPLETIONS)?;
    let model = fields.text("model")?;
    let prompts = prompts(fields.need("prompt")?, "prompt", CHOICES_MAX)?;
    let mut request = Request::new(Prompt::Tokens(Vec::new()));
    sampling::read(&mut fields, &mut request)?;
    request.stop.tokens_max = Some(fields.whole("max_tokens")?.unwrap_or(TOKENS_DEFAULT));
    if let Some(top) = fields.whole("logprobs")? {
        request.logprobs = Some(LogprobsRequest { top_count: top_count(top, "logprobs")? });
    }
    let choices_per_prompt = choices(&mut fields)?;
    if prompts.len().saturating_mul(choices_per_prompt as usize) > CHOICES_MAX {
        let rule = format!("times the number of prompts is at most {CHOICES_MAX}");
        return Err(ApiError::parameter("n", rule));
    }
    let (stream, include_usage) = sampling::stream(&mut fields)?;
    let prompts = prompts.into_iter().map(|prompt| Request { prompt, ..request.clone() }).collect();
    Ok(Order {
        model,
        shape: Shape::Text,
        prompts,
        choices_per_prompt,
        stream,
        include_usage,
        tools: None,
    })
}

/// One or several texts, or token ids of one or several texts.
pub(crate) fn prompts(value: Value, name: &str, limit: usize) -> Result<Vec<Prompt>, ApiError> {
    let refuse = || {
        ApiError::parameter(name, "is a string, a list of strings, token ids, or lists of these")
    };
    match value {
        Value::String(text) => Ok(vec![Prompt::Text(text)]),
        Value::Array(values) if values.first().is_some_and(Value::is_number) => {
            let ids = sampling::token_ids(Value::Array(values)).ok_or_else(refuse)?;
            Ok(vec![Prompt::Tokens(ids)])
        }
        Value::Array(values) if values.is_empty() || values.len() > limit => {
            Err(ApiError::parameter(name, format!("has from 1 to {limit} entries")))
        }
        Value::Array(values) => {
            let prompt = |value| match value {
                Value::String(text) => Ok(Prompt::Text(text)),
                value => sampling::token_ids(value).map(Prompt::Tokens).ok_or_else(refuse),
            };
            values.into_iter().map(prompt).collect()
        }
        _ => Err(refuse()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;
    use shoal_base::TokenId;

    #[test]
    fn prompts_come_in_four_shapes() {
        let read = |value| prompts(value, "prompt", 3);
        let text = |text: &str| Prompt::Text(text.to_owned());
        assert_eq!(read(json!("a")), Ok(vec![text("a")]));
        assert_eq!(read(json!(["a", "b"])), Ok(vec![text("a"), text("b")]));
        let ids = Prompt::Tokens(vec![TokenId(1), TokenId(2)]);
        assert_eq!(read(json!([1, 2])), Ok(vec![ids.clone()]));
        assert_eq!(read(json!([[1, 2], "a"])), Ok(vec![ids, text("a")]));
        for wrong in [json!([]), json!({}), json!([1, "a"]), json!([-1]), json!([[1.5]]), json!(7)]
        {
            assert!(read(wrong.clone()).is_err(), "{wrong}");
        }
        assert!(read(json!(["a", "b", "c", "d"])).is_err());
    }

    #[test]
    fn answers_of_all_prompts_together_are_bounded() {
        let body = json!({ "prompt": ["a", "b"], "n": 33 }).to_string();
        assert!(
            matches!(order(body.as_bytes()), Err(ApiError::Parameter { name, .. }) if name == "n")
        );
    }
}
