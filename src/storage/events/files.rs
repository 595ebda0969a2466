//! Names of files, and reading them by pieces.

use std::io;

use super::DIR;
use super::manifest::FileInfo;
use crate::env::disk::Disk;
use crate::planted::{Bug, planted};
use crate::storage::error::StorageError;
use crate::types::NodeId;

/// Bytes of a file that are read, or written and synced, at a time.
const PIECE_BYTES: u64 = 1 << 20;

/// Name of a segment.
pub fn segment_name(node: NodeId, number: u64) -> String {
    format!("seg-{:016x}-{number:010}", node.0)
}

/// Name of a snapshot.
pub fn snapshot_name(node: NodeId, number: u64) -> String {
    format!("snap-{:016x}-{number:010}", node.0)
}

/// The number in the name of a file.
pub fn number(name: &str) -> Option<u64> {
    name.rsplit_once('-')?.1.parse().ok()
}

/// Whether a name, given by a peer, is one that this module makes.
pub fn is_name(name: &str) -> bool {
    let rest = name.strip_prefix("seg-").or_else(|| name.strip_prefix("snap-"));
    rest.is_some_and(|rest| {
        rest.len() <= 64 && rest.bytes().all(|byte| byte.is_ascii_hexdigit() || byte == b'-')
    })
}

/// Whether the name is that of a snapshot.
pub fn is_snapshot(name: &str) -> bool {
    name.starts_with("snap-")
}

/// The file of this name among those of a snapshot.
pub fn find<'a>(files: &'a [FileInfo], name: &str) -> Result<&'a FileInfo, StorageError> {
    let found = files.iter().find(|file| file.name == name);
    found.ok_or_else(|| StorageError::UnknownFile(name.to_owned()))
}

/// Path of a file.
pub fn path(name: &str) -> String {
    format!("{DIR}/{name}")
}

/// Writes a file and makes its content durable; its name becomes so with the manifest.
pub fn write(disk: &dyn Disk, name: String, bytes: &[u8]) -> Result<FileInfo, StorageError> {
    let (path, failed) = (path(&name), || StorageError::io(format!("writing {name}")));
    let mut pieces = bytes.chunks(PIECE_BYTES as usize);
    disk.create(&path, pieces.next().unwrap_or_default()).map_err(failed())?;
    let mut offset = PIECE_BYTES;
    loop {
        // Piece by piece, so that the log's syncs need not wait for all of it.
        if !planted(Bug::FilesNotSynced) {
            disk.sync(&path).map_err(failed())?;
        }
        let Some(piece) = pieces.next() else { break };
        disk.write_at(&path, offset, piece).map_err(failed())?;
        offset += PIECE_BYTES;
    }
    Ok(FileInfo { len: bytes.len() as u64, crc: crc32fast::hash(bytes), name })
}

/// Path of a file on its way in.
pub fn part(name: &str) -> String {
    format!("{}.part", path(name))
}

/// Whether the name is that of a file on its way in.
pub fn is_part(name: &str) -> bool {
    name.ends_with(".part")
}

/// Whether reading failed because of what is, or is not, on the disk.
pub fn is_damage(error: &io::Error) -> bool {
    /// Linux: the device could not read it.
    const EIO: i32 = 5;
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::UnexpectedEof)
        || error.raw_os_error() == Some(EIO)
}

/// Describes a file as it lies on the disk.
pub fn found(disk: &dyn Disk, name: &str) -> Result<FileInfo, StorageError> {
    let failed = || StorageError::io(format!("reading {name}"));
    let len = disk.len(&path(name)).map_err(failed())?;
    let crc = checksum(disk, &path(name), len)?;
    Ok(FileInfo { name: name.to_owned(), len, crc })
}

/// Checks length and checksum of the file at `path` against what was announced.
pub fn verify(disk: &dyn Disk, path: &str, file: &FileInfo) -> Result<(), StorageError> {
    let len = disk.len(path).map_err(StorageError::io(format!("reading {path}")))?;
    if len != file.len {
        let detail = format!("it has {len} bytes instead of {}", file.len);
        return Err(StorageError::corrupt(path, detail));
    }
    if checksum(disk, path, len)? == file.crc {
        Ok(())
    } else {
        Err(StorageError::corrupt(path, "wrong checksum"))
    }
}

fn checksum(disk: &dyn Disk, path: &str, len: u64) -> Result<u32, StorageError> {
    let mut crc = crc32fast::Hasher::new();
    let mut offset = 0;
    while offset < len {
        let piece = PIECE_BYTES.min(len - offset);
        let failed = StorageError::io(format!("reading {path}"));
        crc.update(&disk.read(path, offset, piece as usize).map_err(failed)?);
        offset += piece;
    }
    Ok(crc.finalize())
}
