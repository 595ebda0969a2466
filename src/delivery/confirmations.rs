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

/// A proposed settlement.
#[derive(Debug)]
pub(super) struct Flight {
    pub proxy: ProxyId,
    pub sequences: SeqRanges,
    waiters: Vec<Waiter>,
}

/// Settlements not confirmed yet: first they wait for a command, then with it for its reply.
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

    /// The settlement with all that waited is on its way, under this token.
    pub fn fly(&mut self, token: u64, proxy: ProxyId, sequences: SeqRanges) {
        let waiters = self.waiting.remove(&proxy).unwrap_or_default();
        self.flights.insert(token, Flight { proxy, sequences, waiters });
    }

    /// The settlement of this token is over.
    pub fn land(&mut self, token: u64) -> Option<Flight> {
        self.flights.remove(&token)
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
