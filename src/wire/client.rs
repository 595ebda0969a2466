//! What a client says on a data connection.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::block::EventsBlock;
use super::codec::{Payload, WireError, messages, put_head, take_head};
use crate::types::{
    LaneId, Name, Opener, ProxyId, Qos, Seq, SeqRanges, Start, Subscription, limits,
};

messages! {
    /// A message from client to server.
    ClientMessage {
        0x10 OpenLane head,
        0x11 Publish tail,
        0x12 Skip head,
        0x13 Serve head,
        0x14 Polled head,
        0x18 Attach head,
        0x19 Credit head,
        0x1a Pull head,
        0x1b Settle head,
        0x1c Detach head,
        0x1f Ping head,
    }
}

/// Opens a lane on a channel. Answered by `LaneOpened` or `Failed`. One that is overtaken by a later
/// opening of the same client, over whatever connection, is refused and fences nobody.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OpenLane {
    /// Chosen by the client, repeated in the answer.
    pub request: u32,
    pub channel: Name,
    pub target: LaneTarget,
    pub opener: Opener,
    /// The supplier admin of a new lane, which an existing one must be of, too.
    pub admin: Option<Name>,
}

/// Which lane to open.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum LaneTarget {
    /// A new, nameless lane.
    Fresh,
    /// The lane of this name in the channel, created if there is none.
    Named(Name),
    /// A lane opened before; refused with `unknown_lane` if it expired.
    Existing(LaneId),
}

/// Consecutive events of one lane. Answered by `PublishAck`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Publish {
    pub lane: LaneId,
    /// The epoch that opening the lane answered.
    pub epoch: u32,
    /// Lane sequence of the first event; lane sequences count from 1.
    pub first_sequence: u64,
    /// How many events follow, at most [`limits::FRAME_EVENTS_MAX`].
    pub count: u32,
    /// The events block, raw after the head, unchecked: see [`EventsBlock::check`].
    #[serde(skip)]
    pub events: Bytes,
}

/// Steps over refused lane sequences, through this one. Answered by `Done` or `Failed`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Skip {
    pub request: u32,
    pub lane: LaneId,
    pub epoch: u32,
    pub through: u64,
}

/// Makes an open lane one that the server polls: the client serves a source. Answered only when that
/// ends: by `Failed`, for example because the lane was removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Serve {
    pub request: u32,
    pub lane: LaneId,
    pub epoch: u32,
}

/// Everything for a `Poll` has been published: `count` events, or none if the source had none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Polled {
    pub lane: LaneId,
    pub epoch: u32,
    /// The number of the poll.
    pub poll: u32,
    pub count: u32,
}

/// Attaches a consumer. Answered by `Attached` or `Failed`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attach {
    pub request: u32,
    /// The client's handle for this consumer, unique on the connection.
    pub consumer: u32,
    pub channel: Name,
    pub target: AttachTarget,
    pub mode: FlowMode,
    /// Tells this client from others over all its connections: drawn at random when it starts.
    pub client: u64,
}

/// What a consumer attaches to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum AttachTarget {
    /// A cursor of its own in the leader's memory: every event, nothing to settle.
    Volatile {
        start: Start,
        /// After a reconnect: the last sequence seen, instead of `start`.
        resume_after: Option<Seq>,
        /// The types of events it wants; none named: all.
        types: Subscription,
    },
    /// The durable proxy of this name, created if there is none; its clients compete.
    Durable {
        name: Name,
        /// For a new proxy.
        start: Start,
        /// The consumer admin of a new proxy, which an existing one must be of, too.
        admin: Option<Name>,
        /// What is set for a new proxy itself; an existing one must have all of it.
        qos: Qos,
        /// The types of events that a new proxy wants, which an existing one must want, too. None
        /// named: all, or whatever an existing one wants.
        types: Subscription,
    },
}

/// How deliveries flow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum FlowMode {
    /// The server sends while there is credit; only `Credit` adds to it.
    Push { credit_events: u32, credit_bytes: u64 },
    /// The server sends what `Pull` asks for.
    Pull,
}

/// Adds credit to a push consumer. Bounded by [`limits::CREDIT_EVENTS_MAX`] and
/// [`limits::CREDIT_BYTES_MAX`] in sum.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Credit {
    pub consumer: u32,
    pub events: u32,
    pub bytes: u64,
}

/// Asks for events. Answered by any number of `Deliver`, then `PullDone`; or by `Failed`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pull {
    pub request: u32,
    pub consumer: u32,
    pub events_max: u32,
    /// At least one event is delivered, however large.
    pub bytes_max: u64,
    /// How long to wait for a first event, in milliseconds.
    pub wait_ms: u64,
}

/// What became of deliveries. Accepted on any connection. Answered by `SettleConfirmed` once
/// committed; the client resends until then.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Settle {
    /// Chosen by the client, repeated in the answer.
    pub batch: u64,
    pub proxy: ProxyId,
    /// Of an exclusive proxy: the token of the deliveries that it is about; else 0. With another than
    /// the current one it is refused with `fenced`.
    pub fencing: u64,
    /// Processed.
    #[serde(with = "super::ranges")]
    pub acks: SeqRanges,
    /// To be delivered again.
    pub nacks: Vec<Nack>,
    /// Never to be delivered again: to the dead-letter channel.
    pub terms: Vec<Terminate>,
    /// Still being processed: extends their leases. Not confirmed.
    #[serde(with = "super::ranges")]
    pub touches: SeqRanges,
}

/// Sequences to be delivered again after a delay.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Nack {
    #[serde(with = "super::ranges")]
    pub sequences: SeqRanges,
    /// At most [`limits::NACK_DELAY_MS_MAX`].
    pub delay_ms: u64,
}

/// Sequences given up by their consumer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Terminate {
    #[serde(with = "super::ranges")]
    pub sequences: SeqRanges,
    /// Why, in words; kept beside the dead letter.
    pub reason: String,
}

/// Ends a consumer. Answered by `Closed` after its last delivery; unsettled deliveries of a
/// durable proxy go to others at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Detach {
    pub consumer: u32,
}

/// Answered by `Pong` with the same number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ping {
    pub nonce: u64,
}

impl Publish {
    /// A publish of a whole block.
    pub fn new(lane: LaneId, epoch: u32, first_sequence: u64, block: EventsBlock) -> Publish {
        let (count, events) = (block.count(), block.into_bytes());
        Publish { lane, epoch, first_sequence, count, events }
    }
}

impl Payload for Publish {
    const KIND: u8 = 0x11;

    fn encode_body(&self) -> Vec<Bytes> {
        vec![Bytes::from(put_head(Vec::new(), self)), self.events.clone()]
    }

    fn decode_body(body: Bytes) -> Result<Publish, WireError> {
        let (head, used) = take_head::<Publish>(Self::KIND, &body)?;
        let (found, max) = (head.count as usize, limits::FRAME_EVENTS_MAX);
        if found > max {
            return Err(WireError::TooMany { kind: Self::KIND, what: "events", found, max });
        }
        Ok(Publish { events: body.slice(used..), ..head })
    }
}
