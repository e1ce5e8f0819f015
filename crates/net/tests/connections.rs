//! Two ends of a connection on loopback: an honest one, and one that is not.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use iroh::endpoint::{Connection as Quic, RecvStream, SendStream, presets};
use iroh::{EndpointAddr, PublicKey, RelayMode};
use shoal_base::{Digest, Lane, SharedBytes};
use shoal_net::{
    Connection, Endpoint, EndpointConfig, Incoming, NetError, PeerAddress, SecretKey, StreamKind,
};
use shoal_wire::limits::{LEAF_BYTES, THROUGH};
use shoal_wire::{
    BlobData, Bytes, Epoch, FaultCode, Field as _, Frame, FrameHeader, FrameKind, GenerationId,
    Hello, Message, NodeId, PayloadFormat, Ping, RequestId, RingId, Text, Version, VersionRange,
    Welcome, WireError,
};

const V1: Version = Version(1);
/// Short, so that a test of a slow peer is a fast test.
const PROGRESS: Duration = Duration::from_millis(300);

fn local() -> SocketAddr {
    (Ipv4Addr::LOCALHOST, 0).into()
}

async fn endpoint(seed: u8) -> Endpoint {
    let key = SecretKey::new(&[seed; 32]);
    let config = EndpointConfig {
        progress: PROGRESS,
        payload_bytes_max: 4096,
        ..EndpointConfig::new(key, local())
    };
    Endpoint::bind(config).await.expect("loopback has free ports")
}

fn place(endpoint: &Endpoint) -> PeerAddress {
    endpoint.address()
}

/// Two honest ends.
async fn pair() -> (Connection, Connection, [Endpoint; 2]) {
    let (a, b) = (endpoint(1).await, endpoint(2).await);
    let to = place(&b);
    let accepted = async { b.accept().await.expect("it is open").greet().await };
    let (ours, theirs) = tokio::join!(a.connect(&to), accepted);
    (ours.expect("it connects"), theirs.expect("it accepts"), [a, b])
}

fn header(kind: FrameKind, rows: u16, position: u32) -> FrameHeader {
    let width = if rows > 0 { 4 } else { 0 };
    FrameHeader {
        kind,
        version: V1,
        flags: 0,
        ring: RingId([7; 16]),
        generation: GenerationId(1),
        request: RequestId(3),
        epoch: Epoch(0),
        position,
        rows,
        reply_rows: 0,
        width,
        committed: 0,
        sequence: 0,
        payload_bytes: FrameHeader::payload_bytes_of(kind, rows, width) as u32,
        stage: 0,
        last_stage: THROUGH,
        lane: Lane::Interactive,
        payload: PayloadFormat::Bf16,
    }
}

fn frame(kind: FrameKind, rows: u16, position: u32) -> Frame {
    let root = kind.has_root().then_some(Digest([9; 32]));
    let bytes = vec![position as u8; usize::from(rows) * 8];
    Frame::new(header(kind, rows, position), root, SharedBytes::new(bytes)).expect("valid")
}

#[tokio::test]
async fn messages_and_frames_arrive_whole_and_in_the_order_of_their_stream() {
    let (ours, theirs, [a, b]) = pair().await;
    assert_eq!((ours.peer(), theirs.peer()), (b.node(), a.node()));
    assert!(theirs.hello().software.starts_with("shoal "));
    let ((sender, _receiver), (_sender, mut receiver)) = (ours.split(), theirs.split());
    for i in 0..20 {
        sender.send(&Message::Ping(Ping { nonce: i })).expect("room");
        sender.send_frame(&frame(FrameKind::Decode, 1, i as u32)).expect("room");
        sender.send_frame(&frame(FrameKind::Prefill, 30, i as u32)).expect("room");
        sender.send_frame(&frame(FrameKind::Cancel, 0, i as u32)).expect("room");
    }
    let (mut nonces, mut decode, mut prefill) = (vec![], vec![], vec![]);
    for _ in 0..80 {
        match receiver.next().await.expect("all arrive") {
            Incoming::Message(message) => match *message {
                Message::Ping(ping) => nonces.push(ping.nonce),
                other => panic!("{other:?}"),
            },
            Incoming::Frame(got) => {
                let FrameHeader { kind, rows, position, .. } = got.header;
                assert_eq!(got.to_bytes(), frame(kind, rows, position).to_bytes());
                let list = if kind == FrameKind::Prefill { &mut prefill } else { &mut decode };
                list.push((position, kind));
            }
        }
    }
    assert_eq!(nonces, (0..20).collect::<Vec<_>>());
    assert!(prefill.iter().map(|(position, _)| *position).eq(0..20));
    let expected = (0..20).flat_map(|i| [(i, FrameKind::Decode), (i, FrameKind::Cancel)]);
    assert_eq!(decode, expected.collect::<Vec<_>>());
    drop(sender);
    let end = receiver.next().await.expect_err("nothing more comes");
    assert!(matches!(end, NetError::Closed { peer } if peer == a.node()), "{end}");
}

#[tokio::test]
async fn whoever_is_turned_away_hears_why() {
    let (ours, theirs, [_a, b]) = pair().await;
    theirs.split().0.turn_away(FaultCode::Forbidden);
    let end = ours.split().1.next().await.expect_err("it is over");
    let forbidden = NetError::TurnedAway { peer: b.node(), code: FaultCode::Forbidden };
    assert_eq!(end.to_string(), forbidden.to_string());
}

#[tokio::test]
async fn a_peer_that_takes_nothing_fills_a_bounded_queue() {
    let (ours, _theirs, [_a, b]) = pair().await;
    let (sender, _receiver) = ours.split();
    let full =
        (0..100_000).find_map(|i| sender.send_frame(&frame(FrameKind::Prefill, 400, i)).err());
    match full.expect("the queue has an end") {
        NetError::QueueFull { peer, stream: StreamKind::Prefill, .. } => assert_eq!(peer, b.node()),
        other => panic!("{other}"),
    }
    sender.send(&Message::Ping(Ping { nonce: 1 })).expect("control has a queue of its own");
}

#[tokio::test]
async fn another_key_than_expected_is_no_connection() {
    let (a, b) = (endpoint(1).await, endpoint(2).await);
    let wrong = PeerAddress { node: SecretKey::new(&[3; 32]).id(), ..place(&b) };
    let refused = a.connect(&wrong).await.expect_err("b has another key");
    assert!(matches!(&refused, NetError::Connect { peer, .. } if *peer == wrong.node), "{refused}");
}

#[tokio::test]
async fn an_address_that_is_taken_is_refused() {
    let first = endpoint(1).await;
    let taken = first.sockets()[0];
    let config = EndpointConfig::new(SecretKey::new(&[2; 32]), taken);
    let refused = Endpoint::bind(config).await.expect_err("it is taken");
    assert!(matches!(refused, NetError::Bind { address, .. } if address == taken), "{refused}");
}

/// A peer that writes bytes by itself.
struct Raw {
    _endpoint: iroh::Endpoint,
    quic: Quic,
    control: SendStream,
    _theirs: Option<RecvStream>,
}

impl Raw {
    async fn connect(to: &Endpoint, alpn: &[u8]) -> Result<Self, String> {
        let endpoint = iroh::Endpoint::builder(presets::Minimal)
            .secret_key(iroh::SecretKey::from_bytes(&[66; 32]))
            .relay_mode(RelayMode::Disabled)
            .clear_ip_transports()
            .bind_addr(local())
            .expect("loopback")
            .bind()
            .await
            .expect("loopback has free ports");
        let key = PublicKey::from_bytes(&to.node().0).expect("it is a key");
        let place = EndpointAddr::new(key).with_ip_addr(to.sockets()[0]);
        let quic = endpoint.connect(place, alpn).await.map_err(|error| error.to_string())?;
        let control = quic.open_uni().await.expect("four are allowed");
        Ok(Self { _endpoint: endpoint, quic, control, _theirs: None })
    }

    fn id() -> NodeId {
        SecretKey::new(&[66; 32]).id()
    }

    async fn say(&mut self, bytes: &[u8]) {
        // The other end may have closed already, which the test sees there.
        let _ = self.control.write_all(bytes).await;
    }

    /// The first words, as they should be.
    async fn greet(&mut self) {
        self.say(&hello(1, 1)).await;
        self.say(&encode(Message::Welcome(Welcome { version: V1, revocation: 0 }))).await;
    }

    /// The next stream, with its first bytes.
    async fn stream(&mut self, bytes: &[u8]) -> SendStream {
        let mut stream = self.quic.open_uni().await.expect("four are allowed");
        let _ = stream.write_all(bytes).await;
        stream
    }
}

fn encode(message: Message) -> Vec<u8> {
    message.encode(V1).expect("short")
}

fn hello(oldest: u8, newest: u8) -> Vec<u8> {
    let versions = VersionRange { oldest: Version(oldest), newest: Version(newest) };
    let software = Text::try_new("raw").expect("short");
    encode(Message::Hello(Hello { versions, software, certificate: None, revocation: 0 }))
}

/// What an honest end says about a peer that acts as `act` says.
async fn verdict(act: impl AsyncFnOnce(&mut Raw)) -> NetError {
    let honest = endpoint(1).await;
    let judge = async {
        let arrival = honest.accept().await.expect("it is open");
        match arrival.greet().await {
            Ok(connection) => {
                let (_sender, mut receiver) = connection.split();
                loop {
                    if let Err(error) = receiver.next().await {
                        return error;
                    }
                }
            }
            Err(error) => error,
        }
    };
    let act = async {
        let mut raw = Raw::connect(&honest, shoal_net::limits::ALPN).await.expect("it connects");
        act(&mut raw).await;
        raw.quic.closed().await;
    };
    let (error, ()) = tokio::join!(judge, act);
    error
}

#[tokio::test]
async fn another_protocol_is_no_connection() {
    let honest = endpoint(1).await;
    let judge = async { honest.accept().await.expect("it is open").greet().await };
    let (refused, error) = tokio::join!(Raw::connect(&honest, b"shoal/999"), judge);
    assert!(refused.is_err());
    assert!(matches!(error.expect_err("no protocol in common"), NetError::Accept { .. }));
}

#[tokio::test]
async fn a_peer_without_a_common_version_is_told_so() {
    let error = verdict(async |raw: &mut Raw| raw.say(&hello(2, 3)).await).await;
    let text = error.to_string();
    assert!(matches!(&error, NetError::Wire { source: WireError::NoCommonVersion { .. }, .. }));
    assert!(text.contains(&Raw::id().to_string()) && text.contains("versions 2 to 3"), "{text}");
}

#[tokio::test]
async fn first_words_out_of_place_are_refused() {
    let ping = encode(Message::Ping(Ping { nonce: 1 }));
    let error = verdict(async |raw: &mut Raw| raw.say(&ping).await).await;
    assert!(matches!(error, NetError::Unexpected { peer, .. } if peer == Raw::id()), "{error}");
    let error = verdict(async |raw: &mut Raw| {
        raw.say(&hello(1, 1)).await;
        let welcome = Welcome { version: Version(9), revocation: 0 };
        raw.say(&encode(Message::Welcome(welcome))).await;
    });
    assert!(matches!(error.await, NetError::Unexpected { .. }));
    let error = verdict(async |raw: &mut Raw| {
        raw.greet().await;
        raw.say(&hello(1, 1)).await;
    });
    assert!(matches!(error.await, NetError::Unexpected { .. }));
}

#[tokio::test]
async fn a_peer_that_stops_in_the_middle_of_a_message_is_given_up() {
    let error = verdict(async |raw: &mut Raw| {
        raw.greet().await;
        let ping = encode(Message::Ping(Ping { nonce: 1 }));
        for byte in &ping[..ping.len() - 1] {
            raw.say(std::slice::from_ref(byte)).await;
            tokio::time::sleep(PROGRESS / 4).await;
        }
    });
    match error.await {
        NetError::Stuck { peer, stream: StreamKind::Control, .. } => assert_eq!(peer, Raw::id()),
        other => panic!("{other}"),
    }
}

#[tokio::test]
async fn lengths_are_checked_before_anything_follows_them() {
    // An envelope that announces more than its kind may have.
    let error = verdict(async |raw: &mut Raw| {
        raw.greet().await;
        raw.say(&[4, 0, 1, 0, 0xff, 0xff, 0xff, 0x7f]).await;
    });
    assert!(matches!(error.await, NetError::Wire { source: WireError::Limit { .. }, .. }));
    // A frame that is valid and larger than this node takes.
    let error = verdict(async |raw: &mut Raw| {
        raw.greet().await;
        let _streams = raw.stream(&header(FrameKind::Decode, 600, 0).to_bytes()).await;
        raw.quic.closed().await;
    });
    assert!(matches!(error.await, NetError::Oversize { got: 4832, limit: 4096, .. }));
    // A frame whose two lengths contradict each other.
    let mut lie = header(FrameKind::Decode, 1, 0).to_bytes();
    lie[56] ^= 1;
    let error = verdict(async |raw: &mut Raw| {
        raw.greet().await;
        let _streams = raw.stream(&lie).await;
        raw.quic.closed().await;
    });
    assert!(matches!(error.await, NetError::Wire { source: WireError::Rule { .. }, .. }));
    let mut other_version = header(FrameKind::Decode, 1, 0).to_bytes();
    other_version[1] = 2;
    let error = verdict(async |raw: &mut Raw| {
        raw.greet().await;
        let _streams = raw.stream(&other_version).await;
        raw.quic.closed().await;
    });
    assert!(matches!(error.await, NetError::Wire { source: WireError::Version { .. }, .. }));
}

#[tokio::test]
async fn prompts_and_answers_have_streams_of_their_own_and_there_are_no_others() {
    let error = verdict(async |raw: &mut Raw| {
        raw.greet().await;
        let _streams = raw.stream(&frame(FrameKind::Prefill, 1, 0).to_bytes()).await;
        raw.quic.closed().await;
    });
    assert!(matches!(error.await, NetError::Unexpected { peer, .. } if peer == Raw::id()));
    let error = verdict(async |raw: &mut Raw| {
        raw.greet().await;
        let mut first = raw.stream(&[]).await;
        // A stream that ends frees its place for another, which there must not be.
        let _ = first.finish();
        raw.quic.closed().await;
    });
    assert!(matches!(error.await, NetError::Closed { .. }));
}

fn leaf(index: u32) -> BlobData {
    let bytes = Bytes::try_new(vec![index as u8; LEAF_BYTES as usize]).expect("a leaf");
    BlobData { blob: Digest([1; 32]), leaf: index, bytes }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn leaves_of_blobs_let_everything_else_pass() {
    const LEAVES: u32 = 40;
    let (ours, theirs, _ends) = pair().await;
    let ((sender, _receiver), (_sender, mut receiver)) = (ours.split(), theirs.split());
    let blobs = sender.clone();
    tokio::spawn(async move {
        for index in 0..LEAVES {
            blobs.send_leaf(leaf(index)).await.expect("it is open");
        }
    });
    let (mut leaves, mut before_frame, mut sent) = (0, None, false);
    while leaves < LEAVES || before_frame.is_none() {
        match receiver.next().await.expect("all arrive") {
            Incoming::Message(message) => match *message {
                Message::BlobData(data) => {
                    assert_eq!(data, leaf(leaves), "whole and in order");
                    leaves += 1;
                    if !sent {
                        sent = true;
                        sender.send_frame(&frame(FrameKind::Decode, 1, 1)).expect("room");
                    }
                }
                other => panic!("{other:?}"),
            },
            Incoming::Frame(_) => before_frame = Some(leaves),
        }
    }
    // No more than what was on its way already, in both ends and between.
    let before = before_frame.expect("it arrived");
    assert!(before <= LEAVES / 2, "{before} leaves came before an answer");
}

#[tokio::test]
async fn leaves_of_blobs_have_a_stream_of_their_own() {
    let (ours, theirs, [a, _b]) = pair().await;
    let ((sender, _receiver), (_sender, mut receiver)) = (ours.split(), theirs.split());
    let small = BlobData { bytes: Bytes::try_new(vec![1]).expect("short"), ..leaf(0) };
    sender.send(&Message::BlobData(small)).expect("room");
    let end = receiver.next().await.expect_err("not on the stream of control");
    assert!(matches!(end, NetError::Unexpected { peer, .. } if peer == a.node()), "{end}");
}
