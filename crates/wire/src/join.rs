//! Tickets, certificates and revocations. Spec 03, 10.

use shoal_base::PackageId;

use crate::codec::{choice, record};
use crate::limits::{
    ADDRESSES_MAX, CERTIFICATE_S_MAX, MODELS_MAX, PAIRING_BYTES_MAX, REVOKED_MAX, TEXT_BYTES_MAX,
};
use crate::list::Bytes;
use crate::{List, NodeId, Signable, Signed, Text, TicketId, WireError};

choice! {
    /// What a member of a swarm may do. Each role may do what those before it may.
    pub enum SwarmRole: u8 {
        /// Send requests.
        Use = 1,
        /// Compute for others.
        Serve = 2,
        /// Sign tickets for the roles below.
        Invite = 3,
    }
}

record! {
    /// An invitation for one use. Signed by the owner of the swarm, or by a member with the role
    /// invite.
    pub struct Ticket {
        /// The owner's key: it names the swarm.
        pub swarm: NodeId,
        /// Its number.
        pub ticket: TicketId,
        /// The role it gives.
        pub role: SwarmRole,
        /// The models it is for, ascending; all when empty.
        pub models: List<PackageId, MODELS_MAX>,
        /// Seconds since 1970.
        pub expires_at_s: u64,
        /// Where its signer can be reached, in the words of the transport.
        pub addresses: List<Text<TEXT_BYTES_MAX>, ADDRESSES_MAX>,
    }
    check Ticket::check;
}

impl Ticket {
    fn check(&self) -> Result<(), WireError> {
        check_models(&self.models)
    }
}

impl Signable for Ticket {
    const DOMAIN: &'static str = "shoal/ticket/v1";
}

fn check_models(models: &[PackageId]) -> Result<(), WireError> {
    if !models.windows(2).all(|pair| pair[0] < pair[1]) {
        return Err(WireError::Rule { field: "models", rule: "ascending, each once" });
    }
    Ok(())
}

record! {
    /// That a key may take part.
    pub struct Certificate {
        /// The owner's key: it names the swarm.
        pub swarm: NodeId,
        /// Whose it is. Useless to others: the transport proves the key.
        pub node: NodeId,
        /// What it may do.
        pub role: SwarmRole,
        /// The models it is for, ascending; all when empty.
        pub models: List<PackageId, MODELS_MAX>,
        /// The ticket it was first given for.
        pub ticket: TicketId,
        /// Seconds since 1970.
        pub issued_at_s: u64,
        /// Seconds since 1970, at most a day later.
        pub expires_at_s: u64,
    }
    check Certificate::check;
}

impl Certificate {
    fn check(&self) -> Result<(), WireError> {
        check_models(&self.models)?;
        let lasts_s = self.expires_at_s.checked_sub(self.issued_at_s);
        if lasts_s.is_none_or(|lasts_s| lasts_s > CERTIFICATE_S_MAX) {
            return Err(WireError::Rule { field: "expires_at_s", rule: "within a day" });
        }
        Ok(())
    }
}

impl Signable for Certificate {
    const DOMAIN: &'static str = "shoal/certificate/v1";
}

record! {
    /// A certificate, and that of its signer unless the owner signed.
    pub struct CertificateChain {
        /// The member's.
        pub certificate: Signed<Certificate>,
        /// Its signer's, with the role invite and signed by the owner.
        pub issuer: Option<Signed<Certificate>>,
    }
}

record! {
    /// A ticket for a certificate. The key of the connection is the joiner's.
    pub struct JoinRequest {
        /// What was handed over.
        pub ticket: Signed<Ticket>,
    }
}

record! {
    /// The certificate.
    pub struct JoinReply {
        /// The joiner's, from now on.
        pub certificate: CertificateChain,
        /// What is revoked, if anything is.
        pub revocation: Option<Signed<Revocation>>,
    }
}

record! {
    /// Asks for a new certificate in place of one that runs out. Answered by a [`JoinReply`].
    pub struct RenewRequest {
        /// The present one.
        pub certificate: CertificateChain,
    }
}

record! {
    /// Whom the owner no longer wants. A higher counter replaces a lower one, as a whole.
    pub struct Revocation {
        /// The owner's key; also who signs.
        pub swarm: NodeId,
        /// Counts from 1.
        pub counter: u64,
        /// Ascending, each once.
        pub nodes: List<NodeId, REVOKED_MAX>,
        /// Tickets that are void, ascending, each once.
        pub tickets: List<TicketId, REVOKED_MAX>,
    }
    check Revocation::check;
}

impl Revocation {
    fn check(&self) -> Result<(), WireError> {
        let nodes = self.nodes.windows(2).all(|pair| pair[0] < pair[1]);
        if !nodes || !self.tickets.windows(2).all(|pair| pair[0] < pair[1]) {
            return Err(WireError::Rule { field: "revocation", rule: "ascending, each once" });
        }
        if self.counter == 0 {
            return Err(WireError::Rule { field: "counter", rule: "at least 1" });
        }
        Ok(())
    }
}

impl Signable for Revocation {
    const DOMAIN: &'static str = "shoal/revocation/v1";
}

record! {
    /// A step of joining by a short code. The bytes are those of the key exchange.
    pub struct Pairing {
        /// Counts from 1.
        pub step: u8,
        /// What the exchange says.
        pub bytes: Bytes<PAIRING_BYTES_MAX>,
    }
}
