//! Tools: what the model is told, what it says, what the client gets.

use serde_json::{Value, json};
use shoal_base::{Grammar, Prompt, StopCause, ToolCalls, ToolFormat};

use crate::support::{Mock, Server};

const CALLS: [&str; 7] = [
    "I look.",
    "\n<tool_",
    "call>\n{\"name\": \"weather\", \"argu",
    "ments\": {\"city\": \"Pa",
    "ris\"}}\n</tool_call>",
    "\n<tool_call>\n{\"name\": \"time\", \"arguments\": {}}\n",
    "</tool_call>",
];

fn caller() -> Server {
    Server::start(Mock { script: Some(CALLS.to_vec()), ..Mock::default() })
}

fn ask(changes: Value) -> Value {
    let city = json!({ "type": "object", "properties": { "city": { "type": "string" } } });
    let mut body = json!({
        "messages": [{ "role": "user", "content": "hi" }],
        "tools": [
            { "type": "function", "function": { "name": "weather", "parameters": city } },
            { "type": "function", "function": { "name": "time", "description": "now" } },
        ],
    });
    for (name, value) in changes.as_object().unwrap() {
        body[name] = value.clone();
    }
    body
}

/// The grammar of the last request.
fn grammar(server: &Server) -> String {
    match server.mock.requests.lock().unwrap().last().unwrap().sampling.grammar.clone() {
        Some(Grammar::Lark(text)) => text,
        other => panic!("{other:?}"),
    }
}

#[test]
fn calls_come_apart_from_text() {
    let server = caller();
    let body = server.post("/v1/chat/completions", &ask(json!({}))).json();
    let choice = &body["choices"][0];
    assert_eq!(choice["finish_reason"], "tool_calls");
    assert_eq!(choice["message"]["content"], "I look.");
    let calls = choice["message"]["tool_calls"].as_array().unwrap();
    assert_eq!(calls.len(), 2);
    assert_eq!(
        calls[0]["function"],
        json!({ "name": "weather", "arguments": "{\"city\": \"Paris\"}" })
    );
    assert_eq!(calls[1]["function"], json!({ "name": "time", "arguments": "{}" }));
    assert_ne!(calls[0]["id"], calls[1]["id"]);
    let requests = server.mock.requests.lock().unwrap();
    let Prompt::Chat { tools, .. } = &requests[0].prompt else { panic!("a conversation") };
    assert_eq!(tools[0]["function"]["name"], "weather");
    assert_eq!(tools[1]["function"]["description"], "now");
}

#[test]
fn calls_are_streamed_as_they_come() {
    let server = caller();
    let events = server.post("/v1/chat/completions", &ask(json!({ "stream": true }))).events();
    let chunks: Vec<Value> = events[..events.len() - 1]
        .iter()
        .map(|event| serde_json::from_str::<Value>(event).unwrap()["choices"][0].clone())
        .collect();
    let text: String =
        chunks.iter().filter_map(|chunk| chunk["delta"]["content"].as_str()).collect();
    assert_eq!(text, "I look.");
    let calls: Vec<&Value> = chunks
        .iter()
        .filter_map(|chunk| chunk["delta"]["tool_calls"].as_array())
        .map(|calls| &calls[0])
        .collect();
    let arguments = |index: u64| -> String {
        let of = calls.iter().filter(|call| call["index"] == index);
        of.map(|call| call["function"]["arguments"].as_str().unwrap()).collect()
    };
    assert_eq!(arguments(0), "{\"city\": \"Paris\"}");
    assert_eq!(arguments(1), "{}");
    let begins: Vec<&&Value> = calls.iter().filter(|call| call["id"].is_string()).collect();
    assert_eq!(begins.len(), 2);
    assert_eq!(begins[1]["function"]["name"], "time");
    assert!(calls.len() > 4, "arguments come in pieces");
    assert_eq!(chunks.last().unwrap()["finish_reason"], "tool_calls");
}

#[test]
fn choices_decide_what_may_be_called() {
    let server = caller();
    let post = |changes: Value| server.post("/v1/chat/completions", &ask(changes));
    post(json!({}));
    let auto = grammar(&server);
    assert!(auto.contains("(open call)* rest") && auto.contains("call_1"), "{auto}");
    post(json!({ "parallel_tool_calls": false }));
    assert!(grammar(&server).contains("start: open call | rest"));
    post(json!({ "tool_choice": "required" }));
    assert!(!grammar(&server).contains("TEXT"), "{}", grammar(&server));
    let named = json!({ "type": "function", "function": { "name": "time" } });
    post(json!({ "tool_choice": named }));
    let text = grammar(&server);
    assert!(text.contains("time") && !text.contains("weather"), "{text}");
    post(json!({ "tool_choice": "none" }));
    let last = server.mock.requests.lock().unwrap().last().unwrap().clone();
    assert_eq!(last.sampling.grammar, None);
    let Prompt::Chat { tools, .. } = last.prompt else { panic!("a conversation") };
    assert!(tools.is_empty());
    // With JSON asked for, an answer is a call or that JSON.
    let format = json!({ "type": "json_object" });
    post(json!({ "response_format": format }));
    assert!(grammar(&server).contains("| json\njson: %json"), "{}", grammar(&server));
}

#[test]
fn results_go_back_to_the_model() {
    let format = ToolFormat::Mistral;
    let mut mock = Mock::default();
    mock.card.tool_calls = Some(ToolCalls { format, marker: None, separator: None });
    let server = Server::start(mock);
    let function = json!({ "name": "weather", "arguments": "{\"city\": \"Paris\"}" });
    let call = json!({ "id": "call_abc", "type": "function", "function": function });
    let body = ask(json!({ "messages": [
        { "role": "user", "content": "hi" },
        { "role": "assistant", "content": null, "tool_calls": [call] },
        { "role": "tool", "tool_call_id": "call_abc", "content": "sunny" },
    ] }));
    let said = server.post("/v1/chat/completions", &body);
    assert_eq!(said.json()["choices"][0]["finish_reason"], "stop", "{said:?}");
    let requests = server.mock.requests.lock().unwrap();
    let Prompt::Chat { messages, .. } = &requests[0].prompt else { panic!("a conversation") };
    let call = &messages[1]["tool_calls"][0];
    assert_eq!(call["function"]["arguments"], json!({ "city": "Paris" }));
    assert_eq!(messages[2]["tool_call_id"], call["id"]);
    assert_eq!(call["id"].as_str().unwrap().len(), 9);
    assert_eq!(messages[2]["name"], "weather");
}

#[test]
fn a_model_without_a_form_for_calls_refuses_tools() {
    let mut mock = Mock::default();
    mock.card.tool_calls = None;
    let server = Server::start(mock);
    let said = server.post("/v1/chat/completions", &ask(json!({})));
    said.refused(400, "invalid_value");
    assert_eq!(said.json()["error"]["param"], "tools");
    let said = server.post("/v1/chat/completions", &ask(json!({ "tool_choice": "none" })));
    assert_eq!(said.status, 200);
}

#[test]
fn messages_have_blocks_for_calls() {
    let server = caller();
    let schema = json!({ "type": "object" });
    let tools = json!([
        { "name": "weather", "input_schema": schema }, { "name": "time", "input_schema": schema },
    ]);
    let turns = json!([{ "role": "user", "content": "hi" }]);
    let mut ask = json!({ "model": "mock", "max_tokens": 90, "messages": turns, "tools": tools });
    let body = server.post("/v1/messages", &ask).json();
    assert_eq!(body["stop_reason"], "tool_use");
    let blocks = body["content"].as_array().unwrap();
    assert_eq!(blocks[0], json!({ "type": "text", "text": "I look." }));
    assert_eq!(
        (&blocks[1]["name"], &blocks[1]["input"]),
        (&json!("weather"), &json!({ "city": "Paris" }))
    );
    assert!(blocks[2]["id"].as_str().unwrap().starts_with("toolu_"));
    ask["stream"] = true.into();
    let events: Vec<Value> = server
        .post("/v1/messages", &ask)
        .events()
        .iter()
        .map(|event| serde_json::from_str(event).unwrap())
        .collect();
    let starts: Vec<&Value> =
        events.iter().filter(|event| event["type"] == "content_block_start").collect();
    let kinds: Vec<&Value> = starts.iter().map(|event| &event["content_block"]["type"]).collect();
    assert_eq!(kinds, ["text", "tool_use", "tool_use"]);
    assert_eq!(starts[2]["index"], 2);
    let stops = events.iter().filter(|event| event["type"] == "content_block_stop").count();
    assert_eq!(stops, 3);
    let input: String = events
        .iter()
        .filter(|event| event["index"] == 1)
        .filter_map(|event| event["delta"]["partial_json"].as_str())
        .collect();
    assert_eq!(input, "{\"city\": \"Paris\"}");
    assert_eq!(events[events.len() - 2]["delta"]["stop_reason"], "tool_use");
}

#[test]
fn responses_have_items_for_calls() {
    let server = caller();
    let tools = json!([
        { "type": "function", "name": "weather", "strict": true },
        { "type": "function", "name": "time", "parameters": null },
    ]);
    let mut ask =
        json!({ "model": "mock", "input": "hi", "tools": tools, "metadata": { "a": "b" } });
    let body = server.post("/v1/responses", &ask).json();
    assert_eq!((&body["status"], &body["object"]), (&json!("completed"), &json!("response")));
    assert_eq!((&body["metadata"]["a"], &body["store"]), (&json!("b"), &json!(false)));
    let output = body["output"].as_array().unwrap();
    assert_eq!(output[0]["content"][0]["text"], "I look.");
    assert_eq!(output[1]["type"], "function_call");
    assert_eq!(output[1]["arguments"], "{\"city\": \"Paris\"}");
    assert_eq!(output[2]["name"], "time");
    assert_eq!(body["usage"]["input_tokens_details"]["cached_tokens"], 2);
    ask["stream"] = true.into();
    let events: Vec<Value> = server
        .post("/v1/responses", &ask)
        .events()
        .iter()
        .map(|event| serde_json::from_str(event).unwrap())
        .collect();
    for (index, event) in events.iter().enumerate() {
        assert_eq!(event["sequence_number"], index);
    }
    let kinds: Vec<&str> = events.iter().map(|event| event["type"].as_str().unwrap()).collect();
    assert_eq!(kinds[..2], ["response.created", "response.in_progress"]);
    assert_eq!(*kinds.last().unwrap(), "response.completed");
    for kind in [
        "response.output_item.added",
        "response.content_part.added",
        "response.output_text.delta",
        "response.output_text.done",
        "response.content_part.done",
        "response.output_item.done",
        "response.function_call_arguments.delta",
        "response.function_call_arguments.done",
    ] {
        assert!(kinds.contains(&kind), "{kind}");
    }
    let whole = &events.last().unwrap()["response"];
    assert_eq!(whole["output"][1]["arguments"], output[1]["arguments"]);
}

#[test]
fn responses_say_when_they_are_cut() {
    let server = Server::start(Mock::default());
    let ask = json!({ "input": "hi", "max_output_tokens": 2 });
    let body = server.post("/v1/responses", &ask).json();
    assert_eq!(body["status"], "incomplete");
    assert_eq!(body["incomplete_details"]["reason"], "max_output_tokens");
    assert_eq!(body["output"][0]["content"][0]["text"], "w0 w1 end");
    let fault = Some(shoal_base::GenerateError::Fault { layer_index: 1, position: 2 });
    let server = Server::start(Mock { fault, ..Mock::default() });
    let events = server.post("/v1/responses", &json!({ "input": "hi", "stream": true })).events();
    let last: Value = serde_json::from_str(events.last().unwrap()).unwrap();
    assert_eq!(last["type"], "response.failed");
    assert_eq!(last["response"]["error"]["code"], "server_error");
    assert!(events.iter().all(|event| !event.contains("response.completed")));
}

#[test]
fn the_sequence_that_ended_a_message_is_told() {
    let cause = StopCause::String { index: 1 };
    let server = Server::start(Mock { cause, ..Mock::default() });
    let turns = json!([{ "role": "user", "content": "hi" }]);
    let mut ask = json!({
        "model": "mock", "max_tokens": 90, "messages": turns, "stop_sequences": ["A", "B"],
    });
    let body = server.post("/v1/messages", &ask).json();
    assert_eq!(
        (&body["stop_reason"], &body["stop_sequence"]),
        (&json!("stop_sequence"), &json!("B"))
    );
    assert_eq!(server.mock.requests.lock().unwrap()[0].stop.strings, ["A", "B"]);
    ask["stream"] = true.into();
    let events = server.post("/v1/messages", &ask).events();
    let delta: Value = serde_json::from_str(&events[events.len() - 2]).unwrap();
    assert_eq!(delta["delta"], json!({ "stop_reason": "stop_sequence", "stop_sequence": "B" }));
}
