//! Damage to disks of nodes that are down meanwhile, of a minority.

use aqueduct::env::disk::{Disk, MemDisk};
use aqueduct::storage::BALLAST;

use super::plan::Left;
use super::world::{Slot, World};
use crate::faults::anatomy::{EntryId, register};
use crate::history::What;

impl World {
    /// Flips a bit on the disk of a node that is down meanwhile, as long as damaged nodes, and this
    /// one with them, are a minority.
    pub(super) async fn flip(&self, slots: &[Slot], choice: u64) {
        let Some(slot) = slots.first().copied() else { return };
        let first = !self.damaged().contains(&slot);
        if !self.may_damage(slot) {
            return self.note("flips_left_out", "");
        }
        self.hold(slot);
        self.kill(slot, Left::Everything, false);
        let flipped = self.disk(slot, |disk| {
            let (events, others): (Vec<_>, Vec<_>) =
                counting(disk).partition(|path| path.contains("seg-"));
            // Relocated events are few files, and most of what lies on a disk.
            let paths = if choice >> 63 == 1 && !events.is_empty() { events } else { others };
            let path = paths.get(choice as usize % paths.len().max(1))?.clone();
            let bits = disk.len(&path).ok()? as usize * 8;
            let bit = (choice >> 16) as usize % bits.max(1);
            disk.flip_bit(&path, bit).then_some((path, bit))
        });
        if let Some(Some((path, bit))) = flipped {
            self.wound(slot, &path);
            let where_ = format!("{path} bit {bit}");
            let (node, how) = (self.id(slot), "a bit flipped".to_string());
            self.note("bits_flipped", &format!("node {node}: {where_}"));
            self.damage_is_curable(slot, first, where_.contains("seg-"));
            let touched = What::Touched { node, file: where_, how, harmless: false };
            self.record("nemesis", touched);
        }
        self.release(slot).await;
    }

    /// Flips a bit of relocated events under a node that runs, when nothing else is wrong: it has to
    /// find that by itself, and the others have what is lost.
    pub(super) fn rot(&self) {
        let choice = self.chance().draw(|chance| chance.u64(..));
        let at = |many: usize| choice as usize % many.max(1);
        let is_segment = |path: &String| path.contains("seg-") && !path.ends_with(".part");
        let segments = |slot: Slot| -> Vec<String> {
            let paths = self.disk(slot, |disk| disk.paths()).unwrap_or_default();
            paths.into_iter().filter(is_segment).collect()
        };
        let sound = |slot: &Slot| self.is_up(*slot) && !self.damaged().contains(slot);
        let mut slots: Vec<Slot> = self.slots().into_iter().filter(sound).collect();
        slots.retain(|slot| !segments(*slot).is_empty());
        let Some(slot) = slots.get(at(slots.len())).copied() else {
            return self.note("rot_left_out", "no node has relocated events");
        };
        if !self.may_damage(slot) {
            return self.note("rot_left_out", "too many are damaged");
        }
        let files = segments(slot);
        let file = &files[at(files.len())];
        let flipped = self.disk(slot, |disk| {
            let bits = disk.len(file).ok()? as usize * 8;
            let bit = (choice >> 16) as usize % bits.max(1);
            disk.flip_bit(file, bit).then_some(bit)
        });
        if let Some(Some(bit)) = flipped {
            let node = self.id(slot);
            self.wound(slot, file);
            self.damage_is_curable(slot, true, true);
            self.note("rotted", &format!("node {node}: {file} bit {bit}"));
            let (file, how) = (file.clone(), "a bit flipped".to_string());
            self.record("nemesis", What::Touched { node, file, how, harmless: false });
        }
    }

    /// Removes a node's log. What counts as damaged is a node whose log had durable entries.
    pub(super) async fn lose_log(&self, slots: &[Slot]) {
        let Some(slot) = slots.first().copied() else { return };
        if !self.may_damage(slot) {
            return self.note("lost_logs_left_out", "");
        }
        self.hold(slot);
        self.kill(slot, Left::Everything, false);
        let durable = self.disk(slot, |disk| {
            let durable = has_durable_entries(disk);
            for path in disk.paths().iter().filter(|path| path.starts_with("log/")) {
                disk.remove(path).ok();
            }
            disk.sync_dir("log").ok();
            durable
        });
        let (node, file, how) = (self.id(slot), "log".to_string(), "it vanished".to_string());
        let damage = match durable {
            Some(true) => What::Damaged { node, file, how },
            _ => What::Touched { node, file, how, harmless: false },
        };
        self.note("logs_lost", &format!("node {node}"));
        self.damage_is_curable(slot, false, false);
        self.record("nemesis", damage);
        self.release(slot).await;
    }
}

/// Paths of the files in which something is.
fn counting(disk: &MemDisk) -> impl Iterator<Item = String> {
    disk.paths().into_iter().filter(|path| path != BALLAST)
}

/// Whether the high-water mark is above the purge floor.
fn has_durable_entries(disk: &MemDisk) -> bool {
    let value = |name: &str| {
        let slots = register::SLOTS
            .iter()
            .filter_map(|slot| register::parse(&disk.read_all(&format!("{name}.{slot}")).ok()?));
        slots.max_by_key(|(generation, _)| *generation).map(|(_, payload)| payload)
    };
    let mark = value("mark").and_then(|mark| Some(u64::from_le_bytes(*mark.first_chunk()?)));
    let floor = value("floor").and_then(|floor| postcard::from_bytes(&floor).ok());
    let first = |floor: Option<EntryId>| floor.map_or(0, |floor| floor.index + 1);
    matches!((mark, floor), (Some(mark), Some(floor)) if mark > first(floor))
}
