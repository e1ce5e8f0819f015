//! A node: drives the protocols of `swarm` with sockets, clocks, threads and models.
//!
//! Owns: one loop that feeds events to the state machines and carries out their effects, the thread
//! that computes layers, the thread of each head that embeds and samples, the thread that hashes,
//! reads and writes blobs. Does not own: what an
//! event leads to (`swarm`), bytes and streams (`wire`, `net`), arithmetic (`engine`).
//!
//! Invariants: the loop never waits for a peer, for a computation, or for a client; reading,
//! computing and writing are separate; who may lead a ring here was named by the owner; a position
//! in a frame is where the sequence is cut, whatever was computed before.
#![forbid(unsafe_code)]

mod book;
mod compute;
mod driver;
mod error;
mod head;
mod layers;
mod limits;
mod node;
mod peers;
mod plan;
mod ring;

pub use error::NodeError;
pub use layers::{FetchParts, FetchProgress};
pub use node::{HeadOptions, Node, NodeConfig, ServeOptions};
pub use plan::{PlanError, PlannedStage, StaticPlan};
pub use ring::{RingHead, RingStatus};
pub use shoal_net::PeerAddress;
pub use shoal_swarm::{Misdeed, PeerFetch, PeerState};
pub use shoal_wire::{LayerRange, NodeId};
