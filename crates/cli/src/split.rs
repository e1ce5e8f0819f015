//! `shoal up --nodes N`: models split over processes of this machine, to look at a swarm at home;
//! and `shoal up --stage …`: a model over stages that run already, here or elsewhere.
//!
//! A process of this machine serves a range of layers of each model on loopback and ends with this
//! one. Stages elsewhere are `shoal serve` of people who named this node as head.

use std::io::{BufRead as _, BufReader};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;

use shoal_base::Generate;
use shoal_gateway::{MapMember, MapRing, Models, Offer, OpenError, SwarmMap};
use shoal_model::package::Package;
use shoal_node::{
    Discovery, HeadOptions, LayerRange, Node, NodeConfig, PeerAddress, PlannedStage, RelayUrl,
    RingHead, Shadows, StaticPlan,
};

use crate::failure::{Code, Failure};
use crate::map;
use crate::nodes::{self, Key, StageAt};
use crate::relays;
use crate::session::Session;

/// A model and the name it is served under.
type Named = (String, Package);

/// Where stages are that run already.
#[derive(Debug, clap::Args)]
pub(crate) struct Elsewhere {
    /// Stage that runs already and its layers, one after the other from layer 0: the node and the
    /// layers as `shoal serve` prints them, such as NODE@10.0.0.7:4000=0-11
    #[arg(long, value_name = "NODE@ADDRESS=A-B", conflicts_with_all = ["nodes", "keep_alive_s"])]
    stage: Vec<StageAt>,

    /// Stage that stands by, with the layers of one of the others. One that serves what it is asked
    /// for loads them as soon as there is a first request
    #[arg(long, value_name = "NODE@ADDRESS=A-B", requires = "stage")]
    spare: Vec<StageAt>,

    /// Address and port to reach stages from; every address and a free port unless given
    #[arg(long, value_name = "ADDRESS", requires = "stage", default_value_t = SocketAddr::new(
        IpAddr::V4(Ipv4Addr::UNSPECIFIED), 0
    ))]
    listen_stages: SocketAddr,

    #[command(flatten)]
    key: Key,
}

impl Elsewhere {
    /// Whether there are any. A key without them would be of no use.
    pub(crate) fn is_used(&self) -> Result<bool, Failure> {
        match (self.stage.is_empty(), self.key.is_given()) {
            (true, true) => Err(Failure::usage("--key is for --stage")),
            (is_empty, _) => Ok(!is_empty),
        }
    }
}

/// Models, each on a ring of processes.
pub(crate) struct Split {
    rings: Vec<(String, Arc<RingHead>)>,
    /// Ends after the rings, and the processes after it.
    node: Node,
    stages: Vec<Stage>,
}

/// A process that serves layers of one model.
struct Stage {
    child: Child,
    address: PeerAddress,
    layers: LayerRange,
}

impl Drop for Stage {
    fn drop(&mut self) {
        // It ends by itself with its input; this is for one that hangs.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Split {
    /// Starts `count` processes for each model.
    pub(crate) fn start(session: &Session, models: &[Named], count: u16) -> Result<Self, Failure> {
        let listen = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let mut config = NodeConfig::new(nodes::secret()?, listen);
        // Stages of its rings may fetch their layers from it.
        config.store = Some(session.store()?.clone());
        let node = Node::start(config)?;
        let mut rings = Vec::new();
        let mut stages = Vec::new();
        for (name, package) in models {
            let ring = ring(session, &node, (name, package), count)?;
            rings.push((name.clone(), Arc::new(ring.0)));
            stages.extend(ring.1);
        }
        Ok(Self { rings, node, stages })
    }

    /// Uses stages that run already.
    pub(crate) fn over(
        session: &Session,
        models: &[Named],
        elsewhere: &Elsewhere,
        relays: Vec<RelayUrl>,
        shadows: Shadows,
        discovery: Option<Discovery>,
    ) -> Result<Self, Failure> {
        let [(name, package)] = models else {
            return Err(Failure::usage("--stage serves one model"));
        };
        let layer_count = nodes::layer_count(package)?;
        let planned = |stages: &[StageAt]| -> Result<Vec<_>, Failure> {
            stages.iter().map(|stage| stage.planned(layer_count)).collect()
        };
        let (stages, spares) = (planned(&elsewhere.stage)?, planned(&elsewhere.spare)?);
        let plan = StaticPlan::try_new(layer_count, stages, spares);
        let plan = plan.map_err(|error| Failure::usage(error.to_string()))?;
        let mut config = NodeConfig::new(elsewhere.key.secret()?, elsewhere.listen_stages);
        config.relays = relays;
        // A spare that lacks layers may fetch them from here.
        config.store = Some(session.store()?.clone());
        config.discovery = discovery;
        let node = Node::start(config)?;
        relays::warn(&node.relays());
        let mut options = HeadOptions { threads: session.threads, ..HeadOptions::default() };
        options.policy.shadows = shadows;
        let ring = Arc::new(node.head(package, name, plan, options)?);
        Ok(Self { rings: vec![(name.clone(), ring)], node, stages: Vec::new() })
    }

    /// The node that leads, if its stages are elsewhere.
    pub(crate) fn leader(&self) -> Option<&Node> {
        self.stages.is_empty().then_some(&self.node)
    }

    /// The ring of the first model.
    pub(crate) fn first(&self) -> Option<Arc<dyn Generate>> {
        self.rings.first().map(|(_, ring)| Arc::clone(ring) as Arc<dyn Generate>)
    }
}

fn ring(
    session: &Session,
    node: &Node,
    (name, package): (&str, &Package),
    count: u16,
) -> Result<(RingHead, Vec<Stage>), Failure> {
    let layer_count = nodes::layer_count(package)?;
    if count > layer_count {
        let message = format!("{count} nodes for the {layer_count} layers of {name:?}");
        return Err(Failure::usage(message));
    }
    let threads = (session.threads / usize::from(count)).max(1);
    let cut = |index: u32| (u32::from(layer_count) * index / u32::from(count)) as u16;
    let mut stages = Vec::new();
    for index in 0..u32::from(count) {
        let layers = nodes::range(cut(index), cut(index + 1))?;
        stages.push(spawn(package, layers, node, threads)?);
    }
    let planned = stages
        .iter()
        .map(|stage| PlannedStage { peer: stage.address.clone(), layers: stage.layers });
    let plan = StaticPlan::try_new(layer_count, planned.collect(), Vec::new());
    let plan = plan.map_err(|error| Failure::usage(error.to_string()))?;
    let options = HeadOptions { threads: session.threads, ..HeadOptions::default() };
    Ok((node.head(package, name, plan, options)?, stages))
}

/// Starts a process and waits until it serves.
fn spawn(
    package: &Package,
    layers: LayerRange,
    leader: &Node,
    threads: usize,
) -> Result<Stage, Failure> {
    let failed = |what: &str| Failure::new(Code::Failed, format!("starting a node: {what}"));
    let program = std::env::current_exe().map_err(|error| failed(&error.to_string()))?;
    let mut command = Command::new(program);
    command.args(["serve", "--json", "--until-stdin-ends", "--for-owner"]);
    command.args(["--model", &package.id().to_string()]);
    command.args(["--layers", &format!("{}-{}", layers.first, layers.end - 1)]);
    command.args(["--head", &leader.address().node.to_string()]);
    command.args(["--threads", &threads.to_string()]);
    // Ctrl-C is for this process: it lets answers end before it ends the others.
    command.process_group(0);
    let child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn();
    let mut child = child.map_err(|error| failed(&error.to_string()))?;
    let mut line = String::new();
    let output = child.stdout.take().expect("it is piped");
    let read = BufReader::new(output).read_line(&mut line);
    let address = read.ok().and_then(|_| address(&line));
    match address {
        Some(address) => Ok(Stage { child, address, layers }),
        None => {
            let _ = child.kill();
            let _ = child.wait();
            Err(failed("it did not say where it is"))
        }
    }
}

fn address(line: &str) -> Option<PeerAddress> {
    let screen: serde_json::Value = serde_json::from_str(line).ok()?;
    screen["node"].as_str()?.parse().ok()
}

impl Models for Split {
    fn offers(&self) -> Vec<Offer> {
        let offer = |(name, ring): &(String, Arc<RingHead>)| Offer {
            name: name.clone(),
            card: Some(ring.card().clone()),
            load: None,
        };
        self.rings.iter().map(offer).collect()
    }

    fn map(&self) -> Option<SwarmMap> {
        let rings: Vec<MapRing> =
            self.rings.iter().map(|(name, ring)| map::ring(name, ring)).collect();
        let node = self.node.address().node.to_string();
        let me = MapMember { node: node.clone(), is_connected: true, ..MapMember::default() };
        let ways = self.node.ways().unwrap_or_default();
        let way = |stage: &str| {
            let found = ways.iter().find(|(peer, _)| peer.to_string() == stage);
            found.map(|(_, is_relayed)| *is_relayed)
        };
        let mut members = vec![me];
        for ring in &rings {
            for stage in &ring.stages {
                if members.iter().all(|member| member.node != stage.node) {
                    members.push(map::stage_only(stage, &ring.model, way(&stage.node)));
                }
            }
        }
        Some(SwarmMap { node, members, rings })
    }

    fn open(&self, name: &str) -> Result<Arc<dyn Generate>, OpenError> {
        let ring = self.rings.iter().find(|(known, _)| known == name);
        let ring = ring.ok_or_else(|| OpenError::Unknown { name: name.to_owned() })?;
        Ok(Arc::clone(&ring.1) as Arc<dyn Generate>)
    }
}
