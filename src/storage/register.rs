//! A small value in two checksummed slots: one bad slot is repaired, two are damage.
//!
//! Slot file, little endian:
//!
//! ```text
//! 0   4   magic "AQRG"
//! 4   u16 version (1), u16 zero
//! 8   u64 generation: the greater of two valid slots wins
//! 16  u32 length of the payload
//! 20  u32 crc32 of bytes 0..20 and the payload
//! 24  ..  payload; what follows it is a leftover of a longer one
//! ```
//!
//! A slot file appears by rename, so a bad one is damage or a torn overwrite, never a torn
//! creation.

use std::io;
use std::sync::Arc;

use bytes::{Buf, Bytes};

use super::error::StorageError;
use super::fault::Fault;
use crate::env::disk::Disk;
use crate::types::limits::REGISTER_BYTES_MAX;

const MAGIC: &[u8; 4] = b"AQRG";
const VERSION: u16 = 1;
const FIXED_BYTES: usize = 24;
const SLOTS: [&str; 2] = ["a", "b"];

/// A pair of slot files on a disk.
pub struct Register {
    disk: Arc<dyn Disk>,
    path: String,
    generation: u64,
    /// The slot that the next single write goes to: the older one.
    next: usize,
    value: Option<Bytes>,
}

enum Slot {
    Absent,
    Bad(String),
    Newer(Fault),
    Good { generation: u64, payload: Bytes },
}

impl Register {
    /// Opens the register at `path`, repairing one bad slot. Both bad, or one bad and the other
    /// absent, is [`StorageError::Corrupt`]. Both slots hold the value, durably, on return.
    ///
    /// What is read may never have reached the disk: its sync failed, or its writer was killed. So
    /// of two good slots the newer is written again, as it is, and synced before the other one,
    /// perhaps the only one on the disk, is touched.
    pub fn open(disk: Arc<dyn Disk>, path: &str) -> Result<Register, StorageError> {
        let Some(Newest { place, other_is_good, generation, payload }) = newest(&*disk, path)?
        else {
            return Ok(Register {
                disk,
                path: path.to_owned(),
                generation: 0,
                next: 0,
                value: None,
            });
        };
        let next = if other_is_good { place } else { 1 - place };
        let value = Some(payload.clone());
        let mut register = Register { disk, path: path.to_owned(), generation, next, value };
        register.write_slots(&payload)?;
        Ok(register)
    }

    /// The value of the register at `path`, changing nothing: somebody else may have it open.
    pub fn peek(disk: &dyn Disk, path: &str) -> Result<Option<Bytes>, StorageError> {
        Ok(newest(disk, path)?.map(|newest| newest.payload))
    }

    /// The value last written, or `None` if there never was one.
    pub fn value(&self) -> Option<&Bytes> {
        self.value.as_ref()
    }

    /// Writes and syncs one slot after the other; durable in both on return.
    pub fn write_both(&mut self, payload: &[u8]) -> Result<(), StorageError> {
        self.generation += 1;
        self.write_slots(payload)
    }

    /// Writes and syncs the older slot only: one sync; a crash or damage may bring back the value
    /// before.
    pub fn write_next(&mut self, payload: &[u8]) -> Result<(), StorageError> {
        self.generation += 1;
        self.write_slot(payload)
    }

    fn write_slots(&mut self, payload: &[u8]) -> Result<(), StorageError> {
        for _ in SLOTS {
            self.write_slot(payload)?;
        }
        Ok(())
    }

    fn write_slot(&mut self, payload: &[u8]) -> Result<(), StorageError> {
        if payload.len() > REGISTER_BYTES_MAX {
            let what = format!("value of register {}", self.path);
            return Err(StorageError::TooLarge {
                what,
                bytes: payload.len(),
                max: REGISTER_BYTES_MAX,
            });
        }
        let path = format!("{}.{}", self.path, SLOTS[self.next]);
        let bytes = encode(self.generation, payload);
        let failed = || StorageError::io(format!("writing register {path}"));
        if self.disk.exists(&path).map_err(failed())? {
            self.disk.write_at(&path, 0, &bytes).map_err(failed())?;
            let failed = StorageError::sync(format!("syncing register {path}"));
            self.disk.sync(&path).map_err(failed)?;
        } else {
            self.disk.replace(&path, &bytes).map_err(failed())?;
        }
        self.next = 1 - self.next;
        self.value = Some(Bytes::copy_from_slice(payload));
        Ok(())
    }
}

/// The newer of the good slots.
struct Newest {
    place: usize,
    other_is_good: bool,
    generation: u64,
    payload: Bytes,
}

/// `None`: there never was a value. One bad slot and no good one is damage.
fn newest(disk: &dyn Disk, path: &str) -> Result<Option<Newest>, StorageError> {
    let (mut newest, mut bad) = (None::<Newest>, None);
    for (place, slot) in SLOTS.iter().enumerate() {
        match read_slot(disk, &format!("{path}.{slot}"))? {
            Slot::Absent => {}
            Slot::Bad(detail) => bad = Some(detail),
            // The other slot may be whole and old: it must not win.
            Slot::Newer(fault) => return Err(fault.of(format!("register {path}"))),
            Slot::Good { generation, payload } => match &mut newest {
                Some(other) if other.generation >= generation => other.other_is_good = true,
                other => {
                    let other_is_good = other.is_some();
                    newest = Some(Newest { place, other_is_good, generation, payload });
                }
            },
        }
    }
    match (newest, bad) {
        (None, Some(detail)) => Err(StorageError::corrupt(format!("register {path}"), detail)),
        (newest, _) => Ok(newest),
    }
}

fn read_slot(disk: &dyn Disk, path: &str) -> Result<Slot, StorageError> {
    let failed = || StorageError::io(format!("reading register {path}"));
    let len = match disk.len(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Slot::Absent),
        other => usize::try_from(other.map_err(failed())?).unwrap_or(usize::MAX),
    };
    let bytes = disk.read(path, 0, len.min(FIXED_BYTES + REGISTER_BYTES_MAX)).map_err(failed())?;
    Ok(decode(bytes.into()))
}

fn encode(generation: u64, payload: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(FIXED_BYTES + payload.len());
    bytes.extend_from_slice(MAGIC);
    bytes.extend_from_slice(&VERSION.to_le_bytes());
    bytes.extend_from_slice(&[0; 2]);
    bytes.extend_from_slice(&generation.to_le_bytes());
    bytes.extend_from_slice(&(payload.len() as u32).to_le_bytes());
    let crc = checksum(&bytes, payload);
    bytes.extend_from_slice(&crc.to_le_bytes());
    bytes.extend_from_slice(payload);
    bytes
}

fn decode(bytes: Bytes) -> Slot {
    let Some(fixed) = bytes.get(..FIXED_BYTES) else {
        return Slot::Bad(format!("a slot of {} bytes is cut short", bytes.len()));
    };
    if &fixed[..4] != MAGIC {
        return Slot::Bad("wrong magic".into());
    }
    let mut rest = &fixed[4..];
    let (version, _zero) = (rest.get_u16_le(), rest.get_u16_le());
    let (generation, len, crc) = (rest.get_u64_le(), rest.get_u32_le(), rest.get_u32_le());
    let end = FIXED_BYTES.saturating_add(len as usize);
    match bytes.get(FIXED_BYTES..end) {
        Some(payload) if checksum(&fixed[..20], payload) == crc => {
            match Fault::check_version(version, VERSION) {
                Ok(()) => Slot::Good { generation, payload: bytes.slice(FIXED_BYTES..end) },
                Err(newer @ Fault::Newer { .. }) => Slot::Newer(newer),
                Err(Fault::Damaged(detail)) => Slot::Bad(detail),
            }
        }
        _ => Slot::Bad("wrong checksum".into()),
    }
}

fn checksum(fixed: &[u8], payload: &[u8]) -> u32 {
    let mut crc = crc32fast::Hasher::new();
    crc.update(fixed);
    crc.update(payload);
    crc.finalize()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::env::disk::{Keep, MemDisk};

    fn open(disk: &MemDisk) -> Result<Register, StorageError> {
        Register::open(Arc::new(disk.clone()), "r")
    }

    fn value(disk: &MemDisk) -> Option<Bytes> {
        open(disk).unwrap().value().cloned()
    }

    #[test]
    fn golden_bytes() {
        let golden = b"AQRG\x01\0\0\0\x05\0\0\0\0\0\0\0\x02\0\0\0lq%\xf2hi";
        assert_eq!(encode(5, b"hi"), golden);
    }

    #[test]
    fn one_bad_slot_is_repaired_and_two_are_damage() {
        let disk = MemDisk::new();
        assert_eq!(value(&disk), None);
        open(&disk).unwrap().write_both(b"vote").unwrap();
        for bit in 0..28 * 8 {
            for slot in ["r.a", "r.b"] {
                assert!(disk.flip_bit(slot, bit));
                assert_eq!(value(&disk).unwrap(), "vote", "bit {bit} of {slot}");
            }
        }
        disk.flip_bit("r.a", 100);
        disk.flip_bit("r.b", 100);
        assert!(open(&disk).is_err());
    }

    #[test]
    fn a_crash_leaves_the_acknowledged_or_the_next_value() {
        for seed in 0..200 {
            let disk = MemDisk::new();
            let mut register = open(&disk).unwrap();
            register.write_both(b"first").unwrap();
            register.write_next(b"second, longer").unwrap();
            register.write_next(b"3").unwrap();
            assert_eq!(value(&disk.crash(Keep::Some, seed)).unwrap(), "3");
            disk.fail_sync(true);
            assert!(register.write_next(b"torn, perhaps").is_err());
            let found = value(&disk.crash(Keep::Some, seed)).unwrap();
            assert!(found == "3" || found == "torn, perhaps", "{found:?}");
        }
    }

    /// Opens it again after the process died or could not start, the machine running on.
    fn reopened(disk: &MemDisk, failing: bool) -> (MemDisk, Result<Register, StorageError>) {
        let disk = disk.crash(Keep::Everything, 0);
        disk.fail_sync(failing);
        let register = open(&disk);
        (disk, register)
    }

    #[test]
    fn syncs_that_fail_again_and_again_leave_one_whole_slot() {
        for seed in 0..200 {
            let disk = MemDisk::new();
            let mut register = open(&disk).unwrap();
            register.write_both(b"first").unwrap();
            disk.fail_sync(true);
            assert!(register.write_both(b"second, longer").is_err());
            let (disk, register) = reopened(&disk, true);
            assert!(register.is_err());
            let (disk, register) = reopened(&disk, true);
            assert!(register.is_err());
            let found = value(&disk.crash(Keep::Some, seed)).unwrap();
            assert!(found == "first" || found == "second, longer", "{found:?}");
            let (disk, register) = reopened(&disk, false);
            let found = register.unwrap().value().cloned();
            assert_eq!(value(&disk.crash(Keep::Nothing, seed)), found, "it was durable");
        }
    }

    #[test]
    fn looking_changes_nothing() {
        let disk = MemDisk::new();
        let look = |disk: &MemDisk| Register::peek(disk, "r").unwrap();
        assert_eq!(look(&disk), None);
        let mut register = open(&disk).unwrap();
        register.write_next(b"first").unwrap();
        register.write_next(b"second").unwrap();
        let syncs = disk.syncs();
        assert_eq!(look(&disk).unwrap(), "second");
        assert_eq!(disk.syncs(), syncs);
    }

    #[test]
    fn too_large_a_value_is_refused() {
        let mut register = open(&MemDisk::new()).unwrap();
        let error = register.write_both(&[0; REGISTER_BYTES_MAX + 1]).unwrap_err();
        assert!(matches!(error, StorageError::TooLarge { .. }));
    }
}
