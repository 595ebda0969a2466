//! What can go wrong, by what the caller can do about it.

use thiserror::Error;

use crate::storage::StorageError;
use crate::types::{Code, NodeId, Rejection};

use super::member::Member;

/// Why a command has no reply.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum ProposeError {
    /// It never entered the log: this node does not lead, or has not enough peers to.
    #[error("this node does not lead")]
    NotLeader {
        /// Who does, if known.
        leader: Option<Member>,
    },
    /// Leadership was lost while it was on its way: whether it took effect is unknown.
    #[error("leadership was lost on the way; whether the command took effect is unknown")]
    TenureLost,
    /// The queue has no room for it; the text says why.
    #[error("{0}")]
    Overloaded(String),
    /// It never entered the log: the node is stopping.
    #[error("the node is stopping")]
    ShuttingDown,
    /// It never entered the log: an acknowledgement would take disks that have no room.
    #[error("there is not enough room on the disks: {0}")]
    NoRoom(String),
    /// The node's storage failed, and its consensus has ended.
    #[error("storage failed: {0}")]
    Storage(String),
}

impl From<ProposeError> for Rejection {
    fn from(error: ProposeError) -> Rejection {
        let code = match &error {
            ProposeError::NotLeader { .. } => Code::NoLeader,
            ProposeError::TenureLost => Code::TenureLost,
            ProposeError::Overloaded(_) => Code::Overloaded,
            ProposeError::ShuttingDown => Code::ShuttingDown,
            ProposeError::NoRoom(_) | ProposeError::Storage(_) => Code::StorageFailed,
        };
        let hint = match &error {
            ProposeError::NotLeader { leader: Some(leader) } => {
                format!("ask node {} at {}", leader.id, leader.client_addr)
            }
            ProposeError::NotLeader { leader: None } => "try again in a moment".to_string(),
            ProposeError::TenureLost => "resume through the new leader".to_string(),
            ProposeError::Overloaded(_) => "wait for answers, then send again".to_string(),
            ProposeError::ShuttingDown => "use another node".to_string(),
            ProposeError::NoRoom(_) => "let consumers settle what is pending, or free space on \
                the disks of these nodes; then publishes are accepted again"
                .to_string(),
            ProposeError::Storage(_) => "check the disk of the node".to_string(),
        };
        Rejection::new(code, error.to_string()).hint(hint)
    }
}

/// Why a change of the cluster's membership was not made.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum MembershipError {
    #[error("this node does not lead")]
    NotLeader {
        /// Who does, if known.
        leader: Option<Member>,
    },
    #[error("node {0} is not a member of the cluster")]
    Unknown(NodeId),
    #[error("node {0} is a member already, at other addresses")]
    Exists(NodeId),
    #[error("node {0} is the last voter: a cluster needs one")]
    LastVoter(NodeId),
    #[error(
        "of the {left} voters that would be left only {answering} answer, which is no majority"
    )]
    NoMajority {
        /// Voters without the one to be removed.
        left: usize,
        answering: usize,
    },
    #[error("another change of the membership is under way")]
    InProgress,
    #[error("node {node} has not caught up within {seconds} s")]
    Behind { node: NodeId, seconds: u64 },
    #[error("leadership was lost on the way; look at the members before trying again")]
    TenureLost,
    #[error("the change failed: {0}")]
    Failed(String),
}

impl From<MembershipError> for Rejection {
    fn from(error: MembershipError) -> Rejection {
        let (code, hint) = match &error {
            MembershipError::NotLeader { leader } => {
                return ProposeError::NotLeader { leader: leader.clone() }.into();
            }
            MembershipError::TenureLost => (Code::TenureLost, "try again"),
            MembershipError::InProgress => {
                (Code::MembershipRefused, "wait for it to finish, then try again")
            }
            MembershipError::Behind { .. } => {
                (Code::MembershipRefused, "it stays a learner; promote it when it has caught up")
            }
            MembershipError::NoMajority { .. } => (
                Code::MembershipRefused,
                "the cluster could not go on: bring back or remove members that do not answer first",
            ),
            MembershipError::Exists(_) => {
                (Code::MembershipRefused, "remove it first and join under a new id")
            }
            _ => (Code::MembershipRefused, "list the members with `aqueduct cluster`"),
        };
        Rejection::new(code, error.to_string()).hint(hint)
    }
}

/// Why a node could not start its consensus.
#[derive(Debug, Clone, Error)]
pub enum StartError {
    #[error("the consensus configuration is invalid: {0}")]
    Config(String),
    #[error("the consensus could not start from what is on disk: {0}")]
    Storage(String),
    /// There will be another life when there is room.
    #[error("{0}")]
    Full(StorageError),
    #[error("the cluster could not be bootstrapped: {0}")]
    Bootstrap(String),
}
