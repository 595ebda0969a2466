//! Structured events (OMG Notification Service 1.1, §2.2) and their bytes.
//!
//! An event is encoded once, by its supplier, and stays those bytes through socket, log, segment
//! and delivery. Layout, little endian:
//!
//! ```text
//! 0  u8   version: 2 if it has a start or stop time, else 1
//! 1  u8   flags: 1 if it has a dedup key; the others are 0
//! 2  i16  priority
//! 4  u32  timeout in milliseconds (0: none)
//! 8  u32  length H of the header section
//!         version 2 only:
//! 12 u64  start time in milliseconds since the Unix epoch (0: none)
//! 20 u64  stop time, likewise
//!
//!         with a dedup key only:
//! .. u128 dedup key
//!
//!    H    header section: postcard of `Header`, empty when all of it is default
//!    ..   body, opaque
//! ```

use bytes::{BufMut, Bytes, BytesMut};
use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::event_type::TypeRef;
use super::{DedupKey, LaneId, Stamp, limits};

const PLAIN: u8 = 1;
const TIMED: u8 = 2;
const PLAIN_BYTES: usize = 12;
const TIMED_BYTES: usize = 28;
const KEYED: u8 = 1;
const KEY_BYTES: usize = 16;
/// How nearly all events begin: plain, without priority and timeout.
const ORDINARY: [u8; 8] = [PLAIN, 0, 0, 0, 0, 0, 0, 0];

/// A value of a header or filterable field.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Value {
    Bool(bool),
    Int(i64),
    Float(f64),
    Text(String),
}

/// The named parts of a structured event.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Header {
    /// OMG `domain_name`: the vertical industry or application.
    pub domain: String,
    /// OMG `type_name`: the category of the event within its domain.
    pub kind: String,
    /// OMG `event_name`: this instance.
    pub name: String,
    /// OMG variable header: per-event hints, name and value.
    pub variable: Vec<(String, Value)>,
    /// OMG filterable body: what filters look at, name and value.
    pub fields: Vec<(String, Value)>,
}

/// An event as people think of it.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Event {
    /// OMG Priority, −32767…32767; 0 is the default.
    pub priority: i16,
    /// Milliseconds after acceptance at which it expires; 0: never.
    pub timeout_ms: u32,
    /// OMG StartTime, not delivered before: milliseconds since the Unix epoch; 0: none.
    pub start_ms: u64,
    /// OMG StopTime, it expires then, likewise.
    pub stop_ms: u64,
    /// What tells a repeat, on whatever lane it comes.
    pub dedup: Option<DedupKey>,
    pub header: Header,
    /// Opaque bytes.
    pub body: Bytes,
}

/// What an event asks for itself; all 0: nothing.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct EventQos {
    pub priority: i16,
    /// After it was accepted.
    pub timeout_ms: u32,
    /// Milliseconds since the Unix epoch.
    pub start_ms: u64,
    /// Milliseconds since the Unix epoch.
    pub stop_ms: u64,
}

/// Bytes of the fixed part of an event.
fn fixed_len(event: &[u8]) -> usize {
    let timed = event.first() == Some(&TIMED);
    let keyed = event.get(1).is_some_and(|flags| flags & KEYED != 0);
    (if timed { TIMED_BYTES } else { PLAIN_BYTES }) + (if keyed { KEY_BYTES } else { 0 })
}

impl DedupKey {
    /// Reads it from the bytes of an event. Bytes that are none have no key.
    pub fn read(event: &[u8]) -> Option<DedupKey> {
        let is_event = matches!(event.first(), Some(&(PLAIN | TIMED)));
        if !is_event || event.get(1)? & KEYED == 0 {
            return None;
        }
        let end = fixed_len(event);
        let bytes = event.get(end - KEY_BYTES..end)?.try_into().ok()?;
        Some(DedupKey(u128::from_le_bytes(bytes)))
    }
}

impl EventQos {
    /// Reads it from the bytes of an event. Bytes that are none ask for nothing: whoever accepts
    /// events from strangers checks them before.
    pub fn read(event: &[u8]) -> EventQos {
        let is_event = matches!(event.first(), Some(&(PLAIN | TIMED)));
        if event.starts_with(&ORDINARY) || !is_event {
            return EventQos::default();
        }
        let at = |place: usize| event.get(place..place + 8).and_then(|b| b.try_into().ok());
        let timed = |place| match event.first() {
            Some(&TIMED) => at(place).map_or(0, u64::from_le_bytes),
            _ => 0,
        };
        let first: [u8; 8] = at(0).unwrap_or_default();
        EventQos {
            priority: i16::from_le_bytes([first[2], first[3]]),
            timeout_ms: u32::from_le_bytes([first[4], first[5], first[6], first[7]]),
            start_ms: timed(12),
            stop_ms: timed(20),
        }
    }
}

/// The header section of an event; empty where bytes are none.
pub(super) fn header_section(event: &[u8]) -> &[u8] {
    if !matches!(event.first(), Some(&(PLAIN | TIMED))) {
        return &[];
    }
    let fixed = fixed_len(event);
    let length = event.get(8..12).and_then(|b| b.try_into().ok()).map_or(0, u32::from_le_bytes);
    event.get(fixed..).and_then(|rest| rest.get(..length as usize)).unwrap_or_default()
}

/// Refuses a type whose names are longer than a channel takes.
fn check_type(of: TypeRef) -> Result<(), EventError> {
    let longest = of.domain.len().max(of.kind.len());
    if of.fits() { Ok(()) } else { Err(EventError::TypeName(longest)) }
}

/// An event as it travels: checked once at the border, then opaque.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EventBytes(Bytes);

/// What is stored under a [`super::PayloadKey`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Payload {
    /// The lane it was published on.
    pub lane: LaneId,
    /// Its sequence on that lane.
    pub sequence: u64,
    /// When it was accepted.
    pub accepted: Stamp,
    pub event: EventBytes,
}

/// Why bytes are not an event.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum EventError {
    #[error("event of {0} bytes is cut short: its fixed part has {PLAIN_BYTES} at least")]
    Short(usize),
    #[error("event version {0} is unknown: this build reads versions {PLAIN} and {TIMED}")]
    Version(u8),
    #[error("event header section of {0} bytes is too long or longer than the event itself")]
    HeaderLength(usize),
    #[error("event header section does not parse: {0}")]
    Header(String),
    #[error("domain or type of {0} bytes is too long: use at most {max}", max = limits::TYPE_NAME_BYTES_MAX)]
    TypeName(usize),
    #[error("event of {bytes} bytes is larger than the {max} allowed")]
    TooLarge { bytes: usize, max: usize },
}

impl Event {
    /// An event with a body and nothing else.
    pub fn of_body(body: impl Into<Bytes>) -> Event {
        Event { body: body.into(), ..Event::default() }
    }

    /// Encodes the event; refuses a header section beyond [`limits::EVENT_HEADER_BYTES_MAX`], and a
    /// domain or type beyond [`limits::TYPE_NAME_BYTES_MAX`].
    pub fn encode(&self) -> Result<EventBytes, EventError> {
        check_type(TypeRef { domain: &self.header.domain, kind: &self.header.kind })?;
        let header = if self.header == Header::default() {
            Vec::new()
        } else {
            postcard::to_stdvec(&self.header).map_err(|e| EventError::Header(e.to_string()))?
        };
        if header.len() > limits::EVENT_HEADER_BYTES_MAX {
            return Err(EventError::HeaderLength(header.len()));
        }
        let timed = self.start_ms > 0 || self.stop_ms > 0;
        let mut bytes =
            BytesMut::with_capacity(TIMED_BYTES + KEY_BYTES + header.len() + self.body.len());
        bytes.put_u8(if timed { TIMED } else { PLAIN });
        bytes.put_u8(if self.dedup.is_some() { KEYED } else { 0 });
        bytes.put_i16_le(self.priority);
        bytes.put_u32_le(self.timeout_ms);
        bytes.put_u32_le(header.len() as u32);
        if timed {
            bytes.put_u64_le(self.start_ms);
            bytes.put_u64_le(self.stop_ms);
        }
        if let Some(DedupKey(key)) = self.dedup {
            bytes.put_u128_le(key);
        }
        bytes.put_slice(&header);
        bytes.put_slice(&self.body);
        Ok(EventBytes(bytes.freeze()))
    }
}

impl EventBytes {
    /// Checks the fixed part, the size against `max` bytes, and the length of domain and type. The
    /// rest of the header section is parsed only when somebody asks for it.
    pub fn check(bytes: Bytes, max: usize) -> Result<EventBytes, EventError> {
        if bytes.len() > max {
            return Err(EventError::TooLarge { bytes: bytes.len(), max });
        }
        if bytes.len() < PLAIN_BYTES {
            return Err(EventError::Short(bytes.len()));
        }
        if bytes[0] != PLAIN && bytes[0] != TIMED {
            return Err(EventError::Version(bytes[0]));
        }
        let event = EventBytes(bytes);
        if event.0.len() < event.fixed_len() {
            return Err(EventError::Short(event.0.len()));
        }
        let header = event.header_len();
        if header > limits::EVENT_HEADER_BYTES_MAX || event.fixed_len() + header > event.0.len() {
            return Err(EventError::HeaderLength(header));
        }
        if let Some(of) = TypeRef::of_section(header_section(&event.0)) {
            check_type(of)?;
        }
        Ok(event)
    }

    fn fixed_len(&self) -> usize {
        fixed_len(&self.0)
    }

    /// What tells a repeat.
    pub fn dedup_key(&self) -> Option<DedupKey> {
        DedupKey::read(&self.0)
    }

    fn header_len(&self) -> usize {
        u32::from_le_bytes([self.0[8], self.0[9], self.0[10], self.0[11]]) as usize
    }

    /// What the event asks for itself.
    pub fn qos(&self) -> EventQos {
        EventQos::read(&self.0)
    }

    /// Its type; none if the header section does not parse.
    pub fn event_type(&self) -> TypeRef<'_> {
        TypeRef::read(&self.0)
    }

    /// Parses the header section.
    pub fn header(&self) -> Result<Header, EventError> {
        let section = &self.0[self.fixed_len()..self.fixed_len() + self.header_len()];
        if section.is_empty() {
            return Ok(Header::default());
        }
        postcard::from_bytes(section).map_err(|e| EventError::Header(e.to_string()))
    }

    /// The opaque body, shared, not copied.
    pub fn body(&self) -> Bytes {
        self.0.slice(self.fixed_len() + self.header_len()..)
    }

    /// The whole event, parsed.
    pub fn decode(&self) -> Result<Event, EventError> {
        let EventQos { priority, timeout_ms, start_ms, stop_ms } = self.qos();
        Ok(Event {
            priority,
            timeout_ms,
            start_ms,
            stop_ms,
            dedup: self.dedup_key(),
            header: self.header()?,
            body: self.body(),
        })
    }

    /// All bytes of the event.
    pub fn as_bytes(&self) -> &Bytes {
        &self.0
    }

    /// Size in bytes, header and body.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Never true: an event has a fixed part.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Event {
        Event {
            priority: -7,
            timeout_ms: 1500,
            start_ms: 0,
            stop_ms: 0,
            dedup: None,
            header: Header {
                domain: "Telecom".into(),
                kind: "Alarm".into(),
                name: "disk".into(),
                variable: vec![("ttl".into(), Value::Int(3))],
                fields: vec![("level".into(), Value::Float(0.5)), ("on".into(), Value::Bool(true))],
            },
            body: Bytes::from_static(b"hello"),
        }
    }

    #[test]
    fn round_trip() {
        let bytes = sample().encode().unwrap();
        let back = EventBytes::check(bytes.as_bytes().clone(), 1 << 20).unwrap();
        assert_eq!(back.decode().unwrap(), sample());
        let keyed = Event { dedup: Some(DedupKey::of("here", "7")), ..sample() };
        let bytes = keyed.encode().unwrap();
        assert_eq!(bytes.dedup_key(), keyed.dedup);
        assert_eq!(bytes.event_type().kind, "Alarm");
        let back = EventBytes::check(bytes.as_bytes().clone(), 1 << 20).unwrap();
        assert_eq!(back.decode().unwrap(), keyed);
        let both = Event { start_ms: 9, ..keyed };
        assert_eq!(both.encode().unwrap().decode().unwrap(), both);
        let timed = Event { stop_ms: 7 << 40, ..sample() };
        let bytes = timed.encode().unwrap();
        let back = EventBytes::check(bytes.as_bytes().clone(), 1 << 20).unwrap();
        assert_eq!(back.decode().unwrap(), timed);
        assert_eq!(back.body(), sample().body);
    }

    #[test]
    fn golden_bytes() {
        let bytes = Event { priority: 2, timeout_ms: 3, ..Event::of_body("hi") }.encode().unwrap();
        assert_eq!(&bytes.as_bytes()[..], b"\x01\x00\x02\x00\x03\x00\x00\x00\x00\x00\x00\x00hi");
        let event = Event { start_ms: 1, stop_ms: 258, ..Event::of_body("hi") };
        let bytes = event.encode().unwrap();
        let fixed = b"\x02\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00";
        let times = b"\x01\0\0\0\0\0\0\0\x02\x01\0\0\0\0\0\0hi";
        assert_eq!(bytes.as_bytes(), &[&fixed[..], &times[..]].concat());
    }

    #[test]
    fn keys_tell_source_and_id_apart() {
        let keys = [("a", "bc"), ("ab", "c"), ("", "abc"), ("abc", "")];
        let keys: std::collections::BTreeSet<_> =
            keys.into_iter().map(|(source, id)| DedupKey::of(source, id)).collect();
        assert_eq!(keys.len(), 4);
        let event = Event { dedup: Some(DedupKey(258)), ..Event::of_body("hi") };
        let bytes = event.encode().unwrap();
        let fixed = b"\x01\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00";
        let key = b"\x02\x01\0\0\0\0\0\0\0\0\0\0\0\0\0\0hi";
        assert_eq!(bytes.as_bytes(), &[&fixed[..], &key[..]].concat());
        // A key that is announced and cut off.
        let cut = bytes.as_bytes().slice(..20);
        assert_eq!(EventBytes::check(cut.clone(), 64), Err(EventError::Short(20)));
        assert_eq!(DedupKey::read(&cut), None);
    }

    #[test]
    fn bad_bytes_are_named() {
        let good = sample().encode().unwrap().as_bytes().to_vec();
        let check = |bytes: Vec<u8>| EventBytes::check(Bytes::from(bytes), 64);
        assert_eq!(check(good[..11].to_vec()), Err(EventError::Short(11)));
        assert_eq!(check(vec![0; 65]), Err(EventError::TooLarge { bytes: 65, max: 64 }));
        assert_eq!(check(vec![9; 12]), Err(EventError::Version(9)));
        let mut long = vec![0; 12];
        (long[0], long[8]) = (1, 1);
        assert_eq!(check(long), Err(EventError::HeaderLength(1)));
        let mut short = vec![0; 27];
        short[0] = 2;
        assert_eq!(check(short), Err(EventError::Short(27)));
        let mut garbled = good.clone();
        garbled[12] = 0xff;
        let parsed = EventBytes::check(Bytes::from(garbled), 1 << 20).unwrap();
        assert!(matches!(parsed.header(), Err(EventError::Header(_))));
    }
}
