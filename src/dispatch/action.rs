//! The words between dispatch and its driver.

use crate::types::{
    ChannelId, Member, Outcome, PayloadKey, ProxyId, Rejection, Seq, SeqRange, SeqRanges, Stamp,
    Subscription,
};

/// One attached consumer, numbered by the driver; a number is not reused within a tenure.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConsumerKey(pub u64);

/// What a consumer is attached to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Attachment {
    /// A share of a durable proxy's events.
    Durable(ProxyId),
    /// Every retained event of the channel from `next_seq` on that is of one of these types.
    Volatile { channel: ChannelId, next_seq: Seq, types: Subscription },
}

/// Who decides when the next event goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Events go while there is credit. Credit is a grant that deliveries use up; settling does
    /// not give it back, the consumer grants more.
    Push { events: u32, bytes: u64 },
    /// Events go in answer to [`Pull`]s.
    Pull,
}

/// A request for events.
///
/// It ends when it is full, at the end of the round that gave it anything, or at its deadline.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pull {
    /// The consumer's number for it; unique among its waiting pulls.
    pub request: u64,
    pub events_max: u32,
    /// The last event may exceed it.
    pub bytes_max: u64,
    /// When it ends although nothing came.
    pub deadline: Stamp,
}

/// How a consumer went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Departure {
    /// It said goodbye: what it had in flight was returned, which is no failed attempt.
    Returned,
    /// Its connection broke, perhaps because of what it was given: a failed attempt for each
    /// event in flight.
    Lost,
    /// It leaves its deliveries behind: they stay in flight until their leases end, since whoever
    /// knows their sequences may still settle them from elsewhere.
    LeavesLeases,
}

/// One event on its way to a consumer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Delivery {
    pub seq: Seq,
    pub key: PayloadKey,
    /// Bytes of the encoded event.
    pub size: u32,
    /// How often it has been delivered, this time included, as far as is known.
    pub delivery: u32,
    /// It may have been delivered before: accepted in an earlier tenure, or delivered in this one.
    pub maybe_redelivered: bool,
    /// The token of the holder of an exclusive proxy; 0: it is not exclusive.
    pub fencing: u64,
}

/// Events of a proxy that came to one kind of end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settlement {
    pub outcome: Outcome,
    pub sequences: SeqRanges,
    /// For dead letters: why, in words.
    pub reason: String,
}

/// What the driver is to do, in this order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Send these events. `proxy` is `None` for a volatile consumer.
    Deliver {
        consumer: ConsumerKey,
        proxy: Option<ProxyId>,
        channel: ChannelId,
        events: Vec<Delivery>,
    },
    /// Propose this, then report it as `applied`, `refused` or `failed`. `proposal`: the proxy's
    /// number for it.
    Settle { proxy: ProxyId, proposal: u64, revision: u64, fencing: u64, parts: Vec<Settlement> },
    /// The same for attempts that are to go on record.
    CountAttempts { proxy: ProxyId, proposal: u64, sequences: SeqRanges },
    /// Propose that an exclusive proxy is held by this member, or by nobody; then report it as `held`.
    Hold { proxy: ProxyId, holder: Option<Member> },
    /// Tell a volatile consumer what it missed because it is no longer retained.
    Gap { consumer: ConsumerKey, missed: SeqRange },
    /// A pull request ended, after its deliveries.
    PullDone { consumer: ConsumerKey, request: u64, delivered: u32 },
    /// The consumer is detached: what it was attached to is gone.
    Close { consumer: ConsumerKey, rejection: Rejection },
}
