//! Who may come in: tickets for certificates, certificates at the door. Spec 03, 10.
//!
//! Times here are seconds since 1970, by the wall clock: a certificate outlives a process.

use std::collections::BTreeMap;

use shoal_base::{Blame, PackageId};
use shoal_wire::limits::{CERTIFICATE_S_MAX, TICKET_S_MAX};
use shoal_wire::{
    Certificate, CertificateChain, List, NodeId, Revocation, Signed, SwarmRole, Text, Ticket,
    TicketId,
};

use crate::{KeyError, NodeKey, Random, limits, verify};

/// Why somebody stays outside.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum JoinError {
    /// A signature does not hold.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// Of another swarm.
    #[error("for another swarm")]
    OtherSwarm,
    /// Somebody without the right to do so signed it.
    #[error("signed by a node that may not")]
    Signer,
    /// Only its signer exchanges a ticket.
    #[error("the ticket is for another node, ask the one that signed it")]
    OtherIssuer,
    /// A ticket is for one use.
    #[error("the ticket was used, ask for a new one")]
    Used,
    /// Its time is over.
    #[error("expired {ago_s} s ago, ask for a new one")]
    Expired {
        /// How long ago.
        ago_s: u64,
    },
    /// The owner no longer wants the node, or the ticket is void.
    #[error("revoked by the owner of the swarm")]
    Revoked,
    /// The certificate is for another key.
    #[error("the certificate is for another key")]
    OtherNode,
    /// The owner's own node would be shut out.
    #[error("a node does not revoke itself; to end a swarm, `shoal leave --forget`")]
    Own,
    /// The role does not allow it.
    #[error("the role {role:?} does not allow that")]
    Role {
        /// The role.
        role: SwarmRole,
    },
    /// A life longer than allowed.
    #[error("{seconds} s is longer than allowed, limit {limit}")]
    Lifetime {
        /// What was asked.
        seconds: u64,
        /// What is allowed.
        limit: u64,
    },
    /// Names more packages, nodes or tickets than fit, or an older revocation.
    #[error("too many entries, or an old list")]
    List,
}

impl JoinError {
    /// Who is responsible.
    #[must_use]
    pub fn blame(&self) -> Blame {
        match self {
            Self::Used | Self::Expired { .. } | Self::Lifetime { .. } | Self::List | Self::Own => {
                Blame::Caller
            }
            _ => Blame::Peer,
        }
    }
}

impl JoinError {
    /// Its number in a `Fault` with the code `Ticket`, and how long ago for what expired.
    #[must_use]
    pub fn to_numbers(&self) -> (u64, u64) {
        match self {
            Self::OtherSwarm => (1, 0),
            Self::Signer => (2, 0),
            Self::OtherIssuer => (3, 0),
            Self::Used => (4, 0),
            Self::Expired { ago_s } => (5, *ago_s),
            Self::Revoked => (6, 0),
            Self::OtherNode => (7, 0),
            Self::Role { role } => (8, *role as u64),
            Self::Key(_) => (9, 0),
            Self::Lifetime { .. } | Self::List | Self::Own => (0, 0),
        }
    }

    /// What such numbers mean.
    #[must_use]
    pub fn of_numbers(got: u64, limit: u64) -> Option<Self> {
        let role = [SwarmRole::Use, SwarmRole::Serve, SwarmRole::Invite];
        Some(match got {
            1 => Self::OtherSwarm,
            2 => Self::Signer,
            3 => Self::OtherIssuer,
            4 => Self::Used,
            5 => Self::Expired { ago_s: limit },
            6 => Self::Revoked,
            7 => Self::OtherNode,
            8 => Self::Role { role: role.into_iter().find(|role| *role as u64 == limit)? },
            9 => Self::Key(KeyError::Forged),
            _ => return None,
        })
    }
}

/// Whom to let in: a swarm, and the highest revocation seen.
#[derive(Clone, Debug)]
pub struct Gate {
    swarm: NodeId,
    revocation: Option<Signed<Revocation>>,
}

impl Gate {
    /// Of the swarm whose owner has this key.
    #[must_use]
    pub fn new(swarm: NodeId) -> Self {
        Self { swarm, revocation: None }
    }

    /// The highest counter seen; 0 for none.
    #[must_use]
    pub fn counter(&self) -> u64 {
        self.revocation.as_ref().map_or(0, |signed| signed.body.counter)
    }

    /// What to pass on to nodes with a lower counter.
    #[must_use]
    pub fn revocation(&self) -> Option<&Signed<Revocation>> {
        self.revocation.as_ref()
    }

    /// Learns a revocation. Says whether it is news: then it is to be passed on, and connections
    /// are to be checked again.
    ///
    /// # Errors
    /// When it is not the owner's.
    pub fn learn(&mut self, signed: Signed<Revocation>) -> Result<bool, JoinError> {
        if signed.body.swarm != self.swarm {
            return Err(JoinError::OtherSwarm);
        }
        if signed.signer != self.swarm {
            return Err(JoinError::Signer);
        }
        if signed.body.counter <= self.counter() {
            return Ok(false);
        }
        verify(&signed)?;
        self.revocation = Some(signed);
        Ok(true)
    }

    /// Whether the owner no longer wants a node or a ticket.
    #[must_use]
    pub fn is_revoked(&self, node: NodeId, ticket: TicketId) -> bool {
        let body = self.revocation.as_ref().map(|signed| &signed.body);
        body.is_some_and(|body| body.nodes.contains(&node) || body.tickets.contains(&ticket))
    }

    /// What the holder of a key may do.
    ///
    /// # Errors
    /// Says why it stays outside.
    pub fn check(
        &self,
        chain: &CertificateChain,
        node: NodeId,
        now_s: u64,
    ) -> Result<SwarmRole, JoinError> {
        let certificate = &chain.certificate;
        self.check_one(certificate, now_s)?;
        if certificate.body.node != node {
            return Err(JoinError::OtherNode);
        }
        if certificate.signer == self.swarm {
            return Ok(certificate.body.role);
        }
        let issuer = chain.issuer.as_ref().ok_or(JoinError::Signer)?;
        self.check_one(issuer, now_s)?;
        check_inviter(&issuer.body, issuer.signer, self.swarm, certificate.signer)?;
        let (below, own) = (&certificate.body, &issuer.body);
        let is_within = below.expires_at_s <= own.expires_at_s && below.role < own.role;
        if !is_within || !covers(&own.models, &below.models) {
            return Err(JoinError::Role { role: own.role });
        }
        Ok(below.role)
    }

    fn check_one(&self, signed: &Signed<Certificate>, now_s: u64) -> Result<(), JoinError> {
        let body = &signed.body;
        if body.swarm != self.swarm {
            return Err(JoinError::OtherSwarm);
        }
        check_time(body.expires_at_s, now_s)?;
        if self.is_revoked(body.node, body.ticket) {
            return Err(JoinError::Revoked);
        }
        Ok(verify(signed)?)
    }
}

fn check_time(expires_at_s: u64, now_s: u64) -> Result<(), JoinError> {
    match now_s.checked_sub(expires_at_s) {
        Some(ago_s) => Err(JoinError::Expired { ago_s }),
        None => Ok(()),
    }
}

/// Whether a certificate of the owner lets its holder sign for others.
fn check_inviter(
    own: &Certificate,
    signed_by: NodeId,
    swarm: NodeId,
    signer: NodeId,
) -> Result<(), JoinError> {
    if signed_by != swarm || own.node != signer {
        return Err(JoinError::Signer);
    }
    match own.role {
        SwarmRole::Invite => Ok(()),
        role => Err(JoinError::Role { role }),
    }
}

/// Whether a list of models allows all of another; an empty one stands for all models.
fn covers(allowed: &[PackageId], asked: &[PackageId]) -> bool {
    let is_allowed = |package| allowed.contains(package);
    allowed.is_empty() || (!asked.is_empty() && asked.iter().all(is_allowed))
}

/// A node that signs tickets and exchanges them: the owner, or a member with the role invite.
#[derive(Debug)]
pub struct Issuer {
    key: NodeKey,
    gate: Gate,
    /// Its own certificate, unless it is the owner.
    own: Option<Signed<Certificate>>,
    /// Tickets that were exchanged, for whom, and when they would have expired.
    used: BTreeMap<TicketId, (NodeId, u64)>,
}

impl Issuer {
    /// The owner of a swarm.
    #[must_use]
    pub fn owner(key: NodeKey) -> Self {
        let gate = Gate::new(key.id());
        Self { key, gate, own: None, used: BTreeMap::new() }
    }

    /// A member that may invite.
    ///
    /// # Errors
    /// When its certificate is not the owner's, or of another role.
    pub fn member(key: NodeKey, gate: Gate, own: Signed<Certificate>) -> Result<Self, JoinError> {
        check_inviter(&own.body, own.signer, gate.swarm, key.id())?;
        verify(&own)?;
        Ok(Self { key, gate, own: Some(own), used: BTreeMap::new() })
    }

    /// Whether it is the owner.
    #[must_use]
    pub fn is_owner(&self) -> bool {
        self.own.is_none()
    }

    /// Takes a new certificate of its own in place of the one it had. One that does not let it
    /// invite is not taken.
    pub fn renew_own(&mut self, own: Signed<Certificate>) {
        let fits = check_inviter(&own.body, own.signer, self.gate.swarm, self.key.id());
        if self.own.is_some() && fits.is_ok() {
            self.own = Some(own);
        }
    }

    /// The gate of the same swarm.
    #[must_use]
    pub fn gate(&self) -> &Gate {
        &self.gate
    }

    /// The gate of the same swarm, to let it learn revocations.
    pub fn gate_mut(&mut self) -> &mut Gate {
        &mut self.gate
    }

    /// Tickets that were exchanged: to be kept over restarts.
    pub fn used(&self) -> impl Iterator<Item = (TicketId, NodeId, u64)> {
        self.used.iter().map(|(ticket, (node, expires))| (*ticket, *node, *expires))
    }

    /// Remembers a ticket that was exchanged before a restart.
    pub fn restore_used(&mut self, ticket: TicketId, node: NodeId, expires_at_s: u64) {
        self.used.insert(ticket, (node, expires_at_s));
    }

    /// A ticket for one use.
    ///
    /// # Errors
    /// When the life is too long, or the role above what this node may give.
    pub fn invite(
        &self,
        role: SwarmRole,
        models: &[PackageId],
        addresses: &[&str],
        (now_s, seconds): (u64, u64),
        random: &mut dyn Random,
    ) -> Result<Signed<Ticket>, JoinError> {
        if seconds > TICKET_S_MAX {
            return Err(JoinError::Lifetime { seconds, limit: TICKET_S_MAX });
        }
        let mut models = models.to_vec();
        models.sort_unstable();
        models.dedup();
        self.check_power(role, &models, now_s)?;
        let addresses: Result<Vec<_>, _> = addresses.iter().map(|a| Text::try_new(a)).collect();
        let ticket = Ticket {
            swarm: self.gate.swarm,
            ticket: TicketId(random.next_id()),
            role,
            models: List::try_new(models).map_err(|_| JoinError::List)?,
            expires_at_s: now_s + seconds,
            addresses: List::truncated(addresses.map_err(|_| JoinError::List)?),
        };
        Ok(self.key.sign(ticket))
    }

    /// Whether this node may give a role for some models now.
    fn check_power(
        &self,
        role: SwarmRole,
        models: &[PackageId],
        now_s: u64,
    ) -> Result<(), JoinError> {
        let Some(own) = &self.own else {
            return Ok(());
        };
        check_time(own.body.expires_at_s, now_s)?;
        if role >= own.body.role || !covers(&own.body.models, models) {
            return Err(JoinError::Role { role: own.body.role });
        }
        Ok(())
    }

    /// A certificate for a ticket. The joiner's key is the one its connection proved. The same
    /// joiner may come again, as its first answer may have been lost; anybody else may not.
    ///
    /// # Errors
    /// Says why not.
    pub fn exchange(
        &mut self,
        ticket: &Signed<Ticket>,
        joiner: NodeId,
        now_s: u64,
    ) -> Result<CertificateChain, JoinError> {
        let body = &ticket.body;
        if body.swarm != self.gate.swarm {
            return Err(JoinError::OtherSwarm);
        }
        if ticket.signer != self.key.id() {
            return Err(JoinError::OtherIssuer);
        }
        verify(ticket)?;
        check_time(body.expires_at_s, now_s)?;
        if self.gate.is_revoked(joiner, body.ticket) {
            return Err(JoinError::Revoked);
        }
        self.check_power(body.role, &body.models, now_s)?;
        self.used.retain(|_, (_, expires)| *expires > now_s);
        let (node, _) = *self.used.entry(body.ticket).or_insert((joiner, body.expires_at_s));
        if node != joiner {
            return Err(JoinError::Used);
        }
        Ok(self.certify(joiner, body.role, body.models.clone(), body.ticket, now_s))
    }

    /// A new certificate in place of one that runs out, or ran out not longer ago than
    /// [`RENEWAL_GRACE_S`](limits::RENEWAL_GRACE_S): machines are switched off for weekends.
    ///
    /// # Errors
    /// Says why not.
    pub fn renew(
        &self,
        chain: &CertificateChain,
        node: NodeId,
        now_s: u64,
    ) -> Result<CertificateChain, JoinError> {
        self.gate.check(chain, node, now_s.saturating_sub(limits::RENEWAL_GRACE_S))?;
        let body = &chain.certificate.body;
        self.check_power(body.role, &body.models, now_s)?;
        Ok(self.certify(node, body.role, body.models.clone(), body.ticket, now_s))
    }

    fn certify(
        &self,
        node: NodeId,
        role: SwarmRole,
        models: List<PackageId, { shoal_wire::limits::MODELS_MAX }>,
        ticket: TicketId,
        now_s: u64,
    ) -> CertificateChain {
        let own_end_s = self.own.as_ref().map_or(u64::MAX, |own| own.body.expires_at_s);
        let body = Certificate {
            swarm: self.gate.swarm,
            node,
            role,
            models,
            ticket,
            issued_at_s: now_s,
            expires_at_s: (now_s + CERTIFICATE_S_MAX).min(own_end_s),
        };
        CertificateChain { certificate: self.key.sign(body), issuer: self.own.clone() }
    }

    /// Revokes nodes and tickets besides those already revoked. The result is to be passed on.
    ///
    /// # Errors
    /// When this node is not the owner, or the list is full.
    pub fn revoke(
        &mut self,
        nodes: &[NodeId],
        tickets: &[TicketId],
    ) -> Result<Signed<Revocation>, JoinError> {
        if self.own.is_some() {
            return Err(JoinError::Signer);
        }
        let before = self.gate.revocation.as_ref().map(|signed| &signed.body);
        let mut all_nodes = before.map_or_else(Vec::new, |body| body.nodes.to_vec());
        let mut all_tickets = before.map_or_else(Vec::new, |body| body.tickets.to_vec());
        all_nodes.extend(nodes);
        all_tickets.extend(tickets);
        all_nodes.sort_unstable();
        all_nodes.dedup();
        all_tickets.sort_unstable();
        all_tickets.dedup();
        let signed = self.key.sign(Revocation {
            swarm: self.gate.swarm,
            counter: self.gate.counter() + 1,
            nodes: List::try_new(all_nodes).map_err(|_| JoinError::List)?,
            tickets: List::try_new(all_tickets).map_err(|_| JoinError::List)?,
        });
        self.gate.revocation = Some(signed.clone());
        Ok(signed)
    }
}
