//! Whole clusters in one thread, by seed.
//!
//! ```text
//! seed ─► plan (cluster, load, faults) ─► run ─► records ─► judge
//!                                          │
//!          world: nodes (the product's own parts) on SimEnv, SimNet and MemDisk
//!          nemesis: carries out the plan's faults
//! ```
//!
//! Everything runs on a deterministic runtime with virtual time; whatever is drawn is drawn from
//! the seed, so the same seed is the same run, record by record. What is *not* the product's here:
//! sled (plain files instead), tokio's runtime, sockets, and the admin service.

mod command;
pub mod coverage;
mod damage;
mod env;
mod exact;
mod eyes;
mod hands;
mod membership;
mod nemesis;
mod net;
mod node;
mod observer;
mod pipe;
pub mod plan;
mod plan_file;
mod recorder;
mod run;
mod shrink;
mod stream;
mod weather;
mod world;

pub use command::{Failure, SimArgs, Summary, shown, simulate};
pub use plan_file::Usage;
pub use run::{Ran, run, watch_panics};
