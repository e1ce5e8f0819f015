//! How tokens are chosen and when an answer ends: from JSON to a [`Request`]. Ranges are checked
//! by whoever computes; here it is only types.

use serde_json::Value;
use shoal_base::{Grammar, Request, RequestLimits, TokenId};

use crate::error::ApiError;
use crate::params::Fields;

/// Reads what chat and text completions share.
pub(crate) fn read(fields: &mut Fields, request: &mut Request) -> Result<(), ApiError> {
    let sampling = &mut request.sampling;
    let numbers = [
        ("temperature", &mut sampling.temperature),
        ("top_p", &mut sampling.top_p),
        ("min_p", &mut sampling.min_p),
        ("repetition_penalty", &mut sampling.repetition_penalty),
        ("presence_penalty", &mut sampling.presence_penalty),
        ("frequency_penalty", &mut sampling.frequency_penalty),
    ];
    for (name, place) in numbers {
        if let Some(number) = fields.number(name)? {
            *place = number;
        }
    }
    sampling.top_k = fields.whole("top_k")?.unwrap_or(sampling.top_k);
    sampling.seed = seed(fields)?;
    if let Some(value) = fields.take("logit_bias") {
        sampling.logit_bias = logit_bias(value)?;
    }
    if let Some(value) = fields.take("response_format") {
        sampling.grammar = response_format(value)?;
    }
    let stop = &mut request.stop;
    stop.ignore_end_of_turn = fields.flag("ignore_eos")?.unwrap_or(false);
    if let Some(value) = fields.take("stop") {
        stop.strings = stop_strings(value)?;
    }
    if let Some(value) = fields.take("stop_token_ids") {
        stop.ids = token_ids(value)
            .ok_or_else(|| ApiError::parameter("stop_token_ids", "is a list of token ids"))?;
    }
    if let Some(salt) = fields.text("cache_salt")? {
        request.cache_salt = salt.into_bytes();
    }
    Ok(())
}

/// Whether to stream, and whether with the tokens used at the end.
pub(crate) fn stream(fields: &mut Fields) -> Result<(bool, bool), ApiError> {
    let stream = fields.flag("stream")?.unwrap_or(false);
    let Some(options) = fields.take("stream_options") else { return Ok((stream, false)) };
    let known = ["include_usage", "include_obfuscation"];
    let mut options = Fields::inner(options, "stream_options", &known)?;
    if !stream {
        return Err(ApiError::parameter("stream_options", "is for `stream: true` only"));
    }
    if options.flag("include_obfuscation")?.unwrap_or(false) {
        let name = options.name("include_obfuscation");
        return Err(ApiError::parameter(name, "is not supported here, except as false"));
    }
    Ok((stream, options.flag("include_usage")?.unwrap_or(false)))
}

/// Token ids in a list.
pub(crate) fn token_ids(value: Value) -> Option<Vec<TokenId>> {
    let Value::Array(ids) = value else { return None };
    ids.iter().map(|id| Some(TokenId(u32::try_from(id.as_u64()?).ok()?))).collect()
}

/// Any 64 bits, signed or not. Without one the answer is different every time.
fn seed(fields: &mut Fields) -> Result<u64, ApiError> {
    let Some(value) = fields.take("seed") else {
        return Ok(getrandom::u64().unwrap_or_default());
    };
    let signed = || value.as_i64().map(i64::cast_unsigned);
    let seed = value.as_u64().or_else(signed);
    seed.ok_or_else(|| ApiError::parameter("seed", "is a whole number of 64 bits"))
}

fn logit_bias(value: Value) -> Result<Vec<(TokenId, f32)>, ApiError> {
    let refuse = || ApiError::parameter("logit_bias", "is an object of token ids and numbers");
    let Value::Object(entries) = value else { return Err(refuse()) };
    let entry = |(id, bias): (String, Value)| {
        // Numbers with a sign would be read as well.
        let id = Some(id).filter(|id| id.bytes().all(|byte| byte.is_ascii_digit()));
        let id = id.and_then(|id| id.parse().ok()).ok_or_else(refuse)?;
        let bias = bias.as_f64().ok_or_else(refuse)?;
        Ok((TokenId(id), bias as f32))
    };
    entries.into_iter().map(entry).collect()
}

fn stop_strings(value: Value) -> Result<Vec<String>, ApiError> {
    let refuse = || ApiError::parameter("stop", "is a string or a list of strings");
    let text = |value| match value {
        Value::String(text) => Ok(text),
        _ => Err(refuse()),
    };
    match value {
        Value::Array(values) if values.len() > RequestLimits::STOP_STRINGS_MAX => {
            Err(ApiError::parameter("stop", "has at most 16 strings"))
        }
        Value::Array(values) => values.into_iter().map(text).collect(),
        value => Ok(vec![text(value)?]),
    }
}

fn response_format(value: Value) -> Result<Option<Grammar>, ApiError> {
    let mut format = Fields::inner(value, "response_format", &["type", "json_schema"])?;
    let kind = format.text("type")?;
    let schema = format.take("json_schema");
    match (kind.as_deref(), schema) {
        (Some("text"), None) => Ok(None),
        (Some("json_object"), None) => Ok(Some(Grammar::JsonObject)),
        (Some("json_schema"), Some(value)) => {
            let place = "response_format.json_schema";
            let known = ["name", "description", "schema", "strict"];
            let mut named = Fields::inner(value, place, &known)?;
            // Every schema is followed to the letter, so `strict` asks for what happens anyway.
            named.flag("strict")?;
            named.text("description")?;
            named.text("name")?.ok_or_else(|| ApiError::Missing { name: named.name("name") })?;
            let schema = named.need("schema")?;
            if !schema.is_object() {
                return Err(ApiError::parameter(named.name("schema"), "is an object"));
            }
            Ok(Some(Grammar::JsonSchema(schema)))
        }
        (Some("json_schema"), None) => {
            Err(ApiError::Missing { name: "response_format.json_schema".to_owned() })
        }
        (Some("text" | "json_object"), Some(_)) => {
            Err(ApiError::parameter("response_format.json_schema", "is for `json_schema` only"))
        }
        _ => {
            let rule = "is \"text\", \"json_object\" or \"json_schema\"";
            Err(ApiError::parameter("response_format.type", rule))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::params::CHAT;
    use serde_json::json;
    use shoal_base::Prompt;

    fn request(body: Value) -> Result<Request, ApiError> {
        let mut fields = Fields::parse(body.to_string().as_bytes(), CHAT)?;
        let mut request = Request::new(Prompt::Text(String::new()));
        read(&mut fields, &mut request).map(|()| request)
    }

    #[test]
    fn parameters_reach_the_request() {
        let body = json!({
            "temperature": 0.5, "top_p": 0.75, "top_k": 7, "min_p": 0.25, "seed": -1,
            "repetition_penalty": 1.5, "presence_penalty": 0.5, "frequency_penalty": -0.5,
            "logit_bias": {"3": -100}, "stop": "x", "stop_token_ids": [1, 2], "ignore_eos": true,
            "cache_salt": "s", "response_format": {"type": "json_object"},
        });
        let request = request(body).unwrap();
        let sampling = &request.sampling;
        assert_eq!((sampling.temperature, sampling.top_p, sampling.top_k), (0.5, 0.75, 7));
        assert_eq!((sampling.min_p, sampling.repetition_penalty), (0.25, 1.5));
        assert_eq!((sampling.presence_penalty, sampling.frequency_penalty), (0.5, -0.5));
        assert_eq!(
            (sampling.seed, &sampling.logit_bias[..]),
            (u64::MAX, &[(TokenId(3), -100.0)][..])
        );
        assert_eq!(sampling.grammar, Some(Grammar::JsonObject));
        assert_eq!(request.stop.strings, ["x"]);
        assert_eq!(request.stop.ids, [TokenId(1), TokenId(2)]);
        assert!(request.stop.ignore_end_of_turn);
        assert_eq!(request.cache_salt, b"s");
    }

    #[test]
    fn without_a_seed_one_is_drawn() {
        let draw = || request(json!({})).unwrap().sampling.seed;
        assert_ne!(draw(), draw());
    }

    #[test]
    fn formats_are_read_to_the_letter() {
        let format = |format: Value| {
            request(json!({ "response_format": format })).map(|request| request.sampling.grammar)
        };
        assert_eq!(format(json!({"type": "text"})), Ok(None));
        let schema = json!({"type": "integer"});
        let named = json!({"type": "json_schema", "json_schema": {"name": "n", "schema": schema}});
        assert_eq!(format(named), Ok(Some(Grammar::JsonSchema(schema))));
        for wrong in [
            json!("json_object"),
            json!({}),
            json!({"type": "xml"}),
            json!({"type": "json_schema"}),
            json!({"type": "json_schema", "json_schema": {"name": "n"}}),
            json!({"type": "json_schema", "json_schema": {"name": "n", "schema": 1}}),
            json!({"type": "json_object", "json_schema": {}}),
            json!({"type": "json_object", "more": 1}),
        ] {
            assert!(format(wrong.clone()).is_err(), "{wrong}");
        }
    }
}
