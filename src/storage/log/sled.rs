//! The medium of a real node: sled databases of about 14 MiB, one after the other.
//!
//! `log/db-<generation>` directories; the greatest generation is being filled, all others are
//! closed. The next one is opened on another thread before it is needed. Purging removes whole
//! databases, so it costs nothing.

use std::io;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use bytes::Bytes;

use super::database::{self, Contents, Database, Filling};
use super::medium::{Medium, MediumReader, Visit};
use super::record::{self, Record};
use crate::storage::error::StorageError;

/// Settings of the medium.
#[derive(Debug, Clone)]
pub struct SledOptions {
    /// Directory of the databases.
    pub dir: PathBuf,
    /// Bytes after which a database is followed by the next.
    pub database_bytes: u64,
}

/// See the module.
pub struct SledMedium {
    shelf: Arc<Shelf>,
    options: SledOptions,
    filling: Option<Filling>,
    next_generation: u64,
    spare: Option<Opener<(u64, Database)>>,
}

/// Closed databases open at a time: one for consumers that lag behind, one for the snapshot that
/// is being built.
const READING_MAX: usize = 2;

/// A thread that opens something.
type Opener<T> = JoinHandle<Result<T, StorageError>>;

/// All databases, for writer and readers.
struct Shelf {
    dir: PathBuf,
    volumes: Mutex<Vec<Volume>>,
    /// Closed databases that were opened to be read, the one used last in front.
    reading: Mutex<Vec<(u64, Database)>>,
}

#[derive(Clone)]
struct Volume {
    generation: u64,
    contents: Contents,
    /// Open while it is being filled.
    database: Option<Database>,
}

impl SledMedium {
    /// The medium in a directory, which is created when absent. Leftovers of removals that a crash
    /// interrupted go, those of creations are passed over; nothing else is touched.
    pub fn open(options: SledOptions) -> Result<SledMedium, StorageError> {
        let dir = &options.dir;
        let failed = || StorageError::io(format!("opening log directory {}", dir.display()));
        std::fs::create_dir_all(dir).map_err(failed())?;
        let mut generations = Vec::new();
        for entry in std::fs::read_dir(dir).map_err(failed())? {
            let path = entry.map_err(failed())?.path();
            let name = path.file_name().map(|name| name.to_string_lossy().into_owned());
            let generation = name.as_deref().and_then(|name| name.strip_prefix("db-"));
            match generation.and_then(|text| text.parse::<u64>().ok()) {
                Some(generation) if database::is_ready(&path) => generations.push(generation),
                None if path.extension().is_some_and(|extension| extension == "gone") => {
                    std::fs::remove_dir_all(&path).map_err(failed())?
                }
                _ => {}
            }
        }
        generations.sort_unstable();
        let next_generation = generations.last().map_or(1, |last| last + 1);
        let volumes = generations
            .into_iter()
            .map(|generation| Volume { generation, contents: Contents::default(), database: None })
            .collect();
        let shelf = Arc::new(Shelf {
            dir: dir.clone(),
            volumes: Mutex::new(volumes),
            reading: Mutex::default(),
        });
        Ok(SledMedium { shelf, options, filling: None, next_generation, spare: None })
    }

    /// Whether a directory holds no log.
    pub fn is_empty(dir: &Path) -> Result<bool, StorageError> {
        match std::fs::read_dir(dir) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(true),
            Err(error) => Err(StorageError::io(format!("listing {}", dir.display()))(error)),
            Ok(mut entries) => Ok(entries.next().is_none()),
        }
    }

    /// Opens a database on another thread: sled takes longer for it than the records take to be
    /// read.
    fn open_ahead(&self, generation: Option<&u64>) -> Option<Opener<Database>> {
        let path = self.shelf.path(*generation?);
        let open = move || Database::open(&path);
        std::thread::Builder::new().name("log-open".into()).spawn(open).ok()
    }

    /// Opens the next database on another thread.
    fn prepare_spare(&mut self) {
        let generation = self.next_generation;
        self.next_generation += 1;
        let (path, bytes) = (self.shelf.path(generation), self.options.database_bytes);
        let work = move || database::create(&path, bytes).map(|database| (generation, database));
        self.spare = std::thread::Builder::new().name("log-spare".into()).spawn(work).ok();
    }

    fn create_next(&mut self) -> Result<(u64, Database), StorageError> {
        let generation = self.next_generation;
        self.next_generation += 1;
        let path = self.shelf.path(generation);
        Ok((generation, database::create(&path, self.options.database_bytes)?))
    }

    /// Closes the database being filled, off this thread, and goes on in the next.
    fn roll(&mut self) -> Result<(), StorageError> {
        let spare = self.spare.take().and_then(|spare| spare.join().ok());
        let (generation, database) = match spare {
            Some(Ok(spare)) => spare,
            _ => self.create_next()?,
        };
        let rolled = self.filling.replace(Filling::new(database.clone())?);
        let mut volumes = self.shelf.volumes();
        let open = volumes.last_mut().and_then(|volume| volume.database.take());
        let database = Some(database);
        volumes.push(Volume { generation, contents: Contents::default(), database });
        drop(volumes);
        // Closing waits for the disk. If there is no thread to be had, this one waits.
        let close = move || drop((rolled, open));
        let _ = std::thread::Builder::new().name("log-close".into()).spawn(close);
        Ok(())
    }
}

impl Shelf {
    fn volumes(&self) -> MutexGuard<'_, Vec<Volume>> {
        self.volumes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn reading(&self) -> MutexGuard<'_, Vec<(u64, Database)>> {
        self.reading.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn last_bytes(&self) -> u64 {
        self.volumes().last().map_or(0, |volume| volume.contents.bytes)
    }

    fn path(&self, generation: u64) -> PathBuf {
        database::path_in(&self.dir, generation)
    }

    /// The database of a volume, opened if need be; `None` if it was purged meanwhile. A few
    /// closed ones are kept open.
    fn database(&self, generation: u64) -> Result<Option<Database>, StorageError> {
        let mut reading = self.reading();
        let filled = self.volumes().iter().find(|v| v.generation == generation).cloned();
        let Some(volume) = filled else { return Ok(None) };
        if volume.database.is_some() {
            return Ok(volume.database);
        }
        let open = reading.iter().position(|(open, _)| *open == generation);
        let database = match open.map(|place| reading.remove(place)) {
            Some((_, database)) => database,
            None => {
                reading.truncate(READING_MAX - 1);
                Database::open(&self.path(generation))?
            }
        };
        reading.insert(0, (generation, database.clone()));
        Ok(Some(database))
    }

    /// Opens the last volume to be filled again.
    fn reopen_last(&self) -> Result<Option<Database>, StorageError> {
        let Some(generation) = self.volumes().last().map(|volume| volume.generation) else {
            return Ok(None);
        };
        let database = self.database(generation)?;
        let mut reading = self.reading();
        if let Some(volume) = self.volumes().last_mut() {
            volume.database = database.clone();
        }
        reading.clear();
        Ok(database)
    }

    /// Removes a volume that nobody needs any more.
    fn remove(&self, volume: Volume) -> Result<(), StorageError> {
        let mut reading = self.reading();
        reading.retain(|(generation, _)| *generation != volume.generation);
        drop(reading);
        database::remove(&self.path(volume.generation))
    }
}

/// Reads all records of a database, also after the visitor broke off: returns false then.
fn scan_database(
    database: &Database,
    contents: &mut Contents,
    visit: &mut Visit<'_>,
) -> Result<bool, StorageError> {
    let mut goes_on = true;
    for number in database.tree_numbers()? {
        contents.add_tree(number);
        database.visit(number, (0, 0), &mut |key, value| {
            let at = database::parse_key(key).unwrap_or_default();
            let last = record::check(value).map_or(at.0, |header| header.last());
            contents.add(number, at, last, value.len());
            goes_on = goes_on && visit(Bytes::copy_from_slice(value)).is_continue();
            true
        })?;
    }
    Ok(goes_on)
}

impl Medium for SledMedium {
    fn scan(&mut self, visit: &mut Visit<'_>) -> Result<(), StorageError> {
        let generations: Vec<u64> = self.shelf.volumes().iter().map(|v| v.generation).collect();
        let newest = generations.last().copied();
        let mut ahead = self.open_ahead(generations.first());
        for (place, generation) in generations.iter().copied().enumerate() {
            let path = self.shelf.path(generation);
            let opened = ahead.take().and_then(|ahead| ahead.join().ok());
            ahead = self.open_ahead(generations.get(place + 1));
            let opened = opened.unwrap_or_else(|| Database::open(&path)).and_then(|database| {
                let mut contents = Contents::default();
                let more = scan_database(&database, &mut contents, visit)?;
                Ok((database, contents, more))
            });
            let last = newest == Some(generation);
            match opened {
                Ok((database, contents, more)) => {
                    let database = Some(database).filter(|_| last);
                    // A killed process may have written it and not got further; the last one may be
                    // the next in store.
                    if place + 2 >= generations.len() {
                        database::make_durable(&path)?;
                    }
                    self.filling = database.clone().map(Filling::new).transpose()?;
                    self.shelf.volumes()[place] = Volume { generation, contents, database };
                    if !more {
                        return Ok(());
                    }
                }
                // What is missing shows as a gap, unless it was purged anyway.
                Err(StorageError::Corrupt { what, detail }) if !last => {
                    tracing::warn!(%what, %detail, "a log database cannot be read");
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    fn write(&mut self, records: &[Record]) -> Result<(), StorageError> {
        let full = |volume: &Volume| volume.contents.bytes >= self.options.database_bytes;
        if self.filling.is_none() || self.shelf.volumes().last().is_none_or(full) {
            self.roll()?;
        }
        if self.spare.is_none() && self.shelf.last_bytes() >= self.options.database_bytes / 2 {
            self.prepare_spare();
        }
        let mut volumes = self.shelf.volumes();
        if let (Some(filling), Some(volume)) = (&mut self.filling, volumes.last_mut()) {
            for record in records {
                filling.put(record, &mut volume.contents)?;
            }
        }
        Ok(())
    }

    fn sync(&mut self) -> Result<(), StorageError> {
        self.filling.as_ref().map_or(Ok(()), Filling::sync)
    }

    fn truncate_after(
        &mut self,
        last: Option<u64>,
        prefix: Option<Record>,
    ) -> Result<(), StorageError> {
        let stays = |volume: &Volume| {
            last.is_some_and(|last| volume.contents.first().is_some_and(|first| first <= last))
        };
        loop {
            let popped = {
                let mut volumes = self.shelf.volumes();
                if volumes.last().is_none_or(stays) { None } else { volumes.pop() }
            };
            let Some(mut volume) = popped else { break };
            if volume.database.take().is_some() {
                self.filling = None;
            }
            self.shelf.remove(volume)?;
        }
        let Some(last) = last else { return Ok(()) };
        if self.filling.is_none() {
            self.filling = self.shelf.reopen_last()?.map(Filling::new).transpose()?;
        }
        let Some(filling) = &mut self.filling else { return Ok(()) };
        let contents = self.shelf.volumes().last().map(|volume| volume.contents.clone());
        let mut contents = contents.unwrap_or_default();
        filling.truncate_after(last, prefix, &mut contents)?;
        if let Some(volume) = self.shelf.volumes().last_mut() {
            volume.contents = contents;
        }
        Ok(())
    }

    fn drop_below(&mut self, index: u64) -> Result<(), StorageError> {
        loop {
            let volume = {
                let mut volumes = self.shelf.volumes();
                let next = volumes.iter().skip(1).find_map(|volume| volume.contents.first());
                if next.is_none_or(|first| first > index) {
                    return Ok(());
                }
                volumes.remove(0)
            };
            self.shelf.remove(volume)?;
        }
    }

    fn reader(&self) -> Arc<dyn MediumReader> {
        self.shelf.clone()
    }

    fn bytes(&self) -> u64 {
        self.shelf.volumes().iter().map(|volume| volume.contents.bytes).sum()
    }

    fn close(&mut self) {
        if let Some(spare) = self.spare.take() {
            let _ = spare.join();
        }
        self.filling = None;
        self.shelf.reading().clear();
        self.shelf.volumes().iter_mut().for_each(|volume| volume.database = None);
    }
}

impl MediumReader for Shelf {
    fn read(&self, from: u64, visit: &mut Visit<'_>) -> Result<(), StorageError> {
        // Without handles: one kept here would lock whoever opens the database once it is rolled
        // out, this reader included.
        let known = |volume: &Volume| (volume.generation, volume.contents.clone());
        let volumes: Vec<_> = self.volumes().iter().map(known).collect();
        let holding = |contents: &Contents| contents.first().is_some_and(|first| first <= from);
        let start = volumes.iter().rposition(|(_, contents)| holding(contents));
        let Some(start) = start else { return Ok(()) };
        let mut first = true;
        for (generation, contents) in &volumes[start..] {
            let trees = &contents.trees;
            let skip = trees.partition_point(|(key, _)| *key <= (from, 0)).saturating_sub(1);
            if trees.is_empty() {
                continue;
            }
            let Some(database) = self.database(*generation)? else { return Ok(()) };
            for (_, number) in &trees[if first { skip } else { 0 }..] {
                let at = if first { database.key_before(*number, (from, 0))? } else { None };
                first = false;
                let mut goes_on = true;
                database.visit(*number, at.unwrap_or_default(), &mut |_, value| {
                    goes_on = visit(Bytes::copy_from_slice(value)) != ControlFlow::Break(());
                    goes_on
                })?;
                if !goes_on {
                    return Ok(());
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::log::Entry;
    use crate::storage::log::record::Packer;
    use crate::types::{EntryId, NodeId};

    /// Appends one entry of so many bytes; how many databases there are then.
    fn put(medium: &mut SledMedium, index: u64, len: usize) -> usize {
        let id = EntryId { term: 1, node: NodeId(1), index };
        let entry = Entry { id, kind: 0, body: Bytes::from(vec![7; len]) };
        medium.write(&Packer::default().pack(&[entry])).unwrap();
        medium.sync().unwrap();
        medium.shelf.volumes().len()
    }

    #[test]
    fn a_reader_goes_on_into_a_database_that_is_rolled_meanwhile() {
        let dir = tempfile::tempdir().unwrap();
        let options = SledOptions { dir: dir.path().join("log"), database_bytes: 10_000 };
        let mut medium = SledMedium::open(options).unwrap();
        let mut end = 1;
        while put(&mut medium, end, 1000) < 2 {
            end += 1;
        }
        let (reader, mut seen, mut rolled) = (medium.reader(), 0, false);
        let read = reader.read(1, &mut |_| {
            // The second one is filled and closed while the first is being read.
            while !rolled {
                end += 1;
                rolled = put(&mut medium, end, 1000) == 3;
            }
            seen += 1;
            ControlFlow::Continue(())
        });
        read.unwrap();
        assert!(seen > 10, "only {seen} records: the second database was not read");
    }

    #[test]
    fn a_database_whose_space_was_reserved_is_opened_and_filled_again() {
        let dir = tempfile::tempdir().unwrap();
        let options = SledOptions { dir: dir.path().join("log"), database_bytes: 40 << 20 };
        for life in 0..3 {
            let mut medium = SledMedium::open(options.clone()).unwrap();
            let mut seen = 0;
            let mut count = |_| {
                seen += 1;
                ControlFlow::Continue(())
            };
            medium.scan(&mut count).unwrap();
            assert_eq!(seen, life * 100, "in life {life}");
            // Six megabytes a life: it goes on into the next of sled's segments in each.
            let mut more = |entry: u64| put(&mut medium, life * 100 + entry, 60_000);
            (1..=100).for_each(|entry| assert_eq!(more(entry), 1));
            // Whoever opens it again cuts off what was not used.
            let db = std::fs::metadata(medium.shelf.path(1).join("db")).unwrap();
            assert!(life > 0 || db.len() == 40 << 20, "{} bytes", db.len());
        }
    }
}
