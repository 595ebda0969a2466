//! When each proxy next has to be looked at.

use std::collections::{BTreeMap, BTreeSet};

use crate::types::{ProxyId, Stamp};

/// One time for each proxy, at most.
#[derive(Debug, Default)]
pub(super) struct Timers {
    by_time: BTreeSet<(Stamp, ProxyId)>,
    by_proxy: BTreeMap<ProxyId, Stamp>,
}

impl Timers {
    /// The proxy is due then, or no more.
    pub fn set(&mut self, proxy: ProxyId, due: Option<Stamp>) {
        let old = match due {
            Some(due) => self.by_proxy.insert(proxy, due),
            None => self.by_proxy.remove(&proxy),
        };
        if old == due {
            return;
        }
        if let Some(old) = old {
            self.by_time.remove(&(old, proxy));
        }
        if let Some(due) = due {
            self.by_time.insert((due, proxy));
        }
    }

    /// Takes a proxy that is due.
    pub fn pop(&mut self, now: Stamp) -> Option<ProxyId> {
        let (_, proxy) = *self.by_time.first().filter(|(due, _)| *due <= now)?;
        self.set(proxy, None);
        Some(proxy)
    }

    /// When the next is due.
    pub fn next(&self) -> Option<Stamp> {
        self.by_time.first().map(|(due, _)| *due)
    }
}
