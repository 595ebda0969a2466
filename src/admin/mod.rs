//! Answers administrators, on every node.
//!
//! ```text
//! connection ─► Desk (one per connection: who asks) ─► Office (one per node) ─► Replica
//!                                                          │
//!                                     leader, other members (peer port, cluster token)
//! ```
//!
//! A question that needs the leader is passed on by a node that does not lead; one that was passed
//! on once is not passed on again. Reads are linearizable (the leader asks a majority) unless the
//! caller accepts a stale answer; each answer says which it is. Status and audit ask all members in
//! parallel and report those that do not answer as what they are: unreachable.
//!
//! [`Closed`] is the desk of a node that takes no part: quarantined, or not yet a member.
//!
//! Left out: pages for people (`console`), and stopping the node (it is told that it has left).

mod audit;
mod backups;
mod closed;
mod desk;
mod letters;
mod membership;
mod office;
mod quality;
mod report;

use futures::StreamExt;
use tarpc::server::{BaseChannel, Channel};

pub use closed::Closed;
pub use desk::{Caller, Desk};
pub use office::{Local, Office, Options};

use crate::transport::ByteStream;
use crate::types::limits;
use crate::wire::admin::{AdminService, server_transport};

/// Answers one administrator, whose handshake is done, until they leave. Requests are answered as
/// they finish, a bounded number at a time.
pub async fn serve<S: ByteStream>(stream: S, desk: impl AdminService + Clone) {
    let channel = BaseChannel::with_defaults(server_transport(stream));
    let answers = channel.execute(desk.serve());
    answers.for_each_concurrent(limits::ADMIN_REQUESTS_MAX, |answer| answer).await;
}
