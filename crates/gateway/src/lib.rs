//! An OpenAI-compatible endpoint and a console over any [`shoal_base::Generate`].
//!
//! Layer 3. Owns: HTTP, the shapes of requests and answers, who may ask, what is counted. Does not
//! own who answers: a [`Models`] gives models by name, and one machine or a swarm may be behind
//! it. Every published parameter is honoured or refused by name; a cut answer never says `stop`.
//! Nothing of a prompt or an answer is logged.
#![forbid(unsafe_code)]

mod answer;
mod app;
mod birth;
mod body;
mod catalog;
mod chat;
mod completions;
mod console;
mod embeddings;
mod error;
mod feed;
pub mod fuzz;
mod guard;
mod health;
mod idempotency;
mod keys;
mod limits;
mod logprobs;
mod messages;
mod metrics;
mod models;
mod openapi;
mod params;
mod reply;
mod responses;
mod sampling;
mod server;
mod swarm;
mod tokens;
mod tools;

pub use idempotency::KeptAnswers;
pub use keys::{ApiKeys, KeysError};
pub use models::{Load, Models, Offer, OpenError};
pub use server::{Gateway, GatewayOptions, StartError};
pub use swarm::{MapLayers, MapMember, MapRing, MapStage, SwarmMap};
