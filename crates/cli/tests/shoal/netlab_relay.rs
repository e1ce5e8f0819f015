//! Two members behind translators that meet at `shoal relay`, each on a machine of its own.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use serde_json::Value;
use shoal_netlab::{Lab, LabConfig, NatKind, Node, Process, Profile};
use shoal_testkit::skip;

use crate::netlab::{alone, ask, long_ask, spawn, stream};
use crate::support::Home;

/// Longer than iroh takes to try all ways.
const WAIT_MAX: Duration = Duration::from_secs(60);
/// What two nodes and their relay exchange in a second to stay in touch: twice of what was seen.
const QUIET_BYTES_PER_S: u64 = 2000;
/// Who is where.
const RELAY: usize = 0;
const HEAD: usize = 1;
const STAGE: usize = 2;

/// A head and a stage behind translators, and a relay in the open.
struct Scene {
    lab: Lab,
    _processes: Vec<Process>,
    head: Home,
    http: SocketAddr,
    relay: String,
}

impl Scene {
    /// `None` after saying why there is none.
    fn start(kind: NatKind) -> Option<Self> {
        if let Some(missing) = shoal_netlab::missing() {
            skip(&missing);
            return None;
        }
        let mut config = LabConfig::new(&Profile::named("eu").unwrap(), 3);
        config.nodes[HEAD].nat = Some(kind);
        config.nodes[STAGE].nat = Some(kind);
        let lab = Lab::start(&config).unwrap();
        let (head, stage) = (Home::new(), Home::new());
        let at = |node: usize| format!("{}:0", lab.node(node).address());
        let (relay, line) = spawn(&head, lab.node(RELAY), &["relay", "--listen", &at(RELAY)]);
        let url = line["relay"].as_str().unwrap().to_owned();

        head.run(&["swarm", "create"]).succeeded();
        let (listen, from) = (at(HEAD), at(STAGE));
        let up = ["up", "--listen", "127.0.0.1:0", "--route", "swarm", "--relay", &url];
        let up = [&up[..], &["--swarm-listen", &listen]].concat();
        let (up, line) = spawn(&head, lab.node(HEAD), &up);
        let http = line["address"].as_str().unwrap().parse().unwrap();
        let ticket = head.run(&["swarm", "invite"]).succeeded().stdout;
        let join = ["swarm", "join", ticket.trim(), "--from", &from, "--relay", &url];
        let (_, line) = spawn(&stage, lab.node(STAGE), &join);
        assert_eq!(line["role"], "serve", "{line}");
        let serve = ["serve", "--listen", &from, "--relay", &url];
        let (serve, line) = spawn(&stage, lab.node(STAGE), &serve);
        assert_eq!(line["relays"][0]["is_connected"], true, "{line}");
        assert!(line["node"].as_str().unwrap().ends_with(&url), "{line}");
        Some(Self { lab, _processes: vec![relay, up, serve], head, http, relay: url })
    }

    /// Waits until the link between both goes as it should.
    #[track_caller]
    fn wait_for(&self, way: &str) {
        let started = Instant::now();
        loop {
            let said = self.head.run(&["peers", "--json"]).succeeded().json();
            let peers = said["peers"].as_array().unwrap();
            let peer = peers.iter().find(|peer| peer["is_this"] != true);
            if peer.is_some_and(|peer| peer["way"] == way && peer["offers"][0].is_object()) {
                return;
            }
            assert!(started.elapsed() < WAIT_MAX, "not {way}: {said}");
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    /// Bytes so far between the two, and between them and the relay.
    fn bytes(&self) -> (u64, u64) {
        let sent = |from, to| self.lab.counts(from, to).sent_bytes;
        let over = [HEAD, STAGE].map(|node| sent(node, RELAY) + sent(RELAY, node));
        (sent(HEAD, STAGE) + sent(STAGE, HEAD), over.iter().sum())
    }

    /// What the head's machine says of its translator.
    fn translation(&self, node: &Node) -> Value {
        let doctor = ["doctor", "--quick", "--relay", &self.relay];
        spawn(&self.head, node, &doctor).1
    }
}

#[test]
fn members_behind_symmetric_translators_talk_over_a_relay() {
    let Some(scene) = Scene::start(NatKind::Symmetric) else {
        return;
    };
    scene.wait_for("relayed");
    let (_, before) = scene.bytes();
    for ask in [ask(1), long_ask(2, 200)] {
        let answer = stream(scene.lab.node(HEAD), scene.http, &ask, |_| ());
        assert_eq!(answer.text, alone(&scene.head, &ask));
        println!("over the relay: {:?}", answer.took);
    }
    let (_, after) = scene.bytes();
    assert!(after - before > 100_000, "{} bytes went over the relay", after - before);
    assert_eq!(scene.lab.counts(HEAD, STAGE).delivered, 0, "nothing else gets through");
    let plan = scene.head.run(&["plan", "-m", "shoal-tiny", "--json"]).succeeded().json();
    assert_eq!(plan["plans"][0]["stages"][0]["way"], "relayed", "{plan}");
    let doctor = scene.translation(scene.lab.node(HEAD));
    assert_eq!(doctor["nat"]["kind"], "symmetric", "{}", doctor["nat"]);
    assert_eq!(doctor["swarm"]["relays"][0]["is_connected"], true, "{}", doctor["swarm"]);
    let open = scene.translation(scene.lab.node(RELAY));
    assert_eq!(open["nat"]["kind"], "none", "{}", open["nat"]);
}

#[test]
fn members_behind_cones_meet_at_a_relay_and_then_talk_directly() {
    let Some(scene) = Scene::start(NatKind::PortRestricted) else {
        return;
    };
    scene.wait_for("direct");
    let (direct_before, relayed_before) = scene.bytes();
    let started = Instant::now();
    for ask in [ask(1), long_ask(2, 200)] {
        let answer = stream(scene.lab.node(HEAD), scene.http, &ask, |_| ());
        assert_eq!(answer.text, alone(&scene.head, &ask));
        println!("directly: {:?}", answer.took);
    }
    let (direct, relayed) = scene.bytes();
    let (direct, relayed) = (direct - direct_before, relayed - relayed_before);
    let quiet = started.elapsed().as_secs() * QUIET_BYTES_PER_S;
    println!("{direct} bytes directly, {relayed} between both and the relay, {quiet} allowed");
    // What goes over the relay is counted on its way there and on its way on.
    assert!(direct > 100_000, "{direct} bytes directly");
    assert!(relayed < quiet + direct / 10, "{relayed} bytes to and from the relay");
    let doctor = scene.translation(scene.lab.node(HEAD));
    assert_eq!(doctor["nat"]["kind"], "cone", "{}", doctor["nat"]);
}

#[test]
fn stages_that_were_named_are_led_over_a_relay_too() {
    if let Some(missing) = shoal_netlab::missing() {
        return skip(&missing);
    }
    let mut config = LabConfig::new(&Profile::named("eu").unwrap(), 3);
    config.nodes[HEAD].nat = Some(NatKind::Symmetric);
    config.nodes[STAGE].nat = Some(NatKind::PortRestricted);
    let lab = Lab::start(&config).unwrap();
    let home = Home::new();
    let at = |node: usize| format!("{}:0", lab.node(node).address());
    let (_relay, line) = spawn(&home, lab.node(RELAY), &["relay", "--listen", &at(RELAY)]);
    let url = line["relay"].as_str().unwrap();
    let key = home.file("head.key");
    let key = key.to_str().unwrap();
    let head = home.run(&["key", key, "--json"]).succeeded().json();
    let head = head["node"].as_str().unwrap();
    let serve = ["serve", "--layers", "0-5", "--head", head, "--relay", url];
    let (listen, from) = (at(STAGE), at(HEAD));
    let serve = [&serve[..], &["--listen", &listen]].concat();
    let (_serve, line) = spawn(&home, lab.node(STAGE), &serve);
    let stage = format!("{}=0-5", line["node"].as_str().unwrap());
    let up = ["up", "--listen", "127.0.0.1:0", "--key", key, "--stage", &stage, "--relay", url];
    let up = [&up[..], &["--listen-stages", &from]].concat();
    let (_up, line) = spawn(&home, lab.node(HEAD), &up);
    let http = line["address"].as_str().unwrap().parse().unwrap();
    let ask = ask(7);
    assert_eq!(stream(lab.node(HEAD), http, &ask, |_| ()).text, alone(&home, &ask));
    assert_eq!(lab.counts(HEAD, STAGE).delivered, 0, "one translator is symmetric");
}
