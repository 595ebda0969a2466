//! The replica as sessions and delivery see it.

use std::collections::BTreeSet;
use std::future::Future;

use super::cluster::{Changes, Cluster, Done};
use crate::consensus::{self, ProposeError, RaftRuntime, Replica};
use crate::machine::{Command, Machine};
use crate::types::{ChannelId, Payload, PayloadKey, Rejection, Stamp, Tenure, limits};

impl<E: RaftRuntime> Cluster for Replica<E> {
    type Changes = consensus::Changes;

    fn submit(&self, source: u64, command: Command, done: Done) {
        let done = move |outcome: Result<_, ProposeError>| done(outcome.map_err(Rejection::from));
        Replica::submit(self, source, command, Box::new(done));
    }

    fn is_congested(&self) -> bool {
        self.waiting_bytes() > limits::POLL_WAITING_BYTES_MAX
    }

    fn read<T>(&self, look: impl FnOnce(&Machine) -> T) -> T {
        Replica::read(self, look)
    }

    fn now(&self) -> Stamp {
        Replica::now(self)
    }

    fn tenure(&self) -> Option<Tenure> {
        self.leadership().peek().tenure
    }

    fn tenure_after(&self, seen: Option<Tenure>) -> impl Future<Output = Option<Tenure>> + Send {
        let mut leadership = self.leadership();
        async move {
            match leadership.wait_for(|now| now.tenure != seen).await {
                Some(now) => now.tenure,
                None if seen.is_some() => None,
                // The replica has stopped: there will be no tenure.
                None => std::future::pending().await,
            }
        }
    }

    async fn confirm(&self) -> Result<(), Rejection> {
        self.linearize().await.map(|_| ()).map_err(Rejection::from)
    }

    fn not_serving(&self) -> Rejection {
        ProposeError::NotLeader { leader: self.leadership().peek().leader }.into()
    }

    fn changes(&self) -> consensus::Changes {
        Replica::changes(self)
    }

    fn cached_payload(&self, key: PayloadKey) -> Option<Payload> {
        Replica::cached_payload(self, key)
    }

    async fn payloads(&self, keys: Vec<PayloadKey>) -> Vec<Result<Payload, String>> {
        let loaded = Replica::payloads(self, keys).await;
        loaded.into_iter().map(|payload| payload.map_err(|error| error.to_string())).collect()
    }
}

impl Changes for consensus::Changes {
    async fn next(&mut self) -> Option<BTreeSet<ChannelId>> {
        let channels = consensus::Changes::next(self).await;
        (!channels.is_empty()).then_some(channels)
    }
}
