//! What a member of a swarm keeps over restarts.
//!
//! The file is JSON; signed records in it are the hexadecimal digits of their wire form. It is read
//! as strictly as what comes from a peer: a folder may have been synchronised or restored.

use std::fmt::Write as _;

use serde::{Deserialize, Serialize};
use shoal_net::PeerAddress;
use shoal_store::NodeFolder;
use shoal_swarm::{Door, Issuer, JoinError, NodeKey};
use shoal_wire::{CertificateChain, Field, NodeId, Revocation, Signed, SwarmRole, TicketId};

use crate::NodeError;
use crate::limits::KNOWN_MAX;

const FORMAT: &str = "shoal-member";
const VERSION: u32 = 1;

/// What is kept.
#[derive(Clone, Debug)]
pub(crate) struct State {
    /// What people on this machine call the swarm.
    pub(crate) name: String,
    pub(crate) chain: CertificateChain,
    pub(crate) revocation: Option<Signed<Revocation>>,
    /// Tickets that were exchanged here, for whom, and when they would have expired.
    pub(crate) used: Vec<(TicketId, NodeId, u64)>,
    /// Where other members were.
    pub(crate) known: Vec<PeerAddress>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    format: String,
    version: u32,
    name: String,
    certificate: String,
    revocation: Option<String>,
    used: Vec<(String, String, u64)>,
    known: Vec<String>,
}

impl State {
    /// The state of a member, if there is one.
    pub(crate) fn read(folder: &NodeFolder) -> Result<Option<Self>, NodeError> {
        match folder.state()? {
            Some(bytes) => Self::parse(&bytes).map(Some).ok_or(NodeError::State),
            None => Ok(None),
        }
    }

    fn parse(bytes: &[u8]) -> Option<Self> {
        let file: File = serde_json::from_slice(bytes).ok()?;
        if file.format != FORMAT || file.version != VERSION {
            return None;
        }
        let used = file
            .used
            .iter()
            .map(|(ticket, node, expires)| Some((of_hex(ticket)?, of_hex(node)?, *expires)));
        let known = file.known.iter().take(KNOWN_MAX).map(|text| text.parse().ok());
        Some(Self {
            name: file.name,
            chain: of_hex(&file.certificate)?,
            revocation: match file.revocation {
                Some(text) => Some(of_hex(&text)?),
                None => None,
            },
            used: used.collect::<Option<_>>()?,
            known: known.collect::<Option<_>>()?,
        })
    }

    pub(crate) fn to_bytes(&self) -> Vec<u8> {
        let used = self.used.iter().map(|(ticket, node, s)| (to_hex(ticket), to_hex(node), *s));
        let file = File {
            format: FORMAT.to_owned(),
            version: VERSION,
            name: self.name.clone(),
            certificate: to_hex(&self.chain),
            revocation: self.revocation.as_ref().map(to_hex),
            used: used.collect(),
            known: self.known.iter().take(KNOWN_MAX).map(ToString::to_string).collect(),
        };
        let mut bytes = serde_json::to_vec_pretty(&file).expect("plain JSON");
        bytes.push(b'\n');
        bytes
    }

    /// The door of this member. The node's own key signs where it may invite; the owner's where
    /// the swarm was made here.
    pub(crate) fn door(
        &self,
        me: NodeId,
        secret: &[u8; 32],
        owner: Option<[u8; 32]>,
    ) -> Result<Door, JoinError> {
        let body = &self.chain.certificate.body;
        if body.node != me {
            return Err(JoinError::OtherNode);
        }
        let owner = owner.map(|secret| NodeKey::new(&secret));
        let mut issuer = match owner.filter(|owner| owner.id() == body.swarm) {
            Some(owner) => Some(Issuer::owner(owner)),
            None if body.role == SwarmRole::Invite => {
                let gate = shoal_swarm::Gate::new(body.swarm);
                let own = self.chain.certificate.clone();
                Some(Issuer::member(NodeKey::new(secret), gate, own)?)
            }
            None => None,
        };
        if let Some(issuer) = &mut issuer {
            for (ticket, node, expires) in &self.used {
                issuer.restore_used(*ticket, *node, *expires);
            }
            if let Some(revocation) = &self.revocation {
                issuer.gate_mut().learn(revocation.clone())?;
            }
        }
        let mut door = Door::new(me, self.chain.clone(), issuer);
        if let Some(revocation) = &self.revocation {
            door.learn(revocation)?;
        }
        Ok(door)
    }
}

fn to_hex(value: &impl Field) -> String {
    let mut text = String::new();
    for byte in value.to_bytes() {
        write!(text, "{byte:02x}").expect("a text takes any text");
    }
    text
}

fn of_hex<T: Field>(text: &str) -> Option<T> {
    let digit = |byte: u8| char::from(byte).to_digit(16);
    let pairs = text.as_bytes().chunks(2);
    let bytes: Option<Vec<u8>> = pairs
        .map(|pair| match pair {
            [high, low] => u8::try_from(digit(*high)? << 4 | digit(*low)?).ok(),
            _ => None,
        })
        .collect();
    T::from_bytes(&bytes?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use shoal_swarm::{Random, own_certificate};

    struct Count(u64);

    impl Random for Count {
        fn next_u64(&mut self) -> u64 {
            self.0 += 1;
            self.0
        }
    }

    #[test]
    fn a_state_comes_back_as_it_was_written_and_damage_is_noticed() {
        let (owner, node) = ([1; 32], [2; 32]);
        let me = NodeKey::new(&node).id();
        let mut issuer = Issuer::owner(NodeKey::new(&owner));
        let chain = own_certificate(&mut issuer, me, 1000, &mut Count(0)).unwrap();
        let ticket = issuer.used().next().unwrap();
        let revocation = Some(issuer.revoke(&[NodeId([9; 32])], &[]).unwrap());
        let peer = format!("{me}@127.0.0.1:7").parse().unwrap();
        let name = "home".to_owned();
        let state = State { name, chain, revocation, used: vec![ticket], known: vec![peer] };
        let bytes = state.to_bytes();
        let back = State::parse(&bytes).unwrap();
        assert_eq!(back.to_bytes(), bytes);
        let door = back.door(me, &node, Some(owner)).unwrap();
        assert_eq!(door.gate().counter(), 1);
        assert!(door.issuer().unwrap().used().eq([ticket]), "used tickets stay used");
        let member = back.door(me, &node, None).unwrap();
        assert!(!member.issuer().unwrap().is_owner(), "without the owner's key");
        let other = NodeKey::new(&[3; 32]).id();
        assert_eq!(back.door(other, &node, None).err(), Some(JoinError::OtherNode));
        assert!(State::parse(&bytes[..bytes.len() / 2]).is_none());
        let text = String::from_utf8(bytes).unwrap();
        assert!(
            State::parse(text.replace("\"version\": 1", "\"version\": 2").as_bytes()).is_none()
        );
        assert!(
            State::parse(
                text.replacen("\"certificate\": \"", "\"certificate\": \"zz", 1).as_bytes()
            )
            .is_none()
        );
    }
}
