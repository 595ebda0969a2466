//! A disk that takes its time to sync.

use anyhow::Result;
use serde::{Deserialize, Serialize};

use super::whom::Whom;
use super::{Begun, Inject, Scene};
use crate::bed::Bed;

/// Makes each sync of nodes take longer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SlowDisk {
    pub whom: Whom,
    /// Milliseconds more.
    pub sync_ms: u32,
}

impl Inject for SlowDisk {
    fn name(&self) -> String {
        format!("slow_disk({}, {} ms)", self.whom, self.sync_ms)
    }

    fn lacks(&self, bed: &Bed) -> Option<String> {
        (!bed.options().shim).then(|| "the shim".into())
    }

    async fn begin(&self, scene: &mut Scene<'_>) -> Result<Begun> {
        let targets = self.whom.choose(scene).await?;
        let begun = scene.announce(self.name(), &targets, "");
        for id in &targets {
            scene.bed.shim(*id)?.slow_syncs(self.sync_ms)?;
        }
        Ok(begun)
    }

    async fn end(&self, begun: &mut Begun, scene: &mut Scene<'_>) -> Result<String> {
        let mut slowed = 0;
        for id in &begun.targets {
            let shim = scene.bed.shim(*id)?;
            shim.slow_syncs(0)?;
            slowed += shim.counts()?.slowed_syncs;
        }
        Ok(format!("{slowed} syncs were slow so far"))
    }
}
