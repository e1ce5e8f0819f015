//! The members a node knows: what each said last, and until when to believe it. Spec 03, 7.

use std::collections::BTreeMap;
use std::time::Duration;

use shoal_base::{Blame, PackageId};
use shoal_wire::limits::{LIFETIME_S_MAX, MEMBERS_MAX as REPLY_MAX, MESSAGE_LARGE_BYTES_MAX};
use shoal_wire::{Descriptor, Field as _, List, MemberState, MembersReply, NodeId, Signed};

use crate::brief::Brief;
use crate::{KeyError, Moment, Random, limits, verify};

/// Room for the count in front of the descriptors of a reply.
const REPLY_BYTES: usize = MESSAGE_LARGE_BYTES_MAX - 64;

/// Why a descriptor is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum MemberError {
    /// Somebody else signed it.
    #[error("signed by another node than it describes")]
    OtherSigner,
    /// The signature does not hold.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// Two descriptors of one number: the node contradicts itself, or two nodes share a key.
    #[error("two descriptors with sequence number {sequence}")]
    Equivocation {
        /// The number.
        sequence: u64,
    },
}

impl MemberError {
    /// Who is responsible.
    #[must_use]
    pub fn blame(&self) -> Blame {
        Blame::Peer
    }
}

/// What a descriptor changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MemberChange {
    /// A node that was not known.
    New,
    /// A known node says something newer.
    Newer,
    /// It left.
    Left,
    /// Nothing: an old one, or the same again.
    Nothing,
}

/// A member.
#[derive(Clone, Debug)]
pub struct Member {
    /// As its node signed it.
    pub signed: Signed<Descriptor>,
    /// Until when to believe it.
    pub expires: Moment,
}

impl Member {
    /// What the node says.
    #[must_use]
    pub fn descriptor(&self) -> &Descriptor {
        &self.signed.body
    }
}

/// All members a node knows.
#[derive(Debug, Default)]
pub struct Members {
    known: BTreeMap<NodeId, Member>,
    /// Nodes that left or ran out: their last number, and until when to remember it.
    departed: BTreeMap<NodeId, (u64, Moment)>,
    /// Who offers which package, in short.
    offering: BTreeMap<PackageId, BTreeMap<NodeId, Brief>>,
    /// Total of the encodings of those known.
    bytes: u64,
}

impl Members {
    /// Learns a descriptor after checking its signature.
    ///
    /// # Errors
    /// When it is not what its node signed, or contradicts what the node signed before.
    pub fn learn(
        &mut self,
        signed: Signed<Descriptor>,
        now: Moment,
    ) -> Result<MemberChange, MemberError> {
        let node = signed.body.node;
        if signed.signer != node {
            return Err(MemberError::OtherSigner);
        }
        let sequence = signed.body.sequence;
        if let Some(known) = self.known.get(&node) {
            let last = known.signed.body.sequence;
            if sequence < last || known.signed == signed {
                return Ok(MemberChange::Nothing);
            }
            verify(&signed)?;
            if sequence == last {
                return Err(MemberError::Equivocation { sequence });
            }
        } else {
            if self.departed.get(&node).is_some_and(|(last, _)| sequence <= *last) {
                return Ok(MemberChange::Nothing);
            }
            verify(&signed)?;
        }
        Ok(self.accept(signed, now))
    }

    fn accept(&mut self, signed: Signed<Descriptor>, now: Moment) -> MemberChange {
        let (node, sequence) = (signed.body.node, signed.body.sequence);
        if signed.body.state == MemberState::Left {
            self.depart(node, sequence, now);
            return MemberChange::Left;
        }
        let expires = now + Duration::from_secs(signed.body.lifetime_s.into());
        self.bytes += signed.to_bytes().len() as u64;
        self.departed.remove(&node);
        let before = self.take(node);
        for offer in signed.body.offers.iter() {
            let brief = Brief::new(&signed.body, Some(offer));
            self.offering.entry(offer.package).or_default().insert(node, brief);
        }
        self.known.insert(node, Member { signed, expires });
        if before.is_some() {
            return MemberChange::Newer;
        }
        if self.known.len() > limits::MEMBERS_MAX {
            let first = self.known.iter().min_by_key(|(_, member)| member.expires);
            let (first, sequence) = first
                .map(|(node, member)| (*node, member.signed.body.sequence))
                .expect("there are members");
            self.depart(first, sequence, now);
        }
        MemberChange::New
    }

    /// Removes a node that is no longer wanted.
    pub fn forget(&mut self, node: NodeId, now: Moment) {
        if let Some(member) = self.known.get(&node) {
            self.depart(node, member.signed.body.sequence, now);
        }
    }

    /// Removes a node and remembers its number.
    fn depart(&mut self, node: NodeId, sequence: u64, now: Moment) {
        self.take(node);
        self.departed.insert(node, (sequence, now + limits::DEPARTED_FOR));
        if self.departed.len() > limits::DEPARTED_MAX {
            let first = self.departed.iter().min_by_key(|(_, (_, until))| *until);
            let first = first.map(|(node, _)| *node).expect("there are entries");
            self.departed.remove(&first);
        }
    }

    /// Takes a member out, with all that is known of it.
    fn take(&mut self, node: NodeId) -> Option<Member> {
        let member = self.known.remove(&node)?;
        self.bytes -= member.signed.to_bytes().len() as u64;
        for offer in member.signed.body.offers.iter() {
            let Some(nodes) = self.offering.get_mut(&offer.package) else {
                continue;
            };
            nodes.remove(&node);
            if nodes.is_empty() {
                self.offering.remove(&offer.package);
            }
        }
        Some(member)
    }

    /// Removes those whose time is over and returns them.
    pub fn expire(&mut self, now: Moment) -> Vec<NodeId> {
        let is_over = |member: &Member| member.expires <= now;
        let over = self.known.iter().filter(|(_, member)| is_over(member));
        let over: Vec<_> = over.map(|(node, m)| (*node, m.signed.body.sequence)).collect();
        for (node, sequence) in &over {
            self.depart(*node, *sequence, now);
        }
        self.departed.retain(|_, (_, until)| *until > now);
        over.into_iter().map(|(node, _)| node).collect()
    }

    /// One member.
    #[must_use]
    pub fn get(&self, node: NodeId) -> Option<&Descriptor> {
        self.known.get(&node).map(Member::descriptor)
    }

    /// What a member said last, as it signed it.
    #[must_use]
    pub fn signed(&self, node: NodeId) -> Option<&Signed<Descriptor>> {
        self.known.get(&node).map(|member| &member.signed)
    }

    /// All of them, in the order of their ids.
    pub fn iter(&self) -> impl Iterator<Item = &Descriptor> {
        self.known.values().map(Member::descriptor)
    }

    /// Who offers a package, in the order of their ids.
    pub(crate) fn offering(&self, package: PackageId) -> impl Iterator<Item = (NodeId, &Brief)> {
        let nodes = self.offering.get(&package).into_iter().flatten();
        nodes.map(|(node, brief)| (*node, brief))
    }

    /// How many.
    #[must_use]
    pub fn len(&self) -> usize {
        self.known.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.known.is_empty()
    }

    /// How often a node should describe itself, so that all together stay within the budget for
    /// gossip: the same cost per node however many there are.
    #[must_use]
    pub fn announce_every(&self) -> Duration {
        // Who is connected to everybody hears of each from itself; else a few pass it on.
        let is_small = self.known.len() <= limits::SMALL_SWARM;
        let copies = if is_small { 1 } else { limits::PASS_ON as u64 };
        let full_s = self.bytes * copies * 60 / limits::GOSSIP_BYTES_PER_MIN;
        let longest_s = u64::from(LIFETIME_S_MAX / limits::LIFETIME_ANNOUNCEMENTS);
        limits::ANNOUNCE_EVERY.max(Duration::from_secs(full_s.min(longest_s)))
    }

    /// The lifetime to put into a descriptor that is announced that often.
    #[must_use]
    pub fn lifetime_s(&self) -> u32 {
        let every = u32::try_from(self.announce_every().as_secs()).unwrap_or(u32::MAX);
        every.saturating_mul(limits::LIFETIME_ANNOUNCEMENTS).min(LIFETIME_S_MAX)
    }

    /// Members for somebody who asks, chosen by chance so that no corner of the swarm stays
    /// unknown, as many as fit into a message.
    pub fn answer(
        &self,
        package: Option<PackageId>,
        limit: u16,
        random: &mut dyn Random,
    ) -> MembersReply {
        let offers = |member: &&Member| {
            let all = &member.signed.body.offers;
            package.is_none_or(|package| all.iter().any(|offer| offer.package == package))
        };
        let mut chosen: Vec<&Member> = self.known.values().filter(offers).collect();
        let count = chosen.len().min(usize::from(limit)).min(REPLY_MAX);
        for index in 0..count {
            let other = index + random.below((chosen.len() - index) as u64) as usize;
            chosen.swap(index, other);
        }
        let mut bytes = 0;
        let fits = |member: &&&Member| {
            bytes += member.signed.to_bytes().len();
            bytes <= REPLY_BYTES
        };
        let chosen = chosen[..count].iter().take_while(fits);
        MembersReply { descriptors: List::truncated(chosen.map(|member| member.signed.clone())) }
    }
}
