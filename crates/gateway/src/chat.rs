//! `POST /v1/chat/completions`.

use std::sync::Arc;

use axum::Extension;
use axum::body::Body;
use axum::extract::State;
use axum::response::Response;
use serde_json::{Map, Value};
use shoal_base::{LogprobsRequest, Prompt, Request, RequestLimits};

use crate::app::App;
use crate::birth::Admission;
use crate::body;
use crate::error::ApiError;
use crate::guard::Caller;
use crate::limits::{CHOICES_MAX, MESSAGES_MAX};
use crate::params::{CHAT, Fields};
use crate::reply::{Order, Shape, reply};
use crate::sampling;
use crate::tools::{self, CallIds, ToolUse, call_of};

/// Roles, and the role a template knows them by.
const ROLES: [(&str, &str); 5] = [
    ("system", "system"),
    ("developer", "system"),
    ("user", "user"),
    ("assistant", "assistant"),
    ("tool", "tool"),
];

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
    let mut fields = Fields::parse(body, CHAT)?;
    let model = fields.text("model")?;
    let mut request = Request::new(prompt(&mut fields, true)?);
    sampling::read(&mut fields, &mut request)?;
    request.stop.tokens_max = tokens_max(&mut fields)?;
    request.logprobs = logprobs(&mut fields)?;
    let choices_per_prompt = choices(&mut fields)?;
    let (stream, include_usage) = sampling::stream(&mut fields)?;
    let tools = tools(&mut fields)?;
    Ok(Order {
        model,
        shape: Shape::Chat,
        prompts: vec![request],
        choices_per_prompt,
        stream,
        include_usage,
        tools,
    })
}

/// `tools`, `tool_choice` and `parallel_tool_calls`.
fn tools(fields: &mut Fields) -> Result<Option<ToolUse>, ApiError> {
    let list = tools::chat_tools(fields.take("tools"))?;
    let choice = tools::choice(fields.take("tool_choice"), true)?;
    ToolUse::new(list, choice, fields.flag("parallel_tool_calls")?.unwrap_or(true))
}

/// `n`.
pub(crate) fn choices(fields: &mut Fields) -> Result<u32, ApiError> {
    match fields.whole("n")?.unwrap_or(1) {
        n if n >= 1 && n as usize <= CHOICES_MAX => Ok(n),
        _ => Err(ApiError::parameter("n", format!("is from 1 to {CHOICES_MAX}"))),
    }
}

/// A conversation.
pub(crate) fn prompt(fields: &mut Fields, opens_turn: bool) -> Result<Prompt, ApiError> {
    let Value::Array(messages) = fields.need("messages")? else {
        return Err(ApiError::parameter("messages", "is a list of messages"));
    };
    if messages.is_empty() || messages.len() > MESSAGES_MAX {
        let rule = format!("has from 1 to {MESSAGES_MAX} messages");
        return Err(ApiError::parameter("messages", rule));
    }
    let mut ids = CallIds::default();
    let messages = messages.into_iter().enumerate();
    let messages =
        messages.map(|(index, value)| message(value, &format!("messages[{index}]"), &mut ids));
    let variables = match fields.take("chat_template_kwargs") {
        None => Map::new(),
        Some(Value::Object(variables)) => variables,
        Some(_) => return Err(ApiError::parameter("chat_template_kwargs", "is an object")),
    };
    Ok(Prompt::Chat {
        messages: messages.collect::<Result<_, _>>()?,
        tools: Vec::new(),
        variables,
        add_generation_prompt: opens_turn,
    })
}

fn message(value: Value, place: &str, ids: &mut CallIds) -> Result<Value, ApiError> {
    let known = [
        "role",
        "content",
        "name",
        "refusal",
        "annotations",
        "audio",
        "function_call",
        "tool_calls",
        "tool_call_id",
    ];
    let mut fields = Fields::inner(value, place, &known)?;
    let refuse = |name: &str, rule: &str| Err(ApiError::parameter(format!("{place}.{name}"), rule));
    let Some(role) = fields.text("role")? else {
        return Err(ApiError::Missing { name: format!("{place}.role") });
    };
    let Some((_, role)) = ROLES.iter().find(|(known, _)| *known == role) else {
        return refuse("role", "is \"system\", \"developer\", \"user\", \"assistant\" or \"tool\"");
    };
    // Clients send back whole answers, in which these are empty.
    for name in ["refusal", "audio", "function_call"] {
        if fields.take(name).is_some() {
            return refuse(name, "is not supported here; leave it out");
        }
    }
    if fields.take("annotations").is_some_and(|value| value != Value::Array(Vec::new())) {
        return refuse("annotations", "is not supported here; leave it out");
    }
    let calls = calls(fields.take("tool_calls"), place, ids)?;
    if !calls.is_empty() && *role != "assistant" {
        return refuse("tool_calls", "is for the role \"assistant\"");
    }
    let content = match fields.take("content") {
        Some(value) => content(value, place)?,
        None if !calls.is_empty() => String::new(),
        None => return Err(ApiError::Missing { name: format!("{place}.content") }),
    };
    let mut message = Map::new();
    message.insert("role".to_owned(), (*role).into());
    message.insert("content".to_owned(), content.into());
    if !calls.is_empty() {
        message.insert("tool_calls".to_owned(), calls.into());
    }
    let mut name = fields.text("name")?;
    match (*role, fields.text("tool_call_id")?) {
        ("tool", Some(id)) => {
            let Some(called) = ids.name(&id) else {
                return refuse("tool_call_id", "is the id of a call in an earlier message");
            };
            name = name.or_else(|| Some(called.to_owned()));
            message.insert("tool_call_id".to_owned(), id.into());
        }
        ("tool", None) => {
            return Err(ApiError::Missing { name: format!("{place}.tool_call_id") });
        }
        (_, Some(_)) => return refuse("tool_call_id", "is for the role \"tool\""),
        (_, None) => {}
    }
    if let Some(name) = name {
        message.insert("name".to_owned(), name.into());
    }
    Ok(message.into())
}

/// `tool_calls` of a message.
fn calls(value: Option<Value>, place: &str, ids: &mut CallIds) -> Result<Vec<Value>, ApiError> {
    let values = match value {
        None => return Ok(Vec::new()),
        Some(Value::Array(values)) if values.len() <= CHOICES_MAX => values,
        Some(_) => {
            let rule = format!("is a list of at most {CHOICES_MAX} calls");
            return Err(ApiError::parameter(format!("{place}.tool_calls"), rule));
        }
    };
    let values = values.into_iter().enumerate();
    let call = |(index, value)| {
        let place = format!("{place}.tool_calls[{index}]");
        // Pieces of streams carry an index, which some clients keep.
        let mut call = Fields::inner(value, &place, &["id", "type", "function", "index"])?;
        call.whole("index")?;
        if call.text("type")?.is_some_and(|kind| kind != "function") {
            return Err(ApiError::parameter(call.name("type"), "is \"function\""));
        }
        let id = call.text("id")?;
        let id = id.ok_or_else(|| ApiError::Missing { name: call.name("id") })?;
        let place = call.name("function");
        let mut function = Fields::inner(call.need("function")?, &place, &["name", "arguments"])?;
        let name = function.text("name")?;
        let name = name.ok_or_else(|| ApiError::Missing { name: function.name("name") })?;
        let arguments = function.text("arguments")?;
        let arguments =
            arguments.ok_or_else(|| ApiError::Missing { name: function.name("arguments") })?;
        ids.add(&id, &name);
        Ok(call_of(&id, &name, &arguments))
    };
    values.map(call).collect()
}

/// The text of a message: as it is, or in parts.
fn content(value: Value, place: &str) -> Result<String, ApiError> {
    let parts = match value {
        Value::String(text) => return Ok(text),
        Value::Array(parts) if !parts.is_empty() => parts,
        _ => {
            let rule = "is a string or a list of text parts";
            return Err(ApiError::parameter(format!("{place}.content"), rule));
        }
    };
    let mut whole = String::new();
    for (index, part) in parts.into_iter().enumerate() {
        let place = format!("{place}.content[{index}]");
        if part.get("type").and_then(Value::as_str) != Some("text") {
            return Err(ApiError::parameter(format!("{place}.type"), "is \"text\""));
        }
        let mut part = Fields::inner(part, &place, &["type", "text"])?;
        let text = part.text("text")?;
        whole += &text.ok_or_else(|| ApiError::Missing { name: part.name("text") })?;
    }
    Ok(whole)
}

/// The newer name of the limit, or the older one.
fn tokens_max(fields: &mut Fields) -> Result<Option<u32>, ApiError> {
    let newer = fields.whole("max_completion_tokens")?;
    let older = fields.whole("max_tokens")?;
    match (newer, older) {
        (Some(newer), Some(older)) if newer != older => {
            Err(ApiError::parameter("max_tokens", "is not given beside max_completion_tokens"))
        }
        _ => Ok(newer.or(older)),
    }
}

fn logprobs(fields: &mut Fields) -> Result<Option<LogprobsRequest>, ApiError> {
    let wanted = fields.flag("logprobs")?.unwrap_or(false);
    let top = fields.whole("top_logprobs")?;
    if top.is_some_and(|top| top > 0) && !wanted {
        return Err(ApiError::parameter("top_logprobs", "is for `logprobs: true` only"));
    }
    let top_count = top_count(top.unwrap_or(0), "top_logprobs")?;
    Ok(wanted.then_some(LogprobsRequest { top_count }))
}

/// How many alternatives.
pub(crate) fn top_count(top: u32, name: &str) -> Result<u8, ApiError> {
    match u8::try_from(top) {
        Ok(top) if top <= RequestLimits::TOP_LOGPROBS_MAX => Ok(top),
        _ => Err(ApiError::parameter(name, "is at most 20")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn param(change: Value) -> Option<String> {
        let mut body = json!({ "messages": [{"role": "user", "content": "hi"}] });
        for (name, value) in change.as_object().unwrap() {
            body[name] = value.clone();
        }
        let error = order(body.to_string().as_bytes()).err()?;
        Some(error.to_json()["error"]["param"].as_str().unwrap_or_default().to_owned())
    }

    #[test]
    fn messages_are_checked_to_the_last_part() {
        let messages = |messages: Value| param(json!({ "messages": messages }));
        let one = |message: Value| messages(json!([message]));
        assert_eq!(one(json!({"role": "developer", "content": "x", "name": "n"})), None);
        let parts = json!([{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]);
        assert_eq!(one(json!({"role": "user", "content": parts})), None);
        let answer =
            json!({"role": "assistant", "content": "x", "refusal": null, "tool_calls": []});
        assert_eq!(one(answer), None);
        let function = json!({"name": "f", "arguments": "{}"});
        let call = json!({"id": "c", "type": "function", "function": function, "index": 0});
        let called = json!({"role": "assistant", "content": null, "tool_calls": [call]});
        let result = |id: &str| json!({"role": "tool", "content": "x", "tool_call_id": id});
        assert_eq!(messages(json!([called, result("c")])), None);
        let wrong = [
            (json!([]), "messages"),
            (json!("x"), "messages"),
            (json!([1]), "messages[0]"),
            (json!([{}]), "messages[0].role"),
            (json!([{"role": "king", "content": "x"}]), "messages[0].role"),
            (json!([{"role": "user"}]), "messages[0].content"),
            (json!([{"role": "user", "content": []}]), "messages[0].content"),
            (json!([{"role": "user", "content": 1}]), "messages[0].content"),
            (json!([{"role": "user", "content": "x", "more": 1}]), "messages[0].more"),
            (
                json!([{"role": "user", "content": [{"type": "image_url"}]}]),
                "messages[0].content[0].type",
            ),
            (
                json!([{"role": "user", "content": [{"type": "text"}]}]),
                "messages[0].content[0].text",
            ),
            (
                json!([{"role": "assistant", "content": "", "tool_calls": [{}]}]),
                "messages[0].tool_calls[0].id",
            ),
            (json!([called, result("d")]), "messages[1].tool_call_id"),
            (json!([{"role": "tool", "content": "x"}]), "messages[0].tool_call_id"),
            (
                json!([{"role": "user", "content": "x", "tool_calls": [call]}]),
                "messages[0].tool_calls",
            ),
            (
                json!([{
                    "role": "assistant",
                    "tool_calls": [{"id": "c", "function": {"name": "f"}}],
                }]),
                "messages[0].tool_calls[0].function.arguments",
            ),
            (
                json!([{"role": "assistant", "content": "x", "function_call": function}]),
                "messages[0].function_call",
            ),
        ];
        for (value, name) in wrong {
            assert_eq!(messages(value).as_deref(), Some(name));
        }
    }

    #[test]
    fn parameters_that_contradict_are_refused() {
        let both = json!({"max_tokens": 1, "max_completion_tokens": 2});
        assert_eq!(param(both).as_deref(), Some("max_tokens"));
        assert_eq!(param(json!({"max_tokens": 2, "max_completion_tokens": 2})), None);
        assert_eq!(param(json!({"top_logprobs": 2})).as_deref(), Some("top_logprobs"));
        assert_eq!(
            param(json!({"logprobs": true, "top_logprobs": 21})).as_deref(),
            Some("top_logprobs")
        );
        assert_eq!(param(json!({"n": 0})).as_deref(), Some("n"));
        assert_eq!(param(json!({"n": 65})).as_deref(), Some("n"));
        assert_eq!(param(json!({"stream_options": {}})).as_deref(), Some("stream_options"));
    }
}
