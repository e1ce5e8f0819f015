//! Nodes that find each other by key alone, in a DHT on the loopback of a machine that is made up.
#![cfg(target_os = "linux")]

use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use shoal_net::{
    Connection, Discovery, Endpoint, EndpointConfig, NetError, PeerAddress, SecretKey,
};
use shoal_netlab::{Dht, Lab, LabConfig, Profile};
use shoal_testkit::skip;

const WAIT_MAX: Duration = Duration::from_secs(60);
const LOCAL: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

/// A machine of its own; `None` after saying why there is none.
fn machine() -> Option<Lab> {
    if let Some(missing) = shoal_netlab::missing() {
        skip(&missing);
        return None;
    }
    Some(Lab::start(&LabConfig::new(&Profile::named("lan").expect("it exists"), 1)).expect("a lab"))
}

fn run<T: Send + 'static>(lab: &Lab, work: impl Future<Output = T> + Send + 'static) -> T {
    lab.node(0).enter(move || {
        let mut runtime = tokio::runtime::Builder::new_multi_thread();
        let runtime = runtime.worker_threads(2).enable_all().build().expect("threads");
        runtime.block_on(work)
    })
}

async fn endpoint(seed: u8, discovery: Option<Discovery>) -> Endpoint {
    let config = EndpointConfig::new(SecretKey::new(&[seed; 32]), LOCAL);
    Endpoint::bind(EndpointConfig { discovery, ..config }).await.expect("a free port")
}

/// Connects by key alone, again and again: publishing takes a moment, and nobody says when.
async fn meet(from: &Endpoint, to: &Endpoint) -> Result<Connection, NetError> {
    let started = Instant::now();
    let greeting = to.clone();
    tokio::spawn(async move {
        while let Some(arrival) = greeting.accept().await {
            tokio::spawn(async move {
                let _connection = arrival.greet().await;
                tokio::time::sleep(WAIT_MAX).await;
            });
        }
    });
    loop {
        match from.connect(&PeerAddress::nowhere(to.node())).await {
            Err(NetError::Connect { .. }) if started.elapsed() < WAIT_MAX => {}
            outcome => return outcome,
        }
    }
}

#[test]
fn nodes_find_each_other_by_key_alone_and_only_if_both_want_it() {
    let Some(lab) = machine() else {
        return;
    };
    let dht = Dht::start(lab.node(0), 3).expect("a DHT");
    let looks = Discovery { bootstrap: vec![dht.entry()], is_published: false };
    let found = Discovery { is_published: true, ..looks.clone() };
    let (met, blind) = run(&lab, async move {
        let a = endpoint(1, Some(found)).await;
        let b = endpoint(2, Some(looks.clone())).await;
        let met = meet(&b, &a).await.map(|connection| connection.peer() == a.node());
        // One that looks up others and is not published itself is not found.
        let hidden = b.node();
        let c = endpoint(3, Some(looks)).await;
        (met, c.connect(&PeerAddress::nowhere(hidden)).await.map(|_| ()))
    });
    assert!(met.expect("it is published"));
    assert!(matches!(blind, Err(NetError::Connect { .. })), "{blind:?}");
    assert_eq!(lab.sent(0).beyond, 0, "all of it was on loopback");
}

#[test]
fn nothing_goes_to_the_dht_unless_it_was_asked_for() {
    let Some(lab) = machine() else {
        return;
    };
    let (entry, listener) = lab.node(0).enter(|| {
        let listener = UdpSocket::bind(LOCAL).expect("a free port");
        (listener.local_addr().expect("it is bound"), listener)
    });
    let heard = move |wait: Duration| {
        listener.set_read_timeout(Some(wait)).expect("a time");
        listener.recv_from(&mut [0; 2048]).is_ok()
    };
    let refused = run(&lab, async move {
        let quiet = endpoint(1, None).await;
        quiet.connect(&PeerAddress::nowhere(SecretKey::new(&[2; 32]).id())).await.map(|_| ())
    });
    assert!(matches!(refused, Err(NetError::NoWay { .. })), "{refused:?}");
    assert!(refused.unwrap_err().to_string().contains("--public"));
    assert!(!heard(Duration::from_secs(1)));
    let discovery = Discovery { bootstrap: vec![entry], is_published: true };
    let heard_then = run(&lab, async move {
        let _loud = endpoint(1, Some(discovery)).await;
        tokio::task::spawn_blocking(move || heard(Duration::from_secs(10))).await
    });
    assert!(heard_then.expect("it returns"), "and it is heard of when it was");
    assert_eq!(lab.sent(0).beyond, 0);
}
