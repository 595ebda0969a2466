//! A consumer admin: a group of proxies that inherit from it.

use serde::{Deserialize, Serialize};

use crate::types::{Qos, Subscription};

/// OMG ConsumerAdmin: what is set here holds for its proxies, unless they set their own. (One
/// sentence of the paper has it own the proxies of suppliers; its figure and OMG say as here.)
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Admin {
    pub qos: Qos,
    /// Its proxies deliver nothing.
    pub suspended: bool,
    /// The types of events that its proxies get, as far as they want them themselves.
    pub types: Subscription,
}
