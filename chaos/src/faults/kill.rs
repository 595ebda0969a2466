//! SIGKILL. Ends with a restart.

use anyhow::Result;
use serde::{Deserialize, Serialize};

use super::whom::Whom;
use super::{Begun, Inject, Scene};

/// Kills nodes, all at once.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Kill {
    pub whom: Whom,
}

impl Inject for Kill {
    fn name(&self) -> String {
        format!("kill({})", self.whom)
    }

    async fn begin(&self, scene: &mut Scene<'_>) -> Result<Begun> {
        let targets = self.whom.choose(scene).await?;
        let begun = scene.announce(self.name(), &targets, "");
        scene.bed.kill(&targets).await?;
        Ok(begun)
    }

    async fn end(&self, begun: &mut Begun, scene: &mut Scene<'_>) -> Result<String> {
        scene.restart_ended(&begun.targets).await?;
        Ok(String::new())
    }
}
