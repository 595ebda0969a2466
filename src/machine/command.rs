//! What can be asked of the replicated machine, and what it answers.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::types::{
    ChannelId, LaneId, Member, Name, NodeId, Opener, Outcome, ProxyId, Qos, QosChange, Rejection,
    Seq, SeqRange, SeqRanges, Side, Stamp, Start, Subscription, Tenure, TypePattern,
};

/// The content of one log entry: commands of many sources under one stamp and tenure.
#[derive(Debug, Clone, PartialEq)]
pub struct Batch {
    /// The tenure it was proposed in. A batch of another tenure is refused whole
    /// (`tenure_lost`), except one that begins a tenure.
    pub tenure: Tenure,
    /// Replicated time of the batch; the machine's time never runs backwards.
    pub stamp: Stamp,
    pub commands: Vec<Command>,
}

/// One change asked of the machine. Each is answered by one [`Reply`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Command {
    /// A leader takes office; the entry's log index becomes the tenure.
    BeginTenure {
        node: NodeId,
    },
    CreateChannel {
        name: Name,
        /// What is set for it from its beginning on.
        qos: Qos,
    },
    DeleteChannel {
        channel: ChannelId,
    },
    /// Creates a durable consumer proxy. If one of that name exists with all that is asked for, the
    /// answer is that one (attaching is idempotent); else it is `proxy_exists`.
    CreateProxy {
        channel: ChannelId,
        name: Name,
        start: Start,
        /// Of which consumer admin; an existing proxy must be of it, too. `None`: the default one,
        /// or whichever an existing proxy is of.
        admin: Option<Name>,
        /// What is set for the proxy itself; an existing one must have all of it.
        qos: Qos,
        /// The types of events that it wants, which an existing one must want, too. None named:
        /// everything, or whatever an existing one wants.
        types: Subscription,
    },
    DeleteProxy {
        proxy: ProxyId,
    },
    /// Creates an admin; refused if there is one of that name on that side.
    CreateAdmin {
        channel: ChannelId,
        side: Side,
        name: Name,
        qos: Qos,
        /// The types of events that its proxies get.
        types: Subscription,
    },
    /// Deletes an admin with its proxies or lanes. The default ones stay.
    DeleteAdmin {
        channel: ChannelId,
        side: Side,
        name: Name,
    },
    /// Changes the quality of service; all of it, or nothing if a part of it cannot be.
    SetQos {
        target: Target,
        changes: Vec<QosChange>,
    },
    /// Suspended proxies, and those of suspended admins, deliver nothing; such lanes take nothing.
    Suspend {
        target: Target,
        suspended: bool,
    },
    /// Opens a lane: a new one, the one of this name, or the one of this id. Raises its epoch,
    /// which fences whoever used it before. Refused if a later opening of the same client was
    /// applied before this one: it would fence the client by what itself has given up.
    OpenLane {
        channel: ChannelId,
        target: LaneTarget,
        opener: Opener,
        /// Of which supplier admin; an existing lane must be of it, too. `None`: the default one,
        /// or whichever an existing lane is of.
        admin: Option<Name>,
    },
    /// Forgets lanes unused since before the batch's stamp minus the idle limit. Unknown or since
    /// used lanes are skipped.
    ExpireLanes {
        lanes: Vec<LaneId>,
    },
    Publish(Publish),
    /// Steps over refused sequences: the lane continues after `through`.
    SkipSequences {
        lane: LaneId,
        epoch: u32,
        through: u64,
    },
    Settle(Settle),
    /// Counts one delivery attempt for each sequence, so that a poison event stays bounded. At most
    /// [`limits::ATTEMPTS_PER_COMMAND_MAX`](crate::types::limits::ATTEMPTS_PER_COMMAND_MAX).
    CountAttempts {
        proxy: ProxyId,
        sequences: SeqRanges,
    },
    /// Asks for the state hash at this place of the log.
    Checkpoint,
    /// Dead letters of a dead-letter channel go back to the channels they came from, each as a new
    /// event with the same payload; then they are letters no more. At most
    /// [`limits::LETTERS_PER_COMMAND_MAX`](crate::types::limits::LETTERS_PER_COMMAND_MAX).
    ReplayLetters {
        channel: ChannelId,
        sequences: SeqRanges,
        to: ReplayTo,
    },
    /// Dead letters are given up; as many at most.
    DropLetters {
        channel: ChannelId,
        sequences: SeqRanges,
    },
    /// Forgets what is too old at the batch's stamp for the history of these channels. Where
    /// something happens anyway, that does it.
    TrimHistory {
        channels: Vec<ChannelId>,
    },
    /// Whose turn it is to consume from an exclusive proxy. A new holder has a new fencing token,
    /// with which what was delivered before cannot be settled any more; nobody: it keeps its token
    /// until there is another.
    Hold {
        proxy: ProxyId,
        holder: Option<Member>,
    },
    /// Changes which types of events an admin or a proxy wants (OMG `subscription_change`); what is
    /// added and removed counts as added. It is about all events that are not settled.
    Subscribe {
        target: Target,
        add: Vec<TypePattern>,
        remove: Vec<TypePattern>,
    },
    /// These proxies have clients, or had until just now.
    MarkActive {
        proxies: Vec<ProxyId>,
    },
    /// Deletes those of these proxies that had no client for as long as theirs may be.
    ExpireProxies {
        proxies: Vec<ProxyId>,
    },
}

/// Who gets a dead letter that is replayed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ReplayTo {
    /// The proxy that gave it up; for the others it ends as `skipped` at once.
    #[default]
    Proxy,
    /// All proxies of the channel it came from.
    All,
}

/// What is changed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Target {
    Channel(ChannelId),
    Admin(ChannelId, Side, Name),
    Proxy(ProxyId),
    Lane(LaneId),
}

/// Which lane to open.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum LaneTarget {
    /// A new, nameless lane.
    Fresh,
    /// The lane of this name in the channel, created if there is none.
    Named(Name),
    /// An existing lane; refused with `unknown_lane` if it expired.
    Existing(LaneId),
}

/// Consecutive events of one lane.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Publish {
    pub channel: ChannelId,
    pub lane: LaneId,
    pub epoch: u32,
    /// Lane sequence of the first event; lane sequences count from 1.
    pub first_sequence: u64,
    /// How many events the block holds.
    pub count: u32,
    /// The events: per event `u32` length (little endian), then its bytes. Checked by the session
    /// before it is proposed, and shared with the frame it came in.
    pub events: Bytes,
}

/// Events of one proxy that came to an end. Sequences never offered to the proxy are ignored.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Settle {
    pub proxy: ProxyId,
    /// The definition revision of the proxy under which `filtered`, `expired` and `discarded` were
    /// judged; those parts are refused if the definition changed since.
    pub revision: u64,
    /// Of an exclusive proxy: the token under which its consumer spoke. With another than the current
    /// one nothing that a consumer said counts. 0: no consumer spoke, or it is not exclusive.
    pub fencing: u64,
    /// Parts in order; if two name the same sequence the first wins.
    pub parts: Vec<SettlePart>,
}

/// Sequences that end the same way.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SettlePart {
    pub outcome: Outcome,
    pub sequences: SeqRanges,
    /// For `dead_lettered`: why, in words (kept beside the dead letter).
    pub reason: String,
}

/// The answer to one command.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Reply {
    /// Deterministically refused; nothing changed. `tenure_lost` here is definite: the command
    /// took no effect.
    Rejected(Rejection),
    TenureBegun {
        tenure: Tenure,
    },
    ChannelCreated {
        channel: ChannelId,
    },
    ProxyReady {
        proxy: ProxyId,
        revision: u64,
        start_seq: Seq,
        created: bool,
    },
    LaneOpened {
        lane: LaneId,
        epoch: u32,
        /// The epoch since which only this client has opened the lane.
        held_since: u32,
        last_sequence: u64,
    },
    Published(Published),
    Settled(Settled),
    Checkpoint {
        index: u64,
        hash: u64,
    },
    /// A definition changed. What a leader decides once it has applied the entry at `index` follows
    /// the new one, for all events; `next_seq` is the first that had not been accepted before.
    Changed {
        index: u64,
        next_seq: Seq,
    },
    /// Done, and there is nothing more to say.
    Done,
    /// What became of each dead letter that was named, in the order of the command.
    Letters(Vec<LetterRun>),
    /// The current token of an exclusive proxy.
    Held {
        fencing: u64,
    },
    /// The proxies that were deleted.
    Expired(Vec<(ProxyId, ChannelId, Name)>),
}

/// Consecutive dead letters to which the same happened.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LetterRun {
    /// Their sequences in the dead-letter channel.
    pub letters: SeqRange,
    pub fate: LetterFate,
}

/// What became of dead letters.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum LetterFate {
    /// They are events of `channel` again, from sequence `first` on.
    Replayed {
        channel: ChannelId,
        first: Seq,
    },
    Dropped,
    /// There are no such letters, or not any more.
    Unknown,
    /// They are letters still.
    Refused(Rejection),
}

/// What became of a publish on a known lane and epoch (else the answer is `Rejected`): answered
/// runs in lane order, then possibly a refusal of the rest (`channel_full`, `out_of_sequence`).
/// After a refusal the lane expects the first refused sequence again.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Published {
    pub runs: Vec<PublishRun>,
    pub refused: Option<Rejection>,
}

/// Consecutive lane sequences that lie consecutively in the channel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct PublishRun {
    pub first_sequence: u64,
    pub count: u32,
    /// Channel sequence of the first; 0 when it was accepted so long ago that its place is
    /// forgotten (it *was* accepted).
    pub first_seq: Seq,
    /// Accepted by an earlier command; this is its original place.
    pub duplicate: bool,
}

/// What became of a settlement.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Settled {
    /// Events this command settled, of any outcome.
    pub settled: u64,
    /// Sequences settled before (also by an earlier part of this command), with the winner while it
    /// is known: as long as an event before them is unsettled.
    pub already: Vec<(SeqRange, Option<Outcome>)>,
    /// Judgements refused because the definition changed; they are still pending.
    pub stale: u64,
    /// Where dead letters went: the dead-letter channel and their sequences there.
    pub dead_letters: Option<(ChannelId, SeqRange)>,
}
