//! What goes wrong, one file each. A fault is data; a scenario is a list of them.
//!
//! ```no_run
//! # use aqueduct_chaos::{bed::Bed, faults::{Fault, Scene, kill::Kill, whom::Whom}};
//! # async fn example(bed: &mut Bed, recorder: &dyn aqueduct_chaos::history::Recorder) -> anyhow::Result<()> {
//! let mut rng = fastrand::Rng::with_seed(1);
//! let mut scene = Scene { bed, rng: &mut rng, recorder };
//! let fault = Fault::Kill(Kill { whom: Whom::Leader });
//! let running = fault.begin(&mut scene).await?; // the leader is dead, the history says so
//! running.end(&mut scene).await?; // it has been started again
//! # Ok(())
//! # }
//! ```
//!
//! A fault chooses its targets, has its beginning recorded, and only then acts: what it causes is
//! never in the history before it. Ending a fault undoes it as far as an operator would.

pub mod absence;
pub mod anatomy;
pub mod clock;
pub mod damage;
pub mod disk_full;
pub mod failing_sync;
pub mod flip;
pub mod flood;
pub mod frames;
pub mod kill;
pub mod link;
pub mod lost_quorum;
pub mod membership;
pub mod partition;
pub mod pause;
pub mod power_cut;
pub mod rollback;
pub mod rolling_restart;
pub mod slow_disk;
pub mod truncate;
pub mod vanish;
pub mod whom;

use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};
use tokio::task::JoinSet;

use crate::bed::{Bed, Host};
use crate::history::{Recorder, Stage, What};

/// Who does all this, in histories.
pub const NEMESIS: &str = "nemesis";

/// What a fault acts on.
pub struct Scene<'a> {
    pub bed: &'a mut Bed,
    pub rng: &'a mut fastrand::Rng,
    pub recorder: &'a dyn Recorder,
}

/// A fault that has begun: what it hit, and what there is to undo.
#[derive(Debug, Default)]
pub struct Begun {
    name: String,
    /// Ids of the nodes it hit.
    pub targets: Vec<u64>,
    /// For a reader.
    pub detail: String,
    /// What it did to files.
    pub damage: Vec<damage::Damage>,
    /// What damaged nodes did next.
    pub observed: Vec<damage::Observed>,
    /// Nodes it added.
    added: Vec<u64>,
    /// Links it blocked or shaped.
    links: Vec<(Host, Host)>,
    /// Things done in the background.
    count: Arc<AtomicU64>,
    /// What it does meanwhile; ends with this.
    background: JoinSet<()>,
}

/// What a fault asks of a cluster that has a leader and a majority.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Demand {
    /// Members that are to leave,
    pub leavers: Vec<u64>,
    /// and how many more, not chosen yet.
    pub leaving: usize,
}

/// What every fault can do.
trait Inject {
    /// Its name in histories, such as `kill(leader)`.
    fn name(&self) -> String;

    /// What this bed lacks for it, if anything.
    fn lacks(&self, bed: &Bed) -> Option<String> {
        let _ = bed;
        None
    }

    /// Chooses targets, announces itself by [`Scene::announce`], and acts.
    async fn begin(&self, scene: &mut Scene<'_>) -> Result<Begun>;

    /// Undoes what `begin` did; says what came of it, if there is anything to say.
    async fn end(&self, begun: &mut Begun, scene: &mut Scene<'_>) -> Result<String>;
}

macro_rules! faults {
    ($($variant:ident($module:ident)),* $(,)?) => {
        /// Any fault, as data.
        #[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
        #[serde(tag = "fault", rename_all = "snake_case")]
        pub enum Fault {
            $($variant($module::$variant),)*
        }

        impl Fault {
            /// Its name in histories, such as `kill(leader)`.
            pub fn name(&self) -> String {
                match self { $(Fault::$variant(fault) => fault.name(),)* }
            }

            /// What this bed lacks for it, if anything: then it is to be left out.
            pub fn lacks(&self, bed: &Bed) -> Option<String> {
                match self { $(Fault::$variant(fault) => fault.lacks(bed),)* }
            }

            async fn inject(&self, scene: &mut Scene<'_>) -> Result<Begun> {
                match self { $(Fault::$variant(fault) => fault.begin(scene).await,)* }
            }

            async fn undo(&self, begun: &mut Begun, scene: &mut Scene<'_>) -> Result<String> {
                match self { $(Fault::$variant(fault) => fault.end(begun, scene).await,)* }
            }
        }
    };
}

faults! {
    Absence(absence),
    Clock(clock),
    DiskFull(disk_full),
    FailingSync(failing_sync),
    Flip(flip),
    Flood(flood),
    Frames(frames),
    Kill(kill),
    Link(link),
    LostQuorum(lost_quorum),
    Membership(membership),
    Partition(partition),
    Pause(pause),
    PowerCut(power_cut),
    Rollback(rollback),
    RollingRestart(rolling_restart),
    SlowDisk(slow_disk),
    Truncate(truncate),
    Vanish(vanish),
}

/// A fault that is going on.
#[derive(Debug)]
pub struct Running {
    fault: Fault,
    begun: Begun,
}

impl Fault {
    /// What it asks of the cluster when it begins.
    pub fn demands(&self) -> Option<Demand> {
        match self {
            Fault::Membership(membership) => Some(membership.demands()),
            _ => None,
        }
    }

    /// Begins the fault; the history says so before anything happens.
    ///
    /// # Errors
    /// If the bed lacks what it needs, or something does not work; it may have happened in part.
    pub async fn begin(&self, scene: &mut Scene<'_>) -> Result<Running> {
        if let Some(lack) = self.lacks(scene.bed) {
            anyhow::bail!("{} needs {lack}", self.name());
        }
        let begun = self.inject(scene).await.with_context(|| format!("begin {}", self.name()))?;
        Ok(Running { fault: self.clone(), begun })
    }
}

impl Running {
    /// What it hit.
    pub fn begun(&self) -> &Begun {
        &self.begun
    }

    /// What it asks of the cluster when it ends.
    pub fn demands(&self) -> Option<Demand> {
        let leavers = self.begun.added.clone();
        self.fault.demands().map(|_| Demand { leavers, leaving: 0 })
    }

    /// The nodes that it keeps from the others although they run.
    pub fn cuts_off(&self) -> &[u64] {
        match self.fault {
            Fault::Partition(_) => &self.begun.targets,
            _ => &[],
        }
    }

    /// Ends the fault: what was broken is whole again, nodes run, and the history says so.
    pub async fn end(mut self, scene: &mut Scene<'_>) -> Result<()> {
        let name = self.begun.name.clone();
        let undone = self.fault.undo(&mut self.begun, scene).await;
        let detail = undone.with_context(|| format!("end {name}"))?;
        let targets = self.begun.targets.clone();
        scene.record(What::Fault { fault: name, targets, stage: Stage::End, detail });
        Ok(())
    }
}

impl Scene<'_> {
    /// Records that a fault begins now. The caller acts next.
    fn announce(&self, name: String, targets: &[u64], detail: impl Into<String>) -> Begun {
        let (targets, detail) = (targets.to_vec(), detail.into());
        self.record(What::Fault {
            fault: name.clone(),
            targets: targets.clone(),
            stage: Stage::Begin,
            detail: detail.clone(),
        });
        Begun { name, targets, detail, ..Begun::default() }
    }

    fn record(&self, what: What) {
        self.recorder.record(NEMESIS, what);
    }

    /// Starts again those of the nodes that have no process.
    async fn restart_ended(&mut self, ids: &[u64]) -> Result<Vec<u64>> {
        let nodes = self.bed.nodes();
        let ended = nodes.iter().filter(|n| ids.contains(&n.id) && !n.state.is_running());
        let ended: Vec<u64> = ended.map(|node| node.id).collect();
        self.bed.restart_all(&ended).await?;
        Ok(ended)
    }
}
