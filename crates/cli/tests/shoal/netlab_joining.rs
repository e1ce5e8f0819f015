//! Joining by six digits: at the terminal where `shoal up` runs, and where there is IPv6 alone.

use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use shoal_netlab::{Lab, LabConfig, Node, Profile};
use shoal_testkit::skip;

use crate::netlab::spawn;
use crate::support::{Ended, Home};

const WAIT_MAX: Duration = Duration::from_secs(60);

fn machine() -> Option<Lab> {
    if let Some(missing) = shoal_netlab::missing() {
        skip(&missing);
        return None;
    }
    Some(Lab::start(&LabConfig::new(&Profile::named("lan").unwrap(), 1)).unwrap())
}

/// A program at a terminal: what it says, and where to type.
struct Terminal {
    child: Child,
    lines: Receiver<String>,
}

impl Terminal {
    fn start(node: &Node, home: &Home, words: &str) -> Self {
        let mut command = Command::new("script");
        let program = env!("CARGO_BIN_EXE_shoal");
        command.args(["-qfec", &format!("{program} {words}"), "/dev/null"]);
        command.env("SHOAL_HOME", home.data("")).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = node.enter(move || command.spawn()).unwrap();
        let (sender, lines) = channel();
        let output = BufReader::new(child.stdout.take().unwrap());
        std::thread::spawn(move || {
            for line in output.lines() {
                let line = line.unwrap_or_default();
                if sender.send(line).is_err() {
                    return;
                }
            }
        });
        Self { child, lines }
    }

    /// The next line with these words.
    #[track_caller]
    fn until(&self, words: &str) -> String {
        loop {
            let line = self.lines.recv_timeout(WAIT_MAX);
            let line = line.unwrap_or_else(|_| panic!("it never says {words:?}"));
            if line.contains(words) {
                return line;
            }
        }
    }

    fn enter(&mut self, text: &str) {
        writeln!(self.child.stdin.as_mut().unwrap(), "{text}").unwrap();
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn netlab_up_asks_for_the_code_and_goes_on_as_a_member() {
    let Some(lab) = machine() else {
        return;
    };
    let (a, b) = (Home::new(), Home::new());
    a.run(&["swarm", "create"]).succeeded();
    let (_serve, _) = spawn(&a, lab.node(0), &["serve", "--cache-tokens", "1024"]);
    let mut up = Terminal::start(lab.node(0), &b, "up --listen 127.0.0.1:0 --threads 1");
    up.until("console");
    let (_invite, line) = spawn(&a, lab.node(0), &["swarm", "invite", "--code"]);
    let code = line["code"].as_str().unwrap();
    up.until("Type the six digits");
    up.enter("nonsense");
    up.until("a code is six digits");
    up.enter(code);
    up.until("joined swarm");
    up.until("node     ");
    let said = b.run(&["swarm", "members", "--json"]).succeeded().json();
    assert_eq!(said["role"], "serve", "{said}");
}

/// Takes IPv4 away from a machine and gives it a link with IPv6, and an address if one is named.
fn only_ipv6(node: &Node, address: Option<&'static str>) {
    node.enter(move || {
        for scope in ["all", "default"] {
            std::fs::write(format!("/proc/sys/net/ipv6/conf/{scope}/disable_ipv6"), "0").unwrap();
        }
        let ip = |words: &str| {
            let status = Command::new("ip").args(words.split(' ')).status().unwrap();
            assert!(status.success(), "ip {words}");
        };
        ip("link del net0");
        ip("link add left type veth peer name right");
        ip("link set left up");
        ip("link set right up");
        if let Some(address) = address {
            ip(&format!("-6 address add {address}/64 dev left nodad"));
        }
        // Addresses count once nobody else on the link claims them.
        let has_link = || {
            let shown = Command::new("ip").args(["-6", "address", "show", "-tentative"]).output();
            String::from_utf8_lossy(&shown.unwrap().stdout).matches("fe80:").count() == 2
        };
        while !has_link() {
            std::thread::sleep(Duration::from_millis(50));
        }
    });
}

#[test]
fn netlab_a_code_works_where_there_is_ipv6_alone() {
    let Some(lab) = machine() else {
        return;
    };
    only_ipv6(lab.node(0), Some("fd00:5a0a::1"));
    let (a, b) = (Home::new(), Home::new());
    a.run(&["swarm", "create"]).succeeded();
    let serve = ["serve", "--listen", "[::]:0", "--cache-tokens", "1024"];
    let (_serve, line) = spawn(&a, lab.node(0), &serve);
    assert!(line["node"].as_str().unwrap().contains("[fd00:5a0a::1]"), "{line}");
    let (_invite, line) = spawn(&a, lab.node(0), &["swarm", "invite", "--code"]);
    assert_eq!(line["multicast_error"], serde_json::Value::Null, "{line}");
    let mut join = b.command(&["swarm", "join", line["code"].as_str().unwrap()]);
    let joined = Ended::of(lab.node(0).enter(move || join.output().unwrap()));
    joined.succeeded();
}
