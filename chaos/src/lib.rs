//! Proof for aqueduct: whole clusters simulated by seed, and faults on real processes.
//!
//! ```text
//! workloads ─► records ─► history ─► invariants ─► verdict ─► report
//!                 ▲
//!   sim (virtual time, network, disk)   or   scenarios + faults + bed (processes, disks)
//! ```
//!
//! Both halves write the same [`history::Record`]s and are judged by the same [`invariants`], one
//! file each. Imports point downwards: `history` knows nobody; `invariants` and `report` know
//! `history`; `workloads` know the product's client; `sim` and `scenarios` are on top and strangers
//! to each other.

pub mod history;
mod table;

pub mod invariants;
pub mod report;
pub mod verdict;

pub mod bed;
pub mod faults;
pub mod workloads;

pub mod scenarios;
pub mod sim;

pub mod cli;
mod interrupt;
