//! Processes with data folders of their own as one swarm: made, joined, asked, left.

use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::running::{Running, WAIT_MAX};
use crate::support::{Ended, Home};

/// By how many seconds the clock of a build for tests is ahead.
const CLOCK: &str = "SHOAL_TEST_CLOCK_S";

fn start(home: &Home, args: &[&str]) -> Running {
    let all = [args, &["-m", "tiny", "--json", "--threads", "1"]].concat();
    Running::start(&mut home.command(&all))
}

fn up(home: &Home, route: &str) -> Running {
    start(home, &["up", "--listen", "127.0.0.1:0", "--route", route])
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
    let up = up(&a, "swarm");
    let joined = b.run(&["swarm", "join", &ticket(&a, &[]), "--json"]).succeeded().json();
    assert_eq!((&joined["swarm"], &joined["role"]), (&made["swarm"], &json!("serve")));
    let serve = start(&b, &["serve"]);
    assert_eq!(serve.screen["layers"], json!([0, 1]), "all of them fit");

    let args = ["run", "-m", "tiny", "--raw", "once", "--max-tokens", "12", "--seed", "3"];
    let alone = b.run(&[&args[..], &["--json"]].concat()).succeeded().json();
    let node = joined["node"].as_str().unwrap();
    let (head, answer) = up.complete("once");
    assert_eq!(answer["choices"][0]["text"], alone["text"], "{answer}");
    let route = format!("x-shoal-route: {}:0-1\r\n", &node[..16]);
    assert!(head.contains(&route) && head.contains("x-shoal-privacy: none\r\n"), "{head}");
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

    let map = up.get("/swarm")["swarm"].clone();
    assert_eq!(map["members"].as_array().unwrap().len(), 2, "{map}");
    let stage = &map["rings"][0]["stages"][0];
    assert_eq!((&stage["node"], &stage["first"]), (&json!(node), &json!(0)), "{map}");
    assert!(stage["compute_ms"].as_f64().unwrap() > 0.0, "{map}");
    assert_eq!(map["rings"][0]["trouble"], "", "{map}");

    a.run(&["up", "-m", "tiny"]).failed(1, "another process runs the node");
    let doctor = b.run(&["doctor", "--quick", "--json"]).succeeded().json();
    assert_eq!(doctor["swarm"]["not_in_a_ring_because"], json!([]), "{doctor}");
    b.run(&["swarm", "invite"]).failed(7, "does not allow that");
    b.run(&["swarm", "revoke", node]).failed(7, "may not");
    b.run(&["leave"]).succeeded();
    drop(serve);
    b.run(&["peers"]).failed(3, "no node of this data folder runs");
    until(&a, &["swarm", "members"], |said| said["members"].as_array().unwrap().len() == 1);
    let serve = start(&b, &["serve", "--layers", "0-1"]);
    let (_, answer) = up.complete("twice");
    assert!(answer["choices"][0]["text"].is_string(), "it came back: {answer}");
    serve.end();
    up.end();
}

#[test]
fn a_machine_joins_by_a_code() {
    let (a, b) = (Home::with_tiny(), Home::with_tiny());
    a.run(&["swarm", "create"]).succeeded();
    b.run(&["swarm", "join", "123-456", "--at", "nonsense"]).failed(2, "no '@'");
    let serve = start(&a, &["serve"]);
    let args = ["swarm", "invite", "--code", "--role", "use", "--listen", "127.0.0.1:0", "--json"];
    a.run(&["swarm", "invite", "--code", "--expires", "2h"]).failed(2, "at most one hour");
    let mut invite = Running::start(&mut a.command(&args));
    assert_eq!(invite.screen["event"], "waiting");
    let code = invite.screen["code"].as_str().unwrap().to_owned();
    let at = invite.screen["at"].as_str().unwrap().to_owned();
    let first = if code.starts_with('9') { "0" } else { "9" };
    let wrong = format!("{first}{}", &code[1..]);
    b.run(&["swarm", "join", &wrong, "--at", &at]).failed(7, "the code is wrong");
    b.run(&["swarm", "join", "shoal1x", "--at", &at]).failed(2, "--at goes with a code");
    let joined = b.run(&["swarm", "join", &code, "--at", &at, "--json"]).succeeded().json();
    assert_eq!(joined["role"], "use");
    assert_eq!(invite.child.wait().unwrap().code(), Some(0));
    // It would be a ticket wasted.
    b.run(&["swarm", "join", &code, "--at", &at]).failed(2, "in swarm");
    let mut untyped = Running::start(&mut a.command(&args));
    untyped.signal("-INT");
    assert_eq!(untyped.child.wait().unwrap().code(), Some(130));
    serve.end();
}

#[test]
fn clocks_an_hour_apart_do_no_harm() {
    let a = Home::with_tiny();
    a.run(&["swarm", "create"]).succeeded();
    let up = up(&a, "swarm");
    for ahead in ["3600", "-3600"] {
        let b = Home::with_tiny();
        let command = |args: &[&str]| {
            let mut command = b.command(args);
            command.env(CLOCK, ahead);
            command
        };
        let join = command(&["swarm", "join", &ticket(&a, &["--expires", "5m"])]).output();
        Ended::of(join.unwrap()).succeeded();
        let serve = ["serve", "-m", "tiny", "--json", "--threads", "1"];
        let serve = Running::start(&mut command(&serve));
        let (_, answer) = up.complete("once");
        assert!(answer["choices"][0]["text"].is_string(), "{ahead} s: {answer}");
        until(&b, &["swarm", "members"], |said| said["rings_served"] == 1);
        b.run(&["leave"]).succeeded();
        drop(serve);
    }
    up.end();
}

/// A copy of a folder.
fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let (path, kind) = entry.map(|entry| (entry.path(), entry.file_type().unwrap())).unwrap();
        let to = to.join(path.file_name().unwrap());
        match kind.is_dir() {
            true => copy(&path, &to),
            false if kind.is_file() => drop(std::fs::copy(&path, &to).unwrap()),
            // Sockets are of the process that made them.
            false => {}
        }
    }
}

#[test]
fn with_a_folder_that_was_copied_no_answer_is_wrong() {
    let (a, b, twin) = (Home::with_tiny(), Home::with_tiny(), Home::new());
    a.run(&["swarm", "create"]).succeeded();
    let up = up(&a, "swarm");
    let joined = b.run(&["swarm", "join", &ticket(&a, &[]), "--json"]).succeeded().json();
    copy(&b.data(""), &twin.data(""));
    let serve = start(&b, &["serve"]);
    let (_, expected) = up.complete("once");
    assert!(expected["choices"][0]["text"].is_string(), "{expected}");
    let other = start(&twin, &["serve"]);
    for _ in 0..4 {
        let (_, answer) = up.complete("once");
        assert_eq!(answer["choices"], expected["choices"], "{answer}");
    }
    let members = a.run(&["swarm", "members", "--json"]).succeeded().json();
    let same = |member: &&Value| member["node"] == joined["node"];
    assert_eq!(members["members"].as_array().unwrap().iter().filter(same).count(), 1);
    drop(other);
    let (_, answer) = up.complete("once");
    assert_eq!(answer["choices"], expected["choices"], "{answer}");
    serve.end();
    up.end();
}

#[test]
fn machines_that_may_not_are_told_why() {
    let (a, b) = (Home::with_tiny(), Home::with_tiny());
    a.run(&["swarm", "members"]).failed(3, "in no swarm");
    a.run(&["swarm", "join", "shoal1nonsense"]).failed(4, "not a ticket");
    a.run(&["up", "-m", "tiny", "--route", "swarm"]).failed(2, "shoal swarm join");
    a.run(&["swarm", "create"]).succeeded();
    a.run(&["swarm", "create"]).failed(2, "in swarm");
    a.run(&["swarm", "invite"]).failed(3, "start `shoal up` or `shoal serve`");
    let too_much = a.run(&["serve", "-m", "tiny", "--memory", "1", "--layers", "0-1"]);
    too_much.failed(5, "these layers and their caches take");
    let serve = start(&a, &["serve"]);
    a.run(&["swarm", "invite", "--expires", "99d"]).failed(7, "longer than allowed");
    let ticket = ticket(&a, &["--role", "use", "--expires", "5m"]);
    b.run(&["swarm", "join", &ticket]).succeeded();
    b.run(&["leave", "--forget"]).succeeded();
    b.run(&["swarm", "join", &ticket]).succeeded();
    let c = Home::with_tiny();
    c.run(&["swarm", "join", &ticket]).failed(7, "the ticket was used");
    // A member answers by itself as long as nobody else is faster, or there is nobody.
    serve.end();
    let up = up(&b, "auto");
    let (head, _) = up.complete("once");
    assert!(head.contains("x-shoal-route: local\r\n"), "{head}");
    up.end();
}
