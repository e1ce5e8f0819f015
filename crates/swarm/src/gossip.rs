//! Who hears of whom: to whom a descriptor is passed on, and whom to be connected to. Spec 03, 7.
//!
//! In a swarm of many packages a node hears of those that offer one that it offers itself, and asks
//! for those of a package that it leads a ring of. So what gossip costs it follows from how many
//! share its packages.

use shoal_wire::{Descriptor, Field as _, NodeId, Signed};

use crate::{Members, Moment, Random, limits};

/// What a node may still spend on news of others.
#[derive(Debug)]
pub struct Gossip {
    /// Bytes times a minute in microseconds.
    left: u64,
    at: Moment,
}

const MINUTE_US: u64 = 60_000_000;
const FULL: u64 = limits::PASS_ON_BYTES_PER_MIN * MINUTE_US;

impl Default for Gossip {
    fn default() -> Self {
        Self { left: FULL, at: Moment(0) }
    }
}

impl Gossip {
    /// Peers to pass a descriptor on to: a few by chance, of those that want it and have not had it
    /// from its node itself, which is connected to those it names in `links`. Fewer, or none, when
    /// there is too much news: nobody has to know everybody.
    pub fn pass_on(
        &mut self,
        members: &Members,
        about: &Signed<Descriptor>,
        peers: impl IntoIterator<Item = NodeId>,
        now: Moment,
        random: &mut dyn Random,
    ) -> Vec<NodeId> {
        let passed = u64::try_from((now - self.at).as_micros()).unwrap_or(u64::MAX);
        let earned = passed.saturating_mul(limits::PASS_ON_BYTES_PER_MIN);
        self.left = self.left.saturating_add(earned).min(FULL);
        self.at = now;
        let mut chosen = wanting(members, &about.body, peers, random);
        let price = about.to_bytes().len() as u64 * MINUTE_US;
        chosen.truncate(usize::try_from(self.left / price).unwrap_or(usize::MAX));
        self.left -= price * chosen.len() as u64;
        chosen
    }
}

fn wanting(
    members: &Members,
    about: &Descriptor,
    peers: impl IntoIterator<Item = NodeId>,
    random: &mut dyn Random,
) -> Vec<NodeId> {
    let had_it = |peer: &NodeId| about.links.binary_search_by_key(peer, |link| link.peer).is_ok();
    let is_small = members.len() <= limits::SMALL_SWARM;
    let wants = |peer: &NodeId| is_small || members.get(*peer).is_none_or(|p| share(p, about));
    let others = peers.into_iter().filter(|peer| *peer != about.node && !had_it(peer));
    let mut chosen: Vec<NodeId> = others.filter(wants).collect();
    choose(&mut chosen, limits::PASS_ON, random);
    chosen
}

/// Members to connect to, so many of those there is no connection to: those first that share a
/// package with this node, by chance, as otherwise all would meet at the same few.
pub fn to_meet(
    members: &Members,
    me: NodeId,
    absent: Vec<NodeId>,
    room: usize,
    random: &mut dyn Random,
) -> Vec<NodeId> {
    let shares = |node: &NodeId| match (members.get(me), members.get(*node)) {
        (Some(me), Some(other)) => share(me, other),
        _ => false,
    };
    let (mut near, mut others): (Vec<NodeId>, Vec<NodeId>) = absent.into_iter().partition(shares);
    choose(&mut near, room, random);
    choose(&mut others, room - near.len(), random);
    near.append(&mut others);
    near
}

/// Whether two nodes offer a package in common.
fn share(a: &Descriptor, b: &Descriptor) -> bool {
    let offers = |package| b.offers.binary_search_by_key(package, |offer| offer.package).is_ok();
    a.offers.iter().any(|offer| offers(&offer.package))
}

/// Keeps so many of them, each with the same chance.
fn choose(nodes: &mut Vec<NodeId>, count: usize, random: &mut dyn Random) {
    for index in 0..count.min(nodes.len()) {
        let other = index + random.below((nodes.len() - index) as u64) as usize;
        nodes.swap(index, other);
    }
    nodes.truncate(count);
}
