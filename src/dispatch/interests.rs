//! Who wants which events of a channel: an index from types to those that pick, derived from the
//! facts.
//!
//! A type is looked up once, when events of it first come: by its name among the patterns that pick
//! one type, then along those with a `*`. From then on its number says who wants it. Whoever wants
//! everything is not in here, so a channel without patterns costs nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::dispatcher::Owner;
use super::{ConsumerKey, Facts};
use crate::types::{
    ChannelId, EventType, Interest, ProxyId, SeqRange, Subscription, TypeId, TypePattern,
};

/// Those who pick in one channel, and what.
#[derive(Debug, Default)]
pub(super) struct Interests {
    owners: BTreeMap<Owner, Interest>,
    /// By the patterns that decide first: their own, or their admin's if they have none.
    exact: BTreeMap<EventType, BTreeSet<Owner>>,
    wild: BTreeMap<TypePattern, BTreeSet<Owner>>,
    /// The types that retained events have, or had.
    types: BTreeMap<TypeId, Known>,
}

#[derive(Debug)]
struct Known {
    name: Arc<EventType>,
    /// Those of `owners` that want it.
    wanted_by: BTreeSet<Owner>,
}

impl Interests {
    /// Whether everybody wants everything.
    pub fn is_empty(&self) -> bool {
        self.owners.is_empty()
    }

    /// Whether this one does not want everything.
    pub fn picks(&self, owner: Owner) -> bool {
        self.owners.contains_key(&owner)
    }

    /// Whether an owner wants events of a type. Types must be known.
    pub fn wants(&self, owner: Owner, kind: TypeId) -> bool {
        let wanted = |known: &Known| known.wanted_by.contains(&owner);
        !self.picks(owner) || self.types.get(&kind).is_some_and(wanted)
    }

    /// Those that pick events of a type.
    pub fn wanted_by(&self, kind: TypeId) -> impl Iterator<Item = Owner> + '_ {
        self.types.get(&kind).into_iter().flat_map(|known| known.wanted_by.iter().copied())
    }

    /// The durable proxies that pick.
    pub fn proxies(&self) -> impl Iterator<Item = ProxyId> + '_ {
        self.owners.keys().filter_map(|owner| match owner {
            Owner::Proxy(proxy) => Some(*proxy),
            Owner::Volatile(_) => None,
        })
    }

    /// Takes in what the proxies of a channel are defined to want; those whose wishes changed.
    pub fn define(&mut self, facts: &impl Facts, channel: ChannelId) -> Vec<ProxyId> {
        let mut gone: BTreeSet<ProxyId> = self.proxies().collect();
        let mut changed = Vec::new();
        for id in facts.proxies(channel) {
            let picks = facts.proxy(id).is_some_and(|proxy| proxy.picks);
            let interest = if picks { facts.interest(id) } else { Interest::default() };
            gone.remove(&id);
            let owner = Owner::Proxy(id);
            if self.owners.get(&owner).unwrap_or(&Interest::default()) != &interest {
                self.set(owner, interest);
                changed.push(id);
            }
        }
        gone.into_iter().for_each(|id| self.set(Owner::Proxy(id), Interest::default()));
        self.know_all(facts, channel);
        changed
    }

    /// A plain subscriber wants these.
    pub fn join(
        &mut self,
        facts: &impl Facts,
        channel: ChannelId,
        consumer: ConsumerKey,
        own: Subscription,
    ) {
        self.set(Owner::Volatile(consumer), Interest { own, ..Interest::default() });
        self.know_all(facts, channel);
    }

    /// A plain subscriber is gone.
    pub fn leave(&mut self, consumer: ConsumerKey) {
        self.set(Owner::Volatile(consumer), Interest::default());
    }

    fn set(&mut self, owner: Owner, interest: Interest) {
        if let Some(old) = self.owners.remove(&owner) {
            for pattern in leading(&old).iter() {
                self.index(pattern, |owners| owners.remove(&owner));
            }
        }
        for known in self.types.values_mut() {
            match !interest.is_whole() && interest.wants(known.name.borrow()) {
                true => known.wanted_by.insert(owner),
                false => known.wanted_by.remove(&owner),
            };
        }
        if interest.is_whole() {
            return;
        }
        for pattern in leading(&interest).iter() {
            self.index(pattern, |owners| owners.insert(owner));
        }
        self.owners.insert(owner, interest);
    }

    /// Changes who has a pattern.
    fn index(&mut self, pattern: &TypePattern, change: impl FnOnce(&mut BTreeSet<Owner>) -> bool) {
        match pattern.exact() {
            Some(name) => {
                let owners = self.exact.entry(name.clone()).or_default();
                change(owners);
                if owners.is_empty() {
                    self.exact.remove(&name);
                }
            }
            None => {
                let owners = self.wild.entry(pattern.clone()).or_default();
                change(owners);
                if owners.is_empty() {
                    self.wild.remove(pattern);
                }
            }
        }
    }

    /// Takes in the types of everything that is retained.
    fn know_all(&mut self, facts: &impl Facts, channel: ChannelId) {
        if self.is_empty() {
            self.types.clear();
            return;
        }
        for (id, name) in facts.types(channel) {
            self.know(id, name);
        }
        self.know(TypeId::default(), &Arc::default());
    }

    /// The types of these events, in stretches, each of which is known from then on.
    pub fn learn(
        &mut self,
        facts: &impl Facts,
        channel: ChannelId,
        range: SeqRange,
    ) -> Vec<(SeqRange, TypeId)> {
        let stretches: Vec<(SeqRange, TypeId)> = facts.types_in(channel, range).collect();
        for (_, id) in &stretches {
            if let Some(name) = facts.event_type(channel, *id) {
                self.know(*id, name);
            }
        }
        stretches
    }

    /// The number is that of this type, now.
    fn know(&mut self, id: TypeId, name: &Arc<EventType>) {
        let same = |known: &Known| Arc::ptr_eq(&known.name, name) || known.name == *name;
        if self.types.get(&id).is_some_and(same) {
            return;
        }
        let exact = self.exact.get(&**name).into_iter().flatten();
        let wild = self.wild.iter().filter(|(pattern, _)| pattern.picks(name.borrow()));
        let candidates = exact.chain(wild.flat_map(|(_, owners)| owners));
        let wants = |owner: &&Owner| self.owners.get(owner).is_some_and(|i| i.wants(name.borrow()));
        let wanted_by = candidates.filter(wants).copied().collect();
        self.types.insert(id, Known { name: name.clone(), wanted_by });
    }
}

/// The patterns that decide first.
fn leading(interest: &Interest) -> &Subscription {
    if interest.own.is_empty() { &interest.admin } else { &interest.own }
}
