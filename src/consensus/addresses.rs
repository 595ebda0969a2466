//! Where members are now. openraft tells a connection its member once; a member that moved is
//! looked up here when it is dialled again.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::member::Member;
use crate::types::NodeId;

/// Peer addresses of the effective configuration, shared.
#[derive(Debug, Clone, Default)]
pub(super) struct Addresses(Arc<Mutex<BTreeMap<NodeId, String>>>);

impl Addresses {
    /// Takes over what the configuration says.
    pub fn learn<'a>(&self, members: impl Iterator<Item = &'a Member>) {
        let mut known = self.lock();
        for member in members {
            if known.get(&member.id) != Some(&member.peer_addr) {
                known.insert(member.id, member.peer_addr.clone());
            }
        }
    }

    /// Where to dial a member.
    pub fn of(&self, member: &Member) -> String {
        self.lock().get(&member.id).unwrap_or(&member.peer_addr).clone()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<NodeId, String>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
