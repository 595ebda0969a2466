//! The manifest: which files count.
//!
//! `events/MANIFEST`, little endian: magic "AQMF", u16 version (1), u16 zero, u32 length of the
//! rest, u32 crc32 of bytes 0..12 and the rest: postcard of [`Manifest`].

use std::io;

use bytes::Buf;
use serde::{Deserialize, Serialize};

use super::DIR;
use crate::env::disk::Disk;
use crate::storage::error::StorageError;
use crate::storage::fault::Fault;

const MAGIC: &[u8; 4] = b"AQMF";
const VERSION: u16 = 1;
const FIXED_BYTES: usize = 16;

/// A file of the event store: name, length and checksum of all of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileInfo {
    /// Unique in the cluster.
    pub name: String,
    /// Bytes.
    pub len: u64,
    /// crc32 of the whole file.
    pub crc: u32,
}

/// A segment file and what it must hold.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SegmentInfo {
    pub file: FileInfo,
    /// Number of events.
    pub events: u64,
}

/// The content of the manifest.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    /// Number that the next file gets; never used twice.
    pub next: u64,
    pub current: Option<FileInfo>,
    pub previous: Option<FileInfo>,
    /// What the two snapshots need.
    pub segments: Vec<SegmentInfo>,
}

/// Path of the manifest.
pub fn path() -> String {
    format!("{DIR}/MANIFEST")
}

impl Manifest {
    /// Whether the manifest names the file.
    pub fn names(&self, name: &str) -> bool {
        let snapshots = self.current.iter().chain(&self.previous);
        snapshots.chain(self.segments.iter().map(|segment| &segment.file)).any(|f| f.name == name)
    }

    /// Reads the manifest; `None` if there is none.
    pub fn read(disk: &dyn Disk) -> Result<Option<Manifest>, StorageError> {
        match disk.read_all(&path()) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(StorageError::io("reading the manifest")(error)),
            Ok(bytes) => decode(&bytes)
                .map(Some)
                .map_err(|fault| fault.of("the manifest of the event store")),
        }
    }

    /// Makes this the manifest, in one step; durable on return.
    pub fn write(&self, disk: &dyn Disk) -> Result<(), StorageError> {
        let failed = StorageError::io("writing the manifest");
        disk.replace(&path(), &self.encode()?).map_err(failed)
    }

    fn encode(&self) -> Result<Vec<u8>, StorageError> {
        let body = postcard::to_stdvec(self)
            .map_err(|error| StorageError::corrupt("a manifest", error.to_string()))?;
        let mut bytes = MAGIC.to_vec();
        bytes.extend_from_slice(&VERSION.to_le_bytes());
        bytes.extend_from_slice(&[0; 2]);
        bytes.extend_from_slice(&(body.len() as u32).to_le_bytes());
        bytes.extend_from_slice(&checksum(&bytes, &body).to_le_bytes());
        bytes.extend_from_slice(&body);
        Ok(bytes)
    }
}

fn checksum(fixed: &[u8], body: &[u8]) -> u32 {
    let mut crc = crc32fast::Hasher::new();
    crc.update(fixed);
    crc.update(body);
    crc.finalize()
}

fn decode(bytes: &[u8]) -> Result<Manifest, Fault> {
    let (fixed, body) = bytes.split_at_checked(FIXED_BYTES).ok_or("it is cut short")?;
    if &fixed[..4] != MAGIC {
        return Err("wrong magic".into());
    }
    let mut rest = &fixed[4..];
    let (version, _zero) = (rest.get_u16_le(), rest.get_u16_le());
    let (len, crc) = (rest.get_u32_le() as usize, rest.get_u32_le());
    if body.len() != len || checksum(&fixed[..12], body) != crc {
        return Err("wrong length or checksum".into());
    }
    Fault::check_version(version, VERSION)?;
    postcard::from_bytes(body).map_err(|error| error.to_string().into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn golden_bytes() {
        let file = |name: &str| FileInfo { name: name.into(), len: 300, crc: 7 };
        let segments = vec![SegmentInfo { file: file("s"), events: 2 }];
        let manifest = Manifest { next: 5, current: Some(file("c")), previous: None, segments };
        let bytes = manifest.encode().unwrap();
        let golden = b"AQMF\x01\0\0\0\x0f\0\0\0\xa2\x14\xd3\x19\
            \x05\x01\x01c\xac\x02\x07\0\x01\x01s\xac\x02\x07\x02";
        assert_eq!(bytes, golden);
        assert_eq!(decode(&bytes).unwrap(), manifest);
        for bit in 0..bytes.len() * 8 {
            let mut bad = bytes.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            assert!(decode(&bad).is_err(), "bit {bit}");
        }
    }
}
