//! Every byte that leaves the process: messages, frames, limits, versions. Spec 03.
//!
//! Owns: the types that are sent, signed or hashed, their one encoding, and what is refused. Does
//! not own: sockets (`net`), what a message leads to (`swarm`), keys and signatures' arithmetic.
//!
//! Invariants: a value has one encoding; what is not that encoding is refused; lengths are checked
//! before memory is taken; no input makes a decoder panic.
#![forbid(unsafe_code)]

mod blob;
mod codec;
mod error;
pub mod examples;
mod fault;
mod frame;
mod hello;
mod ids;
mod join;
mod leaf_set;
mod lease;
pub mod limits;
mod list;
mod member;
mod message;
mod prepare;
mod roots;
mod route;
mod sign;
mod ticket_text;
mod version;

pub use blob::{
    BlobAbsent, BlobData, BlobLeaves, BlobQuery, BlobRange, BlobRequest, blob_root, leaf_bytes,
    leaf_count, leaf_digest,
};
pub use codec::{Field, Label, Reader, Writer, labelled};
pub use error::WireError;
pub use fault::{Fault, FaultCode};
pub use frame::{Frame, FrameHeader, FrameKind, PayloadFormat, flags};
pub use hello::{Hello, Ping, Pong, Welcome};
pub use ids::{Epoch, GenerationId, LayerRange, NodeId, RequestId, RingId, TicketId};
pub use join::{
    Certificate, CertificateChain, JoinReply, JoinRequest, Pairing, RenewRequest, Revocation,
    SwarmRole, Ticket,
};
pub use leaf_set::LeafSet;
pub use lease::{
    Admission, Credit, Duty, EndReason, LeaseEnd, LeaseGrant, LeaseRefusal, LeaseRelease,
    LeaseRenew, LeaseRenewed, LeaseRequest, RefusalReason, Replay,
};
pub use list::{Bytes, List, Text};
pub use member::{
    Coordinate, Descriptor, Link, MemberState, MembersQuery, MembersReply, Offer, duties,
};
pub use message::{Envelope, Kind, Message};
pub use prepare::{Prepare, PrepareState, PrepareStatus};
pub use roots::{ActivationRoots, activation_leaf, next_root};
pub use route::{Route, RouteStage};
pub use sign::{Signable, Signature, Signed};
pub use ticket_text::{ticket_from_text, ticket_to_text};
pub use version::{Version, VersionRange};
