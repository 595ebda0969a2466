//! What lies where in a node's directory, read independently of the product: where to hit it, and
//! what it must then make of that. See "Files of a node" in docs/ARCHITECTURE.md.

pub mod events;
pub mod log;
pub mod register;

use std::fs::{File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::Path;

use anyhow::{Context, Result};

/// Flips one bit of a file.
pub fn flip(path: &Path, offset: u64, bit: u8) -> Result<()> {
    let file = open(path)?;
    let mut byte = [0];
    file.read_exact_at(&mut byte, offset).context("read the byte to damage")?;
    file.write_all_at(&[byte[0] ^ (1 << (bit % 8))], offset).context("damage a byte")
}

/// Cuts a file off.
pub fn truncate(path: &Path, len: u64) -> Result<()> {
    open(path)?.set_len(len).with_context(|| format!("truncate {}", path.display()))
}

fn open(path: &Path) -> Result<File> {
    let file = OpenOptions::new().read(true).write(true).open(path);
    file.with_context(|| format!("open {}", path.display()))
}

/// An entry of the log, as postcard has it in snapshots and the floor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Deserialize)]
pub struct EntryId {
    pub term: u64,
    pub node: u64,
    pub index: u64,
}
