//! The local network: saying that a key is to be found here, and finding such keys. Spec 03, 10.2.
//!
//! Nothing but a key goes out, and only while an [`Announcement`] lives. Whoever announces takes a
//! key for that purpose alone, so that nobody recognizes a node by it.

use std::net::{IpAddr, SocketAddr, SocketAddrV6};
use std::time::{Duration, Instant};

use mdns_sd::{IfKind, ResolvedService, ScopedIp, ServiceDaemon, ServiceEvent, ServiceInfo};
use shoal_base::Digest;
use shoal_wire::NodeId;
use shoal_wire::limits::ADDRESSES_MAX;

use crate::{NetError, PeerAddress};

/// The service of DNS-SD.
const SERVICE: &str = "_shoal._udp.local.";
/// What ends the name of a host.
const HOST: &str = ".local.";
/// How long the last word of an announcement may take.
const FAREWELL: Duration = Duration::from_secs(1);

/// As long as it lives, the local network can find a key.
pub struct Announcement {
    daemon: ServiceDaemon,
    name: String,
}

impl std::fmt::Debug for Announcement {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Announcement({})", self.name)
    }
}

impl Announcement {
    /// Announces that `node` listens on `port` at the addresses of this machine, those of IPv4
    /// alone unless it listens on all.
    ///
    /// # Errors
    /// There is no multicast here.
    pub fn start(node: NodeId, port: u16, with_ipv6: bool) -> Result<Self, NetError> {
        let daemon = daemon()?;
        let text = node.to_string();
        let (first, second) = text.split_at(text.len() / 2);
        let none: [(&str, &str); 0] = [];
        let host = format!("{second}{HOST}");
        let mut info = ServiceInfo::new(SERVICE, first, &host, "", port, &none[..])
            .map_err(refuse)?
            .enable_addr_auto();
        info.set_interfaces(vec![if with_ipv6 { IfKind::All } else { IfKind::IPv4 }]);
        let name = info.get_fullname().to_owned();
        daemon.register(info).map_err(refuse)?;
        Ok(Self { daemon, name })
    }
}

impl Drop for Announcement {
    fn drop(&mut self) {
        // Others forget it in two minutes in any case.
        if let Ok(said) = self.daemon.unregister(&self.name) {
            let _ = said.recv_timeout(FAREWELL);
        }
        let _ = self.daemon.shutdown();
    }
}

/// Keys that are announced on the local network, at most `limit` of them. Returns when there are so
/// many, after `wait`, or, once there is one, after `rest` without another.
///
/// # Errors
/// There is no multicast here.
pub fn find(wait: Duration, rest: Duration, limit: usize) -> Result<Vec<PeerAddress>, NetError> {
    let daemon = daemon()?;
    let events = daemon.browse(SERVICE).map_err(refuse)?;
    let mut found: Vec<PeerAddress> = Vec::new();
    let mut end = Instant::now() + wait;
    while found.len() < limit {
        let left = end.saturating_duration_since(Instant::now());
        let Ok(event) = events.recv_timeout(left) else {
            break;
        };
        let ServiceEvent::ServiceResolved(service) = event else {
            continue;
        };
        let Some(peer) = address(&service) else {
            continue;
        };
        match found.iter_mut().find(|other| other.node == peer.node) {
            Some(known) => *known = peer,
            None => {
                found.push(peer);
                end = end.min(Instant::now() + rest);
            }
        }
    }
    let _ = daemon.shutdown();
    Ok(found)
}

fn daemon() -> Result<ServiceDaemon, NetError> {
    ServiceDaemon::new().map_err(refuse)
}

fn refuse(error: mdns_sd::Error) -> NetError {
    NetError::Multicast { source: std::io::Error::other(error) }
}

/// The key that a stranger's answer names, and where it says it is.
fn address(service: &ResolvedService) -> Option<PeerAddress> {
    let first = service.fullname.strip_suffix(SERVICE)?.strip_suffix('.')?;
    let node: Digest = format!("{first}{}", service.host.strip_suffix(HOST)?).parse().ok()?;
    let places = service.addresses.iter().map(|ip| socket(ip, service.port));
    let is_usable = |ip: IpAddr| !ip.is_multicast() && !ip.is_unspecified();
    let mut sockets: Vec<SocketAddr> = places.filter(|socket| is_usable(socket.ip())).collect();
    sockets.sort_by_key(|socket| (socket.ip().is_loopback(), *socket));
    sockets.truncate(ADDRESSES_MAX);
    let is_somewhere = service.port > 0 && !sockets.is_empty();
    is_somewhere.then_some(PeerAddress { node: NodeId(node.0), sockets, relays: Vec::new() })
}

/// An address that means something on one link only comes with the link.
fn socket(ip: &ScopedIp, port: u16) -> SocketAddr {
    match ip {
        ScopedIp::V6(scoped) if scoped.addr().is_unicast_link_local() => {
            SocketAddrV6::new(*scoped.addr(), port, 0, scoped.scope_id().index).into()
        }
        other => SocketAddr::new(other.to_ip_addr(), port),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::SecretKey;

    #[test]
    fn what_is_announced_on_the_local_network_is_found_and_then_no_longer() {
        let node = SecretKey::new(&[7; 32]).id();
        let announced = Announcement::start(node, 4711, true).expect("multicast");
        let is_there = || {
            let found = find(Duration::from_secs(5), Duration::from_secs(1), 16);
            found.expect("multicast").into_iter().find(|peer| peer.node == node)
        };
        let found = is_there().expect("it is announced on this machine");
        assert!(found.sockets.iter().all(|socket| socket.port() == 4711), "{found}");
        drop(announced);
        assert_eq!(is_there(), None);
    }
}
