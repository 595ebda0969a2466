mod cluster;
mod elections;
mod rig;
mod suite;
