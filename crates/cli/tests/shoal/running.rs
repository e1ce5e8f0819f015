//! The program while it serves, as its tests see it.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde_json::{Value, json};

pub(crate) const WAIT_MAX: Duration = Duration::from_secs(60);

/// A process that ends with this value.
pub(crate) struct Running {
    pub(crate) child: Child,
    /// The line it printed once it served.
    pub(crate) screen: Value,
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Running {
    /// Starts a command that prints JSON, and waits until it serves.
    pub(crate) fn start(command: &mut Command) -> Self {
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
        let screen = serde_json::from_str(&line).unwrap_or_else(|_| panic!("{line:?}"));
        Self { child, screen }
    }

    /// A connection to its endpoint on which a request was sent.
    pub(crate) fn connect(&self, request: &str) -> TcpStream {
        let mut stream = TcpStream::connect(self.screen["address"].as_str().unwrap()).unwrap();
        stream.set_read_timeout(Some(WAIT_MAX)).unwrap();
        stream.write_all(request.as_bytes()).unwrap();
        stream
    }

    /// Posts a body.
    pub(crate) fn ask(&self, path: &str, body: &Value) -> TcpStream {
        let body = body.to_string();
        self.connect(&format!(
            "POST {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\
             Content-Length: {}\r\n\r\n{body}",
            body.len()
        ))
    }

    /// Gets JSON.
    pub(crate) fn get(&self, path: &str) -> Value {
        let ask = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
        let mut text = String::new();
        self.connect(&ask).read_to_string(&mut text).unwrap();
        serde_json::from_str(text.split_once("\r\n\r\n").unwrap().1).unwrap()
    }

    /// Twelve tokens after a prompt: the head of the answer in small letters, and its body.
    pub(crate) fn complete(&self, prompt: &str) -> (String, Value) {
        let body = json!({ "model": "tiny", "prompt": prompt, "max_tokens": 12, "seed": 3 });
        let mut text = String::new();
        self.ask("/v1/completions", &body).read_to_string(&mut text).unwrap();
        let (head, answer) = text.split_once("\r\n\r\n").unwrap();
        (head.to_lowercase(), serde_json::from_str(answer).unwrap())
    }

    pub(crate) fn signal(&self, signal: &str) {
        let id = self.child.id().to_string();
        assert!(Command::new("kill").args([signal, &id]).status().unwrap().success());
    }

    /// Ctrl-C ends it well.
    pub(crate) fn end(mut self) {
        self.signal("-INT");
        assert_eq!(self.child.wait().unwrap().code(), Some(0));
    }
}
