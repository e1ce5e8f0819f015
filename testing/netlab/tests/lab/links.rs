//! Delay, loss, rates and cuts, measured with UDP and TCP.

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::time::{Duration, Instant};

use shoal_netlab::{Access, Fault, Link, Profile};

use crate::support::{
    NOWHERE, STAYS_AWAY, echo, lab, public, reaches, receive, round_trips, socket, try_receive,
};

const MS: Duration = Duration::from_millis(1);

#[test]
fn a_packet_takes_as_long_as_its_link_says() {
    let Some(lab) = lab(&[Access::default(); 3], Link { delay: MS * 12, ..Link::default() }) else {
        return;
    };
    lab.set_link(0, 2, Link { delay: MS * 3, ..Link::default() });
    let sockets = [0, 1, 2].map(|node| socket(&lab, node, 7));
    let [client, first, second] = sockets;
    let (to_first, to_second) = (public(&lab, 1, &first), public(&lab, 2, &second));
    let (_first, _second) = (echo(first), echo(second));
    let even = round_trips(&client, to_first, 20);
    let uneven = round_trips(&client, to_second, 20);
    // The least says what the router does; the rest is how busy the machine is.
    assert!((MS * 24..MS * 25).contains(&even[0]), "{even:?}");
    assert!((MS * 15..MS * 16).contains(&uneven[0]), "{uneven:?}");
    let late = lab.lateness();
    println!("round trips of 24 ms: {:?} to {:?}; {:?}", even[0], even[19], late.summary());
    assert_eq!(lab.counts(0, 1).delivered, 20);
    assert_eq!(late.summary().count, 80);
}

#[test]
fn packets_are_lost_as_often_as_asked_for_and_the_same_ones_each_time() {
    let access = [Access::default(); 2];
    let lost = || {
        let lab = lab(&access, Link { loss: 0.1, ..Link::default() })?;
        let (from, to) = (socket(&lab, 0, 7), socket(&lab, 1, 7));
        let target = public(&lab, 1, &to);
        let mut arrived = Vec::new();
        // In small groups, so that no buffer of a socket is full.
        for first in (0..2000_u32).step_by(50) {
            for number in first..first + 50 {
                from.send_to(&number.to_le_bytes(), target).unwrap();
            }
            let sent = lab.counts(0, 1).sent;
            while lab.counts(0, 1).sent < u64::from(first + 50) {
                std::thread::yield_now();
            }
            assert!(sent <= u64::from(first + 50));
            let counts = lab.counts(0, 1);
            while arrived.len() as u64 + counts.lost < counts.sent {
                let (bytes, _) = receive(&to);
                arrived.push(u32::from_le_bytes(bytes.try_into().unwrap()));
            }
        }
        Some(arrived)
    };
    let Some(first) = lost() else {
        return;
    };
    // 1800 are expected, with a deviation of 13.
    assert!((1740..=1860).contains(&first.len()), "{}", first.len());
    assert_eq!(lost().unwrap(), first);
}

#[test]
fn a_stream_gets_the_rate_of_its_line_in_each_direction() {
    let buffer_bytes = 256 << 10;
    let line = Access { up: Some(20_000_000), down: Some(50_000_000), buffer_bytes, nat: None };
    let open = Access::default();
    let Some(lab) = lab(&[line, open], Link { delay: MS * 5, ..Link::default() }) else {
        return;
    };
    let rate = |from: usize, to: usize| {
        let address = lab.node(to).address();
        let listener = lab.node(to).enter(move || TcpListener::bind((address, 9)).unwrap());
        let mut sender = lab.node(from).enter(move || TcpStream::connect((address, 9)).unwrap());
        let (mut receiver, _) = listener.accept().unwrap();
        let writer = std::thread::spawn(move || {
            // It ends with the receiver.
            while sender.write_all(&[0; 64 << 10]).is_ok() {}
        });
        let mut buffer = vec![0; 64 << 10];
        let mut read = |time: Duration| {
            let (start, mut bytes) = (Instant::now(), 0);
            while start.elapsed() < time {
                bytes += receiver.read(&mut buffer).unwrap();
            }
            bytes as f64 * 8.0 / start.elapsed().as_secs_f64()
        };
        read(MS * 500);
        let rate = read(MS * 1500);
        drop(receiver);
        writer.join().unwrap();
        // 1448 of 1500 bytes are of the stream.
        rate * 1500.0 / 1448.0
    };
    let (up, down) = (rate(0, 1), rate(1, 0));
    println!("up {:.2} of 20 Mbit/s, down {:.2} of 50 Mbit/s", up / 1e6, down / 1e6);
    assert!((up / 20e6 - 1.0).abs() < 0.05, "{up}");
    assert!((down / 50e6 - 1.0).abs() < 0.05, "{down}");
}

#[test]
fn cuts_separate_nodes_until_they_heal() {
    let Some(lab) = lab(&[Access::default(); 3], Link::default()) else {
        return;
    };
    let sockets = [0, 1, 2].map(|node| socket(&lab, node, 7));
    let reach = || {
        let pairs = [(0, 1), (1, 0), (0, 2), (1, 2)];
        pairs
            .map(|(from, to)| reaches(&sockets[from], public(&lab, to, &sockets[to]), &sockets[to]))
    };
    assert_eq!(reach(), [true; 4]);
    lab.apply(Fault::CutLink(0, 1));
    assert_eq!(reach(), [false, false, true, true]);
    lab.apply(Fault::HealLink(1, 0));
    lab.apply(Fault::CutNode(2));
    assert_eq!(reach(), [true, true, false, false]);
    lab.apply(Fault::HealAll);
    assert_eq!(reach(), [true; 4]);
    assert_eq!((lab.counts(0, 1).cut, lab.counts(0, 2).cut), (1, 1));
}

#[test]
fn nobody_is_reached_outside_the_lab() {
    let Some(lab) = lab(&[Access::default(); 2], Link::default()) else {
        return;
    };
    let socket = socket(&lab, 0, 7);
    socket.send_to(b"hello", (NOWHERE, 7)).unwrap();
    assert!(try_receive(&socket, STAYS_AWAY).is_none());
    assert_eq!(lab.stray_packets(), 1);
    // Another lab has the same addresses and none of the packets.
    let other = support_lab();
    let listens = crate::support::socket(&other, 1, 7);
    assert!(!reaches(&socket, public(&other, 1, &listens), &listens));
    assert_eq!(lab.counts(0, 1).sent, 1);
}

fn support_lab() -> shoal_netlab::Lab {
    lab(&[Access::default(); 2], Link::default()).expect("the first lab ran")
}

#[test]
fn profiles_are_what_their_names_promise() {
    let eu = Profile::named("eu").unwrap();
    assert_eq!((eu.round_trip, eu.up, eu.down), (MS * 25, 20_000_000, 100_000_000));
    assert_eq!(eu.link().delay * 2, eu.round_trip);
    let world = Profile::named("world").unwrap();
    assert_eq!((world.round_trip, world.loss), (MS * 150, 0.01));
    let home = Profile::named("home").unwrap();
    assert!(home.access(0).nat.is_some() && home.access(1).nat.is_none());
    assert_eq!(Profile::named("moon"), None);
}
