//! Processes with data folders of their own as one swarm: made, joined, asked, left.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::support::Home;

const WAIT_MAX: Duration = Duration::from_secs(60);

/// A process of a swarm while it runs.
struct Running {
    child: Child,
    screen: Value,
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Running {
    fn start(home: &Home, args: &[&str]) -> Self {
        let all = [args, &["-m", "tiny", "--json", "--threads", "1"]].concat();
        let mut child = home.command(&all).stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
        let screen: Value = serde_json::from_str(&line).unwrap_or_else(|_| panic!("{line:?}"));
        Self { child, screen }
    }

    fn up(home: &Home, route: &str) -> Self {
        Self::start(home, &["up", "--listen", "127.0.0.1:0", "--route", route])
    }

    fn complete(&self, prompt: &str) -> (String, Value) {
        let body = json!({ "prompt": prompt, "max_tokens": 12, "seed": 3 }).to_string();
        let mut stream = TcpStream::connect(self.screen["address"].as_str().unwrap()).unwrap();
        stream.set_read_timeout(Some(WAIT_MAX)).unwrap();
        let length = body.len();
        write!(
            stream,
            "POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\
             Content-Length: {length}\r\n\r\n{body}",
        )
        .unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        let (head, answer) = text.split_once("\r\n\r\n").unwrap();
        (head.to_lowercase(), serde_json::from_str(answer).unwrap())
    }

    fn end(mut self) {
        let id = self.child.id().to_string();
        assert!(Command::new("kill").args(["-INT", &id]).status().unwrap().success());
        assert_eq!(self.child.wait().unwrap().code(), Some(0));
    }
}

/// What a command prints, once it is so.
#[track_caller]
fn until(home: &Home, args: &[&str], is_so: impl Fn(&Value) -> bool) -> Value {
    let started = Instant::now();
    loop {
        let said = home.run(&[args, &["--json"]].concat()).succeeded().json();
        if is_so(&said) {
            return said;
        }
        assert!(started.elapsed() < WAIT_MAX, "{args:?}: {said}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

fn ticket(home: &Home, more: &[&str]) -> String {
    let said = home.run(&[&["swarm", "invite"], more].concat()).succeeded();
    said.stdout.trim().to_owned()
}

#[test]
fn a_machine_that_joined_computes_for_the_one_that_invited_it() {
    let (a, b) = (Home::with_tiny(), Home::with_tiny());
    let made = a.run(&["swarm", "create", "home", "--json"]).succeeded().json();
    let up = Running::up(&a, "swarm");
    let joined = b.run(&["swarm", "join", &ticket(&a, &[]), "--json"]).succeeded().json();
    assert_eq!((&joined["swarm"], &joined["role"]), (&made["swarm"], &json!("serve")));
    let serve = Running::start(&b, &["serve"]);
    assert_eq!(serve.screen["layers"], json!([0, 1]), "all of them fit");

    let args = ["run", "-m", "tiny", "--raw", "once", "--max-tokens", "12", "--seed", "3"];
    let alone = b.run(&[&args[..], &["--json"]].concat()).succeeded().json();
    let (_, answer) = up.complete("once");
    assert_eq!(answer["choices"][0]["text"], alone["text"], "{answer}");

    let node = joined["node"].as_str().unwrap();
    let peers = until(&a, &["peers"], |said| said["peers"].as_array().unwrap().len() == 2);
    let peers = peers["peers"].as_array().unwrap();
    let peer = peers.iter().find(|peer| peer["node"] == node).unwrap();
    assert_eq!(peer["offers"][0]["layers"], json!([[0, 1]]), "{peer}");
    let plan = until(&a, &["plan", "-m", "tiny"], |said| said["why"].is_null());
    let stage = &plan["plans"][0]["stages"][0];
    assert_eq!((&stage["node"], &stage["layers"]), (&json!(node), &json!([0, 1])));
    assert!(stage["compute_ms"].as_f64().unwrap() > 0.0, "measured: {plan}");
    let view = until(&b, &["swarm", "members"], |said| said["rings_served"] == 1);
    assert_eq!(view["members"].as_array().unwrap().len(), 2, "{view}");

    b.run(&["leave"]).succeeded();
    drop(serve);
    until(&a, &["swarm", "members"], |said| said["members"].as_array().unwrap().len() == 1);
    let serve = Running::start(&b, &["serve", "--layers", "0-1"]);
    let (_, answer) = up.complete("twice");
    assert!(answer["choices"][0]["text"].is_string(), "it came back: {answer}");
    serve.end();
    up.end();
}
