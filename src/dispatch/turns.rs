//! Whose turn it is: channels take turns, and within each its scheduling policy decides.

use std::collections::{BTreeMap, BTreeSet};

use super::dispatcher::Owner;
use crate::schedule::{Claim, Policy, RoundRobin, Scheduler};
use crate::types::{ChannelId, Scheduling, Stamp};

/// How a proxy fared with the scheduler.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct TurnStats {
    /// Turns it had in this tenure.
    pub turns: u64,
    /// The longest it waited for one, in milliseconds.
    pub longest_wait_ms: u64,
    /// Since when it waits for one, if it does.
    pub waiting_since: Option<Stamp>,
}

/// Those that something is to be done for.
#[derive(Debug, Default)]
pub(super) struct Turns {
    /// Something happened to these; they contend from the next round on.
    woken: BTreeSet<Owner>,
    channels: RoundRobin<ChannelId>,
    contenders: BTreeMap<ChannelId, Scheduler<Owner>>,
    /// Turns and longest wait of each owner that had one.
    fared: BTreeMap<Owner, TurnStats>,
}

impl Turns {
    /// Something happened to this one.
    pub fn wake(&mut self, owner: Owner) {
        self.woken.insert(owner);
    }

    /// Takes those that something happened to.
    pub fn woken(&mut self) -> BTreeSet<Owner> {
        std::mem::take(&mut self.woken)
    }

    /// It contends from now on.
    pub fn contend(&mut self, channel: ChannelId, owner: Owner, claim: Claim, now: Stamp) {
        self.contenders.entry(channel).or_default().insert(owner, claim, now);
        self.channels.insert(channel);
    }

    /// From now on the channel goes by this policy.
    pub fn set_policy(&mut self, channel: ChannelId, scheduling: Scheduling) {
        let policy = Policy::from(scheduling);
        self.contenders.entry(channel).or_default().set_policy(policy);
    }

    /// Who has the turn, and how many events it may take.
    pub fn front(&mut self) -> Option<(ChannelId, Owner, usize)> {
        while let Some(channel) = self.channels.front() {
            let scheduler = self.contenders.get(&channel);
            let front =
                scheduler.and_then(|scheduler| Some((scheduler.front()?, scheduler.turn_max())));
            if let Some((owner, most)) = front {
                return Some((channel, owner, most));
            }
            self.channels.pop();
        }
        None
    }

    /// Its turn ended, with `given` events. `still`: it goes on contending.
    pub fn ended(
        &mut self,
        channel: ChannelId,
        owner: Owner,
        given: usize,
        still: bool,
        now: Stamp,
    ) {
        let Some(scheduler) = self.contenders.get_mut(&channel) else { return };
        self.channels.rotate();
        // One that is gone by now has no turns any more.
        let Some(since) = scheduler.since(owner) else { return };
        scheduler.served(owner, given as u64, still, now);
        let fared = self.fared.entry(owner).or_default();
        fared.turns += 1;
        fared.longest_wait_ms = fared.longest_wait_ms.max(now.millis_since(since));
    }

    /// It is gone.
    pub fn forget(&mut self, channel: ChannelId, owner: Owner) {
        self.woken.remove(&owner);
        self.fared.remove(&owner);
        if let Some(scheduler) = self.contenders.get_mut(&channel) {
            scheduler.remove(owner);
        }
    }

    /// The channel is gone.
    pub fn forget_channel(&mut self, channel: ChannelId) {
        self.contenders.remove(&channel);
    }

    /// Whether nobody waits for a turn.
    pub fn is_empty(&self) -> bool {
        self.woken.is_empty() && self.channels.is_empty()
    }

    /// How this one fared.
    pub fn stats(&self, channel: ChannelId, owner: Owner) -> TurnStats {
        let waiting_since = self.contenders.get(&channel).and_then(|s| s.since(owner));
        TurnStats { waiting_since, ..self.fared.get(&owner).copied().unwrap_or_default() }
    }
}
