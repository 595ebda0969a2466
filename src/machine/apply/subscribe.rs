//! Which types of events admins and proxies want.

use std::sync::Arc;

use super::Answer;
use super::define::unknown_proxy;
use super::quality::Found;
use crate::machine::{Machine, Target};
use crate::types::{Code, Rejection, Side, Subscription, TypePattern, limits};

impl Machine {
    pub(super) fn subscribe(
        &mut self,
        target: &Target,
        add: &[TypePattern],
        remove: &[TypePattern],
    ) -> Answer {
        let Found { channel, side, .. } = self.find(target)?;
        let change = |types: &mut Subscription| {
            let mut changed = types.clone();
            changed.change(add, remove);
            check_types(&changed, side)?;
            *types = changed;
            Ok::<_, Rejection>(())
        };
        match target {
            Target::Channel(_) => {
                let message = "a channel takes events of every type";
                return Err(Rejection::new(Code::NotAllowed, message)
                    .hint("subscribe an admin of it, or a proxy"));
            }
            Target::Admin(_, Side::Supplier, _) | Target::Lane(_) => return Err(for_consumers()),
            Target::Admin(id, side, name) => change(&mut self.admin_mut(*id, *side, name)?.types)?,
            Target::Proxy(id) => {
                let proxy = self.proxies.get_mut(id).ok_or_else(|| unknown_proxy(*id))?;
                change(&mut Arc::make_mut(proxy).types)?;
            }
        }
        Ok(self.changed(channel, side))
    }
}

fn for_consumers() -> Rejection {
    Rejection::new(Code::NotAllowed, "suppliers publish events of any type")
        .hint("subscribe a consumer admin, or a proxy of consumers")
}

/// Refuses more patterns than one may have, and any for suppliers.
pub(super) fn check_types(types: &Subscription, side: Side) -> Result<(), Rejection> {
    if side == Side::Supplier && !types.is_empty() {
        return Err(for_consumers());
    }
    let (has, max) = (types.len(), limits::PATTERNS_MAX);
    if has <= max {
        return Ok(());
    }
    let message = format!("a subscription with {has} patterns of types");
    Err(Rejection::new(Code::BadRequest, message)
        .hint(format!("use at most {max}: a `*` stands for any part of a name")))
}
