//! Aqueduct: a fault-tolerant event channel service.
//!
//! Start with `docs/ARCHITECTURE.md`. Modules are listed bottom first; imports point only
//! downwards, and `tests/layers.rs` holds it.
#![allow(clippy::disallowed_types, clippy::disallowed_methods)]

pub mod client;
pub mod delivery;
pub mod dispatch;
pub mod env;
pub mod intake;
pub mod machine;
pub mod schedule;
pub mod session;
pub mod storage;
pub mod transport;
pub mod types;
pub mod wire;

pub mod consensus;

<<<<<<< HEAD
pub mod cli;
=======
pub mod admin;
pub mod relay;

>>>>>>> main
pub mod node;
