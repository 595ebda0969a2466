//! Who consumes from an exclusive proxy.

use std::sync::Arc;

use super::Answer;
use super::define::unknown_proxy;
use crate::machine::{Machine, Reply};
use crate::types::{Code, Member, ProxyId, Rejection};

impl Machine {
    /// A new holder has a token above all before; without one the token stays as it is, for what is
    /// still out.
    pub(super) fn hold(&mut self, id: ProxyId, holder: Option<Member>) -> Answer {
        let applied = self.applied;
        let proxy = self.proxies.get_mut(&id).ok_or_else(|| unknown_proxy(id))?;
        if !proxy.service().exclusive {
            let message =
                format!("proxy '{}' is not exclusive: all its clients consume", proxy.name());
            return Err(Rejection::new(Code::NotAllowed, message));
        }
        let proxy = Arc::make_mut(proxy);
        proxy.holder = holder;
        if holder.is_some() {
            proxy.fence(applied);
        }
        self.touched.insert(proxy.channel());
        Ok(Reply::Held { fencing: proxy.fencing() })
    }
}
