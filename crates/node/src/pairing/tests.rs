use std::net::Ipv4Addr;
use std::thread;

use super::*;

const LOOPBACK: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 0);
const LONG: Duration = Duration::from_secs(20);

fn other(code: PairingCode) -> PairingCode {
    PairingCode((code.0 + 1) % 1_000_000)
}

#[test]
fn codes_are_six_digits() {
    for text in ["482913", "482-913", "482 913"] {
        assert_eq!(text.parse(), Ok(PairingCode(482_913)), "{text}");
    }
    assert_eq!(PairingCode(7).to_string(), "000-007");
    assert_eq!("000-007".parse(), Ok(PairingCode(7)));
    for wrong in ["", "48291", "4829130", "48291x", "+82913", "４82913"] {
        assert!(wrong.parse::<PairingCode>().is_err(), "{wrong}");
    }
    assert!(!format!("{:?}", PairingCode(482_913)).contains('4'));
}

#[test]
fn whoever_knows_the_code_gets_the_ticket_over_the_local_network() {
    let pairing = Pairing::open(SocketAddr::from(([0, 0, 0, 0], 0)), None).expect("a socket");
    assert!(pairing.unheard().is_none(), "{:?}", pairing.unheard());
    let code = pairing.code();
    // Longer than one step.
    let ticket = "ticket ".repeat(400);
    let host = thread::spawn({
        let ticket = ticket.clone();
        move || pairing.wait(&ticket, LONG, &|| true)
    });
    let got = pair(code, None, SocketAddr::from(([0, 0, 0, 0], 0)), None);
    assert_eq!(got.expect("the code is right"), ticket);
    host.join().expect("no panic").expect("somebody came");
}

#[test]
fn three_wrong_codes_void_it_and_tell_nothing() {
    let pairing = Pairing::open(LOOPBACK, None).expect("a socket");
    let (code, at) = (pairing.code(), pairing.address());
    let host = thread::spawn(move || pairing.wait("ticket", LONG, &|| true));
    for _ in 0..WRONG_MAX {
        let got = pair(other(code), Some(at.clone()), LOOPBACK, None);
        assert!(matches!(got, Err(PairingError::Wrong)), "{got:?}");
    }
    assert!(matches!(host.join().expect("no panic"), Err(PairingError::Guessed)));
    // The right one comes too late.
    assert!(pair(code, Some(at), LOOPBACK, None).is_err());
}

#[test]
fn two_wrong_codes_and_strangers_leave_room_for_the_right_one() {
    let pairing = Pairing::open(LOOPBACK, None).expect("a socket");
    let (code, at) = (pairing.code(), pairing.address());
    let host = thread::spawn(move || pairing.wait("ticket", LONG, &|| true));
    for _ in 1..WRONG_MAX {
        assert!(pair(other(code), Some(at.clone()), LOOPBACK, None).is_err());
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.expect("a runtime");
    for message in [&[][..], &[0; 33], &[255; 33], &[1; 1000]] {
        runtime.block_on(async {
            let endpoint = Endpoint::bind(EndpointConfig::new(secret(), LOOPBACK)).await.unwrap();
            let mut talk = Talk::new(endpoint.connect(&at).await.unwrap());
            talk.say(message).unwrap();
            while talk.hear().await.is_ok() {}
            endpoint.close().await;
        });
    }
    assert_eq!(pair(code, Some(at), LOOPBACK, None).expect("the code is right"), "ticket");
    host.join().expect("no panic").expect("somebody came");
}

#[test]
fn a_wrong_code_counts_whatever_its_guest_does_then() {
    let pairing = Pairing::open(LOOPBACK, None).expect("a socket");
    let (code, at) = (pairing.code(), pairing.address());
    let host = thread::spawn(move || pairing.wait("ticket", LONG, &|| true));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.expect("a runtime").block_on(async {
        let endpoint = Endpoint::bind(EndpointConfig::new(secret(), LOOPBACK)).await.unwrap();
        let mut open = Vec::new();
        for _ in 0..WRONG_MAX {
            let mut talk = Talk::new(endpoint.connect(&at).await.unwrap());
            let (side, ours) = Side::guest(&other(code).digits(), endpoint.node(), at.node);
            talk.say(&ours).unwrap();
            let keys = side.finish(&talk.hear().await.unwrap()).unwrap();
            talk.say(&keys.guest()).unwrap();
            assert!(matches!(talk.hear().await, Err(PairingError::Wrong)));
            // It does not hang up.
            open.push(talk);
        }
        let waited = tokio::task::spawn_blocking(|| host.join().expect("no panic")).await;
        assert!(matches!(waited.unwrap(), Err(PairingError::Guessed)));
        endpoint.close().await;
    });
}

#[test]
fn a_man_in_the_middle_does_not_get_through() {
    let (host, guest) = (NodeId([1; 32]), NodeId([2; 32]));
    let proofs = |as_seen_by_guest: NodeId, code: &str| {
        let (a, from_a) = Side::guest("482913", guest, as_seen_by_guest);
        let (b, from_b) = Side::host(code, guest, host);
        let (a, b) = (a.finish(&from_b).unwrap(), b.finish(&from_a).unwrap());
        assert_ne!(a.guest(), a.host(), "a proof cannot be sent back");
        (b.is_guest(&a.guest()), a.is_host(&b.host()))
    };
    assert_eq!(proofs(host, "482913"), (true, true));
    assert_eq!(proofs(host, "482914"), (false, false));
    // Its messages are passed on, but its key is not the host's.
    assert_eq!(proofs(NodeId([3; 32]), "482913"), (false, false));
}

#[test]
fn waiting_ends_when_told_to_and_in_time() {
    let open = || Pairing::open(LOOPBACK, None).expect("a socket");
    let cancelled = open().wait("ticket", LONG, &|| false);
    assert!(matches!(cancelled, Err(PairingError::Cancelled)));
    let late = open().wait("ticket", Duration::from_millis(10), &|| true);
    assert!(matches!(late, Err(PairingError::TimedOut)));
}
