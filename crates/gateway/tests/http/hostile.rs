//! Bodies nobody would send on purpose: each is answered or refused in the usual form.

use serde_json::{Value, json};

use crate::support::{Mock, Server};

const BODIES: usize = 10_000;
const PIECES: [&str; 16] = [
    "null",
    "true",
    "-1",
    "1e308",
    "1e999",
    "18446744073709551616",
    "0.1",
    "\"\"",
    "[",
    "]",
    "{",
    "}",
    ",",
    "\"\\ud800\"",
    "[[[[[[[[",
    "{\"type\":\"json_schema\"}",
];
const NAMES: [&str; 12] = [
    "frequency_penalty",
    "logit_bias",
    "logprobs",
    "max_tokens",
    "n",
    "response_format",
    "seed",
    "stop",
    "stream_options",
    "temperature",
    "tools",
    "user",
];

/// The next of a stream of random numbers (splitmix64).
fn random(state: &mut u64) -> usize {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut z = *state;
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    (z ^ (z >> 31)) as usize
}

/// A body with one to four wounds.
fn wounded(body: &[u8], state: &mut u64) -> Vec<u8> {
    let mut body = body.to_vec();
    for _ in 0..1 + random(state) % 4 {
        let start = random(state) % (body.len() + 1);
        let end = (start + random(state) % 8).min(body.len());
        let piece: Vec<u8> = match random(state) % 4 {
            0 => Vec::new(),
            1 => vec![random(state) as u8],
            2 => PIECES[random(state) % PIECES.len()].into(),
            _ => {
                let name = NAMES[random(state) % NAMES.len()];
                let value = PIECES[random(state) % PIECES.len()];
                format!("\"{name}\":{value},").into()
            }
        };
        let start = if random(state).is_multiple_of(4) { 1.min(end) } else { start };
        body.splice(start..end, piece);
    }
    body
}

/// What each endpoint takes.
fn bodies() -> [(&'static str, Value); 8] {
    let message = json!({ "role": "user", "content": [{ "type": "text", "text": "x" }] });
    let chat = json!({
        "messages": [message], "stop": ["a"], "logit_bias": { "1": 2 }, "seed": 1, "n": 2,
        "stream": true, "stream_options": { "include_usage": true }, "logprobs": true,
        "response_format": { "type": "json_schema", "json_schema": { "name": "n", "schema": {} } },
    });
    let function = json!({ "name": "f", "parameters": { "type": "object" } });
    let tool = json!({ "type": "function", "function": function });
    let call = json!({ "id": "c", "type": "function",
                       "function": { "name": "f", "arguments": "{}" } });
    let tools = json!({
        "messages": [
            { "role": "user", "content": "x" },
            { "role": "assistant", "content": null, "tool_calls": [call] },
            { "role": "tool", "tool_call_id": "c", "content": "y" },
        ],
        "tools": [tool], "tool_choice": "required", "parallel_tool_calls": false,
    });
    let schema = json!({ "type": "object" });
    let messages = json!({
        "model": "mock", "max_tokens": 9, "stop_sequences": ["a"],
        "tools": [{ "name": "f", "input_schema": schema }], "tool_choice": { "type": "any" },
        "messages": [
            { "role": "user", "content": "x" },
            { "role": "assistant", "content":
                [{ "type": "tool_use", "id": "c", "name": "f", "input": {} }] },
            { "role": "user", "content": [{ "type": "tool_result", "tool_use_id": "c" }] },
        ],
    });
    let responses = json!({
        "input": [
            { "role": "user", "content": [{ "type": "input_text", "text": "x" }] },
            { "type": "function_call", "call_id": "c", "name": "f", "arguments": "{}" },
            { "type": "function_call_output", "call_id": "c", "output": "y" },
        ],
        "tools": [{ "type": "function", "name": "f", "parameters": schema }],
        "text": { "format": { "type": "json_schema", "name": "n", "schema": schema } },
    });
    let text = json!({ "prompt": ["x", [1, 2]], "logprobs": 1, "stop": "a" });
    [
        ("/v1/chat/completions", chat),
        ("/v1/chat/completions", tools),
        ("/v1/completions", text),
        ("/v1/messages", messages),
        ("/v1/responses", responses),
        ("/v1/embeddings", json!({ "input": ["x", [1, 2]], "encoding_format": "base64" })),
        ("/tokenize", json!({ "messages": [{ "role": "user", "content": "x" }] })),
        ("/detokenize", json!({ "tokens": [1, 2, 3] })),
    ]
}

#[test]
fn ten_thousand_wounded_bodies_are_answered_or_refused() {
    let server = Server::start(Mock::default());
    let bodies = bodies();
    for (path, body) in &bodies {
        assert_eq!(server.post(path, body).status, 200, "{path}");
    }
    let (mut state, mut refused) = (1, 0);
    for index in 0..BODIES {
        let (path, body) = &bodies[index % bodies.len()];
        let body = wounded(body.to_string().as_bytes(), &mut state);
        let said = server.post_raw(path, &body);
        let body = String::from_utf8_lossy(&body);
        if said.status == 200 {
            continue;
        }
        refused += 1;
        assert!([400, 404].contains(&said.status), "{path} {body} {said:?}");
        let said = said.json();
        let error = &said["error"];
        assert!(error["message"].is_string() && error["type"].is_string(), "{path} {body} {said}");
        let named = match *path {
            "/v1/messages" => said["type"] == "error",
            _ => error["code"].is_string(),
        };
        assert!(named, "{path} {body} {said}");
    }
    assert!(refused > BODIES / 2, "most are refused: {refused}");
    assert_eq!(server.get("/health").status, 200);
}
