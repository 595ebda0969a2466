//! Looks at nodes more closely than any administrator could: what each shows of itself, every entry
//! it knows to be committed, the hash of its state, and at the end everything it stores.

use aqueduct::consensus::Replica;
use aqueduct::machine::{Batch, Command, Machine};
use aqueduct::types::{Outcome, PayloadKey};
use bytes::Bytes;

use super::env::SimEnv;
use super::world::{Slot, World};
use crate::history::{Judgement, NodeView, What, body};

/// Bytes of log looked at in one go.
const LOOK_BYTES: usize = 1 << 20;

impl World {
    /// Takes down what each node shows of itself, and what it newly knows to be committed.
    pub fn observe(&self) {
        for slot in self.slots() {
            self.look_at(slot);
        }
    }

    fn look_at(&self, slot: Slot) {
        let Some(replica) = self.replica(slot) else { return };
        let Some((life, seen, log)) = self.seen(slot) else { return };
        let node = self.id(slot);
        let by = format!("node-{node}");
        let status = replica.status();
        let view = NodeView {
            life,
            role: format!("{:?}", status.role).to_lowercase(),
            term: status.term,
            leader: status.leader.map(|leader| leader.0),
            tenure: status.tenure.map(|tenure| tenure.0),
            applied: status.applied,
            committed: status.committed,
            snapshot_index: status.snapshot_index,
        };
        self.record(&by, What::Node { node, view });
        let received = status.snapshots.received;
        let fresh = received.saturating_sub(self.set_received(slot, received));
        if fresh > 0 {
            let text = format!("{} bytes so far", status.snapshots.received_bytes);
            let key = "snapshots_received".into();
            self.record(&by, What::Note { key, count: fresh, text });
        }
        let first = seen.max(status.purged) + 1;
        let (mut last, wanted) = (first - 1, first..status.committed + 1);
        if !wanted.is_empty() {
            for entry in log.read(wanted, LOOK_BYTES).unwrap_or_default() {
                last = entry.id.index;
                let digest =
                    xxhash_rust::xxh3::xxh3_64_with_seed(&entry.body, u64::from(entry.kind));
                let (index, term) = (entry.id.index, entry.id.term);
                self.record(&by, What::Committed { node, index, term, digest });
                if self.is_news(index) {
                    self.tell_judgements(&by, &replica, index, entry.body);
                }
            }
        }
        let (index, hash) = replica.read(|machine| (machine.applied(), machine.hash()));
        if self.set_seen(slot, last, index) != Some(index) {
            self.record(&by, What::StateHash { node, index, hash, ledger_ok: true });
        }
    }

    /// Takes down what leaders judged, from an entry that nobody looked at before.
    fn tell_judgements(&self, by: &str, replica: &Replica<SimEnv>, index: u64, entry: Bytes) {
        // Entries of consensus itself are no batches.
        let Ok(batch) = Batch::decode(entry) else { return };
        let (tenure, stamp_us) = (batch.tenure.0, batch.stamp.0);
        for command in &batch.commands {
            let Command::Settle(settle) = command else { continue };
            let name = |machine: &Machine| Some(machine.proxy(settle.proxy)?.name().to_string());
            let Some(consumer) = replica.read(name) else { continue };
            for part in &settle.parts {
                let judgement = match part.outcome {
                    Outcome::Expired => Judgement::Expired,
                    Outcome::Discarded => Judgement::Discarded,
                    _ => continue,
                };
                let seqs = part.sequences.iter().flat_map(|range| range.first..=range.last);
                let (consumer, seqs) = (consumer.clone(), seqs.collect());
                let what = What::Judged { index, tenure, stamp_us, consumer, judgement, seqs };
                self.record(by, what);
            }
        }
    }

    /// Walks every ledger, sums every hash anew, and reads every event that a node retains.
    pub async fn audit(&self) {
        for slot in self.slots() {
            self.audit_state(slot);
            self.audit_store(slot, false).await;
        }
    }

    /// Reads every event of nodes whose disk was hit and that did not find out: what they cannot
    /// read they may say, but what they read must be what was published.
    pub async fn audit_damaged(&self) {
        for slot in self.damaged() {
            self.audit_store(slot, true).await;
        }
    }

    fn audit_state(&self, slot: Slot) {
        let Some(replica) = self.replica(slot) else { return };
        let node = self.id(slot);
        let (index, hash, kept, ledger) = replica.read(|machine| {
            (machine.applied(), machine.recompute_hash(), machine.hash(), machine.check_ledger())
        });
        if let Err(reason) = &ledger {
            self.note("broken_ledgers", &format!("node {node} at {index}: {reason}"));
        }
        let ledger_ok = ledger.is_ok() && hash == kept;
        self.record(&format!("node-{node}"), What::StateHash { node, index, hash, ledger_ok });
    }

    async fn audit_store(&self, slot: Slot, damaged: bool) {
        let Some(replica) = self.replica(slot) else { return };
        let node = self.id(slot);
        let retained: Vec<(String, u64, PayloadKey)> = replica.read(|machine| {
            let places = machine.channels().flat_map(|channel| {
                let name = channel.name().to_string();
                let places = channel.first_retained()..channel.next_seq();
                places.filter_map(move |seq| Some((name.clone(), seq, channel.slot(seq)?.key())))
            });
            places.collect()
        });
        let keys = retained.iter().map(|(_, _, key)| *key).collect();
        for ((channel, seq, _), found) in retained.into_iter().zip(replica.payloads(keys).await) {
            let (event, digest, problem) = match found {
                Ok(payload) => {
                    let body = &payload.event.body();
                    (body::event(body), body::digest(body), None)
                }
                Err(_) if damaged => continue,
                Err(error) => (None, 0, Some(error.to_string())),
            };
            let what = What::Stored { node, channel, seq, event, digest, problem };
            self.record(&format!("node-{node}"), what);
        }
    }
}
