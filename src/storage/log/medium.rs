//! What the log writer writes to: sled databases, or plain files on any disk.

use std::ops::ControlFlow;
use std::sync::Arc;

use bytes::Bytes;

use super::record::Record;
use crate::storage::error::StorageError;

/// Takes one record after the other until it breaks.
pub type Visit<'a> = dyn FnMut(Bytes) -> ControlFlow<()> + 'a;

/// A place for records, in the order of their keys (first index, part). One thread writes.
pub trait Medium: Send {
    /// Shows all records in order. Where a part of the medium cannot be read, the visit ends with
    /// [`StorageError::Corrupt`].
    fn scan(&mut self, visit: &mut Visit<'_>) -> Result<(), StorageError>;

    /// Writes records after all others; durable after [`Medium::sync`].
    fn write(&mut self, records: &[Record]) -> Result<(), StorageError>;

    /// Makes everything written durable.
    fn sync(&mut self) -> Result<(), StorageError>;

    /// Removes all records that hold entries after `last` (all of them if `None`), newest first,
    /// and puts `prefix` in the place of the one that holds entries on both sides, in one step.
    /// Durable on return.
    fn truncate_after(
        &mut self,
        last: Option<u64>,
        prefix: Option<Record>,
    ) -> Result<(), StorageError>;

    /// May remove records that hold no entry from `index` on. What remains is ignored at open.
    fn drop_below(&mut self, index: u64) -> Result<(), StorageError>;

    /// Another way to the same records, for any thread.
    fn reader(&self) -> Arc<dyn MediumReader>;

    /// Bytes of all records.
    fn bytes(&self) -> u64;

    /// Finishes background work; nothing is called afterwards.
    fn close(&mut self) {}
}

/// Reads synced records while the log is written.
pub trait MediumReader: Send + Sync {
    /// Shows records in order, from the first part of the one that holds entry `from`.
    fn read(&self, from: u64, visit: &mut Visit<'_>) -> Result<(), StorageError>;
}
