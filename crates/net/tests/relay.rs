//! Nodes that meet at a relay on loopback.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::num::NonZeroU32;
use std::time::{Duration, Instant};

use shoal_net::{
    Endpoint, EndpointConfig, Incoming, NatKind, NetError, PeerAddress, RelayOptions, RelayServer,
    RelayUrl, SecretKey, nat_kind,
};
use shoal_wire::{Message, NodeId, Ping};

const LOCAL: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
const WAIT_MAX: Duration = Duration::from_secs(20);

async fn relay(clients_max: usize, allow: Vec<NodeId>) -> (RelayServer, RelayUrl) {
    let options = RelayOptions {
        listen: SocketAddr::new(LOCAL, 0),
        clients_max,
        client_bytes_per_s: NonZeroU32::new(10_000_000).expect("it is not 0"),
        allow,
    };
    let server = RelayServer::start(&options).await.expect("loopback has free ports");
    let url = server.url(LOCAL);
    (server, url)
}

async fn endpoint(seed: u8, relays: &[RelayUrl]) -> Endpoint {
    let key = SecretKey::new(&[seed; 32]);
    let config = EndpointConfig {
        relays: relays.to_vec(),
        ..EndpointConfig::new(key, SocketAddr::new(LOCAL, 0))
    };
    Endpoint::bind(config).await.expect("loopback has free ports")
}

/// The address of a node of which only the relay is known.
fn over(relay: &RelayUrl, endpoint: &Endpoint) -> PeerAddress {
    let relays = vec![relay.clone()];
    PeerAddress { relays, ..PeerAddress::nowhere(endpoint.node()) }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nodes_that_know_only_a_relay_meet_there_and_then_talk_directly() {
    let (server, url) = relay(8, Vec::new()).await;
    let relays = [url.clone()];
    let (a, b) = (endpoint(1, &relays).await, endpoint(2, &relays).await);
    assert!(a.relays()[0].is_connected && b.relays()[0].is_connected, "{:?}", a.relays());
    assert_eq!(b.address().relays, relays);
    assert_eq!(server.counts().clients, 2);
    let to = over(&url, &b);
    let accepted = async { b.accept().await.expect("it is open").greet().await };
    let (ours, theirs) = tokio::join!(a.connect(&to), accepted);
    let ((sender, _receiver), (_sender, mut receiver)) =
        (ours.expect("it connects").split(), theirs.expect("it accepts").split());
    assert!(server.counts().packets > 0, "the first words went over the relay");
    sender.send(&Message::Ping(Ping { nonce: 5 })).expect("room");
    match receiver.next().await.expect("it arrives") {
        Incoming::Message(message) => assert_eq!(*message, Message::Ping(Ping { nonce: 5 })),
        Incoming::Frame(frame) => panic!("{frame:?}"),
    }
    let start = Instant::now();
    while sender.is_relayed() {
        assert!(start.elapsed() < WAIT_MAX, "nothing stands between them");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_relay_that_a_node_did_not_name_is_not_used() {
    let (server, url) = relay(8, Vec::new()).await;
    let (a, b) = (endpoint(1, &[]).await, endpoint(2, std::slice::from_ref(&url)).await);
    let refused = a.connect(&over(&url, &b)).await.expect_err("there is no other way");
    assert!(matches!(refused, NetError::NoWay { has_relay: true, .. }), "{refused}");
    assert!(refused.to_string().contains("--relay"), "{refused}");
    assert_eq!(server.counts().accepted, 1, "only the node that named it");
    assert!(a.relays().is_empty() && a.address().relays.is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_relay_serves_as_many_as_it_may_and_whom_it_may() {
    let (server, url) = relay(1, Vec::new()).await;
    let relays = [url];
    let first = endpoint(1, &relays).await;
    let second = endpoint(2, &relays).await;
    assert!(first.relays()[0].is_connected && !second.relays()[0].is_connected);
    let why = second.relays()[0].failure.clone().unwrap_or_default();
    assert!(why.contains("full"), "{why}");
    assert!(server.counts().refused > 0);

    let (server, url) = relay(8, vec![first.node()]).await;
    let stranger = endpoint(3, std::slice::from_ref(&url)).await;
    assert!(!stranger.relays()[0].is_connected && server.counts().refused > 0);
    assert!(endpoint(1, &[url]).await.relays()[0].is_connected);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_relay_says_how_a_socket_looks_from_outside() {
    let (_server, url) = relay(8, Vec::new()).await;
    let report = nat_kind(LOCAL, &[url]).await.expect("loopback has free ports");
    assert_eq!(report.kind, NatKind::None, "{report:?}");
    assert_eq!(report.seen.len(), 2);
    let nobody = "http://127.0.0.1:1".parse().expect("a relay");
    let report = nat_kind(LOCAL, &[nobody]).await.expect("loopback has free ports");
    assert_eq!(report.kind, NatKind::Unknown, "{report:?}");
}

#[tokio::test]
async fn more_relays_than_an_address_has_room_for_are_refused() {
    let relays = (1..=3).map(|port| format!("http://127.0.0.1:{port}").parse().expect("a relay"));
    let local = SocketAddr::new(LOCAL, 0);
    let config = EndpointConfig::new(SecretKey::new(&[1; 32]), local);
    let refused = Endpoint::bind(EndpointConfig { relays: relays.collect(), ..config }).await;
    assert!(matches!(refused, Err(NetError::Relays { got: 3, limit: 2 })));
}
