//! Address translation in front of one node, in the words of RFC 4787.
//!
//! Ports are chosen at random, so that a program which takes its own port for the mapped one is
//! found out. Fragments are dropped: only the first would have ports.

use std::collections::BTreeMap;
use std::fmt;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::str::FromStr;
use std::time::Duration;

use crate::packet::{End, Packet, TCP};
use crate::random::Random;

/// How long a mapping lives after the last packet from inside (RFC 4787, REQ-5; RFC 5382, REQ-5).
const UDP_LIFE: Duration = Duration::from_secs(120);
const TCP_LIFE: Duration = Duration::from_secs(7440);
/// Mappings at once, and peers of one mapping.
const MAPPINGS_MAX: usize = 8192;
const PEERS_MAX: usize = 1024;
const PORT_FIRST: u16 = 1024;

/// How a translator maps and filters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NatKind {
    /// One mapping for all targets; everybody may use it.
    FullCone,
    /// One mapping for all targets; only those may use it to whom something was sent, by address
    /// and port.
    PortRestricted,
    /// A mapping for each target, which alone may use it.
    Symmetric,
}

impl fmt::Display for NatKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::FullCone => "full-cone",
            Self::PortRestricted => "port-restricted",
            Self::Symmetric => "symmetric",
        })
    }
}

impl FromStr for NatKind {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        [Self::FullCone, Self::PortRestricted, Self::Symmetric]
            .into_iter()
            .find(|kind| kind.to_string() == text)
            .ok_or("full-cone, port-restricted or symmetric")
    }
}

/// What a mapping is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Flow {
    protocol: u8,
    inside: SocketAddrV4,
    /// Only where mappings depend on it.
    outside: Option<SocketAddrV4>,
}

#[derive(Debug)]
struct Mapping {
    flow: Flow,
    ends: Duration,
    /// Who may use it, and until when.
    peers: BTreeMap<SocketAddrV4, Duration>,
}

/// The translator of one node.
#[derive(Debug)]
pub(crate) struct Nat {
    kind: NatKind,
    public: Ipv4Addr,
    random: Random,
    by_flow: BTreeMap<Flow, u16>,
    by_port: BTreeMap<(u8, u16), Mapping>,
}

impl Nat {
    pub(crate) fn new(kind: NatKind, public: Ipv4Addr, random: Random) -> Self {
        Self { kind, public, random, by_flow: BTreeMap::new(), by_port: BTreeMap::new() }
    }

    /// Translates what leaves. Says whether it passes.
    pub(crate) fn outward(&mut self, now: Duration, packet: &mut Packet) -> bool {
        if let Some(quoted) = packet.quoted() {
            // An error about something that came in through a mapping.
            let mut mappings = self.by_port.iter();
            let found = mappings.find(|((protocol, _), mapping)| {
                *protocol == quoted.protocol && mapping.flow.inside == quoted.target
            });
            let Some(((_, port), _)) = found else {
                return false;
            };
            let public = SocketAddrV4::new(self.public, *port);
            packet.set_quoted(End::Target, public);
            packet.set_address(End::Source, self.public);
            return true;
        }
        let Some(ends) = packet.ends() else {
            return false;
        };
        let outside = (self.kind == NatKind::Symmetric).then_some(ends.target);
        let flow = Flow { protocol: ends.protocol, inside: ends.source, outside };
        let Some(port) = self.port(now, flow) else {
            return false;
        };
        let life = now + life(ends.protocol);
        let mapping = self.by_port.get_mut(&(ends.protocol, port)).expect("it was just found");
        mapping.ends = life;
        if mapping.peers.len() >= PEERS_MAX {
            mapping.peers.retain(|_, ends| *ends > now);
        }
        if mapping.peers.len() < PEERS_MAX || mapping.peers.contains_key(&ends.target) {
            mapping.peers.insert(ends.target, life);
        }
        packet.set(End::Source, SocketAddrV4::new(self.public, port));
        true
    }

    /// Translates what wants in. Says whether it passes.
    pub(crate) fn inward(&mut self, now: Duration, packet: &mut Packet) -> bool {
        if let Some(quoted) = packet.quoted() {
            let Some(mapping) = self.mapping(now, quoted.protocol, quoted.source.port()) else {
                return false;
            };
            let inside = mapping.flow.inside;
            packet.set_quoted(End::Source, inside);
            packet.set_address(End::Target, *inside.ip());
            return true;
        }
        let Some(ends) = packet.ends() else {
            return false;
        };
        let kind = self.kind;
        let Some(mapping) = self.mapping(now, ends.protocol, ends.target.port()) else {
            return false;
        };
        // An echo has one number for both ends: the answer carries the mapped one.
        let known = |peer: &SocketAddrV4| match ends.protocol {
            crate::packet::ICMP => peer.ip() == ends.source.ip(),
            _ => *peer == ends.source,
        };
        let may = match kind {
            NatKind::FullCone => true,
            _ => mapping.peers.iter().any(|(peer, ends)| *ends > now && known(peer)),
        };
        let inside = mapping.flow.inside;
        if may {
            packet.set(End::Target, inside);
        }
        may
    }

    fn mapping(&self, now: Duration, protocol: u8, port: u16) -> Option<&Mapping> {
        self.by_port.get(&(protocol, port)).filter(|mapping| mapping.ends > now)
    }

    /// The port of a flow; a new one if it has none.
    fn port(&mut self, now: Duration, flow: Flow) -> Option<u16> {
        if let Some(port) = self.by_flow.get(&flow).copied() {
            if self.mapping(now, flow.protocol, port).is_some() {
                return Some(port);
            }
            self.forget(flow.protocol, port);
        }
        if self.by_port.len() >= MAPPINGS_MAX {
            let over = self.by_port.iter().filter(|(_, mapping)| mapping.ends <= now);
            for (protocol, port) in over.map(|(key, _)| *key).collect::<Vec<_>>() {
                self.forget(protocol, port);
            }
            if self.by_port.len() >= MAPPINGS_MAX {
                return None;
            }
        }
        // At most one port in eight is taken, so this ends.
        let port = loop {
            let port = PORT_FIRST + (self.random.next() % u64::from(u16::MAX - PORT_FIRST)) as u16;
            if !self.by_port.contains_key(&(flow.protocol, port)) {
                break port;
            }
        };
        let mapping = Mapping { flow, ends: now, peers: BTreeMap::new() };
        self.by_flow.insert(flow, port);
        self.by_port.insert((flow.protocol, port), mapping);
        Some(port)
    }

    fn forget(&mut self, protocol: u8, port: u16) {
        if let Some(mapping) = self.by_port.remove(&(protocol, port)) {
            self.by_flow.remove(&mapping.flow);
        }
    }
}

fn life(protocol: u8) -> Duration {
    if protocol == TCP { TCP_LIFE } else { UDP_LIFE }
}

#[cfg(test)]
mod tests {
    use super::*;
    use etherparse::PacketBuilder;

    const INSIDE: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::new(192, 168, 1, 2), 5000);
    const PUBLIC: Ipv4Addr = Ipv4Addr::new(198, 18, 0, 9);

    fn packet(from: SocketAddrV4, to: SocketAddrV4) -> Packet {
        let builder = PacketBuilder::ipv4(from.ip().octets(), to.ip().octets(), 64);
        let mut bytes = Vec::new();
        builder.udp(from.port(), to.port()).write(&mut bytes, b"hello").unwrap();
        Packet::parse(bytes).unwrap()
    }

    fn peer(last: u8, port: u16) -> SocketAddrV4 {
        SocketAddrV4::new(Ipv4Addr::new(198, 18, 0, last), port)
    }

    fn nat(kind: NatKind) -> Nat {
        Nat::new(kind, PUBLIC, Random::new(1, 1))
    }

    fn out(nat: &mut Nat, at: Duration, to: SocketAddrV4) -> SocketAddrV4 {
        let mut packet = packet(INSIDE, to);
        assert!(nat.outward(at, &mut packet));
        packet.ends().unwrap().source
    }

    fn enters(nat: &mut Nat, at: Duration, from: SocketAddrV4, to: SocketAddrV4) -> bool {
        let mut packet = packet(from, to);
        let enters = nat.inward(at, &mut packet);
        let target = packet.ends().unwrap().target;
        assert_eq!(target, if enters { INSIDE } else { to });
        enters
    }

    #[test]
    fn cones_map_once_and_symmetric_ones_once_per_target() {
        let now = Duration::ZERO;
        for kind in [NatKind::FullCone, NatKind::PortRestricted] {
            let mut nat = nat(kind);
            let first = out(&mut nat, now, peer(1, 7));
            assert_eq!(first.ip(), &PUBLIC);
            assert_eq!(out(&mut nat, now, peer(1, 8)), first, "{kind}");
            assert_eq!(out(&mut nat, now, peer(2, 7)), first, "{kind}");
        }
        let mut nat = nat(NatKind::Symmetric);
        let first = out(&mut nat, now, peer(1, 7));
        assert_eq!(out(&mut nat, now, peer(1, 7)), first);
        assert_ne!(out(&mut nat, now, peer(1, 8)), first);
        assert_ne!(out(&mut nat, now, peer(2, 7)), first);
    }

    #[test]
    fn who_may_enter_is_what_the_kind_says() {
        let now = Duration::ZERO;
        // From where, and whether it enters: full cone, port restricted, symmetric.
        let cases = [
            (peer(1, 7), [true, true, true]),
            (peer(1, 8), [true, false, false]),
            (peer(2, 7), [true, false, false]),
        ];
        let kinds = [NatKind::FullCone, NatKind::PortRestricted, NatKind::Symmetric];
        for (index, kind) in kinds.into_iter().enumerate() {
            let mut nat = nat(kind);
            let public = out(&mut nat, now, peer(1, 7));
            for (from, expected) in cases {
                let got = enters(&mut nat, now, from, public);
                assert_eq!(got, expected[index], "{kind} from {from}");
            }
            let elsewhere = SocketAddrV4::new(PUBLIC, public.port() ^ 1);
            assert!(!enters(&mut nat, now, peer(1, 7), elsewhere), "no mapping");
        }
        let mut nat = nat(NatKind::Symmetric);
        let first = out(&mut nat, now, peer(1, 7));
        out(&mut nat, now, peer(2, 7));
        assert!(!enters(&mut nat, now, peer(2, 7), first), "a mapping of another target");
    }

    #[test]
    fn mappings_end_and_packets_from_inside_keep_them() {
        let mut nat = nat(NatKind::PortRestricted);
        let second = Duration::from_secs(1);
        let public = out(&mut nat, Duration::ZERO, peer(1, 7));
        assert_eq!(out(&mut nat, UDP_LIFE - second, peer(1, 7)), public);
        assert!(enters(&mut nat, UDP_LIFE + second, peer(1, 7), public));
        let late = UDP_LIFE * 2 - second;
        assert!(!enters(&mut nat, late, peer(1, 7), public), "only packets from inside count");
        assert_ne!(out(&mut nat, late, peer(1, 7)), public);
    }

    #[test]
    fn a_full_table_takes_no_more_until_something_ends() {
        let mut nat = nat(NatKind::Symmetric);
        for port in 0..MAPPINGS_MAX as u16 {
            out(&mut nat, Duration::ZERO, peer(1, port + 1));
        }
        assert!(!nat.outward(Duration::ZERO, &mut packet(INSIDE, peer(2, 1))));
        assert!(nat.outward(UDP_LIFE, &mut packet(INSIDE, peer(2, 1))));
    }
}
