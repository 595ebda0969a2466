//! Records of the log, found in the bytes of sled's files without sled.
//!
//! sled writes each record in one piece, perhaps several times, and leaves old ones about. So a
//! record is known to count only if everything found for its entries is the same record.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use aqueduct::types::limits::LOG_RECORD_BYTES_MAX;

const FIXED_BYTES: usize = 28;
const ENTRY_FIXED_BYTES: usize = 21;
/// Greater indexes are random bytes.
const INDEX_MAX: u64 = 1 << 48;

/// A whole record somewhere in a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    pub path: PathBuf,
    pub offset: u64,
    pub len: u64,
    /// Indexes of its first and last entry.
    pub first: u64,
    pub last: u64,
    /// Which part of an entry too large for a record, and of how many.
    part: (u32, u32),
    crc: u32,
}

impl Found {
    /// Whether both are the same record, written twice.
    fn is_copy_of(&self, other: &Found) -> bool {
        let content = |found: &Found| (found.first, found.last, found.part, found.crc);
        content(self) == content(other)
    }

    /// Whether both may belong to one log.
    fn agrees_with(&self, other: &Found) -> bool {
        let is_apart = self.last < other.first || other.last < self.first;
        let is_sibling =
            self.first == other.first && self.part.1 == other.part.1 && self.part.0 != other.part.0;
        is_apart || is_sibling || self.is_copy_of(other)
    }
}

/// All whole records in a log directory.
pub fn records(log: &Path) -> Result<Vec<Found>> {
    let mut found = Vec::new();
    let failed = || format!("look through {}", log.display());
    for database in std::fs::read_dir(log).with_context(failed)? {
        let path = database.with_context(failed)?.path().join("db");
        if let Ok(bytes) = std::fs::read(&path) {
            scan(&path, &bytes, &mut found);
        }
    }
    Ok(found)
}

/// All copies of one record, chosen at random, that certainly counts and whose entries lie
/// between `after` and `before`, exclusively.
pub fn choose(
    log: &Path,
    after: Option<u64>,
    before: u64,
    rng: &mut fastrand::Rng,
) -> Result<Vec<Found>> {
    let all = records(log)?;
    let wanted =
        |record: &Found| after.is_none_or(|after| record.first > after) && record.last < before;
    // Comparing each with each is too much for a large log: candidates are drawn until one fits.
    for _ in 0..1000 {
        let Some(record) = rng.choice(&all) else { break };
        if wanted(record) && all.iter().all(|other| record.agrees_with(other)) {
            return Ok(all.iter().filter(|other| record.is_copy_of(other)).cloned().collect());
        }
    }
    bail!("no durable record of {} was found in {}", all.len(), log.display())
}

fn scan(path: &Path, bytes: &[u8], found: &mut Vec<Found>) {
    // Bytes of the last part of a split entry, as its first part says.
    let mut rests = HashMap::new();
    let mut at = 0;
    while at + FIXED_BYTES <= bytes.len() {
        let record = read(&bytes[at..], &mut rests);
        let len = record.as_ref().map_or(1, |record| record.len as usize);
        found.extend(record.map(|record| Found {
            path: path.to_path_buf(),
            offset: at as u64,
            ..record
        }));
        at += len;
    }
}

/// The record that these bytes begin with, without its place.
fn read(bytes: &[u8], rests: &mut HashMap<(u64, u32), usize>) -> Option<Found> {
    if bytes.get(..2)? != [1, 0] {
        return None;
    }
    let number = |at: usize| Some(u32::from_le_bytes(bytes.get(at..at + 4)?.try_into().ok()?));
    let count = u64::from(u16::from_le_bytes(bytes[2..4].try_into().ok()?));
    let first = u64::from(number(8)?) | u64::from(number(12)?) << 32;
    let (crc, part) = (number(4)?, (number(16)?, number(20)?));
    if count == 0 || first > INDEX_MAX || part.0 >= part.1 || (part.1 > 1 && count > 1) {
        return None;
    }
    let len = match part {
        (0, 1) => whole_len(bytes, count)?,
        (0, parts) => {
            let entry = ENTRY_FIXED_BYTES + number(FIXED_BYTES + 17)? as usize;
            let rest = entry.checked_sub(LOG_RECORD_BYTES_MAX * (parts as usize - 1))?;
            rests.insert((first, parts), rest);
            FIXED_BYTES + LOG_RECORD_BYTES_MAX
        }
        (part, parts) if part + 1 == parts => FIXED_BYTES + *rests.get(&(first, parts))?,
        _ => FIXED_BYTES + LOG_RECORD_BYTES_MAX,
    };
    let is_whole = crc32fast::hash(&[bytes.get(..4)?, bytes.get(8..len)?].concat()) == crc;
    let (len, last) = (len as u64, first + count - 1);
    is_whole.then_some(Found { path: PathBuf::new(), offset: 0, len, first, last, part, crc })
}

/// Length of a record of so many whole entries.
fn whole_len(bytes: &[u8], count: u64) -> Option<usize> {
    let mut len = FIXED_BYTES;
    for _ in 0..count {
        let size = bytes.get(len + 17..len + ENTRY_FIXED_BYTES)?;
        len += ENTRY_FIXED_BYTES + u32::from_le_bytes(size.try_into().ok()?) as usize;
        if len > FIXED_BYTES + LOG_RECORD_BYTES_MAX {
            return None;
        }
    }
    Some(len)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(first: u64, bodies: &[&[u8]]) -> Vec<u8> {
        let mut bytes = vec![1, 0];
        bytes.extend((bodies.len() as u16).to_le_bytes());
        bytes.extend([0; 4]);
        bytes.extend(first.to_le_bytes());
        bytes.extend([0, 0, 0, 0, 1, 0, 0, 0, 9, 9, 9, 9]);
        for body in bodies {
            bytes.extend([5; 17]);
            bytes.extend((body.len() as u32).to_le_bytes());
            bytes.extend(*body);
        }
        let crc = crc32fast::hash(&[&bytes[..4], &bytes[8..]].concat());
        bytes[4..8].copy_from_slice(&crc.to_le_bytes());
        bytes
    }

    #[test]
    fn records_are_found_between_other_bytes() {
        let dir = tempfile::tempdir().unwrap();
        let database = dir.path().join("db-0000000001");
        std::fs::create_dir(&database).unwrap();
        let (one, two) = (record(1, &[b"a", b"bb"]), record(3, &[b"ccc"]));
        let other = record(3, &[b"ddd"]);
        let all = [b"noise", &one[..], b"\x01\0\x01", &two, &one, &other].concat();
        std::fs::write(database.join("db"), &all).unwrap();
        let found = records(dir.path()).unwrap();
        assert_eq!(found.len(), 4);
        assert_eq!((found[0].offset, found[0].first, found[0].last), (5, 1, 2));

        let rng = &mut fastrand::Rng::with_seed(1);
        let chosen = choose(dir.path(), None, 9, rng).unwrap();
        assert_eq!(chosen.len(), 2, "both copies, and never one of two that disagree: {chosen:?}");
        assert!(choose(dir.path(), Some(1), 9, rng).is_err());
        assert!(choose(dir.path(), None, 2, rng).is_err());
        let at = chosen[0].offset + 30;
        super::super::flip(&chosen[0].path, at, 3).unwrap();
        assert_eq!(records(dir.path()).unwrap().len(), 3);
    }
}
