//! An admin: a group of proxies, of one side of a channel, that inherit from it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::types::{Name, Qos, Side, Subscription};

/// What is set here holds for the proxies of the admin, unless they set their own. An OMG
/// ConsumerAdmin has what consumers are connected to, a SupplierAdmin the lanes of suppliers. (One
/// sentence of the paper has it the other way round; its figure and OMG say as here.)
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Admin {
    pub qos: Qos,
    /// Its proxies deliver nothing; its lanes take nothing.
    pub suspended: bool,
    /// The types of events that its proxies get, as far as they want them themselves.
    pub types: Subscription,
}

/// The admins of a channel. Each side has a default one, which is written down only once something
/// is set for it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Admins {
    consumer: BTreeMap<Name, Admin>,
    supplier: BTreeMap<Name, Admin>,
}

impl Admins {
    fn of(&self, side: Side) -> &BTreeMap<Name, Admin> {
        match side {
            Side::Consumer => &self.consumer,
            Side::Supplier => &self.supplier,
        }
    }

    pub(super) fn of_mut(&mut self, side: Side) -> &mut BTreeMap<Name, Admin> {
        match side {
            Side::Consumer => &mut self.consumer,
            Side::Supplier => &mut self.supplier,
        }
    }

    /// The admins of a side, by name; the default one first if nothing was ever set for it.
    pub fn iter(&self, side: Side) -> impl Iterator<Item = (Name, Admin)> {
        let (default, set) = (Name::default_admin(), self.of(side));
        let unset = (!set.contains_key(&default)).then(|| (default, Admin::default()));
        let set = set.iter().map(|(name, admin)| (name.clone(), admin.clone()));
        unset.into_iter().chain(set)
    }

    /// The admin of this name, if there is one.
    pub fn get(&self, side: Side, name: &Name) -> Option<Admin> {
        let default = || (*name == Name::default_admin()).then(Admin::default);
        self.written(side, name).cloned().or_else(default)
    }

    /// The same, unless it is the default one and nothing was ever set for it.
    pub(super) fn written(&self, side: Side, name: &Name) -> Option<&Admin> {
        self.of(side).get(name)
    }

    /// Every admin that is written down.
    pub(super) fn all_written(&self) -> impl Iterator<Item = (Side, &Name, &Admin)> {
        let sides = [Side::Consumer, Side::Supplier].into_iter();
        sides.flat_map(|side| self.of(side).iter().map(move |(name, admin)| (side, name, admin)))
    }
}
