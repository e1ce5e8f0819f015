//! Translators as RFC 4787 describes them, seen from both sides.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};

use shoal_netlab::{Access, Lab, Link, NatKind};

use crate::support::{behind, lab, public, reaches, receive, socket};

/// One node behind a translator, two in the open, the second with two sockets.
struct Scene {
    lab: Lab,
    inside: UdpSocket,
    open: [UdpSocket; 3],
    /// Where they are.
    at: [SocketAddr; 3],
}

fn scene(kind: NatKind) -> Option<Scene> {
    let lab = lab(&[behind(kind), Access::default(), Access::default()], Link::default())?;
    let inside = socket(&lab, 0, 5000);
    let open = [(1, 7), (2, 7), (2, 8)].map(|(node, port)| socket(&lab, node, port));
    let at = [(1, 0), (2, 1), (2, 2)].map(|(node, index)| public(&lab, node, &open[index]));
    Some(Scene { lab, inside, open, at })
}

impl Scene {
    /// Sends from inside; where it seems to come from.
    fn mapped(&self, to: usize) -> SocketAddr {
        self.inside.send_to(b"hello", self.at[to]).unwrap();
        receive(&self.open[to]).1
    }
}

#[test]
fn cones_have_one_mapping_and_symmetric_ones_one_per_target() {
    let kinds = [NatKind::FullCone, NatKind::PortRestricted, NatKind::Symmetric];
    for (kind, is_one) in kinds.into_iter().zip([true, true, false]) {
        let Some(scene) = scene(kind) else {
            return;
        };
        let first = scene.mapped(0);
        assert_eq!(first.ip(), scene.lab.node(0).public_address());
        assert_ne!(first.port(), 5000, "ports are not kept");
        assert_eq!(scene.mapped(0), first, "{kind}: the same target");
        assert_eq!(scene.mapped(1) == first, is_one, "{kind}: another address");
        assert_eq!(scene.mapped(2) == scene.mapped(1), is_one, "{kind}: another port");
    }
}

#[test]
fn who_gets_in_is_what_the_kind_says() {
    let kinds = [NatKind::FullCone, NatKind::PortRestricted, NatKind::Symmetric];
    for kind in kinds {
        let Some(scene) = scene(kind) else {
            return;
        };
        let mapped = scene.mapped(1);
        assert!(reaches(&scene.open[1], mapped, &scene.inside), "{kind}: who was written to");
        let open_to_all = kind == NatKind::FullCone;
        assert_eq!(reaches(&scene.open[2], mapped, &scene.inside), open_to_all, "{kind}: port");
        assert_eq!(reaches(&scene.open[0], mapped, &scene.inside), open_to_all, "{kind}: address");
        let filtered = scene.lab.counts(1, 0).filtered + scene.lab.counts(2, 0).filtered;
        assert_eq!(filtered, if open_to_all { 0 } else { 2 }, "{kind}");
        let unknown = SocketAddr::new(mapped.ip(), mapped.port() ^ 1);
        assert!(!reaches(&scene.open[1], unknown, &scene.inside), "{kind}: no mapping");
    }
}

#[test]
fn two_port_restricted_cones_punch_holes_and_symmetric_ones_cannot() {
    for (kind, punches) in [(NatKind::PortRestricted, true), (NatKind::Symmetric, false)] {
        let Some(lab) = lab(&[behind(kind), behind(kind), Access::default()], Link::default())
        else {
            return;
        };
        let sockets = [0, 1, 2].map(|node| socket(&lab, node, 5000));
        let meeting = public(&lab, 2, &sockets[2]);
        let seen = [0, 1].map(|node| {
            sockets[node].send_to(b"where am I", meeting).unwrap();
            receive(&sockets[2]).1
        });
        // The first packet opens the way back, and is itself not let in.
        assert!(!reaches(&sockets[0], seen[1], &sockets[1]));
        assert_eq!(reaches(&sockets[1], seen[0], &sockets[0]), punches, "{kind}");
        assert_eq!(reaches(&sockets[0], seen[1], &sockets[1]), punches, "{kind}");
    }
}

#[test]
fn streams_and_refusals_pass_a_translator() {
    let Some(lab) = lab(&[behind(NatKind::Symmetric), Access::default()], Link::default()) else {
        return;
    };
    let address = lab.node(1).address();
    let listener = lab.node(1).enter(move || TcpListener::bind((address, 9)).unwrap());
    let mut inside = lab.node(0).enter(move || TcpStream::connect((address, 9)).unwrap());
    let (mut outside, from) = listener.accept().unwrap();
    assert_eq!(from.ip(), lab.node(0).public_address());
    inside.write_all(&[7; 100_000]).unwrap();
    let mut got = vec![0; 100_000];
    outside.read_exact(&mut got).unwrap();
    assert_eq!(got, [7; 100_000]);
    // Nobody listens there: the answer is an ICMP error about the translated packet.
    let refused = socket(&lab, 0, 5000);
    refused.connect((address, 10)).unwrap();
    refused.send(b"hello").unwrap();
    refused.set_read_timeout(Some(std::time::Duration::from_secs(5))).unwrap();
    let error = refused.recv(&mut [0; 10]).unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionRefused);
}
