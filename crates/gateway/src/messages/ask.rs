//! Requests in the words of Anthropic's API.

use serde_json::{Map, Value, json};
use shoal_base::{Prompt, Request, RequestLimits};

use crate::error::ApiError;
use crate::limits::MESSAGES_MAX;
use crate::params::{Fields, MESSAGES};
use crate::sampling;
use crate::tools::{self, CallIds, Choice, Tool, ToolUse};

/// A request, understood.
#[derive(Debug)]
pub(super) struct Ask {
    pub(super) model: String,
    pub(super) request: Request,
    pub(super) stream: bool,
    pub(super) tools: Option<ToolUse>,
}

/// Understands a request.
pub(super) fn ask(body: &[u8]) -> Result<Ask, ApiError> {
    let mut fields = Fields::parse(body, MESSAGES)?;
    let missing = |name: &str| ApiError::Missing { name: name.to_owned() };
    let model = fields.text("model")?.ok_or_else(|| missing("model"))?;
    let limit = fields.whole("max_tokens")?.ok_or_else(|| missing("max_tokens"))?;
    let mut request = Request::new(prompt(&mut fields)?);
    if let Some(metadata) = fields.take("metadata") {
        Fields::inner(metadata, "metadata", &["user_id"])?.text("user_id")?;
    }
    let stream = fields.flag("stream")?.unwrap_or(false);
    sampling::read(&mut fields, &mut request)?;
    request.stop.tokens_max = Some(limit);
    request.stop.strings = stop_sequences(fields.take("stop_sequences"))?;
    let list = tools::list(fields.take("tools"), tool)?;
    let (choice, parallel) = choice(fields.take("tool_choice"))?;
    Ok(Ask { model, request, stream, tools: ToolUse::new(list, choice, parallel)? })
}

fn stop_sequences(value: Option<Value>) -> Result<Vec<String>, ApiError> {
    let rule = format!(
        "is a list of at most {} texts of 1 to {} bytes",
        RequestLimits::STOP_STRINGS_MAX,
        RequestLimits::STOP_STRING_BYTES_MAX,
    );
    let refuse = || ApiError::parameter("stop_sequences", rule.as_str());
    let values = match value {
        None => return Ok(Vec::new()),
        Some(Value::Array(values)) if values.len() <= RequestLimits::STOP_STRINGS_MAX => values,
        Some(_) => return Err(refuse()),
    };
    let lengths = 1..=RequestLimits::STOP_STRING_BYTES_MAX;
    let text = |value| match value {
        Value::String(text) if lengths.contains(&text.len()) => Ok(text),
        _ => Err(refuse()),
    };
    values.into_iter().map(text).collect()
}

fn tool(value: Value, place: &str) -> Result<Tool, ApiError> {
    let known = ["name", "description", "input_schema", "type", "cache_control", "strict"];
    let mut fields = Fields::inner(value, place, &known)?;
    if fields.text("type")?.is_some_and(|kind| kind != "custom") {
        let rule = "is \"custom\"; tools that run on a server are not supported here";
        return Err(ApiError::parameter(fields.name("type"), rule));
    }
    cache_control(&mut fields)?;
    let schema = fields.need("input_schema")?;
    let strict = fields.flag("strict")?.unwrap_or(false);
    let (name, description) = (fields.text("name")?, fields.text("description")?);
    Tool::new(name, description, Some(schema), strict, [place, "input_schema"])
}

/// `tool_choice`, and whether several calls are welcome.
fn choice(value: Option<Value>) -> Result<(Choice, bool), ApiError> {
    let Some(value) = value else { return Ok((Choice::Auto, true)) };
    let known = ["type", "name", "disable_parallel_tool_use"];
    let mut fields = Fields::inner(value, "tool_choice", &known)?;
    let (kind, name) = (fields.text("type")?, fields.text("name")?);
    let single = fields.flag("disable_parallel_tool_use")?.unwrap_or(false);
    let choice = match (kind.as_deref(), name) {
        (Some("auto"), None) => Choice::Auto,
        (Some("any"), None) => Choice::Required,
        (Some("none"), None) => Choice::None,
        (Some("tool"), Some(name)) => Choice::Named(name),
        (Some("tool"), None) => {
            return Err(ApiError::Missing { name: "tool_choice.name".to_owned() });
        }
        (Some("auto" | "any" | "none"), Some(_)) => {
            return Err(ApiError::parameter("tool_choice.name", "is for the type \"tool\" only"));
        }
        _ => {
            let rule = "is \"auto\", \"any\", \"tool\" or \"none\"";
            return Err(ApiError::parameter("tool_choice.type", rule));
        }
    };
    Ok((choice, !single))
}

fn prompt(fields: &mut Fields) -> Result<Prompt, ApiError> {
    let mut messages = Vec::new();
    if let Some(system) = fields.take("system") {
        let text = texts(system, "system")?;
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
    let mut ids = CallIds::default();
    for (index, turn) in turns.into_iter().enumerate() {
        let place = format!("messages[{index}]");
        let mut turn = Fields::inner(turn, &place, &["role", "content"])?;
        let role = turn.text("role")?;
        let content_place = turn.name("content");
        match role.as_deref() {
            Some("user") => {
                user(turn.need("content")?, &content_place, &ids, &mut messages)?;
            }
            Some("assistant") if index < last => {
                messages.push(assistant(turn.need("content")?, &content_place, &mut ids)?);
            }
            Some("assistant") => {
                let rule = "is \"user\" in the last message; answers cannot be begun here";
                return Err(ApiError::parameter(turn.name("role"), rule));
            }
            _ => {
                return Err(ApiError::parameter(turn.name("role"), "is \"user\" or \"assistant\""));
            }
        }
    }
    let variables = Map::new();
    Ok(Prompt::Chat { messages, tools: Vec::new(), variables, add_generation_prompt: true })
}

/// A turn of the user: results of calls, each a message of its own for templates, and text.
fn user(
    content: Value,
    place: &str,
    ids: &CallIds,
    messages: &mut Vec<Value>,
) -> Result<(), ApiError> {
    let blocks = match content {
        Value::Array(blocks) if !blocks.is_empty() => blocks,
        text => {
            messages.push(json!({ "role": "user", "content": texts(text, place)? }));
            return Ok(());
        }
    };
    let mut text: Option<String> = None;
    for (index, block) in blocks.into_iter().enumerate() {
        let place = format!("{place}[{index}]");
        match block.get("type").and_then(Value::as_str) {
            Some("text") => *text.get_or_insert_default() += &text_block(block, &place)?,
            Some("tool_result") if text.is_some() => {
                return Err(ApiError::parameter(place, "comes before text"));
            }
            Some("tool_result") => messages.push(tool_result(block, &place, ids)?),
            _ => {
                let rule = "is \"text\" or \"tool_result\"";
                return Err(ApiError::parameter(format!("{place}.type"), rule));
            }
        }
    }
    messages.extend(text.map(|text| json!({ "role": "user", "content": text })));
    Ok(())
}

fn tool_result(block: Value, place: &str, ids: &CallIds) -> Result<Value, ApiError> {
    let known = ["type", "tool_use_id", "content", "is_error", "cache_control"];
    let mut block = Fields::inner(block, place, &known)?;
    cache_control(&mut block)?;
    let id = block.text("tool_use_id")?;
    let id = id.ok_or_else(|| ApiError::Missing { name: block.name("tool_use_id") })?;
    let Some(name) = ids.name(&id) else {
        let rule = "is the id of a call in an earlier message";
        return Err(ApiError::parameter(block.name("tool_use_id"), rule));
    };
    let text = match block.take("content") {
        None => String::new(),
        Some(Value::Array(blocks)) if blocks.is_empty() => String::new(),
        Some(content) => texts(content, &block.name("content"))?,
    };
    // Templates know no errors; the model is told in words.
    let text = match block.flag("is_error")?.unwrap_or(false) {
        true => format!("Error: {text}"),
        false => text,
    };
    Ok(json!({ "role": "tool", "content": text, "tool_call_id": id, "name": name }))
}

fn assistant(content: Value, place: &str, ids: &mut CallIds) -> Result<Value, ApiError> {
    let blocks = match content {
        Value::Array(blocks) if !blocks.is_empty() => blocks,
        text => return Ok(json!({ "role": "assistant", "content": texts(text, place)? })),
    };
    let (mut text, mut calls) = (String::new(), Vec::new());
    for (index, block) in blocks.into_iter().enumerate() {
        let place = format!("{place}[{index}]");
        match block.get("type").and_then(Value::as_str) {
            Some("text") => text += &text_block(block, &place)?,
            Some("tool_use") => {
                let known = ["type", "id", "name", "input", "cache_control"];
                let mut block = Fields::inner(block, &place, &known)?;
                cache_control(&mut block)?;
                let missing = |name| ApiError::Missing { name: format!("{place}.{name}") };
                let id = block.text("id")?.ok_or_else(|| missing("id"))?;
                let name = block.text("name")?.ok_or_else(|| missing("name"))?;
                let input = block.need("input")?;
                if !input.is_object() {
                    return Err(ApiError::parameter(block.name("input"), "is an object"));
                }
                ids.add(&id, &name);
                let function = json!({ "name": name, "arguments": input });
                calls.push(json!({ "id": id, "type": "function", "function": function }));
            }
            _ => {
                let rule = "is \"text\" or \"tool_use\"";
                return Err(ApiError::parameter(format!("{place}.type"), rule));
            }
        }
    }
    let mut message = json!({ "role": "assistant", "content": text });
    if !calls.is_empty() {
        message["tool_calls"] = calls.into();
    }
    Ok(message)
}

/// A text, or blocks of text.
fn texts(value: Value, place: &str) -> Result<String, ApiError> {
    let blocks = match value {
        Value::String(text) => return Ok(text),
        Value::Array(blocks) if !blocks.is_empty() => blocks,
        _ => return Err(ApiError::parameter(place, "is a string or a list of text blocks")),
    };
    let mut whole = String::new();
    for (index, block) in blocks.into_iter().enumerate() {
        whole += &text_block(block, &format!("{place}[{index}]"))?;
    }
    Ok(whole)
}

fn text_block(block: Value, place: &str) -> Result<String, ApiError> {
    if block.get("type").and_then(Value::as_str) != Some("text") {
        return Err(ApiError::parameter(format!("{place}.type"), "is \"text\""));
    }
    let mut block = Fields::inner(block, place, &["type", "text", "cache_control", "citations"])?;
    cache_control(&mut block)?;
    if block.take("citations").is_some_and(|value| value != Value::Array(Vec::new())) {
        let rule = "is not supported here; leave it out";
        return Err(ApiError::parameter(block.name("citations"), rule));
    }
    let text = block.text("text")?;
    text.ok_or_else(|| ApiError::Missing { name: block.name("text") })
}

/// Every prefix is cached, so a wish for it is granted already.
fn cache_control(block: &mut Fields) -> Result<(), ApiError> {
    let Some(wish) = block.take("cache_control") else { return Ok(()) };
    let mut wish = Fields::inner(wish, &block.name("cache_control"), &["type", "ttl"])?;
    if wish.text("type")?.is_some_and(|kind| kind != "ephemeral") {
        return Err(ApiError::parameter(wish.name("type"), "is \"ephemeral\""));
    }
    if wish.text("ttl")?.is_some_and(|ttl| ttl != "5m" && ttl != "1h") {
        return Err(ApiError::parameter(wish.name("ttl"), "is \"5m\" or \"1h\""));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request() -> Value {
        json!({
            "model": "m", "max_tokens": 5, "messages": [{ "role": "user", "content": "x" }],
        })
    }

    fn name_of(name: &str, value: Value) -> String {
        let mut body = request();
        body[name] = value;
        match ask(body.to_string().as_bytes()) {
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
        let request = ask(body.to_string().as_bytes()).unwrap().request;
        let Prompt::Chat { messages, .. } = request.prompt else { panic!("a conversation") };
        assert_eq!(messages[0], json!({ "role": "system", "content": "ab" }));
        let last = json!([{ "role": "assistant", "content": "x" }]);
        assert_eq!(name_of("messages", last), "messages[0].role");
        let block = json!({ "type": "text", "text": "a", "cache_control": { "ttl": "2h" } });
        let wish = json!([{ "role": "user", "content": [block] }]);
        assert_eq!(name_of("messages", wish), "messages[0].content[0].cache_control.ttl");
        let image = json!([{ "role": "user", "content": [{ "type": "image" }] }]);
        assert_eq!(name_of("messages", image), "messages[0].content[0].type");
    }

    #[test]
    fn calls_and_results_become_messages_of_their_own() {
        let mut body = request();
        let call = json!({ "type": "tool_use", "id": "t", "name": "f", "input": { "a": 1 } });
        let result = json!({ "type": "tool_result", "tool_use_id": "t", "is_error": true,
                             "content": [{ "type": "text", "text": "no" }] });
        body["messages"] = json!([
            { "role": "user", "content": "x" },
            { "role": "assistant", "content": [{ "type": "text", "text": "I look" }, call] },
            { "role": "user", "content": [result, { "type": "text", "text": "so?" }] },
        ]);
        let asked = ask(body.to_string().as_bytes()).unwrap();
        let Prompt::Chat { messages, .. } = asked.request.prompt else { panic!("a conversation") };
        assert_eq!(messages[1]["tool_calls"][0]["function"]["arguments"], json!({ "a": 1 }));
        assert_eq!(
            messages[2],
            json!({ "role": "tool", "content": "Error: no", "tool_call_id": "t", "name": "f" })
        );
        assert_eq!(messages[3], json!({ "role": "user", "content": "so?" }));
        let unknown = json!([{ "role": "user", "content": [result] }]);
        assert_eq!(name_of("messages", unknown), "messages[0].content[0].tool_use_id");
    }

    #[test]
    fn tools_and_stop_sequences_are_read_to_the_letter() {
        let tool = |changes: Value| {
            let mut tool = json!({ "name": "f", "input_schema": { "type": "object" } });
            for (name, value) in changes.as_object().unwrap() {
                tool[name] = value.clone();
            }
            name_of("tools", json!([tool]))
        };
        assert_eq!(tool(json!({ "type": "custom", "cache_control": { "type": "ephemeral" } })), "");
        assert_eq!(tool(json!({ "type": "web_search_20250305" })), "tools[0].type");
        assert_eq!(tool(json!({ "input_schema": null })), "tools[0].input_schema");
        assert_eq!(tool(json!({ "input_schema": { "type": "array" } })), "tools[0].input_schema");
        assert_eq!(name_of("tool_choice", json!({ "type": "any" })), "tool_choice");
        assert_eq!(name_of("tool_choice", json!({ "type": "tool" })), "tool_choice.name");
        assert_eq!(name_of("tool_choice", json!({ "type": "all" })), "tool_choice.type");
        assert_eq!(name_of("stop_sequences", json!(["a", "b"])), "");
        for wrong in [json!("a"), json!([""]), json!([1]), json!(["x".repeat(257)])] {
            assert_eq!(name_of("stop_sequences", wrong), "stop_sequences");
        }
    }
}
