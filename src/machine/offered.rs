//! The types of a channel's retained events (OMG `obtain_offered_types`), each under a number that
//! its slots bear.
//!
//! A type has a number while events of it are retained; then the number is free, and the next new
//! type takes the lowest that is. So numbers follow from the log, and are as many as types.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use super::fact::{self, Kind};
#[cfg(not(test))]
use crate::types::limits::TYPES_PER_CHANNEL_MAX;
use crate::types::{EventType, TypeId, TypeRef};

/// Few, so that tests get there.
#[cfg(test)]
const TYPES_PER_CHANNEL_MAX: usize = 5;

/// More than there are ever in use: a channel of dead letters has one for each letter, at most.
const NUMBERS_MAX: u32 = 1 << 20;

/// The types of one channel. Those without a name have number 0 and are not in here.
#[derive(Debug, Clone, Default)]
pub(super) struct Offered {
    by_id: BTreeMap<TypeId, Offer>,
    /// By domain, then by type.
    ids: BTreeMap<String, BTreeMap<String, TypeId>>,
    /// Numbers below the highest that are not in use.
    free: BTreeSet<TypeId>,
}

#[derive(Debug, Clone)]
struct Offer {
    name: Arc<EventType>,
    /// Of the name: what a slot's fact has of it.
    hash: u64,
    retained: u64,
}

impl Offer {
    fn new(name: EventType) -> Offer {
        let hash = fact::of_value(Kind::EventType, &name);
        Offer { name: Arc::new(name), hash, retained: 0 }
    }
}

impl Offered {
    /// The number of this type, given if it has none; `None` if there are too many, unless it is to
    /// be `forced`.
    pub fn number(&mut self, of: TypeRef, forced: bool) -> Option<TypeId> {
        if of.is_empty() {
            return Some(TypeId::default());
        }
        if let Some(id) = self.ids.get(of.domain).and_then(|kinds| kinds.get(of.kind)) {
            return Some(*id);
        }
        if self.by_id.len() >= TYPES_PER_CHANNEL_MAX && !forced {
            return None;
        }
        let id = self.free.pop_first().unwrap_or(TypeId(self.by_id.len() as u32 + 1));
        self.enter(id, Offer::new(of.into()));
        Some(id)
    }

    fn enter(&mut self, id: TypeId, offer: Offer) {
        let EventType { domain, kind } = (*offer.name).clone();
        self.ids.entry(domain).or_default().insert(kind, id);
        self.by_id.insert(id, offer);
    }

    /// One more retained event is of this type. What its slot's fact has of the type.
    pub fn retain(&mut self, id: TypeId) -> Option<u64> {
        let offer = self.by_id.get_mut(&id)?;
        offer.retained += 1;
        Some(offer.hash)
    }

    /// One fewer, likewise; without any the type is forgotten.
    pub fn release(&mut self, id: TypeId) -> Option<u64> {
        let offer = self.by_id.get_mut(&id)?;
        offer.retained = offer.retained.saturating_sub(1);
        let hash = offer.hash;
        if offer.retained == 0 {
            self.forget(id);
        }
        Some(hash)
    }

    fn forget(&mut self, id: TypeId) {
        let Some(Offer { name, .. }) = self.by_id.remove(&id) else { return };
        if let Some(kinds) = self.ids.get_mut(&name.domain) {
            kinds.remove(&name.kind);
            if kinds.is_empty() {
                self.ids.remove(&name.domain);
            }
        }
        self.free.insert(id);
        let last = self.by_id.last_key_value().map_or(TypeId::default(), |(last, _)| *last);
        while self.free.last().is_some_and(|free| *free > last) {
            self.free.pop_last();
        }
    }

    /// What a slot's fact has of a type.
    pub fn hash(&self, id: TypeId) -> Option<u64> {
        self.by_id.get(&id).map(|offer| offer.hash)
    }

    /// How many retained events are of this type; `None` for none.
    pub fn retained(&self, id: TypeId) -> Option<u64> {
        self.by_id.get(&id).map(|offer| offer.retained)
    }

    /// The name of a number.
    pub fn name(&self, id: TypeId) -> Option<&Arc<EventType>> {
        self.by_id.get(&id).map(|offer| &offer.name)
    }

    /// All types, by number, each with how many retained events are of it.
    pub fn iter(&self) -> impl Iterator<Item = (TypeId, &Arc<EventType>, u64)> {
        self.by_id.iter().map(|(id, offer)| (*id, &offer.name, offer.retained))
    }

    /// Nothing is known to be retained.
    pub fn forget_counts(&mut self) {
        self.by_id.values_mut().for_each(|offer| offer.retained = 0);
    }
}

/// Numbers and names; all else follows from them and the slots.
impl Serialize for Offered {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.by_id.iter().map(|(id, offer)| (id, &*offer.name)))
    }
}

impl<'de> Deserialize<'de> for Offered {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Offered, D::Error> {
        let names = BTreeMap::<TypeId, EventType>::deserialize(deserializer)?;
        let mut offered = Offered::default();
        let last = names.keys().next_back().map_or(0, |id| id.0);
        if last > NUMBERS_MAX || names.contains_key(&TypeId::default()) {
            return Err(de::Error::custom("numbers of types that none can have"));
        }
        offered.free = (1..last).map(TypeId).filter(|id| !names.contains_key(id)).collect();
        names.into_iter().for_each(|(id, name)| offered.enter(id, Offer::new(name)));
        Ok(offered)
    }
}
