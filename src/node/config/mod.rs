//! What a node is told: one flat list of settings, read from a file, the environment and flags.
//!
//! A later layer wins: defaults < file < environment (`AQUEDUCT_` and the key in capitals) <
//! flags. Every key is documented in `examples/node.toml`, whose values are the defaults (a test
//! holds it). A key that nobody knows is an error in file and flags, with the nearest known one in
//! the message; in the environment it is a warning, because service managers invent variables.
//!
//! Reading says whether the text makes sense ([`ConfigError`]); [`check()`] says whether the settings
//! make sense on this machine ([`Finding`]).

mod check;
mod load;
mod occupied;
mod optional;
mod size;

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::types::limits;

pub use check::{Finding, Level, check};
pub use load::{ConfigError, Loaded, load};
pub use occupied::occupied;
pub use size::ByteSize;

use crate::wire::PROTOCOL_VERSION;

/// Settings of one node.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Directory of everything that must survive a restart. One node each.
    pub data_dir: PathBuf,

    /// Address on which clients are accepted. Port 0 takes a free one, here and below.
    pub listen: String,
    /// Address on which the other nodes of the cluster are accepted.
    pub peer: String,
    /// Address on which administrators are accepted.
    pub admin: String,
    /// Address of health checks and metrics.
    pub http: String,
    /// How clients reach `listen` from elsewhere, if it is not the address itself.
    #[serde(with = "optional")]
    pub advertise_listen: Option<String>,
    /// How other nodes reach `peer`.
    #[serde(with = "optional")]
    pub advertise_peer: Option<String>,
    /// How administrators and other nodes reach `admin`.
    #[serde(with = "optional")]
    pub advertise_admin: Option<String>,

    /// Found a cluster with this node as its first member, if the directory holds none yet.
    pub bootstrap: bool,
    /// Peer addresses of members to join through, if the directory holds no cluster yet.
    pub join: Vec<String>,

    /// File with the secret that the nodes of the cluster share.
    #[serde(with = "optional")]
    pub cluster_token_file: Option<PathBuf>,
    /// File with the secret that clients and administrators present.
    #[serde(with = "optional")]
    pub client_token_file: Option<PathBuf>,
    /// Listen beyond this machine although a token file is missing.
    pub insecure_bind: bool,

    /// Log bytes written since the last snapshot that make the next one due.
    pub snapshot_log_bytes: ByteSize,
    /// Memory for the newest log entries; older ones are read back from disk.
    pub log_tail_bytes: ByteSize,
    /// Free disk space below which publishes are refused.
    pub free_space_floor: ByteSize,
    /// Space kept aside, to be given up when there is no other; 0: none.
    pub ballast: ByteSize,
    /// Largest event, header and body.
    pub event_bytes_max: ByteSize,

    /// Milliseconds that a stopping node gives to what is under way.
    pub shutdown_grace_ms: u64,
    /// When the data directory turns out to be damaged: exit instead of staying up for questions.
    pub exit_if_quarantined: bool,
    /// What a node does whose data directory turns out to be damaged.
    pub rejoin: Rejoin,
    /// The newest protocol version to speak; lower it to be able to go back to an older build.
    pub protocol_version_max: u16,
    /// What to log: a level, or `tracing` directives such as `info,aqueduct::consensus=debug`.
    pub log: String,
}

/// What becomes of a damaged node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Rejoin {
    /// It stays as it is until somebody replaces it: whatever damaged it may be at work on the
    /// others, too, and its data may be needed.
    Manual,
    /// It asks its cluster to let it go, moves its data aside when that is committed, and joins
    /// under a new id.
    Auto,
}

impl Default for Config {
    fn default() -> Config {
        Config {
            data_dir: "aqueduct-data".into(),
            listen: "127.0.0.1:7400".into(),
            peer: "127.0.0.1:7401".into(),
            admin: "127.0.0.1:7402".into(),
            http: "127.0.0.1:7403".into(),
            advertise_listen: None,
            advertise_peer: None,
            advertise_admin: None,
            bootstrap: false,
            join: Vec::new(),
            cluster_token_file: None,
            client_token_file: None,
            insecure_bind: false,
            snapshot_log_bytes: ByteSize::mib(64),
            log_tail_bytes: ByteSize(limits::LOG_TAIL_BYTES as u64),
            free_space_floor: ByteSize::mib(512),
            ballast: ByteSize::mib(64),
            event_bytes_max: ByteSize::mib(1),
            shutdown_grace_ms: 5000,
            exit_if_quarantined: false,
            rejoin: Rejoin::Manual,
            protocol_version_max: PROTOCOL_VERSION,
            log: "info,openraft=warn,openraft::core::heartbeat=error,tarpc=warn".into(),
        }
    }
}

impl Config {
    /// The listeners by the key that sets them.
    pub fn listeners(&self) -> [(&'static str, &str); 4] {
        [
            ("listen", &self.listen),
            ("peer", &self.peer),
            ("admin", &self.admin),
            ("http", &self.http),
        ]
    }
}
