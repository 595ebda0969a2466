//! What a report keeps of a history.

use std::collections::{BTreeMap, HashMap};

use super::latency::Latencies;
use super::series::{Most, Series};
use crate::history::{ClusterView, EventId, NodeView, Outcome, Phase, Record, Stage, What};
use crate::table::{Set, Table, entry};

/// Publishes whose beginning is remembered; of the rest no latency is known.
const OPEN: usize = 1_000_000;
/// Faults and changes of leadership kept.
const EVENTS: usize = 20_000;
/// Consumers whose backlog is kept.
const CONSUMERS: usize = 64;

/// What plots and tables show.
#[derive(Debug, Default)]
pub struct Gathered {
    /// When the last thing happened, in microseconds since the run began.
    pub end: u64,
    pub records: u64,
    pub phases: Vec<(u64, Phase)>,
    pub faults: Vec<FaultSpan>,
    /// Nodes seen.
    pub nodes: Vec<u64>,
    /// Who leads from when on, as observers saw it.
    pub leaders: Vec<(u64, Option<u64>)>,
    pub acks: Series<u64>,
    pub deliveries: Series<u64>,
    pub latencies: Series<Latencies>,
    pub latency: Latencies,
    pub duplicates: Series<u64>,
    /// Acknowledged then, and never delivered to some durable consumer.
    pub undelivered: Series<u64>,
    pub pending: BTreeMap<String, Series<Most>>,
}

/// A fault from its beginning to its end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FaultSpan {
    pub name: String,
    pub targets: Vec<u64>,
    pub begin: u64,
    pub end: Option<u64>,
    pub detail: String,
}

impl FaultSpan {
    /// Its name without parameters.
    pub fn kind(&self) -> &str {
        self.name.split(['(', ' ']).next().unwrap_or(&self.name)
    }
}

/// Gathers while a history is read.
#[derive(Default)]
pub struct Gatherer {
    all: Gathered,
    open: HashMap<EventId, Open>,
    acknowledged: Set,
    channels: BTreeMap<String, Table<u32>>,
    consumers: BTreeMap<String, Consumer>,
    leader: Option<u64>,
    term: u64,
}

struct Open {
    channel: String,
    at: u64,
}

#[derive(Default)]
struct Consumer {
    channel: String,
    after: u64,
    durable: bool,
    delivered: Set,
}

impl Gatherer {
    pub fn observe(&mut self, record: &Record) {
        let at = record.at;
        self.all.records += 1;
        self.all.end = self.all.end.max(at);
        match &record.what {
            What::Phase { phase } => self.all.phases.push((at, *phase)),
            What::Publish { event, channel, .. } => self.publish(at, *event, channel),
            What::Published { event, outcome: Outcome::Ok(place) } => {
                self.acknowledged(at, *event, place.seq);
            }
            What::Subscribed { consumer, channel, after, .. } => {
                let consumer = entry(&mut self.consumers, consumer);
                (consumer.channel, consumer.after) = (channel.clone(), *after);
                consumer.durable = true;
            }
            What::Delivered { consumer, seq, .. } => {
                *self.all.deliveries.at(at) += 1;
                let consumer = entry(&mut self.consumers, consumer);
                if !consumer.delivered.insert(*seq) && consumer.durable {
                    *self.all.duplicates.at(at) += 1;
                }
            }
            What::Status { outcome: Outcome::Ok(view), .. } => self.status(at, view),
            What::Node { node, view } => self.node(at, *node, view),
            What::NodeDown { node } if self.leader == Some(*node) => self.led_by(at, None),
            What::Fault { fault, targets, stage, detail } => match stage {
                Stage::Begin => self.fault(at, fault, targets, detail),
                Stage::End => self.fault_ends(at, fault, targets),
            },
            _ => {}
        }
    }

    fn publish(&mut self, at: u64, event: EventId, channel: &str) {
        if self.open.len() < OPEN {
            self.open.entry(event).or_insert_with(|| Open { channel: channel.into(), at });
        }
    }

    fn acknowledged(&mut self, at: u64, event: EventId, seq: u64) {
        // What is asked twice is answered twice.
        if !self.acknowledged.insert(event) {
            return;
        }
        *self.all.acks.at(at) += 1;
        let Some(open) = self.open.remove(&event) else { return };
        let latency = at.saturating_sub(open.at);
        self.all.latencies.at(at).add(latency);
        self.all.latency.add(latency);
        if seq > 0 {
            let millis = u32::try_from(at / 1000 + 1).unwrap_or(u32::MAX);
            *entry(&mut self.channels, &open.channel).slot(seq) = millis;
        }
    }

    fn status(&mut self, at: u64, view: &ClusterView) {
        for proxy in view.channels.iter().flat_map(|channel| &channel.proxies) {
            if self.all.pending.len() >= CONSUMERS && !self.all.pending.contains_key(&proxy.name) {
                continue;
            }
            let most = entry(&mut self.all.pending, &proxy.name).at(at);
            most.0 = most.0.max(Some(proxy.pending));
        }
    }

    fn node(&mut self, at: u64, node: u64, view: &NodeView) {
        if let Err(place) = self.all.nodes.binary_search(&node)
            && self.all.nodes.len() < EVENTS
        {
            self.all.nodes.insert(place, node);
        }
        if view.role == "leader" && view.term >= self.term {
            self.term = view.term;
            self.led_by(at, Some(node));
        } else if self.leader == Some(node) && view.role != "leader" {
            self.led_by(at, None);
        }
    }

    fn led_by(&mut self, at: u64, leader: Option<u64>) {
        if self.leader != leader && self.all.leaders.len() < EVENTS {
            self.all.leaders.push((at, leader));
        }
        self.leader = leader;
    }

    fn fault(&mut self, at: u64, name: &str, targets: &[u64], detail: &str) {
        let span = FaultSpan {
            name: name.into(),
            targets: targets.to_vec(),
            begin: at,
            end: None,
            detail: detail.into(),
        };
        if self.all.faults.len() < EVENTS {
            self.all.faults.push(span);
        }
    }

    fn fault_ends(&mut self, at: u64, name: &str, targets: &[u64]) {
        let is = |span: &&mut FaultSpan| {
            span.end.is_none() && span.name == name && span.targets == targets
        };
        if let Some(span) = self.all.faults.iter_mut().rev().find(is) {
            span.end = Some(at);
        }
    }

    /// What was gathered, and what only the end tells.
    pub fn finish(mut self) -> Gathered {
        for consumer in self.consumers.values().filter(|consumer| consumer.durable) {
            let Some(acknowledged) = self.channels.get(&consumer.channel) else { continue };
            for (seq, millis) in acknowledged.iter() {
                if seq > consumer.after && !consumer.delivered.contains(seq) {
                    *self.all.undelivered.at(u64::from(millis - 1) * 1000) += 1;
                }
            }
        }
        self.all
    }
}
