//! A new incarnation of a cluster out of a backup.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::Serialize;

use crate::env::disk::{Disk, RealDisk};
use crate::machine::Machine;
use crate::storage::{Fresh, Site, StorageError};
use crate::types::{ClusterId, NodeId};

use super::super::member::Member;
use super::super::snapshot::Image;
use super::OfflineError;
use super::backup::{BackupHead, BackupReader};
use super::recover::{ChannelLeft, channels};
use super::refound::Founder;
use super::survey::unsound;

/// What was restored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Restored {
    /// What the backup says of itself.
    pub backup: BackupHead,
    /// The new incarnation.
    pub cluster_id: ClusterId,
    pub node_id: NodeId,
    pub data_dir: PathBuf,
    pub channels: Vec<ChannelLeft>,
}

/// Makes a data directory at `dir`, where nothing is yet, out of a backup: that of the only member
/// of a new incarnation of its cluster.
pub fn restore(file: &Path, dir: &Path, cluster: ClusterId) -> Result<Restored, OfflineError> {
    let mut backup = BackupReader::open(file)?;
    Site::check_free(dir)?;
    let site = Site::beside(dir)?;
    let opening = StorageError::io(format!("opening {}", site.dir().display()));
    let disk = RealDisk::open(site.dir()).map_err(opening)?;
    let (founder, machine) = restore_on(&mut backup, Arc::new(disk), cluster)?;
    site.place()?;
    Ok(Restored {
        backup: backup.head,
        cluster_id: founder.cluster,
        node_id: founder.node,
        data_dir: dir.to_path_buf(),
        channels: channels(&machine),
    })
}

/// The same on an empty disk.
pub(super) fn restore_on(
    backup: &mut BackupReader,
    disk: Arc<dyn Disk>,
    cluster: ClusterId,
) -> Result<(Founder, Machine), OfflineError> {
    let fresh = Fresh::begin(disk)?;
    let mut staging = fresh.events.stage(backup.head.files.clone())?;
    backup.read(&mut |file, offset, piece| staging.write_chunk(&file.name, offset, piece))?;
    let snapshot = staging.complete()?.install()?;
    let machine = Machine::decode(&fresh.events.read_machine(&snapshot)?).map_err(unsound)?;
    let image = Image::decode(&snapshot.meta)?;
    let founder = Founder::after(&image, 0, cluster, Member::default());
    let writer = fresh.events.writer();
    founder.found(fresh, writer, machine.clone(), image)?;
    Ok((founder, machine))
}
