//! Clearing a directory whose node was let go, so that another may live in it.
//!
//! ```text
//! DIR/CLEARING       the clearing was begun: what else is here is still to be moved
//! DIR/damaged/…      what lay here; of the last such node only
//! DIR/members        stays: the addresses of the members
//! ```
//!
//! Nothing here asks whether the node was let go: who begins must know. A clearing that a crash
//! interrupted is finished by the next start.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use super::ballast::BALLAST;
use super::error::StorageError;
use super::hold::LOCK;

const MARKER: &str = "CLEARING";
const KEPT: &str = "damaged";
/// What stays in its place: also where the members are, so that whoever comes next joins them.
const STAYS: [&str; 5] = [MARKER, KEPT, LOCK, "members", BALLAST];

/// Moves everything into `damaged` beside it, where it takes the place of what was kept before.
/// The caller holds the lock of the directory. Returns where it is now.
pub fn clear(dir: &Path) -> Result<PathBuf, StorageError> {
    let (marker, kept) = (dir.join(MARKER), dir.join(KEPT));
    let failed = || StorageError::io(format!("clearing {}", dir.display()));
    if !marker.exists() {
        match fs::remove_dir_all(&kept) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed()(error)),
            _ => {}
        }
        fs::create_dir(&kept).map_err(failed())?;
        sync(dir).map_err(failed())?;
        File::create(&marker).and_then(|file| file.sync_all()).map_err(failed())?;
        sync(dir).map_err(failed())?;
    }
    for entry in fs::read_dir(dir).map_err(failed())? {
        let name = entry.map_err(failed())?.file_name();
        if !STAYS.iter().any(|stays| name == *stays) {
            fs::rename(dir.join(&name), kept.join(&name)).map_err(failed())?;
        }
    }
    sync(&kept).and_then(|()| sync(dir)).map_err(failed())?;
    fs::remove_file(&marker).and_then(|()| sync(dir)).map_err(failed())?;
    Ok(kept)
}

/// Goes on with a clearing that was interrupted; nothing happens if there was none.
pub fn finish_clearing(dir: &Path) -> Result<(), StorageError> {
    if !dir.join(MARKER).exists() {
        return Ok(());
    }
    let disk = crate::env::disk::RealDisk::open(dir);
    let lock = disk.and_then(|disk| disk.lock(LOCK));
    let lock = lock.map_err(StorageError::io(format!("locking {}", dir.display())))?;
    let _lock = lock.ok_or_else(|| StorageError::Locked { dir: dir.display().to_string() })?;
    clear(dir).map(drop)
}

fn sync(dir: &Path) -> io::Result<()> {
    File::open(dir)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fill(dir: &Path, text: &str) {
        fs::create_dir_all(dir.join("log/db-1")).unwrap();
        fs::write(dir.join("identity.a"), text).unwrap();
        fs::write(dir.join("log/db-1/db"), text).unwrap();
        fs::write(dir.join("LOCK"), "").unwrap();
    }

    fn names(dir: &Path) -> Vec<String> {
        let entries = fs::read_dir(dir).unwrap();
        let mut names: Vec<_> =
            entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    #[test]
    fn one_copy_is_kept_and_the_place_is_free() {
        let home = tempfile::tempdir().unwrap();
        for text in ["first", "second"] {
            fill(home.path(), text);
            let kept = clear(home.path()).unwrap();
            assert_eq!(names(home.path()), ["LOCK", "damaged"]);
            assert_eq!(names(&kept), ["identity.a", "log"]);
            assert_eq!(fs::read_to_string(kept.join("log/db-1/db")).unwrap(), text);
        }
    }

    #[test]
    fn what_was_interrupted_is_finished_and_loses_nothing() {
        let home = tempfile::tempdir().unwrap();
        fill(home.path(), "old");
        finish_clearing(home.path()).unwrap();
        assert_eq!(names(home.path()), ["LOCK", "identity.a", "log"], "nothing was begun");
        // A crash after the first of two renames.
        fs::create_dir(home.path().join(KEPT)).unwrap();
        fs::write(home.path().join(MARKER), "").unwrap();
        fs::rename(home.path().join("identity.a"), home.path().join("damaged/identity.a")).unwrap();
        finish_clearing(home.path()).unwrap();
        assert_eq!(names(home.path()), ["LOCK", "damaged"]);
        assert_eq!(names(&home.path().join(KEPT)), ["identity.a", "log"]);
    }
}
