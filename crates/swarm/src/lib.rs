//! Who is here, who holds what, the way of a request, what happens when one leaves. Spec 03.
//!
//! Owns: the members a node knows, plans and spares, leases on both ends, the life of a request at
//! its head and its frames at a stage, tickets and certificates. Does not own: sockets, clocks,
//! threads, models. A driver feeds events with the time, and carries out the effects:
//!
//! - [`Head`]: one ring. Give it a [`HeadEvent`] and a [`Scout`], get [`HeadEffect`]s.
//! - [`Stage`]: all that a node computes for others. [`StageEvent`] to [`StageEffect`].
//! - [`Members`]: descriptors in, descriptors out. [`Planner`]: members to routes.
//! - [`Fetch`], [`Uploads`]: leaves of blobs from peers, and to them.
//! - [`Issuer`], [`Gate`], [`Door`]: who may come in.
//!
//! Invariants: the same events give the same effects; every queue and map has a limit; a head
//! takes rows of one generation only; what was committed never changes.
#![forbid(unsafe_code)]

mod brief;
mod context;
mod credit;
mod door;
mod fetch;
mod gossip;
mod head;
mod join;
mod keys;
mod law;
pub mod limits;
mod links;
mod log;
mod members;
mod plan;
mod planner;
mod stage;
mod upload;

pub use context::{Moment, Random};
pub use door::{Door, Pass, Renewal, own_certificate};
pub use fetch::{
    Fetch, FetchEffect, FetchEvent, FetchFailure, FetchStatus, LeafData, Misdeed, PeerFetch,
    PeerState, StoreOutcome, WantedBlob,
};
pub use gossip::{Gossip, to_meet};
pub use head::{
    AdmitError, Failure, Head, HeadEffect, HeadEvent, HeadPolicy, HeadStatus, Scout, Shadows,
    Submission,
};
pub use join::{Gate, Issuer, JoinError};
pub use keys::{KeyError, NodeKey, verify};
pub use law::{Law, Speculation};
pub use links::{Coordinates, distance_us};
pub use log::ActivationLog;
pub use members::{Member, MemberChange, MemberError, Members};
pub use plan::{ModelShape, Plan, PlanError, PlanStage, Want};
pub use planner::{Planner, route_stages};
pub use stage::{Holding, Output, Stage, StageConfig, StageEffect, StageEvent, Work};
pub use upload::{UploadEffect, UploadEvent, Uploads};
