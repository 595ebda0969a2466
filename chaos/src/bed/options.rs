//! What a bed is to be made of.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// How nodes and clients are connected.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NetworkKind {
    /// Namespaces where that is permitted, else proxies.
    #[default]
    Auto,
    /// A network namespace per node and a switch in this process. Needs root.
    Namespaces,
    /// Loopback, with a proxy in front of each port.
    Proxies,
}

/// What the nodes' data lies on.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DiskKind {
    /// Images where mounting is permitted, else plain directories.
    #[default]
    Auto,
    /// Directories of the file system that the run's directory is on.
    Plain,
    /// A loop-mounted ext4 per node: it can lose power and be full. Needs root.
    Ext4Images,
    /// A tmpfs of fixed size per node: it can be full. Needs root.
    Tmpfs,
}

/// Settings of a bed.
#[derive(Debug, Clone)]
pub struct BedOptions {
    /// Nodes to begin with.
    pub nodes: usize,
    /// Where everything of the run is; created when absent, and never removed.
    pub dir: PathBuf,
    /// The `aqueduct` program; see [`super::binary::find`].
    pub binary: PathBuf,
    pub network: NetworkKind,
    pub disks: DiskKind,
    /// Size of an image or a tmpfs. Images are sparse.
    pub disk_bytes: u64,
    /// Further flags of `aqueduct node`.
    pub node_flags: Vec<String>,
    /// Further lines of the nodes' configuration files (TOML).
    pub node_config: String,
    /// Damaged nodes become whole again by themselves (`rejoin = "auto"`).
    pub rejoins: bool,
    /// Further environment of the nodes.
    pub node_env: Vec<(String, String)>,
    /// Loads the shim into the nodes: failing and slow syncs, full disk, clock jumps.
    pub shim: bool,
    /// Decides about loss, jitter and the like.
    pub seed: u64,
}

impl BedOptions {
    /// The defaults for `nodes` nodes of `binary` in `dir`.
    pub fn new(nodes: usize, dir: impl Into<PathBuf>, binary: impl Into<PathBuf>) -> BedOptions {
        BedOptions {
            nodes,
            dir: dir.into(),
            binary: binary.into(),
            network: NetworkKind::Auto,
            disks: DiskKind::Auto,
            disk_bytes: 2 << 30,
            node_flags: Vec::new(),
            node_config: String::new(),
            rejoins: false,
            node_env: Vec::new(),
            shim: false,
            seed: 1,
        }
    }
}
