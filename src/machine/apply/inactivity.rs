//! Proxies that nobody consumes from: when somebody last did, and their end.

use std::sync::Arc;

use super::Answer;
use crate::machine::{Machine, Reply};
use crate::types::ProxyId;

impl Machine {
    pub(super) fn mark_active(&mut self, proxies: &[ProxyId]) -> Answer {
        let now = self.stamp;
        for id in proxies {
            if let Some(proxy) = self.proxies.get_mut(id) {
                Arc::make_mut(proxy).last_active = now;
            }
        }
        Ok(Reply::Done)
    }

    /// Whatever the leader thought: as far as is on record nobody was there for so long.
    pub(super) fn expire_proxies(&mut self, proxies: &[ProxyId]) -> Answer {
        let mut expired = Vec::new();
        for id in proxies {
            let Some(proxy) = self.proxy(*id).filter(|proxy| proxy.is_inactive(self.stamp)) else {
                continue;
            };
            let (channel, name) = (proxy.channel(), proxy.name().clone());
            self.delete_proxy(*id)?;
            if let Some(host) = self.channels.get_mut(&channel) {
                Arc::make_mut(host).expired_proxies += 1;
            }
            expired.push((*id, channel, name));
        }
        Ok(Reply::Expired(expired))
    }
}
