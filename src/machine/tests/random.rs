//! Random commands: aimed at what exists, often at its borders, now and then at nothing.

use proptest::prelude::*;
use proptest::sample::select;

use super::model::Model;
use super::{block, typed_block};
use crate::machine::{Command, LaneTarget, Publish, ReplayTo, Settle, SettlePart, Target};
use crate::types::{
    ChannelId, DedupKey, Event, LaneId, Member, Name, NodeId, Opener, Outcome, Property, ProxyId,
    Qos, SeqRange, SeqRanges, Side, Start, TypePattern,
};

/// A command before it is known what exists: numbers pick among what does.
#[derive(Debug, Clone)]
pub enum Op {
    BeginTenure,
    CreateChannel {
        name: u8,
        settings: u8,
    },
    DeleteChannel {
        pick: u8,
    },
    CreateProxy {
        pick: u8,
        name: u8,
        flight: u8,
        start: u8,
        types: Vec<u8>,
    },
    DeleteProxy {
        pick: u8,
    },
    CreateAdmin {
        pick: u8,
        name: u8,
        value: i8,
        types: Vec<u8>,
    },
    DeleteAdmin {
        pick: u8,
        name: u8,
    },
    SetQos {
        pick: u8,
        level: u8,
        changes: Vec<(u8, Option<i8>)>,
    },
    Suspend {
        pick: u8,
        level: u8,
        suspended: bool,
    },
    Subscribe {
        pick: u8,
        level: u8,
        add: Vec<u8>,
        remove: Vec<u8>,
    },
    OpenLane {
        pick: u8,
        target: u8,
        client: u8,
        attempt: u8,
    },
    ExpireLanes,
    Publish {
        pick: u8,
        behind: i8,
        stale: bool,
        sizes: Vec<u32>,
    },
    /// Events with these ids; 0: with none.
    PublishIds {
        pick: u8,
        behind: i8,
        ids: Vec<u8>,
    },
    Skip {
        pick: u8,
        ahead: u8,
    },
    Settle {
        pick: u8,
        stale: bool,
        parts: Vec<(Outcome, Vec<(u8, u8)>)>,
    },
    CountAttempts {
        pick: u8,
        ranges: Vec<(u8, u8)>,
    },
    MarkActive {
        pick: u8,
    },
    ExpireProxies,
    Trim,
    Hold {
        pick: u8,
        member: u8,
    },
    Checkpoint,
    Replay {
        pick: u8,
        all: bool,
        ranges: Vec<(u8, u8)>,
    },
    Drop {
        pick: u8,
        ranges: Vec<(u8, u8)>,
    },
    /// Every number of the command is one of these.
    Nonsense {
        kind: u8,
        a: u64,
        b: u64,
    },
}

fn ranges() -> impl Strategy<Value = Vec<(u8, u8)>> {
    prop::collection::vec((0u8..24, 0u8..8), 0..4)
}

/// Those that facts follow from.
fn property() -> impl Strategy<Value = u8> {
    let later = [
        Property::HistoryEvents,
        Property::HistoryBytes,
        Property::HistoryAge,
        Property::ExclusiveConsumer,
        Property::InactivityExpiry,
    ];
    prop_oneof![4 => 0u8..17, 1 => select(later.map(|property| property as u8).to_vec())]
}

/// Numbers of patterns: see `pattern`.
fn patterns() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![3 => Just(Vec::new()), 2 => prop::collection::vec(0u8..6, 1..4)]
}

fn outcome() -> impl Strategy<Value = Outcome> {
    let dead = Just(Outcome::DeadLettered);
    prop_oneof![4 => Just(Outcome::Acked), 1 => dead, 3 => select(&Outcome::ALL[..])]
}

pub fn op() -> impl Strategy<Value = Op> {
    let extreme = prop_oneof![0u64..12, Just(u64::MAX), Just(u64::MAX - 1), Just(1 << 32)];
    prop_oneof![
        1 => Just(Op::BeginTenure),
        2 => (0u8..4, 0u8..4).prop_map(|(name, settings)| Op::CreateChannel { name, settings }),
        1 => any::<u8>().prop_map(|pick| Op::DeleteChannel { pick }),
        5 => (any::<u8>(), 0u8..4, 0u8..3, 0u8..30, patterns()).prop_map(
            |(pick, name, flight, start, types)| {
                Op::CreateProxy { pick, name, flight, start, types }
            }
        ),
        1 => any::<u8>().prop_map(|pick| Op::DeleteProxy { pick }),
        1 => (any::<u8>(), 0u8..8, -1i8..5, patterns())
            .prop_map(|(pick, name, value, types)| Op::CreateAdmin { pick, name, value, types }),
        1 => (any::<u8>(), 0u8..8).prop_map(|(pick, name)| Op::DeleteAdmin { pick, name }),
        3 => (any::<u8>(), any::<u8>(),
              prop::collection::vec((property(), prop::option::of(-1i8..6)), 0..3))
            .prop_map(|(pick, level, changes)| Op::SetQos { pick, level, changes }),
        1 => (any::<u8>(), any::<u8>(), any::<bool>())
            .prop_map(|(pick, level, suspended)| Op::Suspend { pick, level, suspended }),
        2 => (any::<u8>(), any::<u8>(), patterns(), patterns())
            .prop_map(|(pick, level, add, remove)| Op::Subscribe { pick, level, add, remove }),
        6 => (any::<u8>(), any::<u8>(), 0u8..3, 0u8..8).prop_map(
            |(pick, target, client, attempt)| Op::OpenLane { pick, target, client, attempt }
        ),
        1 => Just(Op::ExpireLanes),
        24 => (any::<u8>(), prop_oneof![4 => Just(0i8), 2 => -1i8..8], prop::bool::weighted(0.05),
               prop::collection::vec(0u32..24, 0..12))
            .prop_map(|(pick, behind, stale, sizes)| Op::Publish { pick, behind, stale, sizes }),
        8 => (any::<u8>(), prop_oneof![4 => Just(0i8), 1 => -1i8..4],
              prop::collection::vec(0u8..6, 0..6))
            .prop_map(|(pick, behind, ids)| Op::PublishIds { pick, behind, ids }),
        2 => (any::<u8>(), 0u8..5).prop_map(|(pick, ahead)| Op::Skip { pick, ahead }),
        20 => (any::<u8>(), prop::bool::weighted(0.1),
               prop::collection::vec((outcome(), ranges()), 0..3))
            .prop_map(|(pick, stale, parts)| Op::Settle { pick, stale, parts }),
        4 => (any::<u8>(), ranges()).prop_map(|(pick, ranges)| Op::CountAttempts { pick, ranges }),
        2 => Just(Op::Trim),
        2 => any::<u8>().prop_map(|pick| Op::MarkActive { pick }),
        2 => Just(Op::ExpireProxies),
        3 => (any::<u8>(), 0u8..4).prop_map(|(pick, member)| Op::Hold { pick, member }),
        1 => Just(Op::Checkpoint),
        4 => (any::<u8>(), any::<bool>(), ranges())
            .prop_map(|(pick, all, ranges)| Op::Replay { pick, all, ranges }),
        2 => (any::<u8>(), ranges()).prop_map(|(pick, ranges)| Op::Drop { pick, ranges }),
        2 => (any::<u8>(), extreme.clone(), extreme)
            .prop_map(|(kind, a, b)| Op::Nonsense { kind, a, b }),
    ]
}

fn pick<K: Copy>(keys: impl ExactSizeIterator<Item = K>, pick: u8) -> Option<K> {
    let len = keys.len();
    keys.into_iter().nth(usize::from(pick) % len.max(1))
}

fn name(i: u8) -> Name {
    let names = ["default", "a", "b", "a.dead"];
    Name::new(names[usize::from(i) % names.len()]).unwrap()
}

fn side(i: u8) -> Side {
    if i % 8 < 4 { Side::Consumer } else { Side::Supplier }
}

fn channel_qos(i: u8) -> Qos {
    let (events, bytes, pending) =
        [(0, 0, 1 << 20), (5, 1 << 20, 200), (1000, 60, 1 << 20), (10, 100, 90)][usize::from(i)];
    Qos::from([
        (Property::MaxQueueBytes, pending),
        (Property::HistoryEvents, events),
        (Property::HistoryBytes, bytes),
    ])
}

/// Ranges without order, overlapping at will: what only a stranger's bytes can hold.
pub fn unordered(ranges: &[(u64, u64)]) -> SeqRanges {
    let ranges: Vec<_> =
        ranges.iter().map(|(first, last)| SeqRange { first: *first, last: *last }).collect();
    postcard::from_bytes(&postcard::to_stdvec(&ranges).unwrap()).unwrap()
}

fn near(floor: u64, ranges: &[(u8, u8)]) -> SeqRanges {
    let around = |(first, len): &(u8, u8)| {
        let first = (floor + u64::from(*first)).saturating_sub(6);
        (first, first + u64::from(*len))
    };
    unordered(&ranges.iter().map(around).collect::<Vec<_>>())
}

fn nth_property(number: u8) -> Property {
    Property::all()[usize::from(number)].property
}

fn pattern(number: &u8) -> TypePattern {
    ["k1", "k*", "*::*", "a::k2", "*", "%ALL::k3"][usize::from(*number)].parse().unwrap()
}

fn quality(property: u8, value: Option<i8>) -> Qos {
    let mut qos = Qos::default();
    qos.set(nth_property(property), value.map(i64::from));
    qos
}

impl Op {
    fn target(&self, channel: ChannelId, proxy: ProxyId, lane: LaneId, level: u8) -> Target {
        match level % 5 {
            0 => Target::Channel(channel),
            1 => Target::Admin(channel, Side::Consumer, name(level / 5)),
            2 => Target::Admin(channel, Side::Supplier, name(level / 5)),
            3 => Target::Lane(lane),
            _ => Target::Proxy(proxy),
        }
    }

    /// The command, as things stand in `model`.
    pub fn command(&self, model: &Model) -> Command {
        let channel = |i| pick(model.channels.keys(), i).copied().unwrap_or(ChannelId(99));
        let proxy = |i| pick(model.proxies.keys(), i).copied().unwrap_or(ProxyId(99));
        let lane = |i| pick(model.lanes.keys(), i).copied().unwrap_or_default();
        let floor = |proxy| model.proxies.get(&proxy).map_or(1, |proxy| proxy.floor());
        match self {
            Op::BeginTenure => Command::BeginTenure { node: NodeId(1) },
            Op::CreateChannel { name: i, settings } => {
                Command::CreateChannel { name: name(*i), qos: channel_qos(*settings) }
            }
            Op::DeleteChannel { pick } => Command::DeleteChannel { channel: channel(*pick) },
            Op::CreateProxy { pick, name: i, flight, start, types } => Command::CreateProxy {
                channel: channel(*pick),
                name: name(*i),
                start: match start {
                    0..=4 => Start::New,
                    5..=14 => Start::All,
                    seq => Start::Seq(u64::from(*seq) - 15),
                },
                admin: (start % 4 == 0).then(|| name(start / 4)),
                qos: match start % 7 {
                    0 => quality(9, Some(*start as i8 - 7)),
                    1 => Qos::from([(Property::MaxInFlight, i64::from(*flight))]),
                    2 => Qos::from([(Property::ExclusiveConsumer, 1)]),
                    _ => Qos::default(),
                },
                types: types.iter().map(pattern).collect(),
            },
            Op::CreateAdmin { pick, name: i, value, types } => Command::CreateAdmin {
                channel: channel(*pick),
                side: side(*i),
                name: name(*i),
                // Orders are of consumers, the number of lanes is of suppliers.
                qos: quality(if value % 2 == 0 { 9 } else { 15 }, Some(*value)),
                types: types.iter().map(pattern).collect(),
            },
            Op::Subscribe { pick, level, add, remove } => Command::Subscribe {
                target: self.target(channel(*pick), proxy(*pick), lane(*pick), *level),
                add: add.iter().map(pattern).collect(),
                remove: remove.iter().map(pattern).collect(),
            },
            Op::DeleteAdmin { pick, name: i } => {
                Command::DeleteAdmin { channel: channel(*pick), side: side(*i), name: name(*i) }
            }
            Op::SetQos { pick, level, changes } => Command::SetQos {
                target: self.target(channel(*pick), proxy(*pick), lane(*pick), *level),
                changes: changes
                    .iter()
                    .map(|(property, value)| (nth_property(*property), value.map(i64::from)))
                    .collect(),
            },
            Op::Suspend { pick, level, suspended } => Command::Suspend {
                target: self.target(channel(*pick), proxy(*pick), lane(*pick), *level),
                suspended: *suspended,
            },
            Op::DeleteProxy { pick } => Command::DeleteProxy { proxy: proxy(*pick) },
            Op::OpenLane { pick, target, client, attempt } => Command::OpenLane {
                channel: channel(*pick),
                target: match target % 4 {
                    0 | 1 => LaneTarget::Fresh,
                    2 => LaneTarget::Named(name(target / 4)),
                    _ => LaneTarget::Existing(lane(target / 4)),
                },
                opener: Opener { client: u64::from(*client), attempt: u64::from(*attempt) },
                admin: (target % 3 == 0).then(|| name(target / 3)),
            },
            Op::ExpireLanes => {
                Command::ExpireLanes { lanes: model.lanes.keys().copied().collect() }
            }
            Op::Publish { pick, behind, stale, sizes } => {
                publish(model, lane(*pick), *behind, *stale, sizes)
            }
            Op::PublishIds { pick, behind, ids } => {
                let mut command = publish(model, lane(*pick), *behind, false, &[]);
                if let Command::Publish(publish) = &mut command {
                    publish.count = ids.len() as u32;
                    publish.events = with_ids(ids);
                }
                command
            }
            Op::Skip { pick, ahead } => {
                let id = lane(*pick);
                let (epoch, next) = model.lanes.get(&id).map_or((1, 1), |l| (l.epoch(), l.next));
                let through = (next + u64::from(*ahead)).saturating_sub(2);
                Command::SkipSequences { lane: id, epoch, through }
            }
            Op::Settle { pick, stale, parts } => {
                let id = proxy(*pick);
                let part = |(outcome, ranges): &(Outcome, Vec<(u8, u8)>)| SettlePart {
                    outcome: *outcome,
                    sequences: near(floor(id), ranges),
                    reason: "why".into(),
                };
                let parts = parts.iter().map(part).collect();
                let known = model.proxies.get(&id).map(|proxy| (proxy.revision(), proxy.fencing));
                let (revision, fencing) = known.unwrap_or((1, 0));
                let (revision, fencing) =
                    (revision + u64::from(*stale), fencing - fencing.min(u64::from(pick % 3)));
                Command::Settle(Settle { proxy: id, revision, fencing, parts })
            }
            Op::CountAttempts { pick, ranges } => {
                let id = proxy(*pick);
                Command::CountAttempts { proxy: id, sequences: near(floor(id), ranges) }
            }
            Op::MarkActive { pick } => Command::MarkActive { proxies: vec![proxy(*pick)] },
            Op::ExpireProxies => {
                Command::ExpireProxies { proxies: model.proxies.keys().copied().collect() }
            }
            Op::Hold { pick, member } => Command::Hold {
                proxy: proxy(*pick),
                holder: (*member > 0).then(|| Member { client: (*member).into(), consumer: 1 }),
            },
            Op::Trim => Command::TrimHistory { channels: model.channels.keys().copied().collect() },
            Op::Checkpoint => Command::Checkpoint,
            Op::Replay { pick, all, ranges } => {
                let (channel, sequences) = letters(model, *pick, ranges);
                let to = if *all { ReplayTo::All } else { ReplayTo::Proxy };
                Command::ReplayLetters { channel, sequences, to }
            }
            Op::Drop { pick, ranges } => {
                let (channel, sequences) = letters(model, *pick, ranges);
                Command::DropLetters { channel, sequences }
            }
            Op::Nonsense { kind, a, b } => nonsense(model, *kind, *a, *b),
        }
    }
}

/// Letters near the oldest of a dead-letter channel; now and then of a channel that has none.
fn letters(model: &Model, i: u8, ranges: &[(u8, u8)]) -> (ChannelId, SeqRanges) {
    let dead = model.channels.iter().filter(|(_, channel)| channel.is_dead_letters());
    let dead: Vec<ChannelId> = dead.map(|(id, _)| *id).collect();
    let known = if i > 250 { None } else { pick(dead.iter().copied(), i) };
    let id = known.unwrap_or(ChannelId(u64::from(i) % 9));
    let first = model.channels.get(&id).and_then(|channel| channel.letters.keys().next().copied());
    (id, near(first.unwrap_or(1) + 4, ranges))
}

fn publish(model: &Model, id: LaneId, behind: i8, stale: bool, sizes: &[u32]) -> Command {
    let (epoch, next) = model.lanes.get(&id).map_or((1, 1), |lane| (lane.epoch(), lane.next));
    let channel = model.lanes.get(&id).map_or(ChannelId(1), |lane| lane.channel);
    Command::Publish(Publish {
        channel,
        lane: id,
        epoch: epoch - u32::from(stale),
        first_sequence: next.saturating_add_signed(-i64::from(behind)),
        count: sizes.len() as u32,
        events: typed_block(sizes),
    })
}

fn nonsense(model: &Model, kind: u8, a: u64, b: u64) -> Command {
    let lane = LaneId { index: a, position: b as u32 };
    let known = pick(model.lanes.iter(), kind / 8);
    let (known, epoch) = known.map_or((lane, 1), |(id, lane)| (*id, lane.epoch()));
    let sequences = unordered(&[(a, b), (b, a), (0, u64::MAX), (a, a)]);
    match kind % 10 {
        0 => Command::DeleteChannel { channel: ChannelId(a) },
        1 => Command::DeleteProxy { proxy: ProxyId(a) },
        2 => Command::ExpireLanes { lanes: vec![lane] },
        3 => Command::Publish(Publish {
            channel: ChannelId(1),
            lane: known,
            epoch,
            first_sequence: a,
            count: 2,
            events: block(&[1, 2]),
        }),
        // A skip to the end of time would leave nothing to test on the lane.
        4 if b == u64::MAX => Command::SkipSequences { lane: known, epoch, through: b },
        4 => Command::SkipSequences { lane, epoch: b as u32, through: a },
        5 => Command::CountAttempts { proxy: ProxyId(a), sequences },
        7 => Command::ReplayLetters { channel: ChannelId(a), sequences, to: ReplayTo::All },
        8 => Command::DropLetters { channel: ChannelId(b), sequences },
        6 => {
            let outcome = Outcome::ALL[(b % 6) as usize];
            let part = SettlePart { outcome, sequences, reason: String::new() };
            Command::Settle(Settle {
                proxy: ProxyId(a),
                revision: 1,
                fencing: b,
                parts: vec![part],
            })
        }
        _ => Command::OpenLane {
            channel: ChannelId(a),
            target: LaneTarget::Existing(if b < 6 { known } else { lane }),
            opener: Opener { client: a, attempt: b },
            admin: None,
        },
    }
}

fn with_ids(ids: &[u8]) -> bytes::Bytes {
    let mut block = Vec::new();
    for id in ids {
        let dedup = (*id > 0).then(|| DedupKey::of("", &id.to_string()));
        let event = Event { dedup, ..Event::of_body("") }.encode().unwrap();
        block.extend_from_slice(&(event.len() as u32).to_le_bytes());
        block.extend_from_slice(event.as_bytes());
    }
    block.into()
}
