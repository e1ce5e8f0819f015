//! Several processes as one model over networks that are made up: answers stay the same, whatever
//! happens to a stage in the middle of them.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::process::Stdio;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use shoal_netlab::{Fault, Lab, LabConfig, Node, Process, Profile};
use shoal_testkit::skip;

use crate::support::Home;

const WAIT_MAX: Duration = Duration::from_secs(60);
pub(crate) const TOKENS: u32 = 40;

/// A model of which each layer is computed on another machine.
pub(crate) struct Scene {
    /// Its processes end with it.
    pub(crate) lab: Lab,
    _processes: Vec<Process>,
    /// The node on each machine.
    ids: Vec<String>,
    http: SocketAddr,
}

/// Who computes what.
#[derive(Clone, Copy)]
pub(crate) struct Setup {
    pub(crate) profile: &'static str,
    pub(crate) model: &'static str,
    /// Its layers.
    pub(crate) halves: [&'static str; 2],
    /// How many stand by with each half.
    pub(crate) spares: usize,
    /// Whether they load the layers when they are asked to.
    pub(crate) are_cold: bool,
    /// Which requests have shadows.
    pub(crate) shadows: &'static str,
}

impl Setup {
    /// `shoal-tiny` without shadows.
    pub(crate) fn new(profile: &'static str, spares: usize) -> Self {
        let (model, halves) = ("shoal-tiny", ["0-2", "3-5"]);
        Self { profile, model, halves, spares, are_cold: false, shadows: "never" }
    }
}

/// What a client is to do.
#[derive(Clone)]
pub(crate) struct Ask {
    pub(crate) model: &'static str,
    pub(crate) prompt: String,
    pub(crate) seed: u64,
    pub(crate) tokens: u32,
}

/// What a client saw.
pub(crate) struct Answer {
    pub(crate) text: String,
    /// The longest time between two events.
    pub(crate) pause: Duration,
    pub(crate) took: Duration,
}

pub(crate) fn ask(seed: u64) -> Ask {
    let prompt = "Once upon a time, there was".to_owned();
    Ask { model: "shoal-tiny", prompt, seed, tokens: TOKENS }
}

/// A prompt of about so many tokens.
pub(crate) fn long_ask(seed: u64, words: usize) -> Ask {
    let story = ["The", "little", "cat", "sat", "in", "the", "big", "garden", "and", "played"];
    let words: Vec<_> = story.iter().cycle().take(words).copied().collect();
    Ask { prompt: words.join(" "), ..ask(seed) }
}

/// What one process answers.
pub(crate) fn alone(home: &Home, ask: &Ask) -> String {
    let (tokens, seed) = (ask.tokens.to_string(), ask.seed.to_string());
    let args = ["run", "--raw", &ask.prompt, "--max-tokens", &tokens, "--seed", &seed, "--json"];
    let more = ["--temperature", "0.9", "--ignore-end", "-m", ask.model];
    let answer = home.run(&[&args[..], &more].concat()).succeeded().json();
    answer["text"].as_str().unwrap().to_owned()
}

/// The first line that a process prints.
fn first_line(process: &mut Process) -> Value {
    let mut line = String::new();
    let mut lines = BufReader::new(process.stdout.as_mut().unwrap());
    lines.read_line(&mut line).unwrap();
    serde_json::from_str(&line).unwrap()
}

pub(crate) fn spawn(home: &Home, node: &Node, arguments: &[&str]) -> (Process, Value) {
    let mut command = node.command(env!("CARGO_BIN_EXE_shoal"));
    command.args(arguments).args(["--json", "--threads", "1"]).env("SHOAL_HOME", home.data(""));
    command.stdout(Stdio::piped());
    let mut process = node.spawn(command).unwrap();
    let line = first_line(&mut process);
    (process, line)
}

impl Scene {
    /// The head on node 0, the two halves on nodes 1 and 2, and so many stand-ins for each half on
    /// the nodes after them. `None` after saying why there is none.
    pub(crate) fn start(home: &Home, profile: &'static str, spares: usize) -> Option<Self> {
        Self::of(home, Setup::new(profile, spares))
    }

    pub(crate) fn of(home: &Home, setup: Setup) -> Option<Self> {
        if let Some(missing) = shoal_netlab::missing() {
            skip(&missing);
            return None;
        }
        let Setup { model, spares, .. } = setup;
        let profile = Profile::named(setup.profile).unwrap();
        let lab = Lab::start(&LabConfig::new(&profile, 3 + 2 * spares)).unwrap();
        let key = home.file("head.key");
        let key = key.to_str().unwrap();
        let head = home.run(&["key", key, "--json"]).succeeded().json();
        let head = head["node"].as_str().unwrap();
        let (mut processes, mut words) = (Vec::new(), Vec::new());
        let mut ids = vec![head.to_owned()];
        for index in 1..lab.count() {
            let layers = setup.halves[(index - 1) % 2];
            let loads = if setup.are_cold && index > 2 { "asked" } else { layers };
            let listen = format!("{}:0", lab.node(index).address());
            let serve = ["serve", "-m", model, "--layers", loads, "--head", head];
            let serve = [&serve[..], &["--listen", &listen]].concat();
            let (process, line) = spawn(home, lab.node(index), &serve);
            processes.push(process);
            let option = if index < 3 { "--stage" } else { "--spare" };
            words.push(option.to_owned());
            let node = line["node"].as_str().unwrap();
            ids.push(node.split_once('@').unwrap().0.to_owned());
            words.push(format!("{node}={layers}"));
        }
        let from = format!("{}:0", lab.node(0).address());
        let mut up = vec!["up", "--listen", "127.0.0.1:0", "--key", key, "--listen-stages", &from];
        up.extend(["-m", model, "--shadows", setup.shadows]);
        up.extend(words.iter().map(String::as_str));
        let (process, line) = spawn(home, lab.node(0), &up);
        processes.push(process);
        let http = line["address"].as_str().unwrap().parse().unwrap();
        Some(Self { lab, _processes: processes, ids, http })
    }

    /// The ring as the console shows it.
    pub(crate) fn ring(&self) -> Value {
        let http = self.http;
        let mut stream = self.lab.node(0).enter(move || TcpStream::connect(http)).unwrap();
        stream.set_read_timeout(Some(WAIT_MAX)).unwrap();
        let get = "GET /swarm HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
        stream.write_all(get.as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        let body = answer.split_once("\r\n\r\n").unwrap().1;
        let map: Value = serde_json::from_str(body).unwrap();
        map["swarm"]["rings"][0].clone()
    }

    /// Stages that were replaced so far.
    pub(crate) fn replaced(&self) -> u64 {
        self.ring()["replaced"].as_u64().unwrap()
    }

    /// The machine that computes a half now.
    pub(crate) fn holder(&self, half: usize) -> usize {
        let ring = self.ring();
        let id = ring["stages"][half]["node"].as_str().unwrap();
        let place = self.ids.iter().position(|known| known == id);
        place.expect("it runs on one of the machines")
    }

    /// Streams an answer, and lets something happen to whoever computes a half of it.
    pub(crate) fn hit(
        &self,
        ask: &Ask,
        half: usize,
        after: u32,
        fault: fn(usize) -> Fault,
    ) -> (Answer, Fault) {
        let mut done = None;
        let answer = self.stream(ask, |count| {
            if count == after {
                let fault = fault(self.holder(half));
                self.lab.apply(fault);
                done = Some(fault);
            }
        });
        (answer, done.expect("there are more events"))
    }

    /// Streams an answer; `at` is called with the number of events so far.
    pub(crate) fn stream(&self, ask: &Ask, at: impl FnMut(u32)) -> Answer {
        stream(self.lab.node(0), self.http, ask, at)
    }
}

/// Streams an answer from the endpoint of a machine; `at` is called with the number of events so
/// far.
pub(crate) fn stream(node: &Node, http: SocketAddr, ask: &Ask, mut at: impl FnMut(u32)) -> Answer {
    let body = json!({
        "model": ask.model, "prompt": ask.prompt, "max_tokens": ask.tokens,
        "seed": ask.seed, "temperature": 0.9, "stream": true, "ignore_eos": true,
    });
    let body = body.to_string();
    let stream = node.enter(move || TcpStream::connect(http)).unwrap();
    stream.set_read_timeout(Some(WAIT_MAX)).unwrap();
    let length = body.len();
    let start = Instant::now();
    write!(
        &stream,
        "POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\
             Content-Type: application/json\r\nContent-Length: {length}\r\n\r\n{body}",
    )
    .unwrap();
    let (mut text, mut count) = (String::new(), 0);
    let (mut pause, mut last) = (Duration::ZERO, None::<Instant>);
    for line in BufReader::new(stream).lines() {
        let line = line.unwrap();
        let Some(data) = line.strip_prefix("data: ").filter(|data| *data != "[DONE]") else {
            assert!(count > 0 || !line.contains("error"), "{line}");
            continue;
        };
        let event: Value = serde_json::from_str(data).unwrap();
        assert!(event.get("error").is_none(), "{event}");
        text += event["choices"][0]["text"].as_str().unwrap_or_default();
        count += 1;
        pause = pause.max(last.map_or(Duration::ZERO, |last| last.elapsed()));
        last = Some(Instant::now());
        at(count);
    }
    Answer { text, pause, took: start.elapsed() }
}

#[test]
fn answers_over_a_wide_area_are_those_of_one_process() {
    let home = Home::new();
    let Some(scene) = Scene::start(&home, "eu", 0) else {
        return;
    };
    let asks = [ask(1), ask(2), long_ask(3, 200)];
    std::thread::scope(|scope| {
        for ask in &asks {
            let (scene, home) = (&scene, &home);
            scope.spawn(move || {
                let answer = scene.stream(ask, |_| ());
                assert_eq!(answer.text, alone(home, ask));
                // Each token goes around: 37.5 ms at least.
                assert!(answer.took > Duration::from_micros(37_500) * (TOKENS - 1));
            });
        }
    });
    assert!(scene.lab.counts(1, 2).delivered > 0, "stages talk to each other directly");
    println!("lateness: {:?}", scene.lab.lateness().summary());
}

#[test]
fn a_network_that_loses_packets_changes_no_answer() {
    let home = Home::new();
    let Some(scene) = Scene::start(&home, "world", 0) else {
        return;
    };
    let ask = Ask { tokens: 12, ..long_ask(5, 100) };
    assert_eq!(scene.stream(&ask, |_| ()).text, alone(&home, &ask));
}

#[test]
fn a_head_behind_a_symmetric_translator_leads_stages_in_the_open() {
    let home = Home::new();
    let Some(scene) = Scene::start(&home, "home", 0) else {
        return;
    };
    let ask = ask(4);
    assert_eq!(scene.stream(&ask, |_| ()).text, alone(&home, &ask));
    assert!(scene.lab.counts(2, 0).delivered > 0, "the last stage answers through the translator");
}

#[test]
fn stages_that_are_killed_or_frozen_in_the_middle_of_an_answer_change_nothing() {
    let home = Home::new();
    let cases = [(0, 1), (1, 30), (0, 17), (1, 3)];
    let Some(scene) = Scene::start(&home, "eu", 2) else {
        return;
    };
    for (number, (half, after)) in cases.into_iter().enumerate() {
        let ask = ask(number as u64);
        let fault = if number < 2 { Fault::Kill } else { Fault::Freeze };
        let (answer, fault) = scene.hit(&ask, half, after, fault);
        assert_eq!(answer.text, alone(&home, &ask), "{fault:?} after {after}");
        println!("{fault:?} after {after} events: longest pause {:?}", answer.pause);
    }
}

#[test]
fn an_answer_outlives_a_network_that_is_cut_for_a_while() {
    let home = Home::new();
    let Some(scene) = Scene::start(&home, "eu", 0) else {
        return;
    };
    let cuts = [
        (Fault::CutLink(1, 2), Duration::from_millis(200)),
        (Fault::CutLink(1, 2), Duration::from_secs(2)),
        (Fault::CutNode(2), Duration::from_secs(2)),
    ];
    for (number, (fault, time)) in cuts.into_iter().enumerate() {
        let ask = ask(number as u64);
        let answer = std::thread::scope(|scope| {
            let mut healer = None;
            let answer = scene.stream(&ask, |count| {
                if count == 10 {
                    scene.lab.apply(fault);
                    let lab = &scene.lab;
                    healer = Some(scope.spawn(move || {
                        std::thread::sleep(time);
                        lab.apply(Fault::HealAll);
                    }));
                }
            });
            healer.expect("there are more than ten events").join().unwrap();
            answer
        });
        assert_eq!(answer.text, alone(&home, &ask), "{fault:?} for {time:?}");
        println!("{fault:?} for {time:?}: longest pause {:?}", answer.pause);
    }
}
