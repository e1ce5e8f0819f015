//! What happens to each packet, without any I/O: time and packets in, packets out.
//!
//! A packet passes the sender's translator, waits for its uplink, crosses the link, passes the
//! receiver's translator, and waits for its downlink.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::net::Ipv4Addr;
use std::time::Duration;

use crate::link::{Access, Counts, Link, Pipe, Sent, Way};
use crate::nat::Nat;
use crate::packet::{End, Packet};
use crate::random::Random;

/// Packets on their way, all together; more are dropped like those of a full buffer.
const IN_FLIGHT_MAX: usize = 200_000;
/// Seeds of links count up from zero, those of translators from here.
const NAT_PURPOSE: u64 = 1 << 32;

/// Where a node is: what it calls itself, and what others call it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) inside: Ipv4Addr,
    pub(crate) public: Ipv4Addr,
}

/// The network.
#[derive(Debug)]
pub(crate) struct Network {
    nodes: Vec<Attached>,
    by_address: BTreeMap<Ipv4Addr, usize>,
    /// From, then to.
    ways: Vec<Way>,
    queue: BinaryHeap<Reverse<Flying>>,
    next_number: u64,
    /// Packets that are not IPv4, or from or for nobody.
    pub(crate) stray: u64,
}

#[derive(Debug)]
struct Attached {
    place: Place,
    up: Pipe,
    down: Pipe,
    nat: Option<Nat>,
    sent: Sent,
}

/// A packet that comes out.
#[derive(Debug)]
pub(crate) struct Delivery {
    pub(crate) due: Duration,
    pub(crate) to: usize,
    pub(crate) packet: Packet,
}

/// A packet on its way. Ordered by time, then by number.
#[derive(Debug)]
struct Flying {
    due: Duration,
    number: u64,
    from: usize,
    to: usize,
    /// Whether it is past the receiver's translator and downlink.
    is_through: bool,
    packet: Packet,
}

impl Flying {
    fn key(&self) -> (Duration, u64) {
        (self.due, self.number)
    }
}

impl PartialEq for Flying {
    fn eq(&self, other: &Self) -> bool {
        self.key() == other.key()
    }
}

impl Eq for Flying {}

impl PartialOrd for Flying {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Flying {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.key().cmp(&other.key())
    }
}

/// Addresses of node `index`: RFC 2544 in public, RFC 1918 behind a translator.
pub(crate) fn place(index: usize, access: &Access) -> Place {
    let number = u8::try_from(index).expect("labs are smaller");
    let public = Ipv4Addr::new(198, 18, number, 1);
    let inside = match access.nat {
        Some(_) => Ipv4Addr::new(192, 168, number, 2),
        None => public,
    };
    Place { inside, public }
}

impl Network {
    pub(crate) fn new(nodes: &[Access], link: Link, seed: u64) -> Self {
        let attached = nodes.iter().enumerate().map(|(index, access)| {
            let place = place(index, access);
            let random = Random::new(seed, NAT_PURPOSE + index as u64);
            Attached {
                place,
                up: Pipe::new(access.up, access.buffer_bytes),
                down: Pipe::new(access.down, access.buffer_bytes),
                nat: access.nat.map(|kind| Nat::new(kind, place.public, random)),
                sent: Sent::default(),
            }
        });
        let nodes: Vec<Attached> = attached.collect();
        let by_address = nodes.iter().enumerate();
        let by_address = by_address.map(|(index, node)| (node.place.public, index)).collect();
        let ways = (0..nodes.len() * nodes.len())
            .map(|number| Way::new(link, Random::new(seed, number as u64)))
            .collect();
        let queue = BinaryHeap::new();
        Self { nodes, by_address, ways, queue, next_number: 0, stray: 0 }
    }

    pub(crate) fn count(&self) -> usize {
        self.nodes.len()
    }

    pub(crate) fn way(&mut self, from: usize, to: usize) -> &mut Way {
        let count = self.nodes.len();
        &mut self.ways[from * count + to]
    }

    pub(crate) fn counts(&self, from: usize, to: usize) -> Counts {
        self.ways[from * self.nodes.len() + to].counts
    }

    pub(crate) fn sent(&self, from: usize) -> Sent {
        self.nodes[from].sent
    }

    /// A node sends something.
    pub(crate) fn submit(&mut self, now: Duration, from: usize, bytes: Vec<u8>) {
        let parsed = Packet::parse(bytes);
        let is_local = parsed.as_ref().is_some_and(|packet| {
            let target = packet.address(End::Target);
            // Groups of the local network alone: 224.0.0.0/24.
            target.is_broadcast() || target.octets().starts_with(&[224, 0, 0])
        });
        let sent = &mut self.nodes[from].sent;
        *(if is_local { &mut sent.local } else { &mut sent.beyond }) += 1;
        let node = &self.nodes[from];
        let own = parsed.filter(|packet| packet.address(End::Source) == node.place.inside);
        let target = own.as_ref().map(|packet| packet.address(End::Target));
        let to = target.and_then(|target| self.by_address.get(&target).copied());
        let (Some(mut packet), Some(to)) = (own, to) else {
            self.stray += 1;
            return;
        };
        let is_full = self.queue.len() >= IN_FLIGHT_MAX;
        let count = self.nodes.len();
        let (node, way) = (&mut self.nodes[from], &mut self.ways[from * count + to]);
        let passes = node.nat.as_mut().is_none_or(|nat| nat.outward(now, &mut packet));
        let bytes = packet.bytes().len();
        way.counts.sent += 1;
        way.counts.sent_bytes += bytes as u64;
        if !passes {
            way.counts.filtered += 1;
        } else if way.is_cut {
            way.counts.cut += 1;
        } else if is_full {
            way.counts.overflowed += 1;
        } else if let Some(left) = node.up.enter(now, bytes) {
            match way.cross(left) {
                Some(due) => {
                    self.fly(Flying { due, number: 0, from, to, is_through: false, packet })
                }
                None => way.counts.lost += 1,
            }
        } else {
            way.counts.overflowed += 1;
        }
    }

    fn fly(&mut self, flying: Flying) {
        self.next_number += 1;
        self.queue.push(Reverse(Flying { number: self.next_number, ..flying }));
    }

    /// When something happens next.
    pub(crate) fn next_at(&self) -> Option<Duration> {
        self.queue.peek().map(|Reverse(flying)| flying.due)
    }

    /// The next packet that comes out by now.
    pub(crate) fn next(&mut self, now: Duration) -> Option<Delivery> {
        while self.next_at().is_some_and(|due| due <= now) {
            let Reverse(mut flying) = self.queue.pop()?;
            let Flying { due, from, to, is_through, .. } = flying;
            let count = self.nodes.len();
            let (node, way) = (&mut self.nodes[to], &mut self.ways[from * count + to]);
            // What is on its way when a cable is cut is gone too.
            if way.is_cut {
                way.counts.cut += 1;
                continue;
            }
            if is_through {
                way.counts.delivered += 1;
                return Some(Delivery { due, to, packet: flying.packet });
            }
            let nat = node.nat.as_mut();
            if !nat.is_none_or(|nat| nat.inward(due, &mut flying.packet)) {
                way.counts.filtered += 1;
                continue;
            }
            match node.down.enter(due, flying.packet.bytes().len()) {
                Some(due) => self.fly(Flying { due, is_through: true, ..flying }),
                None => way.counts.overflowed += 1,
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use etherparse::PacketBuilder;

    const MS: Duration = Duration::from_millis(1);

    fn packet(from: u8, to: u8, bytes: usize) -> Vec<u8> {
        let builder = PacketBuilder::ipv4([198, 18, from, 1], [198, 18, to, 1], 64).udp(5, 7);
        let mut packet = Vec::new();
        builder.write(&mut packet, &vec![0; bytes - 28]).unwrap();
        packet
    }

    /// Everything that comes out, at its own time.
    fn drain(network: &mut Network) -> Vec<(Duration, usize)> {
        std::iter::from_fn(|| {
            let now = network.next_at()?;
            Some(network.next(now).map(|out| (out.due, out.to)))
        })
        .flatten()
        .collect()
    }

    fn network(access: Access, link: Link) -> Network {
        Network::new(&[access; 3], link, 7)
    }

    #[test]
    fn a_packet_takes_the_time_of_its_bits_and_of_the_way() {
        let access =
            Access { up: Some(8_000_000), down: Some(80_000_000), buffer_bytes: 9999, nat: None };
        let mut network = network(access, Link { delay: MS * 10, ..Link::default() });
        network.submit(Duration::ZERO, 0, packet(0, 1, 1000));
        network.submit(Duration::ZERO, 0, packet(0, 2, 1000));
        let tenth = MS / 10;
        assert_eq!(drain(&mut network), [(MS * 11 + tenth, 1), (MS * 12 + tenth, 2)]);
    }

    #[test]
    fn a_buffer_holds_so_many_bytes_and_drops_the_rest() {
        let access = Access { up: Some(8_000_000), down: None, buffer_bytes: 3000, nat: None };
        let mut network = network(access, Link::default());
        for _ in 0..5 {
            network.submit(Duration::ZERO, 0, packet(0, 1, 1000));
        }
        assert_eq!(drain(&mut network).len(), 3);
        assert_eq!(network.counts(0, 1).overflowed, 2);
        network.submit(MS * 4, 0, packet(0, 1, 1000));
        assert_eq!(drain(&mut network), [(MS * 5, 1)], "the line is free again");
    }

    #[test]
    fn the_rate_is_exact_under_load() {
        let access = Access { up: Some(20_000_000), down: None, buffer_bytes: 100_000, nat: None };
        let mut network = network(access, Link::default());
        let mut now = Duration::ZERO;
        let mut arrived = 0;
        while now < MS * 2000 {
            network.submit(now, 0, packet(0, 1, 1500));
            while network.next(now).is_some() {
                arrived += 1;
            }
            now += MS / 4;
        }
        let bits = f64::from(arrived) * 1500.0 * 8.0 / 2.0;
        assert!((bits / 20e6 - 1.0).abs() < 0.01, "{bits}");
    }

    #[test]
    fn loss_is_the_same_for_the_same_seed_and_about_what_was_asked_for() {
        let link = Link { loss: 0.01, ..Link::default() };
        let lost = |seed, noise: bool| {
            let mut network = Network::new(&[Access::default(); 3], link, seed);
            let mut lost = Vec::new();
            for index in 0..20_000 {
                if noise {
                    network.submit(MS, 1, packet(1, 2, 100));
                }
                let before = network.counts(0, 1).lost;
                network.submit(MS, 0, packet(0, 1, 100));
                if network.counts(0, 1).lost > before {
                    lost.push(index);
                }
            }
            lost
        };
        let first = lost(1, false);
        // 200 are expected, with a deviation of 14.
        assert!((140..=260).contains(&first.len()), "{}", first.len());
        assert_eq!(lost(1, true), first, "other links change nothing");
        assert_ne!(lost(2, false), first);
    }

    #[test]
    fn jitter_delays_and_keeps_the_order() {
        let mut network = network(Access::default(), Link { jitter: MS * 5, ..Link::default() });
        for index in 0..1000_u32 {
            network.submit(MS / 10 * index, 0, packet(0, 1, 100));
        }
        let mut last = 0;
        let mut latest = Duration::ZERO;
        while let Some(now) = network.next_at() {
            let before = network.next_number;
            let out = network.next(now).unwrap();
            assert!(out.due <= now && out.due >= latest, "{before}");
            latest = out.due;
            last += 1;
        }
        assert_eq!(last, 1000);
        assert!(latest >= MS * 100 && latest <= MS * 105, "{latest:?}");
    }

    #[test]
    fn a_cut_stops_what_is_on_its_way_and_nothing_else() {
        let mut network = network(Access::default(), Link { delay: MS, ..Link::default() });
        network.submit(Duration::ZERO, 0, packet(0, 1, 100));
        network.submit(Duration::ZERO, 0, packet(0, 2, 100));
        network.way(0, 1).is_cut = true;
        network.submit(Duration::ZERO, 0, packet(0, 1, 100));
        network.submit(Duration::ZERO, 1, packet(1, 0, 100));
        assert_eq!(drain(&mut network), [(MS, 2), (MS, 0)]);
        assert_eq!(
            network.counts(0, 1),
            Counts { sent: 2, sent_bytes: 200, cut: 2, ..Counts::default() }
        );
        network.way(0, 1).is_cut = false;
        network.submit(MS * 2, 0, packet(0, 1, 100));
        assert_eq!(drain(&mut network), [(MS * 3, 1)]);
    }

    #[test]
    fn strange_packets_are_counted_and_go_nowhere() {
        let mut network = network(Access::default(), Link::default());
        network.submit(MS, 0, vec![0x60; 40]);
        network.submit(MS, 0, packet(1, 2, 100));
        network.submit(MS, 0, packet(0, 9, 100));
        assert_eq!((network.stray, network.next_at()), (3, None));
    }
}
