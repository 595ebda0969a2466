//! The test bed: real `aqueduct` processes on real disks, connected by real sockets.
//!
//! ```text
//! bed ─► processes (pidfd) ─► disks (ext4 image, tmpfs, directory)
//!  │          └─► shim (LD_PRELOAD: failing syncs, full disk, wall clock)
//!  ├─► network: links (directed rules) ◄─ namespaces + switch, or proxies
//!  └─► roster: which nodes there are, and how they are
//! ```
//!
//! A bed does what it is told to its nodes; what to do when is the business of faults and
//! scenarios. Everything is taken down when it is dropped; what a killed run leaves behind the next
//! one sweeps. What cannot be had on this machine is listed in [`Bed::left_out`].

#[allow(clippy::module_inception)]
mod bed;
pub mod binary;
mod cluster;
mod disaster;
mod disk;
mod disk_work;
mod leftovers;
pub mod network;
mod options;
mod process;
mod rejoin;
mod roster;
mod shim;

pub use bed::Bed;
pub use disk::Disk;
pub use leftovers::sweep;
pub use network::{Host, Links, Network, Shape};
pub use options::{BedOptions, DiskKind, NetworkKind};
pub use roster::{NodeInfo, Roster, State};
pub use shim::{ShimControl, ShimCounts};
