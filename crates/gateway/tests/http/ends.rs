//! How answers end that do not end well. None of them says `stop`.

use std::io::{BufRead as _, BufReader, ErrorKind, Read as _, Write as _};
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use shoal_base::GenerateError;

use crate::support::{Mock, Server, WAIT_MAX, post_bytes};

const REST: Duration = Duration::from_millis(5);

fn endless() -> Mock {
    Mock { words: usize::MAX, rest: REST, ..Mock::default() }
}

fn ask(stream: bool) -> Vec<u8> {
    let messages = json!([{ "role": "user", "content": "hi" }]);
    let body = json!({ "messages": messages, "stream": stream });
    post_bytes("/v1/chat/completions", "", &body.to_string())
}

/// Waits until an answer is being made.
fn busy(server: &Server) {
    let begun = Instant::now();
    while server.mock.running.load(Ordering::SeqCst) == 0 {
        assert!(begun.elapsed() < WAIT_MAX, "nothing starts");
        std::thread::yield_now();
    }
}

#[test]
fn a_client_that_goes_away_frees_its_slot() {
    let server = Server::start(endless());
    for stream in [true, false] {
        let client = server.connect(&ask(stream));
        busy(&server);
        if stream {
            let mut lines = BufReader::new(&client).lines();
            assert!(lines.any(|line| line.unwrap().contains("w1 ")));
        }
        drop(client);
        server.idle();
    }
}

#[test]
fn what_fails_before_it_starts_has_a_status() {
    let failure = Some(GenerateError::Overloaded { retry_after_ms: 2500 });
    let server = Server::start(Mock { failure, ..Mock::default() });
    for stream in [true, false] {
        let body = json!({ "prompt": "x", "stream": stream });
        let said = server.post("/v1/completions", &body);
        said.refused(429, "overloaded");
        assert_eq!(said.header("retry-after"), Some("3"));
    }
    let too_long = json!({ "prompt": "x", "max_tokens": 901 });
    let said = server.post("/v1/completions", &too_long);
    said.refused(400, "context_length_exceeded");
    let error = &said.json()["error"];
    let message = "this model's maximum context length is 900 tokens, but 906 were requested: \
                   5 of the prompt and 901 of the answer";
    assert_eq!((&error["message"], &error["param"]), (&json!(message), &json!("max_tokens")));
    let zero = server.post("/v1/completions", &json!({ "prompt": "x", "max_tokens": 0 }));
    assert_eq!(zero.json()["error"]["param"], "max_tokens");
}

#[test]
fn what_fails_later_ends_the_stream_in_an_error() {
    let fault = Some(GenerateError::Fault { layer_index: 1, position: 2 });
    let server = Server::start(Mock { fault, ..Mock::default() });
    let events = server.post("/v1/completions", &json!({ "prompt": "x", "stream": true })).events();
    let last: Value = serde_json::from_str(events.last().unwrap()).unwrap();
    assert_eq!(last["error"]["type"], "server_error");
    assert!(events.iter().all(|event| !event.contains("\"finish_reason\":\"")), "{events:?}");
    let whole = server.post("/v1/completions", &json!({ "prompt": "x" }));
    assert_eq!(whole.status, 500);
    assert_eq!(whole.json()["error"]["type"], "server_error");
}

#[test]
fn a_reader_that_never_reads_is_cut() {
    // Without rest the words soon fill every buffer on the way.
    let server = Server::start(Mock { words: usize::MAX, ..Mock::default() });
    let client = server.connect(&ask(true));
    let begun = Instant::now();
    while server.mock.requests.lock().unwrap().is_empty() {
        assert!(begun.elapsed() < WAIT_MAX, "nothing starts");
        std::thread::yield_now();
    }
    server.idle();
    drop(client);
}

#[test]
fn clients_of_a_byte_now_and_then_are_cut() {
    let server = Server::start_impatient(Mock::default(), Duration::from_millis(300));
    let request = ask(false);
    let head = request.windows(4).position(|part| part == b"\r\n\r\n").unwrap() + 4;
    // In the head, and in the body.
    for (at_once, status) in [(10, ""), (head + 3, "HTTP/1.1 408")] {
        let mut client = server.connect(&request[..at_once]);
        client.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
        let (mut answer, mut piece) = (Vec::new(), [0; 4096]);
        let mut rest = request[at_once..].iter();
        for byte in rest.by_ref() {
            // What a server that has closed does not take is of no account.
            let _ = client.write_all(&[*byte]);
            match client.read(&mut piece) {
                Ok(0) => break,
                Ok(count) => answer.extend_from_slice(&piece[..count]),
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                Err(_) => break,
            }
        }
        assert!(rest.next().is_some(), "the whole request was waited for");
        let answer = String::from_utf8(answer).unwrap();
        assert!(answer.starts_with(status), "{answer}");
        assert_eq!(answer.contains("body_too_slow"), at_once > head, "{answer}");
    }
    assert!(server.mock.requests.lock().unwrap().is_empty(), "nothing was computed");
}

#[test]
fn a_client_that_asks_and_never_reads_is_cut() {
    let server = Server::start_impatient(Mock::default(), Duration::from_millis(300));
    let request = b"GET /openapi.json HTTP/1.1\r\nHost: localhost\r\n\r\n";
    let mut client = server.connect(request);
    client.set_write_timeout(Some(WAIT_MAX)).unwrap();
    // Answers fill the buffers on the way back; then nothing is taken any more.
    let error = loop {
        if let Err(error) = client.write_all(request) {
            break error;
        }
    };
    let cut = [ErrorKind::ConnectionReset, ErrorKind::BrokenPipe];
    assert!(cut.contains(&error.kind()), "{error}");
}

#[test]
fn stopping_lets_short_answers_finish() {
    let server = Server::start(Mock { words: 20, rest: REST, ..Mock::default() });
    let mut client = server.connect(&ask(true));
    busy(&server);
    let Server { gateway, .. } = server;
    assert!(gateway.stop(WAIT_MAX));
    let mut text = String::new();
    client.read_to_string(&mut text).unwrap();
    assert!(text.contains("w19 ") && text.contains("\"finish_reason\":\"stop\""), "{text}");
    assert!(text.contains("[DONE]"), "{text}");
}

#[test]
fn stopping_cuts_long_answers_and_says_so() {
    let server = Server::start(endless());
    let mut stream = server.connect(&ask(true));
    let mut whole = server.connect(&ask(false));
    while server.mock.running.load(Ordering::SeqCst) < 2 {
        std::thread::yield_now();
    }
    let mut lines = BufReader::new(stream.try_clone().unwrap()).lines();
    assert!(lines.any(|line| line.unwrap().contains("w1 ")));
    let Server { gateway, mock, .. } = server;
    assert!(!gateway.stop(Duration::from_millis(100)));
    let mut text: String = lines.map_while(Result::ok).collect();
    let _ = stream.read_to_string(&mut text);
    assert!(text.contains("\"code\":\"shutting_down\""), "{text}");
    assert!(!text.contains("\"finish_reason\":\"") && !text.contains("[DONE]"), "{text}");
    let mut text = String::new();
    whole.read_to_string(&mut text).unwrap();
    assert!(text.starts_with("HTTP/1.1 503") && text.contains("shutting_down"), "{text}");
    let begun = Instant::now();
    while mock.running.load(Ordering::SeqCst) > 0 {
        assert!(begun.elapsed() < WAIT_MAX, "a slot is not freed");
    }
}
