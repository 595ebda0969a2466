//! The file of a backup: a snapshot of a cluster and the segments it needs.
//!
//! ```text
//! 0   4   magic "AQBK"
//! 4   u16 version (1), u16 zero
//! 8   u32 length and u32 crc32 of the head
//! 16  ..  head: JSON of [`BackupHead`]
//!     ..  its files, one after the other
//!     4   magic "AQBE"
//! ```
//!
//! The head has length and checksum of every file, so all of it is verified as it is read.

use std::fs::{self, File};
use std::io::{self, BufWriter, Read, Write};
use std::path::{Path, PathBuf};

use bytes::Buf;
use serde::{Deserialize, Serialize};

use super::OfflineError;
use crate::storage::{FileInfo, StorageError};
use crate::types::{ClusterId, NodeId};

const MAGIC: &[u8; 4] = b"AQBK";
const END_MAGIC: &[u8; 4] = b"AQBE";
const VERSION: u16 = 1;
const FIXED_BYTES: usize = 16;
/// A head is smaller; a greater length is damage.
const HEAD_BYTES_MAX: usize = 64 << 20;
/// Bytes that are read at a time.
const PIECE_BYTES: usize = 1 << 20;

/// What a backup says of itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BackupHead {
    pub cluster_id: ClusterId,
    /// The node that it was taken from.
    pub node_id: NodeId,
    /// Release of the program that wrote it.
    pub release: String,
    /// Seconds since the Unix epoch.
    pub taken_at: u64,
    /// The last log entry it covers.
    pub last_index: u64,
    pub last_term: u64,
    /// The snapshot first, then the segments it needs.
    pub files: Vec<FileInfo>,
}

impl BackupHead {
    /// Bytes of all files.
    pub fn bytes(&self) -> u64 {
        self.files.iter().fold(0, |sum, file| sum.saturating_add(file.len))
    }
}

/// A backup being written. It has its name when it is whole; dropped before, it leaves nothing.
pub struct BackupWriter {
    path: PathBuf,
    part: PathBuf,
    out: BufWriter<File>,
    /// Files still to come, the next one last.
    files: Vec<FileInfo>,
    written: u64,
    crc: crc32fast::Hasher,
}

impl BackupWriter {
    /// Begins the file at `path`, which must not exist.
    pub fn create(path: &Path, head: &BackupHead) -> Result<BackupWriter, OfflineError> {
        let failed = || StorageError::io(format!("writing {}", path.display()));
        if path.exists() {
            return Err(StorageError::Occupied { dir: path.display().to_string() }.into());
        }
        let mut name = path.file_name().unwrap_or_default().to_os_string();
        name.push(".part");
        let part = path.with_file_name(name);
        let out = BufWriter::new(File::create(&part).map_err(failed())?);
        let files = head.files.iter().rev().cloned().collect();
        let (path, crc) = (path.to_path_buf(), crc32fast::Hasher::new());
        let mut writer = BackupWriter { path, part, out, files, written: 0, crc };
        let head = serde_json::to_vec(head).map_err(io::Error::other).map_err(failed())?;
        let mut fixed = MAGIC.to_vec();
        fixed.extend_from_slice(&VERSION.to_le_bytes());
        fixed.extend_from_slice(&[0; 2]);
        fixed.extend_from_slice(&(head.len() as u32).to_le_bytes());
        fixed.extend_from_slice(&crc32fast::hash(&head).to_le_bytes());
        writer.put(&fixed)?;
        writer.put(&head)?;
        Ok(writer)
    }

    /// The file that comes next, and how much of it is there.
    pub fn next(&self) -> Option<(&FileInfo, u64)> {
        self.files.last().map(|file| (file, self.written))
    }

    /// Adds a piece of the file that comes next.
    pub fn add(&mut self, piece: &[u8]) -> Result<(), OfflineError> {
        let Some(file) = self.files.last().cloned() else {
            return Err(OfflineError::Unsound("the backup has all its files".into()));
        };
        self.written = self.written.saturating_add(piece.len() as u64);
        if piece.is_empty() || self.written > file.len {
            let detail = format!("{} of {} bytes came", self.written, file.len);
            return Err(StorageError::corrupt(file.name, detail).into());
        }
        self.crc.update(piece);
        self.put(piece)?;
        if self.written == file.len {
            if std::mem::take(&mut self.crc).finalize() != file.crc {
                return Err(StorageError::corrupt(file.name, "wrong checksum").into());
            }
            self.written = 0;
            self.files.pop();
        }
        Ok(())
    }

    /// Ends the file: it is whole, durable and has its name on return.
    pub fn finish(mut self) -> Result<(), OfflineError> {
        if let Some((file, _)) = self.next() {
            return Err(OfflineError::Unsound(format!("file {} is missing", file.name)));
        }
        self.put(END_MAGIC)?;
        let failed = || StorageError::io(format!("writing {}", self.path.display()));
        let done = || -> io::Result<()> {
            self.out.flush()?;
            self.out.get_ref().sync_all()?;
            fs::rename(&self.part, &self.path)?;
            let dir = self.path.parent().filter(|dir| !dir.as_os_str().is_empty());
            File::open(dir.unwrap_or(Path::new(".")))?.sync_all()
        };
        let mut done = done;
        done().map_err(failed())?;
        Ok(())
    }

    fn put(&mut self, bytes: &[u8]) -> Result<(), OfflineError> {
        let failed = StorageError::io(format!("writing {}", self.part.display()));
        Ok(self.out.write_all(bytes).map_err(failed)?)
    }
}

impl Drop for BackupWriter {
    fn drop(&mut self) {
        // Not there any more once it has its name.
        let _ = fs::remove_file(&self.part);
    }
}

/// Takes a piece: of which file, where in it, and its bytes.
pub type TakePiece<'a> = dyn FnMut(&FileInfo, u64, &[u8]) -> Result<(), StorageError> + 'a;

/// A backup to be read. Its length was found right.
pub struct BackupReader {
    name: String,
    input: File,
    pub head: BackupHead,
}

impl BackupReader {
    /// Opens a backup and reads its head.
    pub fn open(path: &Path) -> Result<BackupReader, OfflineError> {
        let name = path.display().to_string();
        let failed = || StorageError::io(format!("reading {name}"));
        let damaged = |detail: String| StorageError::corrupt(format!("backup {name}"), detail);
        let mut input = File::open(path).map_err(failed())?;
        let len = input.metadata().map_err(failed())?.len();
        let mut fixed = [0; FIXED_BYTES];
        if len < FIXED_BYTES as u64 {
            return Err(damaged(format!("{len} bytes are no backup")).into());
        }
        input.read_exact(&mut fixed).map_err(failed())?;
        let mut fixed = &fixed[..];
        if fixed.copy_to_bytes(4) != MAGIC[..] {
            return Err(damaged("it does not begin as a backup does".into()).into());
        }
        let (version, zero) = (fixed.get_u16_le(), fixed.get_u16_le());
        let (head_len, crc) = (fixed.get_u32_le() as usize, fixed.get_u32_le());
        if version > VERSION && zero == 0 {
            let what = format!("backup {name}");
            return Err(StorageError::newer(what, version.into(), VERSION.into()).into());
        }
        if version != VERSION || zero != 0 || head_len > HEAD_BYTES_MAX {
            return Err(damaged("its beginning makes no sense".into()).into());
        }
        if len < (FIXED_BYTES + head_len) as u64 {
            return Err(damaged("it is cut short".into()).into());
        }
        let mut head = vec![0; head_len];
        input.read_exact(&mut head).map_err(failed())?;
        if crc32fast::hash(&head) != crc {
            return Err(damaged("wrong checksum of its head".into()).into());
        }
        let head: BackupHead =
            serde_json::from_slice(&head).map_err(|error| damaged(error.to_string()))?;
        let around = (FIXED_BYTES + head_len + END_MAGIC.len()) as u64;
        if head.bytes().checked_add(around) != Some(len) {
            let expected = head.bytes().saturating_add(around);
            return Err(damaged(format!("it has {len} bytes instead of {expected}")).into());
        }
        Ok(BackupReader { name, input, head })
    }

    /// Hands over all files, piece by piece, in order: the file, where in it, bytes. Each is
    /// verified when its last piece was handed over.
    pub fn read(&mut self, take: &mut TakePiece<'_>) -> Result<(), OfflineError> {
        let mut buffer = vec![0; PIECE_BYTES];
        for file in self.head.files.clone() {
            let (mut offset, mut crc) = (0, crc32fast::Hasher::new());
            while offset < file.len {
                let piece = &mut buffer[..(file.len - offset).min(PIECE_BYTES as u64) as usize];
                let failed = StorageError::io(format!("reading {}", self.name));
                self.input.read_exact(piece).map_err(failed)?;
                crc.update(piece);
                take(&file, offset, piece)?;
                offset += piece.len() as u64;
            }
            if crc.finalize() != file.crc {
                let detail = format!("wrong checksum of its file {}", file.name);
                return Err(StorageError::corrupt(format!("backup {}", self.name), detail).into());
            }
        }
        let mut end = [0; END_MAGIC.len()];
        let failed = StorageError::io(format!("reading {}", self.name));
        self.input.read_exact(&mut end).map_err(failed)?;
        if end != *END_MAGIC {
            let detail = "it does not end as a backup does";
            return Err(StorageError::corrupt(format!("backup {}", self.name), detail).into());
        }
        Ok(())
    }
}
