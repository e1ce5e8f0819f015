//! A relay for nodes, and what stands between this machine and the others. Neither needs a node.

use std::net::{IpAddr, SocketAddr};

use shoal_net::{NatReport, RelayCounts, RelayOptions, RelayServer, RelayUrl, nat_kind};
use tokio::runtime::Runtime;

use crate::NodeError;
use crate::limits::STOP;

/// Threads of a relay: it copies bytes.
const RELAY_THREADS: usize = 2;

/// A running relay. Dropping it stops it.
#[derive(Debug)]
pub struct Relay {
    server: Option<RelayServer>,
    runtime: Option<Runtime>,
}

impl Relay {
    /// Starts a relay.
    ///
    /// # Errors
    /// A port is taken, or the system gives no threads.
    pub fn start(options: &RelayOptions) -> Result<Self, NodeError> {
        let mut runtime = tokio::runtime::Builder::new_multi_thread();
        let runtime = runtime.worker_threads(RELAY_THREADS).thread_name("shoal-relay");
        let runtime = runtime.enable_all().build()?;
        let server = runtime.block_on(RelayServer::start(options))?;
        Ok(Self { server: Some(server), runtime: Some(runtime) })
    }

    /// How others name it when it can be reached at `ip`.
    #[must_use]
    pub fn url(&self, ip: IpAddr) -> RelayUrl {
        self.server().url(ip)
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.server().address()
    }

    /// What it has done so far.
    #[must_use]
    pub fn counts(&self) -> RelayCounts {
        self.server().counts()
    }

    fn server(&self) -> &RelayServer {
        self.server.as_ref().expect("it is there until the end")
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        let Some(runtime) = self.runtime.take() else {
            return;
        };
        // Its tasks end with it, on their own runtime.
        let guard = runtime.enter();
        self.server = None;
        drop(guard);
        runtime.shutdown_timeout(STOP);
    }
}

/// Asks relays how a socket at `from` looks from outside.
///
/// # Errors
/// There is no such socket to be had.
pub fn nat_report(from: IpAddr, relays: &[RelayUrl]) -> Result<NatReport, NodeError> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let report = runtime.block_on(nat_kind(from, relays));
    // A name that is still being looked up is waited for by nobody.
    runtime.shutdown_background();
    Ok(report?)
}
