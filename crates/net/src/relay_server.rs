//! The relay that nodes meet at when none can reach the other: iroh's own, with limits. ADR 0008.

use std::collections::BTreeSet;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use iroh::PublicKey;
use iroh_relay::server::{
    Access, AccessControl, ClientRateLimit, ClientRequest, ConnectionId, QuicConfig, RelayConfig,
    Server, ServerConfig,
};
use shoal_wire::NodeId;

use crate::limits::BIND_TRIES;
use crate::{NetError, RelayUrl, tls};

/// How a relay runs.
#[derive(Clone, Debug)]
pub struct RelayOptions {
    /// Where it listens: TCP for what is relayed, UDP on this port and the next to tell nodes how
    /// they look from outside. Port 0 takes free ones.
    pub listen: SocketAddr,
    /// Nodes at once.
    pub clients_max: usize,
    /// Bytes per second it takes from each of them.
    pub client_bytes_per_s: NonZeroU32,
    /// Who may use it; everybody if nobody is named.
    pub allow: Vec<NodeId>,
}

/// What a relay has done so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RelayCounts {
    /// Connections of nodes at present.
    pub clients: usize,
    /// Connections so far.
    pub accepted: u64,
    /// Connections it refused.
    pub refused: u64,
    /// Bytes it passed on.
    pub bytes: u64,
    /// Packets it passed on, several at a time counted as one.
    pub packets: u64,
    /// Packets nobody was there for.
    pub dropped: u64,
    /// Bytes it took later because a node sent more than it may.
    pub delayed_bytes: u64,
}

/// A running relay. Dropping it stops it.
#[derive(Debug)]
pub struct RelayServer {
    server: Server,
    /// Tells nodes how they look from a second port.
    _second: Server,
    address: SocketAddr,
    door: Arc<Door>,
}

/// Who comes in.
#[derive(Debug)]
struct Door {
    allow: BTreeSet<PublicKey>,
    clients_max: usize,
    clients: AtomicUsize,
    refused: AtomicUsize,
}

impl AccessControl for Door {
    async fn on_connect(&self, request: &ClientRequest) -> Access {
        let is_allowed = self.allow.is_empty() || self.allow.contains(&request.endpoint_id());
        let has_room = |clients| (clients < self.clients_max).then_some(clients + 1);
        let (set, read) = (Ordering::Relaxed, Ordering::Relaxed);
        let reason = match is_allowed {
            false => "this relay serves other nodes",
            true if self.clients.fetch_update(set, read, has_room).is_ok() => return Access::Allow,
            true => "this relay is full",
        };
        self.refused.fetch_add(1, Ordering::Relaxed);
        Access::Deny { reason: Some(reason.to_owned()) }
    }

    fn on_disconnect(&self, _: PublicKey, _: ConnectionId) {
        self.clients.fetch_sub(1, Ordering::Relaxed);
    }
}

impl RelayServer {
    /// Starts a relay.
    ///
    /// # Errors
    /// A port is taken, the address is not of this machine, or a node that is to be allowed has no
    /// valid key.
    pub async fn start(options: &RelayOptions) -> Result<Self, NetError> {
        let keys = options.allow.iter().map(|node| PublicKey::from_bytes(&node.0));
        let refuse = |source| NetError::Bind { address: options.listen, source };
        let allow = keys.collect::<Result<_, _>>();
        let door = Arc::new(Door {
            allow: allow.map_err(|error| refuse(io::Error::other(error)))?,
            clients_max: options.clients_max,
            clients: AtomicUsize::new(0),
            refused: AtomicUsize::new(0),
        });
        // Three free ports, two of them side by side: a few tries when any will do.
        let tries = if options.listen.port() == 0 { BIND_TRIES } else { 1 };
        let mut failure = io::Error::from(io::ErrorKind::AddrInUse);
        for _ in 0..tries {
            match Self::bind(options, Arc::clone(&door)).await {
                Ok(server) => return Ok(server),
                Err(error) => failure = error,
            }
        }
        Err(refuse(failure))
    }

    async fn bind(options: &RelayOptions, door: Arc<Door>) -> io::Result<Self> {
        let mut relay = RelayConfig::new(options.listen);
        let mut rate = ClientRateLimit::new(options.client_bytes_per_s);
        rate.max_burst_bytes = Some(options.client_bytes_per_s);
        relay.limits.client_rx = Some(rate);
        relay.access = Arc::clone(&door) as _;
        // The number of its port is needed for the others.
        let probe = std::net::TcpListener::bind(options.listen)?;
        let address = probe.local_addr()?;
        drop(probe);
        relay.http_bind_addr = address;
        let mut config = ServerConfig::default();
        config.relay = Some(relay);
        config.quic = Some(mirror(address)?);
        let server = Server::spawn(config).await.map_err(io::Error::other)?;
        let next = address.port().checked_add(1).ok_or(io::ErrorKind::AddrNotAvailable)?;
        let mut config = ServerConfig::default();
        config.quic = Some(mirror(SocketAddr::new(address.ip(), next))?);
        let second = Server::spawn(config).await.map_err(io::Error::other)?;
        Ok(Self { server, _second: second, address, door })
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// How others name it when it can be reached at `ip`.
    #[must_use]
    pub fn url(&self, ip: IpAddr) -> RelayUrl {
        let text = format!("http://{}", SocketAddr::new(ip, self.address.port()));
        text.parse().expect("an address and a port are a relay")
    }

    /// What it has done so far.
    #[must_use]
    pub fn counts(&self) -> RelayCounts {
        let counted = &self.server.metrics().server;
        RelayCounts {
            clients: self.door.clients.load(Ordering::Relaxed),
            accepted: counted.accepts.get(),
            refused: self.door.refused.load(Ordering::Relaxed) as u64,
            bytes: counted.bytes_sent.get(),
            packets: counted.send_packets_sent.get(),
            dropped: counted.send_packets_dropped.get(),
            delayed_bytes: counted.bytes_rx_ratelimited_total.get(),
        }
    }
}

/// Tells nodes how they look from outside.
fn mirror(address: SocketAddr) -> io::Result<QuicConfig> {
    let mut config = QuicConfig::new(address);
    config.server_config = Some(tls::self_signed()?);
    Ok(config)
}
