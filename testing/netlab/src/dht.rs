//! A mainline DHT that consists of a few nodes of one machine, on its loopback.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};

use n0_mainline::Testnet;
use tokio::runtime::Runtime;

use crate::Node;

/// A running DHT. Ends when it is dropped.
#[derive(Debug)]
pub struct Dht {
    _nodes: Testnet,
    _runtime: Runtime,
    port: u16,
}

impl Dht {
    /// Starts so many nodes on a machine of a lab, and waits until they know each other. Only what
    /// runs on the same machine can use it.
    ///
    /// # Errors
    /// The system gives no sockets or threads.
    pub fn start(machine: &Node, count: usize) -> io::Result<Self> {
        machine.enter(move || {
            let mut runtime = tokio::runtime::Builder::new_multi_thread();
            let runtime = runtime.worker_threads(1).enable_all().build()?;
            let nodes = runtime.block_on(Testnet::new(count))?;
            let port = nodes.bootstrap.first().and_then(|place| place.rsplit(':').next());
            let port = port.and_then(|port| port.parse().ok());
            let port = port.ok_or_else(|| io::Error::other("a DHT without nodes"))?;
            Ok(Self { _nodes: nodes, _runtime: runtime, port })
        })
    }

    /// Where to enter it.
    #[must_use]
    pub fn entry(&self) -> SocketAddr {
        SocketAddr::from((Ipv4Addr::LOCALHOST, self.port))
    }
}
