//! Records in plain files on any [`Disk`]: the twin of the sled medium in simulations and tests.
//!
//! Files are named `log/<generation>.log` and hold frames: u32 LE length, record. A file that has
//! reached its size is followed by the next generation.

use std::ops::ControlFlow;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;

use super::medium::{Medium, MediumReader, Visit};
use super::record::{self, Header, Record};
use crate::env::disk::Disk;
use crate::storage::error::StorageError;

const DIR: &str = "log";
const FRAME_BYTES: u64 = 4;
/// No frame is longer; a longer length is damage.
const RECORD_BYTES_MAX: usize = 1 << 20;

/// See the module.
pub struct FileMedium {
    files: Arc<Files>,
    file_bytes: u64,
    dirty: bool,
}

struct Files {
    disk: Arc<dyn Disk>,
    list: Mutex<Vec<LogFile>>,
}

#[derive(Debug, Clone, Default)]
struct LogFile {
    generation: u64,
    bytes: u64,
    records: Vec<Place>,
}

#[derive(Debug, Clone, Copy)]
struct Place {
    first: u64,
    last: u64,
    offset: u64,
    len: usize,
}

impl FileMedium {
    /// The medium on `disk`, going on in a new file after `file_bytes`.
    pub fn open(disk: Arc<dyn Disk>, file_bytes: u64) -> Result<FileMedium, StorageError> {
        disk.make_dir(DIR).map_err(StorageError::io("creating the log directory"))?;
        let mut list = Vec::new();
        for name in disk.list(DIR).map_err(StorageError::io("listing the log directory"))? {
            match name.strip_suffix(".log").and_then(|stem| stem.parse().ok()) {
                Some(generation) => list.push(LogFile { generation, ..LogFile::default() }),
                None => disk
                    .remove(&format!("{DIR}/{name}"))
                    .map_err(StorageError::io(format!("removing {name}")))?,
            }
        }
        list.sort_by_key(|file| file.generation);
        disk.sync_dir(DIR).map_err(StorageError::io("syncing the log directory"))?;
        let files = Arc::new(Files { disk, list: Mutex::new(list) });
        // Who knows what a killed process left unsynced.
        Ok(FileMedium { files, file_bytes, dirty: true })
    }

    /// Whether a disk holds no log.
    pub fn is_empty(disk: &dyn Disk) -> Result<bool, StorageError> {
        let names = disk.list(DIR).map_err(StorageError::io("listing the log directory"))?;
        Ok(names.is_empty())
    }
}

impl LogFile {
    fn path(&self) -> String {
        format!("{DIR}/{:010}.log", self.generation)
    }
}

impl Files {
    fn list(&self) -> MutexGuard<'_, Vec<LogFile>> {
        self.list.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reads the frames of a file as far as they are whole.
    fn scan(&self, file: &mut LogFile, visit: &mut Visit<'_>) -> Result<bool, StorageError> {
        let path = file.path();
        let failed = StorageError::io(format!("reading {path}"));
        let content = Bytes::from(self.disk.read_all(&path).map_err(failed)?);
        file.bytes = content.len() as u64;
        file.records.clear();
        let mut offset = 0;
        while offset < content.len() {
            let record = frame(&content, offset).ok_or_else(|| {
                StorageError::corrupt(&path, format!("no frame at offset {offset}"))
            })?;
            let len = record.len();
            if let Ok(header) = record::check(&record) {
                file.records.push(place(header, offset as u64, len));
            }
            if visit(record).is_break() {
                return Ok(false);
            }
            offset += FRAME_BYTES as usize + len;
        }
        Ok(true)
    }
}

fn place(header: Header, offset: u64, len: usize) -> Place {
    Place { first: header.first, last: header.last(), offset, len }
}

/// Paths of the log's files on a disk, the oldest first.
pub fn paths(disk: &dyn Disk) -> Result<Vec<String>, StorageError> {
    let names = disk.list(DIR).map_err(StorageError::io("listing the log directory"))?;
    Ok(names.iter().filter(|name| name.ends_with(".log")).map(|n| format!("{DIR}/{n}")).collect())
}

/// The records in a file; the offset where there is none as the last.
pub fn frames(content: &Bytes) -> impl Iterator<Item = Result<Bytes, usize>> {
    let mut offset = Some(0);
    std::iter::from_fn(move || {
        let at = offset.take().filter(|at| *at < content.len())?;
        let record = frame(content, at).ok_or(at);
        offset = record.as_ref().ok().map(|record| at + FRAME_BYTES as usize + record.len());
        Some(record)
    })
}

fn frame(content: &Bytes, offset: usize) -> Option<Bytes> {
    let fixed = content.get(offset..offset + FRAME_BYTES as usize)?;
    let len = u32::from_le_bytes(fixed.try_into().ok()?) as usize;
    let start = offset + FRAME_BYTES as usize;
    (len > 0 && len <= RECORD_BYTES_MAX && start + len <= content.len())
        .then(|| content.slice(start..start + len))
}

impl Medium for FileMedium {
    fn scan(&mut self, visit: &mut Visit<'_>) -> Result<(), StorageError> {
        let mut list = self.files.list().clone();
        for file in &mut list {
            let result = self.files.scan(file, visit);
            if let Some(place) =
                self.files.list().iter_mut().find(|f| f.generation == file.generation)
            {
                *place = file.clone();
            }
            if !result? {
                break;
            }
        }
        Ok(())
    }

    fn write(&mut self, records: &[Record]) -> Result<(), StorageError> {
        let mut list = self.files.list();
        let next = list.last().map_or(1, |file| file.generation + 1);
        if list.last().is_none_or(|file| file.bytes >= self.file_bytes) {
            let file = LogFile { generation: next, ..LogFile::default() };
            let failed = || StorageError::io(format!("creating {}", file.path()));
            if let Some(full) = list.last().filter(|_| self.dirty) {
                self.files.disk.sync(&full.path()).map_err(failed())?;
            }
            self.files.disk.create(&file.path(), &[]).map_err(failed())?;
            self.files.disk.sync_dir(DIR).map_err(failed())?;
            list.push(file);
        }
        let Some(file) = list.last_mut() else { return Ok(()) };
        let mut bytes = Vec::new();
        for record in records {
            let (offset, len) = (file.bytes + bytes.len() as u64, record.bytes.len());
            let Record { first, last, .. } = *record;
            file.records.push(Place { first, last, offset, len });
            bytes.extend_from_slice(&(len as u32).to_le_bytes());
            bytes.extend_from_slice(&record.bytes);
        }
        let failed = StorageError::io(format!("writing {}", file.path()));
        self.files.disk.write_at(&file.path(), file.bytes, &bytes).map_err(failed)?;
        file.bytes += bytes.len() as u64;
        self.dirty = true;
        Ok(())
    }

    fn sync(&mut self) -> Result<(), StorageError> {
        if let Some(file) = self.files.list().last().filter(|_| self.dirty) {
            let failed = StorageError::sync(format!("syncing {}", file.path()));
            self.files.disk.sync(&file.path()).map_err(failed)?;
        }
        self.dirty = false;
        Ok(())
    }

    fn truncate_after(
        &mut self,
        last: Option<u64>,
        prefix: Option<Record>,
    ) -> Result<(), StorageError> {
        let mut list = self.files.list();
        let failed = || StorageError::io("truncating the log");
        let disk = &self.files.disk;
        let stays = |place: &Place| last.is_some_and(|last| place.first <= last);
        while let Some(file) = list.last().filter(|file| !file.records.iter().any(stays)) {
            disk.remove(&file.path()).map_err(failed())?;
            disk.sync_dir(DIR).map_err(failed())?;
            list.pop();
        }
        let Some(file) = list.last_mut() else { return Ok(()) };
        let keeps = |place: &Place| last.is_some_and(|last| place.last <= last);
        let kept = file.records.iter().take_while(|place| keeps(place)).count();
        let end = file.records[..kept].last().map_or(0, |p| p.offset + FRAME_BYTES + p.len as u64);
        if end == file.bytes {
            return Ok(());
        }
        let mut content = disk.read(&file.path(), 0, end as usize).map_err(failed())?;
        file.records.truncate(kept);
        if let Some(record) = prefix {
            let (offset, len) = (content.len() as u64, record.bytes.len());
            content.extend_from_slice(&(len as u32).to_le_bytes());
            content.extend_from_slice(&record.bytes);
            let Record { first, last, .. } = record;
            file.records.push(Place { first, last, offset, len });
        }
        disk.replace(&file.path(), &content).map_err(failed())?;
        file.bytes = content.len() as u64;
        self.dirty = false;
        Ok(())
    }

    fn drop_below(&mut self, index: u64) -> Result<(), StorageError> {
        let mut list = self.files.list();
        let failed = || StorageError::io("dropping purged log files");
        let below = |file: &LogFile| file.records.iter().all(|place| place.last < index);
        while list.len() > 1 && list.first().is_some_and(below) {
            let file = list.remove(0);
            self.files.disk.remove(&file.path()).map_err(failed())?;
            self.files.disk.sync_dir(DIR).map_err(failed())?;
        }
        Ok(())
    }

    fn reader(&self) -> Arc<dyn MediumReader> {
        self.files.clone()
    }

    fn bytes(&self) -> u64 {
        self.files.list().iter().map(|file| file.bytes).sum()
    }
}

impl MediumReader for Files {
    fn read(&self, from: u64, visit: &mut Visit<'_>) -> Result<(), StorageError> {
        let list = self.list();
        for file in list.iter() {
            let skip = file.records.partition_point(|place| place.last < from);
            for place in &file.records[skip..] {
                let failed = StorageError::io(format!("reading {}", file.path()));
                let bytes = self
                    .disk
                    .read(&file.path(), place.offset + FRAME_BYTES, place.len)
                    .map_err(failed)?;
                if visit(bytes.into()) == ControlFlow::Break(()) {
                    return Ok(());
                }
            }
        }
        Ok(())
    }
}
