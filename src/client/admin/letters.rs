//! Dead letters.

use super::{AdminClient, AdminError, Kind};
use crate::transport::Net;
use crate::types::{Name, Seq, SeqRanges};
use crate::wire::admin::{AdminServiceClient, Answer, LetterList, LetterShown, LettersDone};

/// A letter that was replayed or dropped is a letter no more, so asking for it again is harmless; the
/// answer to a repeat says `unknown` of what the first one did.
const REPEATABLE: Kind = Kind::Question;

impl<N: Net> AdminClient<N> {
    /// Dead letters of a channel (or of a dead-letter channel), oldest first: at most `limit` of them,
    /// and at most [`LETTERS_PER_COMMAND_MAX`](crate::types::limits::LETTERS_PER_COMMAND_MAX), with
    /// sequence `from` or later.
    pub async fn dead_letters(
        &self,
        channel: &Name,
        from: Seq,
        limit: u32,
    ) -> Result<Answer<LetterList>, AdminError> {
        let ask = |s: AdminServiceClient, c| {
            let channel = channel.clone();
            async move { s.dead_letters(c, channel, from, limit).await }
        };
        self.call(Kind::Question, ask).await
    }

    /// A dead letter with its event.
    pub async fn dead_letter(
        &self,
        channel: &Name,
        seq: Seq,
    ) -> Result<Answer<LetterShown>, AdminError> {
        let ask = |s: AdminServiceClient, c| {
            let channel = channel.clone();
            async move { s.dead_letter(c, channel, seq).await }
        };
        self.call(Kind::Question, ask).await
    }

    /// Gives dead letters back to the consumers that gave them up, or `to_all` of the channel.
    pub async fn replay_letters(
        &self,
        channel: &Name,
        sequences: &SeqRanges,
        to_all: bool,
    ) -> Result<Answer<LettersDone>, AdminError> {
        let ask = |s: AdminServiceClient, c| {
            let (channel, sequences) = (channel.clone(), sequences.clone());
            async move { s.replay_letters(c, channel, sequences, to_all).await }
        };
        self.call(REPEATABLE, ask).await
    }

    /// Gives dead letters up for good.
    pub async fn drop_letters(
        &self,
        channel: &Name,
        sequences: &SeqRanges,
    ) -> Result<Answer<LettersDone>, AdminError> {
        let ask = |s: AdminServiceClient, c| {
            let (channel, sequences) = (channel.clone(), sequences.clone());
            async move { s.drop_letters(c, channel, sequences).await }
        };
        self.call(REPEATABLE, ask).await
    }
}
