//! How a consumer's proxy was defined when a delivery was decided, as far as a history can tell.
//!
//! A change holds from its place in the log on. A history knows when it was asked for, when it was
//! confirmed, and at which place and in which tenure that was. What a leader decides in a tenure
//! that began after that place follows it; in the same tenure, what it decides after the
//! confirmation. What a client had read before it was asked for does not. All else is doubtful, and
//! so is every delivery of a leader that may not know that it was deposed.

use std::collections::BTreeMap;

use crate::history::{Cut, Definition, Outcome, What};
use crate::table::entry;

/// When a delivery was decided: in this tenure, after one moment and before the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Moment {
    pub tenure: u64,
    pub after: u64,
    pub before: u64,
}

/// Which event of a proxy goes first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Order {
    Fifo,
    Priority,
    Deadline,
}

/// The definitions of all consumers.
#[derive(Default)]
pub(super) struct Definitions {
    consumers: BTreeMap<String, Vec<Change>>,
    open: BTreeMap<u64, String>,
}

struct Change {
    ask: u64,
    asked: u64,
    to: Definition,
    told: Option<(u64, Cut)>,
}

enum Effect {
    Certain,
    None,
    Doubtful,
}

impl Change {
    fn effect(&self, moment: Moment) -> Effect {
        match self.told {
            _ if moment.before < self.asked => Effect::None,
            Some((at, cut))
                if moment.tenure > cut.index
                    || (moment.tenure == cut.tenure && moment.after > at) =>
            {
                Effect::Certain
            }
            _ => Effect::Doubtful,
        }
    }
}

impl Definitions {
    /// Takes in what the record says of definitions.
    pub fn observe(&mut self, at: u64, what: &What) {
        match what {
            What::Subscribed { consumer, qos, .. } => {
                let told = Some((0, Cut { index: 0, tenure: 0 }));
                let change = Change { ask: 0, asked: 0, to: Definition::Qos(qos.clone()), told };
                entry(&mut self.consumers, consumer).push(change);
            }
            What::Redefine { ask, consumer, to } => {
                self.open.insert(*ask, consumer.clone());
                let change = Change { ask: *ask, asked: at, to: to.clone(), told: None };
                entry(&mut self.consumers, consumer).push(change);
            }
            What::Redefined { ask, outcome } => {
                let Some(consumer) = self.open.remove(ask) else { return };
                let changes = entry(&mut self.consumers, &consumer);
                match outcome {
                    Outcome::Ok(cut) => {
                        let asked = changes.iter_mut().find(|change| change.ask == *ask);
                        asked.into_iter().for_each(|change| change.told = Some((at, *cut)));
                    }
                    Outcome::Fail(_) => changes.retain(|change| change.ask != *ask),
                    // It may take effect at any time from now on.
                    Outcome::Unknown(_) => {}
                }
            }
            _ => {}
        }
    }

    /// Whether it is a durable consumer of the run.
    pub fn knows(&self, consumer: &str) -> bool {
        self.consumers.contains_key(consumer)
    }

    /// What held of that which `read` finds in definitions; `None`: that is not certain.
    fn value<T>(
        &self,
        consumer: &str,
        moment: Moment,
        default: T,
        read: impl Fn(&Definition) -> Option<T>,
    ) -> Option<T> {
        for change in self.consumers.get(consumer)?.iter().rev() {
            let Some(value) = read(&change.to) else { continue };
            match change.effect(moment) {
                Effect::Certain => return Some(value),
                Effect::None => {}
                Effect::Doubtful => return None,
            }
        }
        Some(default)
    }

    /// The order of its proxy.
    pub fn order(&self, consumer: &str, moment: Moment) -> Option<Order> {
        let read = |to: &Definition| Some(order(property(to, "order_policy")?));
        self.value(consumer, moment, Order::Fifo, read)
    }

    /// The timeout of its proxy in milliseconds; 0: none.
    pub fn timeout(&self, consumer: &str, moment: Moment) -> Option<u64> {
        let read = |to: &Definition| Some(number(property(to, "timeout")?));
        self.value(consumer, moment, 0, read)
    }

    /// Whether its proxy delivers nothing.
    pub fn is_suspended(&self, consumer: &str, moment: Moment) -> Option<bool> {
        let read = |to: &Definition| match to {
            Definition::Suspended(suspended) => Some(*suspended),
            Definition::Qos(_) => None,
        };
        self.value(consumer, moment, false, read)
    }

    /// The least number but 0 that a property may have had so far.
    pub fn least(&self, consumer: &str, name: &str) -> Option<u64> {
        let changes = self.consumers.get(consumer)?.iter();
        let numbers = changes.filter_map(|change| Some(number(property(&change.to, name)?)));
        numbers.filter(|number| *number > 0).min()
    }
}

fn property<'a>(to: &'a Definition, name: &str) -> Option<&'a str> {
    match to {
        Definition::Qos(wish) => wish.get(name).map(String::as_str),
        Definition::Suspended(_) => None,
    }
}

/// Nothing is set above the proxies of a run, so what is inherited is the default.
fn order(value: &str) -> Order {
    match value {
        "priority" => Order::Priority,
        "deadline" => Order::Deadline,
        _ => Order::Fifo,
    }
}

fn number(value: &str) -> u64 {
    value.parse().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::invariants::testing::{Story, story, wish};

    fn set(order: &str) -> Definition {
        Definition::Qos(wish(&[("order_policy", order)]))
    }

    fn of(story: Story) -> Definitions {
        let mut definitions = Definitions::default();
        story.records.iter().for_each(|r| definitions.observe(r.at, &r.what));
        definitions
    }

    #[test]
    fn a_change_holds_from_its_place_on_and_is_doubtful_before_it_is_known() {
        let story = story().subscribed_as(0, &[("order_policy", "priority"), ("timeout", "70")]);
        let story = story.redefine(1, set("deadline"));
        let asked = story.records.last().unwrap().at;
        let story = story.wait(10).redefined(1, 25, 20);
        let told = story.records.last().unwrap().at;
        let known = of(story);
        let order = |tenure, after, before| known.order("w", Moment { tenure, after, before });
        assert_eq!(order(20, 0, asked - 1), Some(Order::Priority));
        assert_eq!(order(20, 0, asked + 1), None);
        assert_eq!(order(20, told + 1, told + 9), Some(Order::Deadline));
        assert_eq!(order(26, 0, asked + 1), Some(Order::Deadline), "a tenure begun after it");
        assert_eq!(order(10, told + 1, told + 9), None, "a leader that may have been deposed");
        let moment = Moment { tenure: 26, after: 0, before: told };
        assert_eq!((known.timeout("w", moment), known.order("x", moment)), (Some(70), None));
        assert_eq!((known.least("w", "timeout"), known.least("w", "rate_limit")), (Some(70), None));
    }

    #[test]
    fn what_failed_did_not_happen_and_what_is_unknown_may_at_any_time() {
        let moment = Moment { tenure: 99, after: u64::MAX, before: u64::MAX };
        let story = story().subscribed(0).redefine(1, Definition::Suspended(true));
        let ended = |outcome| of(story.clone().then(What::Redefined { ask: 1, outcome }));
        let suspended = |known: Definitions| known.is_suspended("w", moment);
        assert_eq!(suspended(ended(Outcome::Fail("no_leader".into()))), Some(false));
        assert_eq!(suspended(ended(Outcome::Unknown("tenure_lost".into()))), None);
        assert_eq!(suspended(ended(Outcome::Ok(Cut { index: 5, tenure: 1 }))), Some(true));
    }
}
