//! One example of each message and frame. Golden bytes, fuzz seeds and tests are made from them.
//!
//! Signatures in them are patterns, not genuine: the encoding does not depend on that.

use shoal_base::{Blame, Digest, Lane, PackageId, SharedBytes};

use crate::frame::PayloadFormat;
use crate::limits::{LEAF_BYTES, THROUGH};
use crate::{
    Admission, BlobAbsent, BlobData, BlobLeaves, BlobQuery, BlobRange, BlobRequest, Bytes,
    Certificate, CertificateChain, Coordinate, Credit, Descriptor, Duty, EndReason, Epoch, Fault,
    FaultCode, Frame, FrameHeader, FrameKind, GenerationId, Hello, JoinReply, JoinRequest,
    LayerRange, LeaseEnd, LeaseGrant, LeaseRefusal, LeaseRelease, LeaseRenew, LeaseRenewed,
    LeaseRequest, Link, List, MemberState, MembersQuery, MembersReply, Message, NodeId, Offer,
    Pairing, Ping, Pong, Prepare, PrepareState, PrepareStatus, RefusalReason, RenewRequest, Replay,
    RequestId, Revocation, RingId, Route, RouteStage, Signature, Signed, SwarmRole, Text, Ticket,
    TicketId, Version, VersionRange, Welcome, activation_leaf, blob_root, duties, next_root,
};

const RING: RingId = RingId([0xa1; 16]);
const GENERATION: GenerationId = GenerationId(3);
const OWNER: NodeId = NodeId([0x0f; 32]);
const HEAD: NodeId = NodeId([0x11; 32]);
const FIRST: NodeId = NodeId([0x22; 32]);
const SECOND: NodeId = NodeId([0x33; 32]);
const TICKET: TicketId = TicketId([0x77; 16]);
/// 2026-01-01.
const NOW_S: u64 = 1_767_225_600;

fn package() -> PackageId {
    PackageId(Digest([0xc0; 32]))
}

fn layers(first: u16, end: u16) -> LayerRange {
    LayerRange { first, end }
}

fn list<T, const MAX: usize>(items: Vec<T>) -> List<T, MAX> {
    List::try_new(items).expect("examples are short")
}

fn text<const MAX: usize>(text: &str) -> Text<MAX> {
    Text::try_new(text).expect("examples are plain")
}

fn signed<T>(body: T, signer: NodeId) -> Signed<T> {
    Signed { body, signer, signature: Signature([0x55; 64]) }
}

fn admission() -> Admission {
    Admission {
        package: package(),
        layers: layers(8, 16),
        arithmetic: 1,
        width: 2048,
        payload: PayloadFormat::Bf16,
        context_tokens: 8192,
        cache_tokens: 32_768,
        frame_rows: 256,
        requests: 8,
        credit_frames: 16,
        credit_bytes: 4 << 20,
    }
}

fn route() -> Route {
    let stages = vec![
        RouteStage { node: FIRST, layers: layers(0, 8), shadow: None },
        RouteStage { node: SECOND, layers: layers(8, 16), shadow: Some(OWNER) },
    ];
    Route { head: HEAD, layer_count: 16, stages: list(stages) }
}

fn certificate(node: NodeId, role: SwarmRole, signer: NodeId) -> Signed<Certificate> {
    let certificate = Certificate {
        swarm: OWNER,
        node,
        role,
        models: list(vec![package()]),
        ticket: TICKET,
        issued_at_s: NOW_S,
        expires_at_s: NOW_S + 86_400,
    };
    signed(certificate, signer)
}

fn chain() -> CertificateChain {
    CertificateChain {
        certificate: certificate(FIRST, SwarmRole::Serve, HEAD),
        issuer: Some(certificate(HEAD, SwarmRole::Invite, OWNER)),
    }
}

fn descriptor() -> Signed<Descriptor> {
    let offer = Offer {
        package: package(),
        arithmetic: 1,
        held: list(vec![layers(0, 4), layers(6, 16)]),
        loaded: list(vec![layers(8, 16)]),
        decode_ns: 310_000,
        prefill_ns: 42_000,
        cache_tokens_free: 65_536,
    };
    let descriptor = Descriptor {
        node: FIRST,
        sequence: 42,
        lifetime_s: 180,
        state: MemberState::Active,
        duties: duties::STAGE | duties::SEED,
        certificate: Some(chain()),
        addresses: list(vec![text("192.0.2.7:4433")]),
        memory_free_bytes: 6 << 30,
        disk_free_bytes: 100 << 30,
        uplink_bytes_per_s: 2_500_000,
        downlink_bytes_per_s: 12_500_000,
        coordinate: Coordinate { x_us: 9000, y_us: -4000, z_us: 0, height_us: 700, error_us: 900 },
        offers: list(vec![offer]),
        links: list(vec![Link { peer: SECOND, rtt_us: 25_100, loss_ppm: 150, is_relayed: false }]),
    };
    signed(descriptor, FIRST)
}

fn revocation() -> Signed<Revocation> {
    let body = Revocation {
        swarm: OWNER,
        counter: 2,
        nodes: list(vec![SECOND]),
        tickets: list(vec![TICKET]),
    };
    signed(body, OWNER)
}

fn ticket() -> Signed<Ticket> {
    let body = Ticket {
        swarm: OWNER,
        ticket: TICKET,
        role: SwarmRole::Serve,
        models: List::default(),
        expires_at_s: NOW_S + 3600,
        addresses: list(vec![text("192.0.2.1:4433")]),
    };
    signed(body, OWNER)
}

/// One of each kind, in the order of their numbers.
#[must_use]
pub fn messages() -> Vec<Message> {
    let mut all = connection();
    all.extend(leases());
    all.extend(blobs());
    all.extend(membership());
    all
}

fn connection() -> Vec<Message> {
    vec![
        Message::Hello(Hello {
            versions: VersionRange { oldest: Version(1), newest: Version(1) },
            software: text("shoal 0.1.0"),
            certificate: Some(chain()),
            revocation: 2,
        }),
        Message::Welcome(Welcome { version: Version(1), revocation: 2 }),
        Message::Fault(Fault {
            code: FaultCode::Gap,
            blame: Blame::Peer,
            ring: Some(RING),
            generation: GENERATION,
            request: Some(RequestId(9)),
            got: 130,
            limit: 128,
        }),
        Message::Ping(Ping { nonce: 0x0102_0304_0506_0708 }),
        Message::Pong(Pong { nonce: 0x0102_0304_0506_0708, queue_us: 1500 }),
    ]
}

fn leases() -> Vec<Message> {
    let (ring, generation) = (RING, GENERATION);
    vec![
        Message::LeaseRequest(LeaseRequest {
            ring,
            generation,
            ttl_ms: 5000,
            admission: admission(),
            route: route(),
            stage: 1,
            duty: Duty::Primary,
            lane: Lane::Interactive,
        }),
        Message::LeaseGrant(LeaseGrant {
            ring,
            generation,
            stage: 1,
            admission: admission(),
            ttl_ms: 5000,
        }),
        Message::LeaseRefusal(LeaseRefusal {
            ring,
            generation,
            reason: RefusalReason::Memory,
            generation_seen: GenerationId(2),
            retry_after_ms: 250,
        }),
        Message::LeaseRenew(LeaseRenew { ring, generation, ttl_ms: 5000 }),
        Message::LeaseRenewed(LeaseRenewed {
            ring,
            generation,
            queued_frames: 2,
            cached_tokens: 640,
        }),
        Message::LeaseRelease(LeaseRelease { ring, generation }),
        Message::LeaseEnd(LeaseEnd {
            ring,
            generation,
            reason: EndReason::Leaving,
            drain_ms: 30_000,
        }),
        Message::Credit(Credit { ring, generation, frames: 1, bytes: 4128 }),
        Message::Replay(Replay {
            ring,
            generation,
            request: RequestId(9),
            epoch: Epoch(4),
            from: 0,
            end: 128,
            last_stage: 1,
        }),
        Message::Prepare(Prepare { package: package(), layers: layers(8, 16) }),
        Message::PrepareStatus(PrepareStatus {
            package: package(),
            layers: layers(8, 16),
            state: PrepareState::Fetching,
            bytes_left: 123_456_789,
        }),
    ]
}

fn blobs() -> Vec<Message> {
    let leaves = vec![Digest([1; 32]), Digest([2; 32]), Digest([3; 32])];
    let blob = blob_root(&leaves).expect("there are leaves");
    let held = vec![BlobRange { first: 0, count: 1 }, BlobRange { first: 2, count: 1 }];
    vec![
        Message::BlobQuery(BlobQuery { blob }),
        Message::BlobLeaves(BlobLeaves {
            blob,
            bytes: 2 * LEAF_BYTES + 5,
            leaves: list(leaves),
            held: list(held.clone()),
        }),
        Message::BlobRequest(BlobRequest { blob, ranges: list(held) }),
        Message::BlobData(BlobData {
            blob,
            leaf: 2,
            bytes: Bytes::try_new(b"shoal".to_vec()).expect("examples are short"),
        }),
        Message::BlobAbsent(BlobAbsent { blob }),
    ]
}

fn membership() -> Vec<Message> {
    vec![
        Message::Descriptor(descriptor()),
        Message::MembersQuery(MembersQuery { package: Some(package()), limit: 64 }),
        Message::MembersReply(MembersReply { descriptors: list(vec![descriptor()]) }),
        Message::JoinRequest(JoinRequest { ticket: ticket() }),
        Message::JoinReply(JoinReply { certificate: chain(), revocation: Some(revocation()) }),
        Message::RenewRequest(RenewRequest { certificate: chain() }),
        Message::Revocation(revocation()),
        Message::Pairing(Pairing {
            step: 1,
            bytes: Bytes::try_new(vec![0xee; 33]).expect("examples are short"),
        }),
    ]
}

/// One of each kind, with its name.
#[must_use]
pub fn frames() -> Vec<(&'static str, Frame)> {
    let names = [
        ("prefill", FrameKind::Prefill, 3),
        ("decode", FrameKind::Decode, 1),
        ("reply", FrameKind::Reply, 1),
        ("commit", FrameKind::Commit, 0),
        ("rewind", FrameKind::Rewind, 0),
        ("cancel", FrameKind::Cancel, 0),
    ];
    names.map(|(name, kind, rows)| (name, frame(kind, rows))).into()
}

fn frame(kind: FrameKind, rows: u16) -> Frame {
    let width = if rows == 0 { 0 } else { 4 };
    let computes = matches!(kind, FrameKind::Prefill | FrameKind::Decode);
    let header = FrameHeader {
        kind,
        version: Version(1),
        flags: 0,
        ring: RING,
        generation: GENERATION,
        request: RequestId(9),
        epoch: Epoch(4),
        position: 128,
        rows,
        reply_rows: u16::from(computes),
        width,
        committed: 127,
        sequence: 6,
        payload_bytes: 0,
        stage: 1,
        last_stage: THROUGH,
        lane: Lane::Interactive,
        payload: PayloadFormat::Bf16,
    };
    let elements = u32::from(rows) * width;
    let rows: Vec<u8> = (0..elements).flat_map(|i| [(i % 256) as u8, 0x3f]).collect();
    let leaf = activation_leaf(package(), 8, 128, &rows);
    let root = kind.has_root().then(|| next_root(Digest([0; 32]), leaf));
    Frame::new(header, root, SharedBytes::new(rows)).expect("examples are valid")
}
