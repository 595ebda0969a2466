//! Where members are now. openraft tells a connection its member once; a member that moved is
//! looked up here when it is dialled again.
//!
//! A member that comes back elsewhere says so before the configuration can: recording it may need
//! the very member that is not found. So what it says counts until the configuration changes.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::member::Member;
use crate::types::NodeId;

/// Peer addresses, shared.
#[derive(Debug, Clone, Default)]
pub(super) struct Addresses(Arc<Mutex<BTreeMap<NodeId, Known>>>);

#[derive(Debug)]
struct Known {
    /// In the effective configuration.
    configured: String,
    /// What the member said since.
    said: Option<String>,
}

impl Addresses {
    /// Takes over what the configuration says.
    pub fn learn<'a>(&self, members: impl Iterator<Item = &'a Member>) {
        let mut all = self.lock();
        for member in members {
            let same = |known: &Known| known.configured == member.peer_addr;
            if !all.get(&member.id).is_some_and(same) {
                let known = Known { configured: member.peer_addr.clone(), said: None };
                all.insert(member.id, known);
            }
        }
    }

    /// Takes a member's own word.
    pub fn hear(&self, member: &Member) {
        if let Some(known) = self.lock().get_mut(&member.id) {
            known.said = Some(member.peer_addr.clone());
        }
    }

    /// Where to dial a member.
    pub fn of(&self, member: &Member) -> String {
        match self.lock().get(&member.id) {
            Some(known) => known.said.as_ref().unwrap_or(&known.configured).clone(),
            None => member.peer_addr.clone(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<NodeId, Known>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_members_word_counts_until_the_configuration_changes() {
        let at = |addr: &str| Member { id: NodeId(1), peer_addr: addr.into(), ..Member::default() };
        let addresses = Addresses::default();
        // What openraft said, as long as nothing is known.
        assert_eq!(addresses.of(&at("old:1")), "old:1");
        addresses.learn([at("old:1")].iter());
        addresses.hear(&at("new:1"));
        addresses.learn([at("old:1")].iter());
        assert_eq!(addresses.of(&at("old:1")), "new:1");
        addresses.learn([at("newer:1")].iter());
        assert_eq!(addresses.of(&at("old:1")), "newer:1");
    }
}
