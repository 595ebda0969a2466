//! Whose directory this is.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::error::StorageError;
use super::open::Owner;
use super::register::Register;
use crate::env::disk::Disk;
use crate::types::{ClusterId, NodeId};

/// Format of everything below the directory. A build reads this one only. (1 to 3 were those of builds
/// before the first release.)
const FORMAT: u32 = 4;
const PATH: &str = "identity";

/// Who lives in a directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Identity {
    pub cluster: ClusterId,
    pub node: NodeId,
    /// Grows with every start: peers tell a restarted node by it.
    pub incarnation: u64,
}

#[derive(Serialize, Deserialize)]
struct Stored {
    cluster: u64,
    node: u64,
    incarnation: u64,
}

/// The register of an identity, open.
pub(super) struct IdentityRegister {
    register: Register,
    dir: String,
}

impl IdentityRegister {
    pub fn open(disk: Arc<dyn Disk>, dir: &str) -> Result<IdentityRegister, StorageError> {
        Ok(IdentityRegister { register: Register::open(disk, PATH)?, dir: dir.to_owned() })
    }

    /// The identity, if there is one. A newer format is refused.
    pub fn read(&self) -> Result<Option<Identity>, StorageError> {
        self.register.value().map(|value| decode(value, &self.dir)).transpose()
    }

    /// The same of a directory that may be in use: nothing is changed.
    pub fn peek(disk: &dyn Disk, dir: &str) -> Result<Option<Identity>, StorageError> {
        Register::peek(disk, PATH)?.map(|value| decode(&value, dir)).transpose()
    }

    /// Saves the identity of a start; durable on return.
    pub fn write(&mut self, identity: Identity) -> Result<(), StorageError> {
        let Identity { cluster, node, incarnation } = identity;
        let stored = Stored { cluster: cluster.0, node: node.0, incarnation };
        let mut bytes = FORMAT.to_le_bytes().to_vec();
        let body = postcard::to_stdvec(&stored)
            .map_err(|error| StorageError::corrupt("an identity", error.to_string()))?;
        bytes.extend_from_slice(&body);
        self.register.write_both(&bytes)
    }

    /// Refuses the directory of somebody else.
    pub fn check(&self, found: Identity, owner: Owner) -> Result<(), StorageError> {
        if (found.cluster, found.node) == (owner.cluster, owner.node) {
            return Ok(());
        }
        Err(StorageError::Foreign {
            dir: self.dir.clone(),
            found_cluster: found.cluster,
            found_node: found.node,
            cluster: owner.cluster,
            node: owner.node,
        })
    }
}

fn decode(value: &[u8], dir: &str) -> Result<Identity, StorageError> {
    let damaged = |detail: String| StorageError::corrupt("register identity", detail);
    let (format, rest) =
        value.split_first_chunk::<4>().ok_or_else(|| damaged("it is cut short".into()))?;
    let found = u32::from_le_bytes(*format);
    if found > FORMAT {
        return Err(StorageError::newer(format!("data directory {dir}"), found, FORMAT));
    }
    if found < FORMAT {
        return Err(StorageError::OlderFormat { dir: dir.to_owned(), found, known: FORMAT });
    }
    let stored: Stored = postcard::from_bytes(rest).map_err(|e| damaged(e.to_string()))?;
    let Stored { cluster, node, incarnation } = stored;
    Ok(Identity { cluster: ClusterId(cluster), node: NodeId(node), incarnation })
}
