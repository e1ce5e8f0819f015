//! What `shoal doctor` says of the way out: how addresses are translated, as relays see it.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use serde_json::{Value, json};
use shoal_node::{NatKind, NatReport, RelayUrl, nat_report};

use crate::failure::Failure;

/// Asks the relays. Without any nothing is asked and nothing is known.
pub(crate) fn look(relays: &[RelayUrl]) -> Result<Value, Failure> {
    let nothing = NatReport { kind: NatKind::Unknown, local: None, seen: Vec::new() };
    if relays.is_empty() {
        return Ok(value(&nothing, "no relay to ask was given, see --relay"));
    }
    let mut report = nat_report(IpAddr::V4(Ipv4Addr::UNSPECIFIED), relays)?;
    if report.seen.is_empty() {
        // Relays with addresses of the other kind only, if this machine has such addresses.
        report = nat_report(IpAddr::V6(Ipv6Addr::UNSPECIFIED), relays).unwrap_or(nothing);
    }
    Ok(value(&report, why(&report)))
}

fn why(report: &NatReport) -> &'static str {
    let answers = report.seen.iter().filter(|(_, seen)| seen.is_some()).count();
    match (report.kind, answers) {
        (NatKind::None, _) => "relays see the address this machine has",
        (NatKind::Cone, _) => "every place sees the same address: a direct way can be found",
        (NatKind::Symmetric, _) => {
            "each place sees another address: others behind translators mostly need a relay"
        }
        (NatKind::Unknown, 0) => "no relay answered over UDP",
        (NatKind::Unknown, _) => "addresses are translated, and only one place answered",
    }
}

fn value(report: &NatReport, why: &str) -> Value {
    let kind = match report.kind {
        NatKind::None => "none",
        NatKind::Cone => "cone",
        NatKind::Symmetric => "symmetric",
        NatKind::Unknown => "unknown",
    };
    let seen = report.seen.iter().map(|(by, seen)| json!({ "by": by, "as": seen }));
    json!({
        "kind": kind,
        "why": why,
        "local": report.local,
        "seen": seen.collect::<Vec<_>>(),
    })
}

/// The same for people.
pub(crate) fn lines(nat: &Value) -> Vec<String> {
    let word = |value: &Value| value.as_str().unwrap_or("nobody").to_owned();
    let mut lines = vec![format!("translation    {}: {}", word(&nat["kind"]), word(&nat["why"]))];
    for seen in nat["seen"].as_array().into_iter().flatten() {
        let line = match seen["as"].as_str() {
            Some(address) => format!("seen           as {address} by {}", word(&seen["by"])),
            None => format!("seen           not by {}: no answer", word(&seen["by"])),
        };
        lines.push(line);
    }
    lines
}
