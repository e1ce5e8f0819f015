//! What leaves a machine: nothing unless it was asked for; and being found by a key alone.

use std::io::{BufRead as _, BufReader};
use std::net::UdpSocket;
use std::process::Stdio;
use std::time::{Duration, Instant};

use shoal_netlab::{Dht, Fault, Lab, LabConfig, Profile};
use shoal_testkit::skip;

use crate::netlab::{ask, spawn, stream};
use crate::support::{Ended, Home};

/// How long a fresh program is watched: longer than it looks for an invitation.
const WATCH: Duration = Duration::from_secs(20);
const WAIT_MAX: Duration = Duration::from_secs(60);
const HTTP: &str = "127.0.0.1:11400";
/// An address of documentation (RFC 5737): nobody has it, and no packet leaves the lab.
const OUTSIDE: &str = "198.51.100.1:9";

fn machines(count: usize) -> Option<Lab> {
    if let Some(missing) = shoal_netlab::missing() {
        skip(&missing);
        return None;
    }
    Some(Lab::start(&LabConfig::new(&Profile::named("lan").unwrap(), count)).unwrap())
}

#[test]
fn netlab_a_fresh_program_sends_nothing_beyond_the_local_network() {
    let Some(lab) = machines(1) else {
        return;
    };
    let home = Home::new();
    let mut command = lab.node(0).command(env!("CARGO_BIN_EXE_shoal"));
    command.args(["up", "--listen", HTTP, "--threads", "1"]).env("SHOAL_HOME", home.data(""));
    command.stdout(Stdio::piped()).stderr(Stdio::null());
    let mut up = lab.node(0).spawn(command).unwrap();
    let mut screen = String::new();
    BufReader::new(up.stdout.as_mut().unwrap()).read_line(&mut screen).unwrap();
    assert!(screen.contains(HTTP), "{screen}");
    let answer = stream(lab.node(0), HTTP.parse().unwrap(), &ask(1), |_| ());
    assert!(!answer.text.is_empty());
    std::thread::sleep(WATCH);
    let sent = lab.sent(0);
    println!("a fresh program, {WATCH:?} and an answer: {sent:?}");
    assert_eq!(sent.beyond, 0);
    // What leaves is counted: one packet that another program here sends.
    let socket = lab.node(0).enter(|| UdpSocket::bind("0.0.0.0:0").unwrap());
    socket.send_to(b"x", OUTSIDE).unwrap();
    let deadline = Instant::now() + WATCH;
    while lab.sent(0).beyond == 0 {
        assert!(Instant::now() < deadline, "a packet that leaves is counted");
        std::thread::yield_now();
    }
}

/// Runs a command to its end on the first machine.
fn run(home: &Home, lab: &Lab, args: &[&str]) -> Ended {
    let mut command = home.command(args);
    Ended::of(lab.node(0).enter(move || command.output().unwrap()))
}

#[test]
fn netlab_a_machine_joins_and_comes_back_by_key_alone() {
    let Some(lab) = machines(1) else {
        return;
    };
    let dht = Dht::start(lab.node(0), 3).unwrap();
    let (entry, local) = (dht.entry().to_string(), "127.0.0.1:0");
    let public = ["--public", "--dht", &entry];
    let (a, b) = (Home::new(), Home::new());
    a.run(&["swarm", "create"]).succeeded();
    let serve = ["serve", "--cache-tokens", "1024"];
    let (first, line) = spawn(&a, lab.node(0), &[&serve[..], &public].concat());
    let a_node = line["node"].as_str().unwrap().split('@').next().unwrap().to_owned();
    let invite = [&["swarm", "invite", "--code", "--listen", local][..], &public].concat();
    let (_invite, line) = spawn(&a, lab.node(0), &invite);
    let (code, at) = (line["code"].as_str().unwrap(), line["at"].as_str().unwrap());
    let key = at.split('@').next().unwrap();
    let join = ["swarm", "join", code, "--at", key, "--from", local];
    run(&b, &lab, &join).failed(6, "--public");
    let started = Instant::now();
    // Nobody says when what was published can be found.
    while run(&b, &lab, &[&join[..], &public].concat()).code != Some(0) {
        assert!(started.elapsed() < WAIT_MAX, "it is not found");
    }
    // The one that invited is somewhere else when the other one looks for it.
    lab.apply(Fault::Kill(0));
    first.wait().unwrap();
    let (_second, _) = spawn(&a, lab.node(0), &[&serve[..], &public].concat());
    let up = ["up", "--listen", local, "--route", "swarm"];
    let (_up, _) = spawn(&b, lab.node(0), &[&up[..], &public].concat());
    let started = Instant::now();
    loop {
        let said = b.run(&["peers", "--json"]).succeeded().json();
        let peers = said["peers"].as_array().unwrap();
        if peers.iter().any(|peer| peer["node"] == a_node.as_str() && peer["way"] == "direct") {
            break;
        }
        assert!(started.elapsed() < WAIT_MAX, "{said}");
        std::thread::sleep(Duration::from_millis(200));
    }
    let doctor = b.run(&["doctor", "--quick", "--json"]).succeeded().json();
    assert_eq!(doctor["swarm"]["is_public"], true, "{doctor}");
    assert_eq!(lab.sent(0).beyond, 0, "all of it was on loopback");
}
