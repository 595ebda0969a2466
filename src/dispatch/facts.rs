//! What dispatch must know of the replicated state.

use std::sync::Arc;

use crate::types::{
    ChannelId, Discard, EventType, Interest, Member, PayloadKey, ProxyId, Scheduling, Seq,
    SeqRange, Service, Stamp, TypeId,
};

/// A view of the replicated facts, the same for the whole of one call.
///
/// Answers are exact as of some applied index; a later call may see a later index, never an
/// earlier one. Unknown ids answer `None` (removed, or never there).
pub trait Facts {
    /// The first event at or after `from` that the proxy has not settled.
    fn next_unsettled(&self, proxy: ProxyId, from: Seq) -> Option<Seq>;

    /// The last event at or before `upto` that the proxy has not settled.
    fn last_unsettled(&self, proxy: ProxyId, upto: Seq) -> Option<Seq>;

    /// The first run of consecutive unsettled events of the proxy, cut to begin at `from`.
    fn unsettled_from(&self, proxy: ProxyId, from: Seq) -> Option<SeqRange>;

    /// Whether the proxy still waits for this event.
    fn is_pending(&self, proxy: ProxyId, seq: Seq) -> bool;

    /// How many events the proxy waits for.
    fn pending(&self, proxy: ProxyId) -> u64;

    /// An event that is pending somewhere or retained as history.
    fn slot(&self, channel: ChannelId, seq: Seq) -> Option<SlotFacts>;

    /// The first retained event at or after `from`.
    fn next_retained(&self, channel: ChannelId, from: Seq) -> Option<(Seq, SlotFacts)>;

    /// The retained events at or after `from` that ask for something of their delivery, ascending.
    fn marked(&self, channel: ChannelId, from: Seq) -> impl Iterator<Item = (Seq, SlotFacts)>;

    /// The types that retained events of a channel have, but for none, with their numbers.
    fn types(&self, channel: ChannelId) -> impl Iterator<Item = (TypeId, &Arc<EventType>)>;

    /// The type of this number.
    fn event_type(&self, channel: ChannelId, id: TypeId) -> Option<&Arc<EventType>>;

    /// The types of the events of a range, as far as they are retained, in stretches of one type,
    /// ascending.
    fn types_in(
        &self,
        channel: ChannelId,
        range: SeqRange,
    ) -> impl Iterator<Item = (SeqRange, TypeId)>;

    /// Which types a proxy wants.
    fn interest(&self, proxy: ProxyId) -> Interest;

    /// Whether a channel has so little room, or such a limit, that what nobody wants must go at once.
    fn is_scarce(&self, channel: ChannelId) -> bool;

    /// The sequence that the channel's next event will get; `None` if there is no such channel.
    fn next_seq(&self, channel: ChannelId) -> Option<Seq>;

    /// The sequence that the channel's first event had or will have; likewise.
    fn first_seq(&self, channel: ChannelId) -> Option<Seq>;

    /// All channels.
    fn channels(&self) -> Vec<ChannelId>;

    /// A number that rises whenever the channel or one of its proxies is defined anew.
    fn definitions(&self, channel: ChannelId) -> u64;

    /// The durable proxies of a channel.
    fn proxies(&self, channel: ChannelId) -> Vec<ProxyId>;

    /// Which of its proxies is served next.
    fn scheduling(&self, channel: ChannelId) -> Scheduling;

    /// How many events too many proxies of the channel wait for, and which are to go. `None`: it
    /// has no limit, or refuses new events at it.
    fn overflow(&self, channel: ChannelId) -> Option<(u64, Discard)>;

    /// A durable proxy; `None` if there is no such proxy.
    fn proxy(&self, proxy: ProxyId) -> Option<ProxyFacts>;

    /// Failed attempts on record. Asked only for proxies with a limit of deliveries.
    fn attempts(&self, proxy: ProxyId, seq: Seq) -> u32;
}

/// One retained event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SlotFacts {
    pub key: PayloadKey,
    /// Bytes of the encoded event.
    pub size: u32,
    pub accepted: Stamp,
    /// Greater is more urgent.
    pub priority: i16,
    /// Not to be delivered before; 0: at once.
    pub start: Stamp,
    /// It expires then; 0: never.
    pub stop: Stamp,
    /// Its type.
    pub kind: TypeId,
    /// Proxies that wait for it.
    pub waiting: u32,
    /// It was a dead letter and was replayed: somebody may have had it before.
    pub again: bool,
}

/// A durable proxy's definition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProxyFacts {
    pub channel: ChannelId,
    /// Rises with every change of the definition.
    pub revision: u64,
    /// What holds for it.
    pub service: Service,
    /// It is suspended: nothing is delivered.
    pub rests: bool,
    /// It does not want every event: see [`Facts::interest`].
    pub picks: bool,
    /// Of an exclusive proxy: whose turn it is, if anybody's.
    pub holder: Option<Member>,
    /// And the token of the latest holder; 0: there was none, or the proxy is not exclusive.
    pub fencing: u64,
    /// The first event it is owed.
    pub start_seq: Seq,
}

impl ProxyFacts {
    /// Whether something is to be done for it although no consumer is there.
    pub fn acts_alone(&self) -> bool {
        self.picks || self.service.acts_alone()
    }
}
