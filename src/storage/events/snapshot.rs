//! Snapshot files.
//!
//! ```text
//! 0   4   magic "AQSN"
//! 4   u16 version (1), u16 zero
//! 8   u32 length and u32 crc32 of the head
//! 16  u64 length and u32 crc32 of the machine
//! 28  u32 crc32 of bytes 0..28
//! 32  ..  head: postcard of [`Head`]
//!     ..  machine: opaque
//! ```

use bytes::{Buf, BufMut, Bytes};
use serde::{Deserialize, Serialize};

use super::files;
use super::keys::Keys;
use super::manifest::FileInfo;
use crate::env::disk::Disk;
use crate::planted::{Bug, planted};
use crate::storage::error::StorageError;
use crate::storage::fault::Fault;
use crate::types::EntryId;

const MAGIC: &[u8; 4] = b"AQSN";
const VERSION: u16 = 1;
const FIXED_BYTES: usize = 32;

/// What callers know of a snapshot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SnapshotInfo {
    /// Unique in the cluster.
    pub name: String,
    /// The last entry it covers.
    pub last: EntryId,
    /// Opaque bytes given by its builder.
    pub meta: Bytes,
    /// Bytes of the machine.
    pub machine_bytes: u64,
}

/// A snapshot on disk, verified when it was opened.
#[derive(Debug)]
pub struct Snapshot {
    pub file: FileInfo,
    pub info: SnapshotInfo,
    /// The keys that it needs from segments.
    pub held: Keys,
}

#[derive(Debug, Serialize, Deserialize)]
struct Head {
    last: EntryId,
    meta: Bytes,
    held: Keys,
}

impl Snapshot {
    /// Writes a snapshot; its content is durable on return.
    pub fn write(
        disk: &dyn Disk,
        name: String,
        (last, meta, held): (EntryId, Bytes, Keys),
        machine: &[u8],
    ) -> Result<Snapshot, StorageError> {
        let head = Head { last, meta, held };
        let bytes = encode(&head, machine)?;
        let file = files::write(disk, name, &bytes)?;
        Ok(Snapshot::new(file, head, machine.len() as u64))
    }

    /// Opens a snapshot and verifies all of it; also that it is the one the manifest means: an old
    /// copy, put back under a new name, is whole in itself.
    pub fn open(disk: &dyn Disk, file: FileInfo) -> Result<Snapshot, StorageError> {
        let path = files::path(&file.name);
        Snapshot::open_at(disk, &path, file)
    }

    /// The same for one that lies elsewhere.
    pub fn open_at(disk: &dyn Disk, path: &str, file: FileInfo) -> Result<Snapshot, StorageError> {
        let bytes = load(disk, path)?;
        let same = bytes.len() as u64 == file.len && crc32fast::hash(&bytes) == file.crc;
        let (head, machine) = understand(&file.name, bytes)?;
        if !same && !planted(Bug::SnapshotCrcIgnored) {
            let what = format!("snapshot {}", file.name);
            return Err(StorageError::corrupt(what, "it is not the file that the manifest names"));
        }
        Ok(Snapshot::new(file, head, machine.len() as u64))
    }

    fn new(file: FileInfo, head: Head, machine_bytes: u64) -> Snapshot {
        let info = SnapshotInfo {
            name: file.name.clone(),
            last: head.last,
            meta: head.meta,
            machine_bytes,
        };
        Snapshot { file, info, held: head.held }
    }
}

/// Reads the machine out of a snapshot file, verified.
pub fn read_machine(disk: &dyn Disk, name: &str) -> Result<Bytes, StorageError> {
    read_machine_at(disk, &files::path(name), name)
}

/// The same for one that lies elsewhere.
pub fn read_machine_at(disk: &dyn Disk, path: &str, name: &str) -> Result<Bytes, StorageError> {
    Ok(understand(name, load(disk, path)?)?.1)
}

fn load(disk: &dyn Disk, path: &str) -> Result<Vec<u8>, StorageError> {
    disk.read_all(path).map_err(StorageError::io(format!("reading snapshot {path}")))
}

fn understand(name: &str, bytes: Vec<u8>) -> Result<(Head, Bytes), StorageError> {
    decode(bytes.into()).map_err(|fault| fault.of(format!("snapshot {name}")))
}

fn encode(head: &Head, machine: &[u8]) -> Result<Vec<u8>, StorageError> {
    let head = postcard::to_stdvec(head)
        .map_err(|error| StorageError::corrupt("a snapshot head", error.to_string()))?;
    let mut bytes = Vec::with_capacity(FIXED_BYTES + head.len() + machine.len());
    bytes.put_slice(MAGIC);
    bytes.put_u16_le(VERSION);
    bytes.put_u16_le(0);
    bytes.put_u32_le(head.len() as u32);
    bytes.put_u32_le(crc32fast::hash(&head));
    bytes.put_u64_le(machine.len() as u64);
    bytes.put_u32_le(crc32fast::hash(machine));
    bytes.put_u32_le(crc32fast::hash(&bytes));
    bytes.put_slice(&head);
    bytes.put_slice(machine);
    Ok(bytes)
}

fn decode(bytes: Bytes) -> Result<(Head, Bytes), Fault> {
    let mut fixed = bytes.get(..FIXED_BYTES).ok_or("it is cut short")?;
    if !fixed.starts_with(MAGIC) {
        return Err("wrong magic".into());
    }
    let crc = crc32fast::hash(&fixed[..28]);
    fixed.advance(MAGIC.len());
    let (version, _zero) = (fixed.get_u16_le(), fixed.get_u16_le());
    let (head_len, head_crc) = (fixed.get_u32_le() as usize, fixed.get_u32_le());
    let (machine_len, machine_crc) = (fixed.get_u64_le(), fixed.get_u32_le());
    if crc != fixed.get_u32_le() {
        return Err("wrong checksum of the fixed part".into());
    }
    Fault::check_version(version, VERSION)?;
    if (FIXED_BYTES as u64 + head_len as u64).checked_add(machine_len) != Some(bytes.len() as u64) {
        return Err(format!("{} bytes are not what it should have", bytes.len()).into());
    }
    let head = bytes.slice(FIXED_BYTES..FIXED_BYTES + head_len);
    let machine = bytes.slice(FIXED_BYTES + head_len..);
    let whole = crc32fast::hash(&head) == head_crc && crc32fast::hash(&machine) == machine_crc;
    if !whole && !planted(Bug::SnapshotCrcIgnored) {
        return Err("wrong checksum".into());
    }
    let head = postcard::from_bytes(&head).map_err(|error| error.to_string())?;
    Ok((head, machine))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::{NodeId, PayloadKey};

    #[test]
    fn another_whole_snapshot_under_its_name_is_damage() {
        let disk = crate::env::disk::MemDisk::new();
        let at = |index| EntryId { term: 1, node: NodeId(1), index };
        let write = |name: &str, index, machine| {
            let head = (at(index), Bytes::new(), Keys::default());
            Snapshot::write(&disk, name.into(), head, machine).unwrap()
        };
        let (old, new) = (write("old", 5, b"state"), write("new", 9, b"STATE"));
        assert_eq!(Snapshot::open(&disk, new.file.clone()).unwrap().info.last, at(9));
        let bytes = disk.read_all(&files::path(&old.file.name)).unwrap();
        disk.create(&files::path(&new.file.name), &bytes).unwrap();
        assert!(Snapshot::open(&disk, new.file).unwrap_err().is_corruption());
    }

    #[test]
    fn golden_bytes() {
        let held = [PayloadKey { index: 3, position: 1 }].into_iter().collect();
        let last = EntryId { term: 2, node: NodeId(1), index: 9 };
        let head = Head { last, meta: Bytes::from_static(b"m"), held };
        let bytes = encode(&head, b"state").unwrap();
        let golden = b"AQSN\x01\0\0\0\
            \x09\0\0\0\xd7\xc1\xd5\xef\x05\0\0\0\0\0\0\0\xfb\xd2\x93\xa3\xeb*\xc8\xc8\
            \x02\x01\x09\x01m\x01\x03\x01\x01state";
        assert_eq!(bytes, golden);
        for bit in 0..bytes.len() * 8 {
            let mut bad = bytes.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            assert!(decode(bad.into()).is_err(), "bit {bit}");
        }
    }
}
