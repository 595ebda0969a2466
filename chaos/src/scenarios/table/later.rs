//! What the product does not do yet. Written down so that it is listed as left out, and not
//! forgotten. Nothing at present.

use crate::scenarios::Scenario;

pub const ALL: &[Scenario] = &[];
