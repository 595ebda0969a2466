//! One client's conversation with the leader.
//!
//! ```text
//!          frames ─► Session::on_message ─► effects: propose, ask delivery, send, close
//! replicated reply ─► Session::on_reply  ─►   "
//!        delivery ─────────────────────────► outbox ─► payloads ─► frames
//! ```
//!
//! [`Session`] is sans-I/O: it checks everything that a client says, keeps the open lanes and the
//! attached consumers, and turns replies into answers. [`serve`] is its thin shell: one task per
//! client that reads, proposes, loads payloads and writes.
//!
//! Invariants:
//! - Nothing unchecked reaches a log entry: names, counts, lengths and sizes end here.
//! - The answers of a lane leave in the order of its publishes, those refused here included. When
//!   the lane is opened again, those of the epoch before end with the answer to the opening.
//! - A session lives in one tenure. When the tenure ends it says goodbye, and the client resumes.
//! - A client that does not read stops being read, and holds up nobody else: queues are per
//!   session, and bounded by what the client itself has in flight.
//! - A source that a client serves is polled when it is due, one poll at a time, and only while there
//!   is room for what it may give: in its lane, its channel and the queue to the log.
//! - An event whose payload cannot be read is offered again later; the events behind it go on.
//!
//! Left out: the handshake (the node does it), which events go to whom (`dispatch`), and resuming
//! after a break (the client).

mod consumers;
mod conversation;
mod lane;
mod publishing;
mod serve;
mod sources;
mod suppliers;
mod view;
mod writer;

#[cfg(test)]
mod tests;

pub use conversation::{Effect, Pending, Session};
pub use serve::{End, Options, serve};
pub use suppliers::{Connected, Suppliers};
pub use view::{ChannelView, ProxyView, View};
