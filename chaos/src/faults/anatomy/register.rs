//! Registers: a small value in two slots, `<name>.a` and `<name>.b`.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use super::EntryId;

const FIXED_BYTES: usize = 24;
/// Name ends of the two slots.
pub const SLOTS: [&str; 2] = ["a", "b"];

/// A whole slot.
#[derive(Debug, Clone)]
pub struct Slot {
    pub path: PathBuf,
    pub generation: u64,
    pub payload: Vec<u8>,
}

impl Slot {
    /// Bytes that count; what follows in the file is a leftover.
    pub fn bytes(&self) -> u64 {
        (FIXED_BYTES + self.payload.len()) as u64
    }
}

/// Both slots of a register, which must be whole.
pub fn slots(dir: &Path, name: &str) -> Result<Vec<Slot>> {
    SLOTS.iter().map(|slot| read(dir.join(format!("{name}.{slot}")))).collect()
}

/// The value of a register: that of the newer whole slot.
pub fn value(dir: &Path, name: &str) -> Result<Vec<u8>> {
    let slots = SLOTS.iter().flat_map(|slot| read(dir.join(format!("{name}.{slot}"))));
    let newest = slots.max_by_key(|slot| slot.generation);
    Ok(newest.with_context(|| format!("no slot of register {name} is whole"))?.payload)
}

/// Entries below this index were durable.
pub fn mark(dir: &Path) -> Result<u64> {
    let value = value(dir, "mark")?;
    let end = value.first_chunk().context("the mark is too short")?;
    Ok(u64::from_le_bytes(*end))
}

/// The last entry that was purged from the log.
pub fn floor(dir: &Path) -> Result<Option<EntryId>> {
    postcard::from_bytes(&value(dir, "floor")?).context("understand the floor")
}

fn read(path: PathBuf) -> Result<Slot> {
    let bytes = std::fs::read(&path).with_context(|| format!("read {}", path.display()))?;
    match parse(&bytes) {
        Some((generation, payload)) => Ok(Slot { path, generation, payload }),
        None => bail!("{} is not whole", path.display()),
    }
}

/// Generation and payload of a slot's bytes, if they are whole.
pub fn parse(bytes: &[u8]) -> Option<(u64, Vec<u8>)> {
    let number = |at: usize, len: usize| {
        let mut number = [0; 8];
        number[..len].copy_from_slice(bytes.get(at..at + len)?);
        Some(u64::from_le_bytes(number))
    };
    let (generation, len, crc) = (number(8, 8)?, number(16, 4)?, number(20, 4)?);
    let payload = bytes.get(FIXED_BYTES..FIXED_BYTES.checked_add(len as usize)?)?.to_vec();
    let mut found = crc32fast::Hasher::new();
    found.update(&bytes[..20]);
    found.update(&payload);
    let is_whole = bytes.starts_with(b"AQRG") && u64::from(found.finalize()) == crc;
    is_whole.then_some((generation, payload))
}
