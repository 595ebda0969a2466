//! The words of `bench`.

use clap::{Args, Subcommand, ValueEnum};

use crate::cli::asked;
use crate::types::{Name, QosChange};

#[derive(Debug, Subcommand)]
pub enum Bench {
    /// Events per second acknowledged after a majority's sync
    Publish(BenchPublish),
    /// Events per second delivered and confirmed
    Consume(BenchConsume),
    /// Time from publish to delivery at a steady rate
    Latency(BenchLatency),
    /// Time from the loss of the leader to the next acknowledged publish
    Failover(BenchFailover),
    /// A backlog that nobody consumes, then its end: rates, memory, disk, a node's restart
    Backlog(BenchBacklog),
    /// A node that comes back after the log it needs is gone: a snapshot, under a steady load
    CatchUp(BenchCatchUp),
    /// Deliveries per second to many durable consumers of one channel
    Fanout(BenchFanout),
    /// Many idle channels: how long their creation takes, and what they cost
    Channels(BenchChannels),
}

/// Where a bench runs.
#[derive(Debug, Clone, Args)]
pub struct BenchTarget {
    /// Start a cluster of N processes here for the measurement, and remove it afterwards.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=9))]
    pub spawn: Option<u64>,
    /// Size of event bodies in bytes.
    #[arg(long, default_value_t = 256)]
    pub size: usize,
    /// Channel to use.
    #[arg(long, default_value = "bench")]
    pub channel: Name,
}

/// How long a bench runs.
#[derive(Debug, Clone, Args)]
pub struct BenchLength {
    /// Stop after this many events.
    #[arg(long, value_name = "N", conflicts_with = "seconds")]
    pub count: Option<u64>,
    /// Stop after so long.
    #[arg(long, value_name = "SECS")]
    pub seconds: Option<f64>,
}

#[derive(Debug, Args)]
pub struct BenchPublish {
    #[command(flatten)]
    pub target: BenchTarget,
    #[command(flatten)]
    pub length: BenchLength,
    /// Connections, each with its lane.
    #[arg(long, default_value_t = 1)]
    pub connections: usize,
    /// Unacknowledged events over all connections.
    #[arg(long, default_value_t = 64)]
    pub inflight: usize,
    /// Durable proxies of the channel, without consumers.
    #[arg(long, default_value_t = 0, value_parser = clap::value_parser!(u64).range(0..=1000))]
    pub proxies: u64,
    /// Events have so many types, one after the other; 0: none.
    #[arg(long, default_value_t = 0, value_parser = clap::value_parser!(u64).range(0..=10_000))]
    pub types: u64,
    /// Each proxy wants one of the types, and not everything.
    #[arg(long, requires = "types", requires = "proxies")]
    pub pick: bool,
}

#[derive(Debug, Args)]
pub struct BenchConsume {
    #[command(flatten)]
    pub target: BenchTarget,
    /// Events to put into the channel and consume.
    #[arg(long, default_value_t = 500_000)]
    pub count: u64,
    /// Connections, competing for one durable consumer.
    #[arg(long, default_value_t = 1)]
    pub connections: usize,
    /// How events reach the consumer.
    #[arg(long, value_enum, default_value_t = BenchMode::Push)]
    pub mode: BenchMode,
    /// Events per pull.
    #[arg(long, default_value_t = 256)]
    pub batch: u32,
    #[command(flatten)]
    pub order: BenchOrder,
}

/// Events of different priorities, and a consumer that may heed them.
#[derive(Debug, Clone, Args)]
pub struct BenchOrder {
    /// Events have so many different priorities, one after the other
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=1000))]
    pub priorities: u16,
    /// Set for the consumer: PROPERTY=VALUE, as in order_policy=priority
    #[arg(long = "qos", value_name = "PROPERTY=VALUE", value_delimiter = ',', value_parser = asked::property_value)]
    pub qos: Vec<QosChange>,
}

/// How events reach a consumer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum BenchMode {
    Push,
    Pull,
}

#[derive(Debug, Args)]
pub struct BenchLatency {
    #[command(flatten)]
    pub target: BenchTarget,
    /// Events per second.
    #[arg(long, default_value_t = 1000)]
    pub rate: u64,
    #[arg(long, default_value_t = 10.0, value_name = "SECS")]
    pub seconds: f64,
}

#[derive(Debug, Args)]
pub struct BenchBacklog {
    #[command(flatten)]
    pub target: BenchTarget,
    /// Events that pile up.
    #[arg(long, default_value_t = 5_000_000)]
    pub count: u64,
}

#[derive(Debug, Args)]
pub struct BenchFanout {
    #[command(flatten)]
    pub target: BenchTarget,
    /// Events to publish; each consumer gets all of them.
    #[arg(long, default_value_t = 20_000)]
    pub count: u64,
    /// Durable consumers.
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u64).range(1..=1000))]
    pub consumers: u64,
    /// Connections that the consumers share.
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u64).range(1..=1000))]
    pub connections: u64,
}

#[derive(Debug, Args)]
pub struct BenchChannels {
    #[command(flatten)]
    pub target: BenchTarget,
    /// Channels to create.
    #[arg(long, default_value_t = 1000, value_parser = clap::value_parser!(u64).range(1..=100_000))]
    pub count: u64,
    /// Requests under way at once.
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u64).range(1..=256))]
    pub inflight: u64,
}

#[derive(Debug, Args)]
pub struct BenchCatchUp {
    #[command(flatten)]
    pub target: BenchTarget,
    /// Events published while the node is away, which nobody consumes.
    #[arg(long, default_value_t = 2_000_000)]
    pub pending: u64,
    /// Events per second published before, during and after.
    #[arg(long, default_value_t = 1000)]
    pub rate: u64,
    /// How long publishing is timed before and after.
    #[arg(long, default_value_t = 10.0, value_name = "SECS")]
    pub seconds: f64,
}

#[derive(Debug, Args)]
pub struct BenchFailover {
    #[command(flatten)]
    pub target: BenchTarget,
    /// How often the leader is killed.
    #[arg(long, default_value_t = 5)]
    pub runs: u64,
    /// How the leader is lost.
    #[arg(long, value_enum, default_value_t = LossBy::Kill)]
    pub by: LossBy,
    /// Events pending on a consumer, whose next delivery is timed as well. 0: no consumer.
    #[arg(long, default_value_t = 0, value_name = "EVENTS")]
    pub pending: u64,
    /// Consumers that have them pending, each all of them: the first as --qos says, the others with
    /// policies of all kinds besides. Timed until the last of them has its next delivery.
    #[arg(long, default_value_t = 1, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=1000))]
    pub consumers: u64,
    #[command(flatten)]
    pub order: BenchOrder,
}

/// How a leader is lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum LossBy {
    /// SIGKILL.
    Kill,
    /// SIGSTOP: it hangs, and goes on later.
    Pause,
    /// It hands over, as before maintenance.
    Transfer,
}
