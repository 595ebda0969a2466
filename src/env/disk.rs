//! One directory tree of files, behind a trait so that a test can lose power.
//!
//! Paths are relative to the root and use `/`. Nothing written is durable before [`Disk::sync`]
//! of the file, and no name (created, renamed, removed) before [`Disk::sync_dir`] of its
//! directory; [`MemDisk`] takes both away in a crash, [`RealDisk`] leaves it to the kernel.
//! What is left out: permissions, links, and open file handles (each call opens its file).

use std::fs::{File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use rustix::fs::FallocateFlags;

mod mem;

pub use mem::{Keep, MemDisk};

/// A directory tree. All calls block; errors are the operating system's.
pub trait Disk: Send + Sync + 'static {
    /// Writes `bytes` at `offset`, creating the file when absent.
    fn write_at(&self, path: &str, offset: u64, bytes: &[u8]) -> io::Result<()>;
    /// Makes `bytes` the whole content of the file, creating it when absent. Not atomic.
    fn create(&self, path: &str, bytes: &[u8]) -> io::Result<()>;
    /// Reads exactly `len` bytes at `offset`; `UnexpectedEof` if the file ends before.
    fn read(&self, path: &str, offset: u64, len: usize) -> io::Result<Vec<u8>>;
    /// Length of the file in bytes; `NotFound` if there is none.
    fn len(&self, path: &str) -> io::Result<u64>;
    /// Makes the content of a file durable.
    fn sync(&self, path: &str) -> io::Result<()>;
    /// Makes the names in a directory durable (`""` is the root).
    fn sync_dir(&self, dir: &str) -> io::Result<()>;
    /// Renames a file within its directory, replacing the target.
    fn rename(&self, from: &str, to: &str) -> io::Result<()>;
    /// Removes a file; succeeds if there is none.
    fn remove(&self, path: &str) -> io::Result<()>;
    /// Names of the files in a directory, sorted; empty if there is no such directory.
    fn list(&self, dir: &str) -> io::Result<Vec<String>>;
    /// Creates a directory, durable on return; succeeds if it exists.
    fn make_dir(&self, dir: &str) -> io::Result<()>;
    /// Bytes that may still be written.
    fn free_bytes(&self) -> io::Result<u64>;
    /// Makes a file of `len` zeros whose space is really taken, durable but for its name. What a
    /// failure leaves of it is removed.
    fn allocate(&self, path: &str, len: u64) -> io::Result<()>;

    /// The whole content of a file.
    fn read_all(&self, path: &str) -> io::Result<Vec<u8>> {
        let len = usize::try_from(self.len(path)?).map_err(io::Error::other)?;
        self.read(path, 0, len)
    }

    /// Whether a file of this name exists.
    fn exists(&self, path: &str) -> io::Result<bool> {
        match self.len(path) {
            Ok(_) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Replaces a file's content in one step: after a crash it is the old or the new one.
    /// Durable on return.
    fn replace(&self, path: &str, bytes: &[u8]) -> io::Result<()> {
        let temporary = format!("{path}.new");
        self.create(&temporary, bytes)?;
        self.sync(&temporary)?;
        self.rename(&temporary, path)?;
        self.sync_dir(directory_of(path))
    }
}

/// The directory part of a path; `""` for a name at the root.
pub fn directory_of(path: &str) -> &str {
    path.rsplit_once('/').map_or("", |(dir, _)| dir)
}

/// The directory tree below a path of the file system.
#[derive(Debug, Clone)]
pub struct RealDisk {
    root: PathBuf,
}

impl RealDisk {
    /// The tree below `root`, which is created when absent.
    pub fn open(root: impl Into<PathBuf>) -> io::Result<RealDisk> {
        let root = root.into();
        std::fs::create_dir_all(&root)?;
        Ok(RealDisk { root })
    }

    /// The path of the root.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Takes the exclusive advisory lock on a file of this tree; `None` if somebody holds it.
    /// Held until the file returned is dropped.
    pub fn lock(&self, path: &str) -> io::Result<Option<File>> {
        let file =
            OpenOptions::new().create(true).truncate(false).write(true).open(self.at(path))?;
        match file.try_lock() {
            Ok(()) => Ok(Some(file)),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(error)) => Err(error),
        }
    }

    fn at(&self, path: &str) -> PathBuf {
        self.root.join(path)
    }
}

impl Disk for RealDisk {
    fn write_at(&self, path: &str, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let file =
            OpenOptions::new().create(true).truncate(false).write(true).open(self.at(path))?;
        file.write_all_at(bytes, offset)
    }

    fn create(&self, path: &str, bytes: &[u8]) -> io::Result<()> {
        std::fs::write(self.at(path), bytes)
    }

    fn read(&self, path: &str, offset: u64, len: usize) -> io::Result<Vec<u8>> {
        let mut bytes = vec![0; len];
        File::open(self.at(path))?.read_exact_at(&mut bytes, offset)?;
        Ok(bytes)
    }

    fn len(&self, path: &str) -> io::Result<u64> {
        Ok(std::fs::metadata(self.at(path))?.len())
    }

    fn sync(&self, path: &str) -> io::Result<()> {
        File::open(self.at(path))?.sync_all()
    }

    fn sync_dir(&self, dir: &str) -> io::Result<()> {
        File::open(self.at(dir))?.sync_all()
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        std::fs::rename(self.at(from), self.at(to))
    }

    fn remove(&self, path: &str) -> io::Result<()> {
        match std::fs::remove_file(self.at(path)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            other => other,
        }
    }

    fn list(&self, dir: &str) -> io::Result<Vec<String>> {
        let entries = match std::fs::read_dir(self.at(dir)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            other => other?,
        };
        let mut names = Vec::new();
        for entry in entries {
            let entry = entry?;
            if entry.file_type()?.is_file() {
                names.push(entry.file_name().to_string_lossy().into_owned());
            }
        }
        names.sort();
        Ok(names)
    }

    fn make_dir(&self, dir: &str) -> io::Result<()> {
        std::fs::create_dir_all(self.at(dir))?;
        self.sync_dir(dir)?;
        self.sync_dir(directory_of(dir))
    }

    fn free_bytes(&self) -> io::Result<u64> {
        let stat = rustix::fs::statvfs(&self.root)?;
        Ok(stat.f_bavail.saturating_mul(stat.f_frsize))
    }

    fn allocate(&self, path: &str, len: u64) -> io::Result<()> {
        let file = File::create(self.at(path))?;
        let taken = take(&file, len).and_then(|()| file.sync_all());
        taken.inspect_err(|_| drop(self.remove(path)))
    }
}

/// Takes `len` bytes of disk for an empty file. The last of them is written, too: a promise of the
/// file system is not enough.
fn take(file: &File, len: u64) -> io::Result<()> {
    static PIECE: [u8; 64 << 10] = [0; 64 << 10];
    match rustix::fs::fallocate(file, FallocateFlags::empty(), 0, len) {
        Ok(()) if len > 0 => file.write_all_at(&[0], len - 1),
        Err(rustix::io::Errno::OPNOTSUPP) => {
            let mut at = 0;
            while at < len {
                let piece = (len - at).min(PIECE.len() as u64);
                file.write_all_at(&PIECE[..piece as usize], at)?;
                at += piece;
            }
            Ok(())
        }
        other => Ok(other?),
    }
}
