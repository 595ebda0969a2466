//! Segments: immutable files of events sorted by payload key.
//!
//! ```text
//! 0   4  magic "AQSG"
//! 4   u16 version (1), u16 zero
//! 8   .. events, in blocks (a block is only a unit of reading)
//!     .. index: postcard of [`Index`], columns over all events
//!    -24 u64 offset of the index, u32 its length, u32 its crc32
//!    -8  u32 crc32 of the 16 bytes before, 4 bytes magic "AQSE"
//! ```
//!
//! An event is a [`record`].

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::{Buf, BufMut, Bytes};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::files;
use super::keys::Keys;
use super::manifest::{FileInfo, SegmentInfo};
use super::record;
use crate::env::disk::Disk;
use crate::storage::error::StorageError;
use crate::types::limits::BLOCK_BYTES_MAX;
use crate::types::{LaneId, Payload, PayloadKey, Stamp};

const MAGIC: &[u8; 8] = b"AQSG\x01\0\0\0";
const VERSION: u16 = 1;
const END_MAGIC: &[u8; 4] = b"AQSE";
const FOOTER_BYTES: u64 = 24;

/// What is kept in memory of a segment: which keys it holds, and where its blocks begin.
#[derive(Debug)]
pub struct Segment {
    /// Unique in this process: names the segment in the block cache.
    pub id: u64,
    pub info: SegmentInfo,
    pub keys: Keys,
    blocks: Vec<Block>,
}

/// A piece of a segment that is read at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Block {
    /// The first key in it.
    first: PayloadKey,
    pub offset: u64,
    pub len: u32,
}

/// What is kept of the index.
type Head = (Vec<Block>, Keys);

/// The columns of a segment: those of [`Head`], and others, for those who want to know of its
/// events without reading them.
#[derive(Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Index {
    blocks: Vec<Block>,
    keys: Keys,
    lanes: Vec<LaneId>,
    sequences: Vec<u64>,
    accepted: Vec<Stamp>,
    priorities: Vec<i16>,
    timeouts_ms: Vec<u32>,
    sizes: Vec<u32>,
}

impl Segment {
    /// Writes events as a segment; its content is durable on return.
    pub fn write(
        disk: &dyn Disk,
        name: String,
        events: &BTreeMap<PayloadKey, Payload>,
    ) -> Result<Segment, StorageError> {
        let (bytes, index) = encode(events)?;
        let file = files::write(disk, name, &bytes)?;
        let info = SegmentInfo { file, events: events.len() as u64 };
        Ok(Segment::new(info, (index.blocks, index.keys)))
    }

    /// Opens a segment: checks its index, and reads all of it only if that is damaged.
    pub fn open(disk: &dyn Disk, info: SegmentInfo) -> Result<Segment, StorageError> {
        // Its first columns are all that is kept, and decoding the others takes most of the time.
        let head: Head = match read_index(disk, &info.file)? {
            Ok(head) => head,
            Err(detail) => {
                tracing::warn!(segment = info.file.name, detail, "index damaged: rebuilt");
                let Index { blocks, keys, .. } = rebuild(disk, &info.file)?;
                (blocks, keys)
            }
        };
        let found = head.1.count();
        if found != info.events {
            let detail = format!("{found} of {} events found", info.events);
            return Err(StorageError::corrupt(format!("segment {}", info.file.name), detail));
        }
        Ok(Segment::new(info, head))
    }

    /// Opens a segment of a peer, of which only the file is known.
    pub fn adopt(disk: &dyn Disk, file: FileInfo) -> Result<Segment, StorageError> {
        let corrupt = |detail| StorageError::corrupt(format!("segment {}", file.name), detail);
        let head: Head = read_index(disk, &file)?.map_err(corrupt)?;
        let info = SegmentInfo { events: head.1.count(), file };
        Ok(Segment::new(info, head))
    }

    /// Opens what can be read of a segment in a damaged store, and says what is wrong with it.
    pub fn salvage(
        disk: &dyn Disk,
        name: &str,
        named: Option<SegmentInfo>,
    ) -> Result<(Segment, Option<String>), StorageError> {
        let events = named.as_ref().map(|info| info.events);
        let file = match named {
            Some(info) => info.file,
            None => files::found(disk, name)?,
        };
        let (index, mut wrong) = match read_index(disk, &file)? {
            Ok(index) => (index, None),
            Err(detail) => (rebuild(disk, &file)?, Some(detail)),
        };
        let found = index.keys.count();
        if let Some(events) = events.filter(|events| *events != found) {
            let before = wrong.take().map(|wrong| format!("{wrong}: ")).unwrap_or_default();
            wrong = Some(format!("{before}{found} of {events} events found"));
        }
        let wrong = wrong.map(|wrong| format!("segment {name}: {wrong}"));
        let head = (index.blocks, index.keys);
        Ok((Segment::new(SegmentInfo { file, events: found }, head), wrong))
    }

    fn new(info: SegmentInfo, (blocks, keys): Head) -> Segment {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let id = NEXT.fetch_add(1, Ordering::Relaxed);
        Segment { id, info, keys, blocks }
    }

    /// Whether it holds events of entries after this one.
    pub fn is_beyond(&self, index: u64) -> bool {
        self.keys.last().is_some_and(|key| key.index > index)
    }

    /// The block that holds a key, if the segment does.
    pub fn block_of(&self, key: PayloadKey) -> Option<Block> {
        if !self.keys.contains(key) {
            return None;
        }
        let after = self.blocks.partition_point(|block| block.first <= key);
        self.blocks.get(after.checked_sub(1)?).copied()
    }
}

/// Reads the block that holds a key. A file that is cut short, gone, or that the disk cannot read
/// (EIO) is damage to the event.
pub fn read_block(
    disk: &dyn Disk,
    file: &FileInfo,
    block: Block,
    key: PayloadKey,
) -> Result<Bytes, StorageError> {
    match disk.read(&files::path(&file.name), block.offset, block.len as usize) {
        Ok(bytes) => Ok(bytes.into()),
        Err(error) if files::is_damage(&error) => {
            Err(StorageError::CorruptEvent { key, detail: error.to_string() })
        }
        Err(error) => Err(StorageError::io(format!("reading {}", file.name))(error)),
    }
}

/// What the index of a segment says of an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Known {
    lane: LaneId,
    sequence: u64,
    accepted: Stamp,
    priority: i16,
    timeout_ms: u32,
    size: u32,
}

impl Known {
    /// What an index would say of this event.
    pub fn of(payload: &Payload) -> Known {
        Known {
            lane: payload.lane,
            sequence: payload.sequence,
            accepted: payload.accepted,
            priority: payload.event.qos().priority,
            timeout_ms: payload.event.qos().timeout_ms,
            size: payload.event.len() as u32,
        }
    }
}

/// What the index on disk says of its events; nothing if it is damaged.
pub fn known(
    disk: &dyn Disk,
    file: &FileInfo,
) -> Result<BTreeMap<PayloadKey, Known>, StorageError> {
    let Ok(index) = read_index::<Index>(disk, file)? else { return Ok(BTreeMap::new()) };
    let one = |(at, key): (usize, PayloadKey)| {
        let known = Known {
            lane: *index.lanes.get(at)?,
            sequence: *index.sequences.get(at)?,
            accepted: *index.accepted.get(at)?,
            priority: *index.priorities.get(at)?,
            timeout_ms: *index.timeouts_ms.get(at)?,
            size: *index.sizes.get(at)?,
        };
        Some((key, known))
    };
    Ok(index.keys.iter().enumerate().filter_map(one).collect())
}

/// Finds an event in the bytes of its block.
pub fn find(block: &Bytes, key: PayloadKey) -> Result<Payload, StorageError> {
    find_record(block, key).map(|(_, payload)| payload)
}

/// The same, with its record.
pub fn find_record(block: &Bytes, key: PayloadKey) -> Result<(Bytes, Payload), StorageError> {
    let damaged = |detail: &str| StorageError::CorruptEvent { key, detail: detail.into() };
    let mut rest = block.clone();
    while let Some((found, event)) = record::next(&mut rest) {
        if found == key {
            let payload = record::decode(event.clone()).ok_or_else(|| damaged("wrong checksum"))?;
            return Ok((event, payload));
        }
    }
    Err(damaged("it is not in its block"))
}

fn encode(events: &BTreeMap<PayloadKey, Payload>) -> Result<(Vec<u8>, Index), StorageError> {
    let mut bytes = MAGIC.to_vec();
    let mut index = Index::default();
    for (key, payload) in events {
        let start = bytes.len() as u64;
        record::encode(*key, payload, &mut bytes);
        index.add(*key, payload, start, bytes.len() as u64 - start);
    }
    let at = bytes.len() as u64;
    let columns = postcard::to_stdvec(&index)
        .map_err(|error| StorageError::corrupt("a segment index", error.to_string()))?;
    let footer = bytes.len() + columns.len();
    bytes.extend_from_slice(&columns);
    bytes.put_u64_le(at);
    bytes.put_u32_le(columns.len() as u32);
    bytes.put_u32_le(crc32fast::hash(&columns));
    let crc = crc32fast::hash(&bytes[footer..]);
    bytes.put_u32_le(crc);
    bytes.put_slice(END_MAGIC);
    Ok((bytes, index))
}

impl Index {
    fn add(&mut self, key: PayloadKey, payload: &Payload, offset: u64, len: u64) {
        let fits = |block: &&mut Block| u64::from(block.len) + len <= BLOCK_BYTES_MAX as u64;
        match self.blocks.last_mut().filter(fits) {
            Some(block) => block.len += len as u32,
            None => self.blocks.push(Block { first: key, offset, len: len as u32 }),
        }
        self.keys.push(key);
        self.lanes.push(payload.lane);
        self.sequences.push(payload.sequence);
        self.accepted.push(payload.accepted);
        self.priorities.push(payload.event.qos().priority);
        self.timeouts_ms.push(payload.event.qos().timeout_ms);
        self.sizes.push(payload.event.len() as u32);
    }
}

/// Reads and checks the index, and decodes all of it or its first columns; the inner error says
/// what is damaged.
fn read_index<T: DeserializeOwned>(
    disk: &dyn Disk,
    file: &FileInfo,
) -> Result<Result<T, String>, StorageError> {
    let path = files::path(&file.name);
    let failed = || StorageError::io(format!("reading segment {}", file.name));
    let len = disk.len(&path).map_err(failed())?;
    if len != file.len || len < MAGIC.len() as u64 + FOOTER_BYTES {
        return Ok(Err(format!("it has {len} bytes instead of {}", file.len)));
    }
    let head = disk.read(&path, 0, MAGIC.len()).map_err(failed())?;
    if head != MAGIC {
        let version = u16::from_le_bytes([head[4], head[5]]);
        // Known from the manifest, the checksum of the file tells a version from a flipped bit.
        if head[..4] == MAGIC[..4] && version > VERSION && files::verify(disk, &path, file).is_ok()
        {
            let what = format!("segment {}", file.name);
            return Err(StorageError::newer(what, version.into(), VERSION.into()));
        }
        return Ok(Err("wrong magic or version".into()));
    }
    let footer = disk.read(&path, len - FOOTER_BYTES, FOOTER_BYTES as usize).map_err(failed())?;
    let (fixed, mut end) = footer.split_at(16);
    if crc32fast::hash(fixed) != end.get_u32_le() || end != END_MAGIC {
        return Ok(Err("wrong footer".into()));
    }
    let mut fixed = fixed;
    let (at, columns, crc) = (fixed.get_u64_le(), fixed.get_u32_le(), fixed.get_u32_le());
    if at.checked_add(u64::from(columns)) != Some(len - FOOTER_BYTES) {
        return Ok(Err("the footer does not point at the index".into()));
    }
    let columns = disk.read(&path, at, columns as usize).map_err(failed())?;
    if crc32fast::hash(&columns) != crc {
        return Ok(Err("wrong checksum of the index".into()));
    }
    let decoded = postcard::take_from_bytes(&columns).map(|(decoded, _)| decoded);
    Ok(decoded.map_err(|error| error.to_string()))
}

/// Makes the index anew from the events, as far as they are whole.
fn rebuild(disk: &dyn Disk, file: &FileInfo) -> Result<Index, StorageError> {
    let failed = StorageError::io(format!("reading segment {}", file.name));
    let mut rest = Bytes::from(disk.read_all(&files::path(&file.name)).map_err(failed)?);
    let len = rest.len();
    let mut index = Index::default();
    rest.advance(MAGIC.len().min(len));
    let mut offset = len - rest.len();
    while let Some((key, event)) = record::next(&mut rest) {
        let size = event.len();
        let Some(payload) = record::decode(event) else { break };
        index.add(key, &payload, offset as u64, size as u64);
        offset += size;
    }
    Ok(index)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::env::disk::MemDisk;
    use crate::types::Event;

    fn payload(sequence: u64, body: Vec<u8>) -> Payload {
        let event = Event { priority: 3, timeout_ms: 9, ..Event::of_body(body) }.encode().unwrap();
        Payload { lane: LaneId { index: 1, position: 2 }, sequence, accepted: Stamp(77), event }
    }

    fn write(disk: &MemDisk, count: u32, body: usize) -> Segment {
        let key = |position| PayloadKey { index: 4, position };
        let events = (0..count).map(|n| (key(n), payload(u64::from(n), vec![n as u8; body])));
        Segment::write(disk, "seg-1-1".into(), &events.collect()).unwrap()
    }

    fn read(disk: &MemDisk, segment: &Segment, position: u32) -> Result<Payload, StorageError> {
        let key = PayloadKey { index: 4, position };
        let block = segment.block_of(key).unwrap();
        let bytes = disk.read("events/seg-1-1", block.offset, block.len as usize).unwrap();
        find(&bytes.into(), key)
    }

    #[test]
    fn golden_bytes() {
        let disk = MemDisk::new();
        write(&disk, 1, 2);
        let bytes = disk.read_all("events/seg-1-1").unwrap();
        let golden = b"AQSG\x01\0\0\0\
            \x14L\xc9\xda\x04\0\0\0\0\0\0\0\0\0\0\0\x01\0\0\0\0\0\0\0\x02\0\0\0\0\0\0\0\0\0\0\0M\0\0\0\0\0\0\0\x0e\0\0\0\
            \x01\0\x03\0\x09\0\0\0\0\0\0\0\0\0\
            \x01\x04\0\x08>\x01\x04\0\x01\x01\x01\x02\x01\0\x01M\x01\x06\x01\x09\x01\x0eF\
            \0\0\0\0\0\0\0\x16\0\0\0\x96i0\x15(p6FAQSE";
        assert_eq!(&bytes[..], golden);
    }

    #[test]
    fn events_are_found_in_their_blocks() {
        let disk = MemDisk::new();
        for (count, body) in [(1, 0), (200, 300), (3, 40_000)] {
            let written = write(&disk, count, body);
            let opened = Segment::open(&disk, written.info.clone()).unwrap();
            assert_eq!((&opened.keys, &opened.blocks), (&written.keys, &written.blocks));
            for n in 0..count {
                assert_eq!(
                    read(&disk, &opened, n).unwrap(),
                    payload(u64::from(n), vec![n as u8; body])
                );
            }
            assert!(opened.block_of(PayloadKey { index: 4, position: count }).is_none());
        }
    }

    #[test]
    fn a_flipped_bit_is_repaired_or_named() {
        let disk = MemDisk::new();
        let written = write(&disk, 3, 10);
        let bits = disk.len("events/seg-1-1").unwrap() as usize * 8;
        for bit in 0..bits {
            disk.flip_bit("events/seg-1-1", bit);
            let opened = Segment::open(&disk, written.info.clone()).unwrap();
            for n in 0..3 {
                match read(&disk, &opened, n) {
                    Ok(found) => assert_eq!(found, payload(u64::from(n), vec![n as u8; 10])),
                    Err(error) => assert!(error.to_string().contains("4."), "{error}"),
                }
            }
            disk.flip_bit("events/seg-1-1", bit);
        }
    }
}
