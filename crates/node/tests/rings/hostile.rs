//! Peers that lie: a clear error that names them, no panic, and nobody else notices.

use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

use shoal_base::{Digest, GenerateError, Lane, SharedBytes};
use shoal_net::{Connection, Endpoint, EndpointConfig, Incoming, NetError, PeerAddress, SecretKey};
use shoal_node::{RingHead, StaticPlan};
use shoal_swarm::{HeadPolicy, ModelShape};
use shoal_wire::limits::THROUGH;
use shoal_wire::{
    Admission, Duty, Epoch, FaultCode, Frame, FrameHeader, FrameKind, GenerationId, LeaseGrant,
    LeaseRenew, LeaseRenewed, LeaseRequest, List, Message, NodeId, PayloadFormat, RequestId,
    RingId, Route, RouteStage, Version,
};
use tokio::runtime::Runtime;

use crate::support::{
    LAYERS, answer, expected, follow, lead, leader, local, package, planned, range, requests,
    stage, stage_for, start, together,
};

fn id(seed: u8) -> NodeId {
    SecretKey::new(&[seed; 32]).id()
}

fn runtime() -> Runtime {
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    builder.worker_threads(1).enable_all().build().expect("it starts")
}

async fn bind(seed: u8) -> Endpoint {
    let config = EndpointConfig::new(SecretKey::new(&[seed; 32]), local());
    Endpoint::bind(config).await.expect("loopback has free ports")
}

/// What a stage does instead of computing.
#[derive(Clone, Copy, Debug)]
enum Lie {
    /// Grants another admission than it was asked for.
    Admission,
    /// Takes the lease and says nothing any more.
    Silence,
    /// Answers for a position that was not asked for.
    Position,
    /// Sends back more rows than were asked for.
    Rows,
    /// Answers before it was asked.
    Unasked,
}

/// A stage that lies. It lives as long as the runtime.
fn liar(runtime: &Runtime, seed: u8, lie: Lie) -> PeerAddress {
    let endpoint = runtime.block_on(bind(seed));
    let address = endpoint.address();
    runtime.spawn(async move {
        while let Some(arrival) = endpoint.accept().await {
            if let Ok(connection) = arrival.greet().await {
                tokio::spawn(deceive(connection, lie));
            }
        }
    });
    address
}

async fn deceive(connection: Connection, lie: Lie) {
    let (sender, mut receiver) = connection.split();
    let mut is_silent = false;
    while let Ok(incoming) = receiver.next().await {
        let said = match incoming {
            _ if is_silent => Ok(()),
            Incoming::Message(message) => match *message {
                Message::LeaseRequest(request) => {
                    is_silent = matches!(lie, Lie::Silence);
                    let mut admission = request.admission;
                    if matches!(lie, Lie::Admission) {
                        admission.arithmetic += 1;
                    }
                    sender.send(&Message::LeaseGrant(LeaseGrant {
                        ring: request.ring,
                        generation: request.generation,
                        stage: request.stage,
                        admission,
                        ttl_ms: request.ttl_ms,
                    }))
                }
                Message::LeaseRenew(renew) => sender.send(&Message::LeaseRenewed(LeaseRenewed {
                    ring: renew.ring,
                    generation: renew.generation,
                    queued_frames: 0,
                    cached_tokens: 0,
                })),
                _ => Ok(()),
            },
            Incoming::Frame(frame) if frame.header.rows > 0 => {
                sender.send_frame(&wrong_reply(&frame, lie))
            }
            Incoming::Frame(_) => Ok(()),
        };
        if said.is_err() {
            return;
        }
    }
}

fn wrong_reply(asked: &Frame, lie: Lie) -> Frame {
    let rows = match lie {
        Lie::Rows => asked.header.rows,
        _ => asked.header.reply_rows,
    };
    let header = FrameHeader {
        kind: FrameKind::Reply,
        position: asked.header.end() - u32::from(rows),
        rows,
        reply_rows: 0,
        width: if rows == 0 { 0 } else { asked.header.width },
        ..asked.header
    };
    let header = match lie {
        Lie::Position => FrameHeader { position: header.position + 5, ..header },
        Lie::Unasked => FrameHeader { request: RequestId(header.request.0), ..header },
        _ => header,
    };
    let bytes = usize::from(rows) * 2 * asked.header.width as usize;
    let rows = asked.rows.slice(0..bytes).expect("at most what was asked");
    let mut reply = Frame::new(header, asked.root, rows).expect("the form is right");
    if matches!(lie, Lie::Unasked) {
        reply.header.position = 0;
        reply.header.committed = 0;
    }
    reply
}

#[test]
fn a_stage_that_lies_is_replaced_before_its_lie_counts() {
    let package = package(1);
    let expected = expected(&package);
    let runtime = runtime();
    let all = range(0, LAYERS);
    for (seed, lie) in
        [Lie::Admission, Lie::Silence, Lie::Position, Lie::Rows, Lie::Unasked].iter().enumerate()
    {
        let liar = liar(&runtime, 50 + seed as u8, *lie);
        let honest = stage(1, &package, all);
        let leader = lead();
        let plan = StaticPlan::try_new(
            LAYERS,
            vec![planned(&liar, all)],
            vec![planned(honest.address(), all)],
        );
        let head = follow(&leader, &package, plan.expect("a plan"), Duration::from_secs(20));
        assert_eq!(together(&head), expected, "{lie:?}");
        let status = head.status();
        assert_eq!(status.stages[0].node, honest.address().node, "{lie:?}: {status:?}");
        assert!(status.replaced >= 1, "{lie:?}: {status:?}");
    }
}

/// A ring of one stage that cannot work.
fn hopeless(stage: &PeerAddress) -> String {
    let leader = lead();
    let all = range(0, LAYERS);
    let plan = StaticPlan::try_new(LAYERS, vec![planned(stage, all)], vec![]).expect("a plan");
    let head = follow(&leader, &package(1), plan, Duration::from_secs(2));
    match answer(&head, requests().remove(0)) {
        Err(GenerateError::Route { reason }) => reason,
        other => panic!("{other:?}"),
    }
}

#[test]
fn errors_name_the_stage_and_what_is_wrong_with_it() {
    let runtime = runtime();
    let other_package = stage(1, &package(2), range(0, LAYERS));
    let reason = hopeless(other_package.address());
    assert!(reason.contains(&id(1).to_string()) && reason.contains("NotHeld"), "{reason}");

    let other_layers = stage(2, &package(1), range(0, 2));
    let reason = hopeless(other_layers.address());
    assert!(reason.contains(&id(2).to_string()) && reason.contains("NotHeld"), "{reason}");

    let closed = stage_for(vec![id(9)], 3, &package(1), range(0, LAYERS));
    let reason = hopeless(closed.address());
    assert!(reason.contains(&id(3).to_string()) && reason.contains("Forbidden"), "{reason}");

    let absent = runtime.block_on(bind(4));
    let address = absent.address();
    runtime.block_on(absent.close());
    let reason = hopeless(&address);
    assert!(reason.contains(&id(4).to_string()), "{reason}");
}

/// A leader of its own, at the level of single messages.
struct Rogue {
    runtime: Runtime,
    _endpoint: Endpoint,
    connection: shoal_net::Sender,
    heard: Receiver<Result<Incoming, NetError>>,
    request: LeaseRequest,
}

const ROGUE: u8 = 77;

impl Rogue {
    fn new(stage: &PeerAddress, ring: u8) -> Self {
        let runtime = runtime();
        let package = package(1);
        let (width, package) = (package.manifest().architecture.model_width, package.id());
        let all = range(0, LAYERS);
        let shape = ModelShape {
            package,
            arithmetic: 1,
            layer_count: LAYERS,
            width,
            layer_bytes: 0,
            cache_bytes: 0,
        };
        let policy = HeadPolicy { context_tokens: 256, cache_tokens: 256, ..HeadPolicy::default() };
        let admission: Admission = policy.admission(&shape, all);
        let stages = vec![RouteStage { node: stage.node, layers: all, shadow: None }];
        let stages = List::try_new(stages).expect("one");
        let request = LeaseRequest {
            ring: RingId([ring; 16]),
            generation: GenerationId(1),
            ttl_ms: 10_000,
            admission,
            route: Route { head: id(ROGUE), layer_count: LAYERS, stages },
            stage: 0,
            duty: Duty::Primary,
            lane: Lane::Interactive,
        };
        let endpoint = runtime.block_on(bind(ROGUE));
        let connection = runtime.block_on(endpoint.connect(stage)).expect("it may connect");
        let (connection, mut receiver) = connection.split();
        let (say, heard): (Sender<_>, _) = channel();
        runtime.spawn(async move {
            loop {
                let next = receiver.next().await;
                let is_over = next.is_err();
                if say.send(next).is_err() || is_over {
                    return;
                }
            }
        });
        let rogue = Self { runtime, _endpoint: endpoint, connection, heard, request };
        rogue.say(&Message::LeaseRequest(rogue.request.clone()));
        assert!(matches!(rogue.hear(), Message::LeaseGrant(_)));
        rogue
    }

    fn say(&self, message: &Message) {
        let _entered = self.runtime.enter();
        self.connection.send(message).expect("it is open");
    }

    fn send(&self, change: impl FnOnce(&mut FrameHeader)) {
        let width = self.request.admission.width;
        let mut header = FrameHeader {
            kind: FrameKind::Prefill,
            version: Version(1),
            flags: 0,
            ring: self.request.ring,
            generation: GenerationId(1),
            request: RequestId(0),
            epoch: Epoch(0),
            position: 0,
            rows: 2,
            reply_rows: 1,
            width,
            committed: 0,
            sequence: 0,
            payload_bytes: 0,
            stage: 0,
            last_stage: THROUGH,
            lane: Lane::Interactive,
            payload: PayloadFormat::Bf16,
        };
        change(&mut header);
        let bytes = usize::from(header.rows) * 2 * header.width as usize;
        let rows = SharedBytes::new(vec![0x3f; bytes]);
        let frame = Frame::new(header, Some(Digest([0; 32])), rows).expect("the form is right");
        self.connection.send_frame(&frame).expect("it is open");
    }

    /// The next thing that matters.
    fn next(&self) -> Incoming {
        loop {
            let next = self.heard.recv_timeout(Duration::from_secs(20)).expect("it answers");
            match next.expect("the connection stays") {
                Incoming::Message(message) => match *message {
                    Message::Descriptor(_)
                    | Message::MembersQuery(_)
                    | Message::MembersReply(_)
                    | Message::Credit(_) => {}
                    other => return Incoming::Message(Box::new(other)),
                },
                frame @ Incoming::Frame(_) => return frame,
            }
        }
    }

    fn hear(&self) -> Message {
        match self.next() {
            Incoming::Message(message) => *message,
            Incoming::Frame(frame) => panic!("{frame:?}"),
        }
    }

    fn fault(&self) -> FaultCode {
        match self.hear() {
            Message::Fault(fault) => fault.code,
            other => panic!("{other:?}"),
        }
    }
}

/// A stage that an honest head and a rogue share, with answers under way.
fn shared(run: impl FnOnce(&PeerAddress)) {
    let package = package(1);
    let expected = expected(&package);
    let all = range(0, LAYERS);
    let node = stage_for(vec![leader(), id(ROGUE)], 1, &package, all);
    let honest = lead();
    let plan = vec![planned(node.address(), all)];
    let plan = StaticPlan::try_new(LAYERS, plan, vec![]).expect("a plan");
    let head: RingHead = follow(&honest, &package, plan, Duration::from_secs(20));
    let running: Vec<_> = requests().into_iter().map(|request| start(&head, request)).collect();
    run(node.address());
    let answers = running.iter().map(crate::support::collect);
    let answers: Result<Vec<_>, _> = answers.collect();
    assert_eq!(answers, Ok(expected));
    assert_eq!(head.status().replaced, 0, "nobody else notices");
}

#[test]
fn frames_that_lie_are_refused_and_nobody_else_notices() {
    shared(|stage| {
        let rogue = Rogue::new(stage, 1);
        rogue.send(|frame| frame.position = 5);
        assert_eq!(rogue.fault(), FaultCode::Gap);
        rogue.send(|frame| (frame.request, frame.stage) = (RequestId(1), 3));
        assert_eq!(rogue.fault(), FaultCode::Unexpected);
        rogue.send(|frame| frame.generation = GenerationId(7));
        assert_eq!(rogue.fault(), FaultCode::NoLease);
        // An honest frame, then one of a dead epoch, which leads to nothing, then one that shows
        // that the sequence is as it was.
        rogue.send(|frame| (frame.request, frame.epoch) = (RequestId(2), Epoch(4)));
        assert!(matches!(rogue.next(), Incoming::Frame(reply) if reply.header.end() == 2));
        rogue.send(|frame| {
            (frame.request, frame.epoch, frame.sequence) = (RequestId(2), Epoch(3), 1);
        });
        rogue.send(|frame| {
            (frame.request, frame.epoch, frame.sequence) = (RequestId(2), Epoch(4), 2);
            frame.position = 2;
        });
        assert!(matches!(rogue.next(), Incoming::Frame(reply) if reply.header.end() == 4));
        rogue.send(|frame| (frame.request, frame.epoch) = (RequestId(2), Epoch(4)));
        assert_eq!(rogue.fault(), FaultCode::Sequence);
    });
}

#[test]
fn a_frame_beyond_its_lease_ends_the_lease_and_nobody_else_notices() {
    shared(|stage| {
        let rogue = Rogue::new(stage, 1);
        rogue.send(|frame| frame.width -= 1);
        assert_eq!(rogue.fault(), FaultCode::Limit);
        assert!(matches!(rogue.hear(), Message::LeaseEnd(_)));
        let (ring, generation) = (rogue.request.ring, GenerationId(1));
        rogue.say(&Message::LeaseRenew(LeaseRenew { ring, generation, ttl_ms: 1000 }));
        assert_eq!(rogue.fault(), FaultCode::NoLease);
    });
    shared(|stage| {
        let rogue = Rogue::new(stage, 2);
        rogue.send(|frame| (frame.position, frame.rows) = (250, 10));
        assert_eq!(rogue.fault(), FaultCode::Limit);
        assert!(matches!(rogue.hear(), Message::LeaseEnd(_)));
    });
}

#[test]
fn a_message_out_of_place_ends_the_connection_and_nobody_else_notices() {
    shared(|stage| {
        let rogue = Rogue::new(stage, 1);
        rogue.say(&Message::PrepareStatus(shoal_wire::PrepareStatus {
            package: rogue.request.admission.package,
            layers: range(0, 1),
            state: shoal_wire::PrepareState::Ready,
            bytes_left: 0,
        }));
        let end = loop {
            match rogue.heard.recv_timeout(Duration::from_secs(20)).expect("it answers") {
                Ok(_) => {}
                Err(error) => break error,
            }
        };
        let code = FaultCode::Unexpected;
        assert!(matches!(end, NetError::TurnedAway { code: got, .. } if got == code), "{end}");
    });
}
