mod cluster;
mod rig;
mod suite;
