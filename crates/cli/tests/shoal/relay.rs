//! `shoal relay` and what names it, on loopback.

use serde_json::json;

use crate::running::Running;
use crate::support::Home;

fn relay(home: &Home) -> (Running, String) {
    let relay = Running::start(&mut home.command(&["relay", "--listen", "127.0.0.1:0", "--json"]));
    let url = relay.screen["relay"].as_str().unwrap().to_owned();
    (relay, url)
}

#[test]
fn a_relay_says_how_others_name_it_and_how_they_look() {
    let home = Home::new();
    let (relay, url) = relay(&home);
    assert_eq!(url, format!("http://127.0.0.1:{}", relay.screen["port"]));
    let doctor = home.run(&["doctor", "--quick", "--json", "--relay", &url]).succeeded().json();
    assert_eq!(doctor["nat"]["kind"], "none", "{doctor}");
    assert_eq!(doctor["nat"]["seen"].as_array().unwrap().len(), 2, "{doctor}");
    relay.end();
    let doctor = home.run(&["doctor", "--quick", "--relay", &url]).succeeded();
    assert!(doctor.stdout.contains("translation    unknown: no relay answered"), "{doctor:?}");
    let doctor = home.run(&["doctor", "--quick"]).succeeded();
    assert!(doctor.stdout.contains("unknown: no relay to ask was given"), "{doctor:?}");
}

#[test]
fn a_node_carries_the_relay_it_names_and_says_when_it_is_away() {
    let (a, b) = (Home::with_tiny(), Home::with_tiny());
    let (relay, url) = relay(&a);
    a.run(&["swarm", "create"]).succeeded();
    std::fs::write(a.data("config.toml"), format!("relays = [\"{url}\"]")).unwrap();
    let serve = ["serve", "-m", "tiny", "--threads", "1", "--json"];
    let serve = Running::start(&mut a.command(&serve));
    assert!(serve.screen["node"].as_str().unwrap().ends_with(&url), "{}", serve.screen);
    assert_eq!(serve.screen["relays"][0]["is_connected"], json!(true), "{}", serve.screen);
    let doctor = a.run(&["doctor", "--quick"]).succeeded();
    assert!(doctor.stdout.contains(&format!("relay          {url}, connected")), "{doctor:?}");
    // Whoever does not name the relay comes directly.
    let ticket = a.run(&["swarm", "invite"]).succeeded().stdout;
    b.run(&["swarm", "join", ticket.trim()]).succeeded();
    serve.end();
    relay.end();

    let serve = ["serve", "-m", "tiny", "--threads", "1", "--json", "--relay", &url];
    let away = Running::start(&mut b.command(&serve));
    assert_eq!(away.screen["relays"][0]["is_connected"], json!(false), "{}", away.screen);
    away.end();
}

#[test]
fn relays_that_cannot_be_are_refused() {
    let home = Home::with_tiny();
    home.run(&["up", "-m", "tiny", "--relay", "http://127.0.0.1:1"]).failed(2, "are for a swarm");
    home.run(&["doctor", "--relay", "127.0.0.1:1"]).failed(2, "http://ADDRESS:PORT");
    home.run(&["relay", "--listen", "192.0.2.1:1"]).failed(6, "choose another address");
    std::fs::write(home.data("config.toml"), "relays = [\"relay\"]").unwrap();
    home.run(&["doctor", "--quick"]).failed(2, "http://ADDRESS:PORT");
}
