//! Who waits for which settlement to be committed.

use std::collections::BTreeMap;

use super::request::SessionId;
use crate::machine::Settled;
use crate::types::{ProxyId, Rejection, SeqRanges};
use crate::wire::SettleConfirmed;

/// A session's settlement on its way.
#[derive(Debug)]
pub(super) struct Waiter {
    pub session: SessionId,
    pub batch: u64,
    /// What it settles.
    pub sequences: SeqRanges,
    /// How many of them the proxy was ever offered.
    pub offered: u64,
}

/// A proposal of dispatch on its way.
#[derive(Debug)]
pub(super) struct Flight {
    pub proxy: ProxyId,
    /// The proxy's number for it.
    pub proposal: u64,
    /// Who is to be told what became of it; nobody for attempts.
    pub waiters: Vec<Waiter>,
}

/// Settlements not confirmed yet: first they wait for a command, then with it for its reply. If it
/// is refused for now they wait for the next.
#[derive(Debug, Default)]
pub(super) struct Confirmations {
    waiting: BTreeMap<ProxyId, Vec<Waiter>>,
    flights: BTreeMap<u64, Flight>,
}

impl Confirmations {
    /// The next settlement of the proxy will carry this.
    pub fn wait(&mut self, proxy: ProxyId, waiter: Waiter) {
        self.waiting.entry(proxy).or_default().push(waiter);
    }

    /// Those who wait for the next settlement of the proxy, which is about to be proposed.
    pub fn take(&mut self, proxy: ProxyId) -> Vec<Waiter> {
        self.waiting.remove(&proxy).unwrap_or_default()
    }

    /// A proposal is on its way, under this token.
    pub fn fly(&mut self, token: u64, flight: Flight) {
        self.flights.insert(token, flight);
    }

    /// The proposal of this token is over.
    pub fn land(&mut self, token: u64) -> Option<Flight> {
        self.flights.remove(&token)
    }

    /// What it proposed will be proposed again: its waiters wait for that, before later ones.
    pub fn wait_again(&mut self, mut flight: Flight) {
        if flight.waiters.is_empty() {
            return;
        }
        let waiting = self.waiting.entry(flight.proxy).or_default();
        flight.waiters.append(waiting);
        *waiting = flight.waiters;
    }

    /// The session is gone: it need not be told. What it settled goes its way.
    pub fn forget(&mut self, session: SessionId) {
        let flying = self.flights.values_mut().map(|flight| &mut flight.waiters);
        for waiters in self.waiting.values_mut().chain(flying) {
            waiters.retain(|waiter| waiter.session != session);
        }
        self.waiting.retain(|_, waiters| !waiters.is_empty());
    }
}

impl Flight {
    /// The answers to all who waited for it.
    pub fn confirm(
        self,
        outcome: &Result<Settled, Rejection>,
    ) -> impl Iterator<Item = (SessionId, SettleConfirmed)> {
        let proxy = self.proxy;
        self.waiters.into_iter().map(move |waiter| {
            let session = waiter.session;
            (session, waiter.confirm(proxy, outcome))
        })
    }
}

impl Waiter {
    fn confirm(self, proxy: ProxyId, outcome: &Result<Settled, Rejection>) -> SettleConfirmed {
        let batch = self.batch;
        match outcome {
            Ok(settled) => {
                let own = |(range, winner): &(_, Option<_>)| {
                    let parts: Vec<_> = self.sequences.overlap(*range).collect();
                    let winner = *winner;
                    parts.into_iter().map(move |part| (part, winner))
                };
                let already: Vec<_> = settled.already.iter().flat_map(own).collect();
                let before: u64 = already.iter().map(|(range, _)| range.len()).sum();
                let settled = self.offered.saturating_sub(before);
                SettleConfirmed { batch, proxy, settled, already, refused: None }
            }
            Err(rejection) => SettleConfirmed {
                batch,
                proxy,
                settled: 0,
                already: Vec::new(),
                refused: Some(rejection.clone()),
            },
        }
    }
}
