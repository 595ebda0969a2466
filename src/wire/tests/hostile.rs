//! Bytes that are not messages are refused, without a panic and without much memory.

use bytes::Bytes;
use proptest::prelude::*;

use super::examples;
use crate::types::{Code, EventError, Rejection, SeqRanges, limits};
use crate::wire::codec::put_head;
use crate::wire::*;

/// Parses a body by its kind; the message is of no interest.
fn decode(kind: u8, body: Bytes) -> Result<(), WireError> {
    match kind {
        0x01 => Hello::decode(kind, body).map(drop),
        0x02..0x10 => Greeting::decode(kind, body).map(drop),
        0x10..0x40 => ClientMessage::decode(kind, body).map(drop),
        _ => ServerMessage::decode(kind, body).map(drop),
    }
}

#[test]
fn every_truncation_and_every_addition_is_refused() {
    for (name, kind, body) in examples::all() {
        decode(kind, body.clone()).unwrap();
        // A publish cut inside its block is for the block's check to notice.
        let head = if name == "publish" { body.len() - 35 } else { body.len() };
        for cut in 0..head {
            assert!(decode(kind, body.slice(..cut)).is_err(), "{name} cut at {cut}");
        }
        let longer = Bytes::from([&body[..], b"x"].concat());
        let open_ended = name == "publish" || name.starts_with("hello");
        assert_eq!(decode(kind, longer).is_ok(), open_ended, "{name} with a byte more");
    }
}

#[test]
fn kinds_of_the_other_direction_are_refused() {
    let body = Bytes::from_static(&[7]);
    assert_eq!(ClientMessage::decode(0x4f, body.clone()), Err(WireError::UnknownKind(0x4f)));
    assert_eq!(ServerMessage::decode(0x1f, body.clone()), Err(WireError::UnknownKind(0x1f)));
    assert_eq!(Hello::decode(0x1f, body.clone()), Err(WireError::UnknownKind(0x1f)));
    assert_eq!(Greeting::decode(0x1f, body), Err(WireError::UnknownKind(0x1f)));
}

#[test]
fn a_stranger_is_told_what_does_not_fit() {
    let decode = |bytes: Vec<u8>| Hello::decode(1, bytes.into());
    assert_eq!(decode(b"HTTP/1.1 200".to_vec()), Err(WireError::Magic));
    assert_eq!(decode(b"AQDT".to_vec()), Err(WireError::Magic));
    // Another version's hello need not parse beyond the versions.
    let newer = decode(b"AQDT\x09\0\x0a\0\xff\xff\xff".to_vec()).unwrap_err();
    assert!(matches!(newer, WireError::Version { min: 9, max: 10, .. }));
    assert_eq!(Rejection::from(newer).code, Code::VersionMismatch);

    let hello = Hello { version_max: 10, ..Hello::new(Service::Data, "") };
    let (kind, parts) = hello.encode();
    assert_eq!(Hello::decode(kind, parts.concat().into()).unwrap().version(), PROTOCOL_VERSION);

    for hello in [
        Hello { token: "x".repeat(limits::TOKEN_BYTES_MAX + 1), ..Hello::new(Service::Data, "") },
        Hello::new(Service::Data, "x".repeat(limits::PEER_NAME_BYTES_MAX + 1)),
    ] {
        let (kind, parts) = hello.encode();
        let refused = Hello::decode(kind, parts.concat().into());
        assert!(matches!(refused, Err(WireError::TooMany { .. })), "{refused:?}");
    }
}

#[test]
fn counts_do_not_allocate() {
    // A settlement that announces 2^62 nacks, a delivery of 2^31 events, a publish of as many.
    let mut settle = put_head(Vec::new(), &(1u64, 1u64, 0u8));
    settle.extend_from_slice(&put_head(Vec::new(), &(1u64 << 62)));
    assert!(matches!(decode(0x1b, settle.into()), Err(WireError::Malformed { .. })));
    let deliver = put_head(Vec::new(), &(1u32, 1u64, 1u32 << 31));
    assert!(matches!(decode(0x49, deliver.into()), Err(WireError::TooMany { .. })));
    let deliver = put_head(Vec::new(), &(1u32, 1u64, 4096u32));
    assert!(matches!(decode(0x49, deliver.into()), Err(WireError::Malformed { .. })));
    let publish = put_head(Vec::new(), &((1u64, 1u32), 1u32, 1u64, 1u32 << 31));
    assert!(matches!(decode(0x11, publish.into()), Err(WireError::TooMany { .. })));
}

#[test]
fn heads_are_bounded() {
    let reason = "x".repeat(limits::MESSAGE_HEAD_BYTES_MAX);
    let goodbye = Goodbye { reason: Rejection::new(Code::Overloaded, reason) };
    let (kind, parts) = ServerMessage::from(goodbye).encode();
    let refused = ServerMessage::decode(kind, parts.concat().into()).unwrap_err();
    assert!(matches!(refused, WireError::TooLarge { .. }));
}

#[test]
fn events_that_are_none_are_named() {
    let (kind, parts) = Deliver {
        consumer: 1,
        tenure: Default::default(),
        events: vec![examples::delivery("one"), examples::delivery("two")],
    }
    .encode();
    let mut body = parts.concat();
    let version_of_the_second = body.len() - 15;
    body[version_of_the_second] = 9;
    assert_eq!(
        ServerMessage::decode(kind, body.into()),
        Err(WireError::Event { position: 1, error: EventError::Version(9) })
    );
}

#[test]
fn a_refused_event_keeps_its_code() {
    let error = EventError::TooLarge { bytes: 2, max: 1 };
    let refused = Rejection::from(WireError::Event { position: 3, error });
    assert_eq!(refused.code, Code::EventTooLarge);
    assert!(refused.message.contains("event 3"), "{refused}");
    assert_eq!(Rejection::from(WireError::Magic).code, Code::BadRequest);
}

proptest! {
    #[test]
    fn mutations_never_panic(
        which in 0usize..1000,
        edits in prop::collection::vec((0usize..1000, any::<u8>()), 1..6),
        cut in 0usize..200,
    ) {
        let examples = examples::all();
        let (_, kind, body) = &examples[which % examples.len()];
        let mut bytes = body.to_vec();
        for (at, value) in edits {
            let at = at % bytes.len();
            bytes[at] = value;
        }
        bytes.truncate(bytes.len().saturating_sub(cut.saturating_sub(100)));
        let _ = decode(*kind, bytes.into());
    }

    #[test]
    fn noise_never_panics(kind in 0u8..0x60, noise in prop::collection::vec(any::<u8>(), 0..300)) {
        let _ = decode(kind, noise.clone().into());
        let _ = EventsBlock::check(noise.into(), u32::from(kind), 100);
    }

    /// Whatever the bytes, a set of sequences is sorted and disjoint.
    #[test]
    fn decoded_sets_are_sets(pairs in prop::collection::vec((any::<u64>(), 0u64..9), 0..20)) {
        #[derive(serde::Deserialize)]
        struct Set(#[serde(with = "crate::wire::ranges")] SeqRanges);
        if let Ok(Set(set)) = postcard::from_bytes(&postcard::to_stdvec(&pairs).unwrap()) {
            let flat: Vec<_> = set.iter().collect();
            prop_assert!(flat.iter().all(|range| range.first <= range.last));
            prop_assert!(flat.windows(2).all(|w| w[0].last + 1 < w[1].first));
        }
    }
}
