//! What dispatch must know of the replicated state.

use crate::types::{ChannelId, PayloadKey, ProxyId, ProxySettings, Seq};

/// A view of the replicated facts, the same for the whole of one call.
///
/// Answers are exact as of some applied index; a later call may see a later index, never an
/// earlier one. Unknown ids answer `None` (removed, or never there).
pub trait Facts {
    /// The first event at or after `from` that the proxy has not settled.
    fn next_unsettled(&self, proxy: ProxyId, from: Seq) -> Option<Seq>;

    /// Whether the proxy still waits for this event.
    fn is_pending(&self, proxy: ProxyId, seq: Seq) -> bool;

    /// An event that is pending somewhere or retained as history.
    fn slot(&self, channel: ChannelId, seq: Seq) -> Option<SlotFacts>;

    /// The first retained event at or after `from`.
    fn next_retained(&self, channel: ChannelId, from: Seq) -> Option<(Seq, SlotFacts)>;

    /// The sequence that the channel's next event will get; `None` if there is no such channel.
    fn next_seq(&self, channel: ChannelId) -> Option<Seq>;

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
}

/// A durable proxy's definition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProxyFacts {
    pub channel: ChannelId,
    /// Rises with every change of the definition.
    pub revision: u64,
    pub settings: ProxySettings,
    /// The first event it is owed.
    pub start_seq: Seq,
}
