//! A log that is gone, as if its file system had been made anew.

use std::path::Path;

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use super::anatomy::register;
use super::damage::{self, Done};
use super::flip::loss_of_log;
use super::whom::Whom;
use super::{Begun, Inject, Scene};

/// Removes the log of each target.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Vanish {
    pub whom: Whom,
}

impl Inject for Vanish {
    fn name(&self) -> String {
        format!("vanish({}, log)", self.whom)
    }

    async fn begin(&self, scene: &mut Scene<'_>) -> Result<Begun> {
        damage::inflict(scene, self.name(), &self.whom, |dir, _| vanish(dir)).await
    }

    async fn end(&self, begun: &mut Begun, scene: &mut Scene<'_>) -> Result<String> {
        damage::restore(begun, scene).await
    }
}

/// Removes the log from the directory of a stopped node.
pub(super) fn vanish(dir: &Path) -> Result<Done> {
    let first = register::floor(dir)?.map_or(0, |floor| floor.index + 1);
    let expect = loss_of_log(first, register::mark(dir)?);
    std::fs::remove_dir_all(dir.join("log")).context("remove the log")?;
    Ok(vec![("log".into(), "it vanished".into(), expect)])
}
