//! One seed from its first moment to its verdict.

use std::cell::RefCell;
use std::fs::File;
use std::panic;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use openraft_rt::AsyncRuntime;
use openraft_rt_sim::SimRuntime;

use super::env::{Chance, SimEnv, now};
use super::nemesis::unleash;
use super::node;
use super::plan::{DRAIN_MAX, FAULTS_FOR, HEAL_FOR, Plan};
use super::recorder::{Findings, Scribe};
use super::world::{World, until};
use crate::history::{Phase, What};
use crate::invariants::{Judge, Rules};
use crate::verdict::Violation;
use crate::workloads::{self, Running};

/// Time between looks at all nodes.
const LOOK_EVERY: Duration = Duration::from_millis(10);
/// Time between linearizable statuses.
const ASK_EVERY: Duration = Duration::from_millis(250);
/// Number of the status asked at the very end, above all others.
const LAST_ASK: u64 = 1 << 32;
/// A healed cluster has a leader, all its members and all their entries after this long.
const CONVERGE_MAX: Duration = Duration::from_secs(20);

/// What became of a run.
pub struct Ran {
    pub findings: Findings,
    /// Virtual time it took.
    pub lasted: Duration,
}

thread_local! {
    /// What tasks of this thread panicked with; the runtime keeps it to itself.
    static PANICS: RefCell<Vec<String>> = const { RefCell::new(Vec::new()) };
}

/// Must be called once, before the first run: makes panics in tasks known.
pub fn watch_panics() {
    panic::set_hook(Box::new(|info| {
        let text = info.to_string();
        PANICS.with_borrow_mut(|panics| panics.push(text));
    }));
}

/// Runs a plan. With a trace, every record is written there.
pub fn run(plan: &Plan, trace: Option<File>) -> Ran {
    PANICS.take();
    let scribe = Scribe::new(Judge::new(rules()), trace);
    let played = {
        let (plan, scribe) = (plan.clone(), scribe.clone());
        // The executor panics when everything is stuck, or spins.
        panic::catch_unwind(panic::AssertUnwindSafe(move || {
            let mut runtime = SimRuntime::with_seed(plan.seed);
            runtime.block_on(async { (play(&plan, scribe).await, now()) })
        }))
    };
    let (ended, lasted) = played.unwrap_or((Ended::Broken, Duration::ZERO));
    let mut findings = scribe.finish(matches!(ended, Ended::Drained));
    let at = lasted.as_micros() as u64;
    let mut violated = |invariant: &str, detail: String| {
        findings.violations.push(Violation { invariant: invariant.into(), at, detail });
    };
    for panicked in PANICS.take() {
        violated("no-panic", panicked);
    }
    if let Ended::Stuck(what) = ended {
        violated("converges", what);
    }
    Ran { findings, lasted }
}

/// How a run ended.
enum Ended {
    /// As it should: healed and settled.
    Drained,
    /// A violation was seen before.
    Alarmed,
    /// It did not come to its end.
    Stuck(String),
    /// It panicked.
    Broken,
}

/// What is allowed in a simulation: nobody is late but by the plan, which has consumers stall.
fn rules() -> Rules {
    Rules {
        delivery_lag: Duration::from_secs(4),
        observe_lag: Duration::from_millis(500),
        ..Rules::default()
    }
}

async fn play(plan: &Plan, scribe: Scribe) -> Ended {
    let chance = Chance::new(plan.seed);
    let world = World::new(plan, chance.clone(), scribe.clone());
    let phase = |phase| world.record("nemesis", What::Phase { phase });
    phase(Phase::Setup);
    if !world.found(plan.nodes).await {
        return Ended::Stuck("the cluster was not founded".into());
    }
    drop(SimRuntime::spawn(look(world.clone())));
    let mut running = match begin(plan, &world, &scribe).await {
        Ok(running) => running,
        Err(error) => return Ended::Stuck(format!("the load did not begin: {error:#}")),
    };
    let slots: Vec<u64> = Vec::new();
    let eyes_and_hands = Arc::new(world.clone());
    running.watch(&eyes_and_hands, &slots, ASK_EVERY, ASK_EVERY);
    running.operate(&eyes_and_hands);
    phase(Phase::Faults);
    unleash(&world, &plan.steps);
    if alarmed_within(&scribe, FAULTS_FOR).await {
        return Ended::Alarmed;
    }
    if let Err(what) = heal(&world, plan.seed.is_multiple_of(2)).await {
        return if scribe.is_alarmed() { Ended::Alarmed } else { Ended::Stuck(what) };
    }
    phase(Phase::Heal);
    if alarmed_within(&scribe, HEAL_FOR).await {
        return Ended::Alarmed;
    }
    phase(Phase::Drain);
    let ended = settle(&world, &mut running).await;
    if scribe.is_alarmed() {
        return Ended::Alarmed;
    }
    if let Err(what) = ended {
        return Ended::Stuck(what);
    }
    phase(Phase::End);
    running.stop().await;
    let last = AtomicU64::new(LAST_ASK);
    workloads::ask(&world, &scribe, "observer", &last, 1).await;
    world.observe();
    world.audit().await;
    if scribe.is_alarmed() { Ended::Alarmed } else { Ended::Drained }
}

type Loaded = Running<super::net::SimNet, SimEnv>;

async fn begin(plan: &Plan, world: &World, scribe: &Scribe) -> anyhow::Result<Loaded> {
    let fabric = world.fabric().clone();
    let load = workloads::World {
        net: Arc::new(move |by: &str| fabric.host(format!("c-{by}"))),
        env: SimEnv::new(world.chance().clone(), 0, 0),
        servers: (1..=plan.nodes).map(node::addr).collect(),
        token: String::new(),
        recorder: Arc::new(scribe.clone()),
    };
    plan.load.clone().start(load, plan.seed).await
}

async fn look(world: World) {
    loop {
        world.observe();
        SimRuntime::sleep(LOOK_EVERY).await;
    }
}

/// Waits, unless something is found wrong before.
async fn alarmed_within(scribe: &Scribe, time: Duration) -> bool {
    until(time, || scribe.is_alarmed()).await
}

/// Waits until all faults are over, replaces what is damaged, and waits until all members are there
/// and agree.
async fn heal(world: &World, reads_damage: bool) -> Result<(), String> {
    let over = || world.quarantined().len() + world.up() == world.slots().len();
    if !until(CONVERGE_MAX, over).await {
        return Err(format!("nodes do not come back: {}", world.describe()));
    }
    if !until(CONVERGE_MAX, || world.leader().is_some()).await {
        return Err(format!("no leader after healing: {}", world.describe()));
    }
    // Reading finds damage, and hides that a scrub would not have: half of the runs do without.
    if reads_damage {
        world.audit_damaged().await;
    } else {
        world.rot();
    }
    if !world.mend_damaged(CONVERGE_MAX).await {
        return Err(format!("a damaged node does not mend itself: {}", world.describe()));
    }
    if !world.replace_damaged(CONVERGE_MAX).await {
        return Err(format!("a damaged node cannot be replaced: {}", world.describe()));
    }
    Ok(())
}

async fn settle(world: &World, running: &mut Loaded) -> Result<(), String> {
    if !running.quiet(DRAIN_MAX).await {
        return Err("suppliers do not end".into());
    }
    if !running.drain(DRAIN_MAX, world).await {
        return Err(format!("events stay pending: {}", world.describe()));
    }
    if !until(CONVERGE_MAX, || world.agrees()).await {
        return Err(format!("members do not agree: {}", world.describe()));
    }
    Ok(())
}
