//! Making a swarm, and joining one with a ticket.

use std::net::SocketAddr;

use shoal_net::{
    Connection, Discovery, Endpoint, EndpointConfig, Incoming, PeerAddress, RelayUrl, SecretKey,
};
use shoal_store::NodeFolder;
use shoal_swarm::{Gate, Issuer, JoinError, NodeKey, own_certificate, verify};
use shoal_wire::limits::{ADDRESSES_MAX, TEXT_BYTES_MAX};
use shoal_wire::{
    FaultCode, JoinReply, JoinRequest, Message, NodeId, Signed, SwarmRole, Text, Ticket, WireError,
    ticket_from_text,
};

use crate::NodeError;
use crate::chance::{SystemRandom, wall_s};
use crate::limits::JOIN_FOR;
use crate::state::State;

/// A swarm that was made or joined.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Joined {
    /// The owner's key, which names it.
    pub swarm: NodeId,
    /// This node.
    pub node: NodeId,
    /// What it may do.
    pub role: SwarmRole,
    /// When its certificate runs out, in seconds since 1970. It is renewed before.
    pub expires_at_s: u64,
}

impl Joined {
    fn of(state: &State) -> Self {
        let body = &state.chain.certificate.body;
        let (swarm, node) = (body.swarm, body.node);
        Self { swarm, node, role: body.role, expires_at_s: body.expires_at_s }
    }
}

/// Makes a swarm whose owner's key is in this folder.
///
/// # Errors
/// The folder is in a swarm already, or the system's answer.
pub fn create_swarm(folder: &NodeFolder, name: &str) -> Result<Joined, NodeError> {
    let name = name_of(name)?;
    check_free(folder)?;
    let me = NodeKey::new(&folder.secret()?).id();
    let mut owner = Issuer::owner(NodeKey::new(&folder.make_owner()?));
    let chain = own_certificate(&mut owner, me, wall_s(), &mut SystemRandom)?;
    let used = owner.used().collect();
    let state = State { name, chain, revocation: None, used, known: Vec::new() };
    folder.keep(&state.to_bytes())?;
    Ok(Joined::of(&state))
}

/// Joins a swarm with a ticket. Asks the member that signed it, and nobody else; over a relay that
/// is among `relays` if there is no other way, and after a look into the DHT if `discovery` says
/// so.
///
/// # Errors
/// The folder is in a swarm already, the text is no ticket, or why the member refused.
pub fn join_swarm(
    folder: &NodeFolder,
    ticket: &str,
    name: &str,
    listen: SocketAddr,
    relays: &[RelayUrl],
    discovery: Option<Discovery>,
) -> Result<Joined, NodeError> {
    let name = name_of(name)?;
    check_free(folder)?;
    let ticket = ticket_from_text(ticket).map_err(NodeError::Ticket)?;
    verify(&ticket).map_err(JoinError::from)?;
    let inviter = inviter(&ticket)?;
    let secret = folder.secret()?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let exchange = async {
        let config = EndpointConfig::new(SecretKey::new(&secret), listen);
        let config = EndpointConfig { relays: relays.to_vec(), discovery, ..config };
        let endpoint = Endpoint::bind(config).await?;
        let limit = JOIN_FOR.max(endpoint.connect_for());
        let asked = tokio::time::timeout(limit, ask(&endpoint, &inviter, &ticket)).await;
        endpoint.close().await;
        asked.unwrap_or(Err(NodeError::Silent { limit }))
    };
    let reply = runtime.block_on(exchange)?;
    let mut gate = Gate::new(ticket.body.swarm);
    if let Some(revocation) = &reply.revocation {
        gate.learn(revocation.clone())?;
    }
    let me = NodeKey::new(&secret).id();
    let role = gate.check(&reply.certificate, me, wall_s())?;
    if role != ticket.body.role {
        return Err(JoinError::Role { role }.into());
    }
    let state = State {
        name,
        chain: reply.certificate,
        revocation: reply.revocation,
        used: Vec::new(),
        known: vec![inviter],
    };
    folder.keep(&state.to_bytes())?;
    Ok(Joined::of(&state))
}

fn name_of(name: &str) -> Result<String, NodeError> {
    Ok(Text::<TEXT_BYTES_MAX>::try_new(name)?.to_string())
}

/// Whether a folder may join: one is in at most one swarm.
///
/// # Errors
/// It is in a swarm already.
pub fn check_free(folder: &NodeFolder) -> Result<(), NodeError> {
    match State::read(folder)? {
        Some(state) => Err(NodeError::Member { swarm: state.chain.certificate.body.swarm }),
        None => Ok(()),
    }
}

/// Where the signer of a ticket is.
fn inviter(ticket: &Signed<Ticket>) -> Result<PeerAddress, NodeError> {
    let addresses = &ticket.body.addresses;
    debug_assert!(addresses.len() <= ADDRESSES_MAX, "the type says so");
    let mut parsed = addresses.iter().filter_map(|text| text.parse::<PeerAddress>().ok());
    let rule = "it does not say where its signer is";
    parsed.next().ok_or(NodeError::Ticket(WireError::Rule { field: "addresses", rule }))
}

async fn ask(
    endpoint: &Endpoint,
    inviter: &PeerAddress,
    ticket: &Signed<Ticket>,
) -> Result<JoinReply, NodeError> {
    let connection = endpoint.connect(inviter).await.map_err(NodeError::Inviter)?;
    exchange(connection, ticket).await
}

async fn exchange(connection: Connection, ticket: &Signed<Ticket>) -> Result<JoinReply, NodeError> {
    let (sender, mut receiver) = connection.split();
    let request = Message::JoinRequest(JoinRequest { ticket: ticket.clone() });
    sender.send(&request).map_err(NodeError::Inviter)?;
    loop {
        let Incoming::Message(message) = receiver.next().await.map_err(NodeError::Inviter)? else {
            continue;
        };
        match *message {
            Message::JoinReply(reply) => return Ok(reply),
            Message::Fault(fault) if fault.code == FaultCode::Ticket => {
                let error = JoinError::of_numbers(fault.got, fault.limit);
                return Err(error.map_or(NodeError::Refused { code: fault.code }, NodeError::Join));
            }
            Message::Fault(fault) => return Err(NodeError::Refused { code: fault.code }),
            // What members say to each other is not for this one yet.
            _ => {}
        }
    }
}
