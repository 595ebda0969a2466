//! Nodes that join and leave, as an operator has them do it.

use std::time::Duration;

use openraft_rt::AsyncRuntime;
use openraft_rt_sim::SimRuntime;

use super::env::now;
use super::node;
use super::world::{Slot, World, until};
use crate::history::What;

/// Pause before a change that was refused is asked for again.
const AGAIN: Duration = Duration::from_millis(100);

impl World {
    /// Founds the cluster: the first host bootstraps, the others join. Says no if that fails.
    pub async fn found(&self, hosts: u64) -> bool {
        self.start(1, Some(1)).await;
        let Some(first) = self.replica(1) else { return false };
        if first.bootstrap().await.is_err() {
            return false;
        }
        let lead = || self.leader().is_some();
        if !until(Duration::from_secs(5), lead).await {
            return false;
        }
        for slot in 2..=hosts {
            if !self.join(slot, Duration::from_secs(10)).await {
                return false;
            }
        }
        true
    }

    /// Makes a new node on an empty host a voter. Says no if that is not done within `longest`;
    /// it may be a learner then.
    pub async fn join(&self, slot: Slot, longest: Duration) -> bool {
        let deadline = now() + longest;
        let id = loop {
            if now() >= deadline {
                return false;
            }
            match self.leader().and_then(|leader| self.replica(leader)) {
                Some(leader) => match leader.admit(node::member(slot, 0)).await {
                    Ok(id) => break id,
                    Err(_) => SimRuntime::sleep(AGAIN).await,
                },
                None => SimRuntime::sleep(AGAIN).await,
            }
        };
        self.start(slot, Some(id.0)).await;
        while now() < deadline {
            if let Some(leader) = self.leader().and_then(|leader| self.replica(leader)) {
                let promoted = tokio::select! { biased;
                    promoted = leader.promote(id) => promoted.is_ok(),
                    () = SimRuntime::sleep(deadline.saturating_sub(now())) => false,
                };
                if promoted {
                    return true;
                }
            }
            SimRuntime::sleep(AGAIN).await;
        }
        false
    }

    /// Removes the node on a host from the cluster, and then its process. Says no if the cluster
    /// did not agree within `longest`; the host stays what it was.
    pub async fn leave(&self, slot: Slot, longest: Duration) -> bool {
        let id = aqueduct::types::NodeId(self.id(slot));
        let deadline = now() + longest;
        while now() < deadline {
            if let Some(leader) = self.leader().and_then(|leader| self.replica(leader)) {
                // A leader with a damaged disk may be unable to send others what they need.
                if leader.me() == id && self.slots().len() > 1 {
                    tokio::select! { biased;
                        _ = leader.transfer(None) => {}
                        () = SimRuntime::sleep(AGAIN) => {}
                    }
                    SimRuntime::sleep(AGAIN).await;
                    continue;
                }
                let removed = tokio::select! { biased;
                    removed = leader.remove(id) => removed.is_ok(),
                    () = SimRuntime::sleep(deadline.saturating_sub(now())) => false,
                };
                if removed {
                    // It finds out by itself, or is told the hard way.
                    SimRuntime::sleep(Duration::from_millis(300)).await;
                    self.retire(slot);
                    return true;
                }
            }
            SimRuntime::sleep(AGAIN).await;
        }
        false
    }

    /// Waits for nodes to mend themselves that can: whose relocated events were damaged, whether
    /// anybody read them or not. Says no if one does not.
    pub async fn mend_damaged(&self, longest: Duration) -> bool {
        for slot in self.damaged().into_iter().filter(|slot| self.is_curable(*slot)) {
            let damage = || self.replica(slot).map(|replica| replica.status().damage);
            let quiet = || damage().is_some_and(|damage| damage.suspects.is_empty());
            let whole = || quiet() && self.is_mended(slot);
            if !until(longest, whole).await {
                return false;
            }
            if damage().is_some_and(|damage| damage.repaired > 0) {
                self.note("mended", &format!("node {}", self.id(slot)));
            }
            self.cured(slot);
        }
        true
    }

    /// Replaces nodes with damaged disks, also those whose damage nobody has read yet: out of the
    /// cluster first, then a fresh disk joins. Says no if one could not be.
    pub async fn replace_damaged(&self, longest: Duration) -> bool {
        for slot in self.damaged() {
            let node = self.id(slot);
            if !self.leave(slot, longest).await {
                return false;
            }
            self.record("nemesis", What::Wiped { node });
            self.note("replaced", &format!("node {node}"));
            if !self.join(self.new_host(), longest).await {
                return false;
            }
        }
        true
    }
}
