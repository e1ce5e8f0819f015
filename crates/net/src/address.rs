//! A node and where it listens, as people write it: `<64 hex digits>@<address>:<port>`, further
//! places after commas.

use std::fmt;
use std::net::SocketAddr;
use std::str::FromStr;

use shoal_wire::NodeId;
use shoal_wire::limits::ADDRESSES_MAX;

/// A node and its sockets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerAddress {
    /// Who. The transport proves it.
    pub node: NodeId,
    /// Where; at least one to connect to.
    pub sockets: Vec<SocketAddr>,
}

/// A text that is no [`PeerAddress`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AddressError {
    /// Nothing separates the node from its place.
    #[error("no '@' between the node and its address")]
    NoSeparator,
    /// The node is not written in 64 lower-case hex digits.
    #[error("a node is 64 lower-case hex digits")]
    Node,
    /// A place is not an IP address with a port.
    #[error("place {index} is no IP address with a port")]
    Socket {
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
        write!(f, "{}@", self.node)?;
        for (index, socket) in self.sockets.iter().enumerate() {
            let comma = if index > 0 { "," } else { "" };
            write!(f, "{comma}{socket}")?;
        }
        Ok(())
    }
}

impl FromStr for PeerAddress {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (node, places) = text.split_once('@').ok_or(AddressError::NoSeparator)?;
        // Ids and digests have the same text form.
        let node: shoal_base::Digest = node.parse().map_err(|_| AddressError::Node)?;
        let got = places.split(',').count();
        if got > ADDRESSES_MAX {
            return Err(AddressError::Count { got, limit: ADDRESSES_MAX });
        }
        let socket = |(index, place): (usize, &str)| {
            place.parse().map_err(|_| AddressError::Socket { index })
        };
        let sockets = places.split(',').enumerate().map(socket).collect::<Result<_, _>>()?;
        Ok(Self { node: NodeId(node.0), sockets })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_round_trips_and_other_texts_are_refused() {
        let sockets = vec!["127.0.0.1:7".parse().unwrap(), "[::1]:8".parse().unwrap()];
        let address = PeerAddress { node: NodeId([0xab; 32]), sockets };
        let text = address.to_string();
        assert!(text.ends_with("ab@127.0.0.1:7,[::1]:8"), "{text}");
        assert_eq!(text.parse(), Ok(address));
        let id = "ab".repeat(32);
        let refused = [
            (id.clone(), AddressError::NoSeparator),
            (format!("{}@127.0.0.1:7", &id[1..]), AddressError::Node),
            (format!("{id}@127.0.0.1:7,localhost:8"), AddressError::Socket { index: 1 }),
            (format!("{id}@"), AddressError::Socket { index: 0 }),
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
