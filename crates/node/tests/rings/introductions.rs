//! A head tells the stages of its route where the others are, whatever gossip does.

use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::time::Duration;

use shoal_net::{Connection, Endpoint, EndpointConfig, Incoming, NetError, PeerAddress, SecretKey};
use shoal_node::StaticPlan;
use shoal_swarm::{NodeKey, limits};
use shoal_wire::{
    Coordinate, Descriptor, Field as _, LeaseGrant, List, MemberState, Message, NodeId, Signed,
    Text, duties,
};
use tokio::runtime::Runtime;

use crate::support::{LAYERS, follow, lead, local, package, planned, range, requests, start};

const WAIT_MAX: Duration = Duration::from_secs(20);

/// What the node of a seed says about itself.
fn descriptor(seed: u8, sequence: u64) -> Signed<Descriptor> {
    let key = NodeKey::new(&[seed; 32]);
    let address = Text::try_new("127.0.0.1:9").expect("it is short");
    key.sign(Descriptor {
        node: key.id(),
        sequence,
        lifetime_s: 600,
        state: MemberState::Active,
        duties: duties::STAGE,
        certificate: None,
        addresses: List::truncated([address]),
        memory_free_bytes: 0,
        disk_free_bytes: 0,
        uplink_bytes_per_s: 0,
        downlink_bytes_per_s: 0,
        coordinate: Coordinate::default(),
        offers: List::default(),
        links: List::default(),
    })
}

/// A stage that takes one lease, says so many things about itself then, and computes nothing. It
/// lives as long as the runtime; `heard` gets what it hears about others before anybody asks for
/// another lease.
fn fake(runtime: &Runtime, seed: u8, sequences: u64, heard: Sender<(NodeId, u64)>) -> PeerAddress {
    let config = EndpointConfig::new(SecretKey::new(&[seed; 32]), local());
    let endpoint = runtime.block_on(Endpoint::bind(config)).expect("loopback has free ports");
    let address = endpoint.address();
    runtime.spawn(async move {
        let arrival = endpoint.accept().await.expect("it is open");
        let connection = arrival.greet().await.expect("the leader greets");
        act(connection, seed, sequences, heard).await;
    });
    address
}

async fn act(connection: Connection, seed: u8, sequences: u64, heard: Sender<(NodeId, u64)>) {
    let (sender, mut receiver) = connection.split();
    let mut leases = 0;
    while let Ok(incoming) = receiver.next().await {
        let Incoming::Message(message) = incoming else {
            continue;
        };
        match *message {
            Message::LeaseRequest(request) => {
                leases += 1;
                if leases > 1 {
                    return;
                }
                let grant = LeaseGrant {
                    ring: request.ring,
                    generation: request.generation,
                    stage: request.stage,
                    admission: request.admission,
                    ttl_ms: request.ttl_ms,
                };
                sender.send(&Message::LeaseGrant(grant)).expect("room");
                for sequence in 1..=sequences {
                    // The queue of a connection has a bound.
                    let message = Message::Descriptor(descriptor(seed, sequence));
                    while let Err(NetError::QueueFull { .. }) = sender.send(&message) {
                        tokio::time::sleep(Duration::from_millis(1)).await;
                    }
                }
            }
            Message::Descriptor(signed) => {
                // The test is over when nobody listens.
                let _ = heard.send((signed.body.node, signed.body.sequence));
            }
            _ => {}
        }
    }
}

#[test]
fn a_stage_hears_of_the_one_after_it_when_gossip_has_no_room_left() {
    let runtime =
        tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("it runs");
    let bytes = descriptor(2, 1).to_bytes().len() as u64;
    let last = 2 * limits::PASS_ON_BYTES_PER_MIN / bytes;
    let (say, heard) = channel();
    let first = fake(&runtime, 1, 0, say);
    let second = fake(&runtime, 2, last, channel().0);
    let half = LAYERS / 2;
    let stages = vec![planned(&first, range(0, half)), planned(&second, range(half, LAYERS))];
    let plan = StaticPlan::try_new(LAYERS, stages, vec![]).expect("a plan");
    let leader = lead();
    let head = follow(&leader, &package(1), plan, WAIT_MAX);
    let _running = start(&head, requests().remove(0));
    // As neither computes, the head asks for other leases soon, and says all of it once more before
    // it does. That is when the first one ends.
    let mut times = 0;
    let ended = loop {
        match heard.recv_timeout(WAIT_MAX) {
            Ok(about) => times += u32::from(about == (second.node, last)),
            Err(ended) => break ended,
        }
    };
    assert_eq!(ended, RecvTimeoutError::Disconnected, "there is a second lease");
    assert_eq!(times, 2, "at once, and before the second lease");
}
