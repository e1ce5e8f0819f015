//! Whole answers and streams.

use serde_json::{Value, json};
use shoal_base::{Prompt, TokenId};

use crate::support::{Mock, Server};

fn hello() -> Value {
    json!({ "model": "mock", "messages": [{ "role": "user", "content": "hi" }] })
}

fn with(mut body: Value, changes: Value) -> Value {
    for (name, value) in changes.as_object().unwrap() {
        body[name] = value.clone();
    }
    body
}

#[test]
fn a_chat_answer_has_the_published_shape() {
    let server = Server::start(Mock::default());
    let said = server.post("/v1/chat/completions", &with(hello(), json!({ "seed": 4 })));
    assert_eq!(said.status, 200, "{said:?}");
    let body = said.json();
    assert!(body["id"].as_str().unwrap().starts_with("chatcmpl-"));
    assert_eq!(body["object"], "chat.completion");
    assert_eq!(body["model"], "mock");
    let message = json!({ "role": "assistant", "content": "w0 w1 w2 end", "refusal": null });
    assert_eq!(
        body["choices"],
        json!([{ "index": 0, "message": message, "logprobs": null, "finish_reason": "stop" }])
    );
    assert_eq!(
        body["usage"],
        json!({
            "prompt_tokens": 5, "completion_tokens": 3, "total_tokens": 8,
            "prompt_tokens_details": { "cached_tokens": 2 },
        })
    );
    assert_eq!(said.header("x-shoal-package").unwrap().len(), 64);
    assert_eq!(said.header("x-shoal-route"), Some("local"));
    assert_eq!(said.header("x-shoal-verification"), Some("none"));
    assert_eq!(said.header("x-shoal-privacy"), Some("local"));
    assert_eq!(said.header("x-shoal-seed"), Some("4"));
    assert!(said.header("x-request-id").unwrap().starts_with("req-"));
    assert!(said.header("server-timing").unwrap().starts_with("queue;dur="));
}

#[test]
fn a_stream_ends_with_usage_and_done() {
    let server = Server::start(Mock::default());
    let changes = json!({
        "stream": true, "stream_options": { "include_usage": true }, "max_completion_tokens": 2,
    });
    let said = server.post("/v1/chat/completions", &with(hello(), changes));
    assert_eq!(said.header("content-type"), Some("text/event-stream"));
    let events = said.events();
    assert_eq!(events.last().unwrap(), "[DONE]");
    let chunks: Vec<Value> = events[..events.len() - 1]
        .iter()
        .map(|event| serde_json::from_str(event).unwrap())
        .collect();
    assert_eq!(chunks[0]["choices"][0]["delta"]["role"], "assistant");
    let text: String = chunks
        .iter()
        .filter_map(|chunk| chunk["choices"][0]["delta"]["content"].as_str())
        .collect();
    assert_eq!(text, "w0 w1 end");
    let [.., end, usage] = &chunks[..] else { panic!("{chunks:?}") };
    assert_eq!(end["choices"][0]["finish_reason"], "length");
    assert_eq!(end["usage"], Value::Null);
    assert_eq!(usage["choices"], json!([]));
    assert_eq!(usage["usage"]["completion_tokens"], 2);
    assert_eq!(usage["usage"]["prompt_tokens_details"]["cached_tokens"], 2);
    assert!(chunks.iter().all(|chunk| chunk["id"] == chunks[0]["id"]));
}

#[test]
fn several_choices_have_seeds_of_their_own_and_count_the_prompt_once() {
    let server = Server::start(Mock::default());
    let changes = json!({ "n": 3, "seed": 10, "logprobs": true, "top_logprobs": 2 });
    let body = server.post("/v1/chat/completions", &with(hello(), changes)).json();
    let choices = body["choices"].as_array().unwrap();
    assert_eq!(choices.len(), 3);
    for (index, choice) in choices.iter().enumerate() {
        assert_eq!(choice["index"], index);
        let tokens = choice["logprobs"]["content"].as_array().unwrap();
        assert_eq!(tokens.len(), 3);
        assert_eq!(tokens[1]["token"], "w1 ");
        assert_eq!(tokens[1]["bytes"], json!([119, 49, 32]));
        assert_eq!(tokens[1]["logprob"], -0.25);
        assert_eq!(tokens[1]["top_logprobs"].as_array().unwrap().len(), 2);
    }
    assert_eq!(body["usage"]["prompt_tokens"], 5);
    assert_eq!(body["usage"]["completion_tokens"], 9);
    let requests = server.mock.requests.lock().unwrap();
    let seeds: Vec<u64> = requests.iter().map(|request| request.sampling.seed).collect();
    assert_eq!(seeds, [10, 11, 12]);
}

#[test]
fn text_completions_take_texts_and_tokens() {
    let server = Server::start(Mock::default());
    let ask = json!({ "model": "mock", "prompt": ["a", [104, 105]], "logprobs": 1, "n": 2 });
    let body = server.post("/v1/completions", &ask).json();
    assert_eq!(body["object"], "text_completion");
    let choices = body["choices"].as_array().unwrap();
    assert_eq!(choices.len(), 4);
    assert_eq!(choices[3]["text"], "w0 w1 w2 end");
    assert_eq!(choices[3]["logprobs"]["tokens"], json!(["w0 ", "w1 ", "w2 "]));
    assert_eq!(choices[3]["logprobs"]["text_offset"], json!([0, 3, 6]));
    assert_eq!(body["usage"]["prompt_tokens"], 10);
    let requests = server.mock.requests.lock().unwrap();
    assert_eq!(requests[0].prompt, Prompt::Text("a".to_owned()));
    assert_eq!(requests[2].prompt, Prompt::Tokens(vec![TokenId(104), TokenId(105)]));
    assert_eq!(requests[0].stop.tokens_max, Some(16));
    drop(requests);
    let stream = json!({ "prompt": "a", "stream": true, "logprobs": 0, "max_tokens": 2 });
    let events = server.post("/v1/completions", &stream).events();
    let chunk: Value = serde_json::from_str(&events[1]).unwrap();
    assert_eq!(chunk["choices"][0]["text"], "w1 ");
    assert_eq!(chunk["choices"][0]["logprobs"]["text_offset"], json!([3]));
    assert_eq!(events.last().unwrap(), "[DONE]");
}

#[test]
fn messages_have_the_shape_of_the_other_api() {
    let server = Server::start(Mock::default());
    let turns = json!([{ "role": "user", "content": "hi" }]);
    let ask = json!({ "model": "mock", "max_tokens": 2, "messages": turns, "system": "be kind" });
    let said = server.post("/v1/messages", &ask);
    assert_eq!(said.header("x-shoal-route"), Some("local"));
    let body = said.json();
    assert_eq!((&body["type"], &body["role"]), (&json!("message"), &json!("assistant")));
    assert_eq!(body["content"], json!([{ "type": "text", "text": "w0 w1 end" }]));
    assert_eq!(body["stop_reason"], "max_tokens");
    assert_eq!(body["usage"]["input_tokens"], 3);
    assert_eq!(body["usage"]["cache_read_input_tokens"], 2);
    assert_eq!(body["usage"]["output_tokens"], 2);
    let stream = with(ask.clone(), json!({ "stream": true, "max_tokens": 100 }));
    let events: Vec<Value> = server
        .post("/v1/messages", &stream)
        .events()
        .iter()
        .map(|event| serde_json::from_str(event).unwrap())
        .collect();
    let kinds: Vec<&str> = events.iter().map(|event| event["type"].as_str().unwrap()).collect();
    let (delta, end) =
        ("content_block_delta", ["content_block_stop", "message_delta", "message_stop"]);
    let start = ["message_start", "content_block_start"];
    assert_eq!(kinds, [&start[..], &[delta; 4], &end].concat());
    let text: String = events.iter().filter_map(|event| event["delta"]["text"].as_str()).collect();
    assert_eq!(text, "w0 w1 w2 end");
    assert_eq!(events[7]["delta"]["stop_reason"], "end_turn");
    let refused = server.post("/v1/messages", &with(ask, json!({ "tools": [{}] })));
    assert_eq!(refused.status, 400);
    let error = &refused.json()["error"];
    assert_eq!(error["type"], "invalid_request_error");
    assert!(error["message"].as_str().unwrap().contains("tools"), "{error}");
}

#[test]
fn embeddings_come_as_numbers_and_as_base64() {
    let server = Server::start(Mock::default());
    let body = server.post("/v1/embeddings", &json!({ "input": ["abc", "d"] })).json();
    assert_eq!(body["data"][0]["embedding"], json!([3.0, 0.5]));
    assert_eq!(body["data"][1]["index"], 1);
    assert_eq!(body["usage"], json!({ "prompt_tokens": 4, "total_tokens": 4 }));
    let ask = json!({ "input": "abc", "encoding_format": "base64", "dimensions": 2 });
    let body = server.post("/v1/embeddings", &ask).json();
    assert_eq!(body["data"][0]["embedding"], "AABAQAAAAD8=");
    let wrong = server.post("/v1/embeddings", &json!({ "input": "abc", "dimensions": 3 }));
    assert_eq!(wrong.json()["error"]["param"], "dimensions");
}

#[test]
fn tokens_go_both_ways() {
    let server = Server::start(Mock::default());
    let said = server.post("/tokenize", &json!({ "prompt": "hi" })).json();
    assert_eq!(said, json!({ "count": 2, "max_model_len": 1000, "tokens": [104, 105] }));
    let chat = json!({ "messages": [{ "role": "user", "content": "x" }] });
    assert_eq!(server.post("/tokenize", &chat).json()["count"], 1);
    let said = server.post("/detokenize", &json!({ "tokens": [104, 105] })).json();
    assert_eq!(said, json!({ "prompt": "hi" }));
    server.post("/detokenize", &json!({ "tokens": [1000] })).refused(400, "invalid_value");
}
