//! How openraft is set up: its types, generic over the runtime, and its timing.

use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;

use bytes::Bytes;
use openraft::impls::leader_id_adv::LeaderId;
use openraft::{RaftTypeConfig, SnapshotPolicy};
use serde::{Deserialize, Serialize};

use crate::env;
use crate::machine::Reply;

use super::member::Member;
use super::responder::Callback;

/// A runtime that can also carry openraft. The product's is [`env::TokioRuntime`]; a simulation
/// brings its own pair.
pub trait RaftRuntime: env::Runtime {
    /// openraft's view of the same runtime.
    type Raft: openraft::AsyncRuntime;
}

impl RaftRuntime for env::TokioRuntime {
    type Raft = openraft_rt_tokio::TokioRuntime;
}

/// The types openraft works with.
pub struct Types<E>(PhantomData<fn() -> E>);

impl<E: RaftRuntime> RaftTypeConfig for Types<E> {
    type D = Proposal;
    type R = Replies;
    type NodeId = u64;
    type Node = Member;
    type Term = u64;
    type LeaderId = RaftLeaderId;
    type Vote = RaftVote;
    type Payload = RaftPayload;
    type Entry = RaftEntry;
    type AsyncRuntime = E::Raft;
    type Responder<T>
        = Callback<T>
    where
        T: openraft::OptionalSend + 'static;
    type Batch<T>
        = openraft::impls::InlineBatch<T>
    where
        T: openraft::OptionalSend + 'static;
    type ErrorSource = openraft::impls::BoxedErrorSource;
}

pub(super) type RaftLeaderId = LeaderId<u64, u64>;
pub(super) type RaftVote = openraft::Vote<RaftLeaderId>;
pub(super) type RaftLogId = openraft::LogId<RaftLeaderId>;
pub(super) type RaftPayload = openraft::EntryPayload<Proposal, u64, Member>;
pub(super) type RaftEntry = openraft::Entry<RaftLeaderId, RaftPayload>;
pub(super) type RaftMembership = openraft::Membership<u64, Member>;
pub(super) type StoredMembership = openraft::StoredMembership<RaftLeaderId, u64, Member>;
pub(super) type SnapshotMeta = openraft::SnapshotMeta<RaftLeaderId, u64, Member>;

/// An encoded [`crate::machine::Batch`]: the same bytes on disk, on the wire and in the cache.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Proposal(pub Bytes);

impl fmt::Debug for Proposal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes", self.0.len())
    }
}

impl fmt::Display for Proposal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

/// The machine's answers to the commands of one entry, in order; empty for entries that carry
/// none.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Replies(pub Vec<Reply>);

// openraft asks its marker type for a zoo of traits; deriving them would ask `E` for them too.
impl<E> Clone for Types<E> {
    fn clone(&self) -> Self {
        *self
    }
}
impl<E> Copy for Types<E> {}
impl<E> Default for Types<E> {
    fn default() -> Self {
        Types(PhantomData)
    }
}
impl<E> fmt::Debug for Types<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Types")
    }
}
impl<E> PartialEq for Types<E> {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}
impl<E> Eq for Types<E> {}
impl<E> PartialOrd for Types<E> {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl<E> Ord for Types<E> {
    fn cmp(&self, _: &Self) -> std::cmp::Ordering {
        std::cmp::Ordering::Equal
    }
}

/// Timing of the consensus, in milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timing {
    /// How often a leader shows that it lives.
    pub heartbeat_ms: u64,
    /// A follower waits between this …
    pub election_min_ms: u64,
    /// … and this long without a leader before it asks for votes. After a crash it may wait
    /// twice as long, so keep it at or below 500.
    pub election_max_ms: u64,
}

impl Default for Timing {
    fn default() -> Timing {
        Timing { heartbeat_ms: 80, election_min_ms: 250, election_max_ms: 500 }
    }
}

/// Entries in one append request. Their bytes are capped by the log reader and by the frame.
const APPEND_ENTRIES_MAX: u64 = 1024;
/// Longest wait for the answer to a snapshot chunk, in milliseconds.
const SNAPSHOT_STEP_MS: u64 = 30_000;

impl Timing {
    /// openraft's configuration for this timing.
    pub(super) fn raft_config(self) -> Result<Arc<openraft::Config>, openraft::ConfigError> {
        let config = openraft::Config {
            cluster_name: "aqueduct".to_string(),
            heartbeat_interval: self.heartbeat_ms,
            election_timeout_min: self.election_min_ms,
            election_timeout_max: self.election_max_ms,
            install_snapshot_timeout: SNAPSHOT_STEP_MS,
            max_payload_entries: APPEND_ENTRIES_MAX,
            max_append_entries: Some(APPEND_ENTRIES_MAX),
            // A follower gets a snapshot only when the entries it needs are gone.
            replication_lag_threshold: u64::MAX >> 1,
            // Both are decided by bytes, in `compaction`.
            snapshot_policy: SnapshotPolicy::Never,
            max_in_snapshot_log_to_keep: u64::MAX >> 1,
            enable_pre_vote: Some(true),
            // Several tenures in one term would otherwise begin without an election.
            enable_leader_restore: Some(false),
            // Lets a connected quorum elect although an old leader's heartbeats reach half of it.
            quorum_loss_probe_interval: Some(4 * self.election_max_ms),
            backoff: "20ms 40ms 80ms ..500ms".to_string(),
            ..openraft::Config::default()
        };
        Ok(Arc::new(config.validate()?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_timing_is_accepted() {
        let config = Timing::default().raft_config().unwrap();
        assert_eq!(config.heartbeat_interval, 80);
        assert_eq!(config.enable_leader_restore, Some(false));
    }
}
