//! The door of a node in a swarm: who comes in, who gets a certificate from this node, and when its
//! own runs out. Spec 03, 10.
//!
//! Times are seconds since 1970, by the wall clock. What has to survive a restart is in [`Door`]'s
//! getters; the driver keeps it before it sends a reply that depends on it.

use shoal_base::PackageId;
use shoal_wire::{
    CertificateChain, JoinReply, JoinRequest, NodeId, RenewRequest, Revocation, Signed, SwarmRole,
    Ticket, TicketId,
};

use crate::join::{Gate, Issuer, JoinError};
use crate::{Random, limits};

/// What somebody who was let in may do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pass {
    /// What it showed. Checked again when the owner revokes.
    pub chain: CertificateChain,
    /// What it may do.
    pub role: SwarmRole,
    /// Until when, at most.
    pub expires_at_s: u64,
}

impl Pass {
    /// Whether it may ask for layers of a package.
    #[must_use]
    pub fn allows(&self, package: PackageId) -> bool {
        self.models().is_empty() || self.models().contains(&package)
    }

    /// The packages it is restricted to; none for all.
    #[must_use]
    pub fn models(&self) -> &[PackageId] {
        &self.chain.certificate.body.models
    }
}

/// The door of one node.
#[derive(Debug)]
pub struct Door {
    me: NodeId,
    gate: Gate,
    issuer: Option<Issuer>,
    own: CertificateChain,
    /// Whom this node asked for a new certificate.
    asked: Option<NodeId>,
    /// When to ask the next one.
    ask_at_s: u64,
}

impl Door {
    /// Of a node with this certificate. One that may invite has an issuer.
    #[must_use]
    pub fn new(me: NodeId, own: CertificateChain, issuer: Option<Issuer>) -> Self {
        let gate = match &issuer {
            Some(issuer) => issuer.gate().clone(),
            None => Gate::new(own.certificate.body.swarm),
        };
        Self { me, gate, issuer, own, asked: None, ask_at_s: 0 }
    }

    /// Its swarm.
    #[must_use]
    pub fn swarm(&self) -> NodeId {
        self.own.certificate.body.swarm
    }

    /// Its own certificate.
    #[must_use]
    pub fn own(&self) -> &CertificateChain {
        &self.own
    }

    /// The gate, with the highest revocation.
    #[must_use]
    pub fn gate(&self) -> &Gate {
        &self.gate
    }

    /// The tickets this node exchanged.
    #[must_use]
    pub fn issuer(&self) -> Option<&Issuer> {
        self.issuer.as_ref()
    }

    /// Lets somebody in who has proved a key.
    ///
    /// # Errors
    /// Says why it stays outside.
    pub fn admit(
        &self,
        chain: &CertificateChain,
        node: NodeId,
        now_s: u64,
    ) -> Result<Pass, JoinError> {
        let role = self.gate.check(chain, node, now_s)?;
        let own_end = chain.certificate.body.expires_at_s;
        let issuer_end = chain.issuer.as_ref().map_or(u64::MAX, |signed| signed.body.expires_at_s);
        Ok(Pass { chain: chain.clone(), role, expires_at_s: own_end.min(issuer_end) })
    }

    /// A certificate for a ticket.
    ///
    /// # Errors
    /// Says why not.
    pub fn join(
        &mut self,
        request: &JoinRequest,
        joiner: NodeId,
        now_s: u64,
    ) -> Result<JoinReply, JoinError> {
        let issuer = self.issuer.as_mut().ok_or(JoinError::OtherIssuer)?;
        let certificate = issuer.exchange(&request.ticket, joiner, now_s)?;
        Ok(JoinReply { certificate, revocation: self.gate.revocation().cloned() })
    }

    /// A new certificate for one that runs out, or has run out not long ago.
    ///
    /// # Errors
    /// Says why not.
    pub fn renew(
        &self,
        request: &RenewRequest,
        node: NodeId,
        now_s: u64,
    ) -> Result<JoinReply, JoinError> {
        let issuer = self.issuer.as_ref().ok_or(JoinError::OtherIssuer)?;
        let certificate = issuer.renew(&request.certificate, node, now_s)?;
        Ok(JoinReply { certificate, revocation: self.gate.revocation().cloned() })
    }

    /// Learns a revocation. Says whether it is news: to be kept and passed on, and everybody's pass
    /// is to be checked again.
    ///
    /// # Errors
    /// When it is not the owner's.
    pub fn learn(&mut self, signed: &Signed<Revocation>) -> Result<bool, JoinError> {
        if let Some(issuer) = &mut self.issuer {
            issuer.gate_mut().learn(signed.clone())?;
        }
        self.gate.learn(signed.clone())
    }

    /// A ticket for one use.
    ///
    /// # Errors
    /// When this node may not give that.
    pub fn invite(
        &self,
        (role, models): (SwarmRole, &[PackageId]),
        address: &str,
        (now_s, seconds): (u64, u64),
        random: &mut dyn Random,
    ) -> Result<Signed<Ticket>, JoinError> {
        let role_here = self.own.certificate.body.role;
        let issuer = self.issuer.as_ref().ok_or(JoinError::Role { role: role_here })?;
        issuer.invite(role, models, &[address], (now_s, seconds), random)
    }

    /// Revokes a node. The result is to be passed on.
    ///
    /// # Errors
    /// When this node is not the owner, or it is the node itself.
    pub fn revoke(
        &mut self,
        nodes: &[NodeId],
        tickets: &[TicketId],
    ) -> Result<Signed<Revocation>, JoinError> {
        let issuer = self.issuer.as_mut().filter(|issuer| issuer.is_owner());
        let issuer = issuer.ok_or(JoinError::Signer)?;
        if nodes.contains(&self.me) {
            return Err(JoinError::Own);
        }
        let signed = issuer.revoke(nodes, tickets)?;
        self.gate.learn(signed.clone())?;
        Ok(signed)
    }

    /// What to do about this node's own certificate: renewed at half of its life, by this node when
    /// it is the owner's, else by one of the inviters that are there, in turn.
    pub fn renewal(&mut self, inviters: &[NodeId], now_s: u64, random: &mut dyn Random) -> Renewal {
        let body = &self.own.certificate.body;
        let half_s = body.issued_at_s + (body.expires_at_s - body.issued_at_s) / 2;
        if now_s < half_s || now_s < self.ask_at_s {
            return Renewal::No;
        }
        self.ask_at_s = now_s + limits::RENEWAL_RETRY_S;
        if let Some(owner) = self.issuer.as_mut().filter(|issuer| issuer.is_owner()) {
            let renewed = own_certificate(owner, self.me, now_s, random);
            return match renewed {
                Ok(own) => {
                    self.own = own;
                    Renewal::Done
                }
                Err(_) => Renewal::No,
            };
        }
        let next = inviters.iter().find(|node| self.asked.is_none_or(|asked| **node > asked));
        let Some(next) = next.or(inviters.first()) else {
            return Renewal::No;
        };
        self.asked = Some(*next);
        Renewal::Ask(*next, Box::new(RenewRequest { certificate: self.own.clone() }))
    }

    /// The answer to a request for renewal. Says whether it is taken: it has to come from the one
    /// that was asked, be for this node, of no lower role and last longer.
    pub fn renewed(&mut self, from: NodeId, reply: &JoinReply, now_s: u64) -> bool {
        if self.asked != Some(from) {
            return false;
        }
        if let Some(revocation) = &reply.revocation {
            // A wrong one is not the owner's, and says nothing about the certificate.
            let _ = self.learn(revocation);
        }
        let Ok(pass) = self.admit(&reply.certificate, self.me, now_s) else {
            return false;
        };
        let present = &self.own.certificate.body;
        if pass.role < present.role || pass.expires_at_s <= present.expires_at_s {
            return false;
        }
        if let Some(issuer) = &mut self.issuer {
            issuer.renew_own(reply.certificate.certificate.clone());
        }
        self.own = reply.certificate.clone();
        self.asked = None;
        true
    }
}

/// What to do about a certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Renewal {
    /// Nothing, or nothing can be done now.
    No,
    /// There is a new one: keep it and say so.
    Done,
    /// Ask this node.
    Ask(NodeId, Box<RenewRequest>),
}

/// The certificate of the node on which a swarm was made.
///
/// # Errors
/// When its owner is not the issuer's.
pub fn own_certificate(
    owner: &mut Issuer,
    node: NodeId,
    now_s: u64,
    random: &mut dyn Random,
) -> Result<CertificateChain, JoinError> {
    let ticket = owner.invite(SwarmRole::Invite, &[], &[], (now_s, 60), random)?;
    owner.exchange(&ticket, node, now_s)
}
