//! openraft's view of the log: [`crate::storage::LogStore`] in its words.
//!
//! Appends return at once and complete in order, from the log writer's callback. Votes and
//! truncations are durable on return; a purge is only queued (its floor becomes durable before
//! anything is deleted, and nothing depends on when).

use std::fmt::Debug;
use std::io;
use std::ops::{Bound, RangeBounds};

use futures::stream::{self, Stream, StreamExt, TryStreamExt};
use openraft::storage::{IOFlushed, LogState, RaftLogStorage};
use openraft::{OptionalSend, RaftLogReader};
use tokio::sync::oneshot;

use crate::storage::{Done, Entry, LogStore, StorageError};

use super::config::{RaftEntry, RaftLogId, RaftRuntime, RaftVote, Types};
use super::entry::{entry_id, log_id, pack, unpack};

/// Bytes of entries handed out by one limited read, so that a lagging follower does not pull the
/// whole log into memory.
const READ_BYTES_MAX: usize = 4 << 20;

/// The log of this node, for openraft; also its reader.
#[derive(Clone)]
pub(super) struct RaftLog<E> {
    log: LogStore,
    env: E,
}

impl<E: RaftRuntime> RaftLog<E> {
    pub fn new(log: LogStore, env: E) -> RaftLog<E> {
        RaftLog { log, env }
    }

    /// Consecutive entries from `start`, at least one unless there is none before `end`.
    async fn read(&self, start: u64, end: u64) -> io::Result<Vec<RaftEntry>> {
        let entries = if self.log.cached(start).is_some() {
            self.log.read(start..end, READ_BYTES_MAX)
        } else {
            let log = self.log.clone();
            let read = self.env.blocking(move || log.read(start..end, READ_BYTES_MAX)).await;
            read.unwrap_or(Err(StorageError::Closed))
        };
        let unpack = |entry: Entry| unpack(entry).map_err(io::Error::other);
        entries.map_err(io::Error::other)?.into_iter().map(unpack).collect()
    }

    /// The part of `range` that the log holds, as `start..end`.
    fn held(&self, range: impl RangeBounds<u64>) -> (u64, u64) {
        let state = self.log.state();
        let first = state.purged.map_or(0, |id| id.index + 1);
        let end = state.last.map_or(0, |id| id.index + 1);
        let from = match range.start_bound() {
            Bound::Included(start) => *start,
            Bound::Excluded(start) => start.saturating_add(1),
            Bound::Unbounded => 0,
        };
        let to = match range.end_bound() {
            Bound::Included(last) => last.saturating_add(1),
            Bound::Excluded(end) => *end,
            Bound::Unbounded => u64::MAX,
        };
        // An unpurged log need not begin at 0.
        let start = from.max(first);
        let start = if self.log.id(start).is_none() && state.purged.is_none() {
            (start..end).find(|index| self.log.id(*index).is_some()).unwrap_or(end)
        } else {
            start
        };
        (start, to.min(end))
    }
}

impl<E: RaftRuntime> RaftLogReader<Types<E>> for RaftLog<E> {
    async fn try_get_log_entries<RB: RangeBounds<u64> + Clone + Debug + OptionalSend>(
        &mut self,
        range: RB,
    ) -> io::Result<Vec<RaftEntry>> {
        let (mut start, end) = self.held(range);
        let mut entries = Vec::new();
        while start < end {
            let more = self.read(start, end).await?;
            start += more.len() as u64;
            entries.extend(more);
        }
        Ok(entries)
    }

    async fn limited_get_log_entries(
        &mut self,
        start: u64,
        end: u64,
    ) -> io::Result<Vec<RaftEntry>> {
        self.read(start, end).await
    }

    /// Piece by piece: a node that starts may have a gigabyte to apply.
    async fn entries_stream<RB>(
        &mut self,
        range: RB,
    ) -> impl Stream<Item = io::Result<RaftEntry>> + OptionalSend
    where
        RB: RangeBounds<u64> + Clone + Debug + OptionalSend,
    {
        let pieces =
            stream::try_unfold((self.clone(), self.held(range)), async |(log, (start, end))| {
                let piece = log.read(start, end).await?;
                let read = piece.len() as u64;
                io::Result::Ok(
                    (read > 0).then(|| (stream::iter(piece).map(Ok), (log, (start + read, end)))),
                )
            });
        pieces.try_flatten().boxed()
    }

    async fn read_vote(&mut self) -> io::Result<Option<RaftVote>> {
        let decode = |bytes: bytes::Bytes| {
            postcard::from_bytes(&bytes)
                .map_err(|e| io::Error::other(format!("the saved vote does not parse: {e}")))
        };
        self.log.vote().map(decode).transpose()
    }
}

impl<E: RaftRuntime> RaftLogStorage<Types<E>> for RaftLog<E> {
    type LogReader = RaftLog<E>;

    async fn get_log_state(&mut self) -> io::Result<LogState<Types<E>>> {
        let state = self.log.state();
        Ok(LogState {
            last_purged_log_id: state.purged.map(log_id),
            last_log_id: state.last.map(log_id),
        })
    }

    async fn get_log_reader(&mut self) -> RaftLog<E> {
        self.clone()
    }

    async fn save_vote(&mut self, vote: &RaftVote) -> io::Result<()> {
        let bytes = postcard::to_stdvec(vote).map_err(io::Error::other)?;
        finished(|done| self.log.save_vote(bytes.into(), done)).await
    }

    async fn append<I>(&mut self, entries: I, flushed: IOFlushed<Types<E>>) -> io::Result<()>
    where
        I: IntoIterator<Item = RaftEntry> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        let done = move |result: Result<(), StorageError>| {
            flushed.io_completed(result.map_err(io::Error::other))
        };
        self.log.append(entries.into_iter().map(pack).collect(), Box::new(done));
        Ok(())
    }

    async fn truncate_after(&mut self, last: Option<RaftLogId>) -> io::Result<()> {
        finished(|done| self.log.truncate_after(last.map(|id| id.index), done)).await
    }

    async fn purge(&mut self, upto: RaftLogId) -> io::Result<()> {
        let done = |result| {
            if let Err(error) = result {
                tracing::error!(%error, "purging the log failed");
            }
        };
        self.log.purge(entry_id(&upto), Box::new(done));
        Ok(())
    }
}

/// Waits for the log writer to finish an operation.
async fn finished(start: impl FnOnce(Done)) -> io::Result<()> {
    let (tell, told) = oneshot::channel();
    start(Box::new(move |result| {
        let _ = tell.send(result);
    }));
    told.await.unwrap_or(Err(StorageError::Closed)).map_err(io::Error::other)
}
