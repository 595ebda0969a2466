//! What makes an event the same as another, whoever publishes it.

use std::fmt;

use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::xxh3_128;

/// The digest of an event's source and id, of 128 bits: of a billion different ones, the chance that
/// any two are equal is below 10^-20.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct DedupKey(pub u128);

impl DedupKey {
    /// The key of an event of this source and id, as a CloudEvent has them.
    pub fn of(source: &str, id: &str) -> DedupKey {
        // Lengths first: no two pairs have the same bytes.
        let length = (source.len() as u64).to_le_bytes();
        DedupKey(xxh3_128(&[&length[..], source.as_bytes(), id.as_bytes()].concat()))
    }
}

impl fmt::Display for DedupKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}
