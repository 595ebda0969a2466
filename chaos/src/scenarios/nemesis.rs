//! Carries out a plan: begins and ends faults at their times.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::doomed::{self, Doomed, LEADER_DIES};
use super::judgement::note;
use super::plan::{Cue, Plan, Round};
use super::quorum::Standing;
use crate::bed::{Bed, State};
use crate::faults::{Demand, Fault, NEMESIS, Running, Scene};
use crate::history::{Recorder, Stage, What};

/// Plays faults on a bed.
pub struct Nemesis<'a> {
    pub bed: &'a mut Bed,
    pub rng: fastrand::Rng,
    pub recorder: Arc<dyn Recorder>,
}

impl Nemesis<'_> {
    fn scene(&mut self) -> Scene<'_> {
        Scene { bed: self.bed, rng: &mut self.rng, recorder: &*self.recorder }
    }

    fn note(&self, key: &str, text: String) {
        self.recorder.record(NEMESIS, What::Note { key: key.into(), count: 1, text });
    }

    /// Takes out of the plan what the bed lacks the means for; says what.
    pub fn leave_out(&self, plan: &mut Plan) -> Vec<String> {
        let lacks = |fault: &Fault| fault.lacks(self.bed).map(|lack| (fault.name(), lack));
        let left_out = plan.faults().filter_map(lacks);
        let left_out = left_out.map(|(name, lack)| format!("{name}: it needs {lack}")).collect();
        plan.rounds.retain(|round| round.acts.iter().all(|act| lacks(&act.fault).is_none()));
        left_out
    }

    /// Plays rounds until the time is over, each at least once.
    pub async fn play(&mut self, plan: &Plan, until: Instant) {
        let mut played = 0;
        while !plan.rounds.is_empty() {
            for index in plan.order(&mut self.rng) {
                let enough = plan.rounds_max > 0 && played >= plan.rounds_max;
                let over = Instant::now() >= until && played >= plan.rounds.len() as u64;
                if enough || over {
                    tokio::time::sleep_until(until).await;
                    return;
                }
                tokio::time::sleep(plan.pause.draw_ms(&mut self.rng)).await;
                self.round(&plan.rounds[index]).await;
                played += 1;
            }
        }
        tokio::time::sleep_until(until).await;
    }

    async fn round(&mut self, round: &Round) {
        let cues = round.cues(&mut self.rng);
        let mut dying = match round.leader_dies.map(|at| at.draw_ms(&mut self.rng)) {
            Some(delay) => self.doom_the_leader(delay).await,
            None => None,
        };
        let began = Instant::now();
        let mut running = BTreeMap::<usize, Running>::new();
        for Cue { at, act, ends } in cues {
            tokio::time::sleep_until(began + at).await;
            let fault = &round.acts[act].fault;
            let demand =
                if ends { running.get(&act).and_then(Running::demands) } else { fault.demands() };
            if let Some(demand) = demand {
                self.make_way(&demand, act, &mut running, &mut dying).await;
            }
            if !ends {
                match fault.begin(&mut self.scene()).await {
                    Ok(begun) => drop(running.insert(act, begun)),
                    Err(error) => self.failed(&error).await,
                }
            } else if let Some(begun) = running.remove(&act) {
                self.end(begun).await;
            }
            dying.iter().for_each(Doomed::nothing_is_asked);
        }
        if let Some(dying) = dying {
            self.bury(dying).await;
        }
    }

    async fn end(&mut self, running: Running) {
        if let Err(error) = running.end(&mut self.scene()).await {
            self.failed(&error).await;
        }
    }

    /// Before the act asks something of the cluster: if the other faults of the round have left no
    /// majority for it, they end.
    async fn make_way(
        &mut self,
        demand: &Demand,
        act: usize,
        running: &mut BTreeMap<usize, Running>,
        dying: &mut Option<Doomed>,
    ) {
        let out = running.values().flat_map(Running::cuts_off).copied();
        let mut out: BTreeSet<u64> = out.collect();
        out.extend(dying.as_ref().and_then(|doomed| doomed.asks(demand.clone(), &out)));
        if Standing::of(&self.bed.nodes(), &out).meets(demand) {
            return;
        }
        let kept = running.remove(&act);
        for other in std::mem::take(running).into_values() {
            self.end(other).await;
        }
        running.extend(kept.map(|kept| (act, kept)));
        if let Some(doomed) = dying.take_if(|doomed| doomed.is_dead()) {
            self.bury(doomed).await;
        }
        if let Err(error) = self.restart().await {
            self.failed(&error).await;
        }
    }

    /// Has the leader die after `delay`, in the background.
    async fn doom_the_leader(&self, delay: Duration) -> Option<Doomed> {
        match self.bed.leader().await.and_then(|id| self.bed.node(id)) {
            Ok(node) => Doomed::after(delay, &node, self.bed.roster(), self.recorder.clone()),
            Err(error) => {
                self.note(note::FAULT_FAILED, format!("{LEADER_DIES}: {error:#}"));
                None
            }
        }
    }

    /// Starts what died again; other faults may have done so, or have taken it out.
    async fn bury(&mut self, doomed: Doomed) {
        let (node, died) = doomed.end(&self.bed.roster()).await;
        match died {
            Ok(true) => {}
            Ok(false) => return,
            Err(error) => self.note(note::FAULT_FAILED, format!("{LEADER_DIES}: {error:#}")),
        }
        if let Err(error) = self.restart().await {
            self.failed(&error).await;
        }
        self.recorder.record(NEMESIS, doomed::leader_dies(node, Stage::End));
    }

    /// A fault that went wrong may have killed nodes and not started them again.
    async fn failed(&mut self, error: &anyhow::Error) {
        tracing::warn!("a fault went wrong: {error:#}");
        self.note(note::FAULT_FAILED, format!("{error:#}"));
        for mended in [self.restart().await, self.admit_again().await] {
            if let Err(error) = mended {
                tracing::warn!("what it left behind could not be mended: {error:#}");
                self.note(note::FAULT_FAILED, format!("{error:#}"));
            }
        }
    }

    /// A node that failed to join again is wiped and tries once more; what is left of its first
    /// attempt is taken out.
    async fn admit_again(&mut self) -> anyhow::Result<()> {
        let nodes = self.bed.nodes();
        if nodes.iter().all(|node| node.id != 0) {
            return Ok(());
        }
        self.bed.kill(&[0]).await?;
        let known = |id: u64| nodes.iter().any(|node| node.id == id);
        for member in self.bed.admin().cluster().await?.value.members {
            if !known(member.id.0) {
                self.bed.admin().remove(member.id).await?;
            }
        }
        self.bed.replace(0).await.map(drop)
    }

    /// Starts all members that have no process.
    async fn restart(&mut self) -> anyhow::Result<()> {
        let nodes = self.bed.nodes();
        let down = nodes.iter().filter(|node| node.member && !node.state.is_running());
        let down: Vec<u64> = down.map(|node| node.id).collect();
        self.bed.restart_all(&down).await
    }

    /// Does what an operator does with members that do not take part: takes them out, wipes them
    /// and lets them join again.
    async fn replace(&mut self) -> anyhow::Result<()> {
        let nodes = self.bed.nodes();
        for node in nodes.iter().filter(|node| node.member && node.state != State::Ready) {
            let text = format!("node {} {}", node.id, node.state);
            self.note("replaced_at_the_end", text);
            self.bed.kill(&[node.id]).await?;
            // It may have been taken out before.
            if let Err(error) = self.bed.remove(node.id).await {
                tracing::info!("node {} could not be removed: {error:#}", node.id);
            }
            self.bed.replace(node.id).await?;
            self.recorder.record(NEMESIS, What::Wiped { node: node.id });
        }
        Ok(())
    }

    /// Makes everything whole again that may be, whatever went wrong, and waits for a leader.
    /// Says what did not recover.
    pub async fn heal(&mut self) -> Result<(), String> {
        let failed = |what: &str, error: anyhow::Error| format!("{what}: {error:#}");
        self.bed.network().heal_all();
        let nodes = self.bed.nodes();
        let paused: Vec<u64> = nodes.iter().filter(|n| n.paused).map(|n| n.id).collect();
        self.bed.resume(&paused).map_err(|e| failed("go on with paused nodes", e))?;
        for node in nodes.iter().filter(|node| node.id != 0) {
            if let Ok(shim) = self.bed.shim(node.id) {
                shim.reset().map_err(|e| failed("reset the shim", e))?;
            }
        }
        let ids: Vec<u64> = nodes.iter().map(|node| node.id).collect();
        for disk in ids.iter().filter_map(|id| self.bed.disk(*id).ok()) {
            disk.relieve().map_err(|e| failed("empty a disk", e))?;
        }
        let returned = self.bed.room_returned(&ids).await;
        returned.map_err(|e| failed("find room on their disks again", e))?;
        self.restart().await.map_err(|e| failed("start again", e))?;
        if self.bed.options().rejoins {
            self.bed.all_ready().await.map_err(|e| failed("take back damaged nodes", e))?;
        }
        self.bed.leader().await.map_err(|e| failed("have a leader again", e))?;
        self.admit_again().await.map_err(|e| failed("let a node join again", e))?;
        self.replace().await.map_err(|e| failed("take back nodes that were out", e))?;
        Ok(())
    }
}
