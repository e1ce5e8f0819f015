//! The node of this data folder as a member of a swarm: started, asked by other commands, ended.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::mpsc::Sender;
use std::time::Duration;

use serde_json::{Value, json};
use shoal_base::{Digest, PackageId};
use shoal_node::{
    MemberOptions, MemberState, MemberView, NoPlan, Node, NodeId, Plan, SwarmRole, SwarmView,
    wall_s,
};
use shoal_store::{NodeFolder, Store};

use crate::control::{self, Control, Request};
use crate::failure::{Code, Failure};
use crate::owner;
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
    /// Starts the node with the store of this data folder. `ended` hears when another command asks
    /// it to leave.
    pub(crate) fn start(
        session: &Session,
        options: MemberOptions,
        ended: Sender<()>,
    ) -> Result<Self, Failure> {
        let folder = folder(session)?;
        let path = folder.control();
        let store = session.store()?.clone();
        let options = MemberOptions { store: Some(store.clone()), ..options };
        let node = Node::start_member(folder, options)?;
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
    at_s.saturating_sub(wall_s())
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
        "is_public": view.is_published,
        "has_twin": view.has_twin,
        "rings_served": view.leases,
        "rests_because": owner::words(&view.rests),
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
        let mut why = vec!["its node does not run; start `shoal serve` or `shoal up`".to_owned()];
        why.extend(owner::would_rest(session)?);
        return Ok(json!({
            "is_running": false, "is_eligible": false, "not_in_a_ring_because": why,
        }));
    }
    let mut said = control::ask(&session.home, &Request::Swarm {})?;
    let obstacles = obstacles(&said);
    said["is_running"] = json!(true);
    said["is_eligible"] = json!(obstacles.is_empty());
    said["not_in_a_ring_because"] = match said["rings_served"].as_u64() {
        Some(1..) => json!([]),
        _ if obstacles.is_empty() => json!(["no head has asked for its layers"]),
        _ => json!(obstacles),
    };
    Ok(said)
}

/// What keeps others from using this node.
fn obstacles(said: &Value) -> Vec<String> {
    let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
    let members = list(&said["members"]);
    let own = members.iter().find(|member| member["is_this"] == true);
    let offers = own.map(|own| list(&own["offers"])).unwrap_or_default();
    let others = members.iter().filter(|member| member["is_this"] != true);
    let connected = others.filter(|member| member["is_connected"] == true).count();
    let relays = list(&said["relays"]);
    let is_here = |socket: &Value| {
        let socket = socket.as_str().and_then(|text| text.parse().ok());
        socket.is_some_and(|socket: SocketAddr| socket.ip().is_loopback())
    };
    let is_alone = relays.is_empty() && list(&said["listens"]).iter().all(is_here);
    let is_met = relays.is_empty() || relays.iter().any(|relay| relay["is_connected"] == true);
    let is_full = !offers.is_empty() && offers.iter().all(|o| o["cache_tokens_free"] == 0);
    let all = [
        (said["certificate_s_left"] == 0, "its certificate ran out and nobody renewed it"),
        (
            said["has_twin"] == true,
            "another process uses its key; a data folder is for one machine",
        ),
        (said["role"] == "use", "its role does not allow it to compute for others"),
        (offers.is_empty(), "it has no layers in memory; `shoal serve` loads some"),
        (is_full, "its caches are full; more --memory or --cache-tokens makes room"),
        (connected == 0, "no other member is connected"),
        (connected == 0 && is_alone, "it listens on this machine alone; see --listen and --relay"),
        (connected == 0 && !is_met, "none of its relays can be reached"),
    ];
    let found = all.iter().filter(|(is_so, _)| *is_so).map(|(_, why)| (*why).to_owned());
    let rests = list(&said["rests_because"]).into_iter();
    let rests = rests.filter_map(|why| why.as_str().map(str::to_owned));
    rests.chain(found).collect()
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
        let public = match health["is_public"] == true {
            true => "yes, its key leads everybody to its addresses",
            false => "no, nothing is published or looked up",
        };
        lines.push(format!("public         {public}"));
        lines.push(format!("rings served   {}", health["rings_served"]));
    }
    for member in health["members"].as_array().into_iter().flatten() {
        if let Some(ms) = member["round_trip_ms"].as_f64() {
            let node = member["node"].as_str().unwrap_or_default();
            let way = member["way"].as_str().unwrap_or("not connected");
            lines.push(format!("link           {node}, {ms:.2} ms, {way}"));
        }
    }
    if health["is_eligible"] == true {
        lines.push("eligible       yes".to_owned());
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
    fn a_node_says_what_keeps_others_from_using_it() {
        let usual = json!({
            "role": "serve",
            "certificate_s_left": 9,
            "listens": ["192.0.2.1:7"],
            "relays": [],
            "rests_because": [],
            "members": [
                { "is_this": true, "offers": [{ "layers": [[0, 1]], "cache_tokens_free": 5 }] },
                { "is_this": false, "is_connected": true },
            ],
        });
        let said = |change: &dyn Fn(&mut Value)| {
            let mut said = usual.clone();
            change(&mut said);
            obstacles(&said).join("; ")
        };
        assert_eq!(said(&|_| ()), "");
        let alone = |said: &mut Value| said["members"][1]["is_connected"] = json!(false);
        assert_eq!(said(&alone), "no other member is connected");
        let here = said(&|said| {
            alone(said);
            said["listens"] = json!(["127.0.0.1:7"]);
        });
        assert!(here.ends_with("it listens on this machine alone; see --listen and --relay"));
        let unmet = said(&|said| {
            alone(said);
            said["relays"] = json!([{ "relay": "http://192.0.2.2:7", "is_connected": false }]);
        });
        assert!(unmet.ends_with("none of its relays can be reached"), "{unmet}");
        let nothing = said(&|said| said["members"][0]["offers"] = json!([]));
        assert!(nothing.starts_with("it has no layers"));
        let full = said(&|said| said["members"][0]["offers"][0]["cache_tokens_free"] = json!(0));
        assert!(full.starts_with("its caches are full"));
        assert!(said(&|said| said["has_twin"] = json!(true)).starts_with("another process"));
        assert!(said(&|said| said["role"] = json!("use")).starts_with("its role"));
        assert!(said(&|said| said["certificate_s_left"] = json!(0)).contains("ran out"));
        assert_eq!(said(&|s| s["rests_because"] = json!(["it is noon"])), "it is noon");
    }
}
