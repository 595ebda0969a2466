//! Tests of the codec: the documented bytes, round trips, hostile bytes, and the admin service.

mod admin;
mod documented;
mod examples;
mod hostile;
mod round_trip;
