//! Tiny histories for the tests of invariants.

use super::{Invariant, Judge, Rules};
use crate::history::*;

/// A history in the making. Unless said otherwise the channel is `c`, the lane `l`, the consumer
/// `w`, its client `w/1`, an event's number on its lane is its id, and its digest ten times that.
#[derive(Clone)]
pub(super) struct Story {
    at: u64,
    by: String,
    asks: u64,
    pub records: Vec<Record>,
}

/// A story at its beginning.
pub(super) fn story() -> Story {
    Story { at: 1_000_000, by: "w/1".into(), asks: 0, records: Vec::new() }
}

/// A linearizable view with one channel.
pub(super) fn view(last_seq: u64, proxies: &[ProxyView]) -> ClusterView {
    let channel = ChannelView {
        name: "c".into(),
        accepted: last_seq,
        last_seq,
        retained: 0,
        proxies: proxies.to_vec(),
    };
    ClusterView { linearizable: true, channels: vec![channel], ..ClusterView::default() }
}

/// The ledger of `w` with these acked and pending.
pub(super) fn proxy(acked: u64, pending: u64) -> ProxyView {
    let offered = acked + pending;
    ProxyView { name: "w".into(), offered, acked, pending, ..ProxyView::default() }
}

/// A delivery of `w`, for the first time.
pub(super) fn delivery(event: EventId, seq: u64) -> What {
    What::Delivered {
        consumer: "w".into(),
        channel: "c".into(),
        seq,
        lane: 9,
        number: event,
        event: Some(event),
        digest: event * 10,
        delivery: 1,
        marked: false,
        tenure: 0,
        accepted_us: 0,
    }
}

/// The same, delivered in this tenure and accepted at this millisecond.
pub(super) fn in_tenure(mut what: What, of: u64, accepted_ms: u64) -> What {
    if let What::Delivered { tenure, accepted_us, .. } = &mut what {
        (*tenure, *accepted_us) = (of, accepted_ms * 1000);
    }
    what
}

/// Properties and values.
pub(super) fn wish(qos: &[(&str, &str)]) -> Wish {
    qos.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect()
}

impl Story {
    /// Time passes.
    pub fn wait(mut self, ms: u64) -> Story {
        self.at += ms * 1000;
        self
    }

    /// Who does what follows.
    pub fn by(mut self, by: &str) -> Story {
        self.by = by.into();
        self
    }

    pub fn then(mut self, what: What) -> Story {
        self.at += 1;
        self.records.push(Record { at: self.at, by: self.by.clone(), what });
        self
    }

    pub fn phase(self, phase: Phase) -> Story {
        self.then(What::Phase { phase })
    }

    pub fn publish(self, event: EventId) -> Story {
        self.publish_on("l", event, event)
    }

    pub fn publish_on(self, lane: &str, number: u64, event: EventId) -> Story {
        self.asking_on(lane, number, event, Asks::default())
    }

    /// Published with a wish.
    pub fn asking(self, event: EventId, asks: Asks) -> Story {
        self.asking_on("l", event, event, asks)
    }

    fn asking_on(self, lane: &str, number: u64, event: EventId, asks: Asks) -> Story {
        let (channel, lane, digest) = ("c".into(), lane.into(), event * 10);
        self.then(What::Publish { event, channel, lane, number, digest, bytes: 100, asks })
    }

    pub fn published(self, event: EventId, seq: u64) -> Story {
        let outcome = Outcome::Ok(Place { seq, duplicate: false });
        self.then(What::Published { event, outcome })
    }

    pub fn publish_fails(self, event: EventId, code: &str) -> Story {
        self.then(What::Published { event, outcome: Outcome::Fail(code.into()) })
    }

    pub fn publish_unknown(self, event: EventId) -> Story {
        self.then(What::Published { event, outcome: Outcome::Unknown("timeout".into()) })
    }

    /// Published and acknowledged.
    pub fn event(self, event: EventId, seq: u64) -> Story {
        self.publish(event).published(event, seq)
    }

    pub fn subscribed(self, after: u64) -> Story {
        self.subscribed_as(after, &[])
    }

    /// With this set for its proxy.
    pub fn subscribed_as(self, after: u64, qos: &[(&str, &str)]) -> Story {
        let qos = wish(qos);
        let (consumer, channel) = ("w".into(), "c".into());
        let (max_deliveries, ack_wait_ms, max_in_flight) = (None, 30_000, 4_096);
        self.then(What::Subscribed {
            consumer,
            channel,
            after,
            max_deliveries,
            ack_wait_ms,
            max_in_flight,
            qos,
        })
    }

    pub fn attached(self) -> Story {
        self.then(What::Attached { consumer: "w".into() })
    }

    pub fn detached(self) -> Story {
        self.then(What::Detached { consumer: "w".into(), why: "closed".into() })
    }

    pub fn delivered(self, event: EventId, seq: u64) -> Story {
        self.then(delivery(event, seq))
    }

    /// Delivered as the `nth`, and marked.
    pub fn redelivered(self, event: EventId, seq: u64, nth: u32) -> Story {
        let mut what = delivery(event, seq);
        if let What::Delivered { delivery, marked, .. } = &mut what {
            (*delivery, *marked) = (nth, true);
        }
        self.then(what)
    }

    /// Delivered for the first time in this tenure, accepted at this millisecond.
    pub fn delivered_in(self, tenure: u64, event: EventId, seq: u64, accepted_ms: u64) -> Story {
        self.then(in_tenure(delivery(event, seq), tenure, accepted_ms))
    }

    /// An operator asks for a change.
    pub fn redefine(self, ask: u64, to: Definition) -> Story {
        self.then(What::Redefine { ask, consumer: "w".into(), to })
    }

    /// Which was committed at this place of the log.
    pub fn redefined(self, ask: u64, index: u64, tenure: u64) -> Story {
        self.then(What::Redefined { ask, outcome: Outcome::Ok(Cut { index, tenure }) })
    }

    pub fn settle(self, seqs: &[u64], verdict: Verdict) -> Story {
        self.then(What::Settle { consumer: "w".into(), seqs: seqs.to_vec(), verdict })
    }

    pub fn settled(self, seqs: &[u64], verdict: Verdict, outcome: Outcome<()>) -> Story {
        self.then(What::Settled { consumer: "w".into(), seqs: seqs.to_vec(), verdict, outcome })
    }

    /// Acked and confirmed.
    pub fn acks(self, seqs: &[u64]) -> Story {
        self.settle(seqs, Verdict::Ack).settled(seqs, Verdict::Ack, Outcome::Ok(()))
    }

    pub fn ask(self, ask: u64) -> Story {
        self.then(What::AskStatus { ask, via: 1 })
    }

    pub fn answer(self, ask: u64, view: ClusterView) -> Story {
        self.then(What::Status { ask, outcome: Outcome::Ok(view) })
    }

    /// Asked and answered.
    pub fn status(mut self, view: ClusterView) -> Story {
        self.asks += 1;
        let ask = 1000 + self.asks;
        self.ask(ask).answer(ask, view)
    }

    pub fn node(self, node: u64, view: NodeView) -> Story {
        self.then(What::Node { node, view })
    }

    /// A node that leads in a term, and serves the tenure of ten times that number.
    pub fn leads(self, node: u64, term: u64) -> Story {
        let (role, leader, tenure) = ("leader".into(), Some(node), Some(term * 10));
        self.node(node, NodeView { role, term, leader, tenure, life: 1, ..NodeView::default() })
    }

    pub fn fault(self, stage: Stage) -> Story {
        let (fault, detail) = ("kill".into(), String::new());
        self.then(What::Fault { fault, targets: vec![1], stage, detail })
    }
}

/// What an invariant says of a history.
pub(super) fn judge(mut one: impl Invariant, story: Story, drained: bool) -> Vec<String> {
    let seen = |record: &Record| one.observe(record).err();
    let mut found: Vec<String> = story.records.iter().filter_map(seen).collect();
    found.extend(one.finish(drained));
    found
}

/// The invariant holds for a history.
#[track_caller]
pub(super) fn holds(one: impl Invariant, story: Story) {
    assert_eq!(judge(one, story, true), Vec::<String>::new());
}

/// The invariant finds exactly one thing wrong, and says so.
#[track_caller]
pub(super) fn catches(one: impl Invariant, story: Story, says: &str) {
    let found = judge(one, story, true);
    assert!(matches!(&found[..], [one] if one.contains(says)), "{found:?}");
}

/// Which invariants a history breaks.
pub(super) fn broken(story: &Story, rules: Rules) -> Vec<String> {
    let mut judge = Judge::new(rules);
    story.records.iter().for_each(|record| drop(judge.observe(record)));
    let mut names: Vec<String> = judge.finish(true).into_iter().map(|v| v.invariant).collect();
    names.dedup();
    names
}
