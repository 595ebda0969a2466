//! Why a node does not run, or no longer runs.

use thiserror::Error;

use super::config::Finding;
use super::token::TokenError;
use crate::client::AdminError;
use crate::consensus::StartError;
use crate::storage::StorageError;
use crate::types::{ClusterId, NodeId};

/// Each says what to do.
#[derive(Debug, Error)]
pub enum NodeError {
    #[error("the configuration is not usable:{}", lines(.0))]
    Config(Vec<Finding>),
    #[error(transparent)]
    Token(#[from] TokenError),
    #[error(transparent)]
    Storage(#[from] StorageError),
    #[error("{0}; choose another address with the setting '{1}'")]
    Listen(std::io::Error, &'static str),
    #[error(
        "{dir} holds no node yet: found a new cluster with --bootstrap, or join one with \
         --join HOST:PEER_PORT"
    )]
    Nowhere { dir: String },
    #[error(
        "{dir} belongs to a node of cluster {mine}, but {through} belongs to cluster {other}; \
         give the right --join, or another --data-dir"
    )]
    OtherCluster { dir: String, mine: ClusterId, through: String, other: ClusterId },
    #[error("cannot join through {through}: {error}")]
    Join { through: String, error: AdminError },
    #[error(transparent)]
    Start(#[from] StartError),
    #[error(
        "the data directory is damaged: {0}; keep it, and see 'Quarantine' in docs/OPERATING.md"
    )]
    Quarantined(String),
    #[error(
        "node {0} was removed from its cluster and stops; to bring this machine back, move its \
         data directory away and join under a new id"
    )]
    Removed(NodeId),
    /// It goes on when there is room.
    #[error("{0}")]
    Full(StorageError),
    #[error("the node cannot go on: {0}")]
    Failed(String),
}

impl NodeError {
    /// The want of room that it is, if that is all that is wrong.
    pub fn full(&self) -> Option<&StorageError> {
        match self {
            NodeError::Full(error)
            | NodeError::Storage(error)
            | NodeError::Start(StartError::Full(error)) => Some(error).filter(|e| e.is_full()),
            _ => None,
        }
    }
}

fn lines(findings: &[Finding]) -> String {
    findings.iter().map(|finding| format!("\n  {finding}")).collect()
}
