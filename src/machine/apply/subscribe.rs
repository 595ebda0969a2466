//! Which types of events admins and proxies want.

use std::sync::Arc;

use super::Answer;
use super::define::unknown_proxy;
use crate::machine::{Machine, Target};
use crate::types::{Code, Rejection, Subscription, TypePattern, limits};

impl Machine {
    pub(super) fn subscribe(
        &mut self,
        target: &Target,
        add: &[TypePattern],
        remove: &[TypePattern],
    ) -> Answer {
        let (channel, ..) = self.find(target)?;
        let change = |types: &mut Subscription| {
            let mut changed = types.clone();
            changed.change(add, remove);
            check_types(&changed)?;
            *types = changed;
            Ok::<_, Rejection>(())
        };
        match target {
            Target::Channel(_) => {
                let message = "a channel takes events of every type";
                return Err(Rejection::new(Code::NotAllowed, message)
                    .hint("subscribe an admin of it, or a proxy"));
            }
            Target::Admin(id, name) => change(&mut self.admin_mut(*id, name)?.types)?,
            Target::Proxy(id) => {
                let proxy = self.proxies.get_mut(id).ok_or_else(|| unknown_proxy(*id))?;
                change(&mut Arc::make_mut(proxy).types)?;
            }
        }
        Ok(self.changed(channel))
    }
}

/// Refuses more patterns than one may have.
pub(super) fn check_types(types: &Subscription) -> Result<(), Rejection> {
    let (has, max) = (types.len(), limits::PATTERNS_MAX);
    if has <= max {
        return Ok(());
    }
    let message = format!("a subscription with {has} patterns of types");
    Err(Rejection::new(Code::BadRequest, message)
        .hint(format!("use at most {max}: a `*` stands for any part of a name")))
}
