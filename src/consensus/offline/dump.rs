//! What is inside a stopped node's directory, for people who must look. Nothing is changed; damage
//! is shown in its place.

use std::ops::{ControlFlow, RangeInclusive};
use std::path::Path;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use serde::Serialize;

use crate::machine::{Batch, Command, events};
use crate::storage::{
    Entry, Identity, Look, Mark, Piece, RegisterLook, Salvaged, SegmentInside, SnapshotInfo,
};
use crate::types::{Counts, EntryId, EventBytes, NodeId, Outcome, PayloadKey, limits};

use super::super::config::{Proposal, RaftPayload, RaftVote};
use super::super::entry::unpack;
use super::super::member::Member;
use super::OfflineError;
use super::survey::decode;

/// What the registers of a directory say.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Registers {
    pub identity: String,
    pub vote: String,
    /// The last entry purged from the log.
    pub floor: String,
    /// How far the log is known to have been durable.
    pub mark: String,
}

/// Something in a log.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum LogItem {
    Entry(EntryInside),
    /// Between the entry before and the entry after something cannot be read.
    Damage(String),
}

/// One entry of the log.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct EntryInside {
    pub index: u64,
    pub term: u64,
    /// The leader that proposed it.
    pub node: NodeId,
    /// Purged, and still there.
    pub purged: bool,
    pub bytes: usize,
    #[serde(flatten)]
    pub content: Content,
}

/// What an entry holds.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Content {
    Blank,
    Membership {
        /// Two sets while a change is under way.
        voters: Vec<Vec<u64>>,
        members: Vec<Member>,
    },
    Batch {
        tenure: u64,
        /// Replicated time in microseconds since the Unix epoch.
        stamp: u64,
        commands: Vec<CommandInside>,
    },
    /// Its checksum fits, and it makes no sense to this build.
    Unreadable {
        reason: String,
    },
}

/// One command.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(untagged)]
pub enum CommandInside {
    Publish { publish: PublishInside },
    Other(Command),
}

/// A publish without its bytes, unless they were asked for.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct PublishInside {
    pub channel: u64,
    pub lane: String,
    pub epoch: u32,
    pub first_sequence: u64,
    pub count: u32,
    pub bytes: usize,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub bodies_base64: Vec<String>,
}

/// What to show of a log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogFilter {
    /// Indexes of entries.
    pub indexes: RangeInclusive<u64>,
    /// The bodies of events, too.
    pub bodies: bool,
}

/// Shows the log of a stopped node until the visitor breaks off; what its registers say is told
/// first.
pub fn dump_log(
    dir: &Path,
    filter: &LogFilter,
    registers: &mut dyn FnMut(Registers),
    visit: &mut dyn FnMut(LogItem) -> ControlFlow<()>,
) -> Result<(), OfflineError> {
    let look = Look::open(dir)?;
    registers(Registers::of(&look));
    Ok(show_log(&look, filter, visit)?)
}

pub(super) fn show_log(
    look: &Look,
    filter: &LogFilter,
    visit: &mut dyn FnMut(LogItem) -> ControlFlow<()>,
) -> Result<(), crate::storage::StorageError> {
    let purged = look.floor.value().copied().flatten().map(|floor| floor.index);
    let mut end = purged.map_or(0, |purged| purged + 1);
    let mut ended = false;
    look.log(&mut |piece| {
        let flow = match piece {
            Piece::Damage(what) => visit(LogItem::Damage(what)),
            Piece::Entry(entry) if entry.id.index > *filter.indexes.end() => ControlFlow::Break(()),
            Piece::Entry(entry) => {
                end = end.max(entry.id.index + 1);
                let is_purged = purged.is_some_and(|purged| entry.id.index <= purged);
                match filter.indexes.contains(&entry.id.index) {
                    true => visit(LogItem::Entry(EntryInside::of(entry, is_purged, filter.bodies))),
                    false => ControlFlow::Continue(()),
                }
            }
        };
        ended = flow.is_break();
        flow
    })?;
    // sled cuts off what follows a damaged place, without a word.
    let durable = look.mark.value().map_or(0, |mark| mark.end);
    if durable > end && !ended {
        let what =
            format!("the log ends before entry {end}, but entries before {durable} were durable");
        let _ = visit(LogItem::Damage(what));
    }
    Ok(())
}

impl Registers {
    fn of(look: &Look) -> Registers {
        let identity = |identity: &Identity| {
            let Identity { cluster, node, incarnation } = identity;
            format!("node {node} of cluster {cluster}, start {incarnation}")
        };
        let vote = |bytes: &bytes::Bytes| match postcard::from_bytes::<RaftVote>(bytes) {
            Ok(vote) => format!(
                "term {} for node {}{}",
                vote.leader_id.term,
                vote.leader_id.node_id,
                if vote.committed { ", which leads" } else { "" }
            ),
            Err(error) => format!("does not parse: {error}"),
        };
        let floor = |floor: &Option<EntryId>| match floor {
            Some(id) => id.to_string(),
            None => "nothing is purged".into(),
        };
        let mark = |mark: &Mark| format!("entries before {} were durable", mark.end);
        Registers {
            identity: told(&look.identity, identity),
            vote: told(&look.vote, vote),
            floor: told(&look.floor, floor),
            mark: told(&look.mark, mark),
        }
    }
}

fn told<T>(register: &RegisterLook<T>, tell: impl Fn(&T) -> String) -> String {
    match register {
        RegisterLook::Held(value) => tell(value),
        RegisterLook::Missing => "missing".into(),
        RegisterLook::Damaged(why) => format!("DAMAGED: {why}"),
    }
}

impl EntryInside {
    fn of(entry: Entry, purged: bool, bodies: bool) -> EntryInside {
        let (id, bytes) = (entry.id, entry.body.len());
        let content = match unpack(entry) {
            Ok(entry) => Content::of(entry.payload, bodies),
            Err(error) => Content::Unreadable { reason: error.to_string() },
        };
        EntryInside { index: id.index, term: id.term, node: id.node, purged, bytes, content }
    }
}

impl Content {
    fn of(payload: RaftPayload, bodies: bool) -> Content {
        match payload {
            RaftPayload::Blank => Content::Blank,
            RaftPayload::Membership(membership) => Content::Membership {
                voters: membership
                    .get_joint_config()
                    .iter()
                    .map(|set| set.iter().copied().collect())
                    .collect(),
                members: membership.nodes().map(|(_, member)| member.clone()).collect(),
            },
            RaftPayload::Normal(Proposal(bytes)) => match Batch::decode(bytes) {
                Ok(batch) => Content::Batch {
                    tenure: batch.tenure.0,
                    stamp: batch.stamp.0,
                    commands: batch.commands.into_iter().map(|c| inside(c, bodies)).collect(),
                },
                Err(error) => Content::Unreadable { reason: error.to_string() },
            },
        }
    }
}

fn inside(command: Command, bodies: bool) -> CommandInside {
    let Command::Publish(publish) = command else { return CommandInside::Other(command) };
    let body = |event: bytes::Bytes| {
        let event = EventBytes::check(event, limits::EVENT_BYTES_CEILING);
        event.map_or_else(|error| error.to_string(), |e| BASE64_STANDARD.encode(e.body()))
    };
    let bodies_base64 = if bodies { events(&publish).map(body).collect() } else { Vec::new() };
    CommandInside::Publish {
        publish: PublishInside {
            channel: publish.channel.0,
            lane: publish.lane.to_string(),
            epoch: publish.epoch,
            first_sequence: publish.first_sequence,
            count: publish.count,
            bytes: publish.events.len(),
            bodies_base64,
        },
    }
}

/// What is in the event store of a directory.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct StoreInside {
    pub registers: Registers,
    /// The newest first.
    pub snapshots: Vec<SnapshotInside>,
    pub segments: Vec<SegmentShown>,
    /// What is damaged.
    pub findings: Vec<String>,
}

/// One snapshot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct SnapshotInside {
    pub name: String,
    pub last_index: u64,
    pub last_term: u64,
    pub machine_bytes: u64,
    /// Its state, unless that is damaged.
    pub state: Option<StateInside>,
}

/// The replicated state in a snapshot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct StateInside {
    /// As `aqueduct audit` shows it.
    pub hash: String,
    pub tenure: u64,
    pub stamp: u64,
    pub members: Vec<Member>,
    pub voters: Vec<u64>,
    /// The greatest node id ever given out.
    pub last_node: u64,
    pub lanes: usize,
    /// Events whose bytes are needed.
    pub live_events: usize,
    pub channels: Vec<ChannelInside>,
}

/// A channel in a snapshot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ChannelInside {
    pub id: u64,
    pub name: String,
    pub accepted: u64,
    pub retained: u64,
    pub first_retained: u64,
    pub pending: u64,
    pub consumers: Vec<ConsumerInside>,
}

/// A durable consumer in a snapshot, with its ledger.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ConsumerInside {
    pub id: u64,
    pub name: String,
    pub start_seq: u64,
    pub floor: u64,
    pub pending: u64,
    /// Outcome and how many events ended so.
    pub outcomes: Vec<(String, u64)>,
}

/// A segment file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct SegmentShown {
    pub name: String,
    pub bytes: u64,
    pub events: usize,
    /// Payload keys, `index.position`.
    pub first: Option<String>,
    pub last: Option<String>,
}

/// Looks into the event store of a stopped node.
pub fn dump_store(dir: &Path) -> Result<StoreInside, OfflineError> {
    show_store(&Look::open(dir)?)
}

pub(super) fn show_store(look: &Look) -> Result<StoreInside, OfflineError> {
    let salvaged = look.events()?;
    let mut findings = salvaged.findings.clone();
    let mut snapshots = Vec::new();
    for info in &salvaged.snapshots {
        let state = match decode(&salvaged, info) {
            Ok((machine, image)) => Some(state(&machine, &image)),
            Err(error) => {
                findings.push(format!("snapshot {}: {error}", info.name));
                None
            }
        };
        snapshots.push(snapshot(info, state));
    }
    let segment = |inside: SegmentInside| SegmentShown {
        name: inside.file.name,
        bytes: inside.file.len,
        events: inside.keys.len(),
        first: inside.keys.first().map(ToString::to_string),
        last: inside.keys.last().map(ToString::to_string),
    };
    let segments = salvaged.segments();
    findings.extend(segments.iter().filter_map(|inside| damage(&salvaged, inside)));
    let segments = segments.into_iter().map(segment).collect();
    Ok(StoreInside { registers: Registers::of(look), snapshots, segments, findings })
}

/// What is wrong with the events of a segment, all of which are read.
fn damage(salvaged: &Salvaged, inside: &SegmentInside) -> Option<String> {
    let bad = |key: &&PayloadKey| !matches!(salvaged.read(**key), Ok(Some(_)));
    let mut damaged = inside.keys.iter().filter(bad);
    let first = damaged.next()?;
    let (count, of, name) = (1 + damaged.count(), inside.keys.len(), &inside.file.name);
    Some(format!("segment {name}: {count} of {of} events are damaged, {first} is the first"))
}

fn snapshot(info: &SnapshotInfo, state: Option<StateInside>) -> SnapshotInside {
    SnapshotInside {
        name: info.name.clone(),
        last_index: info.last.index,
        last_term: info.last.term,
        machine_bytes: info.machine_bytes,
        state,
    }
}

fn state(machine: &crate::machine::Machine, image: &super::super::snapshot::Image) -> StateInside {
    let membership = image.membership.membership();
    let consumer = |proxy: &crate::machine::Proxy| ConsumerInside {
        id: proxy.id().0,
        name: proxy.name().to_string(),
        start_seq: proxy.start_seq(),
        floor: proxy.floor(),
        pending: machine.pending(proxy),
        outcomes: outcomes(proxy.counts()),
    };
    let channel = |channel: &crate::machine::Channel| ChannelInside {
        id: channel.id().0,
        name: channel.name().to_string(),
        accepted: channel.accepted(),
        retained: channel.retained().events,
        first_retained: channel.first_retained(),
        pending: channel.pending().events,
        consumers: machine.proxies(channel.id()).map(consumer).collect(),
    };
    StateInside {
        hash: format!("{:016x}", machine.hash()),
        tenure: machine.tenure().0,
        stamp: machine.stamp().0,
        members: membership.nodes().map(|(_, member)| member.clone()).collect(),
        voters: membership.voter_ids().collect(),
        last_node: image.last_node,
        lanes: machine.lanes().count(),
        live_events: machine.live_keys().count(),
        channels: machine.channels().map(channel).collect(),
    }
}

fn outcomes(counts: &Counts) -> Vec<(String, u64)> {
    let count = |outcome: Outcome| (outcome.to_string(), counts.get(outcome));
    Outcome::ALL.map(count).into_iter().filter(|(_, n)| *n > 0).collect()
}
