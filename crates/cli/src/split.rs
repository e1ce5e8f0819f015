//! `shoal up --nodes N`: models split over processes of this machine, to look at a swarm at home.
//!
//! Each process serves a range of layers of each model on loopback and ends with this one.

use std::io::{BufRead as _, BufReader};
use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;

use shoal_base::Generate;
use shoal_gateway::{Models, Offer, OpenError};
use shoal_model::package::Package;
use shoal_node::{
    HeadOptions, LayerRange, Node, NodeConfig, PeerAddress, PlannedStage, RingHead, StaticPlan,
};

use crate::failure::{Code, Failure};
use crate::nodes;
use crate::session::Session;

/// A model and the name it is served under.
type Named = (String, Package);

/// Models, each on a ring of processes.
pub(crate) struct Split {
    rings: Vec<(String, Arc<RingHead>)>,
    /// Ends after the rings, and the processes after it.
    _node: Node,
    _stages: Vec<Stage>,
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
        Ok(Self { rings, _node: node, _stages: stages })
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
    command.args(["serve", "--json", "--until-stdin-ends", "--model", &package.id().to_string()]);
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

    fn open(&self, name: &str) -> Result<Arc<dyn Generate>, OpenError> {
        let ring = self.rings.iter().find(|(known, _)| known == name);
        let ring = ring.ok_or_else(|| OpenError::Unknown { name: name.to_owned() })?;
        Ok(Arc::clone(&ring.1) as Arc<dyn Generate>)
    }
}
