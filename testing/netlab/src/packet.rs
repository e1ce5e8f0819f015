//! IPv4 packets: addresses and ports, read and replaced. Checksums follow (RFC 1624).

use std::net::{Ipv4Addr, SocketAddrV4};

pub(crate) const ICMP: u8 = 1;
pub(crate) const TCP: u8 = 6;
pub(crate) const UDP: u8 = 17;

const HEADER_MIN: usize = 20;
const HEADER_SUM: usize = 10;
/// Types of ICMP messages that quote the packet they are about.
const ICMP_ERRORS: [u8; 4] = [3, 4, 11, 12];
/// Echo reply and request.
const ICMP_ECHOES: [u8; 2] = [0, 8];
const ICMP_HEADER: usize = 8;

/// Which end of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    Source,
    Target,
}

/// A packet whose header is whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Packet {
    bytes: Vec<u8>,
    header: usize,
}

/// Who talks to whom. The port of an ICMP echo is its identifier, at both ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Ends {
    pub(crate) protocol: u8,
    pub(crate) source: SocketAddrV4,
    pub(crate) target: SocketAddrV4,
}

impl Packet {
    /// `None` for what is no IPv4 packet.
    pub(crate) fn parse(bytes: Vec<u8>) -> Option<Self> {
        let header = header_bytes(&bytes)?;
        let total = usize::from(word(&bytes, 2)?);
        (total >= header && total <= bytes.len()).then_some(Self { bytes, header })
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    pub(crate) fn address(&self, end: End) -> Ipv4Addr {
        address(&self.bytes, end)
    }

    /// `None` without ports: later fragments, and protocols that have none.
    pub(crate) fn ends(&self) -> Option<Ends> {
        ends(&self.bytes, self.header)
    }

    /// The ends of the packet that this ICMP error is about.
    pub(crate) fn quoted(&self) -> Option<Ends> {
        let quote = &self.bytes[self.quote()?..];
        ends(quote, header_bytes(quote)?)
    }

    /// Replaces an end.
    pub(crate) fn set(&mut self, end: End, to: SocketAddrV4) {
        rewrite(&mut self.bytes, self.header, end, to);
    }

    /// Replaces an address only.
    pub(crate) fn set_address(&mut self, end: End, to: Ipv4Addr) {
        set_address(&mut self.bytes, self.header, end, to);
    }

    /// Replaces an end of the packet that this ICMP error is about.
    pub(crate) fn set_quoted(&mut self, end: End, to: SocketAddrV4) {
        let Some(at) = self.quote() else {
            return;
        };
        let quote = &mut self.bytes[at..];
        if let Some(header) = header_bytes(quote) {
            rewrite(quote, header, end, to);
        }
        let message = self.header;
        self.bytes[message + 2..message + 4].fill(0);
        let sum = checksum(&self.bytes[message..]);
        self.bytes[message + 2..message + 4].copy_from_slice(&sum.to_be_bytes());
    }

    /// Where the packet begins that this ICMP error is about.
    fn quote(&self) -> Option<usize> {
        let is_error = self.bytes[9] == ICMP
            && fragment_offset(&self.bytes) == 0
            && ICMP_ERRORS.contains(self.bytes.get(self.header)?);
        let at = self.header + ICMP_HEADER;
        (is_error && self.bytes.len() >= at + HEADER_MIN).then_some(at)
    }
}

/// Length of the header, if it is whole.
fn header_bytes(bytes: &[u8]) -> Option<usize> {
    let first = *bytes.first()?;
    let header = usize::from(first & 15) * 4;
    (first >> 4 == 4 && header >= HEADER_MIN && bytes.len() >= header).then_some(header)
}

fn word(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes([*bytes.get(at)?, *bytes.get(at + 1)?]))
}

fn fragment_offset(bytes: &[u8]) -> u16 {
    word(bytes, 6).unwrap_or(0) & 0x1fff
}

fn address_at(end: End) -> usize {
    match end {
        End::Source => 12,
        End::Target => 16,
    }
}

fn address(bytes: &[u8], end: End) -> Ipv4Addr {
    let at = address_at(end);
    Ipv4Addr::new(bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3])
}

fn ends(bytes: &[u8], header: usize) -> Option<Ends> {
    if fragment_offset(bytes) != 0 {
        return None;
    }
    let protocol = bytes[9];
    let (source, target) = match protocol {
        TCP | UDP => (word(bytes, header)?, word(bytes, header + 2)?),
        ICMP if ICMP_ECHOES.contains(bytes.get(header)?) => {
            let id = word(bytes, header + 4)?;
            (id, id)
        }
        _ => return None,
    };
    let socket = |end, port| SocketAddrV4::new(address(bytes, end), port);
    let (source, target) = (socket(End::Source, source), socket(End::Target, target));
    Some(Ends { protocol, source, target })
}

/// Where the checksum is that covers addresses and ports; none in a quote that ends before it, and
/// none in a UDP packet that goes without.
fn transport_sum(bytes: &[u8], header: usize) -> Option<usize> {
    if fragment_offset(bytes) != 0 {
        return None;
    }
    let at = match bytes[9] {
        TCP => header + 16,
        UDP => header + 6,
        _ => return None,
    };
    let sum = word(bytes, at)?;
    (bytes[9] != UDP || sum != 0).then_some(at)
}

fn set_address(bytes: &mut [u8], header: usize, end: End, to: Ipv4Addr) {
    let sum = transport_sum(bytes, header);
    for (index, pair) in to.octets().chunks_exact(2).enumerate() {
        let new = u16::from_be_bytes([pair[0], pair[1]]);
        edit(bytes, address_at(end) + index * 2, new, [Some(HEADER_SUM), sum]);
    }
}

fn rewrite(bytes: &mut [u8], header: usize, end: End, to: SocketAddrV4) {
    set_address(bytes, header, end, *to.ip());
    if ends(bytes, header).is_none() {
        return;
    }
    let (at, sum) = match bytes[9] {
        ICMP => (header + 4, (bytes.len() >= header + 4).then_some(header + 2)),
        _ if end == End::Source => (header, transport_sum(bytes, header)),
        _ => (header + 2, transport_sum(bytes, header)),
    };
    edit(bytes, at, to.port(), [sum, None]);
}

/// Replaces a word and brings the sums that cover it up to date.
fn edit(bytes: &mut [u8], at: usize, new: u16, sums: [Option<usize>; 2]) {
    let old = word(bytes, at).expect("the caller has read it");
    bytes[at..at + 2].copy_from_slice(&new.to_be_bytes());
    for sum in sums.into_iter().flatten() {
        let before = word(bytes, sum).expect("the caller has read it");
        let after = !fold(u32::from(!before) + u32::from(!old) + u32::from(new));
        // Zero means that there is no sum in UDP; its other form means the same elsewhere.
        let is_udp = sum != HEADER_SUM && bytes[9] == UDP;
        let after = if after == 0 && is_udp { 0xffff } else { after };
        bytes[sum..sum + 2].copy_from_slice(&after.to_be_bytes());
    }
}

fn fold(mut sum: u32) -> u16 {
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    sum as u16
}

fn checksum(bytes: &[u8]) -> u16 {
    let words = bytes.chunks(2);
    let sum = words
        .map(|pair| u32::from(u16::from_be_bytes([pair[0], pair.get(1).copied().unwrap_or(0)])));
    !fold(sum.sum())
}

#[cfg(test)]
mod tests {
    use super::*;
    use etherparse::{PacketBuilder, SlicedPacket, TransportSlice};

    const FROM: [u8; 4] = [192, 168, 3, 2];
    const TO: [u8; 4] = [198, 18, 0, 1];

    fn built(write: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
        let mut bytes = Vec::new();
        write(&mut bytes);
        bytes
    }

    fn udp(payload: &[u8]) -> Vec<u8> {
        let builder = PacketBuilder::ipv4(FROM, TO, 64).udp(1111, 2222);
        built(|bytes| builder.write(bytes, payload).unwrap())
    }

    fn tcp(payload: &[u8]) -> Vec<u8> {
        let builder = PacketBuilder::ipv4(FROM, TO, 64).tcp(1111, 2222, 7, 9);
        built(|bytes| builder.write(bytes, payload).unwrap())
    }

    fn echo(payload: &[u8]) -> Vec<u8> {
        let builder = PacketBuilder::ipv4(FROM, TO, 64).icmpv4_echo_request(1111, 5);
        built(|bytes| builder.write(bytes, payload).unwrap())
    }

    /// The sums of a packet are those that another implementation computes.
    fn assert_sums(bytes: &[u8]) {
        let sliced = SlicedPacket::from_ip(bytes).unwrap();
        let etherparse::NetSlice::Ipv4(ip) = sliced.net.unwrap() else { panic!("IPv4") };
        let header = ip.header().to_header();
        assert_eq!(header.header_checksum, header.calc_header_checksum());
        match sliced.transport.unwrap() {
            TransportSlice::Udp(udp) => {
                let own = udp.to_header();
                let sum = own.calc_checksum_ipv4(&header, udp.payload()).unwrap();
                assert_eq!(own.checksum, sum);
            }
            TransportSlice::Tcp(tcp) => {
                let own = tcp.to_header();
                let sum = own.calc_checksum_ipv4(&header, tcp.payload()).unwrap();
                assert_eq!(own.checksum, sum);
            }
            TransportSlice::Icmpv4(icmp) => {
                let own = icmp.header();
                assert_eq!(own.checksum, own.icmp_type.calc_checksum(icmp.payload()));
            }
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn ends_are_replaced_and_sums_stay_right() {
        let payloads: [&[u8]; 4] = [b"", b"x", b"even", &[0xff; 700]];
        for payload in payloads {
            for bytes in [udp(payload), tcp(payload), echo(payload)] {
                for port in [1, 80, 0x1234, 0xffff] {
                    for end in [End::Source, End::Target] {
                        let mut packet = Packet::parse(bytes.clone()).unwrap();
                        let to = SocketAddrV4::new(Ipv4Addr::new(10, 255, 0, 77), port);
                        packet.set(end, to);
                        assert_sums(packet.bytes());
                        let ends = packet.ends().unwrap();
                        let got = if end == End::Source { ends.source } else { ends.target };
                        assert_eq!(got, to);
                    }
                }
            }
        }
    }

    #[test]
    fn a_udp_packet_without_a_sum_gets_none() {
        let mut bytes = udp(b"hello");
        bytes[26..28].fill(0);
        let mut packet = Packet::parse(bytes).unwrap();
        packet.set(End::Source, SocketAddrV4::new(Ipv4Addr::LOCALHOST, 9));
        assert_eq!(packet.bytes()[26..28], [0, 0]);
    }

    #[test]
    fn errors_are_about_the_packet_they_quote() {
        let inner = udp(b"lost");
        let kind = etherparse::Icmpv4Type::DestinationUnreachable(
            etherparse::icmpv4::DestUnreachableHeader::Port,
        );
        let builder = PacketBuilder::ipv4(TO, FROM, 64).icmpv4(kind);
        let bytes = built(|bytes| builder.write(bytes, &inner[..28]).unwrap());
        let mut packet = Packet::parse(bytes).unwrap();
        assert_eq!(packet.ends(), None);
        assert_eq!(packet.quoted().unwrap().source, SocketAddrV4::new(FROM.into(), 1111));
        let to = SocketAddrV4::new(Ipv4Addr::new(9, 8, 7, 6), 4242);
        packet.set_quoted(End::Source, to);
        packet.set_address(End::Target, *to.ip());
        assert_eq!(packet.quoted().unwrap().source, to);
        assert_sums(packet.bytes());
        let mut quoted = inner;
        let mut whole = Packet::parse(quoted.clone()).unwrap();
        whole.set(End::Source, to);
        quoted.copy_from_slice(whole.bytes());
        assert_eq!(packet.bytes()[28..], quoted[..28], "the quote is the packet as it was sent");
    }

    #[test]
    fn whatever_is_cut_or_changed_never_panics() {
        for whole in [udp(b"hello"), tcp(b"hello"), echo(b"hello")] {
            for length in 0..whole.len() {
                assert_eq!(Packet::parse(whole[..length].to_vec()), None, "{length}");
            }
            for at in 0..28 {
                for value in 0..=255 {
                    let mut bytes = whole.clone();
                    bytes[at] = value;
                    let Some(mut packet) = Packet::parse(bytes) else { continue };
                    let to = SocketAddrV4::new(Ipv4Addr::LOCALHOST, 9);
                    packet.set(End::Source, to);
                    packet.set_quoted(End::Target, to);
                    let _ = (packet.ends(), packet.quoted());
                }
            }
        }
    }
}
