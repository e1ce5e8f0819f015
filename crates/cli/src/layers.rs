//! Fetching layers from other nodes, with a bar for people and lines for programs.

use serde_json::{Value, json};
use shoal_base::PackageId;
use shoal_model::package::Package;
use shoal_node::{FetchParts, FetchProgress, LayerRange, Node, PeerAddress, PeerState};

use crate::failure::Failure;
use crate::session::Session;
use crate::{interrupt, output, progress};

/// Fetches what is missing of some layers of a package; all layers unless some are named.
pub(crate) fn fetch(
    session: &Session,
    node: &Node,
    model: &str,
    layers: Option<LayerRange>,
    from: &[PeerAddress],
) -> Result<Package, Failure> {
    let store = session.store()?;
    let id = match (model.parse::<PackageId>(), store.find(model)) {
        (Ok(id), _) | (Err(_), Ok(id)) => id,
        (Err(_), Err(_)) => {
            let message = format!("{model:?} is not here; --from needs the whole id of a package");
            return Err(Failure::usage(message));
        }
    };
    if session.json {
        let node = node.address().to_string();
        output::json(&json!({ "event": "fetching", "node": node, "package": id }))?;
    }
    let bar = progress::bytes(session.json);
    bar.set_message(format!("fetching {id:.12}"));
    let mut told = Ok(());
    let parts = FetchParts { layers, with_head: false };
    let result = node.fetch(id, parts, from, &mut |now| {
        bar.set_length(now.bytes_total);
        bar.set_position(now.bytes);
        if session.json && told.is_ok() {
            told = output::json(&event(now));
        }
        told.is_ok() && !interrupt::is_asked()
    });
    bar.finish_and_clear();
    told?;
    result?;
    let bytes = store.holding(id)?.bytes;
    if session.json {
        output::json(&json!({ "event": "fetched", "package": id, "bytes": bytes }))?;
    }
    Ok(store.package(id)?)
}

fn event(now: &FetchProgress) -> Value {
    let peers = now.peers.iter().map(|peer| {
        let trouble = now.trouble.iter().find(|(node, _)| *node == peer.node);
        json!({
            "node": peer.node.to_string(),
            "bytes": peer.bytes,
            "bytes_per_s": peer.bytes_per_s,
            "state": word(peer.state),
            "trouble": trouble.map(|(_, why)| why),
        })
    });
    let peers: Vec<Value> = peers.collect();
    json!({
        "event": "progress", "bytes": now.bytes, "bytes_total": now.bytes_total, "peers": peers,
    })
}

fn word(state: PeerState) -> &'static str {
    match state {
        PeerState::Ready => "ready",
        PeerState::Stalled => "stalled",
        PeerState::Lost { .. } => "lost",
        PeerState::Silent => "silent",
        PeerState::Banned(_) => "banned",
    }
}
