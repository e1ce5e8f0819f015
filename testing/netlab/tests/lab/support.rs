//! Sockets on nodes.

use std::io::ErrorKind;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use shoal_netlab::{Access, Lab, LabConfig, Link, NatKind};
use shoal_testkit::skip;

/// How long a packet may take that is expected, and how long one is waited for that is not.
const ARRIVES: Duration = Duration::from_secs(5);
pub(crate) const STAYS_AWAY: Duration = Duration::from_millis(150);

/// A lab, or `None` after saying why there is none.
pub(crate) fn lab(nodes: &[Access], link: Link) -> Option<Lab> {
    if let Some(missing) = shoal_netlab::missing() {
        skip(&missing);
        return None;
    }
    let config = LabConfig { nodes: nodes.to_vec(), link, seed: 3 };
    Some(Lab::start(&config).unwrap())
}

pub(crate) fn behind(nat: NatKind) -> Access {
    Access { nat: Some(nat), ..Access::default() }
}

/// A socket of a node, on its own address.
pub(crate) fn socket(lab: &Lab, node: usize, port: u16) -> UdpSocket {
    let address = lab.node(node).address();
    lab.node(node).enter(move || UdpSocket::bind((address, port)).unwrap())
}

pub(crate) fn public(lab: &Lab, node: usize, socket: &UdpSocket) -> SocketAddr {
    (lab.node(node).public_address(), socket.local_addr().unwrap().port()).into()
}

/// The next packet, and from whom.
pub(crate) fn receive(socket: &UdpSocket) -> (Vec<u8>, SocketAddr) {
    try_receive(socket, ARRIVES).expect("a packet arrives")
}

pub(crate) fn try_receive(socket: &UdpSocket, wait: Duration) -> Option<(Vec<u8>, SocketAddr)> {
    socket.set_read_timeout(Some(wait)).unwrap();
    let mut buffer = [0; 2048];
    loop {
        match socket.recv_from(&mut buffer) {
            Ok((length, from)) => return Some((buffer[..length].to_vec(), from)),
            // A test process that is stopped and goes on.
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                return None;
            }
            Err(error) => panic!("{error}"),
        }
    }
}

/// Whether a packet gets from one socket to an address where another listens.
pub(crate) fn reaches(from: &UdpSocket, to: SocketAddr, listens: &UdpSocket) -> bool {
    from.send_to(b"knock", to).unwrap();
    try_receive(listens, STAYS_AWAY).is_some()
}

/// Answers every packet until the socket is silent for long.
pub(crate) fn echo(socket: UdpSocket) -> std::thread::JoinHandle<()> {
    std::thread::spawn(move || {
        while let Some((bytes, from)) = try_receive(&socket, Duration::from_secs(1)) {
            let _ = socket.send_to(&bytes, from);
        }
    })
}

/// Times there and back again, sorted.
pub(crate) fn round_trips(from: &UdpSocket, to: SocketAddr, count: u32) -> Vec<Duration> {
    let mut all: Vec<Duration> = (0..count)
        .map(|number| {
            let sent = Instant::now();
            from.send_to(&number.to_le_bytes(), to).unwrap();
            assert_eq!(receive(from).0, number.to_le_bytes());
            sent.elapsed()
        })
        .collect();
    all.sort();
    all
}

pub(crate) const NOWHERE: Ipv4Addr = Ipv4Addr::new(198, 18, 200, 1);
