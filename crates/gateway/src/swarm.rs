//! `GET /swarm`: who computes, for the console's map.

use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;
use serde::Serialize;
use serde_json::json;

use crate::app::{App, blocking};
use crate::body;
use crate::error::ApiError;

/// A swarm as the node behind this endpoint sees it.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct SwarmMap {
    /// This node.
    pub node: String,
    /// Everybody it knows, itself included.
    pub members: Vec<MapMember>,
    /// One for each model.
    pub rings: Vec<MapRing>,
}

/// A node.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct MapMember {
    /// Who.
    pub node: String,
    /// Whether there is a connection.
    pub is_connected: bool,
    /// Whether packets to it go by a relay; absent without a connection.
    pub is_relayed: Option<bool>,
    /// Measured from this node.
    pub round_trip_ms: Option<f64>,
    /// Layers it computes.
    pub offers: Vec<MapLayers>,
}

/// Layers of one model.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct MapLayers {
    /// The model's name here, or the beginning of its package's id.
    pub model: String,
    /// The first.
    pub first: u32,
    /// The last.
    pub last: u32,
}

/// The way of requests for one model.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct MapRing {
    /// The model.
    pub model: String,
    /// Whether rows flow.
    pub is_ready: bool,
    /// Requests on the way.
    pub requests: u64,
    /// Stages that were replaced since the start.
    pub replaced: u64,
    /// Positions that were computed again since the start.
    pub replayed_tokens: u64,
    /// What the planner expects of one answer.
    pub expected_tokens_per_s: Option<f64>,
    /// What last went wrong, or why there is no way; empty when nothing did.
    pub trouble: String,
    /// In the order of the layers; empty without a way.
    pub stages: Vec<MapStage>,
}

/// A stage of a ring.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct MapStage {
    /// Who.
    pub node: String,
    /// The first layer.
    pub first: u32,
    /// The last.
    pub last: u32,
    /// Who stands by with the same caches.
    pub shadow: Option<String>,
    /// Expected time of one row in this stage.
    pub compute_ms: Option<f64>,
    /// Expected time of one row on its way here.
    pub link_ms: Option<f64>,
}

pub(crate) async fn show(State(app): State<Arc<App>>) -> Result<Response, ApiError> {
    let map = blocking(move || Ok(app.models.map())).await?;
    Ok(body::json(&json!({ "swarm": map })))
}
