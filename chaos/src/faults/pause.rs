//! SIGSTOP: a node that is neither dead nor alive, and then goes on as if nothing had been.

use anyhow::Result;
use serde::{Deserialize, Serialize};

use super::whom::Whom;
use super::{Begun, Inject, Scene};

/// Stops nodes; they go on when it ends.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Pause {
    pub whom: Whom,
}

impl Inject for Pause {
    fn name(&self) -> String {
        format!("pause({})", self.whom)
    }

    async fn begin(&self, scene: &mut Scene<'_>) -> Result<Begun> {
        let targets = self.whom.choose(scene).await?;
        let begun = scene.announce(self.name(), &targets, "");
        scene.bed.pause(&targets)?;
        Ok(begun)
    }

    async fn end(&self, begun: &mut Begun, scene: &mut Scene<'_>) -> Result<String> {
        scene.bed.resume(&begun.targets)?;
        Ok(String::new())
    }
}
