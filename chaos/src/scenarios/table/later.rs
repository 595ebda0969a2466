//! What the product does not do yet. Written down so that it is listed as left out, and not
//! forgotten.

use super::DEFAULT;
use crate::scenarios::Scenario;

pub const ALL: &[Scenario] = &[Scenario {
    name: "recovery-from-a-full-disk",
    guards: "a node whose disk was full takes part again once there is room, without a \
                 restart by hand",
    later: Some("recovering from a full disk is not built yet"),
    ..DEFAULT
}];
