//! Connections by node: made when something is to be sent, kept, and given up.

use std::collections::{BTreeMap, VecDeque};

use shoal_net::{
    Connection, Endpoint, Incoming, NetError, PeerAddress, Receiver, RelayState, Sender,
};
use shoal_swarm::Moment;
use shoal_wire::{CertificateChain, FaultCode, Frame, Message, NodeId};
use tokio::sync::mpsc;

use crate::limits::{ADDRESS_WAIT, CONNECTIONS_PER_PEER_MAX, PENDING_BYTES_MAX, PENDING_MAX};

/// What is sent.
#[derive(Debug)]
pub(crate) enum Outgoing {
    Message(Box<Message>),
    Frame(Frame),
}

impl Outgoing {
    fn bytes(&self) -> usize {
        match self {
            Self::Message(_) => 0,
            Self::Frame(frame) => frame.rows.len(),
        }
    }
}

/// What the network says.
#[derive(Debug)]
pub(crate) enum NetEvent {
    /// A connection is up: one that this node asked for, or one that was accepted.
    Connected { connection: Box<Connection>, is_ours: bool },
    /// A peer cannot be reached.
    Unreachable { peer: NodeId, error: NetError },
    /// A peer sent something.
    Arrived { peer: NodeId, incoming: Incoming },
    /// A connection is over.
    Lost { peer: NodeId, link: u64, error: NetError },
}

/// Why something was not sent.
#[derive(Debug)]
pub(crate) enum Unsent {
    /// The connection says so.
    Net(NetError),
    /// Too much waits for a connection.
    Full,
}

#[derive(Debug, Default)]
struct Peer {
    /// The last one is sent on.
    links: Vec<(u64, Sender)>,
    pending: VecDeque<Outgoing>,
    pending_bytes: usize,
    effort: Effort,
}

/// What is being done to reach a peer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Effort {
    #[default]
    None,
    /// Its address is not known yet.
    WaitsUntil(Moment),
    Dialing,
}

/// All connections.
#[derive(Debug)]
pub(crate) struct Peers {
    endpoint: Endpoint,
    events: mpsc::Sender<NetEvent>,
    by_node: BTreeMap<NodeId, Peer>,
    next_link: u64,
}

impl Peers {
    pub(crate) fn new(endpoint: Endpoint, events: mpsc::Sender<NetEvent>) -> Self {
        Self { endpoint, events, by_node: BTreeMap::new(), next_link: 0 }
    }

    /// Sends, or connects first.
    pub(crate) fn send(
        &mut self,
        to: NodeId,
        what: Outgoing,
        address: Option<PeerAddress>,
        now: Moment,
    ) -> Result<(), Unsent> {
        let looks_up = self.looks_up();
        let peer = self.by_node.entry(to).or_default();
        while let Some((_, sender)) = peer.links.last() {
            match put(sender, &what) {
                // An older one may still be up.
                Err(NetError::Closed { .. }) if peer.links.len() > 1 => {
                    peer.links.truncate(peer.links.len() - 1)
                }
                // Its reader says so, and why.
                Err(NetError::Closed { .. }) => return Ok(()),
                sent => return sent.map_err(Unsent::Net),
            }
        }
        peer.pending_bytes += what.bytes();
        if peer.pending.len() >= PENDING_MAX || peer.pending_bytes > PENDING_BYTES_MAX {
            return Err(Unsent::Full);
        }
        peer.pending.push_back(what);
        match (peer.effort, address) {
            (Effort::None | Effort::WaitsUntil(_), Some(address)) => self.dial(address),
            (Effort::None, None) if looks_up => self.dial(PeerAddress::nowhere(to)),
            (Effort::None, None) => peer.effort = Effort::WaitsUntil(now + ADDRESS_WAIT),
            _ => {}
        }
        Ok(())
    }

    /// The way to a peer that is connected.
    pub(crate) fn sender(&self, to: NodeId) -> Option<Sender> {
        let (_, sender) = self.by_node.get(&to)?.links.last()?;
        Some(sender.clone())
    }

    /// A peer's address has become known.
    pub(crate) fn learned(&mut self, address: PeerAddress) {
        let peer = self.by_node.get(&address.node);
        if peer.is_some_and(|peer| matches!(peer.effort, Effort::WaitsUntil(_))) {
            self.dial(address);
        }
    }

    /// Peers whose address did not become known in time. What waited for them is gone.
    pub(crate) fn overdue(&mut self, now: Moment) -> Vec<NodeId> {
        let is_over =
            |peer: &Peer| matches!(peer.effort, Effort::WaitsUntil(until) if until <= now);
        let over = self.by_node.iter().filter(|(_, peer)| is_over(peer));
        let over: Vec<NodeId> = over.map(|(node, _)| *node).collect();
        for node in &over {
            self.by_node.remove(node);
        }
        over
    }

    /// Takes a connection into use, sends what waited for it, and starts reading.
    pub(crate) fn connected(&mut self, connection: Connection) {
        let node = connection.peer();
        let (sender, receiver) = connection.split();
        let link = self.next_link;
        self.next_link += 1;
        let peer = self.by_node.entry(node).or_default();
        for waiting in peer.pending.drain(..) {
            // If it breaks already, its reader says so.
            let _ = put(&sender, &waiting);
        }
        (peer.pending_bytes, peer.effort) = (0, Effort::None);
        peer.links.push((link, sender));
        if peer.links.len() > CONNECTIONS_PER_PEER_MAX {
            peer.links.remove(0);
        }
        tokio::spawn(read(node, link, receiver, self.events.clone()));
    }

    /// A connection is over. Says whether it was the only one.
    pub(crate) fn lost(&mut self, node: NodeId, link: u64) -> bool {
        let Some(peer) = self.by_node.get_mut(&node) else {
            return false;
        };
        let before = peer.links.len();
        peer.links.retain(|(id, _)| *id != link);
        let is_last = peer.links.is_empty() && before > 0;
        if is_last && peer.effort == Effort::None {
            self.by_node.remove(&node);
        }
        is_last
    }

    /// A peer was not reached. Says whether it is gone: it may have connected by itself meanwhile.
    pub(crate) fn unreachable(&mut self, node: NodeId) -> bool {
        let is_gone = self.by_node.get(&node).is_none_or(|peer| peer.links.is_empty());
        if is_gone {
            self.by_node.remove(&node);
        }
        is_gone
    }

    /// Ends every connection to a peer, and says why. What waits for it is gone.
    pub(crate) fn give_up(&mut self, node: NodeId, code: Option<FaultCode>) {
        for (_, sender) in self.by_node.remove(&node).into_iter().flat_map(|peer| peer.links) {
            match code {
                Some(code) => sender.turn_away(code),
                None => sender.close(),
            }
        }
    }

    /// Everybody there is a connection to.
    pub(crate) fn present(&self) -> Vec<NodeId> {
        let linked = self.by_node.iter().filter(|(_, peer)| !peer.links.is_empty());
        linked.map(|(node, _)| *node).collect()
    }

    /// Connects to a peer, unless that is done or tried already.
    pub(crate) fn meet(&mut self, address: PeerAddress) {
        let peer = self.by_node.get(&address.node);
        if peer.is_none_or(|peer| peer.links.is_empty() && peer.effort != Effort::Dialing) {
            self.dial(address);
        }
    }

    /// What is said first on connections from now on.
    pub(crate) fn introduce(&self, certificate: CertificateChain, revocation: u64) {
        self.endpoint.introduce(Some(certificate), revocation);
    }

    /// Who and where this node is.
    pub(crate) fn address(&self) -> PeerAddress {
        self.endpoint.address()
    }

    /// The relays of this node.
    pub(crate) fn relays(&self) -> Vec<RelayState> {
        self.endpoint.relays()
    }

    /// Whether nodes without a place are looked up.
    pub(crate) fn looks_up(&self) -> bool {
        self.endpoint.discovery().is_some()
    }

    /// Whether this node's key leads to it.
    pub(crate) fn is_published(&self) -> bool {
        self.endpoint.discovery().is_some_and(|discovery| discovery.is_published)
    }

    /// Whether packets to a peer go over a relay at present, if there is a connection.
    pub(crate) fn is_relayed(&self, node: NodeId) -> Option<bool> {
        self.sender(node).map(|sender| sender.is_relayed())
    }

    fn dial(&mut self, address: PeerAddress) {
        let peer = self.by_node.entry(address.node).or_default();
        peer.effort = Effort::Dialing;
        let (endpoint, events) = (self.endpoint.clone(), self.events.clone());
        tokio::spawn(async move {
            let event = match endpoint.connect(&address).await {
                Ok(connection) => {
                    NetEvent::Connected { connection: Box::new(connection), is_ours: true }
                }
                Err(error) => NetEvent::Unreachable { peer: address.node, error },
            };
            // The node has stopped when nobody takes it.
            let _ = events.send(event).await;
        });
    }
}

fn put(sender: &Sender, what: &Outgoing) -> Result<(), NetError> {
    match what {
        Outgoing::Message(message) => sender.send(message),
        Outgoing::Frame(frame) => sender.send_frame(frame),
    }
}

/// Reads until the connection is over. A loop that is busy makes the peer wait.
async fn read(peer: NodeId, link: u64, mut receiver: Receiver, events: mpsc::Sender<NetEvent>) {
    loop {
        let event = match receiver.next().await {
            Ok(incoming) => NetEvent::Arrived { peer, incoming },
            Err(error) => NetEvent::Lost { peer, link, error },
        };
        let is_over = matches!(event, NetEvent::Lost { .. });
        if events.send(event).await.is_err() || is_over {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;
    use std::time::Duration;

    use shoal_net::{EndpointConfig, SecretKey};
    use shoal_wire::Ping;

    use super::*;

    async fn endpoint(seed: u8) -> Endpoint {
        let key = SecretKey::new(&[seed; 32]);
        let config = EndpointConfig::new(key, (Ipv4Addr::LOCALHOST, 0).into());
        Endpoint::bind(config).await.expect("loopback has free ports")
    }

    fn ping() -> Message {
        Message::Ping(Ping { nonce: 1 })
    }

    #[tokio::test]
    async fn a_send_on_a_closed_connection_leaves_the_reason_to_its_reader() {
        let (ours, theirs) = (endpoint(1).await, endpoint(2).await);
        let (events, mut heard) = mpsc::channel(8);
        let mut peers = Peers::new(ours, events);
        peers.meet(theirs.address());
        let accepted = theirs.accept().await.expect("it is open").greet().await;
        let (away, _receiver) = accepted.expect("it greets").split();
        let Some(NetEvent::Connected { connection, .. }) = heard.recv().await else {
            panic!("it connects");
        };
        peers.connected(*connection);
        away.turn_away(FaultCode::Forbidden);
        // Until the writer knows, too; nobody has looked at what the reader says yet.
        let sender = peers.sender(theirs.node()).expect("nobody gave it up");
        while !matches!(sender.send(&ping()), Err(NetError::Closed { .. })) {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        let sent = peers.send(theirs.node(), Outgoing::Message(Box::new(ping())), None, Moment(0));
        assert!(sent.is_ok(), "{sent:?}");
        let Some(NetEvent::Lost { error, .. }) = heard.recv().await else {
            panic!("the reader says so");
        };
        assert!(matches!(error, NetError::TurnedAway { .. }), "{error}");
    }
}
