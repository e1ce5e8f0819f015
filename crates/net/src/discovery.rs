//! Finding nodes by their keys alone, in the open: the mainline DHT, of BitTorrent. Spec 03, 10.3.
//!
//! Owns: what is published and looked up, and where. Does not own: whether (`--public`), who is let
//! in. The only place that knows which directory it is; to the rest it is iroh's `AddressLookup`.
//!
//! Invariants: without a [`Discovery`] no packet goes to the DHT and no name is resolved for it;
//! addresses of local networks are neither told to the world nor taken from it.

use std::borrow::Cow;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::pin::Pin;

use futures_util::{Stream, StreamExt as _};
use iroh::address_lookup::{
    AddrFilter, AddressLookup, AddressLookupBuilder, AddressLookupBuilderError, EndpointData,
    EndpointInfo, Error, Item,
};
use iroh::{EndpointId, TransportAddr};
use iroh_mainline_address_lookup::{Builder, DhtAddressLookup};
use n0_mainline::DhtBuilder;

use crate::RelayUrl;

/// Places of a node, as they are found.
type Found = Pin<Box<dyn Stream<Item = Result<Item, Error>> + Send>>;

/// That a node looks others up by key, and whether others find it so.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Discovery {
    /// Where to enter the DHT; where everybody does unless given.
    pub bootstrap: Vec<SocketAddr>,
    /// Whether this node's key leads to its addresses.
    pub is_published: bool,
}

impl Discovery {
    /// The directory, for a node that uses these relays.
    pub(crate) fn lookup(&self, relays: &[RelayUrl]) -> Lookup {
        let mut dht = DhtBuilder::default();
        if !self.bootstrap.is_empty() {
            dht.bootstrap(&self.bootstrap);
        }
        let meant = meant(!self.bootstrap.is_empty(), relays);
        let dht = DhtAddressLookup::builder().dht_builder(dht).addr_filter(meant.clone());
        let dht = if self.is_published { dht } else { dht.no_publish() };
        Lookup { dht, meant }
    }
}

/// A directory that is not open yet.
#[derive(Debug)]
pub(crate) struct Lookup {
    dht: Builder,
    meant: AddrFilter,
}

impl AddressLookupBuilder for Lookup {
    fn into_address_lookup(
        self,
        endpoint: &iroh::Endpoint,
    ) -> Result<impl AddressLookup, AddressLookupBuilderError> {
        Ok(Directory { dht: self.dht.into_address_lookup(endpoint)?, meant: self.meant })
    }
}

/// The DHT, and what of it is taken.
#[derive(Debug)]
struct Directory<T> {
    dht: T,
    meant: AddrFilter,
}

impl<T: AddressLookup> AddressLookup for Directory<T> {
    fn publish(&self, data: &EndpointData) {
        self.dht.publish(data);
    }

    fn resolve(&self, node: EndpointId) -> Option<Found> {
        let meant = self.meant.clone();
        let found = self.dht.resolve(node)?.map(move |found| {
            found.map(|item| {
                let data = item.apply_filter(&meant).into_owned();
                let info = EndpointInfo::from_parts(item.endpoint_id(), data);
                Item::new(info, item.provenance(), item.last_updated())
            })
        });
        Some(Box::pin(found))
    }
}

/// Which places are published, and taken from the records of others: none of local networks, which
/// mean nothing elsewhere, or something else; but a DHT of one's own may be anywhere. Of relays
/// those alone that the owner named: nobody makes this node connect to others.
fn meant(is_own: bool, relays: &[RelayUrl]) -> AddrFilter {
    let relays: Vec<_> = relays.iter().map(|relay| relay.inner().clone()).collect();
    AddrFilter::new(move |all| {
        let is_meant = |place: &&TransportAddr| match place {
            TransportAddr::Ip(socket) => is_own || is_global(socket.ip()),
            TransportAddr::Relay(relay) => relays.contains(relay),
            _ => false,
        };
        Cow::Owned(all.iter().filter(is_meant).cloned().collect())
    })
}

/// Whether an address may mean this machine to somebody far away.
fn is_global(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => is_global_v4(ip),
        IpAddr::V6(ip) => ip.to_ipv4_mapped().map_or_else(|| is_global_v6(ip), is_global_v4),
    }
}

fn is_global_v4(ip: Ipv4Addr) -> bool {
    let [first, second, ..] = ip.octets();
    let is_shared = first == 100 && (64..128).contains(&second);
    let is_for_tests = first == 198 && (18..20).contains(&second);
    let is_local = ip.is_private() || ip.is_loopback() || ip.is_link_local();
    let is_none = ip.is_documentation() || ip.is_multicast() || first == 0 || first >= 240;
    !(is_local || is_none || is_shared || is_for_tests)
}

/// 2000::/3 without what documents use.
fn is_global_v6(ip: Ipv6Addr) -> bool {
    let [first, second, ..] = ip.segments();
    first & 0xe000 == 0x2000 && (first, second) != (0x2001, 0x0db8)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_of_local_networks_are_not_told_to_the_world() {
        for text in ["8.8.8.8", "172.15.0.1", "100.63.0.1", "2606:4700::1111"] {
            assert!(is_global(text.parse().unwrap()), "{text}");
        }
        for text in [
            "0.0.0.0",
            "10.0.0.1",
            "100.64.0.1",
            "127.0.0.1",
            "169.254.1.1",
            "172.16.0.1",
            "192.168.1.1",
            "198.18.0.1",
            "224.0.0.251",
            "255.255.255.255",
            "::",
            "::1",
            "::ffff:192.168.1.1",
            "2001:db8::1",
            "fd00::1",
            "fe80::1",
            "ff02::fb",
        ] {
            assert!(!is_global(text.parse().unwrap()), "{text}");
        }
    }

    #[test]
    fn places_that_others_made_up_are_not_taken() {
        let ours: RelayUrl = "http://192.0.2.1:7".parse().unwrap();
        let theirs: RelayUrl = "http://192.0.2.9:7".parse().unwrap();
        let relay = |relay: &RelayUrl| TransportAddr::Relay(relay.inner().clone());
        let ip = |text: &str| TransportAddr::Ip(text.parse().unwrap());
        let all = vec![relay(&ours), relay(&theirs), ip("192.168.1.1:7"), ip("8.8.8.8:7")];
        let kept = |is_own| meant(is_own, std::slice::from_ref(&ours)).apply(&all).into_owned();
        assert_eq!(kept(false), [relay(&ours), ip("8.8.8.8:7")]);
        assert_eq!(kept(true), [relay(&ours), ip("192.168.1.1:7"), ip("8.8.8.8:7")]);
    }
}
