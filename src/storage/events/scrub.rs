//! Reading files of the event store only to see whether they are whole, a piece at a time.

use crc32fast::Hasher;

use super::files;
use super::manifest::{FileInfo, Manifest};
use super::store::EventStore;
use crate::storage::error::StorageError;

/// A check of one file, under way.
pub struct FileCheck {
    file: FileInfo,
    offset: u64,
    crc: Hasher,
}

impl EventStore {
    /// Checks of all files that count, by name.
    pub fn checks(&self) -> Vec<FileCheck> {
        let mut files = self.counting();
        files.sort_by(|a, b| a.name.cmp(&b.name));
        files.into_iter().map(|file| FileCheck { file, offset: 0, crc: Hasher::new() }).collect()
    }

    /// Reads the next piece of a file, at most `bytes`, and returns how much it was; `None` at its
    /// end, or when it counts no more. A file that is not what was written becomes a suspect.
    pub fn check_piece(
        &self,
        check: &mut FileCheck,
        bytes: u64,
    ) -> Result<Option<u64>, StorageError> {
        let FileCheck { file, offset, crc } = check;
        if !self.counting().contains(file) {
            return Ok(None);
        }
        let piece = bytes.min(file.len - *offset);
        if piece == 0 {
            if crc.clone().finalize() != file.crc {
                self.suspect(&file.name);
            }
            return Ok(None);
        }
        match self.disk().read(&files::path(&file.name), *offset, piece as usize) {
            Ok(read) => crc.update(&read),
            Err(error) if files::is_damage(&error) => {
                // It may have been swept meanwhile: then it does not count either.
                if self.counting().contains(file) {
                    self.suspect(&file.name);
                }
                return Ok(None);
            }
            Err(error) => return Err(StorageError::io(format!("reading {}", file.name))(error)),
        }
        *offset += piece;
        Ok(Some(piece))
    }

    /// Compares the manifest on disk with what counts, and writes it anew if it differs. Returns
    /// whether it did.
    pub fn mend_manifest(&self) -> Result<bool, StorageError> {
        let _commit = self.lock_commit();
        let state = self.state();
        match Manifest::read(self.disk()) {
            Ok(Some(found)) if found == state.manifest(found.next) => return Ok(false),
            Err(StorageError::Corrupt { .. }) | Ok(_) => {}
            Err(error) => return Err(error),
        }
        tracing::warn!("the manifest of the event store is damaged: written anew");
        self.write_manifest(&state)?;
        self.set_damage(|damage| {
            damage.found += 1;
            damage.repaired += 1;
        });
        Ok(true)
    }
}
