//! What is not a valid message or frame is refused, by the right name, and never panics.

use proptest::prelude::*;
use shoal_base::{Digest, SharedBytes};
use shoal_wire::limits::{ENVELOPE_BYTES, FRAME_HEADER_BYTES, FRAME_ROWS_MAX, THROUGH};
use shoal_wire::{
    Envelope, Field, Frame, FrameHeader, FrameKind, Kind, LayerRange, List, Message, Route,
    RouteStage, Text, Version, WireError, examples, flags,
};

const V1: Version = Version(1);

fn encoded() -> Vec<Vec<u8>> {
    examples::messages().iter().map(|message| message.encode(V1).expect("short")).collect()
}

fn frames() -> Vec<Frame> {
    examples::frames().into_iter().map(|(_, frame)| frame).collect()
}

fn header(kind: FrameKind) -> FrameHeader {
    let found = frames().into_iter().find(|frame| frame.header.kind == kind);
    found.expect("one of each kind").header
}

/// The error of a header that was changed.
fn refused(kind: FrameKind, change: impl FnOnce(&mut FrameHeader)) -> WireError {
    let mut header = header(kind);
    change(&mut header);
    FrameHeader::from_bytes(&header.to_bytes()).expect_err("it was changed")
}

#[test]
fn a_frame_header_has_64_bytes() {
    assert_eq!(FrameHeader::BYTES_MIN, FRAME_HEADER_BYTES);
    assert_eq!(header(FrameKind::Decode).to_bytes().len(), FRAME_HEADER_BYTES);
}

#[test]
fn every_cut_of_every_message_is_refused() {
    for bytes in encoded() {
        for length in 0..bytes.len() {
            assert!(Message::decode(&bytes[..length], V1).is_err());
        }
        let longer = [&bytes[..], &[0]].concat();
        assert_eq!(Message::decode(&longer, V1), Err(WireError::Trailing { got: 1 }));
    }
    for frame in frames() {
        let bytes = frame.to_bytes();
        for length in 0..bytes.len() {
            assert!(Frame::from_bytes(&bytes[..length]).is_err());
        }
    }
}

#[test]
fn envelopes_of_unknown_kinds_versions_and_lengths_are_refused() {
    let read = |bytes: [u8; ENVELOPE_BYTES]| Envelope::read(&bytes, V1).unwrap_err();
    assert_eq!(read([25, 0, 1, 0, 0, 0, 0, 0]), WireError::Unknown { field: "kind", got: 25 });
    assert_eq!(read([16, 0, 2, 0, 0, 0, 0, 0]), WireError::Version { got: 2, agreed: 1 });
    assert!(matches!(read([16, 0, 1, 1, 0, 0, 0, 0]), WireError::Rule { field: "reserved", .. }));
    let limit = Kind::LeaseRequest.bytes_max() as u64;
    let got = u64::from(u32::MAX);
    let expected = WireError::Limit { field: "bytes", got, limit };
    assert_eq!(read([16, 0, 1, 0, 255, 255, 255, 255]), expected);
}

#[test]
fn greetings_keep_version_1_whatever_was_agreed_on() {
    for message in examples::messages() {
        let bytes = message.encode(Version(2)).unwrap();
        let is_greeting = message.kind().number() < 16;
        assert_eq!(bytes[2], if is_greeting { 1 } else { 2 });
        assert_eq!(Message::decode(&bytes, V1).is_ok(), is_greeting);
    }
}

#[test]
fn frames_that_lie_are_refused() {
    use FrameKind::{Cancel, Commit, Decode, Prefill, Reply};
    let rule = |field| move |error| matches!(error, WireError::Rule { field: f, .. } if f == field);
    let limit = |field| move |e| matches!(e, WireError::Limit { field: f, .. } if f == field);
    assert!(rule("payload_bytes")(refused(Decode, |h| h.payload_bytes += 1)));
    assert!(rule("payload_bytes")(refused(Decode, |h| h.rows = 2)));
    assert!(rule("payload_bytes")(refused(Cancel, |h| h.payload_bytes = 32)));
    assert!(limit("rows")(refused(Prefill, |h| h.rows = FRAME_ROWS_MAX + 1)));
    assert!(limit("width")(refused(Prefill, |h| h.width = u32::MAX)));
    assert!(limit("position")(refused(Prefill, |h| h.position = u32::MAX)));
    assert!(limit("payload_bytes")(refused(Prefill, |h| h.payload_bytes = u32::MAX)));
    assert!(rule("rows")(refused(Commit, |h| h.rows = 1)));
    assert!(rule("rows")(refused(Decode, |h| h.rows = 0)));
    assert!(rule("width")(refused(Decode, |h| h.width = 0)));
    assert!(rule("width")(refused(Cancel, |h| h.width = 4)));
    assert!(rule("reply_rows")(refused(Decode, |h| h.reply_rows = 2)));
    assert!(rule("reply_rows")(refused(Reply, |h| h.reply_rows = 1)));
    assert!(rule("committed")(refused(Decode, |h| h.committed = h.position + 1)));
    assert!(rule("last_stage")(refused(Reply, |h| h.last_stage = 1)));
    assert!(rule("flags")(refused(Decode, |h| h.flags = 1 << 15)));
    assert!(rule("flags")(refused(Reply, |h| h.flags = flags::SHADOW)));
    let other = header(Decode).expect_version(Version(2));
    assert_eq!(other, Err(WireError::Version { got: 1, agreed: 2 }));
}

#[test]
fn frames_without_the_root_of_their_kind_cannot_be_built() {
    let rows = || SharedBytes::new(vec![0_u8; 8]);
    let mut decode = header(FrameKind::Decode);
    decode.last_stage = THROUGH;
    assert!(Frame::new(decode, None, rows()).is_err());
    assert!(Frame::new(decode, Some(Digest([1; 32])), rows()).is_ok());
    let cancel = header(FrameKind::Cancel);
    let root = Some(Digest([1; 32]));
    assert!(Frame::new(cancel, root, SharedBytes::new(Vec::new())).is_err());
}

#[test]
fn a_count_is_checked_before_memory_is_taken() {
    let count = u32::MAX.to_le_bytes();
    let got = u64::from(u32::MAX);
    let expected = WireError::Limit { field: "message", got, limit: 1 << 40 };
    let limit = List::<u64, { 1 << 40 }>::from_bytes(&count).unwrap_err();
    assert_ne!(limit, expected, "the limit allows it, the bytes do not");
    assert!(matches!(limit, WireError::Short { left: 0, .. }), "{limit}");
    let limit = List::<u64, 16>::from_bytes(&count).unwrap_err();
    assert_eq!(limit, WireError::Limit { field: "message", got, limit: 16 });
    assert!(List::<u8, 2>::try_new(vec![0; 3]).is_err());
    assert!(Text::<4>::try_new("hello").is_err());
    assert!(Text::<9>::try_new("a\x1b[2J").is_err());
    assert!(Text::<9>::from_bytes(&[1, 0, 0, 0, 0xff]).is_err());
}

#[test]
fn routes_with_gaps_or_self_shadows_are_refused() {
    let stage = |node: u8, first, end| RouteStage {
        node: shoal_wire::NodeId([node; 32]),
        layers: LayerRange { first, end },
        shadow: None,
    };
    let check = |stages: Vec<RouteStage>| {
        let head = shoal_wire::NodeId([9; 32]);
        Route { head, layer_count: 8, stages: List::try_new(stages).unwrap() }.check()
    };
    assert_eq!(check(vec![stage(1, 0, 4), stage(2, 4, 8)]), Ok(()));
    assert!(check(vec![stage(1, 0, 4), stage(2, 5, 8)]).is_err());
    assert!(check(vec![stage(1, 0, 4), stage(2, 3, 8)]).is_err());
    assert!(check(vec![stage(1, 0, 4)]).is_err());
    assert!(check(vec![]).is_err());
    let mut own = stage(1, 0, 8);
    own.shadow = Some(own.node);
    assert!(check(vec![own]).is_err());
    assert!(LayerRange::try_new(4, 4).is_err() && LayerRange::try_new(0, 1025).is_err());
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    /// A changed message is refused, or is another message whose bytes are the changed ones.
    #[test]
    fn what_is_read_has_one_form(
        which in any::<prop::sample::Index>(),
        at in any::<prop::sample::Index>(),
        byte: u8,
    ) {
        let mut bytes = which.get(&encoded()).clone();
        let index = at.index(bytes.len());
        bytes[index] = byte;
        if let Ok(message) = Message::decode(&bytes, V1) {
            prop_assert_eq!(message.encode(V1).unwrap(), bytes);
        }
        let mut bytes = which.get(&frames()).to_bytes();
        let index = at.index(bytes.len());
        bytes[index] = byte;
        if let Ok(frame) = Frame::from_bytes(&bytes) {
            prop_assert_eq!(frame.to_bytes(), bytes);
        }
    }

    #[test]
    fn noise_never_panics(kind in any::<prop::sample::Index>(), body: Vec<u8>) {
        let kind = *kind.get(Kind::ALL);
        if let Ok(message) = Message::from_body(kind, &body) {
            prop_assert_eq!(&message.encode(V1).unwrap()[ENVELOPE_BYTES..], &body[..]);
        }
    }

    #[test]
    fn frames_of_any_shape_round_trip(
        rows in 1_u16..40,
        width in 1_u32..40,
        position in 0_u32..900,
    ) {
        let mut header = header(FrameKind::Prefill);
        (header.rows, header.width, header.position) = (rows, width, position);
        (header.committed, header.reply_rows) = (0, 0);
        let bytes = vec![7; usize::from(rows) * width as usize * 2];
        let frame = Frame::new(header, Some(Digest([3; 32])), SharedBytes::new(bytes)).unwrap();
        let read = Frame::from_bytes(&frame.to_bytes()).unwrap();
        prop_assert_eq!(read.header, frame.header);
        prop_assert_eq!(&read.rows[..], &frame.rows[..]);
    }
}
