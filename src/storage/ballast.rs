//! Space that is kept aside for a disk that has none left.
//!
//! A log database cannot even be opened on a full disk. So while there is plenty a node fills a file
//! `ballast` with nothing, and gives it up when it has run out of space: what it gets back is enough
//! to open, to have events settled, and to purge. The file is a convenience: nothing fails for want
//! of it, and a damaged one, or one of another size, is just made again.

use std::io;
use std::path::Path;
use std::sync::Arc;

use super::error::StorageError;
use crate::env::disk::{Disk, RealDisk};

/// Its name in the data directory.
pub const BALLAST: &str = "ballast";
/// Taken for a moment to see whether there is room.
const PROBE: &str = "ballast.probe";

/// The ballast of one node.
#[derive(Clone)]
pub struct Ballast {
    disk: Arc<dyn Disk>,
    bytes: u64,
}

impl Ballast {
    /// That of the node on `disk`, `bytes` long; 0: it has none.
    pub fn new(disk: Arc<dyn Disk>, bytes: u64) -> Ballast {
        Ballast { disk, bytes }
    }

    /// That of the node in `dir`.
    pub fn of(dir: &Path, bytes: u64) -> Result<Ballast, StorageError> {
        let disk = RealDisk::open(dir);
        let disk = disk.map_err(StorageError::io(format!("opening {}", dir.display())))?;
        Ok(Ballast::new(Arc::new(disk), bytes))
    }

    /// Bytes that are still to be put aside.
    pub fn lacks(&self) -> Result<u64, StorageError> {
        let held = match self.disk.len(BALLAST) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => 0,
            other => other.map_err(StorageError::io("looking at the ballast"))?,
        };
        Ok(self.bytes.saturating_sub(held))
    }

    /// Puts the space aside, unless it is.
    pub fn make(&self) -> Result<(), StorageError> {
        if self.lacks()? == 0 {
            return Ok(());
        }
        let made = self.disk.allocate(BALLAST, self.bytes);
        made.and_then(|()| self.disk.sync_dir("")).map_err(StorageError::io("making the ballast"))
    }

    /// Gives the space back; it is free on return. Whether there was any.
    pub fn give_up(&self) -> Result<bool, StorageError> {
        let failed = || StorageError::io("giving up the ballast");
        // A probe that a killed process left behind.
        self.disk.remove(PROBE).map_err(failed())?;
        if !self.disk.exists(BALLAST).map_err(failed())? {
            return Ok(false);
        }
        self.disk.remove(BALLAST).map_err(failed())?;
        // On some file systems the space is free only then.
        self.disk.sync_dir("").map_err(failed())?;
        Ok(true)
    }

    /// Whether there is room for so many bytes. It is tried: quotas and the like are not in the free
    /// space that a file system tells.
    pub fn is_room_for(&self, bytes: u64) -> bool {
        let free = self.disk.free_bytes();
        if !free.is_ok_and(|free| free >= bytes) {
            return false;
        }
        let taken = self.disk.allocate(PROBE, bytes);
        self.disk.remove(PROBE).is_ok() && taken.is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::env::disk::MemDisk;

    const MIB: u64 = 1 << 20;

    #[test]
    fn its_space_is_taken_and_given_back() {
        let dir = tempfile::tempdir().unwrap();
        let ballast = Ballast::of(dir.path(), 3 * MIB).unwrap();
        assert_eq!(ballast.lacks().unwrap(), 3 * MIB);
        ballast.make().unwrap();
        ballast.make().unwrap();
        assert_eq!(ballast.lacks().unwrap(), 0);
        use std::os::unix::fs::MetadataExt;
        let blocks = std::fs::metadata(dir.path().join(BALLAST)).unwrap().blocks();
        assert!(blocks * 512 >= 3 * MIB, "{blocks} blocks are really taken");
        assert!(ballast.is_room_for(MIB));
        assert!(ballast.give_up().unwrap() && !ballast.give_up().unwrap());
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0, "nothing is left");
    }

    #[test]
    fn a_full_disk_has_room_again_without_it() {
        let disk = MemDisk::new();
        let ballast = Ballast::new(Arc::new(disk.clone()), 2 * MIB);
        ballast.make().unwrap();
        disk.fill(Some(MIB - 1));
        assert!(!ballast.is_room_for(MIB));
        assert!(ballast.give_up().unwrap() && ballast.is_room_for(MIB));
        assert!(disk.paths().is_empty(), "a probe leaves nothing");
        let failed = Ballast::new(Arc::new(disk.clone()), 9 * MIB).make();
        assert!(failed.unwrap_err().is_full() && disk.paths().is_empty());
        let none = Ballast::new(Arc::new(disk.clone()), 0);
        none.make().unwrap();
        assert!(disk.paths().is_empty() && !none.give_up().unwrap());
    }

    #[test]
    fn one_that_is_too_short_is_made_again_and_survives_a_crash() {
        let disk = MemDisk::new();
        Ballast::new(Arc::new(disk.clone()), MIB).make().unwrap();
        let ballast = Ballast::new(Arc::new(disk.clone()), 2 * MIB);
        assert_eq!(ballast.lacks().unwrap(), MIB);
        ballast.make().unwrap();
        let after = disk.crash(crate::env::disk::Keep::Nothing, 0);
        assert_eq!(Ballast::new(Arc::new(after), 2 * MIB).lacks().unwrap(), 0);
    }
}
