//! The node of this data folder as a member of a swarm: started, asked by other commands, ended.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::mpsc::Sender;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};
use shoal_base::{Digest, PackageId};
use shoal_node::{
    MemberState, MemberView, NoPlan, Node, NodeId, Plan, RelayUrl, SwarmRole, SwarmView,
};
use shoal_store::{NodeFolder, Store};

use crate::control::{self, Control, Request};
use crate::failure::{Code, Failure};
use crate::relays::{self, way};
use crate::session::Session;

/// Where a member listens unless told otherwise: this machine alone.
pub(crate) const LISTEN: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0);
/// How long a node that leaves computes for those that have not moved yet.
pub(crate) const DRAIN: Duration = Duration::from_secs(10);

/// A running member. Ends when it is dropped.
pub(crate) struct Member {
    _control: Control,
    pub(crate) node: Arc<Node>,
}

/// The folder of this node, for this process alone.
pub(crate) fn folder(session: &Session) -> Result<NodeFolder, Failure> {
    // The folder has to be a store before anything else is in it.
    session.store()?;
    NodeFolder::take(&session.home)?.ok_or_else(|| {
        let message = "another process runs the node of this data folder; end it with \
                       `shoal leave`, or give this one another SHOAL_HOME";
        Failure::new(Code::Failed, message)
    })
}

/// Whether this data folder is in a swarm.
pub(crate) fn is_member(session: &Session) -> bool {
    NodeFolder::is_member(&session.home)
}

impl Member {
    /// Starts the node. `ended` hears when another command asks it to leave.
    pub(crate) fn start(
        session: &Session,
        listen: SocketAddr,
        upload_bytes_per_s: Option<u64>,
        relays: Vec<RelayUrl>,
        ended: Sender<()>,
    ) -> Result<Self, Failure> {
        let folder = folder(session)?;
        let path = folder.control();
        let store = session.store()?.clone();
        let shared = Some(store.clone());
        let node = Node::start_member(folder, listen, shared, upload_bytes_per_s, relays)?;
        relays::warn(&node.relays());
        let node = Arc::new(node);
        let asked = Arc::clone(&node);
        let control = Control::start(path, move |request| {
            if matches!(request, Request::Leave {}) {
                // The command ends already when nobody hears it.
                let _ = ended.send(());
            }
            answer(&asked, &store, &request)
        })?;
        Ok(Self { _control: control, node })
    }

    /// Leaves in order.
    pub(crate) fn leave(self, drain: Duration) {
        // It ends in any case; those that use it notice without being told.
        let _ = self.node.leave(drain);
    }

    /// Who and where, for people and JSON.
    pub(crate) fn address(&self) -> String {
        self.node.address().to_string()
    }
}

fn answer(node: &Node, store: &Store, request: &Request) -> Result<Value, Failure> {
    match request {
        Request::Swarm {} => Ok(view(&node.swarm()?)),
        Request::Invite { role, packages, seconds } => {
            let packages: Result<Vec<PackageId>, Failure> =
                packages.iter().map(|text| package(text)).collect();
            let lives = Duration::from_secs(*seconds);
            let role = role_of(role).ok_or_else(|| Failure::usage("an unknown role"))?;
            let ticket = node.invite(role, &packages?, lives)?;
            let view = node.swarm()?;
            let is_here_only = view.relays.is_empty()
                && view.sockets.iter().all(|socket| socket.ip().is_loopback());
            Ok(json!({ "ticket": ticket, "is_here_only": is_here_only }))
        }
        Request::Revoke { node: who } => {
            let counter = node.revoke(node_of(who)?)?;
            Ok(json!({ "node": who, "revocations": counter }))
        }
        Request::Plan { package: id } => {
            let package = store.package(package(id)?)?;
            let found = node.plans(&package)?;
            Ok(plans(found.as_deref()))
        }
        Request::Leave {} => Ok(json!({ "leaves": true })),
    }
}

fn package(text: &str) -> Result<PackageId, Failure> {
    text.parse().map_err(|_| Failure::usage("a package is named by its id"))
}

/// A node as people write it: its id, or its id and address.
pub(crate) fn node_of(text: &str) -> Result<NodeId, Failure> {
    let id = text.split_once('@').map_or(text, |(id, _)| id);
    let digest: Result<Digest, _> = id.parse();
    digest.map(|digest| NodeId(digest.0)).map_err(|_| {
        Failure::usage(format!(
            "{text:?} is no node: 64 lower-case hex digits, as in `shoal peers`"
        ))
    })
}

pub(crate) fn role_of(word: &str) -> Option<SwarmRole> {
    [SwarmRole::Use, SwarmRole::Serve, SwarmRole::Invite].into_iter().find(|r| role(*r) == word)
}

pub(crate) fn role(role: SwarmRole) -> &'static str {
    match role {
        SwarmRole::Use => "use",
        SwarmRole::Serve => "serve",
        SwarmRole::Invite => "invite",
    }
}

fn state(state: MemberState) -> &'static str {
    match state {
        MemberState::Joining => "joining",
        MemberState::Active => "active",
        MemberState::Draining => "draining",
        MemberState::Left => "left",
    }
}

/// Seconds until a moment of the wall clock.
pub(crate) fn seconds_left(at_s: u64) -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    at_s.saturating_sub(now)
}

fn view(view: &SwarmView) -> Value {
    json!({
        "name": view.name,
        "swarm": view.swarm.to_string(),
        "node": view.node.to_string(),
        "is_owner": view.is_owner,
        "role": role(view.role),
        "certificate_s_left": seconds_left(view.expires_at_s),
        "revocations": view.revocation,
        "listens": view.sockets,
        "relays": relays::json(&view.relays),
        "rings_served": view.leases,
        "members": view.members.iter().map(member).collect::<Vec<_>>(),
    })
}

fn member(member: &MemberView) -> Value {
    let offers = member.offers.iter().map(|offer| {
        let ranges = offer.loaded.iter().map(|range| json!([range.first, range.end - 1]));
        json!({
            "package": offer.package.to_string(),
            "layers": ranges.collect::<Vec<_>>(),
            "layer_us": (offer.decode_ns > 0).then(|| f64::from(offer.decode_ns) / 1e3),
            "cache_tokens_free": offer.cache_tokens_free,
        })
    });
    json!({
        "node": member.node.to_string(),
        "is_this": member.is_me,
        "is_connected": member.is_connected,
        "state": state(member.state),
        "role": member.role.map(role),
        "certificate_s_left": member.expires_at_s.map(seconds_left),
        "addresses": member.addresses,
        "memory_free_bytes": member.memory_free_bytes,
        "round_trip_ms": member.round_trip.map(|time| time.as_secs_f64() * 1e3),
        "way": way(member.is_relayed),
        "offers": offers.collect::<Vec<_>>(),
    })
}

/// What `shoal doctor` says of the swarm: null when there is none.
pub(crate) fn health(session: &Session) -> Result<Value, Failure> {
    if !is_member(session) {
        return Ok(Value::Null);
    }
    if !control::is_running(&session.home) {
        let why = ["its node does not run; start `shoal serve` or `shoal up`"];
        return Ok(json!({ "is_running": false, "not_in_a_ring_because": why }));
    }
    let mut said = control::ask(&session.home, &Request::Swarm {})?;
    said["is_running"] = json!(true);
    said["not_in_a_ring_because"] = json!(reasons(&said));
    Ok(said)
}

/// Why nobody uses this node.
fn reasons(said: &Value) -> Vec<&'static str> {
    let members = || said["members"].as_array().into_iter().flatten();
    let own = members().find(|member| member["is_this"] == true);
    let offers = own.and_then(|own| own["offers"].as_array());
    let others = members().filter(|member| member["is_this"] != true);
    let connected = others.filter(|member| member["is_connected"] == true).count();
    let all = [
        (said["certificate_s_left"] == 0, "its certificate ran out and nobody renewed it"),
        (said["role"] == "use", "its role does not allow it to compute for others"),
        (offers.is_none_or(Vec::is_empty), "it has no layers in memory; `shoal serve` loads some"),
        (connected == 0, "no other member is connected"),
        (true, "no head has asked for its layers"),
    ];
    if said["rings_served"].as_u64().is_some_and(|rings| rings > 0) {
        return Vec::new();
    }
    let mut found: Vec<&'static str> = all.iter().filter(|(is, _)| *is).map(|(_, w)| *w).collect();
    if found.len() > 1 {
        // The last one follows from the others.
        found.pop();
    }
    found
}

/// The same for people.
pub(crate) fn health_lines(health: &Value) -> Vec<String> {
    if health.is_null() {
        return vec!["swarm          none".to_owned()];
    }
    let words = |value: &Value| -> Vec<String> {
        let all = value.as_array().into_iter().flatten();
        all.filter_map(|word| word.as_str().map(str::to_owned)).collect()
    };
    let mut lines = Vec::new();
    if let (Some(swarm), Some(role)) = (health["swarm"].as_str(), health["role"].as_str()) {
        lines.push(format!("swarm          {swarm}, role {role}"));
        lines.push(format!("listens        {}", words(&health["listens"]).join(", ")));
        lines.extend(relay_lines(&health["relays"]));
        lines.push(format!("rings served   {}", health["rings_served"]));
    }
    for member in health["members"].as_array().into_iter().flatten() {
        if let Some(ms) = member["round_trip_ms"].as_f64() {
            let node = member["node"].as_str().unwrap_or_default();
            let way = member["way"].as_str().unwrap_or("not connected");
            lines.push(format!("link           {node}, {ms:.2} ms, {way}"));
        }
    }
    let reasons = words(&health["not_in_a_ring_because"]).into_iter();
    lines.extend(reasons.map(|reason| format!("in no ring     {reason}")));
    lines
}

fn relay_lines(relays: &Value) -> Vec<String> {
    let all = || relays.as_array().into_iter().flatten();
    let is_met = all().any(|relay| relay["is_connected"] == true);
    let line = |relay: &Value| {
        let name = relay["relay"].as_str().unwrap_or_default();
        let failure = relay["failure"].as_str().map_or(String::new(), |why| format!(": {why}"));
        match (relay["is_connected"] == true, is_met) {
            (true, _) => format!("relay          {name}, connected"),
            (false, true) => format!("relay          {name}, not in use{failure}"),
            (false, false) => format!("relay          {name}, not connected{failure}"),
        }
    };
    let lines: Vec<String> = all().map(line).collect();
    match lines.is_empty() {
        true => vec!["relay          none, nothing is relayed".to_owned()],
        false => lines,
    }
}

fn plans(found: Result<&[Plan], &NoPlan>) -> Value {
    let plan = |plan: &Plan| {
        let stages = plan.stages.iter().map(|stage| {
            json!({
                "node": stage.node.to_string(),
                "layers": [stage.layers.first, stage.layers.end - 1],
                "compute_ms": stage.compute_s * 1e3,
                "link_ms": stage.link_s * 1e3,
                "way": way(stage.is_relayed),
            })
        });
        json!({
            "tokens_per_s": plan.tokens_per_s,
            "ring_ms": plan.law.ring_s * 1e3,
            "slowest_stage_ms": plan.law.slowest_s * 1e3,
            "return_ms": plan.return_s * 1e3,
            "return_way": way(plan.return_is_relayed),
            "stages": stages.collect::<Vec<_>>(),
        })
    };
    match found {
        Ok(plans) => json!({ "plans": plans.iter().map(plan).collect::<Vec<_>>(), "why": null }),
        Err(error) => json!({ "plans": [], "why": error.to_string() }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_says_why_nobody_uses_it() {
        let said = |role: &str, offers: &Value, connected: bool, rings: u64| {
            reasons(&json!({
                "role": role,
                "certificate_s_left": 9,
                "rings_served": rings,
                "members": [
                    { "is_this": true, "offers": offers },
                    { "is_this": false, "is_connected": connected },
                ],
            }))
            .join("; ")
        };
        let layers = json!([{ "layers": [[0, 1]] }]);
        assert_eq!(said("serve", &layers, true, 1), "");
        assert_eq!(said("serve", &layers, true, 0), "no head has asked for its layers");
        assert_eq!(said("serve", &layers, false, 0), "no other member is connected");
        assert!(said("serve", &json!([]), true, 0).starts_with("it has no layers"));
        assert!(said("use", &json!([]), true, 0).starts_with("its role"));
    }
}
