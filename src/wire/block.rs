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
        let kind = <super::Publish as super::Payload>::KIND;
        if count as usize > limits::FRAME_EVENTS_MAX {
            let (found, max) = (count as usize, limits::FRAME_EVENTS_MAX);
            return Err(WireError::TooMany { kind, what: "events", found, max });
        }
        let mut found: u32 = 0;
        for event in events(&bytes, event_bytes_max) {
            event?;
            found += 1;
        }
        if found != count || count == 0 {
            let why = format!("{count} events are announced and {found} follow");
            return Err(WireError::Malformed { kind, why });
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::{Event, EventError};

    fn event(bytes: usize) -> EventBytes {
        Event::of_body(vec![7; bytes - 12]).encode().unwrap()
    }

    fn block_of(sizes: &[usize]) -> EventsBlock {
        let mut builder = EventsBlockBuilder::new();
        sizes.iter().for_each(|&bytes| builder.push(&event(bytes)));
        builder.finish()
    }

    #[test]
    fn what_is_pushed_comes_back() {
        let block = block_of(&[12, 13, 300]);
        let checked = EventsBlock::check(block.as_bytes().clone(), 3, 300).unwrap();
        assert_eq!(checked, block);
        assert_eq!(checked.events().map(|e| e.len()).collect::<Vec<_>>(), [12, 13, 300]);
    }

    #[test]
    fn a_builder_starts_afresh_and_knows_its_limits() {
        let mut builder = EventsBlockBuilder::new();
        assert!(builder.has_room(&event(limits::FRAME_BYTES_TARGET * 2)), "empty takes any");
        builder.push(&event(100));
        assert!(builder.has_room(&event(100)));
        assert!(!builder.has_room(&event(limits::FRAME_BYTES_TARGET - 104)), "by bytes");
        assert_eq!((builder.count(), builder.len()), (1, 104));
        assert_eq!(builder.finish().count(), 1);
        assert!(builder.is_empty());
        (0..limits::FRAME_EVENTS_MAX).for_each(|_| builder.push(&event(12)));
        assert!(!builder.has_room(&event(12)), "by count");
    }

    #[test]
    fn bad_blocks_are_named() {
        let good = block_of(&[20, 30]).into_bytes();
        let check = |bytes: Bytes, count| EventsBlock::check(bytes, count, 30).unwrap_err();
        let malformed = |e| matches!(e, WireError::Malformed { .. });
        assert!(malformed(check(good.clone(), 1)), "more than announced");
        assert!(malformed(check(good.clone(), 3)), "fewer than announced");
        assert!(malformed(check(Bytes::new(), 0)), "none");
        assert_eq!(check(good.slice(..good.len() - 1), 2), WireError::Block { position: 1 });
        assert_eq!(check(good.slice(..good.len() - 32), 2), WireError::Block { position: 1 });
        assert!(matches!(check(good, u32::MAX), WireError::TooMany { .. }));
        assert_eq!(
            check(block_of(&[20, 31]).into_bytes(), 2),
            WireError::Event { position: 1, error: EventError::TooLarge { bytes: 31, max: 30 } }
        );
        assert_eq!(
            check(Bytes::from_static(&[1, 0, 0, 0, 9]), 1),
            WireError::Event { position: 0, error: EventError::Short(1) }
        );
    }
}
