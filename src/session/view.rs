//! What a session must know of the replicated state.

use crate::machine::Machine;
use crate::types::{ChannelId, LaneId, Name, ProxyId, Qos, Rejection, Seq, Stamp, Supply};

/// A short look at the replicated state.
pub trait View {
    /// The channel of this name.
    fn channel(&self, name: &Name) -> Option<ChannelView>;

    /// The sequence of the first event that it had; later ones of a best-effort channel are of this
    /// tenure.
    fn first_seq(&self, channel: ChannelId) -> Seq;

    /// The sequence the channel will give to its next event; 0 if it is gone.
    fn next_seq(&self, channel: ChannelId) -> Seq;

    /// The first retained event at or after `from`, or the next one.
    fn retained_from(&self, channel: ChannelId, from: Seq) -> Seq;

    /// The first retained event accepted at this time or later, in milliseconds since the Unix
    /// epoch, or the next one.
    fn retained_since(&self, channel: ChannelId, ms: u64) -> Seq;

    /// The durable proxy of this name.
    fn proxy(&self, channel: ChannelId, name: &Name) -> Option<ProxyView>;

    /// How a lane is polled; refused while it should not be, and if there is no such lane.
    fn supply(&self, lane: LaneId) -> Result<Supply, Rejection>;

    /// Whether anybody waits for the channel's events: a durable proxy, or a subscriber now.
    fn has_interest(&self, channel: ChannelId) -> bool;
}

/// A channel as a session sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChannelView {
    pub id: ChannelId,
    /// Only dead letters come here, by the machine's own hand.
    pub is_dead_letters: bool,
    /// Its events are in the leader's memory alone.
    pub best_effort: bool,
}

/// A durable proxy as a session sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProxyView {
    pub id: ProxyId,
    pub revision: u64,
    /// What is set for it alone.
    pub qos: Qos,
}

impl View for Machine {
    fn channel(&self, name: &Name) -> Option<ChannelView> {
        let channel = self.channel_by_name(name)?;
        Some(ChannelView {
            id: channel.id(),
            is_dead_letters: channel.is_dead_letters(),
            best_effort: channel.admission().best_effort,
        })
    }

    fn first_seq(&self, channel: ChannelId) -> Seq {
        Machine::channel(self, channel).map_or(1, |channel| channel.first_seq())
    }

    fn next_seq(&self, channel: ChannelId) -> Seq {
        Machine::channel(self, channel).map_or(0, |channel| channel.next_seq())
    }

    fn retained_from(&self, channel: ChannelId, from: Seq) -> Seq {
        let Some(channel) = Machine::channel(self, channel) else { return from };
        channel.next_retained(from).unwrap_or(channel.next_seq())
    }

    fn retained_since(&self, channel: ChannelId, ms: u64) -> Seq {
        let Some(channel) = Machine::channel(self, channel) else { return 1 };
        channel.retained_since(Stamp(0).plus_millis(ms)).unwrap_or(channel.next_seq())
    }

    fn proxy(&self, channel: ChannelId, name: &Name) -> Option<ProxyView> {
        let id = Machine::channel(self, channel)?.proxy(name)?;
        let proxy = Machine::proxy(self, id)?;
        Some(ProxyView { id, revision: proxy.revision(), qos: proxy.qos().clone() })
    }

    fn supply(&self, lane: LaneId) -> Result<Supply, Rejection> {
        Machine::supply(self, lane)
    }

    fn has_interest(&self, channel: ChannelId) -> bool {
        Machine::channel(self, channel).is_some_and(|channel| channel.proxies().next().is_some())
    }
}
