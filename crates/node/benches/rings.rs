//! Rings on loopback, each node with its own sockets: what a hop costs, whether the bytes stay the
//! same over many requests, and whether anybody is taken for dead under load.
//!
//! `cargo bench -p shoal-node --bench rings -- hops [TOKENS]`
//! `cargo bench -p shoal-node --bench rings -- same-bytes [REQUESTS]`
//! `cargo bench -p shoal-node --bench rings -- load [SECONDS]`

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a benchmark prints its result")]
use std::net::{Ipv4Addr, SocketAddr};
use std::process::ExitCode;
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use shoal_base::{Flow, Generate, Prompt, Request, TokenEvent};
use shoal_engine::{EngineOptions, LocalEngine};
use shoal_model::package::{InputFormat, Package, StoredFormat};
use shoal_node::{
    HeadOptions, LayerRange, Node, NodeConfig, NodeId, PlannedStage, RingHead, ServeOptions,
    StaticPlan,
};
use shoal_testkit::{TinyModel, import, tiny_architecture};

const LAYERS: u16 = 5;
const TOGETHER: usize = 9;

fn main() -> ExitCode {
    // Cargo adds its own flag.
    let args: Vec<String> = std::env::args().skip(1).filter(|arg| arg != "--bench").collect();
    let count = args.get(1).map(|count| count.parse::<u32>());
    match (args.first().map(String::as_str), count.transpose()) {
        (Some("hops"), Ok(tokens)) => hops(tokens.unwrap_or(2000)),
        (Some("same-bytes"), Ok(requests)) => same_bytes(requests.unwrap_or(1000) as usize),
        (Some("load"), Ok(seconds)) => load(seconds.unwrap_or(3600)),
        _ => {
            eprintln!("usage: rings hops [TOKENS] | same-bytes [REQUESTS] | load [SECONDS]");
            return ExitCode::from(2);
        }
    }
    ExitCode::SUCCESS
}

/// A ring whose nodes are in this process.
struct Ring {
    head: RingHead,
    stages: Vec<Node>,
    _spares: Vec<Node>,
    _leader: Node,
}

fn package(seed: u64) -> Package {
    let mut architecture = tiny_architecture();
    architecture.layer_count = LAYERS.into();
    architecture.context_tokens = 4096;
    import(&TinyModel::new(architecture, seed), StoredFormat::I8, InputFormat::A8)
}

fn listen() -> SocketAddr {
    (Ipv4Addr::LOCALHOST, 0).into()
}

fn stage(head: NodeId, seed: u8, package: &Package, layers: LayerRange) -> Node {
    let config = NodeConfig { heads: vec![head], ..NodeConfig::new([seed; 32], listen()) };
    let node = Node::start(config).expect("it starts");
    let options = ServeOptions { threads: 1, ..ServeOptions::default() };
    node.serve(package, layers, options).expect("the package has them");
    node
}

/// Stages that end with the layers in `cuts`, each with a spare if asked for.
fn ring(package: &Package, cuts: &[u16], has_spares: bool) -> Ring {
    let leader = Node::start(NodeConfig::new([200; 32], listen())).expect("it starts");
    let head = leader.address().node;
    let starts = std::iter::once(0).chain(cuts.iter().copied());
    let ranges = starts.zip(cuts).map(|(first, &end)| LayerRange { first, end });
    let ranges: Vec<LayerRange> = ranges.collect();
    let nodes = |from: u8| -> Vec<Node> {
        ranges
            .iter()
            .zip(from..)
            .map(|(&layers, seed)| stage(head, seed, package, layers))
            .collect()
    };
    let planned = |nodes: &[Node]| -> Vec<PlannedStage> {
        let planned = nodes.iter().zip(&ranges);
        planned
            .map(|(node, &layers)| PlannedStage { peer: node.address().clone(), layers })
            .collect()
    };
    let stages = nodes(1);
    let spares = if has_spares { nodes(100) } else { Vec::new() };
    let plan = StaticPlan::try_new(LAYERS, planned(&stages), planned(&spares)).expect("a plan");
    let options = HeadOptions { threads: 1, ..HeadOptions::default() };
    let head = leader.head(package, "tiny", plan, options).expect("it leads");
    Ring { head, stages, _spares: spares, _leader: leader }
}

fn request(index: usize, tokens: u32) -> Request {
    let prompt = "a beginning ".repeat(index % 5) + &"x".repeat(index % 60 + 1);
    let mut request = Request::new(Prompt::Text(prompt));
    request.sampling.seed = index as u64;
    request.sampling.temperature = [0.0, 0.7, 1.3][index % 3];
    request.stop.tokens_max = Some(tokens);
    request.stop.ignore_end_of_turn = true;
    request
}

fn start(generate: &dyn Generate, request: Request) -> Receiver<TokenEvent> {
    let (sender, events) = channel();
    let sink = move |event| {
        // Nobody reads on when the check has failed.
        let _ = sender.send(event);
        Flow::Continue
    };
    generate.submit(request, Box::new(sink)).expect("the request is accepted");
    events
}

/// The ids of an answer, and when each came.
fn collect(events: &Receiver<TokenEvent>) -> (Vec<u32>, Vec<Instant>) {
    let (mut ids, mut times) = (Vec::new(), Vec::new());
    loop {
        match events.recv_timeout(Duration::from_secs(120)).expect("events arrive") {
            TokenEvent::Started { .. } => {}
            TokenEvent::Token { id, .. } => {
                ids.push(id.0);
                times.push(Instant::now());
            }
            TokenEvent::Finished { .. } => return (ids, times),
            TokenEvent::Failed(error) => panic!("{error}"),
        }
    }
}

/// Microseconds between tokens, ascending.
fn intervals(package: &Package, cuts: &[u16], tokens: u32) -> Vec<f64> {
    let ring = ring(package, cuts, false);
    let mut all = Vec::new();
    // The first answer makes the connections.
    for (round, count) in [(0, 50), (1, tokens)] {
        let (_, times) = collect(&start(&ring.head, request(round, count)));
        all = times.windows(2).map(|pair| (pair[1] - pair[0]).as_secs_f64() * 1e6).collect();
    }
    all.sort_by(f64::total_cmp);
    all
}

/// A ring of five nodes does what a ring of one does, and four hops more.
fn hops(tokens: u32) {
    let package = package(1);
    let at = |all: &[f64], share: f64| all[((all.len() - 1) as f64 * share) as usize];
    let one = intervals(&package, &[5], tokens);
    println!("stages  token p50 us  token p99 us  per further hop p50 us  p99 us");
    println!("1       {:<12.0}  {:<12.0}", at(&one, 0.5), at(&one, 0.99));
    let all_cuts: [&[u16]; 3] = [&[2, 5], &[1, 3, 5], &[1, 2, 3, 4, 5]];
    for cuts in all_cuts {
        let more = intervals(&package, cuts, tokens);
        let hops = (cuts.len() - 1) as f64;
        // The slowest tokens of the longer ring against the median of the shorter one.
        let hop = |share: f64| (at(&more, share) - at(&one, 0.5)) / hops;
        println!(
            "{:<6}  {:<12.0}  {:<12.0}  {:<22.0}  {:.0}",
            cuts.len(),
            at(&more, 0.5),
            at(&more, 0.99),
            hop(0.5),
            hop(0.99)
        );
    }
}

/// Every way to cut the layers, as the ends of the stages.
fn all_cuts() -> Vec<Vec<u16>> {
    let inner = 1..1_u32 << (LAYERS - 1);
    let cut = |set: u32| {
        let ends = (1..LAYERS).filter(|end| set >> (end - 1) & 1 == 1);
        ends.chain([LAYERS]).collect()
    };
    std::iter::once(0).chain(inner).map(cut).collect()
}

/// Answers of one process against those of rings of every size and cut, nine at once, a stage dying
/// in the middle of every other round.
fn same_bytes(requests: usize) {
    let package = package(2);
    let options = EngineOptions { threads: 1, kv_bytes: 64 << 20, ..EngineOptions::default() };
    let engine = LocalEngine::open(&package, "tiny", None, options).expect("it opens");
    let all_cuts = all_cuts();
    let (mut done, mut replaced) = (0, 0);
    let begun = Instant::now();
    for round in 0.. {
        if done >= requests {
            break;
        }
        let cuts = &all_cuts[round / 2 % all_cuts.len()];
        let dies = round % 2 == 1;
        let mut ring = ring(&package, cuts, dies);
        let asked = |index: usize| request(done + index, 24 + (index * 7 % 40) as u32);
        let running: Vec<_> = (0..TOGETHER).map(|i| start(&ring.head, asked(i))).collect();
        if dies {
            let pause = Duration::from_millis((round * 37 % 90) as u64);
            std::thread::sleep(pause);
            drop(ring.stages.remove(round % cuts.len()));
        }
        for (index, events) in running.iter().enumerate() {
            let (ids, _) = collect(events);
            let (expected, _) = collect(&start(&engine, asked(index)));
            assert_eq!(ids, expected, "request {}, cut after {cuts:?}", done + index);
        }
        replaced += ring.head.status().replaced;
        done += TOGETHER;
    }
    println!(
        "{done} answers in {:.0} s: all equal; {replaced} stages replaced",
        begun.elapsed().as_secs_f64()
    );
}

/// Nine requests at a time, one after the other, with spares that nobody needs.
fn load(seconds: u32) {
    let package = package(3);
    let ring = ring(&package, &[2, 5], true);
    let (begun, time) = (Instant::now(), Duration::from_secs(seconds.into()));
    let (mut answers, mut tokens) = (0_usize, 0_usize);
    let mut running: Vec<_> =
        (0..TOGETHER).map(|index| start(&ring.head, request(index, 200))).collect();
    while begun.elapsed() < time {
        for (index, events) in running.iter_mut().enumerate() {
            tokens += collect(events).0.len();
            answers += 1;
            *events = start(&ring.head, request(answers + index, 200));
        }
    }
    let status = ring.head.status();
    println!(
        "{answers} answers, {tokens} tokens in {:.0} s: {} stages replaced, generation {}",
        begun.elapsed().as_secs_f64(),
        status.replaced,
        status.generation
    );
}
