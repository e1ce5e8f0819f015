//! `shoal up`: the endpoint in front of the real engine.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use shoal_testkit::gguf_file;

use crate::support::{Home, tiny};

const WAIT_MAX: Duration = Duration::from_secs(60);

/// The program while it serves.
struct Up {
    child: Child,
    address: String,
    models: Value,
}

impl Drop for Up {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Up {
    fn start(home: &Home, args: &[&str]) -> Self {
        let base = ["up", "-m", "tiny", "--listen", "127.0.0.1:0", "--json", "--threads", "1"];
        let mut command = home.command(&[&base, args].concat());
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
        let screen: Value = serde_json::from_str(&line).unwrap();
        let address = screen["address"].as_str().unwrap().to_owned();
        Self { child, address, models: screen["models"].clone() }
    }

    fn connect(&self, request: &str) -> TcpStream {
        let mut stream = TcpStream::connect(&self.address).unwrap();
        stream.set_read_timeout(Some(WAIT_MAX)).unwrap();
        stream.write_all(request.as_bytes()).unwrap();
        stream
    }

    fn get(&self, path: &str) -> String {
        let request =
            format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
        let mut text = String::new();
        self.connect(&request).read_to_string(&mut text).unwrap();
        text
    }

    fn ask(&self, path: &str, body: &Value) -> TcpStream {
        let body = body.to_string();
        self.connect(&format!(
            "POST {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\
             Content-Length: {}\r\n\r\n{body}",
            body.len()
        ))
    }

    fn post(&self, path: &str, body: &Value) -> String {
        let mut text = String::new();
        self.ask(path, body).read_to_string(&mut text).unwrap();
        text
    }

    fn interrupt(&self) {
        let id = self.child.id().to_string();
        assert!(Command::new("kill").args(["-INT", &id]).status().unwrap().success());
    }
}

/// The body of a whole response.
fn body(text: &str) -> Value {
    let (head, body) = text.split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("HTTP/1.1 200"), "{text}");
    serde_json::from_str(body).unwrap()
}

fn endless() -> Value {
    json!({ "prompt": "x", "max_tokens": 500, "ignore_eos": true, "stream": true, "seed": 1 })
}

#[test]
fn answers_are_those_of_the_program() {
    let home = Home::with_tiny();
    let up = Up::start(&home, &[]);
    let ask = json!({ "model": "tiny", "prompt": "once", "max_tokens": 8, "seed": 3 });
    let text = up.post("/v1/completions", &ask);
    assert!(text.to_lowercase().contains("x-shoal-package: "), "{text}");
    let whole = body(&text);
    let args = ["run", "-m", "tiny", "--raw", "once", "--max-tokens", "8", "--seed", "3", "--json"];
    let ran = home.run(&args).succeeded().json();
    assert_eq!(whole["choices"][0]["text"], ran["text"]);
    assert_eq!(whole["choices"][0]["finish_reason"], ran["finish_reason"]);
    assert_eq!(whole["usage"]["prompt_tokens"], ran["usage"]["prompt_tokens"]);
    assert!(up.get("/metrics").contains("vllm:generation_tokens_total{model_name=\"tiny\"} 8"));
    assert_eq!(body(&up.get("/health/generate"))["status"], "ok");
    let text = up.post("/v1/chat/completions", &json!({ "messages": [] }));
    assert!(text.starts_with("HTTP/1.1 400"), "{text}");
    let long = up.post("/v1/completions", &json!({ "prompt": "x".repeat(600) }));
    assert!(long.contains("context_length_exceeded"), "{long}");
}

#[test]
fn a_client_that_goes_away_frees_its_slot() {
    let home = Home::with_tiny();
    let up = Up::start(&home, &[]);
    let client = up.ask("/v1/completions", &endless());
    let mut lines = BufReader::new(&client).lines();
    assert!(lines.any(|line| line.unwrap().starts_with("data: ")));
    drop(client);
    let begun = Instant::now();
    while !up.get("/metrics").contains("vllm:num_requests_running{model_name=\"tiny\"} 0") {
        assert!(begun.elapsed() < WAIT_MAX, "the slot is not freed");
    }
}

#[test]
fn ctrl_c_ends_streams_truthfully() {
    let home = Home::with_tiny();
    let mut up = Up::start(&home, &["--drain-s", "0"]);
    let client = up.ask("/v1/completions", &endless());
    let mut lines = BufReader::new(&client).lines();
    assert!(lines.any(|line| line.unwrap().starts_with("data: ")));
    up.interrupt();
    let text: String = lines.map_while(Result::ok).collect();
    assert!(!text.contains("\"finish_reason\":\"stop\""), "{text}");
    // A machine fast enough may have finished; else the client has been told.
    let is_whole = text.contains("[DONE]") && text.contains("\"finish_reason\":\"length\"");
    assert!(is_whole || text.contains("\"code\":\"shutting_down\""), "{text}");
    assert_eq!(up.child.wait().unwrap().code(), Some(0));
}

#[test]
fn further_models_are_loaded_when_asked_for() {
    let home = Home::with_tiny();
    let file = home.write("other.gguf", &gguf_file(&tiny()));
    let up = Up::start(&home, &["-m", file.to_str().unwrap()]);
    assert_eq!(up.models, json!(["tiny", "other"]));
    let loaded = || -> Vec<Value> {
        let list = body(&up.get("/v1/models"));
        list["data"].as_array().unwrap().iter().map(|model| model["loaded"].clone()).collect()
    };
    assert_eq!(loaded(), [true, false]);
    let ask = json!({ "model": "other", "prompt": "x", "max_tokens": 1 });
    assert_eq!(body(&up.post("/v1/completions", &ask))["model"], "other");
    assert_eq!(loaded(), [true, true]);
}

#[test]
fn what_cannot_be_served_is_refused_before_it_starts() {
    let home = Home::with_tiny();
    let up = Up::start(&home, &[]);
    let taken = home.run(&["up", "-m", "tiny", "--listen", &up.address]);
    taken.failed(1, "cannot listen on");
    home.run(&["up", "-m", "tiny", "--listen", "0.0.0.0:0"]).failed(2, "--api-keys");
    home.run(&["up", "-m", "tiny", "-m", "tiny"]).failed(2, "two models are called");
    let keys = home.write("keys", b"secret\n");
    let keys = keys.to_str().unwrap();
    home.run(&["up", "-m", "tiny", "--api-keys", keys]).failed(2, "line 1 is not a BLAKE3 hash");
    home.run(&["up", "-m", "none"]).failed(3, "neither a package nor a file");
}
