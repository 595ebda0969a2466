//! What is damaged in the event store is made whole again, from this node's own log or from other
//! members.
//!
//! ```text
//! a read, a scrub, a refused snapshot ─► suspect ─► examine ─► fetch what is lost ─► heal
//!                                                      └─ a snapshot: build another one
//! ```
//!
//! A member answers only with what it has applied: a key says where an event lies in the committed
//! log, and beyond that its log may hold another one there. What arrives must be whole (CRC) and be
//! what the damaged segment's own index says of the event. What nobody has stays damaged: it is
//! listed, its delivery is tried again, and so is this, every [`limits::REPAIR_RETRY_MS`].

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use openraft::async_runtime::WatchReceiver;

use crate::planted::{Bug, planted};
use crate::storage::events::record;
use crate::storage::{EventStore, Patient, StorageError, Wounded};
use crate::transport::Net;
use crate::types::{Payload, PayloadKey, limits};

use super::config::RaftRuntime;
use super::dial::Dialer;
use super::facts::Facts;
use super::link::Link;
use super::member::Member;
use super::raft::Raft;
use super::replica::Replica;
use super::rpc::{Request, Response};

/// Longest wait for an answer, which may have to be read from a busy disk.
const FETCH_MAX: Duration = Duration::from_secs(5);

/// The task that repairs.
pub(super) struct Repairer<N, E: RaftRuntime> {
    pub raft: Raft<E>,
    pub facts: Arc<Facts>,
    pub dialer: Dialer<N>,
    pub env: E,
}

impl<N: Net, E: RaftRuntime> Repairer<N, E> {
    /// Runs until dropped.
    pub async fn run(self) {
        let mut damage = self.store().damage();
        while damage.wait_for(|damage| !damage.suspects.is_empty()).await.is_some() {
            if let Err(error) = self.round().await {
                tracing::warn!(%error, "repairing failed; trying again in a while");
            }
            if !damage.get().suspects.is_empty() {
                tokio::select! { biased;
                    _ = damage.changed() => {}
                    () = self.env.sleep(Duration::from_millis(limits::REPAIR_RETRY_MS)) => {}
                }
            }
        }
    }

    /// Looks at every suspect once.
    async fn round(&self) -> Result<(), StorageError> {
        let store = self.store().clone();
        for patient in self.blocking(move || store.examine()).await? {
            match patient {
                Patient::Snapshot(name) => {
                    tracing::warn!(snapshot = name, "a snapshot is damaged: another one is due");
                    self.facts.snapshot_due.notify_one();
                }
                Patient::Segment(wounded) => self.treat(wounded).await?,
            }
        }
        Ok(())
    }

    async fn treat(&self, wounded: Wounded) -> Result<(), StorageError> {
        let (name, lost) = (wounded.name().to_owned(), wounded.lost.len());
        tracing::warn!(segment = name, lost, "a segment is damaged");
        let found = self.find(&wounded).await;
        let store = self.store().clone();
        let still = self.blocking(move || store.heal(wounded, found)).await?;
        if let Some(key) = still.first() {
            let lost = still.len();
            tracing::error!(segment = name, lost, first = %key, "damaged events are nowhere to be had");
            // If they are settled by now, the next snapshot does not need them.
            self.facts.snapshot_due.notify_one();
        }
        Ok(())
    }

    /// What can be had of the lost events.
    async fn find(&self, wounded: &Wounded) -> BTreeMap<PayloadKey, Payload> {
        let mut wanted: BTreeMap<_, _> =
            wounded.lost.iter().map(|lost| (lost.key, *lost)).collect();
        let mut found = BTreeMap::new();
        let mut take = |wanted: &mut BTreeMap<PayloadKey, _>, payloads: BTreeMap<_, Payload>| {
            for (key, payload) in payloads {
                let fits = |lost: &crate::storage::events::Lost| lost.is(&payload);
                if wanted.get(&key).is_some_and(fits) || planted(Bug::RepairUnchecked) {
                    wanted.remove(&key);
                    found.insert(key, payload);
                }
            }
        };
        let payloads = self.facts.payloads.clone();
        let keys: Vec<_> = wanted.keys().copied().collect();
        let here = self.env.blocking(move || payloads.read_elsewhere(&keys)).await;
        take(&mut wanted, here.unwrap_or_default());
        for member in self.others() {
            let link = Link::new(member, self.dialer.clone(), self.env.clone());
            // As long as it has something: an answer is limited.
            while !wanted.is_empty() {
                let before = wanted.len();
                let keys = wanted.keys().copied().take(limits::FETCH_KEYS_MAX).collect();
                take(&mut wanted, self.ask(&link, keys).await);
                if wanted.len() == before {
                    break;
                }
            }
        }
        found
    }

    async fn ask(&self, link: &Link<E>, keys: Vec<PayloadKey>) -> BTreeMap<PayloadKey, Payload> {
        match link.call(&Request::Fetch { keys }, Vec::new(), FETCH_MAX).await {
            Ok((Response::Fetched, records)) => decode(records),
            Ok((other, _)) => {
                tracing::debug!(?other, "a member has no answer to a question for events");
                BTreeMap::new()
            }
            Err(error) => {
                tracing::debug!(%error, "a member could not be asked for events");
                BTreeMap::new()
            }
        }
    }

    /// Voters and learners, but for this node.
    fn others(&self) -> Vec<Member> {
        let metrics = self.raft.server_metrics();
        let metrics = metrics.borrow_watched();
        let nodes = metrics.membership_config.membership().nodes();
        let me = self.dialer.identity.node;
        nodes.map(|(_, member)| member.clone()).filter(|member| member.id != me).collect()
    }

    fn store(&self) -> &EventStore {
        &self.facts.payloads.store
    }

    async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> Result<T, StorageError> + Send + 'static,
    ) -> Result<T, StorageError> {
        self.env.blocking(work).await.unwrap_or(Err(StorageError::Closed))
    }
}

/// Takes records apart; what is not whole is left out.
fn decode(mut records: Bytes) -> BTreeMap<PayloadKey, Payload> {
    let next = || record::next(&mut records);
    std::iter::from_fn(next)
        .filter_map(|(key, bytes)| Some((key, record::decode(bytes)?)))
        .collect()
}

/// Answers a member's question for events.
pub(super) async fn answer<E: RaftRuntime>(
    replica: &Replica<E>,
    mut keys: Vec<PayloadKey>,
) -> (Response, Bytes) {
    if keys.len() > limits::FETCH_KEYS_MAX {
        let asked = keys.len();
        let most = limits::FETCH_KEYS_MAX;
        return (Response::Failed(format!("{asked} events at once, at most {most}")), Bytes::new());
    }
    let applied = replica.read(crate::machine::Machine::applied);
    keys.retain(|key| key.index <= applied);
    let mut records = Vec::new();
    let of = |key: PayloadKey| match planted(Bug::RepairUnchecked) {
        true => PayloadKey { position: key.position + 1, ..key },
        false => key,
    };
    let read = replica.payloads(keys.iter().map(|key| of(*key)).collect()).await;
    for (key, payload) in keys.iter().zip(read) {
        if let Ok(payload) = payload {
            record::encode(*key, &payload, &mut records);
        }
        if records.len() > limits::FETCH_BYTES_MAX {
            break;
        }
    }
    (Response::Fetched, records.into())
}
