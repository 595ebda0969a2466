//! Delivery order and state: which event goes to which consumer, and when again.
//!
//! What is replicated are facts: which events exist, and which are settled for which durable proxy.
//! All else about delivery is *soft state* of the leader and lives here: who is attached, what is in
//! flight, leases, delays, credit, waiting pulls. It is dropped when a tenure begins, and derived
//! anew from facts: every unsettled event goes again, at its own place in the order.
//!
//! The driver (`delivery`) feeds inputs in, calls [`Dispatcher::poll`] when inputs came or
//! [`Dispatcher::next_wakeup`] has passed, and carries out the returned [`Action`]s.
//!
//! Invariants:
//! - An event is in flight at one consumer of a proxy at most.
//! - Events of a proxy go in its order: that of sequences, of priorities or of ends, whichever it
//!   has now; what goes again goes at its own place. Competing consumers take turns, an event each.
//! - An event that has ended by its stop time, a timeout or a discard policy is not delivered; one
//!   that is at a consumer then is left to it. Nothing goes before its start time.
//! - Events of an exclusive proxy go to its holder alone, marked with the holder's token, and only
//!   once it is a fact; nothing that was said under an earlier token is proposed under a later one.
//! - Whatever can go goes: after a poll that leaves no wake-up due, no event waits while a consumer
//!   that may have it wants one and the proxy's window has room.
//! - The window (delivered and unsettled: in flight, waiting to go again, delayed) never exceeds
//!   the proxy's `max_in_flight`. An acked event leaves it at once, before its settlement commits;
//!   it goes again only if that settlement failed, and no other verdict on it is left.
//! - A verdict that was refused for now (the log had no room) is proposed again after a pause, one
//!   proposal for all that waits; its event does not go again meanwhile.
//! - Nothing goes once the facts say it is settled.
//! - A failed attempt is a nack, the end of a lease, or a broken connection. An event with
//!   `max_deliveries` of them is dead-lettered, and does not go again before it is, whatever
//!   becomes of the proposal; for proxies with that limit each attempt is put on record.
//! - An event that a proxy does not want, by the types that it and its admin are subscribed to, is not
//!   delivered and ends as `filtered`, unless a consumer has it already. Nothing else happens to it.
//! - A volatile consumer gets every event from its start on that it wants, or is told of the gap. It
//!   holds nothing back for others.
//! - The work of a poll is bounded ([`limits::DISPATCH_EVENTS_MAX`]) and only touches what changed.
//!
//! Left out: payloads (an event is its key, its size, its type and what it asks for), and filters by
//! content.
//!
//! [`limits::DISPATCH_EVENTS_MAX`]: crate::types::limits::DISPATCH_EVENTS_MAX
#![deny(clippy::disallowed_types, clippy::disallowed_methods)]

mod action;
mod calendar;
mod catalog;
mod consumers;
mod demand;
mod dispatcher;
mod facts;
mod fanout;
mod hold;
mod interests;
mod judging;
mod pacing;
mod pause;
mod progress;
mod proposals;
mod queue;
mod rate;
mod serve;
mod sieve;
mod timers;
mod turns;
mod verdicts;
mod victims;
mod window;

#[cfg(test)]
mod tests;

pub use action::{Action, Attachment, ConsumerKey, Delivery, Departure, Mode, Pull, Settlement};
pub use dispatcher::Dispatcher;
pub use facts::{Facts, ProxyFacts, SlotFacts};
pub use turns::TurnStats;
