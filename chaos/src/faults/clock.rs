//! Wall clocks that jump. The monotonic clock goes on, as it does on real machines.

use anyhow::Result;
use serde::{Deserialize, Serialize};

use super::whom::Whom;
use super::{Begun, Inject, Scene};
use crate::bed::Bed;

/// Makes the wall clocks of nodes jump; back again when it ends.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Clock {
    pub whom: Whom,
    /// Milliseconds, forward or back.
    pub jump_ms: i64,
}

impl Inject for Clock {
    fn name(&self) -> String {
        format!("clock({}, {:+} ms)", self.whom, self.jump_ms)
    }

    fn lacks(&self, bed: &Bed) -> Option<String> {
        (!bed.options().shim).then(|| "the shim".into())
    }

    async fn begin(&self, scene: &mut Scene<'_>) -> Result<Begun> {
        let targets = self.whom.choose(scene).await?;
        let begun = scene.announce(self.name(), &targets, "");
        for id in &targets {
            scene.bed.shim(*id)?.shift_clock(self.jump_ms)?;
        }
        Ok(begun)
    }

    async fn end(&self, begun: &mut Begun, scene: &mut Scene<'_>) -> Result<String> {
        let mut shifted = 0;
        for id in &begun.targets {
            let shim = scene.bed.shim(*id)?;
            shim.shift_clock(0)?;
            shifted += shim.counts()?.shifted_reads;
        }
        Ok(format!("{shifted} readings were shifted so far"))
    }
}
