//! The openraft instance, and how entries are handed to it.

use bytes::Bytes;
use openraft::errors::{ClientWriteError, ForwardReason};
use openraft::raft::ClientWriteResult;

use super::config::{Proposal, RaftRuntime, Types};
use super::proposer::{Outcome, Writer};
use super::responder::Callback;
use super::state_machine::StateMachine;

pub(super) type Raft<E> = openraft::Raft<Types<E>, StateMachine<E>>;

/// Writes entries through openraft.
pub(super) struct RaftWriter<E: RaftRuntime>(pub Raft<E>);

impl<E: RaftRuntime> Writer for RaftWriter<E> {
    async fn write(&self, entry: Bytes, answer: impl FnOnce(Outcome) + Send + 'static) {
        let callback = Callback::new(move |result| answer(outcome::<E>(result)));
        // When it fails the callback was dropped, and so told that nobody knows.
        let _ = self.0.client_write_ff(Proposal(entry), Some(callback)).await;
    }
}

fn outcome<E: RaftRuntime>(result: Option<ClientWriteResult<Types<E>>>) -> Outcome {
    match result {
        Some(Ok(response)) => Outcome::Applied(response.data.0),
        Some(Err(ClientWriteError::ForwardToLeader(forward))) => match forward.reason {
            ForwardReason::LeaseExpired => Outcome::NoLease,
            _ => Outcome::Refused(forward.leader_node),
        },
        // The entry was in the log here, and may be in another leader's.
        Some(Err(_)) | None => Outcome::Unknown,
    }
}
