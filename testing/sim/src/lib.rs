//! A swarm in one thread: hundreds of nodes that run the real state machines of `swarm` over a
//! network and an arithmetic that are doubles. One seed is one run, on every machine.
//!
//! Owns: time, links, faults, the load, and [`Invariants`], which are checked after every step.
//! Does not own: any rule of the swarm. [`Bug`]s are faults of the doubles, planted to show that
//! each invariant can fail.
//!
//! Not simulated: gossip (all heads read one table of members, up to 90 s old), the death of a
//! head, loss on links (delay and jitter only; a partition loses what is under way), the bytes of
//! messages, genuine prefix roots, peers that overrun their credit, warm standby and preparation of
//! layers.
#![forbid(unsafe_code)]

mod deliver;
mod engine;
mod faults;
mod gossip;
mod invariants;
mod links;
mod load;
mod queue;
mod random;
mod report;
mod setup;
mod world;

pub use faults::{Behaviour, Bug};
pub use gossip::{GossipCost, gossip_cost};
pub use invariants::{Invariants, Violation};
pub use load::Lengths;
pub use random::Seeded;
pub use report::Report;
pub use setup::{Config, plan_bench};
pub use world::World;
