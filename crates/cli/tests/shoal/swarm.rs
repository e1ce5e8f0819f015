//! Several processes as one model: `shoal serve` and `shoal up --nodes`, killed and frozen.

use std::process::Stdio;
use std::sync::mpsc::{Receiver, channel};
use std::time::Instant;

use serde_json::json;
use shoal_base::{Flow, Generate, Prompt, Request, TokenEvent};
use shoal_engine::{EngineOptions, LocalEngine};
use shoal_model::package::Package;
use shoal_node::{HeadOptions, LayerRange, Node, NodeConfig, PlannedStage, RingHead, StaticPlan};
use shoal_store::Store;
use shoal_testkit::shared_data;

use crate::running::{Running, WAIT_MAX};
use crate::support::Home;

/// A small trained model among the shared data.
const TRAINED: &str = "models/doryiii+esp32-llm/spiffs_data/stories260K.bin";

/// A process that serves layers.
struct Stage {
    process: Running,
    planned: PlannedStage,
}

impl Stage {
    fn start(home: &Home, leader: &Node, first: u16, last: u16) -> Self {
        let leader = leader.address().node.to_string();
        let layers = format!("{first}-{last}");
        let args = ["serve", "-m", "it", "--json", "--threads", "1", "--until-stdin-ends"];
        let more = ["--layers", &layers, "--head", &leader];
        let mut command = home.command(&[&args[..], &more].concat());
        let process = Running::start(command.stdin(Stdio::piped()));
        let screen = &process.screen;
        assert_eq!(screen["layers"], json!([first, last]));
        let peer = screen["node"].as_str().unwrap().parse().unwrap();
        let layers = LayerRange::try_new(first, last + 1).unwrap();
        Self { process, planned: PlannedStage { peer, layers } }
    }
}

/// A package named `it`: trained where the shared data is, else of random numbers.
fn package(home: &Home) -> Package {
    match shared_data() {
        Some(data) => {
            let path = data.join(TRAINED);
            let args = ["model", "import", path.to_str().unwrap(), "--name", "it"];
            home.run(&args).succeeded();
        }
        None => {
            home.import_tiny();
            home.run(&["model", "name", "tiny", "it"]).succeeded();
        }
    }
    let store = Store::open(&home.data("")).unwrap();
    store.package(store.find("it").unwrap()).unwrap()
}

fn request(seed: u64) -> Request {
    let mut request = Request::new(Prompt::Text("Once upon a time, there was".to_owned()));
    request.sampling.seed = seed;
    request.sampling.temperature = [0.0, 0.9][seed as usize % 2];
    request.stop.tokens_max = Some(60);
    request.stop.ignore_end_of_turn = true;
    request
}

fn start(generate: &dyn Generate, request: Request) -> Receiver<TokenEvent> {
    let (sender, events) = channel();
    let sink = move |event| {
        let _ = sender.send(event);
        Flow::Continue
    };
    generate.submit(request, Box::new(sink)).unwrap();
    events
}

/// Ids and text to the end; `at` is called after each token with how many there are.
fn read(events: &Receiver<TokenEvent>, mut at: impl FnMut(usize)) -> (Vec<u32>, String) {
    let (mut ids, mut all) = (Vec::new(), String::new());
    loop {
        match events.recv_timeout(WAIT_MAX).expect("events arrive") {
            TokenEvent::Started { .. } => {}
            TokenEvent::Token { id, text, .. } => {
                ids.push(id.0);
                all += &text;
                at(ids.len());
            }
            TokenEvent::Finished { text, .. } => return (ids, all + &text),
            TokenEvent::Failed(error) => panic!("{error}"),
        }
    }
}

/// Two stages and two spares, all processes of their own.
fn ring(home: &Home, package: &Package) -> (RingHead, Vec<Stage>, Node) {
    let listen = "127.0.0.1:0".parse().unwrap();
    let leader = Node::start(NodeConfig::new([5; 32], listen)).unwrap();
    let count = package.manifest().architecture.layer_count as u16;
    let cut = count / 2;
    let halves = [(0, cut - 1), (cut, count - 1)];
    let stages: Vec<Stage> = [halves, halves]
        .concat()
        .into_iter()
        .map(|(first, last)| Stage::start(home, &leader, first, last))
        .collect();
    let planned: Vec<PlannedStage> = stages.iter().map(|stage| stage.planned.clone()).collect();
    let plan = StaticPlan::try_new(count, planned[..2].to_vec(), planned[2..].to_vec()).unwrap();
    let options = HeadOptions { threads: 1, ..HeadOptions::default() };
    (leader.head(package, "it", plan, options).unwrap(), stages, leader)
}

#[test]
fn a_process_that_is_killed_or_frozen_in_the_middle_of_answers_changes_none_of_them() {
    let home = Home::new();
    let package = package(&home);
    let options = EngineOptions { threads: 1, ..EngineOptions::default() };
    let alone = LocalEngine::open(&package, "it", None, options).unwrap();
    let expected: Vec<_> = (0..4).map(|seed| read(&start(&alone, request(seed)), |_| ())).collect();
    for (signal, victim, after) in
        [("-KILL", 0, 1), ("-KILL", 1, 17), ("-STOP", 0, 31), ("-STOP", 1, 5), ("-KILL", 1, 44)]
    {
        let (head, stages, _leader) = ring(&home, &package);
        let running: Vec<_> = (0..4).map(|seed| start(&head, request(seed))).collect();
        let mut hit = None;
        let first = read(&running[0], |count| {
            if count == after {
                stages[victim].process.signal(signal);
                hit = Some(Instant::now());
            }
        });
        let others = running[1..].iter().map(|events| read(events, |_| ()));
        let all: Vec<_> = std::iter::once(first).chain(others).collect();
        assert_eq!(all, expected, "{signal} for stage {victim} after {after} tokens");
        let took = hit.unwrap().elapsed();
        println!("{signal} stage {victim} after {after}: the rest took {took:?}");
        let status = head.status();
        assert!(status.replaced <= 1, "{status:?}");
        if signal == "-STOP" {
            stages[victim].process.signal("-CONT");
        }
    }
}

#[test]
fn a_process_ends_with_the_one_that_started_it() {
    let home = Home::new();
    let _package = package(&home);
    let leader = Node::start(NodeConfig::new([5; 32], "127.0.0.1:0".parse().unwrap())).unwrap();
    let mut stage = Stage::start(&home, &leader, 0, 0);
    drop(stage.process.child.stdin.take());
    assert!(stage.process.child.wait().unwrap().success());
}

#[test]
fn layers_and_leaders_that_make_no_sense_are_refused() {
    let home = Home::with_tiny();
    let leader = "ab".repeat(32);
    let serve = |layers: &str, leader: &str| {
        home.run(&["serve", "-m", "tiny", "--layers", layers, "--head", leader])
    };
    serve("0-2", &leader).failed(2, "layers 0-2, the package has 0-1");
    serve("1-0", &leader).failed(2, "the smaller first");
    serve("0-1", "abc").failed(2, "64 lower-case hex digits");
    home.run(&["serve", "-m", "tiny"]).failed(2, "--head NODE");
    home.run(&["up", "-m", "tiny", "--nodes", "3"]).failed(2, "3 nodes for the 2 layers");
    let stage = |node: &str, layers: &str| format!("--stage={node}@127.0.0.1:9={layers}");
    let other = "cd".repeat(32);
    let up = |words: &[String]| {
        let words = words.iter().map(String::as_str);
        home.run(&["up", "-m", "tiny"].into_iter().chain(words).collect::<Vec<_>>())
    };
    up(&[stage(&leader, "1-1")]).failed(2, "stage 0 begins with layer 1, 0 is due");
    up(&[stage(&leader, "0-0")]).failed(2, "the stages end with layer 1, the package has 2");
    up(&[stage(&leader, "0-2")]).failed(2, "layers 0-2, the package has 0-1");
    up(&[stage(&leader, "0-0"), stage(&leader, "1-1")]).failed(2, "is in the plan twice");
    let spare = stage(&other, "0-0").replace("stage", "spare");
    up(&[stage(&leader, "0-1"), spare.clone()]).failed(2, "spare 0");
    up(&[spare]).failed(2, "--stage");
    up(&["--stage=somewhere=0-1".to_owned()]).failed(2, "no '@'");
    up(&[stage(&leader, "0-1"), "--nodes=2".to_owned()]).failed(2, "cannot be used with");
    up(&["--key=k".to_owned()]).failed(2, "--key is for --stage");
    let both = [stage(&leader, "0-1"), "-m".to_owned(), "shoal-tiny".to_owned()];
    up(&both).failed(2, "--stage serves one model");
    assert!(!home.file("k").exists());
}

#[test]
fn up_over_two_processes_answers_as_one() {
    let home = Home::with_tiny();
    let args = ["up", "-m", "tiny", "--listen", "127.0.0.1:0", "--json", "--threads", "1"];
    let mut command = home.command(&[&args[..], &["--nodes", "2"]].concat());
    let up = Running::start(&mut command);
    let (head, answer) = up.complete("once");
    assert!(head.starts_with("http/1.1 200"), "{answer}");
    let args =
        ["run", "-m", "tiny", "--raw", "once", "--max-tokens", "12", "--seed", "3", "--json"];
    let alone = home.run(&args).succeeded().json();
    assert_eq!(answer["choices"][0]["text"], alone["text"]);
    let map = up.get("/swarm")["swarm"].clone();
    assert_eq!(map["members"].as_array().unwrap().len(), 3, "this node and two: {map}");
    let stages = map["rings"][0]["stages"].as_array().unwrap();
    let cut: Vec<_> = stages.iter().map(|stage| (&stage["first"], &stage["last"])).collect();
    assert_eq!(cut, [(&0.into(), &0.into()), (&1.into(), &1.into())]);
    up.end();
}
