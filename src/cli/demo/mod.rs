//! `demo`: the main job in a quarter of a minute, with a leader killed on the way.
//!
//! Three node processes, a supplier at a steady rate, a push and a pull consumer, both durable.
//! Leaders are killed with SIGKILL and started again. At the end every acknowledged event must
//! have reached both consumers, and the nodes' states must be equal. Beside it alerts wait for a
//! consumer that takes the urgent ones first, and one of them becomes a dead letter.

mod alerts;
mod tally;
mod traffic;
mod view;

use std::sync::PoisonError;
use std::time::{Duration, Instant};

use tokio::sync::watch;

use self::alerts::AlertReport;
use self::tally::Report;
use self::traffic::{Board, Outage, PULL, PUSH};
use self::view::{Scene, View};
use super::args::{Common, Demo};
use super::connect;
use super::exit::{Exit, Failure};
use super::local::{LocalCluster, Outlives};
use super::output;
use crate::client::{Client, LaneChoice, Options, SubscribeOptions};
use crate::types::{Name, Start};

/// Time between two pictures of the view.
const PICTURE_EVERY: Duration = Duration::from_secs(1);
/// How long a killed node stays away.
const AWAY: Duration = Duration::from_secs(2);
/// How long consumers may take to receive the rest, and nodes to agree.
const DRAIN_WITHIN: Duration = Duration::from_secs(30);

/// Runs the demo.
pub async fn run(common: &Common, flags: &Demo) -> Result<Exit, Failure> {
    if flags.kills > 0 && flags.nodes < 3 {
        return Err(Failure::usage(
            "a cluster of fewer than 3 nodes does not survive a kill: use --nodes 3 or --kills 0",
        ));
    }
    let mut view = View::new();
    view.say(&format!("starting {} nodes on this machine ...", flags.nodes));
    let outlives_us = if flags.keep { Outlives::Yes } else { Outlives::No };
    let mut cluster = LocalCluster::of_this_binary(flags.nodes as usize, outlives_us).await?;
    let common = Common { servers: cluster.servers(), ..common.clone() };
    let report = play(&common, flags, &mut cluster, &mut view).await?;
    let passed = report.passed(flags.kills);
    print(&common, &report, passed);
    if flags.keep {
        say_what_to_try(&cluster);
        cluster.keep();
    }
    Ok(if passed { Exit::Ok } else { Exit::CheckFailed })
}

/// Traffic, kills, drain: everything between the start of the cluster and the report.
async fn play(
    common: &Common,
    flags: &Demo,
    cluster: &mut LocalCluster,
    view: &mut View,
) -> Result<Report, Failure> {
    let (board, outage) = (Board::new(), Outage::default());
    let client = Client::connect(Options::new(common.servers.clone()).name("demo")).await?;
    let channel = Name::default_channel();
    let consumer = |name: &str| -> Result<SubscribeOptions, Failure> {
        let name = Name::new(name).map_err(|e| Failure::usage(e.to_string()))?;
        Ok(SubscribeOptions::durable(name).from(Start::All))
    };
    let subscriber = client.subscribe(channel.clone(), consumer(PUSH)?).await?;
    let puller = client.puller(channel.clone(), consumer(PULL)?).await?;
    let lane = client.publisher(channel, LaneChoice::Fresh).await?;
    alerts::publish(common, &client).await?;

    let (stop, stopped) = watch::channel(false);
    let pushed = tokio::spawn(traffic::consume_pushed(subscriber, board.clone()));
    let pulled = tokio::spawn(traffic::consume_pulled(puller, board.clone()));
    let supply = traffic::supply(lane, flags.rate, board.clone(), outage.clone(), stopped);
    let supply = tokio::spawn(supply);

    let mut stage =
        Stage { common, board: &board, outage: &outage, view, scene: Scene::default(), acked: 0 };
    stage.show_and_kill(flags, cluster, &client).await?;
    stage.view.say("\nstopping the supplier; consumers receive the rest ...");
    stop.send_replace(true);
    supply.await.map_err(anyhow::Error::from)?;
    let audit_equal = stage.settle().await;
    pushed.abort();
    pulled.abort();
    let alerts = alerts::consume(&client).await?;
    let report = board.lock().report(audit_equal, alerts, cluster.servers());
    Ok(report)
}

/// What the choreography needs at hand.
struct Stage<'a> {
    common: &'a Common,
    board: &'a Board,
    outage: &'a Outage,
    view: &'a mut View,
    scene: Scene,
    /// Acknowledged at the last picture.
    acked: u64,
}

impl Stage<'_> {
    /// Shows a picture a second, kills the leader at even intervals, restarts it later.
    async fn show_and_kill(
        &mut self,
        flags: &Demo,
        cluster: &mut LocalCluster,
        client: &Client,
    ) -> Result<(), Failure> {
        let started = Instant::now();
        let end = started + seconds(flags.seconds);
        let interval = seconds(flags.seconds / (flags.kills + 1) as f64);
        let mut next_kill = (flags.kills > 0).then(|| started + interval);
        let mut away: Option<(u64, Instant)> = None;
        loop {
            let now = Instant::now();
            if let Some((id, since)) = away
                && (now >= since + AWAY || now >= end)
            {
                self.bring_back(cluster, id).await?;
                away = None;
            }
            let kills = self.board.lock().kills;
            if now >= end && kills >= flags.kills && away.is_none() {
                return Ok(());
            }
            if away.is_none() && next_kill.is_some_and(|at| now >= at) {
                away = Some((self.kill_leader(cluster).await?, Instant::now()));
                let kills = self.board.lock().kills;
                next_kill = (kills < flags.kills).then(|| started + interval * (kills + 1) as u32);
            }
            self.picture(started, client).await;
            tokio::time::sleep(PICTURE_EVERY).await;
        }
    }

    async fn kill_leader(&mut self, cluster: &mut LocalCluster) -> Result<u64, Failure> {
        let answer = connect::admin(self.common)?.status(false).await?;
        let leader = answer.value.leader.map(|id| id.0);
        let node = leader.and_then(|id| cluster.node(id));
        let node = node.ok_or_else(|| anyhow::anyhow!("no node of the demo leads"))?;
        let killed = node.kill().await?;
        let id = node.ready.node_id;
        *self.outage.lock().unwrap_or_else(PoisonError::into_inner) = Some(killed);
        self.board.lock().kills += 1;
        self.scene.news = format!("node {id}, the leader, was killed (SIGKILL)");
        Ok(id)
    }

    async fn bring_back(&mut self, cluster: &mut LocalCluster, id: u64) -> Result<(), Failure> {
        if let Some(node) = cluster.node(id) {
            node.restart().await?;
            self.scene.news = format!("node {id} is back");
        }
        Ok(())
    }

    async fn picture(&mut self, started: Instant, client: &Client) {
        let elapsed = started.elapsed().as_secs_f64();
        let quick = Common { timeout: 0.3, ..self.common.clone() };
        if let Ok(admin) = connect::admin(&quick)
            && let Ok(answer) = admin.status(true).await
        {
            self.scene.term = answer.value.term;
        }
        self.scene.leader = traffic::connected_to(client);
        let acked = self.board.lock().acked();
        let passed = (elapsed - self.scene.elapsed_s).max(0.001);
        self.scene.rate = (acked - self.acked) as f64 / passed;
        (self.acked, self.scene.elapsed_s) = (acked, elapsed);
        self.view.show(&self.scene, &self.board.lock());
    }

    /// Waits until everything acknowledged has arrived and the nodes agree; whether they do.
    async fn settle(&mut self) -> bool {
        let deadline = Instant::now() + DRAIN_WITHIN;
        while self.board.lock().missing() > 0 && Instant::now() < deadline {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        while Instant::now() < deadline {
            if let Ok(admin) = connect::admin(self.common)
                && let Ok(answer) = admin.audit().await
                && answer.value.equal
            {
                return true;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        false
    }
}

fn seconds(value: f64) -> Duration {
    Duration::try_from_secs_f64(value).unwrap_or_default()
}

fn print(common: &Common, report: &Report, passed: bool) {
    if common.output != super::args::Format::Table {
        output::say(output::to_json(report, false));
        return;
    }
    let delivered: Vec<_> =
        report.delivered.iter().map(|(name, n)| format!("{name} {}", output::count(*n))).collect();
    let acked_again = match report.failover_ms.as_slice() {
        [] => String::new(),
        times => format!(", next ack after {}", output::millis(times)),
    };
    output::say(format_args!(
        "\nacknowledged        {}\ndelivered           {}\nlost                {}\n\
         duplicates          {} ({} of them unmarked)\nrefused, unknown    {}, {}\n\
         leaders killed      {}{}\nnodes' states       {}\n\
         alerts by priority  {}\ndead letter         {}\n\n{}",
        output::count(report.acked),
        delivered.join(", "),
        report.lost,
        report.duplicates,
        report.unmarked_duplicates,
        report.refused,
        report.unknown,
        report.kills,
        acked_again,
        if report.audit_equal { "equal, ledgers add up" } else { "NOT EQUAL" },
        priorities(&report.alerts),
        report.alerts.dead_letter.as_deref().unwrap_or("NONE"),
        if passed { "PASSED: nothing acknowledged was lost" } else { "FAILED" },
    ));
}

/// How many alerts of each priority came, in the order in which they came.
fn priorities(alerts: &AlertReport) -> String {
    let mut runs: Vec<(i16, usize)> = Vec::new();
    for priority in &alerts.priorities {
        match runs.last_mut().filter(|(last, _)| last == priority) {
            Some((_, count)) => *count += 1,
            None => runs.push((*priority, 1)),
        }
    }
    let runs: Vec<_> = runs.iter().map(|(priority, n)| format!("{n} of {priority}")).collect();
    let order = if alerts.in_order { "" } else { " (NOT IN ORDER)" };
    format!("{}{order}", runs.join(", "))
}

fn say_what_to_try(cluster: &LocalCluster) {
    let servers = cluster.servers().join(",");
    let pids: Vec<_> =
        cluster.nodes.iter().filter_map(|n| n.pid()).map(|p| p.to_string()).collect();
    eprintln!(
        "\nThe cluster keeps running in {dir}. Try:\n\
         \n  export AQUEDUCT_SERVERS={servers}\
         \n  aqueduct status\
         \n  aqueduct sub default --name me --from all --max 3\
         \n  aqueduct pub default 'hello'\
         \n  aqueduct channel show alerts\
         \n  aqueduct audit\
         \n\nStop it with: kill {pids}   and remove {dir}",
        dir = cluster.dir.display(),
        pids = pids.join(" "),
    );
}
