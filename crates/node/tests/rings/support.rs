//! Nodes, plans and requests for tests.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use shoal_base::{
    FinishReason, Flow, Generate, GenerateError, LogprobsRequest, Prompt, Request, TokenEvent,
};
use shoal_engine::{EngineOptions, LocalEngine};
use shoal_model::package::{InputFormat, Package, StoredFormat};
use shoal_net::PeerAddress;
use shoal_node::{HeadOptions, Node, NodeConfig, PlannedStage, RingHead, ServeOptions, StaticPlan};
use shoal_testkit::{TinyModel, import, tiny_architecture};
use shoal_wire::{LayerRange, NodeId};

pub(crate) const LAYERS: u16 = 5;
const HEAD: u8 = 200;

pub(crate) fn local() -> SocketAddr {
    (Ipv4Addr::LOCALHOST, 0).into()
}

/// Five layers of random weights.
pub(crate) fn package(seed: u64) -> Package {
    let mut architecture = tiny_architecture();
    architecture.layer_count = LAYERS.into();
    import(&TinyModel::new(architecture, seed), StoredFormat::I8, InputFormat::A8)
}

pub(crate) fn engine(package: &Package) -> LocalEngine {
    let options = EngineOptions { threads: 1, kv_bytes: 64 << 20, ..EngineOptions::default() };
    LocalEngine::open(package, "tiny", None, options).expect("it opens")
}

pub(crate) fn range(first: u16, end: u16) -> LayerRange {
    LayerRange::try_new(first, end).expect("a range")
}

/// The id of the node that leads in tests.
pub(crate) fn leader() -> NodeId {
    shoal_net::SecretKey::new(&[HEAD; 32]).id()
}

pub(crate) fn lead() -> Node {
    Node::start(NodeConfig::new([HEAD; 32], local())).expect("it starts")
}

/// A node that serves layers to [`leader`].
pub(crate) fn stage(seed: u8, package: &Package, layers: LayerRange) -> Node {
    stage_for(vec![leader()], seed, package, layers)
}

pub(crate) fn stage_for(
    heads: Vec<NodeId>,
    seed: u8,
    package: &Package,
    layers: LayerRange,
) -> Node {
    let config = NodeConfig { heads, ..NodeConfig::new([seed; 32], local()) };
    let node = Node::start(config).expect("it starts");
    let options = ServeOptions { threads: 1, ..ServeOptions::default() };
    node.serve(package, layers, options).expect("the package has them");
    node
}

pub(crate) fn planned(peer: &PeerAddress, layers: LayerRange) -> PlannedStage {
    PlannedStage { peer: peer.clone(), layers }
}

/// A ring on nodes of its own.
pub(crate) struct Ring {
    pub(crate) head: RingHead,
    pub(crate) stages: Vec<Node>,
    pub(crate) spares: Vec<Node>,
    _leader: Node,
}

/// Stages that end with the layers in `cuts`; spares hold the layers of the stages named.
pub(crate) fn ring(package: &Package, cuts: &[u16], spares: &[usize]) -> Ring {
    let starts = std::iter::once(0).chain(cuts.iter().copied());
    let ranges: Vec<LayerRange> = starts.zip(cuts).map(|(first, &end)| range(first, end)).collect();
    let stages = ranges.iter().zip(1..).map(|(layers, seed)| stage(seed, package, *layers));
    let stages: Vec<Node> = stages.collect();
    let spare_nodes = spares.iter().zip(100..);
    let spare_nodes = spare_nodes.map(|(&index, seed)| stage(seed, package, ranges[index]));
    let spare_nodes: Vec<Node> = spare_nodes.collect();
    let plan = stages.iter().zip(&ranges).map(|(node, layers)| planned(node.address(), *layers));
    let stand_by = spare_nodes.iter().zip(spares);
    let stand_by = stand_by.map(|(node, &index)| planned(node.address(), ranges[index]));
    let plan = StaticPlan::try_new(LAYERS, plan.collect(), stand_by.collect()).expect("a plan");
    let leader = lead();
    let head = follow(&leader, package, plan, Duration::from_secs(5));
    Ring { head, stages, spares: spare_nodes, _leader: leader }
}

pub(crate) fn follow(
    leader: &Node,
    package: &Package,
    plan: StaticPlan,
    patience: Duration,
) -> RingHead {
    let mut options = HeadOptions { threads: 1, patience, ..HeadOptions::default() };
    // Pieces of prompts that are shorter than the prompts of the tests.
    options.policy.frame_rows = 40;
    leader.head(package, "tiny", plan, options).expect("it leads")
}

/// Requests of all kinds: greedy and sampled, short and in several pieces.
pub(crate) fn requests() -> Vec<Request> {
    (0..9)
        .map(|i| {
            let prompt = "a shared beginning ".repeat(i % 4) + &"x".repeat(i * 9 + 1);
            let mut request = Request::new(Prompt::Text(prompt));
            request.sampling.seed = i as u64;
            request.sampling.temperature = [0.0, 0.7, 1.3][i % 3];
            request.sampling.frequency_penalty = [0.0, 0.5][i % 2];
            request.logprobs = (i % 4 == 0).then_some(LogprobsRequest { top_count: 2 });
            request.stop.tokens_max = Some(20 + i as u32);
            request.stop.ignore_end_of_turn = true;
            request
        })
        .collect()
}

/// A whole answer: every event but the times.
#[derive(Debug, PartialEq)]
pub(crate) struct Whole {
    pub(crate) tokens: Vec<TokenEvent>,
    pub(crate) reason: FinishReason,
    pub(crate) text: String,
    pub(crate) prompt_tokens: u32,
    pub(crate) completion_tokens: u32,
}

pub(crate) fn start(generate: &dyn Generate, request: Request) -> Receiver<TokenEvent> {
    let (sender, events) = channel();
    let sink = move |event| match sender.send(event) {
        Ok(()) => Flow::Continue,
        Err(_) => Flow::Stop,
    };
    generate.submit(request, Box::new(sink)).expect("the request is accepted");
    events
}

pub(crate) fn collect(events: &Receiver<TokenEvent>) -> Result<Whole, GenerateError> {
    let mut tokens = Vec::new();
    loop {
        match events.recv_timeout(Duration::from_secs(120)).expect("events arrive") {
            TokenEvent::Started { .. } => assert!(tokens.is_empty(), "it starts once"),
            event @ TokenEvent::Token { .. } => tokens.push(event),
            TokenEvent::Finished { reason, text, usage, .. } => {
                let (prompt_tokens, completion_tokens) =
                    (usage.prompt_tokens, usage.completion_tokens);
                return Ok(Whole { tokens, reason, text, prompt_tokens, completion_tokens });
            }
            TokenEvent::Failed(error) => return Err(error),
        }
    }
}

pub(crate) fn answer(generate: &dyn Generate, request: Request) -> Result<Whole, GenerateError> {
    collect(&start(generate, request))
}

/// What one process says, one request at a time.
pub(crate) fn expected(package: &Package) -> Vec<Whole> {
    let engine = engine(package);
    let alone = requests().into_iter().map(|request| answer(&engine, request));
    alone.collect::<Result<_, _>>().expect("one process answers")
}

/// What a ring says, all requests at once.
pub(crate) fn together(head: &RingHead) -> Vec<Whole> {
    let running: Vec<_> = requests().into_iter().map(|request| start(head, request)).collect();
    running.iter().map(|events| collect(events).expect("the ring answers")).collect()
}
