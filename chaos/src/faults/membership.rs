//! Changes of who belongs to the cluster. Ends with as many members as before.

use anyhow::Result;
use serde::{Deserialize, Serialize};

use super::whom::Whom;
use super::{Begun, Demand, Inject, Scene};
use crate::history::What;

/// What changes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Change {
    /// A node joins; it leaves at the end.
    Grow,
    /// Nodes leave on their own account; wiped, they join again at the end.
    Leave(Whom),
    /// Nodes are removed while they run; wiped, they join again at the end.
    Remove(Whom),
    /// Another node leads.
    Transfer,
}

/// Changes the membership, or the leader, in order.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Membership {
    pub change: Change,
}

impl Membership {
    /// What it asks of the cluster when it begins.
    pub(super) fn demands(&self) -> Demand {
        let leaving = usize::from(matches!(self.change, Change::Leave(_) | Change::Remove(_)));
        Demand { leaving, ..Demand::default() }
    }
}

impl Inject for Membership {
    fn name(&self) -> String {
        match &self.change {
            Change::Grow => "membership(grow)".into(),
            Change::Leave(whom) => format!("membership(leave {whom})"),
            Change::Remove(whom) => format!("membership(remove {whom})"),
            Change::Transfer => "membership(transfer)".into(),
        }
    }

    async fn begin(&self, scene: &mut Scene<'_>) -> Result<Begun> {
        match &self.change {
            Change::Grow => {
                let mut begun = scene.announce(self.name(), &[], "");
                begun.added.push(scene.bed.grow().await?);
                Ok(begun)
            }
            Change::Leave(whom) => {
                let targets = whom.choose(scene).await?;
                let begun = scene.announce(self.name(), &targets, "");
                for id in targets {
                    scene.bed.leave(id).await?;
                }
                Ok(begun)
            }
            Change::Remove(whom) => {
                let targets = whom.choose(scene).await?;
                let begun = scene.announce(self.name(), &targets, "");
                for id in targets {
                    scene.bed.remove(id).await?;
                }
                Ok(begun)
            }
            Change::Transfer => {
                let leader = scene.bed.leader().await?;
                let begun = scene.announce(self.name(), &[leader], "");
                scene.bed.transfer(None).await?;
                Ok(begun)
            }
        }
    }

    async fn end(&self, begun: &mut Begun, scene: &mut Scene<'_>) -> Result<String> {
        for id in begun.added.drain(..) {
            scene.bed.leave(id).await?;
            scene.bed.terminate(&[id]).await?;
        }
        if matches!(self.change, Change::Grow | Change::Transfer) {
            return Ok(String::new());
        }
        let mut joined = Vec::new();
        for id in &begun.targets {
            scene.bed.terminate(&[*id]).await?;
            joined.push(scene.bed.replace(*id).await?);
            scene.record(What::Wiped { node: *id });
        }
        Ok(format!("nodes {joined:?} have joined instead"))
    }
}
