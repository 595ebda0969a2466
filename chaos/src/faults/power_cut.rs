//! Power cuts: all disks at one moment, then the processes. What was not synced is gone.

use anyhow::Result;
use serde::{Deserialize, Serialize};

use super::whom::Whom;
use super::{Begun, Inject, Scene};
use crate::bed::{Bed, DiskKind};

/// Cuts the power of nodes; they start again when it ends.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PowerCut {
    pub whom: Whom,
}

impl Inject for PowerCut {
    fn name(&self) -> String {
        format!("power_cut({})", self.whom)
    }

    fn lacks(&self, bed: &Bed) -> Option<String> {
        (bed.options().disks != DiskKind::Ext4Images)
            .then(|| "disks with a power of their own: ext4 images, as root".into())
    }

    async fn begin(&self, scene: &mut Scene<'_>) -> Result<Begun> {
        let targets = self.whom.choose(scene).await?;
        let begun = scene.announce(self.name(), &targets, "");
        scene.bed.power_cut(&targets).await?;
        Ok(begun)
    }

    async fn end(&self, begun: &mut Begun, scene: &mut Scene<'_>) -> Result<String> {
        scene.restart_ended(&begun.targets).await?;
        Ok(String::new())
    }
}
