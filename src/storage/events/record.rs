//! The bytes of one event, in a segment and on the way between members. They say themselves whose
//! they are and whether they are whole.
//!
//! Little endian: u32 crc32 of the rest, u64 and u32 payload key, u64 and u32 lane, u64 sequence,
//! u64 accepted, u32 length, bytes.

use bytes::{Buf, BufMut, Bytes};

use crate::planted::{Bug, planted};
use crate::types::limits::EVENT_BYTES_CEILING;
use crate::types::{EventBytes, LaneId, Payload, PayloadKey, Stamp};

const FIXED_BYTES: usize = 48;

/// Appends the record of an event.
pub fn encode(key: PayloadKey, payload: &Payload, to: &mut Vec<u8>) {
    let start = to.len();
    to.put_u32_le(0);
    to.put_u64_le(key.index);
    to.put_u32_le(key.position);
    to.put_u64_le(payload.lane.index);
    to.put_u32_le(payload.lane.position);
    to.put_u64_le(payload.sequence);
    to.put_u64_le(payload.accepted.0);
    to.put_u32_le(payload.event.len() as u32);
    to.put_slice(payload.event.as_bytes());
    let crc = crc32fast::hash(&to[start + 4..]);
    to[start..start + 4].copy_from_slice(&crc.to_le_bytes());
}

/// Splits the next record off, unchecked: its key, and all its bytes.
pub fn next(rest: &mut Bytes) -> Option<(PayloadKey, Bytes)> {
    let mut fixed = rest.get(..FIXED_BYTES)?;
    fixed.advance(4);
    let key = PayloadKey { index: fixed.get_u64_le(), position: fixed.get_u32_le() };
    fixed.advance(28);
    let end = FIXED_BYTES.checked_add(fixed.get_u32_le() as usize)?;
    (end <= rest.len()).then(|| (key, rest.split_to(end)))
}

/// The event of a record that [`next`] split off; `None` if it is not whole.
pub fn decode(bytes: Bytes) -> Option<Payload> {
    let mut fixed = bytes.get(..FIXED_BYTES)?;
    let crc = fixed.get_u32_le();
    if crc != crc32fast::hash(bytes.get(4..)?) && !planted(Bug::EventCrcIgnored) {
        return None;
    }
    fixed.advance(12);
    let lane = LaneId { index: fixed.get_u64_le(), position: fixed.get_u32_le() };
    let (sequence, accepted) = (fixed.get_u64_le(), Stamp(fixed.get_u64_le()));
    let event = EventBytes::check(bytes.slice(FIXED_BYTES..), EVENT_BYTES_CEILING).ok()?;
    Some(Payload { lane, sequence, accepted, event })
}
