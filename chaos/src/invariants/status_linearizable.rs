//! A status that claims to be linearizable is: it shows whatever was confirmed before it was asked
//! for, and nothing it counts goes back behind what a status answered before that had shown.

use std::collections::{BTreeMap, VecDeque};

use super::Invariant;
use crate::history::{ChannelView, ClusterView, Outcome, ProxyView, Record, Verdict, What};
use crate::table::{Set, entry};

/// Questions that may wait for an answer; an older one is not judged.
const ASKS: usize = 256;

#[derive(Default)]
pub(super) struct StatusLinearizable {
    channels: BTreeMap<String, Channel>,
    /// Sequences confirmed as acked or terminated, by consumer.
    settled: BTreeMap<String, Set>,
    open: BTreeMap<u64, String>,
    asks: VecDeque<(u64, Floor)>,
    shown: Floor,
}

/// What is acknowledged of a channel.
#[derive(Default)]
struct Channel {
    places: Set,
    last: u64,
}

/// The least that a status must show.
#[derive(Clone, Default)]
struct Floor {
    channels: BTreeMap<String, ChannelFloor>,
    proxies: BTreeMap<String, ProxyView>,
    /// How many sequences of a consumer were confirmed as settled.
    settled: BTreeMap<String, u64>,
}

#[derive(Clone, Default)]
struct ChannelFloor {
    accepted: u64,
    last_seq: u64,
}

impl Floor {
    fn check(&self, view: &ClusterView) -> Result<(), String> {
        let shown = |name: &str| view.channels.iter().find(|channel| channel.name == name);
        for (name, floor) in &self.channels {
            let Some(channel) = shown(name) else {
                return Err(format!("channel {name} is missing"));
            };
            floor.check(channel)?;
        }
        let proxies = || view.channels.iter().flat_map(|channel| &channel.proxies);
        for (name, least) in &self.settled {
            let Some(proxy) = proxies().find(|proxy| proxy.name == *name) else {
                return Err(format!("consumer {name} is missing"));
            };
            let settled = proxy.offered.saturating_sub(proxy.pending);
            if settled < *least {
                return Err(format!("{name} has {settled} settled, but {least} were confirmed"));
            }
        }
        proxies().try_for_each(|proxy| match self.proxies.get(&proxy.name) {
            Some(before) => check_growth(before, proxy),
            None => Ok(()),
        })
    }

    /// Raises the floor to what was shown.
    fn raise(&mut self, view: &ClusterView) {
        for channel in &view.channels {
            let floor = entry(&mut self.channels, &channel.name);
            floor.accepted = floor.accepted.max(channel.accepted);
            floor.last_seq = floor.last_seq.max(channel.last_seq);
            for proxy in &channel.proxies {
                let known = entry(&mut self.proxies, &proxy.name);
                if proxy.offered >= known.offered {
                    known.clone_from(proxy);
                }
            }
        }
    }
}

impl ChannelFloor {
    fn check(&self, view: &ChannelView) -> Result<(), String> {
        let ChannelView { name, accepted, last_seq, .. } = view;
        if *last_seq < self.last_seq {
            return Err(format!("{name} ends at {last_seq}, and reached {} before", self.last_seq));
        }
        if *accepted < self.accepted {
            return Err(format!("{name} accepted {accepted}, of {} before", self.accepted));
        }
        Ok(())
    }
}

fn check_growth(before: &ProxyView, now: &ProxyView) -> Result<(), String> {
    let counts = [
        ("offered", before.offered, now.offered),
        ("acked", before.acked, now.acked),
        ("filtered", before.filtered, now.filtered),
        ("expired", before.expired, now.expired),
        ("discarded", before.discarded, now.discarded),
        ("dead_lettered", before.dead_lettered, now.dead_lettered),
        ("skipped", before.skipped, now.skipped),
    ];
    match counts.iter().find(|(_, before, now)| now < before) {
        Some((what, before, count)) => {
            Err(format!("{what} of {} went back from {before} to {count}", now.name))
        }
        None => Ok(()),
    }
}

impl StatusLinearizable {
    fn ask(&mut self, ask: u64) {
        let mut floor = self.shown.clone();
        for (name, known) in self.channels.iter().filter(|(_, channel)| channel.last > 0) {
            let floor = entry(&mut floor.channels, name);
            floor.last_seq = floor.last_seq.max(known.last);
            floor.accepted = floor.accepted.max(known.places.len());
        }
        floor.settled = self.settled.iter().map(|(name, set)| (name.clone(), set.len())).collect();
        self.asks.push_back((ask, floor));
        if self.asks.len() > ASKS {
            self.asks.pop_front();
        }
    }

    fn answer(&mut self, ask: u64, outcome: &Outcome<ClusterView>) -> Result<(), String> {
        let asked = self.asks.iter().position(|(known, _)| *known == ask);
        let Some((_, floor)) = asked.and_then(|at| self.asks.remove(at)) else { return Ok(()) };
        let Outcome::Ok(view) = outcome else { return Ok(()) };
        if !view.linearizable {
            return Ok(());
        }
        self.shown.raise(view);
        let by = view.answered_by;
        floor.check(view).map_err(|wrong| format!("linearizable status of node {by}: {wrong}"))
    }
}

impl Invariant for StatusLinearizable {
    fn name(&self) -> &'static str {
        "status-linearizable"
    }

    fn judges(&self, what: &What) -> bool {
        matches!(what, What::Status { outcome: Outcome::Ok(_), .. })
    }

    fn observe(&mut self, record: &Record) -> Result<(), String> {
        match &record.what {
            What::Publish { event, channel, .. } => {
                self.open.entry(*event).or_insert_with(|| channel.clone());
            }
            What::Published { event, outcome: Outcome::Ok(place) } => {
                if let Some(channel) = self.open.remove(event).filter(|_| place.seq > 0) {
                    let channel = entry(&mut self.channels, &channel);
                    channel.places.insert(place.seq);
                    channel.last = channel.last.max(place.seq);
                }
            }
            What::Settled { consumer, seqs, verdict, outcome: Outcome::Ok(()) }
                if *verdict != Verdict::Nack =>
            {
                let settled = entry(&mut self.settled, consumer);
                settled.extend(seqs);
            }
            What::AskStatus { ask, .. } => self.ask(*ask),
            What::Status { ask, outcome } => return self.answer(*ask, outcome),
            _ => {}
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::invariants::testing::*;

    fn one() -> StatusLinearizable {
        StatusLinearizable::default()
    }

    fn acked() -> Story {
        story().event(1, 1).event(2, 2).acks(&[1])
    }

    #[test]
    fn holds_for_what_was_confirmed_before_the_question() {
        holds(one(), acked().status(view(2, &[proxy(1, 1)])).status(view(3, &[proxy(2, 1)])));
        let meanwhile = story().ask(1).event(1, 1).acks(&[1]).ask(2);
        let both = meanwhile.answer(2, view(1, &[proxy(1, 0)])).answer(1, view(0, &[proxy(0, 0)]));
        holds(one(), both);
    }

    #[test]
    fn a_stale_status_claims_nothing() {
        let stale = ClusterView { linearizable: false, ..view(0, &[]) };
        holds(one(), acked().status(stale));
    }

    #[test]
    fn catches_a_status_without_an_acknowledged_event() {
        catches(one(), acked().status(view(1, &[proxy(1, 0)])), "c ends at 1, and reached 2");
        catches(
            one(),
            acked().status(ClusterView { linearizable: true, ..ClusterView::default() }),
            "channel c is missing",
        );
        let mut few = view(2, &[proxy(1, 1)]);
        few.channels[0].accepted = 1;
        catches(one(), acked().status(few), "accepted 1, of 2");
    }

    #[test]
    fn catches_a_status_without_a_confirmed_ack() {
        let says = "w has 0 settled, but 1 were confirmed";
        catches(one(), acked().status(view(2, &[proxy(0, 2)])), says);
        catches(one(), acked().status(view(2, &[])), "consumer w is missing");
    }

    #[test]
    fn catches_counts_that_go_back() {
        let dead = ProxyView { dead_lettered: 1, pending: 0, ..proxy(1, 1) };
        let story = acked().status(view(2, std::slice::from_ref(&dead)));
        let now = ProxyView { offered: 2, ..proxy(2, 0) };
        catches(one(), story.status(view(2, &[now])), "dead_lettered of w went back from 1 to 0");
        let story = three_shown();
        catches(one(), story.status(view(2, &[proxy(1, 1)])), "c ends at 2, and reached 3");
    }

    fn three_shown() -> Story {
        acked().status(view(3, &[proxy(1, 2)]))
    }
}
