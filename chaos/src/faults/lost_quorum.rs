//! A majority of the members is gone for good. Ends with a new incarnation: the best of what is left
//! is recovered, as an operator does it, and the others join it with empty disks.
//!
//! Everybody dies at one moment, under load, and the one whose log goes farthest is spared. What was
//! acknowledged is on a majority, and of a majority the log that goes farthest has it all: so nothing
//! acknowledged or confirmed is lost, and the run is judged like any other. Where the farthest log is
//! lost as well `recover` promises less; that is not tried here, for sequences are given out anew
//! then, and what a history says of them has two meanings.

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use super::damage;
use super::vanish::vanish;
use super::whom::{Whom, members};
use super::{Begun, Inject, Scene};
use crate::history::What;

/// A note's key. Count: milliseconds from the beginning of the recovery until all nodes vote again.
const RECOVERED: &str = "recovered_after_ms";
/// Another: nodes that were damaged beyond repair together, and kept what they had.
const KEPT: &str = "majority_kept_its_data";

/// Loses a majority.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LostQuorum {
    /// The lost ones are damaged first, and run until the end comes: nobody may give its data up.
    #[serde(default)]
    pub damaged_first: bool,
}

impl Inject for LostQuorum {
    fn name(&self) -> String {
        match self.damaged_first {
            true => "lost_quorum(damaged first)".into(),
            false => "lost_quorum".into(),
        }
    }

    async fn begin(&self, scene: &mut Scene<'_>) -> Result<Begun> {
        let all = Whom::All.choose(scene).await?;
        let mut begun = scene.announce(self.name(), &all, "");
        scene.bed.kill(&all).await?;
        let spared = farthest(scene, &all).await?;
        begun.targets = all.iter().copied().filter(|id| *id != spared).collect();
        for lost in begun.targets.clone() {
            if self.damaged_first {
                let done = vanish(&scene.bed.node(lost)?.data_dir)?;
                damage::note(scene, &mut begun, lost, done);
            } else {
                scene.bed.wipe(lost).await?;
            }
        }
        if self.damaged_first {
            damage::observe(scene, &mut begun).await?;
            scene.bed.launch(spared)?;
        }
        Ok(begun)
    }

    async fn end(&self, begun: &mut Begun, scene: &mut Scene<'_>) -> Result<String> {
        let lost = begun.targets.clone();
        if self.damaged_first {
            let left = members(scene);
            anyhow::ensure!(
                lost.iter().all(|id| left.contains(id)),
                "of nodes {lost:?}, a damaged majority, only {left:?} are what they were"
            );
            let (key, text) = (KEPT.into(), format!("nodes {lost:?}"));
            scene.record(What::Note { key, count: 1, text });
        }
        let started = std::time::Instant::now();
        scene.bed.kill(&members(scene)).await?;
        let spared = members(scene).into_iter().find(|id| !lost.contains(id));
        let spared = spared.context("nobody was spared")?;
        scene.bed.recover(spared).await?;
        scene.bed.restart(spared).await?;
        let mut joined = Vec::new();
        for id in lost {
            joined.push(scene.bed.replace(id).await?);
            scene.record(What::Wiped { node: id });
        }
        scene.bed.voters(joined.len() + 1).await?;
        let count = started.elapsed().as_millis() as u64;
        let text = format!("out of node {spared}; nodes {joined:?} have joined");
        scene.record(What::Note { key: RECOVERED.into(), count, text: text.clone() });
        Ok(text)
    }
}

/// The stopped node whose log goes farthest: by term, then by index.
async fn farthest(scene: &Scene<'_>, nodes: &[u64]) -> Result<u64> {
    let mut ends = Vec::new();
    for id in nodes {
        ends.push((scene.bed.log_end(*id).await?, *id));
    }
    let farthest = ends.into_iter().max().context("there are no nodes")?;
    Ok(farthest.1)
}
