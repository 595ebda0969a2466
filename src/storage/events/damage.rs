//! What is known of damage in the event store.

use std::collections::BTreeMap;

use crate::types::PayloadKey;

/// Damage found while the node runs.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Damage {
    /// Files in which something is not as it was written, until they are examined, healed or gone.
    pub suspects: BTreeMap<String, Suspect>,
    /// Events, and files damaged otherwise, that were found.
    pub found: u64,
    /// Of those, how many were written anew or are needed no more.
    pub repaired: u64,
}

/// A file under suspicion.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Suspect {
    /// Events in it that are damaged and could be had from nowhere so far.
    pub lost: u64,
    /// One of them.
    pub first: Option<PayloadKey>,
    /// How much [`Damage::found`] counts for this file; 0 until it was examined.
    pub(super) found: u64,
}

impl Damage {
    /// Events that cannot be read here.
    pub fn lost(&self) -> u64 {
        self.suspects.values().map(|suspect| suspect.lost).sum()
    }

    /// One line for people; `None` if all is well.
    pub fn describe(&self) -> Option<String> {
        let damaged = self.suspects.iter().filter(|(_, suspect)| suspect.found > 0);
        let (file, suspect) = damaged.max_by_key(|(_, suspect)| suspect.lost)?;
        Some(match (self.lost(), suspect.first) {
            (1.., Some(key)) => format!(
                "{} damaged events wait to be fetched from a member, {key} in {file} among them",
                self.lost()
            ),
            _ => format!("{file} is damaged and being repaired"),
        })
    }
}
