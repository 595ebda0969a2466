//! A disk in memory that remembers what is durable, so that a test can cut the power.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::{Disk, directory_of};

/// What a crash leaves of that which was written and not synced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Keep {
    /// Only what was synced.
    Nothing,
    /// All of it, as when a process is killed and the kernel lives; a later crash may still take it.
    Everything,
    /// By chance: each unsynced write whole, torn or not at all; names up to some point.
    Some,
}

/// A directory tree in memory. Clones share it; a crash leaves them behind with the old tree.
#[derive(Debug, Clone, Default)]
pub struct MemDisk(Arc<Mutex<Tree>>);

#[derive(Debug, Clone, Default)]
struct Tree {
    names: BTreeMap<String, u64>,
    durable_names: BTreeMap<String, u64>,
    unsynced_names: Vec<Naming>,
    files: BTreeMap<u64, Content>,
    next_file: u64,
    fail_sync: bool,
    /// What a sync of a file takes; it blocks the thread.
    sync_time: Duration,
    /// Bytes that all files together may have, if there is a limit.
    capacity: Option<u64>,
    /// Bytes said to be free.
    free: Option<u64>,
    syncs: u64,
    /// Changes that will still succeed once a file has been removed.
    changes_after_removal: Option<u64>,
    /// Changes that still succeed before the power goes.
    changes_left: Option<u64>,
}

#[derive(Debug, Clone, Default)]
struct Content {
    bytes: Vec<u8>,
    durable: Vec<u8>,
    unsynced: Vec<Change>,
}

#[derive(Debug, Clone)]
enum Change {
    Write { offset: usize, bytes: Vec<u8> },
    Cut,
}

#[derive(Debug, Clone)]
enum Naming {
    Add(String, u64),
    Move(String, String),
    Drop(String),
}

impl MemDisk {
    /// An empty disk.
    pub fn new() -> MemDisk {
        MemDisk::default()
    }

    /// The disk as it is found after a power cut: a tree of its own, with all faults repaired.
    /// Who still holds the old one writes into the void. `seed` decides for [`Keep::Some`].
    pub fn crash(&self, keep: Keep, seed: u64) -> MemDisk {
        let mut tree = self.tree().clone();
        let mut chance = fastrand::Rng::with_seed(seed);
        tree.crash(keep, &mut chance);
        MemDisk(Arc::new(Mutex::new(tree)))
    }

    /// Makes every sync fail (or succeed again).
    pub fn fail_sync(&self, fail: bool) {
        self.tree().fail_sync = fail;
    }

    /// Makes every sync of a file take so long.
    pub fn slow_syncs(&self, time: Duration) {
        self.tree().sync_time = time;
    }

    /// Leaves only `leave` bytes free; `None`: as many as anybody wants. What is removed makes room.
    pub fn fill(&self, leave: Option<u64>) {
        let mut tree = self.tree();
        tree.capacity = leave.map(|leave| tree.used_bytes() + leave);
    }

    /// Bytes of all files.
    pub fn used_bytes(&self) -> u64 {
        self.tree().used_bytes()
    }

    /// Says that so many bytes are free; whether writes succeed is another matter.
    pub fn leave_free(&self, bytes: u64) {
        self.tree().free = Some(bytes);
    }

    /// Lets the next `changes` changes and syncs succeed; all after them fail. For crashes in the
    /// middle of an operation.
    pub fn cut_power_after(&self, changes: u64) {
        self.tree().changes_left = Some(changes);
    }

    /// Lets everything succeed up to the next removal of a file, and then `changes` more changes
    /// and syncs: what is removed and what makes it superfluous must come in the right order.
    pub fn cut_power_after_removal(&self, changes: u64) {
        self.tree().changes_after_removal = Some(changes);
    }

    /// Whether changes still succeed.
    pub fn has_power(&self) -> bool {
        self.tree().changes_left != Some(0)
    }

    /// Flips one bit of a file, durably. Returns false if the file is shorter.
    pub fn flip_bit(&self, path: &str, bit: usize) -> bool {
        let mut tree = self.tree();
        let Ok(content) = tree.content(path) else { return false };
        let mask = 1 << (bit % 8);
        if let Some(byte) = content.durable.get_mut(bit / 8) {
            *byte ^= mask;
        }
        content.bytes.get_mut(bit / 8).map(|byte| *byte ^= mask).is_some()
    }

    /// Paths of all files.
    pub fn paths(&self) -> Vec<String> {
        self.tree().names.keys().cloned().collect()
    }

    /// Number of successful file syncs so far.
    pub fn syncs(&self) -> u64 {
        self.tree().syncs
    }

    fn tree(&self) -> MutexGuard<'_, Tree> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Tree {
    fn content(&mut self, path: &str) -> io::Result<&mut Content> {
        let id = self.names.get(path).ok_or_else(|| missing(path))?;
        self.files.get_mut(id).ok_or_else(|| missing(path))
    }

    fn used_bytes(&self) -> u64 {
        self.names.values().filter_map(|id| self.files.get(id)).map(Content::len).sum()
    }

    /// Whether the file may become `len` bytes long. One that does not grow always may.
    fn check_room(&self, path: &str, len: u64) -> io::Result<()> {
        let file = self.names.get(path).and_then(|id| self.files.get(id));
        let grows = len.saturating_sub(file.map_or(0, Content::len));
        match self.capacity {
            // A name takes space, too.
            Some(capacity)
                if grows.max(file.is_none().into())
                    > capacity.saturating_sub(self.used_bytes()) =>
            {
                Err(io::ErrorKind::StorageFull.into())
            }
            _ => Ok(()),
        }
    }

    fn content_or_new(&mut self, path: &str, len: u64) -> io::Result<&mut Content> {
        self.check_power()?;
        self.check_room(path, len)?;
        if !self.names.contains_key(path) {
            self.next_file += 1;
            self.names.insert(path.to_owned(), self.next_file);
            self.files.insert(self.next_file, Content::default());
            self.unsynced_names.push(Naming::Add(path.to_owned(), self.next_file));
        }
        self.content(path)
    }

    fn check_power(&mut self) -> io::Result<()> {
        match &mut self.changes_left {
            Some(0) => Err(io::Error::other("the power is off")),
            Some(left) => {
                *left -= 1;
                Ok(())
            }
            None => Ok(()),
        }
    }

    fn check_sync(&mut self) -> io::Result<()> {
        self.check_power()?;
        if self.fail_sync { Err(io::Error::from_raw_os_error(5)) } else { Ok(()) }
    }

    fn crash(&mut self, keep: Keep, chance: &mut fastrand::Rng) {
        (self.fail_sync, self.capacity, self.changes_left) = (false, None, None);
        self.sync_time = Duration::ZERO;
        self.changes_after_removal = None;
        if keep == Keep::Everything {
            return;
        }
        let unsynced = std::mem::take(&mut self.unsynced_names);
        let kept = if keep == Keep::Some { chance.usize(0..=unsynced.len()) } else { 0 };
        for naming in &unsynced[..kept] {
            naming.apply(&mut self.durable_names);
        }
        self.names = self.durable_names.clone();
        let named: Vec<u64> = self.names.values().copied().collect();
        self.files.retain(|id, _| named.contains(id));
        self.files.values_mut().for_each(|content| content.crash(keep, chance));
    }
}

impl Naming {
    fn apply(&self, names: &mut BTreeMap<String, u64>) {
        match self {
            Naming::Add(name, id) => {
                names.insert(name.clone(), *id);
            }
            Naming::Move(from, to) => {
                if let Some(id) = names.remove(from) {
                    names.insert(to.clone(), id);
                }
            }
            Naming::Drop(name) => {
                names.remove(name);
            }
        }
    }

    fn directory(&self) -> &str {
        match self {
            Naming::Add(name, _) | Naming::Drop(name) | Naming::Move(name, _) => directory_of(name),
        }
    }
}

impl Content {
    fn len(&self) -> u64 {
        self.bytes.len() as u64
    }

    fn change(&mut self, change: Change) {
        change.apply(&mut self.bytes);
        self.unsynced.push(change);
    }

    fn crash(&mut self, keep: Keep, chance: &mut fastrand::Rng) {
        for change in std::mem::take(&mut self.unsynced) {
            match chance.u8(0..3) {
                _ if keep == Keep::Nothing => {}
                0 => {}
                1 => change.apply(&mut self.durable),
                _ => change.torn(chance).apply(&mut self.durable),
            }
        }
        self.bytes = self.durable.clone();
    }
}

impl Change {
    fn apply(&self, content: &mut Vec<u8>) {
        match self {
            Change::Cut => content.clear(),
            Change::Write { offset, bytes } => {
                let end = offset + bytes.len();
                if content.len() < end {
                    content.resize(end, 0);
                }
                content[*offset..end].copy_from_slice(bytes);
            }
        }
    }

    fn torn(self, chance: &mut fastrand::Rng) -> Change {
        match self {
            Change::Write { offset, mut bytes } => {
                bytes.truncate(chance.usize(0..=bytes.len()));
                Change::Write { offset, bytes }
            }
            Change::Cut => Change::Cut,
        }
    }
}

impl Disk for MemDisk {
    fn write_at(&self, path: &str, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let offset = usize::try_from(offset).map_err(io::Error::other)?;
        let mut tree = self.tree();
        let end = (offset + bytes.len()) as u64;
        tree.content_or_new(path, end)?.change(Change::Write { offset, bytes: bytes.to_vec() });
        Ok(())
    }

    fn create(&self, path: &str, bytes: &[u8]) -> io::Result<()> {
        let mut tree = self.tree();
        let content = tree.content_or_new(path, bytes.len() as u64)?;
        content.change(Change::Cut);
        content.change(Change::Write { offset: 0, bytes: bytes.to_vec() });
        Ok(())
    }

    fn read(&self, path: &str, offset: u64, len: usize) -> io::Result<Vec<u8>> {
        let mut tree = self.tree();
        let content = tree.content(path)?;
        let offset = usize::try_from(offset).map_err(io::Error::other)?;
        let end = offset.checked_add(len).ok_or(io::ErrorKind::UnexpectedEof)?;
        let bytes = content.bytes.get(offset..end).ok_or(io::ErrorKind::UnexpectedEof)?;
        Ok(bytes.to_vec())
    }

    fn len(&self, path: &str) -> io::Result<u64> {
        Ok(self.tree().content(path)?.bytes.len() as u64)
    }

    fn sync(&self, path: &str) -> io::Result<()> {
        let time = self.tree().sync_time;
        if !time.is_zero() {
            std::thread::sleep(time);
        }
        let mut tree = self.tree();
        tree.check_sync()?;
        tree.syncs += 1;
        let content = tree.content(path)?;
        for change in std::mem::take(&mut content.unsynced) {
            change.apply(&mut content.durable);
        }
        Ok(())
    }

    fn sync_dir(&self, dir: &str) -> io::Result<()> {
        let mut tree = self.tree();
        tree.check_sync()?;
        let unsynced = std::mem::take(&mut tree.unsynced_names);
        let (now, later): (Vec<_>, Vec<_>) =
            unsynced.into_iter().partition(|n| n.directory() == dir);
        now.iter().for_each(|naming| naming.apply(&mut tree.durable_names));
        tree.unsynced_names = later;
        Ok(())
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let mut tree = self.tree();
        tree.check_power()?;
        let id = tree.names.remove(from).ok_or_else(|| missing(from))?;
        tree.names.insert(to.to_owned(), id);
        tree.unsynced_names.push(Naming::Move(from.to_owned(), to.to_owned()));
        Ok(())
    }

    fn remove(&self, path: &str) -> io::Result<()> {
        let mut tree = self.tree();
        tree.check_power()?;
        if tree.names.remove(path).is_some() {
            tree.unsynced_names.push(Naming::Drop(path.to_owned()));
            if let Some(changes) = tree.changes_after_removal.take() {
                tree.changes_left = Some(changes);
            }
        }
        Ok(())
    }

    fn list(&self, dir: &str) -> io::Result<Vec<String>> {
        let tree = self.tree();
        let inside = tree.names.keys().filter(|path| directory_of(path) == dir);
        Ok(inside.filter_map(|path| path.rsplit('/').next().map(str::to_owned)).collect())
    }

    fn make_dir(&self, _dir: &str) -> io::Result<()> {
        Ok(())
    }

    fn free_bytes(&self) -> io::Result<u64> {
        let tree = self.tree();
        let told = tree.free.unwrap_or(1 << 40);
        Ok(tree.capacity.map_or(told, |capacity| capacity.saturating_sub(tree.used_bytes())))
    }

    fn allocate(&self, path: &str, len: u64) -> io::Result<()> {
        let zeros = vec![0; usize::try_from(len).map_err(io::Error::other)?];
        self.create(path, &zeros)?;
        self.sync(path).inspect_err(|_| drop(self.remove(path)))
    }
}

fn missing(path: &str) -> io::Error {
    io::Error::new(io::ErrorKind::NotFound, format!("no file {path}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_crash_takes_what_was_not_synced() {
        let disk = MemDisk::new();
        disk.replace("d/kept", b"old").unwrap();
        disk.write_at("d/kept", 0, b"new").unwrap();
        disk.create("d/unnamed", b"x").unwrap();
        disk.sync("d/unnamed").unwrap();
        let after = disk.crash(Keep::Nothing, 0);
        assert_eq!(after.read_all("d/kept").unwrap(), b"old");
        assert!(!after.exists("d/unnamed").unwrap());
        let killed = disk.crash(Keep::Everything, 0);
        assert_eq!(killed.read_all("d/kept").unwrap(), b"new");
        assert!(killed.exists("d/unnamed").unwrap());
    }

    #[test]
    fn a_rename_is_one_step() {
        for seed in 0..50 {
            let disk = MemDisk::new();
            disk.replace("f", b"old").unwrap();
            disk.create("f.new", b"new").unwrap();
            disk.sync("f.new").unwrap();
            disk.rename("f.new", "f").unwrap();
            let found = disk.crash(Keep::Some, seed).read_all("f").unwrap();
            assert!(found == b"old" || found == b"new");
        }
    }

    #[test]
    fn power_goes_after_a_removal() {
        let disk = MemDisk::new();
        disk.create("f", &[0]).unwrap();
        disk.cut_power_after_removal(1);
        disk.sync("f").unwrap();
        disk.remove("f").unwrap();
        assert!(disk.has_power());
        disk.sync_dir("").unwrap();
        assert!(!disk.has_power() && disk.sync_dir("").is_err());
    }

    #[test]
    fn faults_show() {
        let disk = MemDisk::new();
        disk.create("f", &[0]).unwrap();
        disk.fail_sync(true);
        assert!(disk.sync("f").is_err());
        disk.fill(Some(0));
        assert_eq!(disk.create("g", b"").unwrap_err().kind(), io::ErrorKind::StorageFull);
        assert!(disk.flip_bit("f", 3) && !disk.flip_bit("f", 8));
        assert_eq!(disk.read_all("f").unwrap(), [8]);
    }

    #[test]
    fn a_full_disk_takes_what_does_not_grow_and_what_is_removed_makes_room() {
        let disk = MemDisk::new();
        disk.allocate("ballast", 100).unwrap();
        disk.create("f", b"old").unwrap();
        disk.fill(Some(10));
        assert_eq!(disk.free_bytes().unwrap(), 10);
        assert!(disk.write_at("f", 0, &[1; 14]).is_err() && disk.allocate("more", 11).is_err());
        disk.write_at("f", 3, &[1; 10]).unwrap();
        disk.write_at("f", 0, b"new").unwrap();
        assert_eq!(disk.free_bytes().unwrap(), 0);
        disk.remove("ballast").unwrap();
        assert_eq!(disk.free_bytes().unwrap(), 100);
        disk.allocate("more", 100).unwrap();
        disk.fill(None);
        disk.allocate("ballast", 100).unwrap();
    }
}
