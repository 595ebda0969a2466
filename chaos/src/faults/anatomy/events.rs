//! The event store: manifest, snapshots, segments.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde::Deserialize;

use super::{EntryId, register};

const MANIFEST_FIXED_BYTES: usize = 16;
const SNAPSHOT_FIXED_BYTES: usize = 32;
const SEGMENT_HEAD_BYTES: u64 = 8;
const SEGMENT_FOOTER_BYTES: u64 = 24;

/// A file that the manifest names.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct FileInfo {
    pub name: String,
    pub len: u64,
    pub crc: u32,
}

/// A segment that the manifest names.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct SegmentInfo {
    pub file: FileInfo,
    pub events: u64,
}

/// Which files count.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Manifest {
    pub next: u64,
    pub current: Option<FileInfo>,
    pub previous: Option<FileInfo>,
    pub segments: Vec<SegmentInfo>,
}

/// Path of a file of the event store.
pub fn path(dir: &Path, name: &str) -> PathBuf {
    dir.join("events").join(name)
}

/// Path of the manifest.
pub fn manifest_path(dir: &Path) -> PathBuf {
    path(dir, "MANIFEST")
}

/// Reads the manifest, which must be whole.
pub fn manifest(dir: &Path) -> Result<Manifest> {
    let bytes = std::fs::read(manifest_path(dir)).context("read the manifest")?;
    let (fixed, body) = bytes.split_at_checked(MANIFEST_FIXED_BYTES).context("cut short")?;
    let crc = crc32fast::hash(&[&fixed[..12], body].concat()).to_le_bytes();
    anyhow::ensure!(fixed.starts_with(b"AQMF") && fixed[12..] == crc, "the manifest is damaged");
    postcard::from_bytes(body).context("understand the manifest")
}

/// The last entry that a snapshot covers; an error if it is not whole.
pub fn last_of(dir: &Path, snapshot: &FileInfo) -> Result<EntryId> {
    let bytes = std::fs::read(path(dir, &snapshot.name)).context("read a snapshot")?;
    anyhow::ensure!(crc32fast::hash(&bytes) == snapshot.crc, "the snapshot is damaged");
    let head = bytes.get(SNAPSHOT_FIXED_BYTES..).context("the snapshot is cut short")?;
    let (last, _) = postcard::take_from_bytes(head).context("understand a snapshot")?;
    Ok(last)
}

/// Whether a snapshot is whole and the log goes on where it ends.
pub fn is_usable(dir: &Path, snapshot: &FileInfo) -> bool {
    let floor = register::floor(dir).ok().flatten();
    last_of(dir, snapshot).is_ok_and(|last| floor.is_none_or(|f| last.index >= f.index))
}

/// Whether what the manifest names is enough to start from, by its rules: all segments, and the
/// newest snapshot or the one before.
pub fn is_sufficient(dir: &Path, manifest: &Manifest) -> bool {
    let exists = |segment: &SegmentInfo| path(dir, &segment.file.name).exists();
    let Manifest { current, previous, segments, .. } = manifest;
    let fresh = current.is_none() && register::floor(dir).is_ok_and(|floor| floor.is_none());
    segments.iter().all(exists)
        && (fresh || current.iter().chain(previous).any(|snapshot| is_usable(dir, snapshot)))
}

/// Where the events of a segment lie, and how long its file is.
pub fn events_of(dir: &Path, segment: &FileInfo) -> Result<(std::ops::Range<u64>, u64)> {
    let bytes = std::fs::read(path(dir, &segment.name)).context("read a segment")?;
    let len = bytes.len() as u64;
    let footer = len.checked_sub(SEGMENT_FOOTER_BYTES).context("the segment is cut short")?;
    let at = bytes.get(footer as usize..footer as usize + 8).context("the segment is cut short")?;
    let end = u64::from_le_bytes(at.try_into()?);
    anyhow::ensure!((SEGMENT_HEAD_BYTES..footer).contains(&end), "the segment is damaged");
    Ok((SEGMENT_HEAD_BYTES..end, len))
}
