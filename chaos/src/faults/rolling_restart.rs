//! Every node is stopped and started in turn, in order, as for an upgrade.

use anyhow::{Result, ensure};
use serde::{Deserialize, Serialize};

use super::whom::members;
use super::{Begun, Inject, Scene};
use crate::bed::State;

/// Restarts all nodes, one after the other; each must vote before the next is stopped. All of it
/// happens at its beginning.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct RollingRestart {}

impl Inject for RollingRestart {
    fn name(&self) -> String {
        "rolling_restart".into()
    }

    async fn begin(&self, scene: &mut Scene<'_>) -> Result<Begun> {
        let targets = members(scene);
        let begun = scene.announce(self.name(), &targets, "");
        for id in &targets {
            scene.bed.terminate(&[*id]).await?;
            let state = scene.bed.restart(*id).await?;
            ensure!(state == State::Ready, "node {id} is {state:?} after an orderly restart");
            scene.bed.voters(targets.len()).await?;
        }
        Ok(begun)
    }

    async fn end(&self, _: &mut Begun, _: &mut Scene<'_>) -> Result<String> {
        Ok(String::new())
    }
}
