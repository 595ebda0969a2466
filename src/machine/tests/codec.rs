//! Batches and images as bytes: golden, and damaged.

use bytes::Bytes;
use proptest::prelude::*;

use super::{batch, block};
use crate::machine::{
    Batch, BatchError, Command, ImageError, LaneTarget, Machine, Publish, ReplayTo, Settle,
    SettlePart, Target, payload_location, payload_locations,
};
use crate::types::{
    ChannelId, LaneId, Member, Name, NodeId, Opener, Outcome, Property, ProxyId, Qos, SeqRange,
    Side, Stamp, Start, Subscription, Tenure,
};

fn publish(lane: u64, first_sequence: u64, sizes: &[u32]) -> Command {
    Command::Publish(Publish {
        channel: ChannelId(1),
        lane: LaneId { index: lane, position: 0 },
        epoch: 1,
        first_sequence,
        count: sizes.len() as u32,
        events: block(sizes),
    })
}

fn some_qos() -> Qos {
    let mut qos = Qos::default();
    qos.set(Property::OrderPolicy, Some(2));
    qos
}

fn every_command() -> Batch {
    let (channel, name) = (ChannelId(1), Name::new("n").unwrap());
    let sequences = [SeqRange { first: 2, last: 9 }].into_iter().collect();
    let outcome = Outcome::DeadLettered;
    let parts = vec![SettlePart { outcome, sequences, reason: "poison".into() }];
    let commands = vec![
        Command::BeginTenure { node: NodeId(3) },
        Command::CreateChannel { name: name.clone(), qos: some_qos() },
        Command::DeleteChannel { channel },
        Command::CreateProxy {
            channel,
            name: name.clone(),
            start: Start::Seq(300),
            admin: None,
            qos: Qos::default(),
            types: Default::default(),
        },
        Command::DeleteProxy { proxy: ProxyId(7) },
        Command::CreateAdmin {
            channel,
            side: Side::Supplier,
            name: name.clone(),
            qos: some_qos(),
            types: some_types(),
        },
        Command::DeleteAdmin { channel, side: Side::Consumer, name: name.clone() },
        Command::SetQos {
            target: Target::Admin(channel, Side::Consumer, name.clone()),
            changes: vec![(Property::Timeout, Some(9)), (Property::Priority, None)],
        },
        Command::Suspend { target: Target::Proxy(ProxyId(7)), suspended: true },
        Command::OpenLane {
            channel,
            target: LaneTarget::Named(name.clone()),
            opener: Opener { client: 1 << 40, attempt: 3 },
            admin: Some(name),
        },
        Command::Suspend { target: Target::Lane(LaneId::default()), suspended: false },
        Command::ExpireLanes { lanes: vec![LaneId { index: 5, position: 1 }] },
        publish(4, 1, &[0, 3]),
        Command::SkipSequences { lane: LaneId::default(), epoch: 2, through: 8 },
        Command::Settle(Settle { proxy: ProxyId(7), revision: 1, fencing: 0, parts }),
        Command::CountAttempts { proxy: ProxyId(7), sequences: [4, 5, 9].into_iter().collect() },
        Command::Checkpoint,
        Command::ReplayLetters {
            channel,
            sequences: [1, 2].into_iter().collect(),
            to: ReplayTo::All,
        },
        Command::DropLetters { channel, sequences: [3].into_iter().collect() },
        Command::TrimHistory { channels: vec![channel] },
        Command::MarkActive { proxies: vec![ProxyId(7)] },
        Command::ExpireProxies { proxies: vec![ProxyId(8)] },
        Command::Hold { proxy: ProxyId(7), holder: Some(Member { client: 9, consumer: 1 }) },
        Command::Subscribe {
            target: Target::Proxy(ProxyId(7)),
            add: some_types().iter().cloned().collect(),
            remove: Vec::new(),
        },
    ];
    batch(Tenure(6), Stamp(1_000_000), commands)
}

#[test]
fn batches_come_back_without_a_copy() {
    let entry = every_command().encode();
    let back = Batch::decode(entry.clone()).unwrap();
    assert_eq!(back, every_command());
    let total: usize = back.commands.iter().map(Batch::command_bytes).sum();
    assert_eq!(entry.len(), 22 + total);
    let span = entry.as_ptr_range();
    for location in payload_locations(&back) {
        assert!(span.contains(&location.bytes.as_ptr()));
    }
}

#[test]
fn batch_golden_bytes() {
    let commands = vec![Command::Checkpoint, publish(4, 1, &[1, 2])];
    let bytes = batch(Tenure(6), Stamp(7), commands).encode();
    #[rustfmt::skip]
    let expected = [
        0xAB, 3, // magic, version
        6, 0, 0, 0, 0, 0, 0, 0, // tenure
        7, 0, 0, 0, 0, 0, 0, 0, // stamp
        2, 0, 0, 0, // commands
        0, 1, 0, 0, 0, 15, // checkpoint
        1, 47, 0, 0, 0, // publish
        1, 0, 0, 0, 0, 0, 0, 0, // channel
        4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, // lane
        1, 0, 0, 0, // epoch
        1, 0, 0, 0, 0, 0, 0, 0, // first sequence
        2, 0, 0, 0, // count
        1, 0, 0, 0, b'e', 2, 0, 0, 0, b'e', b'e',
    ];
    assert_eq!(bytes[..], expected);
}

/// The numbers of `Command`'s variants and fields are on disk: this changes only with the version.
#[test]
fn every_command_golden_hash() {
    let hash = xxhash_rust::xxh3::xxh3_64(&every_command().encode());
    assert_eq!(format!("{hash:016x}"), "41a6611689d8f043");
}

#[test]
fn damaged_batches_are_named() {
    let good = batch(Tenure(6), Stamp(7), vec![publish(4, 1, &[1, 2])]).encode().to_vec();
    let with = |at: usize, byte: u8| {
        let mut bytes = good.clone();
        bytes[at] = byte;
        Batch::decode(bytes.into())
    };
    let short = |len: usize| Batch::decode(Bytes::from(good[..len].to_vec()));
    assert_eq!(short(21), Err(BatchError::Short("bytes of the header")));
    assert_eq!(short(25), Err(BatchError::Short("bytes of a command's header")));
    assert_eq!(short(80 - 7), Err(BatchError::Short("bytes of a command's body")));
    assert_eq!(with(0, 1), Err(BatchError::Magic(1)));
    assert_eq!(with(1, 9), Err(BatchError::Version(9)));
    assert_eq!(with(18, 0), Err(BatchError::Trailing(good.len() - 22)));
    assert_eq!(with(22, 7), Err(BatchError::Tag(0, 7)));
    assert_eq!(with(59, 3), Err(BatchError::Events(0, 3)));
    assert_eq!(with(59, 1), Err(BatchError::Events(0, 1)));
    assert_eq!(with(63, 200), Err(BatchError::Events(0, 2)));
    // A publish where any other command belongs would carry an unchecked block.
    let hidden = postcard::to_stdvec(&publish(4, 1, &[1])).unwrap();
    let mut bytes = batch(Tenure(6), Stamp(7), vec![]).encode().to_vec();
    bytes[18] = 1;
    bytes.push(0);
    bytes.extend((hidden.len() as u32).to_le_bytes());
    bytes.extend(hidden);
    let found = Batch::decode(bytes.into());
    assert!(matches!(found, Err(BatchError::Command(0, _))), "{found:?}");
}

#[test]
fn payloads_are_found_by_position() {
    let commands =
        vec![publish(4, 10, &[1, 2]), Command::Checkpoint, publish(5, 1, &[]), publish(5, 7, &[3])];
    let batch = batch(Tenure(6), Stamp(7), commands);
    let all: Vec<_> = payload_locations(&batch).collect();
    let facts: Vec<_> =
        all.iter().map(|l| (l.position, l.lane.index, l.sequence, l.bytes.len())).collect();
    assert_eq!(facts, [(0, 4, 10, 1), (1, 4, 11, 2), (2, 5, 7, 3)]);
    for location in all {
        assert_eq!(payload_location(&batch, location.position), Some(location));
    }
    assert_eq!(payload_location(&batch, 3), None);
}

fn some_types() -> Subscription {
    ["telecom::a*".parse().unwrap(), "*".parse().unwrap()].into_iter().collect()
}

fn sample_machine() -> Machine {
    let mut machine = Machine::new();
    let name = Name::new("p").unwrap();
    let begin = Command::BeginTenure { node: NodeId(1) };
    let opener = Opener { client: 1 << 40, attempt: 3 };
    let open =
        Command::OpenLane { channel: ChannelId(1), target: LaneTarget::Fresh, opener, admin: None };
    let proxy = Command::CreateProxy {
        channel: ChannelId(1),
        name,
        start: Start::New,
        admin: None,
        qos: Qos::default(),
        types: Default::default(),
    };
    machine.apply(4, &batch(Tenure(0), Stamp(5), vec![begin, proxy, open]));
    let publishes = (0..3).map(|i| {
        let Command::Publish(mut publish) = publish(4, 1 + 4 * i, &[5, 6, 7, 8]) else { panic!() };
        publish.lane.position = 2;
        Command::Publish(publish)
    });
    machine.apply(5, &batch(Tenure(4), Stamp(6), publishes.collect()));
    let part = |outcome, first, last| SettlePart {
        outcome,
        sequences: [SeqRange { first, last }].into_iter().collect(),
        reason: "poison".into(),
    };
    let parts = vec![part(Outcome::Acked, 1, 3), part(Outcome::DeadLettered, 6, 8)];
    let settle = Command::Settle(Settle { proxy: ProxyId(2), revision: 1, fencing: 0, parts });
    let attempts =
        Command::CountAttempts { proxy: ProxyId(2), sequences: [4, 5].into_iter().collect() };
    machine.apply(6, &batch(Tenure(4), Stamp(7), vec![attempts, settle]));
    assert_eq!(machine.channels().count(), 2);
    machine
}

/// The state hash and the image are shared between replicas and kept on disk: they change only
/// with the version.
#[test]
fn image_golden_hash() {
    let machine = sample_machine();
    let image = xxhash_rust::xxh3::xxh3_64(&machine.encode());
    let hashes = format!("{:016x} {image:016x}", machine.hash());
    assert_eq!(hashes, "b004242da7241ece 4d6a162100ba2d75");
}

#[test]
fn damaged_images_are_refused() {
    let machine = sample_machine();
    let good = machine.encode();
    assert_eq!(Machine::decode(&good).map(|m| m.hash()), Ok(machine.hash()));
    assert_eq!(Machine::decode(b"AQM").err(), Some(ImageError::Magic));
    assert_eq!(Machine::decode(b"AQMS\x09").err(), Some(ImageError::Version(9)));
    for at in 0..good.len() {
        for bit in 0..8 {
            let mut bytes = good.clone();
            bytes[at] ^= 1 << bit;
            // Some bits mean nothing to the compressed sets.
            if let Ok(machine) = Machine::decode(&bytes) {
                assert_eq!(machine.encode(), good, "bit {bit} of byte {at} was not missed");
            }
        }
        assert!(Machine::decode(&good[..at]).is_err(), "cut at {at}");
    }
}

proptest! {
    #[test]
    fn random_bytes_are_no_batch_and_no_panic(
        bytes in prop::collection::vec(any::<u8>(), 0..200),
    ) {
        let _ = Batch::decode(Bytes::from(bytes.clone()));
        let _ = Batch::decode(Bytes::from([&[0xAB, 1], &bytes[..]].concat()));
        let _ = Machine::decode(&[b"AQMS\x01", &bytes[..]].concat());
    }

    /// Whatever still decodes can be applied.
    #[test]
    fn mutated_batches_never_panic(
        edits in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
    ) {
        let mut bytes = every_command().encode().to_vec();
        for (at, byte) in edits {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        if let Ok(batch) = Batch::decode(Bytes::from(bytes)) {
            let mut machine = sample_machine();
            machine.apply(7, &batch);
            payload_locations(&batch).for_each(drop);
            prop_assert_eq!(machine.check_ledger(), Ok(()));
            prop_assert_eq!(machine.hash(), machine.recompute_hash());
        }
    }
}
