//! Requests that are sent again.

use std::io::{BufRead as _, BufReader};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use shoal_base::{Digest, GenerateError, PackageId};
use shoal_gateway::ApiKeys;

use crate::support::{Mock, Said, Server, WAIT_MAX, post_bytes};

const REST: Duration = Duration::from_millis(5);
const PATH: &str = "/v1/chat/completions";

fn ask(stream: bool) -> Value {
    json!({ "messages": [{ "role": "user", "content": "hi" }], "stream": stream })
}

fn post(server: &Server, key: &str, body: &Value) -> Said {
    server.post_with(PATH, &[("Idempotency-Key", key)], body)
}

fn asked(server: &Server) -> usize {
    server.mock.requests.lock().unwrap().len()
}

#[test]
fn an_answer_is_given_again_byte_by_byte() {
    let server = Server::start(Mock::default());
    for (count, stream) in [(1, false), (2, true)] {
        let key = format!("key-{stream}");
        let first = post(&server, &key, &ask(stream));
        assert_eq!((first.status, first.header("idempotency-replayed")), (200, None));
        server.kept_count(count);
        let again = post(&server, &key, &ask(stream));
        assert_eq!(again.header("idempotency-replayed"), Some("true"));
        assert_eq!(again.text, first.text);
        assert_eq!(again.header("x-shoal-seed"), first.header("x-shoal-seed"));
        assert_eq!(again.header("content-type"), first.header("content-type"));
        assert_eq!(asked(&server), count);
    }
    assert_eq!(post(&server, "other", &ask(false)).header("idempotency-replayed"), None);
    assert_eq!(asked(&server), 3);
}

#[test]
fn those_who_ask_meanwhile_wait_for_the_first() {
    let server = Server::start(Mock { words: 20, rest: REST, ..Mock::default() });
    let texts: Vec<String> = std::thread::scope(|scope| {
        let asks: Vec<_> =
            (0..4).map(|_| scope.spawn(|| post(&server, "k", &ask(true)).text)).collect();
        asks.into_iter().map(|ask| ask.join().unwrap()).collect()
    });
    assert!(texts[0].contains("w19 ") && texts[0].contains("[DONE]"), "{}", texts[0]);
    assert!(texts.iter().all(|text| *text == texts[0]));
    assert_eq!(asked(&server), 1);
}

#[test]
fn a_key_is_for_one_request_of_one_caller() {
    let keys = format!("{}\n{}", blake3::hash(b"one").to_hex(), blake3::hash(b"two").to_hex());
    let server = Server::start_with(Mock::default(), Some(ApiKeys::parse(&keys).unwrap()));
    let post = |caller: &str, body: &Value| {
        server.post_with(PATH, &[("Idempotency-Key", "k"), ("x-api-key", caller)], body)
    };
    let first = post("one", &ask(false));
    server.kept_count(1);
    assert_eq!(post("one", &ask(false)).text, first.text);
    post("one", &ask(true)).refused(422, "idempotency_key_reused");
    assert_eq!(post("two", &ask(true)).status, 200);
    // Nor do callers share cached prefixes.
    let requests = server.mock.requests.lock().unwrap();
    assert_eq!(requests.len(), 2);
    assert!(!requests[0].cache_salt.is_empty());
    assert_ne!(requests[0].cache_salt, requests[1].cache_salt);
}

#[test]
fn an_answer_goes_on_when_its_client_goes_away() {
    let server = Server::start(Mock { words: 40, rest: REST, ..Mock::default() });
    let bytes = post_bytes(PATH, "Idempotency-Key: k\r\n", &ask(true).to_string());
    let client = server.connect(&bytes);
    let mut lines = BufReader::new(&client).lines();
    assert!(lines.any(|line| line.unwrap().contains("w1 ")));
    drop(lines);
    drop(client);
    let again = post(&server, "k", &ask(true));
    assert!(again.text.contains("w39 ") && again.text.contains("[DONE]"), "{}", again.text);
    assert_eq!(asked(&server), 1);
}

#[test]
fn only_complete_answers_are_kept() {
    let fault = Some(GenerateError::Fault { layer_index: 1, position: 2 });
    let server = Server::start(Mock { fault, ..Mock::default() });
    for stream in [true, false] {
        post(&server, "k", &ask(stream));
        let begun = Instant::now();
        while post(&server, "k", &ask(stream)).header("idempotency-replayed").is_some() {
            assert!(begun.elapsed() < WAIT_MAX, "the key is not given free");
        }
    }
    server.kept_count(0);
    let wrong = json!({ "messages": [] });
    post(&server, "w", &wrong).refused(400, "invalid_value");
    server.kept_count(0);
    let key = "x".repeat(256);
    let said = post(&server, &key, &ask(false));
    assert_eq!(said.json()["error"]["param"], "Idempotency-Key");
}

/// What of an answer does not depend on when and where it was computed.
fn identity(said: &Said) -> Vec<String> {
    let seed = said.header("x-shoal-seed").unwrap().to_owned();
    let events = said.events().into_iter().filter(|event| !event.contains("\"error\""));
    [seed].into_iter().chain(events).collect()
}

#[test]
fn what_was_begun_is_made_again_as_it_was() {
    let fault = || Some(GenerateError::Fault { layer_index: 1, position: 2 });
    let tools = json!([{ "type": "function", "function": { "name": "f" } }]);
    let call = ["<tool_call>\n{\"name\": \"f\", \"arguments\": ", "{}", "}\n</tool_call>"];
    let responses = json!({ "input": "hi", "stream": true });
    let messages = json!({
        "model": "mock", "max_tokens": 9, "stream": true,
        "messages": [{ "role": "user", "content": "hi" }],
    });
    for (path, mut body, script) in [
        (PATH, ask(true), None),
        (PATH, ask(true), Some(call.to_vec())),
        ("/v1/responses", responses, None),
        ("/v1/messages", messages, None),
    ] {
        if script.is_some() {
            body["tools"] = tools.clone();
        }
        let headers = [("Idempotency-Key", "k")];
        let mock = || Mock { script: script.clone(), ..Mock::default() };
        let broken = Server::start(Mock { fault: fault(), ..mock() });
        let first = broken.post_with(path, &headers, &body);
        assert!(first.text.contains("error") && !first.text.contains("[DONE]"), "{first:?}");
        let whole = Server::start_again(mock(), None, broken.kept.clone());
        let again = whole.post_with(path, &headers, &body);
        assert_eq!((again.status, again.header("idempotency-replayed")), (200, None));
        let (begun, again) = (identity(&first), identity(&again));
        // The first one has said less, and how it ended.
        let said = begun.iter().zip(&again).take_while(|(one, other)| one == other).count();
        assert!(said >= 4 && said + 1 >= begun.len(), "{begun:#?} {again:#?}");
        whole.kept_count(1);
        let last = whole.post_with(path, &headers, &body);
        assert_eq!(last.header("idempotency-replayed"), Some("true"));
        assert_eq!(identity(&last), again);
        let seeds: Vec<u64> = [&broken, &whole]
            .iter()
            .flat_map(|server| server.mock.requests.lock().unwrap().clone())
            .map(|request| request.sampling.seed)
            .collect();
        assert_eq!((seeds.len(), seeds[0]), (2, seeds[1]));
    }
}

#[test]
fn what_another_package_began_is_refused() {
    let fault = Some(GenerateError::Fault { layer_index: 1, position: 2 });
    let broken = Server::start(Mock { fault, ..Mock::default() });
    post(&broken, "k", &ask(true));
    let mut mock = Mock::default();
    mock.card.package = PackageId(Digest([8; 32]));
    let other = Server::start_again(mock, None, broken.kept.clone());
    post(&other, "k", &ask(true)).refused(409, "idempotency_package_gone");
    post(&other, "k", &ask(false)).refused(422, "idempotency_key_reused");
    assert_eq!(asked(&other), 0);
    assert_eq!(post(&other, "another", &ask(true)).status, 200);
}

#[test]
fn a_damaged_record_is_an_error_and_not_a_second_answer() {
    let server = Server::start(Mock::default());
    for stream in [false, true] {
        let key = format!("key-{stream}");
        assert_eq!(post(&server, &key, &ask(stream)).status, 200);
    }
    server.kept_count(2);
    server.kept.damage();
    for stream in [false, true] {
        let key = format!("key-{stream}");
        post(&server, &key, &ask(stream)).refused(500, "kept_answer_damaged");
    }
    assert_eq!(asked(&server), 2);
    assert_eq!(post(&server, "another", &ask(false)).status, 200);
}
