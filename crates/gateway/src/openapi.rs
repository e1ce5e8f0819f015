//! `GET /openapi.json`: the endpoint in the words of OpenAPI, made of the tables of parameters.

mod conversation;

use axum::response::Response;
use serde_json::{Map, Value, json};

use crate::limits::{CHOICES_MAX, INPUTS_MAX, LABEL_BYTES_MAX, METADATA_MAX};
use crate::params::{
    CHAT, COMPLETIONS, DETOKENIZE, EMBEDDINGS, MESSAGES, RESPONSES, Rule, TOKENIZE, Table,
};
use crate::{body, messages};
use conversation::{
    conversation, items, object as inner, text_format, texts, tool_choice, tools, turns,
};

/// Path, what it does, parameters, and those that must be given.
type Post = (&'static str, &'static str, Table, &'static [&'static str]);

const POSTS: [Post; 7] = [
    ("/v1/chat/completions", "Answers a conversation", CHAT, &["messages"]),
    ("/v1/completions", "Continues texts", COMPLETIONS, &["prompt"]),
    ("/v1/embeddings", "Mean-pooled final states", EMBEDDINGS, &["input"]),
    ("/v1/messages", "Answers a conversation", MESSAGES, &["model", "max_tokens", "messages"]),
    ("/v1/responses", "Answers a conversation", RESPONSES, &["input"]),
    ("/tokenize", "Text or a conversation to ids", TOKENIZE, &[]),
    ("/detokenize", "Ids to text", DETOKENIZE, &["tokens"]),
];

const GETS: [(&str, &str); 8] = [
    ("/v1/models", "The models"),
    ("/health", "The process serves"),
    ("/health/ready", "Requests are welcome"),
    ("/health/generate", "The first model computes a token"),
    ("/metrics", "Counters for Prometheus"),
    ("/swarm", "Who computes"),
    ("/version", "The version of the program"),
    ("/openapi.json", "This description"),
];

pub(crate) async fn show() -> Response {
    body::json(&document())
}

fn document() -> Value {
    let mut paths = Map::new();
    for (path, what, table, required) in POSTS {
        let content = json!({ "application/json": { "schema": object(path, table, required) } });
        let body = json!({ "required": true, "content": content });
        let post = json!({ "summary": what, "requestBody": body, "responses": responses(path) });
        paths.insert(path.to_owned(), json!({ "post": post }));
    }
    for (path, what) in GETS {
        let get = json!({ "summary": what, "responses": responses(path) });
        paths.insert(path.to_owned(), json!({ "get": get }));
    }
    let name = json!({
        "name": "model", "in": "path", "required": true, "schema": { "type": "string" },
    });
    let path = "/v1/models/{model}";
    let responses = responses(path);
    let get = json!({ "summary": "A model", "parameters": [name], "responses": responses });
    paths.insert(path.to_owned(), json!({ "get": get }));
    json!({
        "openapi": "3.1.0",
        "info": { "title": "shoal", "version": env!("CARGO_PKG_VERSION") },
        "paths": paths,
        "components": { "schemas": { "Error": error(), "MessagesError": messages_error() } },
    })
}

fn responses(path: &str) -> Value {
    let name = if path == messages::PATH { "MessagesError" } else { "Error" };
    let schema = json!({ "$ref": format!("#/components/schemas/{name}") });
    let refused = json!({
        "description": "Refused", "content": { "application/json": { "schema": schema } },
    });
    json!({ "200": { "description": "Done" }, "4XX": refused, "5XX": refused })
}

fn error() -> Value {
    let perhaps = json!({ "type": ["string", "null"] });
    let fields = json!({
        "message": { "type": "string" }, "type": { "type": "string" },
        "param": perhaps, "code": perhaps,
    });
    let error = json!({
        "type": "object", "properties": fields, "required": ["message", "type", "param", "code"],
    });
    json!({ "type": "object", "properties": { "error": error }, "required": ["error"] })
}

fn messages_error() -> Value {
    let text = json!({ "type": "string" });
    let error = json!({
        "type": "object", "properties": { "type": text, "message": text },
        "required": ["type", "message"],
    });
    json!({
        "type": "object", "properties": { "type": { "const": "error" }, "error": error },
        "required": ["type", "error"],
    })
}

fn object(path: &str, table: Table, required: &[&str]) -> Value {
    let property = |&(name, rule): &(&'static str, Rule)| {
        let schema = match rule {
            Rule::Honoured if required.contains(&name) => schema(path, name),
            Rule::Honoured => json!({ "anyOf": [schema(path, name), { "type": "null" }] }),
            Rule::Label => json!({ "type": ["string", "null"], "maxLength": LABEL_BYTES_MAX }),
            Rule::Only(values) => {
                let values = values
                    .iter()
                    .map(|value| serde_json::from_str(value).expect("the tables hold JSON"));
                json!({ "enum": values.chain([Value::Null]).collect::<Vec<Value>>() })
            }
        };
        (name.to_owned(), schema)
    };
    let mut object = json!({
        "type": "object",
        "properties": table.iter().map(property).collect::<Map<_, _>>(),
        "required": required,
        "additionalProperties": false,
    });
    if path == "/tokenize" {
        object["anyOf"] = text_or_conversation();
    }
    object
}

/// What is tokenized: a text, or a conversation with what belongs to one.
fn text_or_conversation() -> Value {
    let nothing = json!({ "type": "null" });
    let text = json!({
        "prompt": { "type": "string" }, "messages": nothing, "add_generation_prompt": nothing,
        "chat_template_kwargs": nothing,
    });
    let conversation = json!({ "prompt": nothing, "messages": { "type": "array" } });
    json!([
        { "properties": text, "required": ["prompt"] },
        { "properties": conversation, "required": ["messages"] },
    ])
}

/// What a parameter takes.
fn schema(path: &str, name: &str) -> Value {
    let number = |low: f64, high: f64| json!({ "type": "number", "minimum": low, "maximum": high });
    let whole = |low: u32, high: u32| json!({ "type": "integer", "minimum": low, "maximum": high });
    let ids = || json!({ "type": "array", "items": whole(0, u32::MAX), "minItems": 1 });
    if let Some(schema) = responses_schema(path, name) {
        return schema;
    }
    match (path, name) {
        ("/v1/completions", "logprobs") | (_, "top_logprobs") => whole(0, 20),
        ("/tokenize", "prompt") => json!({ "type": "string" }),
        (_, "model" | "cache_salt" | "instructions") => json!({ "type": "string" }),
        (_, "encoding_format") => json!({ "enum": ["float", "base64"] }),
        (
            _,
            "logprobs" | "stream" | "ignore_eos" | "add_generation_prompt" | "parallel_tool_calls",
        ) => json!({ "type": "boolean" }),
        (_, "tools") => tools(path),
        (_, "tool_choice") => tool_choice(path),
        (_, "temperature") => number(0.0, 100.0),
        (_, "top_p" | "min_p") => number(0.0, 1.0),
        (_, "repetition_penalty") => number(0.01, 100.0),
        (_, "presence_penalty" | "frequency_penalty") => number(-2.0, 2.0),
        (_, "n") => whole(1, CHOICES_MAX as u32),
        (_, "top_k") => whole(0, u32::MAX),
        (_, "max_tokens" | "max_completion_tokens" | "max_output_tokens" | "dimensions") => {
            whole(1, u32::MAX)
        }
        (_, "seed") => json!({ "type": "integer", "minimum": i64::MIN, "maximum": u64::MAX }),
        (_, "tokens" | "stop_token_ids") => {
            json!({ "type": "array", "items": whole(0, u32::MAX) })
        }
        (_, "stop_sequences") => json!({
            "type": "array", "maxItems": 16,
            "items": { "type": "string", "minLength": 1, "maxLength": 256 },
        }),
        (_, "stop") => {
            let one = json!({ "type": "string", "minLength": 1, "maxLength": 256 });
            json!({ "anyOf": [one, { "type": "array", "items": one, "maxItems": 16 }] })
        }
        (_, "logit_bias") => json!({
            "type": "object", "propertyNames": { "pattern": "^[0-9]+$" },
            "additionalProperties": number(-100.0, 100.0),
        }),
        (_, "stream_options") => {
            let flag = json!({ "type": "boolean" });
            let never = json!({ "const": false });
            inner(&json!({ "include_usage": flag, "include_obfuscation": never }), &[])
        }
        (_, "response_format") => response_format(),
        (_, "chat_template_kwargs") => json!({ "type": "object" }),
        ("/v1/messages", "messages") => turns(),
        (_, "system") => texts(),
        (_, "metadata") => inner(&json!({ "user_id": { "type": "string" } }), &[]),
        (_, "messages") => conversation(),
        (_, "prompt" | "input") => {
            let limit = if name == "input" { INPUTS_MAX } else { CHOICES_MAX };
            let one = json!({ "anyOf": [{ "type": "string" }, ids()] });
            let several =
                json!({ "type": "array", "items": one, "minItems": 1, "maxItems": limit });
            json!({ "anyOf": [{ "type": "string" }, ids(), several] })
        }
        _ => unreachable!("parameter {name} without a schema; a test looks at all of them"),
    }
}

/// What a parameter takes that only the Responses API has, or has in a form of its own.
fn responses_schema(path: &str, name: &str) -> Option<Value> {
    if path != "/v1/responses" {
        return None;
    }
    Some(match name {
        "input" => items(),
        "metadata" => json!({
            "type": "object", "maxProperties": METADATA_MAX,
            "propertyNames": { "maxLength": LABEL_BYTES_MAX },
            "additionalProperties": { "type": "string", "maxLength": LABEL_BYTES_MAX },
        }),
        "include" => json!({ "type": "array", "items": {
            "enum": ["message.output_text.logprobs", "reasoning.encrypted_content"],
        } }),
        "text" => text_format(),
        _ => return None,
    })
}

fn response_format() -> Value {
    let plain =
        json!({ "type": { "enum": ["text", "json_object"] }, "json_schema": { "type": "null" } });
    let plain = inner(&plain, &["type"]);
    let fields = json!({
        "name": { "type": "string" }, "description": { "type": "string" },
        "schema": { "type": "object" }, "strict": { "type": "boolean" },
    });
    let schema = inner(&fields, &["name", "schema"]);
    let schema = json!({ "type": { "const": "json_schema" }, "json_schema": schema });
    let schema = inner(&schema, &["type", "json_schema"]);
    json!({ "anyOf": [plain, schema] })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::server::PATHS;

    #[test]
    fn every_path_is_described() {
        let document = document();
        let paths = document["paths"].as_object().unwrap();
        let assets = ["/", "/console.css", "/console.js", "/icon.svg"];
        for path in PATHS.iter().filter(|path| !assets.contains(path)) {
            assert!(paths.contains_key(*path), "{path}");
        }
        assert_eq!(paths.len(), PATHS.len() - assets.len() + 1, "and the path of one model");
    }

    #[test]
    fn every_parameter_has_a_schema() {
        for (path, _, table, required) in POSTS {
            let object = object(path, table, required);
            assert_eq!(object["properties"].as_object().unwrap().len(), table.len());
        }
    }
}
