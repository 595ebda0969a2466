mod cluster;
mod damage;
mod elections;
pub mod rig;
mod snapshots;
mod suite;
