//! `bench`: throughput, latency and failover, as a user's client sees them.
//!
//! With `--spawn N` a cluster of N processes is started for the measurement, and what it used is
//! reported too; otherwise the cluster of `--servers` is measured.

mod backlog;
mod catch_up;
mod channels;
mod consume;
mod failover;
mod fanout;
mod figures;
mod latency;
mod meter;
mod publish;
mod waiting;

use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

use self::figures::Figures;
use self::meter::{Meter, Usage};
use super::args::{Bench, BenchTarget, Common};
use super::connect;
use super::exit::{Exit, Failure};
use super::local::{LocalCluster, Outlives};
use super::output;
use crate::client::{AdminError, Client};
use crate::types::{Code, Event, EventBytes};

/// Runs a benchmark and prints its figures.
pub async fn run(common: &Common, command: &Bench) -> Result<Exit, Failure> {
    let figures = match command {
        Bench::Publish(flags) => publish::run(common, flags).await?,
        Bench::Consume(flags) => consume::run(common, flags).await?,
        Bench::Latency(flags) => latency::run(common, flags).await?,
        Bench::Failover(flags) => failover::run(common, flags).await?,
        Bench::Backlog(flags) => backlog::run(common, flags).await?,
        Bench::CatchUp(flags) => catch_up::run(common, flags).await?,
        Bench::Fanout(flags) => fanout::run(common, flags).await?,
        Bench::Channels(flags) => channels::run(common, flags).await?,
    };
    output::result(common.output, &figures, Figures::table);
    Ok(if figures.errors == 0 { Exit::Ok } else { Exit::CheckFailed })
}

/// The cluster under measurement.
struct Bed {
    common: Common,
    cluster: Option<LocalCluster>,
}

impl Bed {
    /// Starts or finds the cluster, and makes sure that the channel exists.
    async fn new(common: &Common, target: &BenchTarget) -> Result<Bed, Failure> {
        let mut common = common.clone();
        let cluster = match target.spawn {
            Some(nodes) => Some(LocalCluster::of_this_binary(nodes as usize, Outlives::No).await?),
            None => None,
        };
        if let Some(cluster) = &cluster {
            common.servers = cluster.servers();
        }
        let admin = connect::admin(&common)?;
        match admin.create_channel(&target.channel, &[]).await {
            Err(AdminError::Refused(rejection)) if rejection.code == Code::ChannelExists => {}
            Err(error) => return Err(error.into()),
            Ok(_) => {}
        }
        Ok(Bed { common, cluster })
    }

    /// A connection of its own.
    async fn client(&self) -> Result<Client, Failure> {
        connect::client(&self.common).await
    }

    /// Starts measuring what our own cluster uses.
    fn meter(&self) -> Option<Meter> {
        let nodes = &self.cluster.as_ref()?.nodes;
        Some(Meter::start(nodes.iter().filter_map(|n| Some((n.ready.node_id, n.pid()?)))))
    }

    /// Resident memory of each node of our own cluster, in bytes.
    fn resident(&self) -> Vec<u64> {
        let nodes = self.cluster.iter().flat_map(|cluster| &cluster.nodes);
        nodes.filter_map(|n| Usage::of(n.pid()?)).map(|usage| usage.rss_bytes).collect()
    }
}

/// An event with a body of so many bytes.
fn event(size: usize, priority: i16) -> Result<EventBytes, Failure> {
    let event = Event { priority, ..Event::of_body(vec![b'x'; size]) };
    event.encode().map_err(|error| Failure::usage(error.to_string()))
}

/// A progress bar on stderr; hidden where stderr is not a terminal.
fn progress(total: Option<u64>) -> ProgressBar {
    let bar = total.map_or_else(ProgressBar::new_spinner, ProgressBar::new);
    let style = "{elapsed} {wide_bar} {human_pos}/{human_len} ({per_sec})";
    if let (Some(_), Ok(style)) = (total, ProgressStyle::with_template(style)) {
        bar.set_style(style);
    }
    bar.enable_steady_tick(Duration::from_millis(200));
    bar
}
