//! Who is here and what they offer. Spec 03, 7.

use shoal_base::PackageId;

use crate::codec::{choice, record};
use crate::limits::{
    ADDRESSES_MAX, LIFETIME_S_MAX, LINKS_MAX, MEMBERS_MAX, OFFERS_MAX, RANGES_MAX, TEXT_BYTES_MAX,
};
use crate::{CertificateChain, LayerRange, List, NodeId, Signable, Signed, Text, WireError};

/// Bits of [`Descriptor::duties`].
pub mod duties {
    /// Asks for tokens.
    pub const HEAD: u8 = 1;
    /// Computes layers for others.
    pub const STAGE: u8 = 2;
    /// Passes on packets of nodes that cannot reach each other.
    pub const RELAY: u8 = 4;
    /// Gives layers to others.
    pub const SEED: u8 = 8;
    /// Every bit with a meaning.
    pub const ALL: u8 = HEAD | STAGE | RELAY | SEED;
}

choice! {
    /// Whether to count on a member.
    pub enum MemberState: u8 {
        /// Not ready yet.
        Joining = 1,
        /// Ready.
        Active = 2,
        /// Serves what it has, takes nothing new.
        Draining = 3,
        /// Gone on purpose.
        Left = 4,
    }
}

record! {
    /// Layers of one package on one node, with the speed that was measured there.
    pub struct Offer {
        /// The model.
        pub package: PackageId,
        /// Version of the arithmetic.
        pub arithmetic: u16,
        /// On disk, ascending and apart.
        pub held: List<LayerRange, RANGES_MAX>,
        /// In memory, ascending and apart, each inside a held one.
        pub loaded: List<LayerRange, RANGES_MAX>,
        /// One row through one layer, in nanoseconds, under load; 0: not measured.
        pub decode_ns: u32,
        /// Each further row of a chunk through one layer, in nanoseconds; 0: not measured.
        pub prefill_ns: u32,
        /// Tokens of cache still free at the present loading.
        pub cache_tokens_free: u32,
    }
    check Offer::check;
}

impl Offer {
    fn check(&self) -> Result<(), WireError> {
        for ranges in [&self.held, &self.loaded] {
            if !ranges.windows(2).all(|pair| pair[0].end < pair[1].first) {
                return Err(WireError::Rule { field: "ranges", rule: "ascending and apart" });
            }
        }
        let is_held = |range: &LayerRange| self.held.iter().any(|held| held.covers(*range));
        if !self.loaded.iter().all(is_held) {
            return Err(WireError::Rule { field: "loaded", rule: "inside what is held" });
        }
        Ok(())
    }
}

record! {
    /// A measured link.
    #[derive(Copy)]
    pub struct Link {
        /// To whom.
        pub peer: NodeId,
        /// Round trip, in microseconds; the least of several.
        pub rtt_us: u32,
        /// Lost packets per million.
        pub loss_ppm: u32,
        /// Whether a relay is in between.
        pub is_relayed: bool,
    }
}

record! {
    /// A place in the space of round trips, in microseconds. The distance of two nodes is that of
    /// their places plus both heights.
    #[derive(Copy, Default)]
    pub struct Coordinate {
        /// First axis.
        pub x_us: i32,
        /// Second axis.
        pub y_us: i32,
        /// Third axis.
        pub z_us: i32,
        /// What is common to all links of the node.
        pub height_us: u32,
        /// How wrong it may be.
        pub error_us: u32,
    }
}

record! {
    /// What a node says about itself. Signed by it; a higher sequence number replaces a lower.
    pub struct Descriptor {
        /// The node; also who signs.
        pub node: NodeId,
        /// Rises with each descriptor, also over restarts.
        pub sequence: u64,
        /// How long to believe it, from its first arrival on the receiver's clock.
        pub lifetime_s: u32,
        /// Whether to count on it.
        pub state: MemberState,
        /// See [`duties`].
        pub duties: u8,
        /// That it may take part.
        pub certificate: Option<CertificateChain>,
        /// Where it can be reached, in the words of the transport.
        pub addresses: List<Text<TEXT_BYTES_MAX>, ADDRESSES_MAX>,
        /// Memory it gives to weights and caches and that is free.
        pub memory_free_bytes: u64,
        /// Disk it gives to layers and that is free.
        pub disk_free_bytes: u64,
        /// What it may send, in bytes per second; 0: not measured.
        pub uplink_bytes_per_s: u64,
        /// What it may receive, in bytes per second; 0: not measured.
        pub downlink_bytes_per_s: u64,
        /// Where it is among the round trips.
        pub coordinate: Coordinate,
        /// Ascending by package, each once.
        pub offers: List<Offer, OFFERS_MAX>,
        /// Ascending by peer, each once: the links it uses most.
        pub links: List<Link, LINKS_MAX>,
    }
    check Descriptor::check;
}

impl Signable for Descriptor {
    const DOMAIN: &'static str = "shoal/descriptor/v1";
}

impl Descriptor {
    fn check(&self) -> Result<(), WireError> {
        if self.lifetime_s > LIFETIME_S_MAX {
            let limit = LIFETIME_S_MAX.into();
            let got = self.lifetime_s.into();
            return Err(WireError::Limit { field: "lifetime_s", got, limit });
        }
        if self.duties & !duties::ALL != 0 {
            return Err(WireError::Rule { field: "duties", rule: "unknown bits are 0" });
        }
        if !self.offers.windows(2).all(|pair| pair[0].package < pair[1].package) {
            return Err(WireError::Rule { field: "offers", rule: "ascending by package" });
        }
        if !self.links.windows(2).all(|pair| pair[0].peer < pair[1].peer) {
            return Err(WireError::Rule { field: "links", rule: "ascending by peer" });
        }
        Ok(())
    }
}

record! {
    /// Asks for descriptors.
    #[derive(Copy)]
    pub struct MembersQuery {
        /// Of nodes that offer this package; of any without it.
        pub package: Option<PackageId>,
        /// Not more than so many.
        pub limit: u16,
    }
}

record! {
    /// The answer.
    pub struct MembersReply {
        /// As their nodes signed them.
        pub descriptors: List<Signed<Descriptor>, MEMBERS_MAX>,
    }
}
