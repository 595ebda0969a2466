//! Whom a fault hits.

use std::fmt;

use anyhow::{Result, bail};
use serde::{Deserialize, Serialize};

use super::Scene;

/// Whom a fault hits; chosen anew each time it begins, among the members that run.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Whom {
    Leader,
    /// Any node that does not lead.
    Follower,
    /// Any node.
    One,
    /// As many as a cluster survives.
    Minority,
    /// One more than that: nothing can be committed without them.
    Majority,
    #[default]
    All,
    /// These.
    Nodes(Vec<u64>),
}

impl fmt::Display for Whom {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Whom::Leader => f.write_str("leader"),
            Whom::Follower => f.write_str("follower"),
            Whom::One => f.write_str("one"),
            Whom::Minority => f.write_str("minority"),
            Whom::Majority => f.write_str("majority"),
            Whom::All => f.write_str("all"),
            Whom::Nodes(ids) => write!(f, "{ids:?}"),
        }
    }
}

impl Whom {
    /// Chooses nodes; ids in ascending order, never none.
    pub(super) async fn choose(&self, scene: &mut Scene<'_>) -> Result<Vec<u64>> {
        let mut live = members(scene);
        live.retain(|id| scene.bed.node(*id).is_ok_and(|node| node.is_live()));
        let count = members(scene).len();
        let leader = match self {
            Whom::Leader | Whom::Follower => Some(scene.bed.leader().await?),
            _ => None,
        };
        let mut chosen = match self {
            Whom::Leader => live.into_iter().filter(|id| Some(*id) == leader).collect(),
            Whom::Follower => {
                live.retain(|id| Some(*id) != leader);
                some(live, 1, scene.rng)
            }
            Whom::One => some(live, 1, scene.rng),
            Whom::Minority => some(live, count.saturating_sub(1) / 2, scene.rng),
            Whom::Majority => some(live, count / 2 + 1, scene.rng),
            Whom::All => live,
            Whom::Nodes(ids) => ids.clone(),
        };
        chosen.sort_unstable();
        match chosen.is_empty() {
            true => bail!("there is nobody to hit: {self}"),
            false => Ok(chosen),
        }
    }
}

/// Ids of all members, running or not.
pub(super) fn members(scene: &Scene<'_>) -> Vec<u64> {
    scene.bed.nodes().into_iter().filter(|node| node.member).map(|node| node.id).collect()
}

fn some(mut ids: Vec<u64>, count: usize, rng: &mut fastrand::Rng) -> Vec<u64> {
    rng.shuffle(&mut ids);
    ids.truncate(count);
    ids
}
