//! Clusters of real processes: found, led, killed, paused, grown, shrunk, and asked.
//!
//! Everything goes through the program as a user runs it, so that these tests hold the command
//! contract too.

mod admission;
mod backup;
mod best_effort;
mod dead_letters;
mod delivery;
mod disaster;
mod dump;
mod exclusive;
mod failover;
mod full_disk;
mod inactivity;
mod interrupt;
mod membership;
mod quality;
mod suppliers;
mod support;
mod types;
mod upgrade;
