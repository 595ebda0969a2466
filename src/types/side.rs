//! The two sides of a channel.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::Level;

/// Which side of a channel an admin is for.
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(rename_all = "snake_case")]
pub enum Side {
    /// OMG ConsumerAdmin: its proxies are connected to consumers.
    #[default]
    Consumer,
    /// OMG SupplierAdmin: its proxies, the lanes, are connected to suppliers.
    Supplier,
}

impl Side {
    /// The level on which an admin of this side sets properties.
    pub fn admin_level(self) -> Level {
        match self {
            Side::Consumer => Level::Admin,
            Side::Supplier => Level::SupplierAdmin,
        }
    }
}

impl fmt::Display for Side {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Side::Consumer => "consumer",
            Side::Supplier => "supplier",
        })
    }
}
