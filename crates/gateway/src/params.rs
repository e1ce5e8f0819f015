//! Every published parameter of every endpoint, and what becomes of it.
//!
//! Owns the tables and the readers of single values. Invariant: a field that is in no table is
//! refused by name, and so is a value that would be dropped.

use serde_json::{Map, Value};

use crate::error::ApiError;
use crate::limits::LABEL_BYTES_MAX;

/// What becomes of a parameter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Rule {
    /// It does what it says.
    Honoured,
    /// A word about the caller, checked for its type; no answer depends on it.
    Label,
    /// Refused, unless it has one of these values, in which nothing is asked for. JSON texts.
    Only(&'static [&'static str]),
}

use Rule::{Honoured, Label, Only};

/// A table: names and rules.
pub(crate) type Table = &'static [(&'static str, Rule)];

/// `POST /v1/chat/completions`.
pub(crate) const CHAT: Table = &[
    ("model", Honoured),
    ("messages", Honoured),
    ("frequency_penalty", Honoured),
    ("presence_penalty", Honoured),
    ("logit_bias", Honoured),
    ("logprobs", Honoured),
    ("top_logprobs", Honoured),
    ("max_tokens", Honoured),
    ("max_completion_tokens", Honoured),
    ("n", Honoured),
    ("response_format", Honoured),
    ("seed", Honoured),
    ("stop", Honoured),
    ("stream", Honoured),
    ("stream_options", Honoured),
    ("temperature", Honoured),
    ("top_p", Honoured),
    ("top_k", Honoured),
    ("min_p", Honoured),
    ("repetition_penalty", Honoured),
    ("stop_token_ids", Honoured),
    ("ignore_eos", Honoured),
    ("cache_salt", Honoured),
    ("chat_template_kwargs", Honoured),
    ("user", Label),
    ("safety_identifier", Label),
    ("prompt_cache_key", Label),
    ("metadata", Only(&["{}"])),
    ("audio", Only(&[])),
    ("function_call", Only(&["\"none\""])),
    ("functions", Only(&["[]"])),
    ("modalities", Only(&["[\"text\"]"])),
    ("parallel_tool_calls", Honoured),
    ("prediction", Only(&[])),
    ("prompt_cache_retention", Only(&["\"in-memory\"", "\"in_memory\""])),
    ("reasoning_effort", Only(&["\"none\""])),
    ("service_tier", Only(&["\"auto\"", "\"default\""])),
    ("store", Only(&["false"])),
    ("tool_choice", Honoured),
    ("tools", Honoured),
    ("verbosity", Only(&["\"medium\""])),
    ("web_search_options", Only(&[])),
];

/// `POST /v1/completions`.
pub(crate) const COMPLETIONS: Table = &[
    ("model", Honoured),
    ("prompt", Honoured),
    ("frequency_penalty", Honoured),
    ("presence_penalty", Honoured),
    ("logit_bias", Honoured),
    ("logprobs", Honoured),
    ("max_tokens", Honoured),
    ("n", Honoured),
    ("response_format", Honoured),
    ("seed", Honoured),
    ("stop", Honoured),
    ("stream", Honoured),
    ("stream_options", Honoured),
    ("temperature", Honoured),
    ("top_p", Honoured),
    ("top_k", Honoured),
    ("min_p", Honoured),
    ("repetition_penalty", Honoured),
    ("stop_token_ids", Honoured),
    ("ignore_eos", Honoured),
    ("cache_salt", Honoured),
    ("user", Label),
    ("best_of", Only(&["1"])),
    ("echo", Only(&["false"])),
    ("suffix", Only(&["\"\""])),
];

/// `POST /v1/embeddings`.
pub(crate) const EMBEDDINGS: Table = &[
    ("model", Honoured),
    ("input", Honoured),
    ("encoding_format", Honoured),
    ("dimensions", Honoured),
    ("user", Label),
];

/// `POST /v1/messages`.
pub(crate) const MESSAGES: Table = &[
    ("model", Honoured),
    ("max_tokens", Honoured),
    ("messages", Honoured),
    ("system", Honoured),
    ("stream", Honoured),
    ("temperature", Honoured),
    ("top_p", Honoured),
    ("top_k", Honoured),
    ("metadata", Honoured),
    ("cache_control", Only(&["{\"type\":\"ephemeral\"}"])),
    ("container", Only(&[])),
    ("context_management", Only(&[])),
    ("inference_geo", Only(&[])),
    ("mcp_servers", Only(&["[]"])),
    ("output_config", Only(&["{}"])),
    ("service_tier", Only(&["\"auto\"", "\"standard_only\""])),
    ("stop_sequences", Honoured),
    ("thinking", Only(&["{\"type\":\"disabled\"}"])),
    ("tool_choice", Honoured),
    ("tools", Honoured),
];

/// `POST /v1/responses`.
pub(crate) const RESPONSES: Table = &[
    ("model", Honoured),
    ("input", Honoured),
    ("instructions", Honoured),
    ("include", Honoured),
    ("max_output_tokens", Honoured),
    ("metadata", Honoured),
    ("parallel_tool_calls", Honoured),
    ("stream", Honoured),
    ("temperature", Honoured),
    ("text", Honoured),
    ("tool_choice", Honoured),
    ("tools", Honoured),
    ("top_logprobs", Honoured),
    ("top_p", Honoured),
    ("prompt_cache_key", Label),
    ("safety_identifier", Label),
    ("user", Label),
    ("background", Only(&["false"])),
    ("context_management", Only(&[])),
    ("conversation", Only(&[])),
    ("max_tool_calls", Only(&[])),
    ("previous_response_id", Only(&[])),
    ("prompt", Only(&[])),
    ("prompt_cache_retention", Only(&["\"in-memory\"", "\"in_memory\""])),
    ("reasoning", Only(&["{}", "{\"effort\":\"none\"}"])),
    ("service_tier", Only(&["\"auto\"", "\"default\""])),
    ("store", Only(&["false"])),
    ("stream_options", Only(&["{}", "{\"include_obfuscation\":false}"])),
    ("truncation", Only(&["\"disabled\""])),
];

/// `POST /tokenize`.
pub(crate) const TOKENIZE: Table = &[
    ("model", Honoured),
    ("prompt", Honoured),
    ("messages", Honoured),
    ("add_generation_prompt", Honoured),
    ("chat_template_kwargs", Honoured),
];

/// `POST /detokenize`.
pub(crate) const DETOKENIZE: Table = &[("model", Honoured), ("tokens", Honoured)];

/// The fields of a request. A field that is `null` counts as absent.
#[derive(Debug)]
pub(crate) struct Fields {
    fields: Map<String, Value>,
    /// Where they are in the body, such as `stream_options.`; empty at the top.
    place: String,
}

impl Fields {
    /// Reads a body and checks it against a table.
    pub(crate) fn parse(body: &[u8], table: Table) -> Result<Self, ApiError> {
        let value: Value = serde_json::from_slice(body)
            .map_err(|error| ApiError::Json { reason: error.to_string() })?;
        let Value::Object(fields) = value else { return Err(ApiError::NotAnObject) };
        let fields = Self { fields, place: String::new() };
        for (name, value) in &fields.fields {
            let rule = table.iter().find(|(known, _)| known == name).map(|(_, rule)| *rule);
            match rule {
                None => return Err(ApiError::Unknown { name: name.clone() }),
                Some(_) if value.is_null() => {}
                Some(Honoured) => {}
                Some(Label) => check_label(name, value)?,
                Some(Only(values)) => check_only(name, value, values)?,
            }
        }
        Ok(fields)
    }

    /// The fields of an object inside the body, of which only those named are known.
    pub(crate) fn inner(value: Value, place: &str, known: &[&str]) -> Result<Self, ApiError> {
        let Value::Object(fields) = value else {
            return Err(ApiError::parameter(place, "is an object"));
        };
        if let Some(name) = fields.keys().find(|name| !known.contains(&name.as_str())) {
            return Err(ApiError::Unknown { name: format!("{place}.{name}") });
        }
        Ok(Self { fields, place: format!("{place}.") })
    }

    /// The full name of a field.
    pub(crate) fn name(&self, name: &str) -> String {
        format!("{}{name}", self.place)
    }

    /// Takes a value of any type.
    pub(crate) fn take(&mut self, name: &str) -> Option<Value> {
        self.fields.remove(name).filter(|value| !value.is_null())
    }

    /// Takes a value of any type that must be there.
    pub(crate) fn need(&mut self, name: &str) -> Result<Value, ApiError> {
        self.take(name).ok_or_else(|| ApiError::Missing { name: self.name(name) })
    }

    /// Takes a text.
    pub(crate) fn text(&mut self, name: &str) -> Result<Option<String>, ApiError> {
        self.typed(name, "is a string", |value| match value {
            Value::String(text) => Some(text),
            _ => None,
        })
    }

    /// Takes a yes or no.
    pub(crate) fn flag(&mut self, name: &str) -> Result<Option<bool>, ApiError> {
        self.typed(name, "is true or false", |value| value.as_bool())
    }

    /// Takes a number.
    pub(crate) fn number(&mut self, name: &str) -> Result<Option<f32>, ApiError> {
        self.typed(name, "is a number", |value| value.as_f64().map(|number| number as f32))
    }

    /// Takes a whole number.
    pub(crate) fn whole(&mut self, name: &str) -> Result<Option<u32>, ApiError> {
        let rule = "is a whole number from 0 to 4294967295";
        self.typed(name, rule, |value| u32::try_from(value.as_u64()?).ok())
    }

    fn typed<T>(
        &mut self,
        name: &str,
        rule: &str,
        read: impl FnOnce(Value) -> Option<T>,
    ) -> Result<Option<T>, ApiError> {
        let Some(value) = self.take(name) else { return Ok(None) };
        read(value).map(Some).ok_or_else(|| ApiError::parameter(self.name(name), rule))
    }
}

fn check_label(name: &str, value: &Value) -> Result<(), ApiError> {
    match value.as_str() {
        Some(text) if text.len() <= LABEL_BYTES_MAX => Ok(()),
        _ => Err(ApiError::parameter(
            name,
            format!("is a string of at most {LABEL_BYTES_MAX} bytes"),
        )),
    }
}

fn check_only(name: &str, value: &Value, values: &[&str]) -> Result<(), ApiError> {
    let text = value.to_string();
    match values {
        _ if values.contains(&text.as_str()) => Ok(()),
        [] => Err(ApiError::parameter(name, "is not supported here; leave it out")),
        _ => {
            let values = values.join(" or ");
            Err(ApiError::parameter(name, format!("is not supported here, except as {values}")))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_name_each_parameter_once() {
        for table in [CHAT, COMPLETIONS, EMBEDDINGS, MESSAGES, RESPONSES, TOKENIZE, DETOKENIZE] {
            for (index, (name, _)) in table.iter().enumerate() {
                assert!(table[..index].iter().all(|(other, _)| other != name), "{name}");
            }
        }
    }

    #[test]
    fn fields_in_no_table_are_refused() {
        let parse = |body: &str| Fields::parse(body.as_bytes(), DETOKENIZE).map(drop);
        assert_eq!(parse("{}"), Ok(()));
        assert_eq!(parse("{\"token\": 1}"), Err(ApiError::Unknown { name: "token".into() }));
        assert_eq!(parse("[]"), Err(ApiError::NotAnObject));
        assert!(matches!(parse("{"), Err(ApiError::Json { .. })));
        assert!(matches!(parse(&"[".repeat(100_000)), Err(ApiError::Json { .. })));
    }

    #[test]
    fn values_that_would_be_dropped_are_refused() {
        let parse = |body: &str| Fields::parse(body.as_bytes(), CHAT).map(drop);
        assert_eq!(parse("{\"store\": false, \"audio\": null, \"user\": \"me\"}"), Ok(()));
        for body in ["{\"store\": true}", "{\"audio\": {}}", "{\"user\": 1}"] {
            assert!(matches!(parse(body), Err(ApiError::Parameter { .. })), "{body}");
        }
    }

    #[test]
    fn the_page_about_the_endpoint_has_the_same_tables() {
        let page = include_str!("../../../docs/reference/api.md");
        let cell = |table: Table, name: &str| {
            let rule = table.iter().find(|(known, _)| *known == name).map(|(_, rule)| rule);
            match rule {
                None => "–".to_owned(),
                Some(Honoured) => "honoured".to_owned(),
                Some(Label) => "label".to_owned(),
                Some(Only([])) => "refused".to_owned(),
                Some(Only(values)) => format!("only `{}`", values.join("` or `")),
            }
        };
        for (name, _) in [CHAT, COMPLETIONS, EMBEDDINGS].concat() {
            let cells = [CHAT, COMPLETIONS, EMBEDDINGS].map(|table| cell(table, name));
            let row = format!("| `{name}` | {} |", cells.join(" | "));
            assert!(page.lines().any(|line| line == row), "{row}");
        }
        for (name, _) in [MESSAGES, RESPONSES].concat() {
            let cells = [MESSAGES, RESPONSES].map(|table| cell(table, name));
            let row = format!("| `{name}` | {} |", cells.join(" | "));
            assert!(page.lines().any(|line| line == row), "{row}");
        }
    }
}
