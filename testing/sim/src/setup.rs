//! A swarm at its beginning: nodes of many speeds, with layers in memory, that know each other.

use std::collections::{BTreeMap, HashMap};
use std::time::{Duration, Instant};

use shoal_base::{Digest, PackageId};
use shoal_swarm::{
    Coordinates, Head, HeadPolicy, Holding, Members, ModelShape, Moment, NodeKey, Planner, Random,
    Shadows, Speculation, Stage, StageConfig, StageEvent, Want,
};
use shoal_wire::{Descriptor, LayerRange, List, MemberState, NodeId, Offer, RingId, duties};

use crate::engine::{Engine, WIDTH};
use crate::faults::{Behaviour, Bug};
use crate::invariants::Invariants;
use crate::links::Sites;
use crate::load::Lengths;
use crate::queue::Queue;
use crate::random::Seeded;
use crate::report::Report;
use crate::world::{HeadNode, Node, World};

/// How many tokens times layers a node keeps for all rings.
const CACHE_TOKENS: u64 = 131_072;
/// Round trips a node measures before the run.
const MEASURED: usize = 48;
/// How long the simulator waits for requests that are under way at the end.
const SETTLE: Duration = Duration::from_secs(900);

/// One run.
#[derive(Clone, Debug)]
pub struct Config {
    /// Nodes that hold layers.
    pub nodes: usize,
    /// Nodes that ask.
    pub heads: usize,
    /// Share of the nodes that fail in an hour.
    pub churn: f64,
    /// Share of the nodes that misbehave.
    pub liars: f64,
    /// How often in an hour each head is not awake for up to some seconds.
    pub naps: f64,
    /// How long requests come.
    pub time: Duration,
    /// Requests per second, of all heads.
    pub rate: f64,
    /// Everything follows from it.
    pub seed: u64,
    /// Lengths; those of the trace when `None`.
    pub lengths: Option<Lengths>,
    /// Layers of the model.
    pub layers: u16,
    /// Whether stages have shadows.
    pub shadows: bool,
    /// A defect of the doubles.
    pub bug: Option<Bug>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            nodes: 50,
            heads: 4,
            churn: 0.2,
            liars: 0.02,
            naps: 0.0,
            time: Duration::from_secs(600),
            rate: 0.5,
            seed: 1,
            lengths: None,
            layers: 12,
            shadows: false,
            bug: None,
        }
    }
}

impl Config {
    pub(crate) fn model(&self) -> ModelShape {
        ModelShape {
            package: PackageId(Digest::of(b"the model of the simulator")),
            arithmetic: 1,
            layer_count: self.layers,
            width: WIDTH,
            layer_bytes: 50 << 20,
            cache_bytes: 1024,
        }
    }

    pub(crate) fn policy(&self) -> HeadPolicy {
        let shadows = if self.shadows { Shadows::Always } else { Shadows::Never };
        HeadPolicy { shadows, ..HeadPolicy::default() }
    }

    /// Until when the run goes on at most.
    pub(crate) fn end(&self) -> Moment {
        Moment(0) + self.time + SETTLE
    }
}

impl World {
    /// A swarm in which nothing has happened yet.
    #[must_use]
    pub fn new(config: Config) -> Self {
        let mut random = Seeded(config.seed);
        let total = config.nodes + config.heads;
        let sites = Sites::new(total, &mut random);
        let lengths = config.lengths.clone();
        let policy = config.policy();
        let lengths = lengths.unwrap_or_else(|| Lengths::new(policy.context_tokens, &mut random));
        let places = places(&sites, total, &mut random);
        let nodes: Vec<Node> = (0..config.nodes)
            .map(|index| node(index, &config, places[index], &mut random))
            .collect();
        let heads: Vec<HeadNode> = (0..config.heads)
            .map(|index| head(config.nodes + index, &config, &mut random))
            .collect();
        let mut members = Members::default();
        for node in &nodes {
            let learned = members.learn(node.describe(MemberState::Active), Moment(0));
            learned.expect("nodes sign what they say");
        }
        for (index, head) in heads.iter().enumerate() {
            let mut body = nodes[0].descriptor(MemberState::Active);
            (body.node, body.duties) = (head.key.id(), duties::HEAD);
            body.offers = List::default();
            body.coordinate = places[config.nodes + index].publish();
            members.learn(head.key.sign(body), Moment(0)).expect("heads sign what they say");
        }
        let ids = nodes.iter().map(|node| node.id).chain(heads.iter().map(|head| head.key.id()));
        let index: HashMap<NodeId, u32> = ids.zip(0..).collect();
        let rings: BTreeMap<RingId, usize> =
            heads.iter().enumerate().map(|(index, head)| (head.head.ring(), index)).collect();
        Self {
            report: Report::new(&config, &sites, &lengths),
            arrivals: vec![0; total * total * 2],
            config,
            random,
            now: Moment(0),
            queue: Queue::new(),
            nodes,
            heads,
            index,
            rings,
            members,
            sites,
            lengths,
            invariants: Invariants::default(),
            partition: Vec::new(),
            stage_out: Vec::new(),
            head_out: Vec::new(),
        }
    }
}

/// Each node measures a few others, and learns where it is.
fn places(sites: &Sites, total: usize, random: &mut Seeded) -> Vec<Coordinates> {
    let mut places = vec![Coordinates::default(); total];
    for _ in 0..MEASURED {
        for node in 0..total {
            let peer = random.below(total as u64) as usize;
            if peer != node {
                let rtt_us = (sites.one_way_us(node, peer) * 2).max(1);
                let there = places[peer].publish();
                places[node].learn(&there, u32::try_from(rtt_us).unwrap_or(u32::MAX));
            }
        }
    }
    places
}

fn key(index: usize, seed: u64) -> NodeKey {
    let mut secret = [0; 32];
    secret[..8].copy_from_slice(&(index as u64 + 1).to_le_bytes());
    secret[8..16].copy_from_slice(&seed.to_le_bytes());
    NodeKey::new(&secret)
}

fn node(index: usize, config: &Config, place: Coordinates, random: &mut Seeded) -> Node {
    let key = key(index, config.seed);
    // A third, a half or two thirds of the layers fit, so that every ring has several stages.
    let piece = (config.layers / 6).max(1);
    let count = piece * [2, 3, 3, 4][random.below(4) as usize];
    let first = (random.below(u64::from((config.layers - count) / piece + 1)) as u16) * piece;
    let layers = LayerRange { first, end: first + count };
    let behaviour = match random.chance(config.liars) {
        true => Behaviour::BAD[random.below(Behaviour::BAD.len() as u64) as usize],
        false => Behaviour::Honest,
    };
    let mut node = Node {
        id: key.id(),
        key,
        stage: Stage::new(NodeId([0; 32]), StageConfig::default()),
        engine: Engine::default(),
        life: 0,
        is_alive: true,
        frozen_until: Moment(0),
        behaviour,
        slow: 1.0,
        layer_us: 150.0 + random.exponential(350.0),
        layers,
        place: place.publish(),
        uplink_bytes_per_s: 2.5e6 * 2_f64.powf(random.unit() * 5.0),
        uplink_free: Moment(0),
        sequence: 1,
        wake: None,
        in_flight: BTreeMap::new(),
        leaves_at: None,
    };
    node.start(config);
    node
}

fn head(index: usize, config: &Config, random: &mut Seeded) -> HeadNode {
    let key = key(index, config.seed);
    let ring = RingId(random.next_id());
    HeadNode {
        head: Head::new(key.id(), ring, config.model(), config.policy()),
        key,
        next_request: 0,
        wake: None,
        asleep_until: Moment(0),
        last_sample: None,
        times: BTreeMap::new(),
    }
}

impl Node {
    /// A process that has just started: layers in memory, nothing else.
    pub(crate) fn start(&mut self, config: &Config) {
        self.engine = Engine::default();
        self.stage = Stage::new(self.id, StageConfig::default());
        let holding = Holding {
            arithmetic: 1,
            width: WIDTH,
            loaded: vec![self.layers],
            held: vec![self.layers],
            cache_token_layers: CACHE_TOKENS * u64::from(self.layers.count()),
        };
        let package = config.model().package;
        let event = StageEvent::Holding { package, holding: Some(holding) };
        self.stage.handle(event, Moment(0), &mut Vec::new());
        self.wake = None;
    }

    pub(crate) fn descriptor(&self, state: MemberState) -> Descriptor {
        let config = Config::default();
        let offer = Offer {
            package: config.model().package,
            arithmetic: 1,
            held: List::truncated([self.layers]),
            loaded: List::truncated([self.layers]),
            decode_ns: (self.layer_us * 1000.0) as u32,
            prefill_ns: (self.layer_us * 40.0) as u32,
            cache_tokens_free: CACHE_TOKENS as u32,
        };
        Descriptor {
            node: self.id,
            sequence: self.sequence,
            lifetime_s: shoal_wire::limits::LIFETIME_S_MAX,
            state,
            duties: duties::STAGE,
            certificate: None,
            addresses: List::default(),
            memory_free_bytes: 64 << 30,
            disk_free_bytes: 0,
            uplink_bytes_per_s: self.uplink_bytes_per_s as u64,
            downlink_bytes_per_s: 0,
            coordinate: self.place,
            offers: List::truncated([offer]),
            links: List::default(),
        }
    }

    pub(crate) fn describe(&self, state: MemberState) -> shoal_wire::Signed<Descriptor> {
        self.key.sign(self.descriptor(state))
    }
}

/// The time a plan takes over so many members of one package, and spares for one stage of it.
#[must_use]
pub fn plan_bench(nodes: usize, rounds: usize) -> Vec<Duration> {
    let config = Config { nodes, heads: 1, ..Config::default() };
    let world = World::new(config.clone());
    let mut random = Seeded(7);
    let want = Want {
        cache_tokens: config.policy().cache_tokens,
        may_fetch: false,
        speculation: Speculation::Off,
    };
    let head = world.heads[0].key.id();
    let time = |_| {
        let started = Instant::now();
        let planner = Planner::new(&world.members, head, config.model(), want);
        let planner = planner.expect("the head is a member");
        let plans = planner.plans(&mut random).expect("there is a plan");
        let layers = plans[0].stages[0].layers;
        assert!(!planner.spares(layers).is_empty(), "there are spares");
        started.elapsed()
    };
    (0..rounds).map(time).collect()
}
