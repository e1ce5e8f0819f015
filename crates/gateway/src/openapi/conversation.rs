//! Schemas of conversations and tools.
//!
//! What no schema can say is left to the parser: that a result belongs to an earlier call, that the
//! last turn is the user's, that names of tools differ.

use serde_json::{Value, json};

use crate::limits::{CHOICES_MAX, MESSAGES_MAX, TOOLS_MAX};

/// An object with these properties and no others. Those that need not be there may be `null`.
pub(super) fn object(properties: &Value, required: &[&str]) -> Value {
    let mut properties = properties.clone();
    for (name, schema) in properties.as_object_mut().into_iter().flatten() {
        if !required.contains(&name.as_str()) {
            *schema = json!({ "anyOf": [schema.take(), { "type": "null" }] });
        }
    }
    json!({
        "type": "object", "properties": properties, "required": required,
        "additionalProperties": false,
    })
}

/// What may only be there as `null`.
fn nothing() -> Value {
    json!({ "type": "null" })
}

fn text() -> Value {
    json!({ "type": "string" })
}

fn list(item: &Value) -> Value {
    json!({ "type": "array", "items": item, "minItems": 1 })
}

/// A text, or a list of parts.
fn text_or(part: &Value) -> Value {
    json!({ "anyOf": [text(), list(part)] })
}

/// Tools on offer.
pub(super) fn tools(path: &str) -> Value {
    let schema = json!({
        "type": "object", "properties": { "type": { "const": "object" } },
    });
    let name = json!({ "type": "string", "pattern": "^[a-zA-Z0-9_-]{1,128}$" });
    let strict = json!({ "type": "boolean" });
    let kind = json!({ "const": "function" });
    let function = json!({
        "name": name, "description": text(), "parameters": schema, "strict": strict,
    });
    let tool = match path {
        "/v1/messages" => object(
            &json!({
                "name": name, "description": text(), "input_schema": schema, "strict": strict,
                "type": { "const": "custom" }, "cache_control": wish(),
            }),
            &["name", "input_schema"],
        ),
        "/v1/responses" => {
            let mut function = function;
            function["type"] = kind;
            object(&function, &["type", "name"])
        }
        _ => {
            let function = object(&function, &["name"]);
            object(&json!({ "type": kind, "function": function }), &["type", "function"])
        }
    };
    json!({ "type": "array", "items": tool, "maxItems": TOOLS_MAX })
}

pub(super) fn tool_choice(path: &str) -> Value {
    let words = json!({ "enum": ["auto", "none", "required"] });
    let kind = json!({ "const": "function" });
    match path {
        "/v1/messages" => {
            let single = json!({ "type": "boolean" });
            let kinds = json!({ "enum": ["auto", "any", "none"] });
            let open =
                json!({ "type": kinds, "name": nothing(), "disable_parallel_tool_use": single });
            let named = json!({
                "type": { "const": "tool" }, "name": text(), "disable_parallel_tool_use": single,
            });
            json!({ "anyOf": [object(&open, &["type"]), object(&named, &["type", "name"])] })
        }
        "/v1/responses" => {
            let named = object(&json!({ "type": kind, "name": text() }), &["type", "name"]);
            json!({ "anyOf": [words, named] })
        }
        _ => {
            let function = object(&json!({ "name": text() }), &["name"]);
            let named = json!({ "type": kind, "function": function });
            json!({ "anyOf": [words, object(&named, &["type", "function"])] })
        }
    }
}

fn wish() -> Value {
    object(&json!({ "type": { "const": "ephemeral" }, "ttl": { "enum": ["5m", "1h"] } }), &[])
}

/// A text, or blocks of text, of Anthropic's API.
pub(super) fn texts() -> Value {
    text_or(&text_block())
}

fn text_block() -> Value {
    let block = json!({
        "type": { "const": "text" }, "text": text(), "cache_control": wish(),
        "citations": { "type": "array", "maxItems": 0 },
    });
    object(&block, &["type", "text"])
}

/// `messages` of Anthropic's API.
pub(super) fn turns() -> Value {
    let call = json!({
        "type": { "const": "tool_use" }, "id": text(), "name": text(),
        "input": { "type": "object" }, "cache_control": wish(),
    });
    let result = json!({
        "type": { "const": "tool_result" }, "tool_use_id": text(),
        "content": { "anyOf": [text(), { "type": "array", "items": text_block() }] },
        "is_error": { "type": "boolean" }, "cache_control": wish(),
    });
    let turn = |role: &str, block: Value| {
        let blocks = json!({ "anyOf": [text_block(), block] });
        object(
            &json!({ "role": { "const": role }, "content": text_or(&blocks) }),
            &["role", "content"],
        )
    };
    let user = turn("user", object(&result, &["type", "tool_use_id"]));
    let assistant = turn("assistant", object(&call, &["type", "id", "name", "input"]));
    let turn = json!({ "anyOf": [user, assistant] });
    json!({ "type": "array", "items": turn, "minItems": 1, "maxItems": MESSAGES_MAX })
}

/// `input` of the Responses API.
pub(super) fn items() -> Value {
    let part = json!({
        "type": { "enum": ["input_text", "output_text"] }, "text": text(),
        "annotations": { "type": "array" }, "logprobs": { "type": "array" },
    });
    let part = object(&part, &["type", "text"]);
    let parts = json!({ "anyOf": [text(), { "type": "array", "items": part }] });
    let message = json!({
        "type": { "const": "message" }, "content": parts, "id": text(), "status": text(),
        "role": { "enum": ["system", "developer", "user", "assistant"] }, "phase": text(),
    });
    let call = json!({
        "type": { "const": "function_call" }, "call_id": text(), "name": text(),
        "arguments": text(), "id": text(), "status": text(),
    });
    let output = json!({
        "type": { "const": "function_call_output" }, "call_id": text(), "output": parts,
        "id": text(), "status": text(),
    });
    let item = json!({ "anyOf": [
        object(&message, &["role", "content"]),
        object(&call, &["type", "call_id", "name", "arguments"]),
        object(&output, &["type", "call_id", "output"]),
    ] });
    let items = json!({ "type": "array", "items": item, "minItems": 1, "maxItems": MESSAGES_MAX });
    json!({ "anyOf": [text(), items] })
}

/// `text` of the Responses API.
pub(super) fn text_format() -> Value {
    let plain = json!({
        "type": { "enum": ["text", "json_object"] }, "name": nothing(), "schema": nothing(),
        "description": nothing(), "strict": nothing(),
    });
    let plain = object(&plain, &["type"]);
    let schema = json!({
        "type": { "const": "json_schema" }, "name": text(), "schema": { "type": "object" },
        "description": text(), "strict": { "type": "boolean" },
    });
    let schema = object(&schema, &["type", "name", "schema"]);
    let format = json!({ "anyOf": [plain, schema] });
    object(&json!({ "format": format, "verbosity": { "const": "medium" } }), &[])
}

/// `messages` of chat completions.
pub(super) fn conversation() -> Value {
    let part = object(&json!({ "type": { "const": "text" }, "text": text() }), &["type", "text"]);
    let content = text_or(&part);
    let empty = json!({ "type": "array", "maxItems": 0 });
    let common = json!({
        "role": { "enum": ["system", "developer", "user", "assistant"] },
        "content": content, "name": text(), "refusal": nothing(), "audio": nothing(),
        "function_call": nothing(), "annotations": empty, "tool_calls": empty,
        "tool_call_id": nothing(),
    });
    let function = json!({ "name": text(), "arguments": text() });
    let function = object(&function, &["name", "arguments"]);
    let call = json!({
        "id": text(), "type": { "const": "function" }, "function": function,
        "index": { "type": "integer", "minimum": 0, "maximum": u32::MAX },
    });
    let call = object(&call, &["id", "function"]);
    let mut calling = common.clone();
    calling["role"] = json!({ "const": "assistant" });
    calling["tool_calls"] =
        json!({ "type": "array", "items": call, "minItems": 1, "maxItems": CHOICES_MAX });
    let mut result = common.clone();
    result["role"] = json!({ "const": "tool" });
    result["tool_call_id"] = text();
    let message = json!({ "anyOf": [
        object(&common, &["role", "content"]),
        object(&calling, &["role", "tool_calls"]),
        object(&result, &["role", "content", "tool_call_id"]),
    ] });
    json!({ "type": "array", "items": message, "minItems": 1, "maxItems": MESSAGES_MAX })
}
