//! A lab: nodes, the router between them, and what goes wrong.

use std::collections::BTreeSet;
use std::io;
use std::sync::Arc;

use nix::sys::signal::Signal;

use crate::fault::Fault;
use crate::lateness::Lateness;
use crate::leftovers;
use crate::link::{Access, Counts, Link, Sent};
use crate::network::{Network, place};
use crate::node::Node;
use crate::profile::Profile;
use crate::router::{Router, Shared};

/// Nodes of one lab.
const NODES_MAX: usize = 250;

/// What a lab is made of.
#[derive(Clone, Debug)]
pub struct LabConfig {
    /// How each node is connected.
    pub nodes: Vec<Access>,
    /// What lies between any two.
    pub link: Link,
    /// What chance follows from.
    pub seed: u64,
}

impl LabConfig {
    /// So many nodes of a profile.
    #[must_use]
    pub fn new(profile: &Profile, count: usize) -> Self {
        let nodes = (0..count).map(|node| profile.access(node)).collect();
        Self { nodes, link: profile.link(), seed: 0 }
    }
}

/// Why a lab does not start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LabError {
    /// No nodes, or too many.
    #[error("{got} nodes, 1 to {limit} are possible")]
    Nodes {
        /// How many.
        got: usize,
        /// How many are possible.
        limit: usize,
    },
    /// The machine lacks something.
    #[error("{0}")]
    Missing(String),
    /// The system refused something for a node.
    #[error("node {node}: {source}")]
    Node {
        /// Which one.
        node: usize,
        /// What it said.
        source: io::Error,
    },
    /// The system refused something else.
    #[error("starting the lab: {0}")]
    Start(#[from] io::Error),
}

/// A running lab. Dropping it ends its processes and removes its network.
#[derive(Debug)]
pub struct Lab {
    nodes: Vec<Node>,
    shared: Arc<Shared>,
    /// Ends before the nodes do.
    router: Option<Router>,
}

impl Lab {
    /// Builds the network. Processes of labs that were killed are ended first.
    ///
    /// # Errors
    /// The machine cannot run labs, or the numbers make no sense.
    pub fn start(config: &LabConfig) -> Result<Self, LabError> {
        let got = config.nodes.len();
        if got == 0 || got > NODES_MAX {
            return Err(LabError::Nodes { got, limit: NODES_MAX });
        }
        if let Some(missing) = crate::missing() {
            return Err(LabError::Missing(missing));
        }
        leftovers::sweep()?;
        let (mut nodes, mut devices) = (Vec::new(), Vec::new());
        for (index, access) in config.nodes.iter().enumerate() {
            let started = Node::start(index, place(index, access));
            let started = started.map_err(|source| LabError::Node { node: index, source });
            let (node, device) = started?;
            nodes.push(node);
            devices.push(device);
        }
        let network = Network::new(&config.nodes, config.link, config.seed);
        let shared = Arc::new(Shared::new(network));
        let router = Some(Router::start(Arc::clone(&shared), devices)?);
        Ok(Self { nodes, shared, router })
    }

    /// How many nodes there are.
    #[must_use]
    pub fn count(&self) -> usize {
        self.nodes.len()
    }

    /// A node.
    ///
    /// # Panics
    /// When there are not so many.
    #[must_use]
    pub fn node(&self, index: usize) -> &Node {
        &self.nodes[index]
    }

    /// Packets from one node to another so far.
    ///
    /// # Panics
    /// When there are not so many nodes.
    #[must_use]
    pub fn counts(&self, from: usize, to: usize) -> Counts {
        assert!(from < self.count() && to < self.count(), "node {from} or {to}");
        self.shared.network().counts(from, to)
    }

    /// Packets that a node has sent so far, to whomever.
    ///
    /// # Panics
    /// When there are not so many nodes.
    #[must_use]
    pub fn sent(&self, from: usize) -> Sent {
        assert!(from < self.count(), "node {from}");
        self.shared.network().sent(from)
    }

    /// Packets that were not IPv4, or from or for nobody.
    #[must_use]
    pub fn stray_packets(&self) -> u64 {
        self.shared.network().stray
    }

    /// How punctual the router was so far.
    #[must_use]
    pub fn lateness(&self) -> Lateness {
        self.shared.lateness().clone()
    }

    /// Changes the way from one node to another, in this direction.
    ///
    /// # Panics
    /// When there are not so many nodes.
    pub fn set_link(&self, from: usize, to: usize, link: Link) {
        assert!(from < self.count() && to < self.count(), "node {from} or {to}");
        self.shared.network().way(from, to).link = link;
    }

    /// Lets something go wrong, or right again, now.
    ///
    /// # Panics
    /// When it names a node that is not there.
    pub fn apply(&self, fault: Fault) {
        assert!(fault.nodes().all(|node| node < self.count()), "{fault:?}");
        match fault {
            Fault::Kill(node) => self.nodes[node].signal(Signal::SIGKILL),
            Fault::Freeze(node) => self.nodes[node].signal(Signal::SIGSTOP),
            Fault::Thaw(node) => self.nodes[node].signal(Signal::SIGCONT),
            Fault::CutNode(node) => self.cut(true, |from, to| from == node || to == node),
            Fault::HealNode(node) => self.cut(false, |from, to| from == node || to == node),
            Fault::CutLink(a, b) => {
                self.cut(true, |from, to| [from, to] == [a, b] || [to, from] == [a, b])
            }
            Fault::HealLink(a, b) => {
                self.cut(false, |from, to| [from, to] == [a, b] || [to, from] == [a, b])
            }
            Fault::HealAll => self.cut(false, |_, _| true),
        }
    }

    fn cut(&self, is_cut: bool, which: impl Fn(usize, usize) -> bool) {
        let mut network = self.shared.network();
        let count = network.count();
        for (from, to) in (0..count).flat_map(|from| (0..count).map(move |to| (from, to))) {
            if which(from, to) {
                network.way(from, to).is_cut = is_cut;
            }
        }
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        for node in &self.nodes {
            node.signal(Signal::SIGKILL);
        }
        let namespaces: BTreeSet<u64> = self.nodes.iter().map(Node::namespace).collect();
        leftovers::empty(&namespaces);
        // The devices end with the router.
        drop(self.router.take());
    }
}
