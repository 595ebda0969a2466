//! Records: what the log is cut into on disk.
//!
//! A record holds several whole entries, or one part of an entry too large for a record. Layout,
//! little endian:
//!
//! ```text
//! 0   u8  version (1)
//! 1   u8  zero
//! 2   u16 number of entries (1 for a part)
//! 4   u32 crc32 of bytes 0..4 and 8..
//! 8   u64 index of the first entry
//! 16  u32 part, from 0
//! 20  u32 parts: 1 for whole entries
//! 24  u32 crc32 of the record before: the chain
//! 28  ..  entries, or a piece of one: u64 term, u64 node, u8 kind, u32 length, body
//! ```

use std::collections::VecDeque;

use bytes::{Buf, BufMut, Bytes, BytesMut};

use super::Entry;
use crate::planted::{Bug, planted};
use crate::storage::fault::Fault;
use crate::types::limits::LOG_RECORD_BYTES_MAX;
use crate::types::{EntryId, NodeId};

const VERSION: u8 = 1;
const FIXED_BYTES: usize = 28;
const ENTRY_FIXED_BYTES: usize = 21;

/// A record on its way to a medium.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// Index of the first entry; with `part` the key of the record.
    pub first: u64,
    /// Index of the last entry.
    pub last: u64,
    /// Part of a split entry, else 0.
    pub part: u32,
    /// Header and body.
    pub bytes: Bytes,
}

/// The header of a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    pub first: u64,
    pub count: u16,
    pub part: u32,
    pub parts: u32,
    pub crc: u32,
    pub previous: u32,
}

impl Header {
    /// Index of the last entry the record holds (a part of).
    pub fn last(&self) -> u64 {
        self.first.saturating_add(u64::from(self.count).saturating_sub(1))
    }

    /// Whether the record completes what it holds.
    pub fn is_final(&self) -> bool {
        self.part.saturating_add(1) == self.parts
    }
}

/// Cuts entries into records, each chained to the one before.
#[derive(Debug, Clone, Default)]
pub struct Packer {
    /// crc of the record before.
    pub chain: u32,
}

impl Packer {
    /// Packs consecutive entries into as few records as the size limit allows.
    pub fn pack(&mut self, entries: &[Entry]) -> Vec<Record> {
        let mut records = Vec::new();
        let mut rest = entries;
        while let Some(first) = rest.first() {
            let mut bytes = 0;
            let fits = |entry: &&Entry| {
                bytes += encoded_len(entry);
                bytes <= LOG_RECORD_BYTES_MAX
            };
            let count = rest.iter().take(usize::from(u16::MAX)).take_while(fits).count();
            if count == 0 {
                self.split(first, &mut records);
                rest = &rest[1..];
            } else {
                let (whole, after) = rest.split_at(count);
                let mut body = BytesMut::new();
                whole.iter().for_each(|entry| encode(entry, &mut body));
                records.push(self.record(first.id.index, count as u16, (0, 1), &body));
                rest = after;
            }
        }
        records
    }

    fn split(&mut self, entry: &Entry, records: &mut Vec<Record>) {
        let mut body = BytesMut::with_capacity(encoded_len(entry));
        encode(entry, &mut body);
        let pieces = body.chunks(LOG_RECORD_BYTES_MAX);
        let parts = pieces.len() as u32;
        for (part, piece) in pieces.enumerate() {
            records.push(self.record(entry.id.index, 1, (part as u32, parts), piece));
        }
    }

    fn record(&mut self, first: u64, count: u16, part: (u32, u32), body: &[u8]) -> Record {
        let mut bytes = BytesMut::with_capacity(FIXED_BYTES + body.len());
        bytes.put_u8(VERSION);
        bytes.put_u8(0);
        bytes.put_u16_le(count);
        bytes.put_u32_le(0);
        bytes.put_u64_le(first);
        bytes.put_u32_le(part.0);
        bytes.put_u32_le(part.1);
        bytes.put_u32_le(self.chain);
        bytes.put_slice(body);
        self.chain = checksum(&bytes);
        bytes[4..8].copy_from_slice(&self.chain.to_le_bytes());
        let last = first + u64::from(count) - 1;
        Record { first, last, part: part.0, bytes: bytes.freeze() }
    }
}

fn encoded_len(entry: &Entry) -> usize {
    ENTRY_FIXED_BYTES + entry.body.len()
}

fn encode(entry: &Entry, to: &mut BytesMut) {
    to.put_u64_le(entry.id.term);
    to.put_u64_le(entry.id.node.0);
    to.put_u8(entry.kind);
    to.put_u32_le(entry.body.len() as u32);
    to.put_slice(&entry.body);
}

/// Puts records back together, in order, checking each and the chain between them.
#[derive(Debug, Default)]
pub struct Assembler {
    before: Option<Header>,
    pieces: VecDeque<Bytes>,
}

impl Assembler {
    /// Takes the next record and returns the entries it completes; says what is wrong otherwise.
    /// The first record may continue anything, but must begin an entry.
    pub fn push(&mut self, record: Bytes) -> Result<Vec<Entry>, Fault> {
        let header = check(&record)?;
        self.check_chain(&header)?;
        self.before = Some(header);
        let body = record.slice(FIXED_BYTES..);
        if header.parts == 1 {
            return Ok(decode(body, header.first, header.count)?);
        }
        self.pieces.push_back(body);
        if !header.is_final() {
            return Ok(Vec::new());
        }
        let mut whole = BytesMut::new();
        self.pieces.drain(..).for_each(|piece| whole.put_slice(&piece));
        Ok(decode(whole.freeze(), header.first, 1)?)
    }

    /// The header of the record taken last.
    pub fn last_header(&self) -> Option<Header> {
        self.before
    }

    fn check_chain(&self, header: &Header) -> Result<(), String> {
        let (first, part) = match self.before {
            None => (header.first, 0),
            Some(before) if before.is_final() => (before.last().saturating_add(1), 0),
            Some(before) => (before.first, before.part + 1),
        };
        if (header.first, header.part) != (first, part) {
            let found = (header.first, header.part);
            return Err(format!("record {found:?} stands where {:?} should", (first, part)));
        }
        match self.before {
            Some(before) if before.crc != header.previous => {
                Err(format!("the chain is broken before entry {}", header.first))
            }
            Some(before) if !before.is_final() && before.parts != header.parts => {
                Err(format!("the parts of entry {} disagree", header.first))
            }
            _ => Ok(()),
        }
    }
}

/// Reads and checks the header of a record, and the checksum of all of it.
pub fn check(record: &[u8]) -> Result<Header, Fault> {
    let mut fixed = record;
    if record.len() < FIXED_BYTES {
        return Err(format!("a record of {} bytes is cut short", record.len()).into());
    }
    let (version, _zero) = (fixed.get_u8(), fixed.get_u8());
    let (count, crc) = (fixed.get_u16_le(), fixed.get_u32_le());
    if checksum(record) != crc && !planted(Bug::LogCrcIgnored) {
        return Err("a record has a wrong checksum".into());
    }
    Fault::check_version(version, VERSION)?;
    let (first, part) = (fixed.get_u64_le(), fixed.get_u32_le());
    let (parts, previous) = (fixed.get_u32_le(), fixed.get_u32_le());
    if count == 0 || part >= parts {
        return Err("a record holds nothing".into());
    }
    Ok(Header { first, count, part, parts, crc, previous })
}

/// Of a record, header included, but for the checksum itself.
fn checksum(record: &[u8]) -> u32 {
    let mut crc = crc32fast::Hasher::new();
    crc.update(&record[..4]);
    crc.update(&record[8..]);
    crc.finalize()
}

fn decode(mut body: Bytes, first: u64, count: u16) -> Result<Vec<Entry>, String> {
    let mut entries = Vec::with_capacity(usize::from(count));
    for index in (first..).take(usize::from(count)) {
        if body.len() < ENTRY_FIXED_BYTES {
            return Err(format!("entry {index} is cut short"));
        }
        let (term, node, kind) = (body.get_u64_le(), NodeId(body.get_u64_le()), body.get_u8());
        let len = body.get_u32_le() as usize;
        if len > body.len() {
            return Err(format!("entry {index} is cut short"));
        }
        entries.push(Entry { id: EntryId { term, node, index }, kind, body: body.split_to(len) });
    }
    if body.is_empty() { Ok(entries) } else { Err("a record has bytes left over".into()) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn entries(sizes: &[usize]) -> Vec<Entry> {
        let entry = |(index, size): (u64, &usize)| Entry {
            id: EntryId { term: 3, node: NodeId(2), index },
            kind: 1,
            body: vec![index as u8; *size].into(),
        };
        (7..).zip(sizes).map(entry).collect()
    }

    #[test]
    fn golden_bytes() {
        let records = Packer { chain: 0x01020304 }.pack(&entries(&[2]));
        let golden =
            b"\x01\0\x01\0\x9d\x42\x77\x49\x07\0\0\0\0\0\0\0\0\0\0\0\x01\0\0\0\x04\x03\x02\x01\
            \x03\0\0\0\0\0\0\0\x02\0\0\0\0\0\0\0\x01\x02\0\0\0\x07\x07";
        assert_eq!(records.len(), 1);
        assert_eq!(&records[0].bytes[..], golden);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(40))]
        #[test]
        fn packing_is_undone(sizes in prop::collection::vec(
            prop_oneof![0usize..300, 90_000usize..300_000], 1..12)) {
            let entries = entries(&sizes);
            let records = Packer::default().pack(&entries);
            let mut assembler = Assembler::default();
            let mut found = Vec::new();
            for record in &records {
                prop_assert!(record.bytes.len() <= LOG_RECORD_BYTES_MAX + FIXED_BYTES);
                found.extend(assembler.push(record.bytes.clone()).unwrap());
            }
            prop_assert_eq!(found, entries);
        }
    }

    #[test]
    fn any_flipped_bit_and_any_lost_record_shows() {
        let mut packer = Packer::default();
        let records: Vec<Record> =
            (0..3).flat_map(|i| packer.pack(&entries(&[5; 4])[i..i + 1])).collect();
        for bit in 0..records[1].bytes.len() * 8 {
            let mut bytes = records[1].bytes.to_vec();
            bytes[bit / 8] ^= 1 << (bit % 8);
            let mut assembler = Assembler::default();
            assembler.push(records[0].bytes.clone()).unwrap();
            assert!(assembler.push(bytes.into()).is_err(), "bit {bit}");
        }
        let mut assembler = Assembler::default();
        assembler.push(records[0].bytes.clone()).unwrap();
        assert!(assembler.push(records[2].bytes.clone()).is_err());
    }

    #[test]
    fn a_stale_record_does_not_continue_a_rewritten_log() {
        let old = Packer::default().pack(&entries(&[9; 8])[1..2]);
        let new = Packer { chain: 5 }.pack(&entries(&[9; 8])[..1]);
        let mut assembler = Assembler::default();
        assembler.push(new[0].bytes.clone()).unwrap();
        assert!(assembler.push(old[0].bytes.clone()).unwrap_err().to_string().contains("chain"));
    }
}
