//! Every published parameter is honoured or refused by name.

use serde_json::{Value, json};

use crate::support::{Mock, Server};

/// Endpoint, a request it takes, and what OpenAI has published for it.
fn endpoints() -> [(&'static str, Value, Vec<&'static str>); 4] {
    let chat = json!({ "messages": [{ "role": "user", "content": "x" }] });
    [
        (
            "/v1/chat/completions",
            chat,
            "audio frequency_penalty function_call functions logit_bias logprobs \
             max_completion_tokens max_tokens messages metadata modalities model n \
             parallel_tool_calls prediction presence_penalty prompt_cache_key \
             prompt_cache_retention reasoning_effort response_format safety_identifier seed \
             service_tier stop store stream stream_options temperature tool_choice tools \
             top_logprobs top_p user verbosity web_search_options"
                .split_whitespace()
                .collect(),
        ),
        (
            "/v1/completions",
            json!({ "prompt": "x" }),
            "best_of echo frequency_penalty logit_bias logprobs max_tokens model n \
             presence_penalty prompt seed stop stream stream_options suffix temperature top_p user"
                .split_whitespace()
                .collect(),
        ),
        (
            "/v1/responses",
            json!({ "input": "x" }),
            "background context_management conversation include input instructions \
             max_output_tokens max_tool_calls metadata model parallel_tool_calls \
             previous_response_id prompt prompt_cache_key prompt_cache_retention reasoning \
             safety_identifier service_tier store stream stream_options temperature text \
             tool_choice tools top_logprobs top_p truncation user"
                .split_whitespace()
                .collect(),
        ),
        (
            "/v1/embeddings",
            json!({ "input": "x" }),
            "dimensions encoding_format input model user".split_whitespace().collect(),
        ),
    ]
}

#[test]
fn no_published_parameter_is_ignored() {
    let server = Server::start(Mock::default());
    for (path, body, names) in endpoints() {
        for name in names {
            // A value that no parameter takes: whoever reads it refuses it.
            let mut wrong = body.clone();
            wrong[name] = json!({ "no parameter": [takes_nothing()] });
            let said = server.post(path, &wrong);
            assert_eq!(said.status, 400, "{path} {name} {said:?}");
            let param = said.json()["error"]["param"].clone();
            let param = param.as_str().unwrap_or_default();
            assert!(
                param == name || param.starts_with(&format!("{name}.")),
                "{path} {name} {said:?}"
            );
            // Without a value it is absent.
            let mut absent = body.clone();
            if absent.get(name).is_none() {
                absent[name] = Value::Null;
                assert_eq!(server.post(path, &absent).status, 200, "{path} {name}");
            }
        }
    }
}

fn takes_nothing() -> Value {
    json!({ "at": "all" })
}

#[test]
fn unknown_parameters_are_named() {
    let server = Server::start(Mock::default());
    for (path, mut body, _) in endpoints() {
        body["temprature"] = json!(1);
        let said = server.post(path, &body);
        said.refused(400, "unknown_parameter");
        assert_eq!(said.json()["error"]["param"], "temprature");
    }
}

#[test]
fn numbers_out_of_range_are_named() {
    let server = Server::start(Mock::default());
    for (name, value) in [
        ("n", json!(-1)),
        ("n", json!(1e9)),
        ("max_tokens", json!(-5)),
        ("max_tokens", json!(1.5)),
        ("max_tokens", json!(1u64 << 40)),
        ("top_logprobs", json!(300)),
        ("seed", json!(0.5)),
        ("temperature", json!("hot")),
        ("temperature", json!(-1)),
        ("stop", json!([1])),
        ("logit_bias", json!({ "x": 1 })),
        ("stream", json!("yes")),
    ] {
        let mut body =
            json!({ "messages": [{ "role": "user", "content": "x" }], "logprobs": true });
        body[name] = value;
        let said = server.post("/v1/chat/completions", &body);
        said.refused(400, "invalid_value");
        assert_eq!(said.json()["error"]["param"], name, "{said:?}");
    }
}
