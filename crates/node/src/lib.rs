//! A node: drives the protocols of `swarm` with sockets, clocks, threads and models.
//!
//! Owns: one loop that feeds events to the state machines and carries out their effects, the thread
//! that computes layers, the thread of each head that embeds and samples, the thread that hashes,
//! reads and writes blobs, what a member of a swarm keeps over restarts, and what the owner of a
//! machine allows. Does not own: what an event leads to (`swarm`), bytes and streams (`wire`,
//! `net`), arithmetic (`engine`).
//!
//! Invariants: the loop never waits for a peer, for a computation, or for a client; reading,
//! computing and writing are separate; who may lead a ring here was named by the owner, or has a
//! certificate that allows it; a ticket counts as used before its certificate is sent; a position
//! in a frame is where the sequence is cut, whatever was computed before.
#![forbid(unsafe_code)]

mod book;
mod chance;
mod compute;
mod driver;
mod error;
mod head;
mod join;
mod layers;
mod limits;
mod links;
mod member;
mod membership;
mod node;
mod owner;
mod pairing;
mod peers;
mod plan;
mod relay;
mod ring;
mod speed;
mod state;
mod view;
mod way;

pub use chance::wall_s;
pub use error::NodeError;
pub use join::{Joined, check_free, create_swarm, join_swarm};
pub use layers::{FetchParts, FetchProgress};
pub use node::{
    HeadOptions, MemberOptions, Node, NodeConfig, PrepareOptions, ServeOptions, node_of,
    serve_bytes,
};
pub use owner::{
    Hours, HoursError, OwnerRules, POWER_SUPPLIES, Power, Rest, RestReason, Sight, minute_of_day,
    power,
};
pub use pairing::{Pairing, PairingCode, PairingError, is_invited, pair};
pub use plan::{PlanError, PlannedStage, StaticPlan};
pub use relay::{Relay, nat_report};
pub use ring::{RingHead, RingStatus};
pub use shoal_net::limits::UPLOAD_BYTES_PER_S_MIN;
pub use shoal_net::{
    Discovery, NatKind, NatReport, PeerAddress, RelayCounts, RelayOptions, RelayState, RelayUrl,
    RelayUrlError,
};
pub use shoal_swarm::{
    HeadPolicy, JoinError, Misdeed, PeerFetch, PeerState, Plan, PlanError as NoPlan, PlanStage,
    Shadows,
};
pub use shoal_wire::{LayerRange, MemberState, NodeId, SwarmRole};
pub use view::{MemberView, OfferView, SwarmView};
