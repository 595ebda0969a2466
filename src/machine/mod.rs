//! The replicated state machine: a pure function of its log.
//!
//! `Machine::apply(index, batch) -> replies` is all there is: no I/O, clock, randomness or hash
//! order. Time arrives as the batch's stamp, identity as the place in the log. Every replica that
//! applied the same entries has the same [`Machine::hash`].
//!
//! It holds *facts*: channels, durable proxies, lanes; which events were accepted
//! (as slots: payload key, size, who waits); and for each proxy which of them are settled and how.
//! It holds no event bytes, and nothing that can be derived from facts by the leader alone:
//! delivery order, leases, credit, filter verdicts.
//!
//! Invariants
//! - *Refusals are replies.* A refused command changes nothing; apply has no other failure.
//! - *Ledger.* For each proxy, `next_seq − start_seq` = the sum of its outcome counters + its
//!   pending events, all three kept independently: [`Machine::check_ledger`].
//! - *Retained only shrinks.* An event that is neither in history nor waited for, and no dead
//!   letter that is kept, never becomes retained again; a new proxy that starts before such holes
//!   gets them settled as `skipped`.
//! - *A letter is somewhere.* What a dead-letter channel accepted is kept there, or counted as
//!   replayed, dropped, pushed out or lost. Only what is kept is retained there.
//! - *Ids are never reused*: channels and proxies share one counter, lanes are named by their
//!   place in the log.
//! - *Time never runs backwards*: a batch with an earlier stamp is applied at the machine's own.
//!
//! Policies
//! - The pending cap of a channel is judged per event, only while durable proxies exist; dead
//!   letters pass it, since refusing them would block their proxy.
//! - A dead-letter channel `X.dead` is created when the first letter arrives. Suppliers cannot
//!   publish there. A letter that a proxy of `X.dead` gives up is `discarded`: there is no
//!   `X.dead.dead`. Letters stay until they are replayed or dropped; beyond a limit the oldest are
//!   pushed out, since refusing new ones would block their proxy, too.
//! - A letter is replayed as a new event with the payload key of the old one, for the proxy that
//!   gave it up alone (for the others it ends as `skipped` in the same step) or for all. Caps hold
//!   as for a publish.
//! - Events are of types, which have numbers in their channel while they are retained. A publish of
//!   more types than a channel may have is refused; dead letters keep their type whatever the number.
//! - Settlements name sequences of the proxy; those never offered to it are ignored.
//!
//! Left out: where payloads lie (storage), what is in flight (dispatch), who is connected.
//!
//! Clones share chunks of slots, proxies, channels and lanes until written: a snapshot is built
//! from a clone while apply goes on.
#![deny(clippy::disallowed_types, clippy::disallowed_methods)]

mod admin;
mod apply;
mod batch;
mod block;
mod channel;
mod chunk;
mod command;
mod dead_letters;
mod dedup;
mod fact;
mod image;
mod lane;
mod ledger;
mod live;
mod loss;
mod offered;
mod proxy;
mod sequences;
mod settled;
mod shared;
mod slot;
mod slots;
mod state;
#[cfg(test)]
mod tests;
mod transient;

pub use admin::{Admin, Admins};
pub use batch::BatchError;
pub use block::{
    EVENT_PREFIX_BYTES, PayloadLocation, block_holds, events, payload_location, payload_locations,
};
pub use channel::Channel;
pub use command::{
    Batch, Command, LaneTarget, LetterFate, LetterRun, Publish, PublishRun, Published, ReplayTo,
    Reply, Settle, SettlePart, Settled, Target,
};
pub use dead_letters::{DeadLetter, LetterCounts};
pub use image::ImageError;
pub use lane::Lane;
pub use live::LiveKey;
pub use loss::Loss;
pub use proxy::Proxy;
pub use slot::{Mark, Slot, Tally};
pub use state::Machine;
pub use transient::SEQUENCE_BLOCK;
