//! Deliveries: many small heads, then the events' bytes in the same order.

use bytes::{Bytes, BytesMut};
use serde::{Deserialize, Serialize};

use super::codec::{Payload, WireError, put_head, take_head};
use crate::types::{EventBytes, LaneId, Name, Seq, Stamp, Tenure, limits};

/// Events up to this size are copied together; larger ones are shared.
const COPY_BYTES_MAX: usize = 1 << 10;

/// Events for one consumer, in delivery order.
#[derive(Debug, Clone, PartialEq)]
pub struct Deliver {
    pub consumer: u32,
    pub tenure: Tenure,
    /// At most [`limits::FRAME_EVENTS_MAX`]; the sender splits.
    pub events: Vec<Delivery>,
}

/// One event on its way to a consumer.
#[derive(Debug, Clone, PartialEq)]
pub struct Delivery {
    pub seq: Seq,
    /// The tenure it was delivered in: that of its [`Deliver`].
    pub tenure: Tenure,
    /// The lane it was published on.
    pub lane: LaneId,
    /// Its sequence on that lane.
    pub sequence: u64,
    /// The how many-eth delivery this is, as far as is known; from 1.
    pub delivery: u32,
    /// It may have been delivered before, under an earlier leader or in this tenure.
    pub maybe_redelivered: bool,
    /// Of an exclusive proxy: the token of the consumer that holds it, which only rises from one to
    /// the next; to be named when it is settled. 0: the proxy is not exclusive.
    pub fencing: u64,
    /// When it was accepted.
    pub accepted: Stamp,
    /// In a dead-letter channel: where it comes from.
    pub dead_letter: Option<Box<DeadLetter>>,
    pub event: EventBytes,
}

/// Why an event lies in a dead-letter channel.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeadLetter {
    /// The channel it was published to.
    pub channel: Name,
    /// The proxy that could not deliver it.
    pub proxy: Name,
    /// Its sequence in that channel.
    pub seq: Seq,
    /// How often delivery was tried.
    pub attempts: u32,
    pub reason: String,
}

#[derive(Serialize, Deserialize)]
struct DeliverHead {
    consumer: u32,
    tenure: Tenure,
    count: u32,
}

/// As on the wire: a delivery with the length of its event instead of the event.
#[derive(Serialize, Deserialize)]
struct DeliveryHead<D> {
    seq: Seq,
    lane: LaneId,
    sequence: u64,
    delivery: u32,
    maybe_redelivered: bool,
    fencing: u64,
    accepted: Stamp,
    dead_letter: Option<D>,
    event_bytes: u32,
}

impl Delivery {
    fn head(&self) -> DeliveryHead<&DeadLetter> {
        DeliveryHead {
            seq: self.seq,
            lane: self.lane,
            sequence: self.sequence,
            delivery: self.delivery,
            maybe_redelivered: self.maybe_redelivered,
            fencing: self.fencing,
            accepted: self.accepted,
            dead_letter: self.dead_letter.as_deref(),
            event_bytes: self.event.len() as u32,
        }
    }
}

impl DeliveryHead<Box<DeadLetter>> {
    fn with(self, tenure: Tenure, event: EventBytes) -> Delivery {
        Delivery {
            seq: self.seq,
            tenure,
            lane: self.lane,
            sequence: self.sequence,
            delivery: self.delivery,
            maybe_redelivered: self.maybe_redelivered,
            fencing: self.fencing,
            accepted: self.accepted,
            dead_letter: self.dead_letter,
            event,
        }
    }
}

impl Payload for Deliver {
    const KIND: u8 = 0x49;

    fn encode_body(&self) -> Vec<Bytes> {
        let (consumer, tenure) = (self.consumer, self.tenure);
        let count = self.events.len() as u32;
        let small = self.events.iter().map(|d| 48 + d.event.len().min(COPY_BYTES_MAX)).sum();
        let mut heads =
            put_head(Vec::with_capacity(small), &DeliverHead { consumer, tenure, count });
        for delivery in &self.events {
            heads = put_head(heads, &delivery.head());
        }
        gather(heads, self.events.iter().map(|delivery| delivery.event.as_bytes()))
    }

    fn decode_body(body: Bytes) -> Result<Deliver, WireError> {
        let kind = Self::KIND;
        let (head, mut at) = take_head::<DeliverHead>(kind, &body)?;
        let (found, max) = (head.count as usize, limits::FRAME_EVENTS_MAX);
        if found > max {
            return Err(WireError::TooMany { kind, what: "events", found, max });
        }
        let mut heads = Vec::with_capacity(found.min(body.len()));
        for _ in 0..found {
            let rest = body.get(at..).unwrap_or_default();
            let (delivery, used) = take_head::<DeliveryHead<Box<DeadLetter>>>(kind, rest)?;
            heads.push(delivery);
            at += used;
        }
        let events = attach_events(head.tenure, heads, body.slice(at..))?;
        Ok(Deliver { consumer: head.consumer, tenure: head.tenure, events })
    }
}

/// `bytes` followed by all events: small ones copied behind it, large ones as they are.
fn gather<'a>(bytes: Vec<u8>, events: impl Iterator<Item = &'a Bytes>) -> Vec<Bytes> {
    let mut parts = Vec::new();
    let mut gathered = BytesMut::from(Bytes::from(bytes));
    for event in events {
        if event.len() <= COPY_BYTES_MAX {
            gathered.extend_from_slice(event);
        } else {
            parts.push(gathered.split().freeze());
            parts.push(event.clone());
        }
    }
    if !gathered.is_empty() {
        parts.push(gathered.freeze());
    }
    parts
}

/// Cuts the tail into the events the heads announce; it must hold exactly those.
fn attach_events(
    tenure: Tenure,
    heads: Vec<DeliveryHead<Box<DeadLetter>>>,
    mut tail: Bytes,
) -> Result<Vec<Delivery>, WireError> {
    let mut events = Vec::with_capacity(heads.len());
    for (position, head) in heads.into_iter().enumerate() {
        let len = head.event_bytes as usize;
        if len > tail.len() {
            return Err(WireError::Block { position });
        }
        let event = EventBytes::check(tail.split_to(len), limits::EVENT_BYTES_CEILING)
            .map_err(|error| WireError::Event { position, error })?;
        events.push(head.with(tenure, event));
    }
    match tail.len() {
        0 => Ok(events),
        bytes => Err(WireError::Trailing { kind: Deliver::KIND, bytes }),
    }
}
