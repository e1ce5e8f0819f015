//! Sockets: authenticated connections between nodes that carry whole `wire` values. Spec 03, 11.
//!
//! Owns: the transport (QUIC by iroh, the only crate that knows it), keys proved by it, the first
//! words of a connection, streams, deadlines, queues, relays. Does not own: what a message leads
//! to, who may connect, where peers are.
//!
//! Invariants: nothing is resolved, published or relayed unless it was asked for; lengths are
//! checked before memory is taken, and memory grows with what has arrived; every handshake, read
//! and write has a deadline; every queue is bounded; no sender waits for a slow peer.
#![forbid(unsafe_code)]

mod address;
mod connection;
mod discovery;
mod endpoint;
mod error;
mod handshake;
pub mod lan;
pub mod limits;
mod nat;
mod read;
mod relay;
mod relay_server;
mod tls;
mod upload;
mod write;

pub use address::{AddressError, PeerAddress};
pub use connection::{Connection, Incoming, Receiver, Sender, StreamKind};
pub use discovery::Discovery;
pub use endpoint::{Arrival, Endpoint, EndpointConfig, RelayState, SecretKey};
pub use error::NetError;
pub use nat::{NatKind, NatReport, nat_kind};
pub use relay::{RelayUrl, RelayUrlError};
pub use relay_server::{RelayCounts, RelayOptions, RelayServer};
