//! The registers of a running node, for whoever looks whether they are still there.

use std::sync::Arc;

use super::error::StorageError;
use super::register::Register;
use crate::env::disk::Disk;

/// The names of all registers.
const NAMES: [&str; 4] = ["identity", "vote", "floor", "mark"];

/// A look at the registers on a disk. Cheap to clone.
#[derive(Clone)]
pub struct Registers(Arc<dyn Disk>);

impl Registers {
    pub(super) fn new(disk: Arc<dyn Disk>) -> Registers {
        Registers(disk)
    }

    /// Reads them all, changing nothing. One of which no slot is whole is damage; so is it, for a
    /// moment, while it is being written.
    pub fn check(&self) -> Result<(), StorageError> {
        for name in NAMES {
            if Register::peek(&*self.0, name)?.is_none() {
                return Err(StorageError::corrupt(format!("register {name}"), "it is missing"));
            }
        }
        Ok(())
    }
}
