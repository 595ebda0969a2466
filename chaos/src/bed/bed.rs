//! The bed itself: starting nodes, stopping them in every way, and cleaning up.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use rustix::process::Signal;
use tokio::process::Command;
use tokio::runtime::Handle;

use super::disk::{self, Disk, unmount_patiently};
use super::disk_work::DiskWork;
use super::leftovers::{self, Leftovers};
use super::network::{Addresses, Host, Network};
use super::options::BedOptions;
use super::process::{self, Process};
use super::roster::{NodeInfo, Roster, State};
use super::shim::{self, ShimControl};

/// How long a node may take from its start to its first word. Machines under test are busy.
pub const READY_WITHIN: Duration = Duration::from_secs(120);
/// How long a node may take to go on after its disk has room.
const ROOM_WITHIN: Duration = Duration::from_secs(60);
/// How long a node may take to end when told to.
const ENDED_WITHIN: Duration = Duration::from_secs(30);
/// How long a killed process may take to be gone.
const KILLED_WITHIN: Duration = Duration::from_secs(10);

/// Nodes, disks and a network. See the module.
pub struct Bed {
    options: BedOptions,
    roster: Roster,
    seats: BTreeMap<Host, Seat>,
    network: Network,
    library: Option<PathBuf>,
    left_out: Vec<String>,
    disk_work: DiskWork,
    // Last: notes stay until everything they are about is gone.
    leftovers: Leftovers,
}

/// Where a node lives, whether or not it does.
struct Seat {
    disk: Disk,
    addresses: Addresses,
    shim: Option<ShimControl>,
    /// How it was told to enter the cluster.
    entry: [String; 2],
    process: Option<Process>,
}

impl Bed {
    /// Starts the nodes, one after the other, and waits until all are members.
    pub async fn start(mut options: BedOptions) -> Result<Bed> {
        for line in leftovers::sweep() {
            tracing::warn!("left behind by an earlier run: {line}");
        }
        let dir = &options.dir;
        std::fs::create_dir_all(dir).with_context(|| format!("create {}", dir.display()))?;
        options.dir = dir.canonicalize().context("find the directory of the run")?;
        let (disks, why) = disk::choose(options.disks, &options.dir)?;
        options.disks = disks;
        let roster = Roster::default();
        let network = Network::start(options.network, &roster, options.seed)?;
        let mut left_out = network.left_out();
        left_out.extend(why);
        let library = options.shim.then(|| shim::compile(&options.dir)).transpose()?;
        let (seats, leftovers) = (BTreeMap::new(), Leftovers::begin()?);
        let nodes = options.nodes;
        let disk_work = DiskWork::default();
        let mut bed =
            Bed { options, roster, seats, network, library, left_out, disk_work, leftovers };
        for _ in 0..nodes {
            bed.grow().await?;
        }
        Ok(bed)
    }

    /// The nodes, present and past.
    pub fn nodes(&self) -> Vec<NodeInfo> {
        self.roster.nodes()
    }

    /// The same for those who watch while others act.
    pub fn roster(&self) -> Roster {
        self.roster.clone()
    }

    /// The node of this id.
    pub fn node(&self, id: u64) -> Result<NodeInfo> {
        self.roster.node(id)
    }

    /// How nodes and clients are connected.
    pub fn network(&self) -> &Network {
        &self.network
    }

    /// Settings, with everything that was left to this machine decided.
    pub fn options(&self) -> &BedOptions {
        &self.options
    }

    /// What cannot be had here, and why.
    pub fn left_out(&self) -> &[String] {
        &self.left_out
    }

    /// A node's disk.
    pub fn disk(&self, id: u64) -> Result<&Disk> {
        Ok(&self.seat(id)?.disk)
    }

    /// A node's shim; an error if the bed has none.
    pub fn shim(&self, id: u64) -> Result<&ShimControl> {
        self.seat(id)?.shim.as_ref().context("this bed was started without the shim")
    }

    /// Adds a node that joins the others (or founds the cluster, if it is the first), and waits
    /// until it is a member. Its id.
    pub async fn grow(&mut self) -> Result<u64> {
        let host = Host(self.seats.len() as u8 + 1);
        let addresses = self.network.add_host(host).await?;
        let root = self.options.dir.join(format!("node{}", host.0));
        self.leftovers.add_mount(&root)?;
        let (kind, bytes) = (self.options.disks, self.options.disk_bytes);
        let disk = self.disk_work.run(move || Disk::create(kind, &root, bytes)).await?;
        let shim = match &self.library {
            Some(_) => Some(ShimControl::create(&self.path(host, "shim"))?),
            None => None,
        };
        let entry = self.entry();
        self.roster.add(describe(host, &disk, &addresses, self.path(host, "log")));
        self.seats.insert(host, Seat { disk, addresses, shim, entry, process: None });
        self.launch_at(host)?;
        self.first_word(host).await?;
        self.member_at(host)
    }

    /// Starts a stopped node and does not wait.
    pub fn launch(&mut self, id: u64) -> Result<()> {
        self.launch_at(self.node(id)?.host)
    }

    /// Starts a stopped node and waits for its first word: ready, quarantined or its end.
    pub async fn restart(&mut self, id: u64) -> Result<State> {
        let host = self.node(id)?.host;
        self.launch_at(host)?;
        self.first_word(host).await
    }

    /// Kills whatever runs at a host, and starts it again without waiting. Says no if nothing ran.
    pub(super) async fn start_over_at(&mut self, host: Host) -> Result<bool> {
        let process = self.seats.get(&host).and_then(|seat| seat.process.as_ref());
        let Some(process) = process.filter(|process| !process.has_ended()) else {
            return Ok(false);
        };
        process.signal(Signal::KILL)?;
        let at = |nodes: &[NodeInfo]| nodes.iter().find(|n| n.host == host).cloned();
        let ended = |nodes: &[NodeInfo]| at(nodes).is_some_and(|node| !node.state.is_running());
        self.roster.until("the killed process is gone", KILLED_WITHIN, ended).await?;
        self.launch_at(host)?;
        Ok(true)
    }

    /// Starts several stopped nodes at once, and waits for the first word of each.
    pub async fn restart_all(&mut self, ids: &[u64]) -> Result<()> {
        for id in ids {
            self.launch(*id)?;
        }
        for id in ids {
            self.first_word(self.node(*id)?.host).await?;
        }
        Ok(())
    }

    /// Waits until those of the nodes that wait for room have found it, by themselves; which these
    /// were.
    pub async fn room_returned(&mut self, ids: &[u64]) -> Result<Vec<u64>> {
        let waits =
            |node: &&NodeInfo| ids.contains(&node.id) && matches!(node.state, State::Full(_));
        let waiting: Vec<u64> = self.nodes().iter().filter(waits).map(|node| node.id).collect();
        let returned = |nodes: &[NodeInfo]| !nodes.iter().any(|node| waits(&node));
        self.roster.until("nodes take part again that have room", ROOM_WITHIN, returned).await?;
        Ok(waiting)
    }

    /// SIGKILL to all of them at once; waits until they are gone. Nodes without a process are
    /// passed over.
    pub async fn kill(&mut self, ids: &[u64]) -> Result<()> {
        self.signal_running(ids, Signal::KILL)?;
        self.ended(ids, KILLED_WITHIN).await
    }

    /// SIGTERM to all of them at once; waits for their ends.
    pub async fn terminate(&mut self, ids: &[u64]) -> Result<()> {
        for id in ids {
            let NodeInfo { host, life, .. } = self.node(*id)?;
            self.roster.change(host, life, |node| node.told = true);
        }
        self.signal_running(ids, Signal::TERM)?;
        self.ended(ids, ENDED_WITHIN).await
    }

    /// SIGSTOP.
    pub fn pause(&mut self, ids: &[u64]) -> Result<()> {
        self.signal_running(ids, Signal::STOP)?;
        self.mark_paused(ids, true)
    }

    /// SIGCONT.
    pub fn resume(&mut self, ids: &[u64]) -> Result<()> {
        self.signal_running(ids, Signal::CONT)?;
        self.mark_paused(ids, false)
    }

    /// Cuts the power of these nodes at one moment: first all disks, then the processes. Data that
    /// was not synced is gone. The nodes stay down until they are started.
    pub async fn power_cut(&mut self, ids: &[u64]) -> Result<()> {
        let mut switches = Vec::new();
        for id in ids {
            switches.push(self.disk(*id)?.hold()?);
        }
        for switch in switches {
            switch.cut()?;
        }
        self.kill(ids).await?;
        for id in ids {
            let disk = self.disk(*id)?.clone();
            self.disk_work.run(move || disk.power_on()).await?;
        }
        Ok(())
    }

    /// Wipes the disk of a stopped node and lets it join as a new member; its new id.
    pub async fn replace(&mut self, id: u64) -> Result<u64> {
        let info = self.node(id)?;
        if info.state.is_running() {
            bail!("node {id} is still running");
        }
        let disk = self.disk(id)?.clone();
        self.disk_work.run(move || disk.wipe()).await?;
        let entry = self.entry();
        self.roster.change(info.host, info.life, |node| (node.id, node.member) = (0, false));
        self.seats.get_mut(&info.host).context("a node without a seat")?.entry = entry;
        self.launch_at(info.host)?;
        self.first_word(info.host).await?;
        self.member_at(info.host)
    }

    /// The cluster does not count on this node any more.
    pub(super) fn dismiss(&self, id: u64) -> Result<()> {
        let NodeInfo { host, life, .. } = self.node(id)?;
        self.roster.change(host, life, |node| node.member = false);
        Ok(())
    }

    fn seat(&self, id: u64) -> Result<&Seat> {
        self.seats.get(&self.node(id)?.host).context("a node without a seat")
    }

    fn path(&self, host: Host, extension: &str) -> PathBuf {
        self.options.dir.join(format!("node{}.{extension}", host.0))
    }

    /// How a new node enters: through every member there is.
    fn entry(&self) -> [String; 2] {
        let nodes = self.roster.nodes();
        let members = nodes.iter().filter(|node| node.id != 0).map(|n| n.peer_addr.clone());
        match members.collect::<Vec<_>>() {
            none if none.is_empty() => ["--bootstrap".into(), String::new()],
            peers => ["--join".into(), peers.join(",")],
        }
    }

    pub(super) fn launch_at(&mut self, host: Host) -> Result<()> {
        let config = self.write_config(host)?;
        let seat = self.seats.get_mut(&host).context("a node without a seat")?;
        let nodes = self.roster.nodes();
        let node = nodes.iter().find(|node| node.host == host).context("a seat without a node")?;
        if node.state.is_running() {
            bail!("node {} is still running", node.id);
        }
        let mut command = Command::new(&self.options.binary);
        command.arg("node").arg("--config").arg(config);
        command.args(seat.entry.iter().filter(|word| !word.is_empty()));
        command.args(&self.options.node_flags);
        command.envs(self.options.node_env.iter().map(|(name, value)| (name, value)));
        if let (Some(shim), Some(library)) = (&seat.shim, &self.library) {
            command.envs(shim.environment(library, &seat.disk.data_dir()));
        }
        let (life, runtime) = (node.life + 1, Handle::current());
        let child = self.network.inside(host, || {
            let _context = runtime.enter();
            process::spawn(command, &node.log)
        })??;
        self.roster.change(host, node.life, |node| {
            (node.life, node.state, node.told) = (life, State::Starting, false);
        });
        let process = Process::watch(child, &self.roster, host, life)?;
        let pid = process.pid;
        seat.process = Some(process);
        self.leftovers.add_process(pid)
    }

    fn write_config(&self, host: Host) -> Result<PathBuf> {
        let seat = self.seats.get(&host).context("a node without a seat")?;
        let Addresses { listen, reached } = &seat.addresses;
        let mut text = format!("data_dir = {:?}\ninsecure_bind = true\n", seat.disk.data_dir());
        let keys = ["listen", "peer", "admin", "http"];
        for (key, addr) in keys.iter().zip(listen) {
            text += &format!("{key} = {addr:?}\n");
        }
        for (key, addr) in keys.iter().zip(reached).take(3) {
            text += &format!("advertise_{key} = {addr:?}\n");
        }
        if self.options.rejoins {
            text += "rejoin = \"auto\"\n";
        }
        text += &self.options.node_config;
        let path = self.path(host, "toml");
        std::fs::write(&path, text).with_context(|| format!("write {}", path.display()))?;
        Ok(path)
    }

    /// Waits until the node's present life is no longer starting.
    async fn first_word(&self, host: Host) -> Result<State> {
        let of =
            |nodes: &[NodeInfo]| nodes.iter().find(|n| n.host == host).map(|n| n.state.clone());
        let spoken = |nodes: &[NodeInfo]| of(nodes) != Some(State::Starting);
        let what = format!("a word from the node at host {}", host.0);
        let nodes = self.roster.until(&what, READY_WITHIN, spoken).await;
        let nodes = nodes.with_context(|| self.end_of_log(host))?;
        of(&nodes).context("the node is gone")
    }

    /// The id of a node that must have become a member.
    fn member_at(&self, host: Host) -> Result<u64> {
        let node = self.roster.nodes().into_iter().find(|node| node.host == host);
        match node {
            Some(node) if node.state == State::Ready => Ok(node.id),
            other => {
                let state = other.map(|node| node.state);
                let state = state.map_or("gone".into(), |state| state.to_string());
                bail!("a new node {state} instead of becoming ready; {}", self.end_of_log(host))
            }
        }
    }

    fn end_of_log(&self, host: Host) -> String {
        let path = self.path(host, "log");
        let log = std::fs::read_to_string(&path).unwrap_or_default();
        let tail: Vec<_> = log.lines().rev().take(12).collect();
        let tail: String = tail.into_iter().rev().map(|line| format!("\n  {line}")).collect();
        format!("the end of {}:{tail}", path.display())
    }

    fn signal_running(&self, ids: &[u64], signal: Signal) -> Result<()> {
        for id in ids {
            let running = self.node(*id)?.state.is_running();
            if let Some(process) = self.seat(*id)?.process.as_ref().filter(|_| running) {
                match process.signal(signal) {
                    Err(error) if self.node(*id)?.state.is_running() && !process.has_ended() => {
                        return Err(error);
                    }
                    _ => {}
                }
            }
        }
        Ok(())
    }

    fn mark_paused(&self, ids: &[u64], paused: bool) -> Result<()> {
        for id in ids {
            let NodeInfo { host, life, .. } = self.node(*id)?;
            self.roster.change(host, life, |node| node.paused = paused && node.state.is_running());
        }
        Ok(())
    }

    async fn ended(&self, ids: &[u64], within: Duration) -> Result<()> {
        let ended = |nodes: &[NodeInfo]| {
            nodes.iter().filter(|n| ids.contains(&n.id)).all(|n| !n.state.is_running())
        };
        self.roster.until(&format!("nodes {ids:?} have ended"), within, ended).await.map(drop)
    }
}

impl Drop for Bed {
    fn drop(&mut self) {
        let processes: Vec<_> = self.seats.values_mut().filter_map(|s| s.process.take()).collect();
        for process in &processes {
            // It may have ended long ago.
            let _ = process.signal(Signal::KILL);
        }
        for process in &processes {
            process.wait_blocking(KILLED_WITHIN);
        }
        // If the bed was given up halfway, a disk may just be about to be mounted.
        self.disk_work.finish();
        for root in self.leftovers.mounts() {
            if let Err(error) = unmount_patiently(root) {
                tracing::error!("a disk stays behind: {error:#}");
            }
        }
    }
}

fn describe(host: Host, disk: &Disk, addresses: &Addresses, log: PathBuf) -> NodeInfo {
    let [client_addr, peer_addr, admin_addr, http_addr] = addresses.reached.clone();
    NodeInfo {
        host,
        id: 0,
        cleared: Vec::new(),
        data_dir: disk.data_dir(),
        log,
        client_addr,
        peer_addr,
        admin_addr,
        http_addr,
        pid: None,
        life: 0,
        waits: 0,
        state: State::Exited { code: None, signal: None },
        ready_at: None,
        member: false,
        paused: false,
        told: false,
        exits: Vec::new(),
    }
}
