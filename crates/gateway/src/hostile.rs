//! Bodies nobody would send on purpose: each is understood or refused in the usual form.

use serde_json::json;

use crate::error::ApiError;
use crate::params::{CHAT, COMPLETIONS};
use crate::{chat, completions, messages, responses};

const ROUNDS: u64 = 10_000;
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
                let names = [CHAT, COMPLETIONS].concat();
                let (name, _) = names[random(state) % names.len()];
                let value = PIECES[random(state) % PIECES.len()];
                format!("\"{name}\":{value},").into()
            }
        };
        let start = if random(state).is_multiple_of(4) { 1.min(end) } else { start };
        body.splice(start..end, piece);
    }
    body
}

#[test]
fn ten_thousand_wounded_bodies_are_understood_or_refused() {
    let message = json!({ "role": "user", "content": [{ "type": "text", "text": "x" }] });
    let body = json!({
        "messages": [message], "stop": ["a"], "logit_bias": { "1": 2 }, "seed": 1, "n": 2,
        "stream": true, "stream_options": { "include_usage": true }, "logprobs": true,
        "response_format": { "type": "json_schema", "json_schema": { "name": "n", "schema": {} } },
    });
    let chat_body = body.to_string();
    let function = json!({ "name": "f", "parameters": { "type": "object" } });
    let tool = json!({ "type": "function", "function": function });
    let call = json!({ "id": "c", "type": "function",
                       "function": { "name": "f", "arguments": "{}" } });
    let tools_body = json!({
        "messages": [
            { "role": "user", "content": "x" },
            { "role": "assistant", "content": null, "tool_calls": [call] },
            { "role": "tool", "tool_call_id": "c", "content": "y" },
        ],
        "tools": [tool], "tool_choice": "required", "parallel_tool_calls": false,
    })
    .to_string();
    let schema = json!({ "type": "object" });
    let messages_body = json!({
        "model": "m", "max_tokens": 9, "stop_sequences": ["a"],
        "tools": [{ "name": "f", "input_schema": schema }], "tool_choice": { "type": "any" },
        "messages": [
            { "role": "user", "content": "x" },
            { "role": "assistant", "content":
                [{ "type": "tool_use", "id": "c", "name": "f", "input": {} }] },
            { "role": "user", "content": [{ "type": "tool_result", "tool_use_id": "c" }] },
        ],
    })
    .to_string();
    let responses_body = json!({
        "input": [
            { "role": "user", "content": [{ "type": "input_text", "text": "x" }] },
            { "type": "function_call", "call_id": "c", "name": "f", "arguments": "{}" },
            { "type": "function_call_output", "call_id": "c", "output": "y" },
        ],
        "tools": [{ "type": "function", "name": "f", "parameters": schema }],
        "text": { "format": { "type": "json_schema", "name": "n", "schema": schema } },
    })
    .to_string();
    let text_body = json!({ "prompt": ["x", [1, 2]], "logprobs": 1, "stop": "a" }).to_string();
    let (mut state, mut refused) = (1, 0);
    let mut check = |error: Option<ApiError>| {
        let Some(error) = error else { return };
        refused += 1;
        assert_eq!(error.status().as_u16(), 400, "{error}");
        let object = &error.to_json()["error"];
        assert!(object["code"].is_string() && object["message"].is_string(), "{object}");
    };
    for _ in 0..ROUNDS {
        check(chat::order(&wounded(chat_body.as_bytes(), &mut state)).err());
        check(completions::order(&wounded(text_body.as_bytes(), &mut state)).err());
        check(chat::order(&wounded(tools_body.as_bytes(), &mut state)).err());
        check(messages::understand(&wounded(messages_body.as_bytes(), &mut state)).err());
        check(responses::understand(&wounded(responses_body.as_bytes(), &mut state)).err());
    }
    assert!(refused > ROUNDS, "most are refused: {refused}");
}
