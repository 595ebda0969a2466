//! A directory that is prepared beside its place, and put there in one step.
//!
//! ```text
//! DIR.preparing      what is being prepared; with the file UNFINISHED until it is complete
//! DIR                where it goes
//! DIR.before-N       what was there, if it takes the place of something
//! ```
//!
//! A crash leaves `DIR` as it was or as it will be. What it leaves beside is removed by the next
//! attempt if it is unfinished, and otherwise kept under a name of its own: it may be the old one.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{MetadataExt, chown};
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, RenameFlags, renameat_with};

use super::error::StorageError;

const UNFINISHED: &str = "UNFINISHED";

/// A directory in the making. Dropped before it is put in its place it is removed.
pub struct Site {
    target: PathBuf,
    work: PathBuf,
}

impl Site {
    /// Begins to prepare what is to be at `target`.
    pub fn beside(target: &Path) -> Result<Site, StorageError> {
        let target = absolute(target)?;
        let work = suffixed(&target, "preparing");
        if work.join(UNFINISHED).exists() {
            let failed = StorageError::io(format!("removing {}", work.display()));
            fs::remove_dir_all(&work).map_err(failed)?;
        } else if work.exists() {
            let kept = free_name(&target);
            tracing::warn!("{} is kept as {}", work.display(), kept.display());
            rename(&work, &kept)?;
        }
        let failed = || StorageError::io(format!("creating {}", work.display()));
        fs::create_dir_all(&work).map_err(failed())?;
        File::create(work.join(UNFINISHED)).map_err(failed())?;
        sync(&work)?;
        sync(parent(&work))?;
        Ok(Site { target, work })
    }

    /// Where to write.
    pub fn dir(&self) -> &Path {
        &self.work
    }

    /// Refuses a place where something is already.
    pub fn check_free(target: &Path) -> Result<(), StorageError> {
        let occupied = match fs::read_dir(target) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => false,
            Err(error) => {
                return Err(StorageError::io(format!("looking at {}", target.display()))(error));
            }
            Ok(mut entries) => entries.next().is_some(),
        };
        if occupied {
            return Err(StorageError::Occupied { dir: target.display().to_string() });
        }
        Ok(())
    }

    /// Puts it where nothing is, or an empty directory.
    pub fn place(self) -> Result<(), StorageError> {
        Site::check_free(&self.target)?;
        self.complete()?;
        rename(&self.work, &self.target).inspect_err(|_| self.clear())
    }

    /// Puts it in the place of the directory that is there; where that one is now.
    pub fn replace(self) -> Result<PathBuf, StorageError> {
        self.take_owner()?;
        self.complete()?;
        let what = format!("exchanging {} and {}", self.work.display(), self.target.display());
        renameat_with(CWD, &self.work, CWD, &self.target, RenameFlags::EXCHANGE)
            .map_err(|error| StorageError::io(what)(error.into()))
            .inspect_err(|_| self.clear())?;
        sync(parent(&self.target))?;
        let kept = free_name(&self.target);
        match rename(&self.work, &kept) {
            Ok(()) => Ok(kept),
            // It is done all the same; the next attempt finds a better name.
            Err(_) => Ok(self.work.clone()),
        }
    }

    /// Gives everything to whom the directory belongs that is replaced: the node must read it.
    fn take_owner(&self) -> Result<(), StorageError> {
        let failed = || StorageError::io(format!("handing over {}", self.work.display()));
        let old = fs::metadata(&self.target).map_err(failed())?;
        let new = fs::metadata(&self.work).map_err(failed())?;
        fs::set_permissions(&self.work, old.permissions()).map_err(failed())?;
        if (old.uid(), old.gid()) == (new.uid(), new.gid()) {
            return Ok(());
        }
        give(&self.work, old.uid(), old.gid()).map_err(failed())
    }

    fn clear(&self) {
        // It is a nuisance if it stays, not a failure.
        let _ = fs::remove_dir_all(&self.work);
    }

    fn complete(&self) -> Result<(), StorageError> {
        let marker = self.work.join(UNFINISHED);
        let failed = StorageError::io(format!("removing {}", marker.display()));
        fs::remove_file(&marker).map_err(failed)?;
        sync(&self.work)
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        if self.work.join(UNFINISHED).exists() {
            self.clear();
        }
    }
}

fn give(path: &Path, user: u32, group: u32) -> io::Result<()> {
    chown(path, Some(user), Some(group))?;
    if path.is_dir() {
        for entry in fs::read_dir(path)? {
            give(&entry?.path(), user, group)?;
        }
    }
    Ok(())
}

fn absolute(path: &Path) -> Result<PathBuf, StorageError> {
    let failed = StorageError::io(format!("finding {}", path.display()));
    // A link stays where it is: what it leads to is replaced.
    match path.canonicalize() {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            std::path::absolute(path).map_err(failed)
        }
        other => other.map_err(failed),
    }
}

fn suffixed(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_os_string();
    name.push(format!(".{suffix}"));
    path.with_file_name(name)
}

fn free_name(target: &Path) -> PathBuf {
    let names = (1..).map(|n: u32| suffixed(target, &format!("before-{n}")));
    names.into_iter().find(|path| !path.exists()).unwrap_or_else(|| suffixed(target, "before"))
}

fn parent(path: &Path) -> &Path {
    path.parent().unwrap_or(path)
}

fn rename(from: &Path, to: &Path) -> Result<(), StorageError> {
    let failed = StorageError::io(format!("renaming {} to {}", from.display(), to.display()));
    fs::rename(from, to).map_err(failed)?;
    sync(parent(to))
}

fn sync(dir: &Path) -> Result<(), StorageError> {
    let failed = StorageError::io(format!("syncing {}", dir.display()));
    File::open(dir).and_then(|dir| dir.sync_all()).map_err(failed)
}
