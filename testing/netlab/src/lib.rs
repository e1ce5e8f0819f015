//! Real processes on a network that is made up: one network namespace per node, and a router in
//! user space that moves their packets with delay, jitter, loss, rates, address translation and
//! cuts.
//!
//! Owns: namespaces, TUN devices, the router, the processes of a lab and what is done to them. Does
//! not own: what the processes are. How to use it and how exact it is: `docs/netlab.md`.
//!
//! Invariants: nothing of a lab is visible outside its namespaces, so labs cannot collide; nothing
//! outlives the process that made it; the same seed loses and delays the same packets of a link.
#![forbid(unsafe_code)]
#![cfg(target_os = "linux")]

mod dht;
mod fault;
mod lab;
mod lateness;
mod leftovers;
mod link;
mod nat;
mod network;
mod node;
mod packet;
mod process;
mod profile;
mod random;
mod requirements;
mod router;

pub use dht::Dht;
pub use fault::{Fault, FaultError, TimedFault};
pub use lab::{Lab, LabConfig, LabError};
pub use lateness::{Lateness, LatenessSummary};
pub use link::{Access, Counts, Link, Sent};
pub use nat::NatKind;
pub use node::{CLOCK, DISK, Node};
pub use process::Process;
pub use profile::Profile;
pub use requirements::missing;
