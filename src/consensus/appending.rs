//! The stream of appends to one peer.
//!
//! A request is sent when the one before it is answered: while it is on its way the next one fills.
//! A request that brings nothing but a newer commit waits a moment for entries that may bring it
//! along. Under load this saves half of the messages between members, and a follower that hears of
//! a commit a little later loses nothing: it serves nobody, and heartbeats carry commits, too.

use std::time::Duration;

use futures::stream::{self, BoxStream, Stream, StreamExt};
use openraft::RaftNetworkV2;
use openraft::errors::RPCError;
use openraft::network::RPCOption;
use openraft::raft::{AppendEntriesRequest, AppendEntriesResponse, StreamAppendResult};

use super::config::{RaftLogId, RaftRuntime, Types};
use super::network::Peer;

/// So long a commit waits for entries to go with.
const COMMIT_PAUSE: Duration = Duration::from_millis(10);

/// What became of one request.
type Answer<E> = Result<StreamAppendResult<Types<E>>, RPCError<Types<E>>>;

/// The answers to the requests of a stream, in their order. It ends with the first that is not a
/// full success.
pub(super) type Answers<'s, E> = BoxStream<'s, Answer<E>>;

/// Sends the requests of `input` to `peer`.
pub(super) fn answers<'s, E, S>(
    peer: &'s mut Peer<E>,
    input: S,
    option: RPCOption,
) -> Answers<'s, E>
where
    E: RaftRuntime,
    S: Stream<Item = AppendEntriesRequest<Types<E>>> + Send + Unpin + 'static,
{
    let session = Session { peer, input, option, matched: None, drained: false, ended: false };
    stream::unfold(session, async |mut session| Some((session.step().await?, session))).boxed()
}

struct Session<'s, E, S> {
    peer: &'s mut Peer<E>,
    input: S,
    option: RPCOption,
    /// How far the peer's log agrees with ours, once it has said so.
    matched: Option<RaftLogId>,
    /// No more requests come.
    drained: bool,
    ended: bool,
}

impl<E: RaftRuntime, S> Session<'_, E, S>
where
    S: Stream<Item = AppendEntriesRequest<Types<E>>> + Unpin,
{
    /// The answer to the next request; `None` at the end.
    async fn step(&mut self) -> Option<Answer<E>> {
        if self.ended {
            return None;
        }
        let request = self.next().await?;
        let prev = request.prev_log_id;
        let last = request.entries.last().map_or(prev, |entry| Some(entry.log_id));
        self.ended = true;
        let answer = match self.peer.append_entries(request, self.option.clone()).await {
            Ok(answer) => answer,
            Err(error) => return Some(Err(error)),
        };
        let whole = match &answer {
            AppendEntriesResponse::PartialSuccess(upto) => *upto == last,
            answer => answer.is_success(),
        };
        let result = answer.into_stream_result(prev, last);
        if let Ok(matched) = &result {
            self.matched = *matched;
            self.ended = !whole;
        }
        Some(Ok(result))
    }

    async fn next(&mut self) -> Option<AppendEntriesRequest<Types<E>>> {
        if self.drained {
            return None;
        }
        let request = self.input.next().await?;
        let probes = self.matched.is_none() || request.prev_log_id != self.matched;
        if probes || !request.entries.is_empty() {
            return Some(request);
        }
        tokio::select! { biased;
            next = self.input.next() => {
                // A stream must not be asked again after its end.
                self.drained = next.is_none();
                next.or(Some(request))
            }
            () = self.peer.env.sleep(COMMIT_PAUSE) => Some(request),
        }
    }
}
