//! Several processes as one model over networks that are made up: answers stay the same, whatever
//! happens to a stage in the middle of them.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::process::Stdio;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use shoal_netlab::{Fault, Lab, LabConfig, Node, Process, Profile};
use shoal_testkit::skip;

use crate::support::Home;

const WAIT_MAX: Duration = Duration::from_secs(60);
/// The layers of `shoal-tiny`, in two halves.
const HALVES: [&str; 2] = ["0-2", "3-5"];
const TOKENS: u32 = 40;

/// A model of which each layer is computed on another machine.
struct Scene {
    /// Its processes end with it.
    lab: Lab,
    _processes: Vec<Process>,
    http: SocketAddr,
}

/// What a client is to do.
#[derive(Clone)]
pub(crate) struct Ask {
    prompt: String,
    seed: u64,
    tokens: u32,
}

/// What a client saw.
pub(crate) struct Answer {
    pub(crate) text: String,
    /// The longest time between two events.
    pause: Duration,
    pub(crate) took: Duration,
}

pub(crate) fn ask(seed: u64) -> Ask {
    Ask { prompt: "Once upon a time, there was".to_owned(), seed, tokens: TOKENS }
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
    let answer = home
        .run(&[&args[..], &["--temperature", "0.9", "--ignore-end"]].concat())
        .succeeded()
        .json();
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
    fn start(home: &Home, profile: &str, spares: usize) -> Option<Self> {
        if let Some(missing) = shoal_netlab::missing() {
            skip(&missing);
            return None;
        }
        let profile = Profile::named(profile).unwrap();
        let lab = Lab::start(&LabConfig::new(&profile, 3 + 2 * spares)).unwrap();
        let key = home.file("head.key");
        let key = key.to_str().unwrap();
        let head = home.run(&["key", key, "--json"]).succeeded().json();
        let head = head["node"].as_str().unwrap();
        let (mut processes, mut words) = (Vec::new(), Vec::new());
        for index in 1..lab.count() {
            let layers = HALVES[(index - 1) % 2];
            let listen = format!("{}:0", lab.node(index).address());
            let serve = ["serve", "--layers", layers, "--head", head, "--listen", &listen];
            let (process, line) = spawn(home, lab.node(index), &serve);
            processes.push(process);
            let option = if index < 3 { "--stage" } else { "--spare" };
            words.push(option.to_owned());
            words.push(format!("{}={layers}", line["node"].as_str().unwrap()));
        }
        let from = format!("{}:0", lab.node(0).address());
        let mut up = vec!["up", "--listen", "127.0.0.1:0", "--key", key, "--listen-stages", &from];
        up.extend(words.iter().map(String::as_str));
        let (process, line) = spawn(home, lab.node(0), &up);
        processes.push(process);
        let http = line["address"].as_str().unwrap().parse().unwrap();
        Some(Self { lab, _processes: processes, http })
    }

    /// Bytes that each node has sent so far.
    fn sent(&self) -> Vec<u64> {
        let all = || 0..self.lab.count();
        let sum = |from| all().map(|to| self.lab.counts(from, to).sent_bytes).sum();
        all().map(sum).collect()
    }

    /// The node that computes a half of an answer: of those that have it, the one that has sent
    /// most since.
    fn holder(&self, half: usize, since: &[u64]) -> usize {
        let now = self.sent();
        let all = (1 + half..self.lab.count()).step_by(2);
        all.max_by_key(|node| now[*node] - since[*node]).expect("there is one of each half")
    }

    /// Streams an answer, and lets something happen to whoever computes a half of it.
    fn hit(
        &self,
        ask: &Ask,
        half: usize,
        after: u32,
        fault: fn(usize) -> Fault,
    ) -> (Answer, Fault) {
        let (since, mut done) = (self.sent(), None);
        let answer = self.stream(ask, |count| {
            if count == after {
                let fault = fault(self.holder(half, &since));
                self.lab.apply(fault);
                done = Some(fault);
            }
        });
        (answer, done.expect("there are more events"))
    }

    /// Streams an answer; `at` is called with the number of events so far.
    fn stream(&self, ask: &Ask, at: impl FnMut(u32)) -> Answer {
        stream(self.lab.node(0), self.http, ask, at)
    }
}

/// Streams an answer from the endpoint of a machine; `at` is called with the number of events so
/// far.
pub(crate) fn stream(node: &Node, http: SocketAddr, ask: &Ask, mut at: impl FnMut(u32)) -> Answer {
    let body = json!({
        "model": "shoal-tiny", "prompt": ask.prompt, "max_tokens": ask.tokens,
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

/// Many kills and freezes at random tokens, with a context of almost 512 tokens. How many:
/// `SHOAL_SOAK` runs 200.
#[test]
fn a_long_context_moves_to_a_stand_in_at_any_token() {
    let home = Home::new();
    let count = if std::env::var_os("SHOAL_SOAK").is_some() { 200 } else { 2 };
    let spares = if count > 2 { 4 } else { 1 };
    let mut random = 7_u64;
    let mut draw = |below: u64| {
        random =
            random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (random >> 33) % below
    };
    let asks: Vec<Ask> = (0..8).map(|seed| long_ask(seed, 420)).collect();
    let expected: Vec<String> = asks.iter().map(|ask| alone(&home, ask)).collect();
    let mut pauses = Vec::new();
    while pauses.len() < count {
        let Some(scene) = Scene::start(&home, "lan", spares) else {
            return;
        };
        let mut lost = [0, 0];
        while pauses.len() < count && lost != [spares, spares] {
            let half = draw(2) as usize;
            let half = if lost[half] == spares { 1 - half } else { half };
            lost[half] += 1;
            let (after, is_kill) = (1 + draw(u64::from(TOKENS) - 2) as u32, draw(2) == 0);
            let fault = if is_kill { Fault::Kill } else { Fault::Freeze };
            let which = draw(asks.len() as u64) as usize;
            let (answer, fault) = scene.hit(&asks[which], half, after, fault);
            assert_eq!(answer.text, expected[which], "{fault:?} after {after}");
            println!("{fault:?} after {after}: pause {:?}", answer.pause);
            pauses.push((answer.pause, is_kill));
        }
    }
    for (name, is_kill) in [("kill", true), ("freeze", false)] {
        let mut of: Vec<_> = pauses.iter().filter(|p| p.1 == is_kill).map(|p| p.0).collect();
        of.sort();
        if let (Some(most), count) = (of.last(), of.len()) {
            let (half, most_of) = (of[count / 2], of[(count * 95 / 100).min(count - 1)]);
            println!("{count} x {name}: median {half:?}, 95 % {most_of:?}, longest {most:?}");
        }
    }
}
