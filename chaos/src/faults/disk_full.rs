//! A disk without room. Ends with room; nobody starts the nodes again, which wait for it.

use anyhow::Result;
use serde::{Deserialize, Serialize};

use super::whom::Whom;
use super::{Begun, Inject, Scene};
use crate::bed::Bed;

/// Fills the disks of nodes: for real if they have disks of their own, else by the shim.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DiskFull {
    pub whom: Whom,
    /// Bytes that stay free. The shim leaves none.
    #[serde(default)]
    pub leave: u64,
}

impl Inject for DiskFull {
    fn name(&self) -> String {
        format!("disk_full({}, {} kB left)", self.whom, self.leave / 1000)
    }

    fn lacks(&self, bed: &Bed) -> Option<String> {
        let by_shim = bed.options().shim && self.leave == 0;
        let for_real = bed.nodes().iter().all(|n| bed.disk(n.id).is_ok_and(|d| d.can_be_full()));
        (!by_shim && !for_real).then(|| "disks of limited size (as root), or the shim".into())
    }

    async fn begin(&self, scene: &mut Scene<'_>) -> Result<Begun> {
        let targets = self.whom.choose(scene).await?;
        let begun = scene.announce(self.name(), &targets, "");
        for id in &targets {
            match scene.bed.disk(*id)? {
                disk if disk.can_be_full() => disk.fill(self.leave)?,
                _ => scene.bed.shim(*id)?.fill_disk(true)?,
            }
        }
        Ok(begun)
    }

    async fn end(&self, begun: &mut Begun, scene: &mut Scene<'_>) -> Result<String> {
        for id in &begun.targets {
            scene.bed.disk(*id)?.relieve()?;
            if let Ok(shim) = scene.bed.shim(*id) {
                shim.fill_disk(false)?;
            }
        }
        let waited = scene.bed.room_returned(&begun.targets).await?;
        // Only those of other faults: who ends of a full disk is found out by an invariant.
        let ended = scene.restart_ended(&begun.targets).await?;
        Ok(format!("nodes {waited:?} have waited for room; nodes {ended:?} had ended"))
    }
}
