//! A socket with a key: connecting to peers and accepting them.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use iroh::endpoint::{
    Connection as Quic, IdleTimeout, PortmapperConfig, QuicTransportConfig, VarInt, presets,
};
use iroh::{EndpointAddr, PublicKey, RelayMode};
use shoal_wire::{CertificateChain, Hello, NodeId, Text, VersionRange};

use crate::handshake::greet;
use crate::limits::{
    ALPN, CONNECTION_WINDOW, HANDSHAKE, IDLE, KEEP_ALIVE, PAYLOAD_BYTES_MAX, PROGRESS,
    STREAM_WINDOW, STREAMS,
};
use crate::upload::Upload;
use crate::{Connection, NetError, PeerAddress};

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

/// How a node is on the network. Nothing is looked up, published or relayed.
#[derive(Clone, Debug)]
pub struct EndpointConfig {
    /// Its key.
    pub key: SecretKey,
    /// Where it listens; port 0 takes a free one.
    pub listen: SocketAddr,
    /// Most bytes after a frame header.
    pub payload_bytes_max: u32,
    /// How long a message may take from its first byte, besides what its length allows.
    pub progress: Duration,
    /// Most bytes per second to send, over all connections; `None`: no bound.
    pub upload_bytes_per_s: Option<u64>,
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
        }
    }
}

/// A bound socket. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Endpoint {
    inner: iroh::Endpoint,
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
    /// Binds the socket.
    ///
    /// # Errors
    /// The address is taken, or not of this machine.
    pub async fn bind(config: EndpointConfig) -> Result<Self, NetError> {
        let refuse = |source| NetError::Bind { address: config.listen, source };
        let builder = iroh::Endpoint::builder(presets::Minimal)
            .secret_key(config.key.0.clone())
            .alpns(vec![ALPN.to_vec()])
            .relay_mode(RelayMode::Disabled)
            .clear_address_lookup()
            .portmapper_config(PortmapperConfig::Disabled)
            .transport_config(transport())
            .clear_ip_transports()
            .bind_addr(config.listen)
            .map_err(|error| refuse(io::Error::other(error)))?;
        let inner = builder.bind().await.map_err(|error| refuse(io::Error::other(error)))?;
        let hello = Hello {
            versions: VersionRange::OURS,
            software: Text::try_new(SOFTWARE).expect("a short text"),
            certificate: None,
            revocation: 0,
        };
        let EndpointConfig { payload_bytes_max, progress, upload_bytes_per_s, .. } = config;
        let hello = Arc::new(RwLock::new(hello));
        let upload = Arc::new(Upload::new(upload_bytes_per_s));
        Ok(Self { inner, hello, bounds: Bounds { payload_bytes_max, progress }, upload })
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
        let quic = match tokio::time::timeout(HANDSHAKE, self.inner.connect(place, ALPN)).await {
            Ok(Ok(quic)) => quic,
            Ok(Err(error)) => return Err(refuse(io::Error::other(error))),
            Err(_) => return Err(refuse(io::ErrorKind::TimedOut.into())),
        };
        self.greet(quic).await
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
