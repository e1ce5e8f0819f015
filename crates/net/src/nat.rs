//! What stands between this machine and the others: addresses as relays see them, and the kind of
//! translation that follows.

use std::io;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::time::Duration;

use futures_util::StreamExt as _;
use iroh_relay::quic::{QUIC_ADDR_DISC_CLOSE_CODE, QUIC_ADDR_DISC_CLOSE_REASON, QuicClient};
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::limits::{DISCOVERY_PORT, MIRROR};
use crate::{NetError, RelayUrl, tls};

/// How addresses are translated on the way out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NatKind {
    /// They are not.
    None,
    /// To the same address for every target: two of these find a direct way.
    Cone,
    /// To another one for each target: two of these need a relay.
    Symmetric,
    /// Too few answers to tell.
    Unknown,
}

/// What was found out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NatReport {
    /// The kind.
    pub kind: NatKind,
    /// The address of the socket that asked.
    pub local: Option<SocketAddr>,
    /// Who was asked, and as whom it saw that socket.
    pub seen: Vec<(SocketAddr, Option<SocketAddr>)>,
}

/// Asks relays how a socket of this machine looks from outside.
///
/// # Errors
/// No socket can be had at `from`.
pub async fn nat_kind(from: IpAddr, relays: &[RelayUrl]) -> Result<NatReport, NetError> {
    let address = SocketAddr::new(from, 0);
    let refuse = |source| NetError::Bind { address, source };
    let socket = noq::Endpoint::client(address).map_err(refuse)?;
    let provider = iroh::tls::default_provider();
    let authorities = tls::authorities(relays).client_config(provider).map_err(refuse)?;
    let client = QuicClient::new(socket.clone(), authorities);
    let mut asked = JoinSet::new();
    let mut local = None;
    for relay in relays {
        for target in targets(relay, from.is_ipv4()).await {
            local = local.or_else(|| source(from, target));
            let (client, host) = (client.clone(), bare_host(relay));
            asked.spawn(async move {
                let seen = timeout(MIRROR, ask(&client, target, &host)).await;
                (target, seen.ok().flatten())
            });
        }
    }
    let mut seen = asked.join_all().await;
    seen.sort_unstable();
    let port = socket.local_addr().map_err(refuse)?.port();
    let local = local.map(|ip| SocketAddr::new(ip, port));
    socket.close(QUIC_ADDR_DISC_CLOSE_CODE, QUIC_ADDR_DISC_CLOSE_REASON);
    // What was said last goes out before the socket does.
    let _ = timeout(Duration::from_millis(100), socket.wait_idle()).await;
    Ok(NatReport { kind: kind(local, &seen), local, seen })
}

/// A relay without a certificate answers on two ports, so that it alone is enough to tell kinds
/// apart.
async fn targets(relay: &RelayUrl, is_v4: bool) -> Vec<SocketAddr> {
    let ports = match relay.is_plain() {
        true => vec![relay.port(), relay.port().saturating_add(1)],
        false => vec![DISCOVERY_PORT],
    };
    let host = bare_host(relay);
    // An address is not looked up; a name was the choice of whoever wrote it.
    let found = timeout(MIRROR, tokio::net::lookup_host((host.as_str(), ports[0]))).await;
    let found = found.ok().and_then(Result::ok);
    let ip = found.and_then(|mut all| all.find(|place| place.is_ipv4() == is_v4));
    let Some(ip) = ip.map(|place| place.ip()) else {
        return Vec::new();
    };
    ports.into_iter().map(|port| SocketAddr::new(ip, port)).collect()
}

fn bare_host(relay: &RelayUrl) -> String {
    relay.host().trim_matches(['[', ']']).to_owned()
}

async fn ask(client: &QuicClient, target: SocketAddr, host: &str) -> Option<SocketAddr> {
    let connection = client.create_conn(target, host).await.ok()?;
    let seen = connection.observed_external_addr().next().await?;
    connection.close(QUIC_ADDR_DISC_CLOSE_CODE, QUIC_ADDR_DISC_CLOSE_REASON);
    Some(SocketAddr::new(seen.ip().to_canonical(), seen.port()))
}

/// From which address packets to a target leave. Nothing is sent.
fn source(from: IpAddr, target: SocketAddr) -> Option<IpAddr> {
    if !from.is_unspecified() {
        return Some(from);
    }
    let found: io::Result<SocketAddr> = (|| {
        let socket = UdpSocket::bind(SocketAddr::new(from, 0))?;
        socket.connect(target)?;
        socket.local_addr()
    })();
    found.ok().map(|address| address.ip())
}

fn kind(local: Option<SocketAddr>, seen: &[(SocketAddr, Option<SocketAddr>)]) -> NatKind {
    let mut answers = seen.iter().filter_map(|(_, seen)| *seen);
    let Some(first) = answers.next() else {
        return NatKind::Unknown;
    };
    let others: Vec<SocketAddr> = answers.collect();
    if others.iter().any(|other| *other != first) {
        return NatKind::Symmetric;
    }
    match (local == Some(first), others.is_empty()) {
        (true, _) => NatKind::None,
        (false, true) => NatKind::Unknown,
        (false, false) => NatKind::Cone,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_follow_from_what_two_places_see() {
        let place = |text: &str| -> SocketAddr { text.parse().unwrap() };
        let (local, out, else_) =
            (place("192.168.0.2:5"), place("192.0.2.9:7"), place("192.0.2.9:8"));
        let (a, b) = (place("192.0.2.1:1"), place("192.0.2.1:2"));
        let kind = |x, y| kind(Some(local), &[(a, x), (b, y)]);
        assert_eq!(kind(None, None), NatKind::Unknown);
        assert_eq!(kind(Some(out), None), NatKind::Unknown, "one place cannot tell");
        assert_eq!(kind(Some(local), None), NatKind::None);
        assert_eq!(kind(Some(local), Some(local)), NatKind::None);
        assert_eq!(kind(Some(out), Some(out)), NatKind::Cone);
        assert_eq!(kind(Some(out), Some(else_)), NatKind::Symmetric);
    }
}
