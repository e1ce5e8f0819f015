//! What the owner of a machine gives to others, and nothing beyond that.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};

use crate::running::{Running, WAIT_MAX};
use crate::support::Home;

/// A member that leads, one that serves with these arguments, and the node of that one.
fn pair(args: &[&str]) -> (Home, Running, Home, Running, String) {
    let (a, b) = (Home::with_tiny(), Home::with_tiny());
    a.run(&["swarm", "create"]).succeeded();
    let up = ["up", "--listen", "127.0.0.1:0", "--route", "swarm", "-m", "tiny", "--json"];
    let up = Running::start(&mut a.command(&up));
    let ticket = a.run(&["swarm", "invite"]).succeeded().stdout;
    let joined = b.run(&["swarm", "join", ticket.trim(), "--json"]).succeeded().json();
    let node = joined["node"].as_str().unwrap().to_owned();
    let serve = ["serve", "-m", "tiny", "--json", "--cores", "1"];
    let serve = Running::start(&mut b.command(&[&serve[..], args].concat()));
    (a, up, b, serve, node)
}

/// What `doctor` says of the swarm, once it is so.
#[track_caller]
fn health(home: &Home, is_so: impl Fn(&Value) -> bool) -> Value {
    let started = Instant::now();
    loop {
        let said = home.run(&["doctor", "--quick", "--json"]).succeeded().json()["swarm"].clone();
        if is_so(&said) {
            return said;
        }
        assert!(started.elapsed() < WAIT_MAX, "{said}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// How a member sees another one, once it is so.
#[track_caller]
fn state(home: &Home, node: &str, state: &str) {
    let started = Instant::now();
    loop {
        let said = home.run(&["swarm", "members", "--json"]).succeeded().json();
        let members = said["members"].as_array().unwrap();
        if members.iter().any(|member| member["node"] == node && member["state"] == state) {
            return;
        }
        assert!(started.elapsed() < WAIT_MAX, "{said}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn a_node_rests_outside_its_hours_and_says_why() {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    let hour = |hours: u64| (now / 3600 + hours) % 24;
    let hours = format!("{:02}:00-{:02}:00Z", hour(2), hour(4));
    let (a, up, b, serve, node) = pair(&["--hours", &hours]);
    state(&a, &node, "draining");
    let said = health(&b, |said| said["members"].as_array().unwrap().len() == 2);
    assert_eq!((&said["is_running"], &said["is_eligible"]), (&json!(true), &json!(false)));
    let why = said["not_in_a_ring_because"][0].as_str().unwrap();
    assert!(why.starts_with("its owner lets it compute at") && why.contains("UTC"), "{why}");
    let plan = a.run(&["plan", "-m", "tiny", "--json"]).succeeded().json();
    assert!(plan["why"].is_string(), "nobody counts on it: {plan}");
    serve.end();
    up.end();
    for (wrong, why) in [("8-9", "two times of the day"), ("7:00-7:00", "same minute")] {
        b.run(&["serve", "-m", "tiny", "--hours", wrong]).failed(2, why);
    }
}

#[test]
fn a_node_moves_its_rings_away_when_the_plug_is_pulled() {
    let supplies = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| std::fs::write(supplies.path().join(name), text).unwrap();
    std::fs::create_dir(supplies.path().join("AC")).unwrap();
    std::fs::create_dir(supplies.path().join("BAT0")).unwrap();
    write("AC/type", "Mains");
    write("AC/online", "1\n");
    write("BAT0/type", "Battery\n");
    write("BAT0/status", "Charging\n");
    let folder = supplies.path().to_str().unwrap();
    let (a, up, b, serve, node) = pair(&["--not-on-battery", "--power-supplies", folder]);
    state(&a, &node, "active");
    let (_, answer) = up.complete("once");
    assert!(answer["choices"][0]["text"].is_string(), "{answer}");
    assert_eq!(health(&b, |said| said["rings_served"] == 1)["is_eligible"], true);
    write("AC/online", "0\n");
    write("BAT0/status", "Discharging\n");
    state(&a, &node, "draining");
    // Nobody needed the ring, so its head gave it back at once.
    let said = health(&b, |said| said["rings_served"] == 0);
    assert_eq!(said["not_in_a_ring_because"], json!(["it runs on battery"]));
    serve.end();
    up.end();
}

#[test]
fn the_configuration_limits_what_others_get_and_not_the_owner() {
    let home = Home::with_tiny();
    let config = |text: &str| std::fs::write(home.data("config.toml"), text).unwrap();
    config("[serve]\nmemory_mib = 1\n");
    home.run(&["swarm", "create"]).succeeded();
    home.run(&["serve", "-m", "tiny", "--layers", "0-1"]).failed(5, "there is 1.00 MiB");
    home.run(&["serve", "-m", "tiny", "--cores", "9999"]).failed(2, "limit 1024");
    home.run(&["serve", "-m", "tiny", "--max-upload", "16"]).failed(2, "17 KB/s least");
    let nodes = ["up", "--listen", "127.0.0.1:0", "--nodes", "2", "-m", "tiny", "--json"];
    let up = Running::start(&mut home.command(&nodes));
    let (_, answer) = up.complete("once");
    assert!(answer["choices"][0]["text"].is_string(), "processes of its own: {answer}");
    up.end();
    config("[serve]\nhours = \"nightly\"\n");
    home.run(&["serve", "-m", "tiny"]).failed(2, "two times of the day");
}
