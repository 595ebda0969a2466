//! A leader that dies in the middle of something else.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result};
use rustix::process::{Pid, Signal, kill_process};
use tokio::task::JoinHandle;

use super::quorum::Standing;
use crate::bed::{NodeInfo, Roster};
use crate::faults::{Demand, NEMESIS};
use crate::history::{Recorder, Stage, What};

/// Its name in histories.
pub const LEADER_DIES: &str = "kill(leader, meanwhile)";
/// Coverage: deaths that would have left no majority for what was just going on.
const SPARED: &str = "leader_spared";
/// How long a killed process may take to be gone.
const GONE_WITHIN: Duration = Duration::from_secs(10);

/// A node that is about to die, and does so unless what is asked of the cluster just then could
/// never be answered without it.
pub struct Doomed {
    node: u64,
    pid: u32,
    fate: Arc<Mutex<Fate>>,
    death: JoinHandle<Result<()>>,
}

#[derive(Default)]
struct Fate {
    /// What is being asked of the cluster, and which nodes are out of reach meanwhile.
    asked: Option<(Demand, BTreeSet<u64>)>,
    dead: bool,
}

pub fn leader_dies(node: u64, stage: Stage) -> What {
    let (fault, detail) = (LEADER_DIES.into(), String::new());
    What::Fault { fault, targets: vec![node], stage, detail }
}

fn lock(fate: &Mutex<Fate>) -> MutexGuard<'_, Fate> {
    fate.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Doomed {
    /// Has `node` die after `delay`; `None` if it is dead already.
    pub fn after(
        delay: Duration,
        node: &NodeInfo,
        roster: Roster,
        recorder: Arc<dyn Recorder>,
    ) -> Option<Doomed> {
        let (id, pid) = (node.id, node.pid?);
        let fate = Arc::<Mutex<Fate>>::default();
        let own = fate.clone();
        let death = tokio::spawn(async move {
            tokio::time::sleep(delay).await;
            let mut fate = lock(&own);
            let spared = fate.asked.as_ref().is_some_and(|(demand, out)| {
                !Standing::of(&roster.nodes(), out).without(id).meets(demand)
            });
            if spared {
                let text = "a membership change was waiting for it".into();
                let key = SPARED.into();
                recorder.record(NEMESIS, What::Note { key, count: 1, text });
                return Ok(());
            }
            fate.dead = true;
            recorder.record(NEMESIS, leader_dies(id, Stage::Begin));
            let raw = Pid::from_raw(pid as i32).context("a process has the id 0")?;
            kill_process(raw, Signal::KILL).context("kill the leader")
        });
        Some(Doomed { node: id, pid, fate, death })
    }

    /// Something is asked of the cluster from now on; the node if it is dead already.
    pub fn asks(&self, demand: Demand, out: &BTreeSet<u64>) -> Option<u64> {
        let mut fate = lock(&self.fate);
        fate.asked = Some((demand, out.clone()));
        fate.dead.then_some(self.node)
    }

    pub fn nothing_is_asked(&self) {
        lock(&self.fate).asked = None;
    }

    pub fn is_dead(&self) -> bool {
        lock(&self.fate).dead
    }

    /// Waits until it was its time and it is gone; whether it died, or could not be killed.
    pub async fn end(self, roster: &Roster) -> (u64, Result<bool>) {
        let died = self.death.await.context("the death panicked").flatten();
        if died.is_err() || !lock(&self.fate).dead {
            return (self.node, died.map(|()| false));
        }
        let gone = |nodes: &[NodeInfo]| nodes.iter().all(|node| node.pid != Some(self.pid));
        let gone = roster.until("the killed leader is gone", GONE_WITHIN, gone).await;
        (self.node, gone.map(|_| true))
    }
}
