//! The command line as clap sees it: raw words, checked for form only.

mod bench;
mod dead;
mod offline;
mod quality;
mod receive;

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

pub use self::bench::{
    Bench, BenchBacklog, BenchCatchUp, BenchChannels, BenchConsume, BenchFailover, BenchFanout,
    BenchLatency, BenchMode, BenchOrder, BenchPublish, BenchTarget, LossBy,
};
pub use self::dead::{Dead, Letters};
pub use self::offline::{Backup, Log, LogDump, Recover, Restore, Snapshot, SnapshotDump};
pub use self::receive::{ConsumerSettings, Nack, Pull, PullAck, SubAck, Subscribe, Token};
use super::asked::{event_timeout, millis, priority, property_value, start_time, stop_time};
use super::connect::{assignment, host_port};
use crate::node::ByteSize;
use crate::types::{Name, QosChange, Value};
pub use quality::{
    Admin, AdminCreate, AdminName, AdminTypes, Proxy, ProxyCreate, ProxyName, ProxyOrLane,
    ProxyTypes, Qos, QosTarget, Scheduler,
};

/// A fault-tolerant event channel service.
///
/// Start here:  aqueduct demo
#[derive(Debug, Parser)]
#[command(name = "aqueduct", version, disable_help_subcommand = true)]
pub struct Cli {
    #[command(flatten)]
    pub common: Common,
    #[command(subcommand)]
    pub command: Command,
}

/// Flags that every command takes.
#[derive(Debug, Clone, Args)]
pub struct Common {
    /// Nodes to talk to; any member will do, more give failover at the start
    /// [default: 127.0.0.1:7400].
    #[arg(
        long,
        global = true,
        env = "AQUEDUCT_SERVERS",
        value_delimiter = ',',
        value_name = "HOST:PORT",
        value_parser = host_port
    )]
    pub servers: Vec<String>,

    /// File with the client token of the cluster.
    #[arg(long, global = true, env = "AQUEDUCT_TOKEN_FILE", value_name = "FILE")]
    pub token_file: Option<PathBuf>,

    /// How results are printed; logs always go to stderr.
    #[arg(long, short, global = true, value_enum, default_value_t = Format::Table)]
    pub output: Format,

    /// Seconds to keep trying to reach a node or a leader before giving up.
    #[arg(long, global = true, default_value_t = 15.0, value_name = "SECS")]
    pub timeout: f64,

    /// What to log to stderr, for example `info` or `aqueduct=debug`.
    #[arg(long, global = true, env = "AQUEDUCT_LOG", value_name = "FILTER")]
    pub log: Option<String>,
}

/// How results are printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// For people.
    Table,
    /// JSON, indented; commands that stream print a document a line.
    Json,
    /// JSON, a document a line.
    Jsonl,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run a cluster here, kill its leader, and show that nothing acknowledged is lost
    Demo(Demo),
    /// Run a node
    Node(Node),
    /// Check a configuration file
    #[command(subcommand)]
    Config(Config),
    /// Show or change the members of the cluster
    Cluster(Cluster),
    /// Show nodes, channels and consumers
    Status(Status),
    /// Compare the nodes' state hashes and ledgers at one place of the log
    Audit,
    /// Create, list, show and remove channels
    #[command(subcommand)]
    Channel(Channel),
    /// Show, set and check the quality of service of channels, admins, proxies and lanes
    #[command(subcommand)]
    Qos(Qos),
    /// Admins: groups of proxies, of consumers or of suppliers, that inherit from them
    #[command(subcommand)]
    Admin(Admin),
    /// Proxies: what consumers, and suppliers, are connected to
    #[command(subcommand)]
    Proxy(Proxy),
    /// See whose turn it is: how long the proxies of a channel wait to be served
    #[command(subcommand)]
    Scheduler(Scheduler),
    /// Dead letters, which consumers gave up: list, show, replay and drop them
    #[command(subcommand)]
    Dead(Dead),
    /// Publish events: the argument, a file, or stdin line by line
    Pub(Publish),
    /// Serve a source of events that the cluster polls: lines of a file, or of stdin
    #[command(after_help = "Examples:
  aqueduct serve orders --lane meter --file readings.txt
  tail -f readings.txt | aqueduct serve orders --admin sensors

The cluster asks for events every poll_interval (a property, 100 ms unless it is set), and at once
again while there are as many as it asked for. A file served on a lane with a name again goes on
after the last line that was accepted.")]
    Serve(Serve),
    /// Receive events as they come
    Sub(Subscribe),
    /// Fetch events from a durable consumer
    Pull(Pull),
    /// Confirm an event that was pulled with --ack manual
    Ack(Token),
    /// Give a pulled event back for redelivery
    Nack(Nack),
    /// Look into the log of a stopped node
    #[command(subcommand)]
    Log(Log),
    /// Look into the snapshots of a stopped node
    #[command(subcommand)]
    Snapshot(Snapshot),
    /// Write everything that is in the cluster to a file
    Backup(Backup),
    /// Make a data directory for a new cluster out of a backup
    Restore(Restore),
    /// Make a stopped node the only member of a new cluster, when a majority is lost for good
    Recover(Recover),
    /// Measure throughput, latency and failover
    #[command(subcommand)]
    Bench(Bench),
}

#[derive(Debug, Args)]
pub struct Demo {
    /// How long events flow.
    #[arg(long, default_value_t = 15.0)]
    pub seconds: f64,
    /// Nodes of the cluster.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u64).range(1..=9))]
    pub nodes: u64,
    /// How often the leader is killed (SIGKILL) and later restarted.
    #[arg(long, default_value_t = 1)]
    pub kills: u64,
    /// Events per second.
    #[arg(long, default_value_t = 500, value_parser = clap::value_parser!(u64).range(1..=100_000))]
    pub rate: u64,
    /// Leave the cluster running and say what to try next.
    #[arg(long)]
    pub keep: bool,
}

#[derive(Debug, Clone, Args)]
pub struct Node {
    /// Configuration file (TOML); see examples/node.toml.
    #[arg(long, env = "AQUEDUCT_CONFIG", value_name = "FILE")]
    pub config: Option<PathBuf>,
    #[command(flatten)]
    pub overrides: NodeOverrides,
    /// For `demo` and `bench`: the node is killed when this process, its parent, is gone.
    #[arg(long, value_name = "PID", hide = true)]
    pub end_with_parent: Option<u32>,
}

/// Settings of a node that flags can override (file < environment < flags).
#[derive(Debug, Clone, Default, Args)]
pub struct NodeOverrides {
    /// Where the node keeps its log, snapshots and identity.
    #[arg(long, value_name = "DIR")]
    pub data_dir: Option<PathBuf>,
    /// Address for clients.
    #[arg(long, value_name = "HOST:PORT")]
    pub listen: Option<String>,
    /// Address for the other nodes.
    #[arg(long, value_name = "HOST:PORT")]
    pub peer: Option<String>,
    /// Address for administration.
    #[arg(long, value_name = "HOST:PORT")]
    pub admin: Option<String>,
    /// Address for /livez, /readyz and /metrics.
    #[arg(long, value_name = "HOST:PORT")]
    pub http: Option<String>,
    /// Found a new cluster with this node as its first member.
    #[arg(long, conflicts_with = "join")]
    pub bootstrap: bool,
    /// Join the cluster that these nodes (peer addresses) belong to.
    #[arg(long, value_delimiter = ',', value_name = "HOST:PORT")]
    pub join: Vec<String>,
    /// File with the token that the nodes of the cluster share.
    #[arg(long, value_name = "FILE")]
    pub cluster_token_file: Option<PathBuf>,
    /// File with the token that clients must show.
    #[arg(long, value_name = "FILE")]
    pub client_token_file: Option<PathBuf>,
    /// Listen on other than loopback addresses without tokens. Anybody who can connect is trusted.
    #[arg(long)]
    pub insecure_bind: bool,
    /// Speak no newer protocol version, as during an upgrade that may be undone.
    #[arg(long, value_name = "VERSION")]
    pub protocol_version_max: Option<u16>,
    /// Take a snapshot after so much log.
    #[arg(long, value_name = "SIZE")]
    pub snapshot_log_bytes: Option<ByteSize>,
}

#[derive(Debug, Subcommand)]
pub enum Config {
    /// Read a file as `aqueduct node` would, and report what is wrong with it
    Check {
        /// Configuration file (TOML).
        file: PathBuf,
    },
}

#[derive(Debug, Args)]
pub struct Cluster {
    #[command(subcommand)]
    pub action: Option<ClusterAction>,
}

#[derive(Debug, Subcommand)]
pub enum ClusterAction {
    /// List the members (the default)
    Ls,
    /// Explain how a cluster is founded; founds nothing by itself
    Init,
    /// Explain how a node joins
    Join,
    /// Ask the node that answers to leave the cluster and stop
    Leave,
    /// Remove a member for good: a dead one, or one that runs, which then stops
    Remove {
        /// The number of the node, as `cluster ls` shows it.
        id: u64,
    },
    /// Hand leadership to another member
    Transfer {
        /// The number of the node; without it any other one that is up to date.
        id: Option<u64>,
    },
}

#[derive(Debug, Args)]
pub struct Status {
    /// Show again whenever a second has passed.
    #[arg(long)]
    pub watch: bool,
    /// Accept what the answering node knows, without asking the leader.
    #[arg(long)]
    pub stale: bool,
}

#[derive(Debug, Subcommand)]
pub enum Channel {
    /// Create a channel
    Create(ChannelCreate),
    /// List channels
    Ls,
    /// Show one channel and its consumers
    Show {
        /// Name of the channel.
        name: Name,
    },
    /// List the types that the retained events of a channel have
    Types {
        /// Name of the channel.
        name: Name,
    },
    /// Remove a channel with everything in it
    Rm {
        /// Name of the channel.
        name: Name,
    },
}

#[derive(Debug, Args)]
pub struct ChannelCreate {
    /// Name of the channel: letters, digits, `.`, `_` and `-`.
    pub name: Name,
    /// Cap on unsettled bytes; at the cap publishes are refused (channel_full), nothing is
    /// dropped. Sizes: 10MiB, 2GiB, or a number of bytes.
    #[arg(long, value_name = "SIZE")]
    pub max_bytes: Option<ByteSize>,
    /// Events kept for replay although everybody has settled them.
    #[arg(long, value_name = "N")]
    pub history_events: Option<u64>,
    /// The same in bytes; whichever limit comes first counts.
    #[arg(long, value_name = "SIZE")]
    pub history_bytes: Option<ByteSize>,
    /// Nothing older than this is kept for replay: 90s, 2h, 7days.
    #[arg(long, value_name = "DURATION", value_parser = millis)]
    pub history_age: Option<u64>,
    /// Property to set for the channel, as in max_queue_length=1000; may be repeated.
    /// `aqueduct qos properties` lists them.
    #[arg(long, value_name = "PROPERTY=VALUE", value_delimiter = ',', value_parser = property_value)]
    pub qos: Vec<QosChange>,
}

#[derive(Debug, Args)]
pub struct Serve {
    /// Channel to supply.
    pub channel: Name,
    /// Serve the lines of this file; without it, those of stdin.
    #[arg(long, value_name = "FILE")]
    pub file: Option<PathBuf>,
    /// Name of the lane: line N of a file is its sequence N.
    #[arg(long, value_name = "NAME")]
    pub lane: Option<Name>,
    /// Supplier admin that the lane is of [default: default].
    #[arg(long, value_name = "NAME")]
    pub admin: Option<Name>,
    /// Each line is a CloudEvent 1.0 in JSON.
    #[arg(long)]
    pub cloud_event: bool,
    /// Print nothing per event, only the closing line.
    #[arg(long, short)]
    pub quiet: bool,
}

#[derive(Debug, Args)]
pub struct Publish {
    /// Channel to publish to.
    pub channel: Name,
    /// Body of the event; without it (and without --file or --count) each line of stdin is one.
    pub body: Option<String>,
    /// Publish this many events (the body, or generated ones).
    #[arg(long, value_name = "N")]
    pub count: Option<u64>,
    /// Size of generated bodies in bytes.
    #[arg(long, value_name = "BYTES", conflicts_with = "body")]
    pub size: Option<usize>,
    /// Publish a whole file as one event.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["body", "size"])]
    pub file: Option<PathBuf>,
    /// Name of a lane to open or resume: what was published on it is not published again.
    #[arg(long, value_name = "NAME")]
    pub lane: Option<Name>,
    /// Supplier admin that the lane is of [default: default].
    #[arg(long, value_name = "NAME")]
    pub admin: Option<Name>,
    /// Lane sequence of the first event; a repeat is answered with its original place.
    #[arg(long, value_name = "N", requires = "lane")]
    pub sequence: Option<u64>,
    /// Id of the event: published again within the channel's dedup_window, from anywhere, it is
    /// answered with the place of the first.
    #[arg(long, value_name = "ID", conflicts_with_all = ["count", "cloud_event"],
        value_parser = clap::builder::NonEmptyStringValueParser::new())]
    pub id: Option<String>,
    /// Domain of the events (OMG domain_name).
    #[arg(long, default_value = "")]
    pub domain: String,
    /// Type of the events (OMG type_name).
    #[arg(long = "type", default_value = "")]
    pub kind: String,
    /// Name of the events (OMG event_name).
    #[arg(long, value_name = "NAME", default_value = "")]
    pub event_name: String,
    /// Entry of the variable header; may be repeated. Values are true, false, numbers, or texts
    /// (in "quotes" whatever they look like).
    #[arg(long, value_name = "NAME=VALUE", value_parser = assignment)]
    pub header: Vec<(String, Value)>,
    /// Filterable field; may be repeated.
    #[arg(long, value_name = "NAME=VALUE", value_parser = assignment)]
    pub field: Vec<(String, Value)>,
    /// Priority, -32767 to 32767; greater is more urgent. 0: that of lane, supplier admin or
    /// channel.
    #[arg(long, value_name = "N", allow_negative_numbers = true, value_parser = priority)]
    pub priority: Option<i16>,
    /// Each event expires so long after it was accepted: 500ms, 90s, 2h, or milliseconds.
    #[arg(long, alias = "ttl", value_name = "DURATION", value_parser = event_timeout)]
    pub event_timeout: Option<u32>,
    /// Not delivered before: +DURATION from now, 2027-01-31T12:00:00Z, or milliseconds since 1970.
    #[arg(long, value_name = "TIME", value_parser = start_time)]
    pub start_time: Option<u64>,
    /// Each event expires at this moment, given like --start-time.
    #[arg(long, value_name = "TIME", value_parser = stop_time)]
    pub stop_time: Option<u64>,
    /// Each body is a CloudEvent 1.0 in JSON, which says all of this itself.
    #[arg(
        long,
        conflicts_with_all = [
            "domain", "kind", "event_name", "header", "field", "size", "priority", "event_timeout",
            "start_time", "stop_time"
        ]
    )]
    pub cloud_event: bool,
    /// Print nothing per event, only the closing line.
    #[arg(long, short)]
    pub quiet: bool,
}
