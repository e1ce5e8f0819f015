//! How far peers are: round trips on connections that are there, and the place that follows.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use shoal_swarm::{Coordinates, Moment, Random as _};
use shoal_wire::limits::LINKS_MAX;
use shoal_wire::{Coordinate, Link, List, NodeId, Ping};

use crate::chance::SystemRandom;
use crate::limits::{PING_EVERY, PING_FOR, PINGS_FIRST, SAMPLES_MAX};

/// Round trips to everybody there is a connection to.
#[derive(Debug, Default)]
pub(crate) struct Links {
    place: Coordinates,
    by_peer: BTreeMap<NodeId, Measured>,
    /// Pings under way: a number that cannot be guessed, so that nobody answers before it is asked.
    asked: BTreeMap<u64, (NodeId, Moment)>,
}

#[derive(Debug)]
struct Measured {
    samples_us: VecDeque<u32>,
    next: Moment,
    /// Pings that follow each other at once.
    quick: u32,
}

impl Links {
    /// A connection is up: the first ping.
    pub(crate) fn begin(&mut self, peer: NodeId, now: Moment) -> Ping {
        let samples_us = VecDeque::new();
        let measured = Measured { samples_us, next: now + PING_EVERY, quick: PINGS_FIRST };
        self.by_peer.entry(peer).or_insert(measured);
        self.ask(peer, now)
    }

    /// A peer is gone.
    pub(crate) fn forget(&mut self, peer: NodeId) {
        self.by_peer.remove(&peer);
        self.asked.retain(|_, (asked, _)| *asked != peer);
    }

    /// Whom to ask now.
    pub(crate) fn due(&mut self, now: Moment) -> Vec<(NodeId, Ping)> {
        self.asked.retain(|_, (_, at)| *at + PING_FOR > now);
        let due = self.by_peer.iter().filter(|(_, measured)| measured.next <= now);
        let due: Vec<NodeId> = due.map(|(peer, _)| *peer).collect();
        due.into_iter().map(|peer| (peer, self.ask(peer, now))).collect()
    }

    fn ask(&mut self, peer: NodeId, now: Moment) -> Ping {
        let nonce = SystemRandom.next_u64();
        if let Some(measured) = self.by_peer.get_mut(&peer) {
            measured.next = now + PING_EVERY;
        }
        self.asked.insert(nonce, (peer, now));
        Ping { nonce }
    }

    /// An answer. The next ping, when there is one to be sent at once.
    pub(crate) fn answered(
        &mut self,
        from: NodeId,
        nonce: u64,
        place: Option<&Coordinate>,
        now: Moment,
    ) -> Option<Ping> {
        let (asked, at) = self.asked.get(&nonce).copied().filter(|(asked, _)| *asked == from)?;
        self.asked.remove(&nonce);
        let measured = self.by_peer.get_mut(&asked)?;
        let took = now - at;
        let rtt_us = u32::try_from(took.as_micros()).unwrap_or(u32::MAX);
        measured.samples_us.push_back(rtt_us);
        if measured.samples_us.len() > SAMPLES_MAX {
            measured.samples_us.pop_front();
        }
        if let Some(place) = place {
            self.place.learn(place, rtt_us);
        }
        if measured.quick == 0 {
            return None;
        }
        measured.quick -= 1;
        Some(self.ask(from, now))
    }

    /// The least of the last round trips.
    pub(crate) fn round_trip(&self, peer: NodeId) -> Option<Duration> {
        let least = self.by_peer.get(&peer)?.samples_us.iter().min()?;
        Some(Duration::from_micros(u64::from(*least)))
    }

    /// Where this node is among the round trips.
    pub(crate) fn place(&self) -> Coordinate {
        self.place.publish()
    }

    /// What a descriptor says: the nearest ones, ascending by peer. Loss cannot be seen on streams
    /// that repeat what is lost.
    pub(crate) fn list(&self, is_relayed: impl Fn(NodeId) -> bool) -> List<Link, LINKS_MAX> {
        let least = |(peer, measured): (&NodeId, &Measured)| {
            let rtt_us = *measured.samples_us.iter().min()?;
            Some(Link { peer: *peer, rtt_us, loss_ppm: 0, is_relayed: is_relayed(*peer) })
        };
        let mut links: Vec<Link> = self.by_peer.iter().filter_map(least).collect();
        links.sort_by_key(|link| link.rtt_us);
        links.truncate(LINKS_MAX);
        links.sort_by_key(|link| link.peer);
        List::truncated(links)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_one_who_was_asked_answers_and_only_once() {
        let (mut links, start) = (Links::default(), Moment(0));
        let [a, b] = [1, 2].map(|node| NodeId([node; 32]));
        let first = links.begin(a, start);
        links.begin(b, start);
        let later = start + Duration::from_micros(700);
        assert!(links.answered(b, first.nonce, None, later).is_none(), "somebody else");
        assert_eq!(links.round_trip(b), None);
        let next = links.answered(a, first.nonce, None, later).expect("the next at once");
        assert!(links.answered(a, first.nonce, None, later).is_none(), "a second time");
        links.answered(a, next.nonce, None, later + Duration::from_micros(300));
        assert_eq!(links.round_trip(a), Some(Duration::from_micros(300)), "the least counts");
        let list = links.list(|peer| peer == a);
        assert!(list.len() == 1 && list[0].is_relayed && !links.list(|_| false)[0].is_relayed);
        assert_eq!(links.due(start + PING_EVERY + PING_FOR).len(), 2);
        links.forget(a);
        assert_eq!(links.round_trip(a), None);
    }
}
