//! The events of a publish, back to back: per event its length (`u32`, little endian), then its
//! bytes. The same bytes go into the log.

use bytes::{BufMut, Bytes, BytesMut};

use super::codec::WireError;
use crate::types::{EventBytes, limits};

const LEN_BYTES: usize = 4;

/// A checked events block: as many events as it says, each of them well-formed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EventsBlock {
    count: u32,
    bytes: Bytes,
}

impl EventsBlock {
    /// Checks a block that came from outside: exactly `count` (at most
    /// [`limits::FRAME_EVENTS_MAX`], at least 1) well-formed events of at most `event_bytes_max`
    /// bytes each.
    pub fn check(
        bytes: Bytes,
        count: u32,
        event_bytes_max: usize,
    ) -> Result<EventsBlock, WireError> {
        let mut found: u32 = 0;
        for event in events(&bytes, event_bytes_max) {
            event?;
            found += 1;
            if found > count {
                break;
            }
        }
        if found != count || found == 0 || found as usize > limits::FRAME_EVENTS_MAX {
            let why = format!("{count} events announced, {found} found, or none, or too many");
            return Err(WireError::Malformed {
                kind: <super::Publish as super::Payload>::KIND,
                why,
            });
        }
        Ok(EventsBlock { count, bytes })
    }

    /// How many events it holds.
    pub fn count(&self) -> u32 {
        self.count
    }

    /// The events, sharing the block's bytes.
    pub fn events(&self) -> impl Iterator<Item = EventBytes> + '_ {
        events(&self.bytes, limits::EVENT_BYTES_CEILING).map_while(Result::ok)
    }

    /// The bytes of the block.
    pub fn as_bytes(&self) -> &Bytes {
        &self.bytes
    }

    pub fn into_bytes(self) -> Bytes {
        self.bytes
    }
}

/// Walks a block; ends after the first error.
fn events(block: &Bytes, max: usize) -> impl Iterator<Item = Result<EventBytes, WireError>> + '_ {
    let mut at = 0;
    let mut position = 0;
    std::iter::from_fn(move || {
        if at >= block.len() {
            return None;
        }
        let event = event_at(block, at, max, position);
        at = match &event {
            Ok(event) => at + LEN_BYTES + event.len(),
            Err(_) => block.len(),
        };
        position += 1;
        Some(event)
    })
}

fn event_at(
    block: &Bytes,
    at: usize,
    max: usize,
    position: usize,
) -> Result<EventBytes, WireError> {
    let cut = WireError::Block { position };
    let len =
        block.get(at..).and_then(|rest| rest.first_chunk::<LEN_BYTES>()).ok_or(cut.clone())?;
    let start = at + LEN_BYTES;
    let end = start + u32::from_le_bytes(*len) as usize;
    if end > block.len() {
        return Err(cut);
    }
    EventBytes::check(block.slice(start..end), max)
        .map_err(|error| WireError::Event { position, error })
}

/// Collects events into a block.
#[derive(Debug, Default)]
pub struct EventsBlockBuilder {
    count: u32,
    bytes: BytesMut,
}

impl EventsBlockBuilder {
    pub fn new() -> EventsBlockBuilder {
        EventsBlockBuilder::default()
    }

    /// Whether one more event keeps the block within the limits of a frame. An empty block takes
    /// any event.
    pub fn has_room(&self, event: &EventBytes) -> bool {
        self.count == 0
            || (self.count as usize) < limits::FRAME_EVENTS_MAX
                && self.bytes.len() + LEN_BYTES + event.len() <= limits::FRAME_BYTES_TARGET
    }

    /// Appends an event. Callers ask [`EventsBlockBuilder::has_room`] before.
    pub fn push(&mut self, event: &EventBytes) {
        self.bytes.reserve(LEN_BYTES + event.len());
        self.bytes.put_u32_le(event.len() as u32);
        self.bytes.put_slice(event.as_bytes());
        self.count += 1;
    }

    /// How many events it holds.
    pub fn count(&self) -> u32 {
        self.count
    }

    /// Bytes of the block so far.
    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Takes the block and starts the next.
    pub fn finish(&mut self) -> EventsBlock {
        let count = std::mem::take(&mut self.count);
        EventsBlock { count, bytes: self.bytes.split().freeze() }
    }
}
