//! Requests that are sent again.

use std::io::{BufRead as _, BufReader};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use shoal_base::GenerateError;
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
