//! One run, from the first process to the verdict.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use aqueduct::env::TokioRuntime;
use aqueduct::transport::TcpNet;
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::eyes::RealEyes;
use super::judgement::{Judgement, note};
use super::machine::Machine;
use super::nemesis::Nemesis;
use super::report::{self, HISTORY};
use super::tape::Tape;
use super::{Plan, Scenario, members};
use crate::bed::{self, Bed, BedOptions, Host, NetworkKind, Roster, State, binary};
use crate::history::{Phase, Recorder, What};
use crate::verdict::{Verdict, Word};
use crate::workloads::{Load, Running, World};

/// How often each node is looked at, and a linearizable status is asked for.
const LOOK_EVERY: Duration = Duration::from_millis(250);
const ASK_EVERY: Duration = Duration::from_millis(500);
/// How long the load goes on after healing.
const HEAL_FOR: Duration = Duration::from_secs(5);
/// How long suppliers may take to find out what became of their last events.
const QUIET_WITHIN: Duration = Duration::from_secs(30);
/// How long well-behaved consumers may take to settle everything.
const DRAIN_WITHIN: Duration = Duration::from_secs(90);
/// How long the nodes may take to agree on their state in the end.
const AUDIT_WITHIN: Duration = Duration::from_secs(30);
/// Between two lines about how it goes.
const PROGRESS_EVERY: Duration = Duration::from_secs(10);

/// How to run a scenario.
#[derive(Debug, Clone)]
pub struct Options {
    /// Nodes; `None`: as many as the scenario has.
    pub nodes: Option<usize>,
    /// How long faults go on at least; `None`: as long as the scenario says.
    pub seconds: Option<u64>,
    pub seed: u64,
    /// The run's directory; created when absent. A history there is overwritten.
    pub out: PathBuf,
    /// The `aqueduct` program; `None`: the one beside this program.
    pub binary: Option<PathBuf>,
    /// Keeps the nodes' data also after a run that passed.
    pub keep: bool,
}

impl Options {
    /// The defaults for a seed and a directory.
    pub fn new(seed: u64, out: impl Into<PathBuf>) -> Options {
        Options { nodes: None, seconds: None, seed, out: out.into(), binary: None, keep: false }
    }
}

/// A load on real nodes.
type RealLoad = Running<TcpNet, TokioRuntime>;

/// What all parts of a run share.
struct Run<'a> {
    scenario: &'a Scenario,
    nodes: usize,
    seconds: u64,
    seed: u64,
    recorder: Arc<dyn Recorder>,
}

/// Why a run does not begin: it makes no sense as it was asked for.
#[derive(Debug, thiserror::Error)]
pub enum Refusal {
    #[error(
        "'{name}' needs at least {least} nodes, or its faults have nothing to hit; got {nodes}"
    )]
    TooFewNodes { name: &'static str, least: usize, nodes: usize },
    #[error("{dir}: {error}; choose another directory with --out{hint}")]
    Directory { dir: String, error: io::Error, hint: &'static str },
    #[error(
        "{0} is in use by another run; wait for its end, or choose another directory with --out"
    )]
    InUse(String),
    #[error("the program under test cannot be run: {0}")]
    Binary(String),
}

impl Refusal {
    fn directory(dir: &Path, error: io::Error) -> Refusal {
        let hint = match error.kind() {
            std::io::ErrorKind::PermissionDenied => " (runs as root leave directories of root's)",
            _ => "",
        };
        Refusal::Directory { dir: dir.display().to_string(), error, hint }
    }
}

/// A run was told to end; how, for people.
pub type Interruption = &'static str;

impl Options {
    /// Whether `scenario` can be run with these; the program under test.
    ///
    /// # Errors
    /// With what makes no sense.
    pub fn check(&self, scenario: &Scenario) -> Result<PathBuf, Refusal> {
        let (name, least) = (scenario.name, scenario.nodes_min);
        match self.nodes {
            Some(nodes) if nodes < least => Err(Refusal::TooFewNodes { name, least, nodes }),
            _ => binary::find(self.binary.as_deref())
                .map_err(|error| Refusal::Binary(format!("{error:#}"))),
        }
    }

    /// Takes the run's directory, which is this run's alone until what is returned is dropped.
    fn occupy(&self) -> Result<File, Refusal> {
        let refused = |error| Refusal::directory(&self.out, error);
        std::fs::create_dir_all(&self.out).map_err(refused)?;
        let dir = File::open(&self.out).map_err(refused)?;
        match dir.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                return Err(Refusal::InUse(self.out.display().to_string()));
            }
            Err(TryLockError::Error(error)) => return Err(refused(error)),
        }
        File::create(self.out.join(HISTORY)).map_err(refused)?;
        Ok(dir)
    }
}

/// Runs a scenario until it is over, or `interrupted`: leaves `history.jsonl`, `verdict.json`,
/// `report.md`, `report.html` and the nodes' logs in the run's directory, in the place of those of
/// an earlier run. A run that could not be carried out has a verdict, too: unknown, and why.
///
/// # Errors
/// The directory cannot be written to, or the program under test is not there.
pub async fn run(
    scenario: &Scenario,
    options: &Options,
    interrupted: impl Future<Output = Interruption>,
) -> Result<Verdict> {
    let dir = &options.out;
    let binary = options.check(scenario)?;
    let _ours = options.occupy()?;
    let mut rng = fastrand::Rng::with_seed(options.seed);
    let load = (scenario.load)(&mut rng);
    let plan = (scenario.plan)(&mut rng);
    let tape = Tape::start(&dir.join(HISTORY), Judgement::new(scenario))?;
    let run = Run {
        scenario,
        nodes: options.nodes.unwrap_or(scenario.nodes),
        seconds: options.seconds.unwrap_or(scenario.seconds),
        seed: options.seed,
        recorder: tape.recorder(),
    };
    run.introduce();
    let bed_dir = dir.join("bed");
    let mut was_interrupted = false;
    make_empty(&bed_dir).with_context(|| format!("make room in {}", bed_dir.display()))?;
    // What is given up halfway takes the bed down with it.
    let done = tokio::select! {
        done = run.carry_out(&bed_dir, binary, load, plan, rng, &tape) => done,
        how = interrupted => {
            was_interrupted = true;
            Err(anyhow::anyhow!("interrupted by {how}"))
        }
    };
    if let Err(error) = done {
        tracing::error!("{}: the run breaks off: {error:#}", scenario.name);
        run.note(note::ERROR, 1, format!("{error:#}"));
    }
    let judging = tokio::task::spawn_blocking(move || tape.finish());
    let verdict = judging.await.context("judge the run")??.conclude();
    report::write(dir, &verdict)?;
    if (verdict.verdict == Word::Pass || was_interrupted) && !options.keep {
        // Data of runs that nobody wants to look into would fill the disk.
        let _ = std::fs::remove_dir_all(&bed_dir);
    }
    Ok(verdict)
}

/// Makes an empty directory for a bed. What an earlier run left there, for whoever looks into it,
/// would be the data of this one's nodes.
fn make_empty(dir: &Path) -> io::Result<()> {
    bed::sweep().iter().for_each(|line| tracing::warn!("left behind by an earlier run: {line}"));
    match std::fs::remove_dir_all(dir) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => std::fs::create_dir(dir),
    }
}

impl Run<'_> {
    fn note(&self, key: &str, count: u64, text: impl Into<String>) {
        let what = What::Note { key: key.into(), count, text: text.into() };
        self.recorder.record("run", what);
    }

    fn phase(&self, phase: Phase) {
        tracing::info!("{}: {phase:?}", self.scenario.name);
        self.recorder.record("run", What::Phase { phase });
    }

    /// The first records: what this is.
    fn introduce(&self) {
        self.note(note::SCENARIO, 1, self.scenario.name);
        self.note(note::SEED, self.seed, "");
        self.note(note::NODES, self.nodes as u64, "");
        self.note(note::SECONDS, self.seconds, "");
    }

    /// `dir`: for everything of the bed.
    async fn carry_out(
        &self,
        dir: &Path,
        binary: PathBuf,
        load: Load,
        mut plan: Plan,
        rng: fastrand::Rng,
        tape: &Tape,
    ) -> Result<()> {
        self.phase(Phase::Setup);
        let _machine = Machine::watch(dir, self.recorder.clone())?;
        let needs = &self.scenario.bed;
        let mut bed = Bed::start(BedOptions {
            network: needs.network,
            disks: needs.disks,
            disk_bytes: needs.disk_bytes,
            shim: needs.shim,
            node_config: needs.config.into(),
            rejoins: needs.rejoins,
            seed: self.seed,
            ..BedOptions::new(self.nodes, dir, binary)
        })
        .await
        .context("start the nodes")?;
        bed.voters(self.nodes).await.context("form a cluster")?;
        let mut nemesis = Nemesis { bed: &mut bed, rng, recorder: self.recorder.clone() };
        let had_faults = !plan.rounds.is_empty();
        for what in nemesis.leave_out(&mut plan) {
            self.note(note::LEFT_OUT, 1, what);
        }
        let of_network = nemesis.bed.network().left_out();
        for what in nemesis.bed.left_out() {
            // Proxies are no lack where proxies were asked for.
            if needs.network == NetworkKind::Auto || !of_network.contains(what) {
                self.note(note::LEFT_OUT, 1, what);
            }
        }
        if had_faults && plan.rounds.is_empty() {
            bail!("none of its faults can be had on this machine");
        }
        let eyes = Arc::new(RealEyes::new(nemesis.bed.roster()));
        let running = self.begin_load(nemesis.bed, load, &eyes).await?;
        let mut watching = Watching {
            roster: nemesis.bed.roster(),
            eyes,
            recorder: self.recorder.clone(),
            known: BTreeSet::new(),
            told: BTreeMap::new(),
            waits: BTreeMap::new(),
        };
        // Goes on until the end of the run.
        let mut census = JoinSet::new();
        if needs.rejoins {
            census.spawn(members::watch(nemesis.bed.roster(), self.recorder.clone()));
        }
        tokio::select! {
            () = self.play(&mut nemesis, &plan, tape) => {}
            () = watching.follow(&running) => {}
        }
        self.settle(&mut nemesis, running, watching).await
    }

    async fn begin_load(&self, bed: &Bed, load: Load, eyes: &Arc<RealEyes>) -> Result<RealLoad> {
        let world = World {
            net: Arc::new(|_: &str| TcpNet),
            env: TokioRuntime::new(),
            servers: bed.servers(),
            token: String::new(),
            recorder: self.recorder.clone(),
        };
        let running = load.start(world, self.seed).await.context("start the load")?;
        running.watch(eyes, &[], LOOK_EVERY, ASK_EVERY);
        running.operate(eyes);
        Ok(running)
    }

    /// Faults, under load.
    async fn play(&self, nemesis: &mut Nemesis<'_>, plan: &Plan, tape: &Tape) {
        self.phase(Phase::Faults);
        let began = Instant::now();
        let until = began + Duration::from_secs(self.seconds);
        let progress = async {
            loop {
                tokio::time::sleep(PROGRESS_EVERY).await;
                let (passed, answers) = (began.elapsed().as_secs(), tape.published());
                if Instant::now() < until {
                    tracing::info!("{passed} of {} s, {answers} publishes answered", self.seconds);
                } else {
                    let text = "until each round was played once";
                    tracing::info!("{passed} s, {text}, {answers} publishes answered");
                }
            }
        };
        tokio::select! {
            () = nemesis.play(plan, until) => {}
            () = progress => {}
        }
    }

    /// Everything after the faults.
    async fn settle(
        &self,
        nemesis: &mut Nemesis<'_>,
        mut running: RealLoad,
        mut watching: Watching,
    ) -> Result<()> {
        if let Err(what) = nemesis.heal().await {
            self.note(note::UNRECOVERED, 1, format!("the cluster did not {what}"));
        } else {
            self.note(note::HEALED, 1, "");
        }
        watching.look_around(&running);
        self.phase(Phase::Heal);
        tokio::time::sleep(HEAL_FOR).await;
        let quiet = running.quiet(QUIET_WITHIN).await;
        self.phase(Phase::Drain);
        let drained = running.drain(DRAIN_WITHIN, &*watching.eyes).await;
        match (quiet, drained) {
            (true, true) => self.note(note::DRAINED, 1, ""),
            (false, _) => {
                let text = format!("the suppliers had no answers {QUIET_WITHIN:?} after healing");
                self.note(note::UNRECOVERED, 1, text);
            }
            (_, false) => {
                let text = format!(
                    "well-behaved consumers had not settled everything in {DRAIN_WITHIN:?}"
                );
                self.note(note::UNRECOVERED, 1, text);
            }
        }
        watching.look_around(&running);
        self.phase(Phase::End);
        let audited = self.audit(nemesis.bed).await;
        running.stop().await;
        audited
    }

    /// Compares the states of the nodes that take part.
    async fn audit(&self, bed: &Bed) -> Result<()> {
        let deadline = Instant::now() + AUDIT_WITHIN;
        loop {
            let audit = bed.admin().audit().await.context("audit the nodes")?.value;
            let ready = bed.nodes().iter().filter(|n| n.member && n.state == State::Ready).count();
            let hashed = audit.nodes.iter().filter(|node| node.hash.is_some()).count();
            if hashed < ready && Instant::now() < deadline {
                tokio::time::sleep(LOOK_EVERY).await;
                continue;
            }
            for node in audit.nodes {
                let hash = node.hash.map(|hash| u64::from_str_radix(&hash, 16)).transpose();
                let Some(hash) = hash.context("read a state hash")? else { continue };
                let (index, ledger_ok) = (audit.index, node.ledger_ok);
                let node = node.id.0;
                self.recorder.record("audit", What::StateHash { node, index, hash, ledger_ok });
            }
            return Ok(());
        }
    }
}

/// Has nodes looked at that were not there before, and tells of processes that end by themselves.
struct Watching {
    roster: Roster,
    eyes: Arc<RealEyes>,
    recorder: Arc<dyn Recorder>,
    known: BTreeSet<u64>,
    /// How many ids given up, and ends, at each host are recorded.
    told: BTreeMap<Host, (usize, usize)>,
    /// How many waits for room at each host.
    waits: BTreeMap<Host, u64>,
}

impl Watching {
    fn look_around(&mut self, running: &RealLoad) {
        for node in self.roster.nodes() {
            let told = self.told.entry(node.host).or_default();
            for id in node.cleared.iter().skip(told.0) {
                self.recorder.record(&format!("node-{id}"), What::Cleared { node: *id });
            }
            for (id, how) in node.exits.iter().skip(told.1) {
                let what = What::Exited { node: *id, how: how.clone() };
                self.recorder.record(&format!("node-{id}"), what);
            }
            *told = (node.cleared.len(), node.exits.len());
            let waits = self.waits.entry(node.host).or_default();
            let more = node.waits - std::mem::replace(waits, node.waits);
            if more > 0 {
                let (key, text) = ("waited_for_room".into(), format!("node {}", node.id));
                self.recorder.record("run", What::Note { key, count: more, text });
            }
            if node.id != 0 && self.known.insert(node.id) {
                running.watch_node(&self.eyes, node.id, LOOK_EVERY);
            }
        }
    }

    /// Goes on for ever.
    async fn follow(&mut self, running: &RealLoad) {
        loop {
            self.look_around(running);
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }
}
