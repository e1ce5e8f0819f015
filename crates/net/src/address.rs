//! A node and where it listens, as people write it: `<64 hex digits>@<address>:<port>`, further
//! places after commas, relays among them; the digits alone where no place is known.

use std::fmt;
use std::net::SocketAddr;
use std::str::FromStr;

use shoal_base::Digest;
use shoal_wire::NodeId;
use shoal_wire::limits::{ADDRESSES_MAX, TEXT_BYTES_MAX};

use crate::RelayUrl;

/// A node and its places.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerAddress {
    /// Who. The transport proves it.
    pub node: NodeId,
    /// Where. Without any of these and without a relay it has to be looked up.
    pub sockets: Vec<SocketAddr>,
    /// Where it can be reached when nothing goes there directly.
    pub relays: Vec<RelayUrl>,
}

/// A text that is no [`PeerAddress`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AddressError {
    /// Nothing separates the node from its place, and it is no node alone.
    #[error("no '@' between the node and its address")]
    NoSeparator,
    /// The node is not written in 64 lower-case hex digits.
    #[error("a node is 64 lower-case hex digits")]
    Node,
    /// A place is neither an IP address with a port nor a relay.
    #[error("place {index} is no IP address with a port, and no http://ADDRESS:PORT of a relay")]
    Place {
        /// Which one, from 0.
        index: usize,
    },
    /// Too many places.
    #[error("{got} places, limit {limit}")]
    Count {
        /// How many.
        got: usize,
        /// How many are allowed.
        limit: usize,
    },
}

impl fmt::Display for PeerAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.node)?;
        if self.count() > 0 {
            f.write_str("@")?;
        }
        let sockets = self.sockets.iter().map(ToString::to_string);
        let relays = self.relays.iter().map(ToString::to_string);
        f.write_str(&sockets.chain(relays).collect::<Vec<_>>().join(","))
    }
}

impl FromStr for PeerAddress {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        // Ids and digests have the same text form.
        let node = |text: &str| text.parse().ok().map(|digest: Digest| NodeId(digest.0));
        let Some((id, places)) = text.split_once('@') else {
            return node(text).map(Self::nowhere).ok_or(AddressError::NoSeparator);
        };
        let node = node(id).ok_or(AddressError::Node)?;
        let got = places.split(',').count();
        if got > ADDRESSES_MAX {
            return Err(AddressError::Count { got, limit: ADDRESSES_MAX });
        }
        let mut address = Self::nowhere(node);
        for (index, place) in places.split(',').enumerate() {
            if !address.add(place) {
                return Err(AddressError::Place { index });
            }
        }
        Ok(address)
    }
}

impl PeerAddress {
    /// A node of which no place is known.
    #[must_use]
    pub fn nowhere(node: NodeId) -> Self {
        Self { node, sockets: Vec::new(), relays: Vec::new() }
    }

    /// All relays, and as many of the sockets as fit into a text of the protocol beside them.
    pub(crate) fn fitting(node: NodeId, relays: Vec<RelayUrl>, sockets: Vec<SocketAddr>) -> Self {
        let mut address = Self { node, sockets: Vec::new(), relays };
        for socket in sockets {
            address.sockets.push(socket);
            let is_long = address.to_string().len() > TEXT_BYTES_MAX;
            if is_long || address.count() > ADDRESSES_MAX {
                address.sockets.pop();
                break;
            }
        }
        address
    }

    /// Adds a place. Says whether the text is one.
    pub fn add(&mut self, place: &str) -> bool {
        if let Ok(socket) = place.parse() {
            self.sockets.push(socket);
        } else if let Ok(relay) = place.parse() {
            self.relays.push(relay);
        } else {
            return false;
        }
        true
    }

    /// Adds the places of another address that are missing here, as many as may be.
    pub fn extend(&mut self, other: &Self) {
        for relay in &other.relays {
            if self.count() < ADDRESSES_MAX && !self.relays.contains(relay) {
                self.relays.push(relay.clone());
            }
        }
        for socket in &other.sockets {
            if self.count() < ADDRESSES_MAX && !self.sockets.contains(socket) {
                self.sockets.push(*socket);
            }
        }
    }

    /// How many places there are.
    #[must_use]
    pub fn count(&self) -> usize {
        self.sockets.len() + self.relays.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_cut_to_what_a_text_holds() {
        let node = NodeId([0xab; 32]);
        let relay: RelayUrl = "http://192.0.2.1:11410".parse().unwrap();
        let short: SocketAddr = "192.0.2.7:4433".parse().unwrap();
        let long: SocketAddr = "[2001:db8:1111:2222:3333:4444:5555:6666]:60000".parse().unwrap();
        for (socket, relays, count) in
            [(short, vec![], 8), (short, vec![relay.clone()], 8), (long, vec![relay], 4)]
        {
            let address = PeerAddress::fitting(node, relays, vec![socket; 20]);
            assert_eq!(address.count(), count, "{address}");
            assert!(address.to_string().len() <= TEXT_BYTES_MAX);
            assert_eq!(address.to_string().parse(), Ok(address));
        }
    }

    #[test]
    fn an_address_round_trips_and_other_texts_are_refused() {
        let mut address = PeerAddress::nowhere(NodeId([0xab; 32]));
        assert!(address.add("127.0.0.1:7") && address.add("[::1]:8"));
        let text = address.to_string();
        assert!(text.ends_with("ab@127.0.0.1:7,[::1]:8"), "{text}");
        assert_eq!(text.parse(), Ok(address.clone()));
        assert!(address.add("http://192.0.2.1:9") && !address.add("192.0.2.1"));
        let with_relay = address.to_string();
        assert_eq!(with_relay, format!("{text},http://192.0.2.1:9"));
        assert_eq!(with_relay.parse(), Ok(address.clone()));
        let mut only = PeerAddress::nowhere(address.node);
        assert!(only.add("http://192.0.2.1:9"));
        assert_eq!(only.to_string().parse(), Ok(only.clone()));
        only.extend(&address);
        assert_eq!(only, address, "nothing twice");
        let id = "ab".repeat(32);
        assert_eq!(id.parse(), Ok(PeerAddress::nowhere(address.node)));
        assert_eq!(PeerAddress::nowhere(address.node).to_string(), id);
        let refused = [
            (id[1..].to_owned(), AddressError::NoSeparator),
            (format!("{}@127.0.0.1:7", &id[1..]), AddressError::Node),
            (format!("{id}@127.0.0.1:7,localhost:8"), AddressError::Place { index: 1 }),
            (format!("{id}@"), AddressError::Place { index: 0 }),
            (
                format!("{id}@{}", ["[::1]:1"; 9].join(",")),
                AddressError::Count { got: 9, limit: 8 },
            ),
        ];
        for (text, error) in refused {
            assert_eq!(text.parse::<PeerAddress>(), Err(error), "{text}");
        }
    }
}
