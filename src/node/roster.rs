//! Where the members were seen last, written beside the data: a node that cannot read its data asks
//! them, and one whose data was moved aside joins them and founds no cluster of its own. Otherwise a
//! hint: it may be old, missing or damaged.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tracing::warn;

use crate::consensus::Replica;
use crate::env::disk::{Disk, RealDisk};
use crate::env::{Runtime, TokioRuntime};
use crate::storage::StorageError;

const PATH: &str = "members";
/// How often it is compared with what is known.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// A longer file is none of ours.
const BYTES_MAX: u64 = 64 << 10;

/// Keeps the file up to date until dropped.
pub async fn keep(replica: Replica<TokioRuntime>, disk: Arc<dyn Disk>, env: TokioRuntime) {
    let (mut written, mut told) = (String::new(), false);
    loop {
        let others = replica.members().into_iter().filter(|info| info.member.id != replica.me());
        let text: String = others.map(|info| info.member.peer_addr + "\n").collect();
        if text != written && !text.is_empty() {
            let (disk, bytes) = (disk.clone(), text.clone());
            match env.blocking(move || disk.replace(PATH, bytes.as_bytes())).await {
                Some(Err(_)) if told => {}
                Some(Err(error)) => {
                    warn!(%error, "the addresses of the members are not noted; trying on");
                    told = true;
                }
                _ => (written, told) = (text, false),
            }
        }
        env.sleep(LOOK_EVERY).await;
    }
}

/// Notes members in a data directory that is about to be cleared; durable on return.
pub fn write(dir: &Path, members: &[String]) -> Result<(), StorageError> {
    let text: String = members.iter().map(|addr| format!("{addr}\n")).collect();
    let disk = RealDisk::open(dir);
    disk.and_then(|disk| disk.replace(PATH, text.as_bytes()))
        .map_err(StorageError::io(format!("noting the members in {}", dir.display())))
}

/// Peer addresses of the members as noted in a data directory.
pub fn read(dir: &Path) -> Vec<String> {
    let path = dir.join(PATH);
    let fits = std::fs::metadata(&path).is_ok_and(|found| found.len() <= BYTES_MAX);
    let text = fits.then(|| std::fs::read_to_string(&path).ok()).flatten().unwrap_or_default();
    text.lines().filter(|line| line.contains(':')).map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_read_is_no_address() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(read(dir.path()), Vec::<String>::new());
        write(dir.path(), &["a:1".into(), "nonsense".into(), "b:2".into()]).unwrap();
        assert_eq!(read(dir.path()), ["a:1", "b:2"]);
        std::fs::write(dir.path().join(PATH), [0xff; 20]).unwrap();
        assert_eq!(read(dir.path()), Vec::<String>::new());
    }
}
