mod cluster;
mod elections;
pub mod rig;
mod suite;
