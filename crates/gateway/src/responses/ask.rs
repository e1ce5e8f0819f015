//! Requests in the words of OpenAI's Responses API.

use serde_json::{Map, Value, json};
use shoal_base::{Grammar, LogprobsRequest, Prompt, Request};

use crate::chat::top_count;
use crate::error::ApiError;
use crate::limits::{LABEL_BYTES_MAX, MESSAGES_MAX, METADATA_MAX};
use crate::params::{Fields, RESPONSES};
use crate::sampling;
use crate::tools::{self, CallIds, ToolUse, call_of};

/// A request, understood.
#[derive(Debug)]
pub(super) struct Ask {
    pub(super) model: Option<String>,
    pub(super) request: Request,
    pub(super) stream: bool,
    pub(super) tools: Option<ToolUse>,
    /// Fields of the answer that repeat the request.
    pub(super) echo: Value,
}

/// Understands a request.
pub(super) fn ask(body: &[u8]) -> Result<Ask, ApiError> {
    let mut fields = Fields::parse(body, RESPONSES)?;
    let model = fields.text("model")?;
    let instructions = fields.text("instructions")?;
    let prompt = prompt(&mut fields, instructions.as_deref())?;
    let mut request = Request::new(prompt);
    sampling::read(&mut fields, &mut request)?;
    request.stop.tokens_max = fields.whole("max_output_tokens")?;
    let text = fields.take("text");
    let format = text.map(|text| text_format(text, &mut request)).transpose()?.flatten();
    request.logprobs = logprobs(&mut fields)?;
    let stream = fields.flag("stream")?.unwrap_or(false);
    let parallel = fields.flag("parallel_tool_calls")?.unwrap_or(true);
    let list = tools::list(fields.take("tools"), tool)?;
    let choice = fields.take("tool_choice");
    let shown: Vec<Value> = list.iter().map(tools::Tool::for_responses).collect();
    let echo = json!({
        "instructions": instructions,
        "max_output_tokens": request.stop.tokens_max,
        "metadata": metadata(fields.take("metadata"))?,
        "parallel_tool_calls": parallel,
        "prompt_cache_key": fields.text("prompt_cache_key")?,
        "safety_identifier": fields.text("safety_identifier")?,
        "temperature": request.sampling.temperature,
        "text": { "format": format.unwrap_or_else(|| json!({ "type": "text" })) },
        "tool_choice": choice.clone().unwrap_or_else(|| "auto".into()),
        "tools": shown,
        "top_logprobs": request.logprobs.map_or(0, |logprobs| logprobs.top_count),
        "top_p": request.sampling.top_p,
        "user": fields.text("user")?,
    });
    let tools = ToolUse::new(list, tools::choice(choice, false)?, parallel)?;
    Ok(Ask { model, request, stream, tools, echo })
}

/// Pairs that come back with the answer.
fn metadata(value: Option<Value>) -> Result<Value, ApiError> {
    let refuse = || {
        let rule = format!("has at most {METADATA_MAX} texts of at most {LABEL_BYTES_MAX} bytes");
        Err(ApiError::parameter("metadata", rule))
    };
    let pairs = match value {
        None => return Ok(json!({})),
        Some(Value::Object(pairs)) if pairs.len() <= METADATA_MAX => pairs,
        Some(_) => return refuse(),
    };
    let is_short = |value: &Value| value.as_str().is_some_and(|text| text.len() <= LABEL_BYTES_MAX);
    match pairs.iter().all(|(name, value)| name.len() <= LABEL_BYTES_MAX && is_short(value)) {
        true => Ok(pairs.into()),
        false => refuse(),
    }
}

/// `include` and `top_logprobs`. Of what can be included only log-probabilities exist here.
fn logprobs(fields: &mut Fields) -> Result<Option<LogprobsRequest>, ApiError> {
    let refuse = || {
        let rule =
            "is a list of \"message.output_text.logprobs\" or \"reasoning.encrypted_content\"";
        ApiError::parameter("include", rule)
    };
    let mut wanted = false;
    match fields.take("include") {
        None => {}
        Some(Value::Array(names)) => {
            for name in names {
                match name.as_str() {
                    Some("message.output_text.logprobs") => wanted = true,
                    // There is no reasoning apart from the text, so there is nothing to include.
                    Some("reasoning.encrypted_content") => {}
                    _ => return Err(refuse()),
                }
            }
        }
        Some(_) => return Err(refuse()),
    }
    let top = fields.whole("top_logprobs")?.unwrap_or(0);
    if top > 0 && !wanted {
        let rule = "is for `include: [\"message.output_text.logprobs\"]` only";
        return Err(ApiError::parameter("top_logprobs", rule));
    }
    let top_count = top_count(top, "top_logprobs")?;
    Ok(wanted.then_some(LogprobsRequest { top_count }))
}

/// `text`: the form of the answer, which is given back.
fn text_format(value: Value, request: &mut Request) -> Result<Option<Value>, ApiError> {
    let mut text = Fields::inner(value, "text", &["format", "verbosity"])?;
    if text.text("verbosity")?.is_some_and(|verbosity| verbosity != "medium") {
        let rule = "is not supported here, except as \"medium\"";
        return Err(ApiError::parameter("text.verbosity", rule));
    }
    let Some(shown) = text.take("format") else { return Ok(None) };
    let known = ["type", "name", "description", "schema", "strict"];
    let mut format = Fields::inner(shown.clone(), "text.format", &known)?;
    let kind = format.text("type")?;
    let has_more = format.flag("strict")?.is_some() | format.text("description")?.is_some();
    let (name, schema) = (format.text("name")?, format.take("schema"));
    request.sampling.grammar = match (kind.as_deref(), name, schema) {
        (Some("text"), None, None) if !has_more => None,
        (Some("json_object"), None, None) if !has_more => Some(Grammar::JsonObject),
        (Some("json_schema"), Some(_), Some(schema)) if schema.is_object() => {
            Some(Grammar::JsonSchema(schema))
        }
        (Some("json_schema"), None, _) => {
            return Err(ApiError::Missing { name: "text.format.name".to_owned() });
        }
        (Some("json_schema"), _, None) => {
            return Err(ApiError::Missing { name: "text.format.schema".to_owned() });
        }
        (Some("json_schema"), ..) => {
            return Err(ApiError::parameter("text.format.schema", "is an object"));
        }
        (Some("text" | "json_object"), ..) => {
            let rule = "has more than a type for the type \"json_schema\" only";
            return Err(ApiError::parameter("text.format", rule));
        }
        _ => {
            let rule = "is \"text\", \"json_object\" or \"json_schema\"";
            return Err(ApiError::parameter("text.format.type", rule));
        }
    };
    Ok(Some(shown))
}

fn tool(value: Value, place: &str) -> Result<tools::Tool, ApiError> {
    if value.get("type").and_then(Value::as_str) != Some("function") {
        let rule = "is \"function\"; tools that run on a server are not supported here";
        return Err(ApiError::parameter(format!("{place}.type"), rule));
    }
    let known = ["type", "name", "description", "parameters", "strict"];
    tools::function(Fields::inner(value, place, &known)?, place)
}

fn prompt(fields: &mut Fields, instructions: Option<&str>) -> Result<Prompt, ApiError> {
    let mut history = History::default();
    if let Some(text) = instructions {
        history.messages.push(json!({ "role": "system", "content": text }));
    }
    match fields.need("input")? {
        Value::String(text) => {
            history.messages.push(json!({ "role": "user", "content": text }));
        }
        Value::Array(items) if (1..=MESSAGES_MAX).contains(&items.len()) => {
            for (index, item) in items.into_iter().enumerate() {
                history.item(item, &format!("input[{index}]"))?;
            }
        }
        _ => {
            let rule = format!("is a text or a list of 1 to {MESSAGES_MAX} items");
            return Err(ApiError::parameter("input", rule));
        }
    }
    Ok(Prompt::Chat {
        messages: history.messages,
        tools: Vec::new(),
        variables: Map::new(),
        add_generation_prompt: true,
    })
}

/// Items on their way to messages.
#[derive(Debug, Default)]
struct History {
    messages: Vec<Value>,
    ids: CallIds,
}

impl History {
    fn item(&mut self, item: Value, place: &str) -> Result<(), ApiError> {
        let kind = item.get("type").filter(|kind| !kind.is_null());
        match kind.map(Value::as_str) {
            None | Some(Some("message")) => self.message(item, place),
            Some(Some("function_call")) => self.call(item, place),
            Some(Some("function_call_output")) => self.output(item, place),
            Some(_) => {
                let rule = "is \"message\", \"function_call\" or \"function_call_output\"";
                Err(ApiError::parameter(format!("{place}.type"), rule))
            }
        }
    }

    fn message(&mut self, item: Value, place: &str) -> Result<(), ApiError> {
        let known = ["type", "role", "content", "id", "status", "phase"];
        let mut item = Fields::inner(item, place, &known)?;
        check_labels(&mut item)?;
        let role = item.text("role")?;
        let role = match role.as_deref() {
            Some("developer") => "system",
            Some(role @ ("system" | "user" | "assistant")) => role,
            Some(_) => {
                let rule = "is \"system\", \"developer\", \"user\" or \"assistant\"";
                return Err(ApiError::parameter(item.name("role"), rule));
            }
            None => return Err(ApiError::Missing { name: item.name("role") }),
        };
        let text = texts(item.need("content")?, &item.name("content"))?;
        self.messages.push(json!({ "role": role, "content": text }));
        Ok(())
    }

    /// Calls belong to the assistant's message before them.
    fn call(&mut self, item: Value, place: &str) -> Result<(), ApiError> {
        let known = ["type", "call_id", "name", "arguments", "id", "status"];
        let mut item = Fields::inner(item, place, &known)?;
        check_labels(&mut item)?;
        let missing = |name: &str| ApiError::Missing { name: format!("{place}.{name}") };
        let id = item.text("call_id")?.ok_or_else(|| missing("call_id"))?;
        let name = item.text("name")?.ok_or_else(|| missing("name"))?;
        let arguments = item.text("arguments")?.ok_or_else(|| missing("arguments"))?;
        self.ids.add(&id, &name);
        if self.messages.last().is_none_or(|last| last["role"] != "assistant") {
            self.messages.push(json!({ "role": "assistant", "content": "" }));
        }
        let last = self.messages.last_mut().expect("one was just made");
        let calls = &mut last["tool_calls"];
        if calls.is_null() {
            *calls = json!([]);
        }
        let calls = calls.as_array_mut().expect("it was just made one");
        calls.push(call_of(&id, &name, &arguments));
        Ok(())
    }

    fn output(&mut self, item: Value, place: &str) -> Result<(), ApiError> {
        let known = ["type", "call_id", "output", "id", "status"];
        let mut item = Fields::inner(item, place, &known)?;
        check_labels(&mut item)?;
        let id = item.text("call_id")?;
        let id = id.ok_or_else(|| ApiError::Missing { name: item.name("call_id") })?;
        let Some(name) = self.ids.name(&id) else {
            let rule = "is the id of a call in an earlier item";
            return Err(ApiError::parameter(item.name("call_id"), rule));
        };
        let text = texts(item.need("output")?, &item.name("output"))?;
        let message = json!({ "role": "tool", "content": text, "tool_call_id": id, "name": name });
        self.messages.push(message);
        Ok(())
    }
}

/// What clients send back of an item that no answer depends on.
fn check_labels(item: &mut Fields) -> Result<(), ApiError> {
    for name in ["type", "id", "status", "phase"] {
        item.text(name)?;
    }
    Ok(())
}

/// A text, or parts of text.
fn texts(value: Value, place: &str) -> Result<String, ApiError> {
    let parts = match value {
        Value::String(text) => return Ok(text),
        Value::Array(parts) => parts,
        _ => return Err(ApiError::parameter(place, "is a text or a list of parts of text")),
    };
    let mut whole = String::new();
    for (index, part) in parts.into_iter().enumerate() {
        let place = format!("{place}[{index}]");
        let mut part = Fields::inner(part, &place, &["type", "text", "annotations", "logprobs"])?;
        if !matches!(part.text("type")?.as_deref(), Some("input_text" | "output_text")) {
            let rule = "is \"input_text\" or \"output_text\"";
            return Err(ApiError::parameter(part.name("type"), rule));
        }
        // Of an answer that is sent back only the text counts.
        for name in ["annotations", "logprobs"] {
            if part.take(name).is_some_and(|value| !value.is_array()) {
                return Err(ApiError::parameter(part.name(name), "is a list"));
            }
        }
        let text = part.text("text")?;
        whole += &text.ok_or_else(|| ApiError::Missing { name: part.name("text") })?;
    }
    Ok(whole)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name_of(name: &str, value: Value) -> String {
        let mut body = json!({ "input": "x" });
        body[name] = value;
        match ask(body.to_string().as_bytes()) {
            Ok(_) => String::new(),
            Err(error) => error.to_json()["error"]["param"].as_str().unwrap().to_owned(),
        }
    }

    #[test]
    fn every_parameter_is_honoured_or_refused_by_name() {
        for (name, _) in RESPONSES {
            let refused = name_of(name, json!({ "no parameter": [{}] }));
            assert!(
                refused == *name || refused.starts_with(&format!("{name}.")),
                "{name} {refused}"
            );
        }
        for (name, value) in [
            ("store", json!(true)),
            ("previous_response_id", json!("resp_1")),
            ("background", json!(true)),
            ("conversation", json!("c")),
            ("truncation", json!("auto")),
            ("max_tool_calls", json!(1)),
            ("top_logprobs", json!(1)),
        ] {
            assert_eq!(name_of(name, value), name);
        }
        assert_eq!(name_of("tools", json!([{ "type": "web_search" }])), "tools[0].type");
        assert_eq!(name_of("text", json!({ "verbosity": "low" })), "text.verbosity");
        assert_eq!(name_of("text", json!({ "format": { "type": "x" } })), "text.format.type");
        assert_eq!(name_of("include", json!(["file_search_call.results"])), "include");
    }

    #[test]
    fn items_become_messages() {
        let items = json!([
            { "role": "user", "content": [{ "type": "input_text", "text": "hi" }] },
            { "type": "message", "id": "m", "role": "assistant", "status": "completed",
              "content": [{ "type": "output_text", "text": "I look", "annotations": [] }] },
            { "type": "function_call", "id": "fc", "call_id": "a", "name": "f",
              "arguments": "{\"x\":1}", "status": "completed" },
            { "type": "function_call", "call_id": "b", "name": "g", "arguments": "{}" },
            { "type": "function_call_output", "call_id": "b", "output": "2" },
        ]);
        let body = json!({ "input": items, "instructions": "be kind" }).to_string();
        let asked = ask(body.as_bytes()).unwrap();
        let Prompt::Chat { messages, .. } = asked.request.prompt else { panic!("a conversation") };
        assert_eq!(messages.len(), 4);
        assert_eq!(messages[0], json!({ "role": "system", "content": "be kind" }));
        assert_eq!(messages[2]["content"], "I look");
        assert_eq!(messages[2]["tool_calls"][1]["function"]["name"], "g");
        assert_eq!(messages[3]["name"], "g");
        let wrong = |items: Value| name_of("input", items);
        assert_eq!(wrong(json!([])), "input");
        assert_eq!(wrong(json!([{ "type": "item_reference", "id": "x" }])), "input[0].type");
        assert_eq!(wrong(json!([{ "role": "tool", "content": "x" }])), "input[0].role");
        let unknown = json!([{ "type": "function_call_output", "call_id": "x", "output": "" }]);
        assert_eq!(wrong(unknown), "input[0].call_id");
        let image = json!([{ "role": "user", "content": [{ "type": "input_image" }] }]);
        assert_eq!(wrong(image), "input[0].content[0].type");
    }
}
