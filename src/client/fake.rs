//! A cluster made of plain maps, for tests: what the rules of lanes, proxies and settlements say,
//! in the shortest form. It never loses what it has; connections to it may be lost at any point.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use crate::types::{
    ClusterId, Code, EventBytes, LaneId, Name, NodeId, Opener, Outcome, ProxyId, Rejection, Seq,
    SeqRange, SeqRanges, Stamp, Start, Tenure,
};
use crate::wire::{
    AckRun, Attach, AttachTarget, Attached, ClientMessage, Closed, Credit, Deliver, Delivery, Done,
    EventsBlock, Failed, FlowMode, Gap, LaneOpened, LaneTarget, OpenLane, Poll, Polled, Pong,
    Publish, PublishAck, Pull, PullDone, Serve, ServerMessage, Settle, SettleConfirmed, Skip,
    Welcome,
};

/// The body of an event that no server takes.
pub const SPOILT: &str = "spoilt";

/// What all servers of the cluster agree on.
#[derive(Debug, Default)]
pub struct FakeCluster {
    pub log: Vec<(LaneId, u64, EventBytes)>,
    pub lanes: BTreeMap<LaneId, FakeLane>,
    pub lane_names: BTreeMap<Name, LaneId>,
    pub proxies: BTreeMap<ProxyId, FakeProxy>,
    pub proxy_names: BTreeMap<Name, ProxyId>,
    /// Refusals of the next publishes: after this many events of it, and why.
    pub refusals: VecDeque<(usize, Code)>,
    /// Refusals of the next settlements.
    pub settle_refusals: VecDeque<Code>,
    /// Refusals of the next openings and attachings.
    pub open_refusals: VecDeque<Code>,
    /// Events before this one are not retained.
    pub first_retained: Seq,
    pub tenure: u64,
}

#[derive(Debug, Default)]
pub struct FakeLane {
    pub epoch: u32,
    /// Who opened it last, and since which epoch nobody else has.
    opener: Opener,
    held_since: u32,
    pub last: u64,
    pub results: BTreeMap<u64, Seq>,
}

#[derive(Debug, Default)]
pub struct FakeProxy {
    pub start: Seq,
    pub settled: BTreeMap<Seq, Outcome>,
    pub nacks: BTreeMap<Seq, u64>,
}

pub fn welcome() -> Welcome {
    Welcome {
        version: crate::wire::PROTOCOL_VERSION,
        cluster: ClusterId(1),
        node: NodeId(1),
        incarnation: 1,
        leader: true,
        event_bytes_max: 1 << 20,
        lane_in_flight_max: 8192,
        newest: 1,
    }
}

impl FakeLane {
    /// Opens it for `opener`, unless a later opening of the same client came first.
    pub fn open(&mut self, opener: Opener) -> Result<(), Rejection> {
        let again = self.epoch > 0 && self.opener.client == opener.client;
        if again && self.opener.attempt >= opener.attempt {
            return Err(Rejection::new(Code::LaneFenced, "overtaken by a later opening"));
        }
        self.epoch += 1;
        self.opener = opener;
        if !again {
            self.held_since = self.epoch;
        }
        Ok(())
    }
}

impl FakeCluster {
    fn open(&mut self, open: OpenLane) -> Result<LaneOpened, Rejection> {
        let OpenLane { request, target, opener, .. } = open;
        let lane = self.find(target)?;
        let facts = self.lanes.get_mut(&lane).expect("just found");
        facts.open(opener)?;
        let FakeLane { epoch, held_since, last, .. } = *facts;
        Ok(LaneOpened {
            request,
            lane,
            epoch,
            held_since,
            last_sequence: last,
            channel_interest: true,
            best_effort: false,
        })
    }

    fn find(&mut self, target: LaneTarget) -> Result<LaneId, Rejection> {
        if let Some(code) = self.open_refusals.pop_front() {
            return Err(Rejection::new(code, "told to refuse"));
        }
        let named = match &target {
            LaneTarget::Existing(lane) if self.lanes.contains_key(lane) => return Ok(*lane),
            LaneTarget::Existing(lane) => {
                return Err(Rejection::new(Code::UnknownLane, format!("no lane {lane}")));
            }
            LaneTarget::Named(name) => Some(name.clone()),
            LaneTarget::Fresh => None,
        };
        if let Some(&lane) = named.as_ref().and_then(|name| self.lane_names.get(name)) {
            return Ok(lane);
        }
        let lane = LaneId { index: self.lanes.len() as u64 + 1, position: 0 };
        self.lanes.insert(lane, FakeLane::default());
        named.map(|name| self.lane_names.insert(name, lane));
        Ok(lane)
    }

    fn publish(&mut self, publish: Publish) -> PublishAck {
        let Publish { lane: id, epoch, first_sequence, count, events } = publish;
        let ack = |runs, refused| PublishAck { lane: id, epoch, runs, refused };
        let refuse = |rejection| ack(vec![], Some(rejection));
        let block = EventsBlock::check(events, count, 1 << 20).expect("a well-formed block");
        let Some(lane) = self.lanes.get_mut(&id) else {
            return refuse(Rejection::new(Code::UnknownLane, "no such lane"));
        };
        if lane.epoch != epoch {
            return refuse(Rejection::new(Code::LaneFenced, "a newer epoch is open"));
        }
        if first_sequence > lane.last + 1 {
            return refuse(Rejection::out_of_sequence(first_sequence, lane.last + 1));
        }
        // As a session does, which looks at all events before any is proposed.
        if block.events().any(|event| event.body() == SPOILT) {
            return refuse(Rejection::new(Code::EventTooLarge, "spoilt"));
        }
        let refusal = self.refusals.pop_front();
        let mut runs: Vec<AckRun> = Vec::new();
        for (place, event) in block.events().enumerate() {
            let sequence = first_sequence + place as u64;
            if let Some((after, code)) = refusal
                && place >= after
                && sequence > lane.last
            {
                return ack(runs, Some(Rejection::new(code, "told to refuse")));
            }
            let duplicate = sequence <= lane.last;
            if duplicate && !lane.results.contains_key(&sequence) {
                return ack(runs, Some(Rejection::out_of_sequence(sequence, lane.last + 1)));
            }
            if !duplicate {
                self.log.push((id, sequence, event));
                lane.last = sequence;
                lane.results.insert(sequence, self.log.len() as u64);
            }
            let seq = lane.results.get(&sequence).copied().unwrap_or(0);
            let run = AckRun { first_sequence: sequence, count: 1, first_seq: seq, duplicate };
            match runs.last_mut() {
                Some(last)
                    if last.duplicate == duplicate
                        && last.first_seq + u64::from(last.count) == seq =>
                {
                    last.count += 1;
                }
                _ => runs.push(run),
            }
        }
        ack(runs, None)
    }

    fn skip(&mut self, skip: Skip) -> ServerMessage {
        let Skip { request, lane, epoch, through } = skip;
        match self.lanes.get_mut(&lane) {
            Some(facts) if facts.epoch == epoch => {
                facts.last = facts.last.max(through);
                Done { request }.into()
            }
            _ => Failed { request, rejection: Rejection::new(Code::LaneFenced, "fenced") }.into(),
        }
    }

    fn settle(&mut self, settle: Settle) -> Option<ServerMessage> {
        let Settle { batch, proxy, acks, nacks, terms, .. } = settle;
        if acks.is_empty() && nacks.is_empty() && terms.is_empty() {
            return None;
        }
        let mut answer =
            SettleConfirmed { batch, proxy, settled: 0, already: vec![], refused: None };
        let refusal = self.settle_refusals.pop_front();
        answer.refused = refusal.map(|code| Rejection::new(code, "told to refuse"));
        let Some(facts) = self.proxies.get_mut(&proxy) else {
            answer.refused = Some(Rejection::new(Code::UnknownProxy, "no such proxy"));
            return Some(answer.into());
        };
        if answer.refused.is_some() {
            return Some(answer.into());
        }
        let each = |set: &SeqRanges| set.iter().flat_map(|r| r.first..=r.last).collect::<Vec<_>>();
        let ends = each(&acks).into_iter().map(|seq| (seq, Outcome::Acked)).chain(
            terms.iter().flat_map(|t| each(&t.sequences)).map(|seq| (seq, Outcome::DeadLettered)),
        );
        for (seq, outcome) in ends {
            match facts.settled.get(&seq) {
                Some(&winner) => answer.already.push((SeqRange::one(seq), Some(winner))),
                None => {
                    facts.settled.insert(seq, outcome);
                    answer.settled += 1;
                }
            }
        }
        for nack in nacks {
            each(&nack.sequences)
                .into_iter()
                .for_each(|seq| *facts.nacks.entry(seq).or_default() += 1);
        }
        Some(answer.into())
    }

    fn proxy(&mut self, name: Name, start: Start) -> ProxyId {
        let next = self.log.len() as u64 + 1;
        let id = *self.proxy_names.entry(name).or_insert(ProxyId(self.proxies.len() as u64 + 1));
        let start = match start {
            Start::New => next,
            Start::All => 1,
            Start::Seq(seq) => seq,
            Start::Time(_) => unreachable!("nobody asks for it here"),
        };
        self.proxies.entry(id).or_insert(FakeProxy { start, ..FakeProxy::default() });
        id
    }
}

/// A consumer attached to a session.
#[derive(Debug)]
struct FakeConsumer {
    proxy: Option<ProxyId>,
    cursor: Seq,
    credit: u64,
    in_flight: BTreeSet<Seq>,
    /// With when it is over.
    pull: Option<(Pull, Duration)>,
}

/// One connection's side of the cluster. Its soft state dies with it.
#[derive(Debug, Default)]
pub struct FakeSession {
    consumers: BTreeMap<u32, FakeConsumer>,
    /// Polls made over this connection.
    polls: u32,
}

/// Events asked for in one poll.
pub const POLLED: u32 = 30;

impl FakeSession {
    /// What the server says to a message.
    pub fn hear(
        &mut self,
        cluster: &mut FakeCluster,
        message: ClientMessage,
        now: Duration,
    ) -> Vec<ServerMessage> {
        match message {
            ClientMessage::OpenLane(open) => {
                let request = open.request;
                let failed = |rejection| Failed { request, rejection }.into();
                vec![cluster.open(open).map_or_else(failed, Into::into)]
            }
            ClientMessage::Publish(publish) => vec![cluster.publish(publish).into()],
            ClientMessage::Skip(skip) => vec![cluster.skip(skip)],
            ClientMessage::Attach(attach) => self.attach(cluster, attach),
            ClientMessage::Credit(Credit { consumer, events, .. }) => {
                if let Some(consumer) = self.consumers.get_mut(&consumer) {
                    consumer.credit += u64::from(events);
                }
                vec![]
            }
            ClientMessage::Pull(pull) => {
                if let Some(consumer) = self.consumers.get_mut(&pull.consumer) {
                    consumer.pull = Some((pull, now + Duration::from_millis(pull.wait_ms)));
                    consumer.credit = u64::from(pull.events_max);
                }
                vec![]
            }
            ClientMessage::Settle(settle) => {
                self.requeue(&settle);
                cluster.settle(settle).into_iter().collect()
            }
            ClientMessage::Detach(detach) => {
                self.consumers.remove(&detach.consumer);
                vec![Closed { consumer: detach.consumer, reason: None }.into()]
            }
            ClientMessage::Serve(Serve { lane, epoch, .. })
            | ClientMessage::Polled(Polled { lane, epoch, .. }) => {
                self.polls += 1;
                vec![Poll { lane, epoch, poll: self.polls, most: POLLED }.into()]
            }
            ClientMessage::Ping(ping) => vec![Pong { nonce: ping.nonce }.into()],
        }
    }

    fn attach(&mut self, cluster: &mut FakeCluster, attach: Attach) -> Vec<ServerMessage> {
        let Attach { request, consumer, target, mode, .. } = attach;
        if let Some(code) = cluster.open_refusals.pop_front() {
            return vec![
                Failed { request, rejection: Rejection::new(code, "told to refuse") }.into(),
            ];
        }
        let next_seq = cluster.log.len() as u64 + 1;
        let (proxy, cursor) = match target {
            AttachTarget::Volatile { resume_after: Some(seen), .. } => (None, seen + 1),
            AttachTarget::Volatile { start: Start::New, .. } => (None, next_seq),
            AttachTarget::Volatile { start: Start::All, .. } => (None, 1),
            AttachTarget::Volatile { start: Start::Seq(seq), .. } => (None, seq),
            AttachTarget::Volatile { .. } => unreachable!("nobody asks for it here"),
            AttachTarget::Durable { name, start, .. } => {
                let proxy = cluster.proxy(name, start);
                (Some(proxy), cluster.proxies[&proxy].start)
            }
        };
        let credit = match mode {
            FlowMode::Push { credit_events, .. } => u64::from(credit_events),
            FlowMode::Pull => 0,
        };
        let attached =
            FakeConsumer { proxy, cursor, credit, in_flight: BTreeSet::new(), pull: None };
        assert!(self.consumers.insert(consumer, attached).is_none(), "attached twice");
        let (revision, tenure) = (1, Tenure(cluster.tenure));
        let best_effort = false;
        vec![Attached { request, consumer, proxy, revision, next_seq, tenure, best_effort }.into()]
    }

    /// Nacked events may be delivered again.
    fn requeue(&mut self, settle: &Settle) {
        for consumer in self.consumers.values_mut().filter(|c| c.proxy == Some(settle.proxy)) {
            let nacked = settle.nacks.iter().flat_map(|nack| nack.sequences.iter());
            for seq in nacked.flat_map(|range| range.first..=range.last) {
                consumer.in_flight.remove(&seq);
                consumer.cursor = consumer.cursor.min(seq);
            }
        }
    }

    /// When a pull ends without a delivery.
    pub fn wake_at(&self) -> Option<Duration> {
        let pulls = self.consumers.values().filter_map(|consumer| consumer.pull);
        pulls.map(|(_, ends)| ends).min()
    }

    /// Deliveries that may leave now.
    pub fn deliveries(&mut self, cluster: &FakeCluster, now: Duration) -> Vec<ServerMessage> {
        let mut said = Vec::new();
        for (&id, consumer) in &mut self.consumers {
            if consumer.proxy.is_none() && consumer.cursor < cluster.first_retained {
                let missed = SeqRange { first: consumer.cursor, last: cluster.first_retained - 1 };
                consumer.cursor = cluster.first_retained;
                said.push(Gap { consumer: id, missed }.into());
            }
            let events = consumer.due(cluster);
            let delivered = events.len() as u32;
            if delivered > 0 {
                let tenure = Tenure(cluster.tenure);
                said.push(Deliver { consumer: id, tenure, events }.into());
            }
            if let Some((pull, _)) =
                consumer.pull.take_if(|(_, ends)| delivered > 0 || *ends <= now)
            {
                consumer.credit = 0;
                said.push(PullDone { request: pull.request, consumer: id, delivered }.into());
            }
        }
        said
    }
}

impl FakeConsumer {
    fn due(&mut self, cluster: &FakeCluster) -> Vec<Delivery> {
        let mut events = Vec::new();
        while self.credit > 0 && self.cursor <= cluster.log.len() as u64 {
            let seq = self.cursor;
            self.cursor += 1;
            let settled =
                self.proxy.is_some_and(|p| cluster.proxies[&p].settled.contains_key(&seq));
            if settled || self.in_flight.contains(&seq) {
                continue;
            }
            let (lane, sequence, event) = cluster.log[seq as usize - 1].clone();
            if self.proxy.is_some() {
                self.in_flight.insert(seq);
            }
            self.credit -= 1;
            events.push(Delivery {
                seq,
                tenure: Tenure(cluster.tenure),
                lane,
                sequence,
                delivery: 1,
                maybe_redelivered: cluster.tenure > 1,
                fencing: 0,
                accepted: Stamp(seq),
                dead_letter: None,
                event,
            });
        }
        events
    }
}
