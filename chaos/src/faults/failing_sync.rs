//! A disk that fails to sync. What a node wrote then may be there or not; it must not go on as if
//! it were.

use anyhow::Result;
use serde::{Deserialize, Serialize};

use super::whom::Whom;
use super::{Begun, Inject, Scene};
use crate::bed::Bed;

/// Makes syncs of nodes fail with EIO.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct FailingSync {
    pub whom: Whom,
    /// How many syncs of each node; 0: all until the end.
    #[serde(default)]
    pub count: u32,
}

impl Inject for FailingSync {
    fn name(&self) -> String {
        match self.count {
            0 => format!("failing_sync({})", self.whom),
            count => format!("failing_sync({}, {count} times)", self.whom),
        }
    }

    fn lacks(&self, bed: &Bed) -> Option<String> {
        (!bed.options().shim).then(|| "the shim".into())
    }

    async fn begin(&self, scene: &mut Scene<'_>) -> Result<Begun> {
        let targets = self.whom.choose(scene).await?;
        let begun = scene.announce(self.name(), &targets, "");
        let count = if self.count == 0 { u32::MAX } else { self.count };
        for id in &targets {
            scene.bed.shim(*id)?.fail_syncs(count)?;
        }
        Ok(begun)
    }

    async fn end(&self, begun: &mut Begun, scene: &mut Scene<'_>) -> Result<String> {
        let mut failed = 0;
        for id in &begun.targets {
            let shim = scene.bed.shim(*id)?;
            shim.fail_syncs(0)?;
            failed += shim.counts()?.failed_syncs;
        }
        let ended = scene.restart_ended(&begun.targets).await?;
        Ok(format!("{failed} syncs have failed so far; nodes {ended:?} had ended"))
    }
}
