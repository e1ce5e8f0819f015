//! A socket with a key: connecting to peers and accepting them.

use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use iroh::endpoint::{
    BindOpts, Connection as Quic, IdleTimeout, PortmapperConfig, QuicTransportConfig, VarInt,
    presets,
};
use iroh::{
    EndpointAddr, NetReportConfig, PublicKey, RelayConfig, RelayMap, RelayMode, Watcher as _,
};
use iroh_relay::RelayQuicConfig;
use shoal_wire::{CertificateChain, Hello, NodeId, Text, VersionRange};

use crate::handshake::greet;
use crate::limits::{
    ALPN, BIND_TRIES, CONNECTION_WINDOW, DISCOVERY_PORT, HANDSHAKE, IDLE, KEEP_ALIVE, LOOKUP,
    PAYLOAD_BYTES_MAX, PROGRESS, RELAY_FOR, RELAYS_MAX, STREAM_WINDOW, STREAMS,
};
use crate::upload::Upload;
use crate::{Connection, Discovery, NetError, PeerAddress, RelayUrl, tls};

/// Name and version of the program, for people.
const SOFTWARE: &str = concat!("shoal ", env!("CARGO_PKG_VERSION"));

/// The secret half of a node's key.
#[derive(Clone)]
pub struct SecretKey(iroh::SecretKey);

impl SecretKey {
    /// From 32 secret bytes.
    #[must_use]
    pub fn new(secret: &[u8; 32]) -> Self {
        Self(iroh::SecretKey::from_bytes(secret))
    }

    /// The public half.
    #[must_use]
    pub fn id(&self) -> NodeId {
        NodeId(*self.0.public().as_bytes())
    }
}

impl fmt::Debug for SecretKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SecretKey({})", self.id())
    }
}

/// How a node is on the network. Nothing is looked up or published unless it is said here, and
/// nothing is relayed but by relays that are named here.
#[derive(Clone, Debug)]
pub struct EndpointConfig {
    /// Its key.
    pub key: SecretKey,
    /// Where it listens; port 0 takes a free one. `[::]` is all addresses of this machine, those of
    /// IPv4 too, and those of IPv6 where there are any.
    pub listen: SocketAddr,
    /// Most bytes after a frame header.
    pub payload_bytes_max: u32,
    /// How long a message may take from its first byte, besides what its length allows.
    pub progress: Duration,
    /// Most bytes per second to send, over all connections; `None`: no bound.
    pub upload_bytes_per_s: Option<u64>,
    /// Where others can meet it, and where it meets others. Those that others name and this node
    /// does not are not used.
    pub relays: Vec<RelayUrl>,
    /// Whether and where it looks up keys, and is to be found by its own.
    pub discovery: Option<Discovery>,
}

/// A relay that a node named.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RelayState {
    /// Which.
    pub relay: RelayUrl,
    /// Whether this node can be met there now. Of several, the nearest is in use.
    pub is_connected: bool,
    /// What went wrong last.
    pub failure: Option<String>,
}

impl EndpointConfig {
    /// The defaults.
    #[must_use]
    pub fn new(key: SecretKey, listen: SocketAddr) -> Self {
        Self {
            key,
            listen,
            payload_bytes_max: PAYLOAD_BYTES_MAX,
            progress: PROGRESS,
            upload_bytes_per_s: None,
            relays: Vec::new(),
            discovery: None,
        }
    }
}

/// A bound socket. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Endpoint {
    inner: iroh::Endpoint,
    relays: Arc<[RelayUrl]>,
    discovery: Option<Discovery>,
    hello: Arc<RwLock<Hello>>,
    bounds: Bounds,
    upload: Arc<Upload>,
}

/// What is taken from a peer.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bounds {
    pub(crate) payload_bytes_max: u32,
    pub(crate) progress: Duration,
}

/// Somebody who wants to connect and has not proved a key yet.
#[derive(Debug)]
pub struct Arrival {
    incoming: iroh::endpoint::Incoming,
    endpoint: Endpoint,
}

impl Arrival {
    /// Lets it in as far as its key and the agreed version. Within [`HANDSHAKE`].
    ///
    /// # Errors
    /// It did not prove a key, shares no version, or is too slow.
    pub async fn greet(self) -> Result<Connection, NetError> {
        let accepting = tokio::time::timeout(HANDSHAKE, self.incoming);
        let quic = match accepting.await {
            Ok(Ok(quic)) => quic,
            Ok(Err(error)) => return Err(NetError::Accept { source: io::Error::other(error) }),
            Err(_) => return Err(NetError::Accept { source: io::ErrorKind::TimedOut.into() }),
        };
        self.endpoint.greet(quic).await
    }
}

impl Endpoint {
    /// Binds the socket, and waits a little for its relays.
    ///
    /// # Errors
    /// The address is taken, or not of this machine, or there are too many relays.
    pub async fn bind(config: EndpointConfig) -> Result<Self, NetError> {
        let refuse = |source| NetError::Bind { address: config.listen, source };
        if config.relays.len() > RELAYS_MAX {
            return Err(NetError::Relays { got: config.relays.len(), limit: RELAYS_MAX });
        }
        let inner = bind(&config).await.map_err(refuse)?;
        let hello = Hello {
            versions: VersionRange::OURS,
            software: Text::try_new(SOFTWARE).expect("a short text"),
            certificate: None,
            revocation: 0,
        };
        let EndpointConfig { payload_bytes_max, progress, upload_bytes_per_s, discovery, .. } =
            config;
        let hello = Arc::new(RwLock::new(hello));
        let upload = Arc::new(Upload::new(upload_bytes_per_s));
        let (bounds, relays) = (Bounds { payload_bytes_max, progress }, config.relays.into());
        let endpoint = Self { inner, relays, discovery, hello, bounds, upload };
        if !endpoint.relays.is_empty() {
            // A relay that is away is no reason not to start; whoever asks is told.
            let _ = tokio::time::timeout(RELAY_FOR, endpoint.inner.online()).await;
        }
        Ok(endpoint)
    }

    /// Who and where it is, as far as that fits into a text of the protocol.
    #[must_use]
    pub fn address(&self) -> PeerAddress {
        PeerAddress::fitting(self.node(), self.relays.to_vec(), self.sockets())
    }

    /// The relays it named, and whether it can be met there.
    #[must_use]
    pub fn relays(&self) -> Vec<RelayState> {
        let all = self.inner.home_relay_status().get();
        let state = |relay: &RelayUrl| {
            let status = all.iter().find(|status| status.url() == relay.inner());
            RelayState {
                relay: relay.clone(),
                is_connected: status.is_some_and(|status| status.is_connected()),
                failure: status.and_then(|s| s.last_error()).map(|error| format!("{error:#}")),
            }
        };
        self.relays.iter().map(state).collect()
    }

    /// Its node.
    #[must_use]
    pub fn node(&self) -> NodeId {
        NodeId(*self.inner.id().as_bytes())
    }

    /// Where it listens. For a socket on all addresses of this machine, those that are known.
    #[must_use]
    pub fn sockets(&self) -> Vec<SocketAddr> {
        let bound = self.inner.bound_sockets();
        if bound.iter().all(|socket| !socket.ip().is_unspecified()) {
            return bound;
        }
        let mut sockets: Vec<SocketAddr> = self.inner.addr().ip_addrs().copied().collect();
        let named = bound.into_iter().filter(|socket| !socket.ip().is_unspecified());
        sockets.extend(named);
        sockets
    }

    /// The port it listens on.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.inner.bound_sockets().first().map_or(0, SocketAddr::port)
    }

    /// What is said first on connections from now on: the certificate, and the highest revocation
    /// that was seen.
    pub fn introduce(&self, certificate: Option<CertificateChain>, revocation: u64) {
        let mut hello = self.hello.write().unwrap_or_else(PoisonError::into_inner);
        hello.certificate = certificate;
        hello.revocation = revocation;
    }

    /// Connects to a node and agrees on a version.
    ///
    /// # Errors
    /// Nobody with this key answers at these places, or shares a version.
    pub async fn connect(&self, to: &PeerAddress) -> Result<Connection, NetError> {
        let peer = to.node;
        let refuse = |source| NetError::Connect { peer, source };
        let key = PublicKey::from_bytes(&peer.0);
        let key = key.map_err(|error| refuse(io::Error::other(error)))?;
        let place = to.sockets.iter().fold(EndpointAddr::new(key), |a, s| a.with_ip_addr(*s));
        let common = to.relays.iter().filter(|relay| self.relays.contains(relay));
        let place = common.fold(place, |a, relay| a.with_relay_url(relay.inner().clone()));
        if place.is_empty() && self.discovery.is_none() {
            return Err(NetError::NoWay { peer, has_relay: !to.relays.is_empty() });
        }
        let time = self.connect_for();
        let quic = match tokio::time::timeout(time, self.inner.connect(place, ALPN)).await {
            Ok(Ok(quic)) => quic,
            Ok(Err(error)) => return Err(refuse(io::Error::other(error))),
            Err(_) => return Err(refuse(io::ErrorKind::TimedOut.into())),
        };
        self.greet(quic).await
    }

    /// Whether and where it looks up keys.
    #[must_use]
    pub fn discovery(&self) -> Option<&Discovery> {
        self.discovery.as_ref()
    }

    /// How long connecting may take, without the first words.
    #[must_use]
    pub fn connect_for(&self) -> Duration {
        HANDSHAKE + if self.discovery.is_some() { LOOKUP } else { Duration::ZERO }
    }

    /// The next peer that wants to connect; `None` once this end is closed.
    pub async fn accept(&self) -> Option<Arrival> {
        let incoming = self.inner.accept().await?;
        Some(Arrival { incoming, endpoint: self.clone() })
    }

    /// Closes every connection and the socket.
    pub async fn close(&self) {
        self.inner.close().await;
    }

    async fn greet(&self, quic: Quic) -> Result<Connection, NetError> {
        let peer = NodeId(*quic.remote_id().as_bytes());
        let hello = self.hello.read().unwrap_or_else(PoisonError::into_inner).clone();
        let greeted = greet(&quic, peer, hello, self.bounds.progress);
        match tokio::time::timeout(HANDSHAKE, greeted).await {
            Ok(Ok(greeted)) => {
                Ok(Connection::start(quic, greeted, self.bounds, Arc::clone(&self.upload)))
            }
            Ok(Err(error)) => {
                close(&quic, &error);
                Err(error)
            }
            Err(_) => {
                let error = NetError::Handshake { peer, limit: HANDSHAKE };
                close(&quic, &error);
                Err(error)
            }
        }
    }
}

/// Binds the sockets.
async fn bind(config: &EndpointConfig) -> io::Result<iroh::Endpoint> {
    let SocketAddr::V6(all) = config.listen else {
        return bind_to(config, &[config.listen]).await;
    };
    if !all.ip().is_unspecified() {
        return bind_to(config, &[config.listen]).await;
    }
    let mut tries = 0;
    loop {
        // Both have the same port, which somebody else may take meanwhile.
        let port = match all.port() {
            0 => UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?.local_addr()?.port(),
            port => port,
        };
        let both = [(IpAddr::from(Ipv4Addr::UNSPECIFIED), port), (IpAddr::V6(*all.ip()), port)];
        let bound = bind_to(config, &both.map(SocketAddr::from)).await;
        tries += 1;
        if bound.is_ok() || all.port() != 0 || tries >= BIND_TRIES {
            return bound;
        }
    }
}

async fn bind_to(config: &EndpointConfig, sockets: &[SocketAddr]) -> io::Result<iroh::Endpoint> {
    let mut builder = iroh::Endpoint::builder(presets::Minimal)
        .secret_key(config.key.0.clone())
        .alpns(vec![ALPN.to_vec()])
        .relay_mode(relay_mode(&config.relays))
        .ca_tls_config(tls::authorities(&config.relays))
        .net_report_config(net_report())
        .clear_address_lookup()
        .portmapper_config(PortmapperConfig::Disabled)
        .transport_config(transport())
        .clear_ip_transports();
    if let Some(discovery) = &config.discovery {
        builder = builder.address_lookup(discovery.lookup(&config.relays));
    }
    for (index, socket) in sockets.iter().enumerate() {
        // A machine may have no IPv6.
        let options = BindOpts::default().set_is_required(index == 0);
        builder = builder.bind_addr_with_opts(*socket, options).map_err(io::Error::other)?;
    }
    builder.bind().await.map_err(io::Error::other)
}

fn relay_mode(relays: &[RelayUrl]) -> RelayMode {
    if relays.is_empty() {
        return RelayMode::Disabled;
    }
    let config = |relay: &RelayUrl| {
        let port = if relay.is_plain() { relay.port() } else { DISCOVERY_PORT };
        RelayConfig::new(relay.inner().clone(), Some(RelayQuicConfig::new(port)))
    };
    RelayMode::Custom(relays.iter().map(config).collect::<RelayMap>())
}

/// What is asked of relays: the address of this node as they see it, and how far they are.
fn net_report() -> NetReportConfig {
    let mut config = NetReportConfig::minimal();
    config.https_probes = true;
    config
}

/// Closes a connection with the number of the fault, if there is one to tell.
pub(crate) fn close(quic: &Quic, error: &NetError) {
    let code = error.fault().map_or(0, shoal_wire::FaultCode::number);
    quic.close(VarInt::from_u32(code.into()), b"");
}

fn transport() -> QuicTransportConfig {
    let idle = u32::try_from(IDLE.as_millis()).map_or(VarInt::MAX, VarInt::from_u32);
    QuicTransportConfig::builder()
        .max_concurrent_bidi_streams(VarInt::from_u32(0))
        .max_concurrent_uni_streams(VarInt::from_u32(STREAMS))
        .max_idle_timeout(Some(IdleTimeout::from(idle)))
        .keep_alive_interval(KEEP_ALIVE)
        .initial_rtt(Duration::from_millis(50))
        .stream_receive_window(VarInt::from_u32(STREAM_WINDOW))
        .receive_window(VarInt::from_u32(CONNECTION_WINDOW))
        .datagram_receive_buffer_size(None)
        .build()
}
