//! openraft's view of the machine: entries in, replies out, snapshots of both kinds.
//!
//! - Apply never waits for the disk and never destroys anything; a committed entry that does not
//!   decode stops the node.
//! - The builder gets a clone of the machine, which shares its chunks, so apply goes on meanwhile.
//! - An installed snapshot replaces the machine only after it has been decoded whole and its hash
//!   compared.

use std::io;
use std::sync::Arc;

use futures::{Stream, StreamExt};
use openraft::OptionalSend;
use openraft::storage::{EntryResponder, RaftStateMachine};

use crate::machine::{Batch, Machine, Reply};
use crate::planted::{Bug, planted};
use crate::storage::StorageError;
use crate::types::Stamp;

use super::clock::SoftClock;
use super::config::{Proposal, RaftLogId, RaftPayload, RaftRuntime, Replies, SnapshotMeta, Types};
use super::entry::entry_id;
use super::facts::Facts;
use super::snapshot::{Builder, Image, RaftSnapshot, SnapshotData, held_snapshot};

/// The machine of this node, for openraft.
pub(super) struct StateMachine<E> {
    facts: Arc<Facts>,
    clock: SoftClock<E>,
    env: E,
    state: Image,
}

impl<E: RaftRuntime> StateMachine<E> {
    /// A machine that has applied nothing; openraft installs what is on disk.
    pub fn new(facts: Arc<Facts>, clock: SoftClock<E>, env: E) -> StateMachine<E> {
        StateMachine { facts, clock, env, state: Image::default() }
    }

    fn apply_batch(&self, index: u64, entry: Proposal) -> io::Result<Replies> {
        let bytes = entry.0.len();
        let mut batch = Batch::decode(entry.0).map_err(|error| {
            io::Error::other(format!("committed log entry {index} does not decode: {error}"))
        })?;
        if planted(Bug::WallClockInApply) {
            batch.stamp = Stamp(self.env.wall().as_micros() as u64);
        }
        let entry = self.facts.payloads.cache.keep(index, batch);
        let (replies, touched, stamp) = {
            let mut machine = self.facts.write();
            let replies = machine.apply(index, &entry.batch);
            (replies, machine.take_touched(), machine.stamp())
        };
        self.clock.observe(stamp);
        self.facts.audit(&replies, &self.env);
        self.facts.changes.mark(&touched);
        self.facts.grow(bytes);
        Ok(Replies(replies))
    }

    /// Makes `machine` the machine.
    fn replace(&mut self, machine: Machine, state: Image) {
        let channels = machine.channels().map(|channel| channel.id()).collect();
        self.observe(machine.stamp());
        if !planted(Bug::InstallKeepsOldFacts) || self.facts.read().applied() == 0 {
            *self.facts.write() = machine;
        }
        self.facts.members_seen(&state);
        self.state = state;
        self.facts.changes.mark(&channels);
    }

    fn observe(&self, stamp: Stamp) {
        self.clock.observe(stamp);
    }
}

impl<E: RaftRuntime> RaftStateMachine<Types<E>> for StateMachine<E> {
    type SnapshotData = SnapshotData;
    type SnapshotBuilder = Builder<E>;

    async fn applied_state(
        &mut self,
    ) -> io::Result<(Option<RaftLogId>, super::config::StoredMembership)> {
        Ok((self.state.last, self.state.membership.clone()))
    }

    async fn apply<S>(&mut self, mut entries: S) -> io::Result<()>
    where
        S: Stream<Item = io::Result<EntryResponder<Types<E>>>> + Unpin + OptionalSend,
    {
        while let Some(next) = entries.next().await {
            let (entry, responder) = next?;
            let log_id = entry.log_id;
            let replies = match entry.payload {
                RaftPayload::Normal(entry) => self.apply_batch(log_id.index, entry)?,
                payload => {
                    self.facts.write().pass(log_id.index);
                    if let RaftPayload::Membership(membership) = payload {
                        self.state.enter(log_id, membership);
                        self.facts.members_seen(&self.state);
                    }
                    Replies::default()
                }
            };
            self.state.last = Some(log_id);
            let settles = |reply: &Reply| matches!(reply, Reply::Settled(_));
            if planted(Bug::PayloadDeletedByApply)
                && replies.0.iter().any(settles)
                && self.facts.read().channels().all(|channel| channel.pending().events == 0)
            {
                self.facts.payloads.log.purge(entry_id(&log_id), Box::new(drop));
            }
            if let Some(responder) = responder {
                responder.send(replies);
            }
        }
        Ok(())
    }

    async fn get_snapshot_builder(&mut self) -> Builder<E> {
        self.facts.snapshot_begins();
        let machine = self.facts.read().clone();
        Builder::new(machine, self.state.clone(), self.facts.clone(), self.env.clone())
    }

    async fn install_snapshot(
        &mut self,
        meta: &SnapshotMeta,
        snapshot: SnapshotData,
    ) -> io::Result<()> {
        let facts = self.facts.clone();
        let loaded = self.env.blocking(move || snapshot.load(&facts.payloads.store)).await;
        let loaded = loaded.ok_or_else(|| io::Error::other("the load was aborted"))?;
        let (state, machine) = loaded.inspect_err(|error| {
            StorageError::within(error).into_iter().for_each(|error| self.facts.failed(error));
        })?;
        if state.last < meta.last_log_id {
            return Err(io::Error::other(format!(
                "the snapshot ends with {:?}, not with {:?} as announced",
                state.last, meta.last_log_id
            )));
        }
        self.replace(machine, state);
        self.facts.snapshot_begins();
        self.facts.snapshot_stored();
        Ok(())
    }

    async fn get_current_snapshot(&mut self) -> io::Result<Option<RaftSnapshot>> {
        held_snapshot(&self.facts.payloads.store)
    }
}
