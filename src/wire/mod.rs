//! What clients and nodes say to each other, and its bytes.
//!
//! ```text
//! Hello ─► Welcome | Refused          identity and version, before anything else
//! ClientMessage ─►                    lanes, publishes, consumers, settlements
//!               ◄─ ServerMessage      their answers, deliveries
//! admin::AdminService                 typed questions and answers (tarpc), after the same Hello
//! ```
//!
//! A message becomes `(kind, parts)` and comes back from `(kind, body)`: sans-I/O, a stranger to
//! `transport`, which carries it in a frame. A body is the postcard encoding of the message's head,
//! followed, for messages with events, by the events' raw bytes. `docs/PROTOCOL.md` has every
//! byte, and a test compares it with the code.
//!
//! Invariants:
//! - Event bytes are shared with the frame they came in, and with the frame they leave in.
//! - Decoding never panics, and allocates in proportion to the body's actual length: heads are
//!   bounded by [`limits::MESSAGE_HEAD_BYTES_MAX`](crate::types::limits::MESSAGE_HEAD_BYTES_MAX).
//! - A decoded message is valid in itself: names are names, sets of sequences are sorted and
//!   disjoint, counts fit their data. The events of a publish are checked by whoever takes them
//!   ([`EventsBlock::check`]).
//!
//! Left out: who may say what when (`session`), and what it does (`machine`).

pub mod admin;
mod block;
mod client;
mod codec;
mod deliver;
mod handshake;
mod ranges;
mod server;
#[cfg(test)]
mod tests;

pub use block::{EventsBlock, EventsBlockBuilder};
pub use client::{
    Attach, AttachTarget, ClientMessage, Credit, Detach, FlowMode, LaneTarget, Nack, OpenLane,
    Ping, Polled, Publish, Pull, Serve, Settle, Skip, Terminate,
};
pub use codec::{Encoded, Payload, WireError};
pub use deliver::{DeadLetter, Deliver, Delivery};
pub use handshake::{
    Greeting, Hello, POLLS_SINCE, PROTOCOL_VERSION, PROTOCOL_VERSION_MIN, Service, Welcome,
    newest_version, speak_at_most,
};
pub use server::{
    AckRun, Attached, Closed, Done, Failed, Gap, Goodbye, LaneOpened, Poll, Pong, PublishAck,
    PullDone, ServerMessage, SettleConfirmed,
};
