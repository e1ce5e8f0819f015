//! What gossip costs: nodes that share a package describe themselves, each connected to a few.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::time::Duration;

use shoal_base::{Digest, PackageId};
use shoal_swarm::{Gossip, Issuer, Members, Moment, NodeKey, Random as _, limits, own_certificate};
use shoal_wire::{
    CertificateChain, Coordinate, Descriptor, Field as _, LayerRange, Link, List, MemberState,
    NodeId, Offer, Signed, Text, duties,
};

use crate::queue::Queue;
use crate::random::Seeded;

/// How long it is watched.
const WATCHED: Duration = Duration::from_secs(1800);
/// One way between two nodes.
const DELAY: Duration = Duration::from_millis(50);

/// What it came to.
#[derive(Clone, Copy, Debug)]
pub struct GossipCost {
    /// Nodes.
    pub nodes: usize,
    /// Bytes of a descriptor.
    pub descriptor_bytes: usize,
    /// How often each node describes itself.
    pub every: Duration,
    /// Bytes that a node sends in a minute; as many arrive.
    pub bytes_per_min: f64,
    /// The same of the node that sends most.
    pub bytes_per_min_max: f64,
    /// Share of the nodes that hear of a description.
    pub reached: f64,
}

impl fmt::Display for GossipCost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} nodes, {} bytes every {} s: {:.1} kB per node and minute, at most {:.1} kB; each \
             description reaches {:.1} %",
            self.nodes,
            self.descriptor_bytes,
            self.every.as_secs(),
            self.bytes_per_min / 1000.0,
            self.bytes_per_min_max / 1000.0,
            self.reached * 100.0
        )
    }
}

/// A node describes itself, or hears of another.
enum Event {
    Announce(u32),
    Heard { by: u32, from: u32, about: u32 },
}

/// Counts among so many nodes.
#[must_use]
pub fn gossip_cost(nodes: usize, seed: u64) -> GossipCost {
    let mut random = Seeded(seed);
    let keys: Vec<NodeKey> = (0..nodes).map(|index| key(index as u64)).collect();
    let ids: Vec<NodeId> = keys.iter().map(NodeKey::id).collect();
    let near = neighbours(nodes, &mut random);
    let chain = certificate(&mut random);
    let describe = |(key, peers): (&NodeKey, &Vec<u32>)| {
        let links = peers.iter().map(|peer| ids[*peer as usize]);
        key.sign(descriptor(key.id(), links.collect(), &chain))
    };
    let said: Vec<Signed<Descriptor>> = keys.iter().zip(&near).map(describe).collect();
    let mut members = Members::default();
    for signed in &said {
        members.learn(signed.clone(), Moment(0)).expect("nodes sign what they say");
    }
    let every = members.announce_every();
    let mut queue = Queue::new();
    for node in 0..nodes as u32 {
        let at = random.unit() * every.as_secs_f64();
        queue.push(Moment(0) + Duration::from_secs_f64(at), Event::Announce(node));
    }
    let mut gossips: Vec<Gossip> = (0..nodes).map(|_| Gossip::default()).collect();
    let mut sent = vec![0_u64; nodes];
    // Who has heard the last description of whom.
    let mut heard = vec![false; nodes * nodes];
    let (mut announced, mut reached) = (0_usize, 0_usize);
    let by_id: BTreeMap<NodeId, u32> = ids.iter().copied().zip(0..).collect();
    while let Some((now, event)) = queue.pop() {
        if now > Moment(0) + WATCHED {
            break;
        }
        let (from, about, to): (u32, u32, Vec<u32>) = match event {
            Event::Announce(node) => {
                announced += 1;
                let row = node as usize * nodes;
                heard[row..row + nodes].fill(false);
                heard[row + node as usize] = true;
                queue.push(now + every, Event::Announce(node));
                (node, node, near[node as usize].to_vec())
            }
            Event::Heard { by, from, about } => {
                let place = about as usize * nodes + by as usize;
                if std::mem::replace(&mut heard[place], true) {
                    continue;
                }
                reached += 1;
                let peers = near[by as usize].iter().filter(|peer| **peer != from);
                let peers = peers.map(|peer| ids[*peer as usize]);
                let gossip = &mut gossips[by as usize];
                let signed = &said[about as usize];
                let chosen = gossip.pass_on(&members, signed, peers, now, &mut random);
                (by, about, chosen.iter().map(|id| by_id[id]).collect())
            }
        };
        sent[from as usize] += (said[about as usize].to_bytes().len() * to.len()) as u64;
        for by in to {
            queue.push(now + DELAY, Event::Heard { by, from, about });
        }
    }
    let minutes = WATCHED.as_secs_f64() / 60.0;
    GossipCost {
        nodes,
        descriptor_bytes: said[0].to_bytes().len(),
        every,
        bytes_per_min: sent.iter().sum::<u64>() as f64 / nodes as f64 / minutes,
        bytes_per_min_max: sent.iter().max().copied().unwrap_or(0) as f64 / minutes,
        reached: reached as f64 / (announced * (nodes - 1)).max(1) as f64,
    }
}

/// Each node is connected to some others by chance; connections have two ends.
fn neighbours(nodes: usize, random: &mut Seeded) -> Vec<Vec<u32>> {
    let wanted = limits::NEIGHBOURS_MAX.min(nodes - 1);
    let mut near = vec![BTreeSet::new(); nodes];
    for node in 0..nodes {
        for _ in 0..wanted * 8 {
            let peer = random.below(nodes as u64) as usize;
            if near[node].len() >= wanted {
                break;
            }
            if peer != node && near[peer].len() < wanted {
                near[node].insert(peer as u32);
                near[peer].insert(node as u32);
            }
        }
    }
    near.into_iter().map(|peers| peers.into_iter().collect()).collect()
}

fn key(index: u64) -> NodeKey {
    let mut secret = [3; 32];
    secret[..8].copy_from_slice(&index.to_le_bytes());
    NodeKey::new(&secret)
}

fn certificate(random: &mut Seeded) -> CertificateChain {
    let owner = key(u64::MAX);
    let node = key(u64::MAX - 1).id();
    let chain = own_certificate(&mut Issuer::owner(owner), node, 1_000, random);
    chain.expect("an owner may sign")
}

fn descriptor(node: NodeId, mut peers: Vec<NodeId>, chain: &CertificateChain) -> Descriptor {
    peers.sort_unstable();
    let link = |peer| Link { peer, rtt_us: 20_000, loss_ppm: 0, is_relayed: false };
    let layers = LayerRange { first: 0, end: 16 };
    let offer = Offer {
        package: PackageId(Digest::of(b"a package of the simulator")),
        arithmetic: 1,
        held: List::truncated([layers]),
        loaded: List::truncated([layers]),
        decode_ns: 1_000_000,
        prefill_ns: 40_000,
        cache_tokens_free: 32_768,
    };
    let address = Text::try_new("192.0.2.7:4433").expect("it is short");
    Descriptor {
        node,
        sequence: 1,
        lifetime_s: 600,
        state: MemberState::Active,
        duties: duties::STAGE | duties::HEAD,
        certificate: Some(chain.clone()),
        addresses: List::truncated([address]),
        memory_free_bytes: 8 << 30,
        disk_free_bytes: 0,
        uplink_bytes_per_s: 0,
        downlink_bytes_per_s: 0,
        coordinate: Coordinate::default(),
        offers: List::truncated([offer]),
        links: List::truncated(peers.into_iter().map(link)),
    }
}
