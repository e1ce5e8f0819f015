//! Who may ask, and what is no request at all.

use std::io::Read as _;

use serde_json::json;
use shoal_gateway::ApiKeys;

use crate::support::{Mock, Server, post_bytes};

fn get(host: &str, headers: &str) -> Vec<u8> {
    format!("GET /v1/models HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n{headers}\r\n").into()
}

#[test]
fn pages_of_others_cannot_ask() {
    let server = Server::start(Mock::default());
    let status = |host: &str, headers: &str| server.raw(&get(host, headers))[9..12].to_owned();
    assert_eq!(status("127.0.0.1:1", ""), "200");
    assert_eq!(status("box.lan", ""), "200");
    assert_eq!(status("evil.example", ""), "403");
    assert_eq!(status("127.0.0.1:1", "Origin: http://127.0.0.1:1\r\n"), "200");
    assert_eq!(status("127.0.0.1:1", "Origin: http://evil.example\r\n"), "403");
    assert_eq!(status("127.0.0.1:1", "Origin: null\r\n"), "403");
    assert_eq!(status("127.0.0.1:1", "Host: box.lan\r\n"), "403");
    let text = server.raw(&get("127.0.0.1", ""));
    assert!(!text.to_lowercase().contains("access-control"), "{text}");
    let none = server.raw(b"GET /v1/models HTTP/1.1\r\nConnection: close\r\n\r\n");
    assert!(none.starts_with("HTTP/1.1 40"), "{none}");
}

#[test]
fn with_keys_only_their_holders_may_ask() {
    let keys = ApiKeys::parse(blake3::hash(b"secret").to_hex().as_str()).unwrap();
    let server = Server::start_with(Mock::default(), Some(keys));
    let status = |headers: &str| server.raw(&get("127.0.0.1", headers))[9..12].to_owned();
    assert_eq!(status(""), "401");
    assert_eq!(status("Authorization: Bearer wrong\r\n"), "401");
    assert_eq!(status("Authorization: Bearer secret\r\n"), "200");
    assert_eq!(status("x-api-key: secret\r\n"), "200");
    server.get("/v1/models").refused(401, "invalid_api_key");
    server.get("/metrics").refused(401, "invalid_api_key");
    assert_eq!(server.get("/health").status, 200);
}

#[test]
fn bodies_that_are_none_are_refused_in_the_usual_form() {
    let server = Server::start(Mock::default());
    for body in ["", "{", "[]", "\"x\"", "nul", "{\"prompt\": 1e999}", "\u{0}"] {
        server.post_text("/v1/completions", body).refused(400, "invalid_body");
    }
    server.post_text("/v1/completions", &"[".repeat(1 << 20)).refused(400, "invalid_body");
    server
        .post("/v1/completions", &json!({ "model": "x", "prompt": "" }))
        .refused(404, "model_not_found");
    server.get("/v1/nothing").refused(404, "not_found");
    server.get("/v1/completions").refused(405, "method_not_allowed");
    let chunked = "POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\
                   Transfer-Encoding: chunked\r\n\r\nnonsense\r\n";
    let text = server.raw(chunked.as_bytes());
    assert!(text.starts_with("HTTP/1.1 400") && text.contains("invalid_body"), "{text}");
    let garbage = server.raw(b"\x16\x03\x01 nonsense\r\n\r\n");
    assert!(garbage.is_empty() || garbage.starts_with("HTTP/1.1 400"), "{garbage}");
}

#[test]
fn huge_bodies_are_refused_before_they_are_sent() {
    let server = Server::start(Mock::default());
    let head = "POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\
                Content-Length: 100000000\r\n\r\n";
    let mut client = server.connect(head.as_bytes());
    let mut answer = [0; 12];
    client.read_exact(&mut answer).unwrap();
    assert_eq!(&answer, b"HTTP/1.1 413");
    // Without a length it is seen while it comes.
    let piece = "x".repeat(1 << 20);
    let mut body = String::new();
    for _ in 0..17 {
        body += &format!("{:x}\r\n{piece}\r\n", piece.len());
    }
    let head = head.replace("Content-Length: 100000000", "Transfer-Encoding: chunked");
    let text = server.raw((head + &body + "0\r\n\r\n").as_bytes());
    assert!(text.starts_with("HTTP/1.1 413"), "{text}");
    assert!(text.contains("\"code\":\"too_large\""), "{text}");
}

#[test]
fn a_connection_carries_many_requests() {
    let server = Server::start(Mock::default());
    let body = json!({ "prompt": "x" }).to_string();
    let one = String::from_utf8(post_bytes("/v1/completions", "", &body)).unwrap();
    let kept = one.replace("Connection: close\r\n", "");
    let text = server.raw((kept.clone() + &kept + &one).as_bytes());
    assert_eq!(text.matches("HTTP/1.1 200 OK").count(), 3, "{text}");
}
