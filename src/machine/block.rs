//! The events of a publish as they travel: per event a `u32` length (little endian), then its
//! bytes.

use bytes::Bytes;

use super::{Batch, Command, Publish};
use crate::types::{EventBytes, EventError, LaneId, Payload, Stamp, limits};

/// Bytes of the length in front of each event.
pub const EVENT_PREFIX_BYTES: usize = 4;

/// The lengths and offsets of a block's events. Ends early where a length overruns the block.
#[derive(Debug, Clone)]
pub(super) struct Lengths<'a> {
    block: &'a [u8],
    offset: usize,
}

impl<'a> Lengths<'a> {
    pub fn of(block: &'a [u8]) -> Lengths<'a> {
        Lengths { block, offset: 0 }
    }

    /// Whether every byte of the block was accounted for.
    pub fn at_end(&self) -> bool {
        self.offset == self.block.len()
    }
}

impl Iterator for Lengths<'_> {
    /// Offset of the event's first byte, and its length.
    type Item = (usize, u32);

    #[inline]
    fn next(&mut self) -> Option<(usize, u32)> {
        let (prefix, rest) = self.block.get(self.offset..)?.split_first_chunk()?;
        let length = u32::from_le_bytes(*prefix);
        if length as usize > rest.len() {
            return None;
        }
        let start = self.offset + EVENT_PREFIX_BYTES;
        self.offset = start + length as usize;
        Some((start, length))
    }
}

/// Whether `block` is exactly `count` events.
pub fn block_holds(block: &[u8], count: u32) -> bool {
    let mut lengths = Lengths::of(block);
    let found = lengths.by_ref().take(count as usize).count();
    found == count as usize && lengths.at_end()
}

/// The events of a publish, shared with its block. Ends early where the block is malformed.
pub fn events(publish: &Publish) -> impl Iterator<Item = Bytes> + '_ {
    Lengths::of(&publish.events)
        .take(publish.count as usize)
        .map(|(start, length)| publish.events.slice(start..start + length as usize))
}

/// One event of an entry, found by its position.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PayloadLocation {
    /// Place among the events of the entry, from 0.
    pub position: u32,
    pub lane: LaneId,
    /// Its sequence on that lane.
    pub sequence: u64,
    /// The event's bytes, shared with the entry.
    pub bytes: Bytes,
}

impl PayloadLocation {
    /// The payload as storage and consumers know it; an error if the bytes are not an event.
    pub fn payload(self, accepted: Stamp) -> Result<Payload, EventError> {
        let event = EventBytes::check(self.bytes, limits::EVENT_BYTES_CEILING)?;
        Ok(Payload { lane: self.lane, sequence: self.sequence, accepted, event })
    }
}

/// Every event of the entry, in the order of positions; refused ones have positions too.
pub fn payload_locations(batch: &Batch) -> impl Iterator<Item = PayloadLocation> + '_ {
    publishes(batch).flat_map(|(base, publish)| {
        events(publish).enumerate().map(move |(i, bytes)| locate(publish, base, i as u32, bytes))
    })
}

/// The event at `position` of the entry, without looking at those of other publishes.
pub fn payload_location(batch: &Batch, position: u32) -> Option<PayloadLocation> {
    let (base, publish) = publishes(batch)
        .find(|(base, publish)| position.checked_sub(*base).is_some_and(|i| i < publish.count))?;
    let i = position - base;
    let bytes = events(publish).nth(i as usize)?;
    Some(locate(publish, base, i, bytes))
}

fn locate(publish: &Publish, base: u32, i: u32, bytes: Bytes) -> PayloadLocation {
    PayloadLocation {
        position: base.saturating_add(i),
        lane: publish.lane,
        sequence: publish.first_sequence.saturating_add(u64::from(i)),
        bytes,
    }
}

/// The publishes of the entry, each with the position of its first event.
pub(super) fn publishes(batch: &Batch) -> impl Iterator<Item = (u32, &Publish)> {
    let publishes = batch.commands.iter().filter_map(|command| match command {
        Command::Publish(publish) => Some(publish),
        _ => None,
    });
    publishes.scan(0u32, |next, publish| {
        let base = *next;
        *next = base.saturating_add(publish.count);
        Some((base, publish))
    })
}
