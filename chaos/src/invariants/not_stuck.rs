//! No consumer is stuck: once all faults are over, one with events pending and a client attached
//! makes progress, in gaps of `stuck_after` at most.
//!
//! Progress is a delivery or a confirmed settlement. Where all that is pending is in flight, or as
//! much as may be, there is nothing to deliver before a lease ends (what a client pulled stays leased
//! when the client goes), so one `ack_wait` is added. Nor is there while a consumer is suspended, from
//! when that was asked for until the end of it is confirmed, or while all that waits may wait for
//! its start: no stamp that was seen says that its time has come.

use std::collections::{BTreeMap, BTreeSet};

use super::rules::micros;
use super::{Invariant, Rules};
use crate::history::{ClusterView, Definition, Outcome, Phase, ProxyView, Record, What};
use crate::table::entry;

pub(super) struct NotStuck {
    stuck_after: u64,
    healed: bool,
    consumers: BTreeMap<String, Consumer>,
    /// Suspensions, and ends of them, not answered yet.
    asks: BTreeMap<u64, (String, bool)>,
    /// How many events were published with which start, of those to come.
    starts: BTreeMap<u64, u64>,
    longest: u64,
}

#[derive(Default)]
struct Consumer {
    ack_wait: u64,
    /// 0: not known.
    in_flight_max: u64,
    clients: BTreeSet<String>,
    suspended: bool,
    /// Its latest progress, or when it last had no reason to make any.
    fine: u64,
}

impl NotStuck {
    pub fn new(rules: &Rules) -> NotStuck {
        NotStuck {
            stuck_after: micros(rules.stuck_after),
            healed: false,
            consumers: BTreeMap::new(),
            asks: BTreeMap::new(),
            starts: BTreeMap::new(),
            longest: 0,
        }
    }

    /// A consumer made progress.
    fn progress(&mut self, at: u64, consumer: &str) {
        entry(&mut self.consumers, consumer).fine = at;
    }

    fn check(&mut self, at: u64, view: &ClusterView) -> Result<(), String> {
        let mut stuck = Vec::new();
        let unstarted: u64 = self.starts.values().sum();
        for proxy in view.channels.iter().flat_map(|channel| &channel.proxies) {
            let Some(consumer) = self.consumers.get_mut(&proxy.name) else { continue };
            let waiting = proxy.pending.saturating_sub(proxy.in_flight) <= unstarted;
            let excused = consumer.suspended || (unstarted > 0 && waiting);
            if proxy.pending == 0 || consumer.clients.is_empty() || excused {
                consumer.fine = at;
                continue;
            }
            let gap = at.saturating_sub(consumer.fine);
            let full = consumer.in_flight_max > 0 && proxy.in_flight >= consumer.in_flight_max;
            let leased = full || proxy.pending <= proxy.in_flight;
            let allowed = self.stuck_after + if leased { consumer.ack_wait } else { 0 };
            if !leased {
                self.longest = self.longest.max(gap);
            }
            if gap > allowed {
                consumer.fine = at;
                stuck.push(describe(proxy, gap, consumer.clients.len()));
            }
        }
        if stuck.is_empty() { Ok(()) } else { Err(stuck.join("; ")) }
    }
}

fn describe(proxy: &ProxyView, gap: u64, clients: usize) -> String {
    let ProxyView { name, pending, in_flight, .. } = proxy;
    format!(
        "{name} got nothing for {} ms, with {pending} pending, {in_flight} of them in flight, and \
         {clients} clients",
        gap / 1000
    )
}

impl Invariant for NotStuck {
    fn name(&self) -> &'static str {
        "not-stuck"
    }

    fn judges(&self, what: &What) -> bool {
        matches!(what, What::Status { outcome: Outcome::Ok(_), .. })
    }

    fn observe(&mut self, record: &Record) -> Result<(), String> {
        let at = record.at;
        match &record.what {
            What::Phase { phase } => {
                let healed = *phase >= Phase::Heal;
                if healed && !self.healed {
                    self.consumers.values_mut().for_each(|consumer| consumer.fine = at);
                }
                self.healed = healed;
            }
            What::Subscribed { consumer, ack_wait_ms, max_in_flight, .. } => {
                let consumer = entry(&mut self.consumers, consumer);
                consumer.ack_wait = ack_wait_ms * 1000;
                consumer.in_flight_max = u64::from(*max_in_flight);
            }
            What::Attached { consumer } => {
                let consumer = entry(&mut self.consumers, consumer);
                consumer.clients.insert(record.by.clone());
                consumer.fine = at;
            }
            What::Detached { consumer, .. } => {
                let consumer = entry(&mut self.consumers, consumer);
                consumer.clients.remove(&record.by);
                consumer.fine = at;
            }
            What::Publish { asks, .. } if asks.start_ms > 0 => {
                *self.starts.entry(asks.start_us()).or_default() += 1;
            }
            What::Redefine { ask, consumer, to: Definition::Suspended(suspended) } => {
                self.asks.insert(*ask, (consumer.clone(), *suspended));
                entry(&mut self.consumers, consumer).suspended |= *suspended;
            }
            What::Redefined { ask, outcome } => {
                if let Some((consumer, false)) = self.asks.remove(ask)
                    && let Outcome::Ok(_) = outcome
                {
                    let consumer = entry(&mut self.consumers, &consumer);
                    (consumer.suspended, consumer.fine) = (false, at);
                }
            }
            What::Delivered { consumer, accepted_us, .. } => {
                self.starts = self.starts.split_off(&(accepted_us + 1));
                self.progress(at, consumer);
            }
            What::Settled { consumer, outcome: Outcome::Ok(()), .. } => {
                self.progress(at, consumer);
            }
            What::Status { outcome: Outcome::Ok(view), .. } if self.healed => {
                return self.check(at, view);
            }
            _ => {}
        }
        Ok(())
    }

    fn figures(&self) -> Vec<(&'static str, u64)> {
        vec![("longest_wait_after_heal_ms", self.longest / 1000)]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::history::Asks;
    use crate::invariants::testing::*;

    fn one() -> NotStuck {
        NotStuck::new(&Rules::default())
    }

    fn healed() -> Story {
        story().subscribed(0).attached().event(1, 1).wait(10_000).phase(Phase::Heal).wait(2000)
    }

    fn waits(story: Story) -> Story {
        story.status(view(1, &[proxy(0, 1)]))
    }

    #[test]
    fn holds_while_there_is_progress() {
        let story = waits(waits(healed()).wait(900).delivered(1, 1).wait(2000));
        holds(one(), waits(story.acks(&[1]).wait(2999)));
    }

    #[test]
    fn holds_without_a_reason_to_progress() {
        let done = |story: Story| story.status(view(1, &[proxy(1, 0)]));
        holds(one(), waits(done(done(healed().wait(9000)).wait(9000)).wait(2000)));
        holds(one(), waits(healed().detached().wait(9000)));
        let faults = story().attached().wait(10_000);
        holds(one(), waits(faults));
        let leased = ProxyView { in_flight: 1, ..proxy(0, 1) };
        holds(one(), healed().wait(30_000).status(view(1, &[leased])));
        let full = ProxyView { in_flight: 4_096, ..proxy(0, 9_000) };
        holds(one(), healed().wait(30_000).status(view(1, &[full])));
    }

    #[test]
    fn catches_one_that_waits_too_long() {
        catches(one(), waits(healed().wait(1001)), "w got nothing for 3001 ms, with 1 pending");
        catches(one(), waits(waits(healed().wait(1001)).wait(500)), "w got nothing");
        let leased = ProxyView { in_flight: 1, ..proxy(0, 1) };
        catches(one(), healed().wait(31_001).status(view(1, &[leased])), "1 of them in flight");
        let room = ProxyView { in_flight: 4_095, ..proxy(0, 9_000) };
        catches(one(), healed().wait(1_001).status(view(1, &[room])), "4095 of them in flight");
    }

    #[test]
    fn who_is_suspended_or_waits_for_a_start_is_not_stuck() {
        let suspended = healed().redefine(1, Definition::Suspended(true)).redefined(1, 9, 7);
        holds(one(), waits(suspended.clone().wait(9000)));
        let resumed = suspended.wait(9000).redefine(2, Definition::Suspended(false));
        holds(one(), waits(resumed.clone().wait(9000)));
        catches(one(), waits(resumed.redefined(2, 10, 7).wait(3001)), "got nothing for 3001 ms");
        let starts = healed().asking(2, Asks { start_ms: 700, ..Asks::default() });
        holds(one(), waits(starts.clone().delivered_in(7, 1, 1, 699).wait(9000)));
        let started = starts.delivered_in(7, 1, 1, 700).wait(3001);
        catches(one(), waits(started), "got nothing for 3001 ms");
    }

    #[test]
    fn one_client_of_several_is_enough() {
        let story = healed().by("w/2").attached().wait(1).by("w/1").detached().wait(3001);
        catches(one(), waits(story), "and 1 clients");
    }
}
