//! What members say to each other, and its bytes.
//!
//! Body of a frame, little endian:
//!
//! ```text
//! 0   u32  group (0: a cluster runs one group today)
//! 4   u64  request id, repeated in the answer
//! 12  u32  length H of the head
//! 16  H    head: postcard of `Request` or `Response`
//! ..       bulk: entry bodies one after another, or a piece of a file, as the head announces
//! ```
//!
//! The head carries lengths, the bulk carries bytes: an entry's body goes from the log to the
//! socket and from the socket to the log without being copied or parsed.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::wire::PROTOCOL_VERSION_MIN;

use crate::storage::{Entry, FileInfo, Keys};
use crate::types::{EntryId, GroupId, PayloadKey};

use super::config::{RaftLogId, RaftVote, SnapshotMeta};
use super::evidence::{Finding, Standing};
use super::room::Room;

const FIXED_BYTES: usize = 16;
/// The only group of a cluster.
pub(super) const GROUP: GroupId = GroupId(0);

/// What is asked of a peer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) enum Request {
    Append(AppendHead),
    Vote {
        /// Asks whether the vote *would* be granted; nothing is saved.
        pre: bool,
        vote: RaftVote,
        last: Option<RaftLogId>,
        leadership_transfer: bool,
    },
    Transfer {
        from: RaftVote,
        to: u64,
        last: Option<RaftLogId>,
    },
    /// Announces a snapshot; answered by [`Response::Wanted`].
    Offer {
        vote: RaftVote,
        meta: SnapshotMeta,
        /// The snapshot's file and the segments it needs.
        files: Vec<FileInfo>,
    },
    /// A piece of a wanted file; the bulk is the piece. Answered by [`Response::Stored`].
    Piece {
        file: String,
        offset: u64,
        crc: u32,
    },
    /// Everything wanted was sent. Answered by [`Response::Installed`].
    Install,
    /// Whether the peer, too, knows that the leader of this vote is gone; the caller would replace
    /// it. Answered by [`Response::Found`].
    Inquiry {
        vote: RaftVote,
        standing: Standing,
    },
    /// Asks for events that are damaged at the caller, at most [`crate::types::limits::FETCH_KEYS_MAX`].
    /// Answered by [`Response::Fetched`].
    Fetch {
        keys: Vec<PayloadKey>,
    },
    /// Events of the offered snapshot; the bulk: their records, those of some of the keys that were
    /// asked for last. Answered by [`Response::Missing`].
    Events,
    /// Asks how much room the peer has on its disk. Answered by
    /// [`Response::Room`].
    Room,
}

impl Request {
    /// The protocol version that brought it.
    pub fn since(&self) -> u16 {
        // Raised for a request that is new: older peers are not asked.
        PROTOCOL_VERSION_MIN
    }
}

/// The head of an append: everything but the bodies.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct AppendHead {
    pub vote: RaftVote,
    pub prev: Option<RaftLogId>,
    pub commit: Option<RaftLogId>,
    /// What the peer has confirmed to this leader: it must have it still.
    pub held: Option<RaftLogId>,
    pub entries: Vec<EntryHead>,
}

/// An entry without its body, which is in the bulk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct EntryHead {
    pub id: EntryId,
    pub kind: u8,
    pub len: u32,
}

/// A peer's answer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) enum Response {
    Appended(Appended),
    Voted {
        vote: RaftVote,
        last: Option<RaftLogId>,
        granted: bool,
    },
    /// The transfer was accepted, or why not.
    Transferred(Result<(), String>),
    /// Files of the offered snapshot that are wanted: its own, and from a sender of version 2 the
    /// segments that the peer does not hold yet.
    Wanted {
        files: Vec<Wanted>,
    },
    Stored,
    /// The snapshot is installed, or the sender's vote is outdated.
    Installed {
        vote: RaftVote,
    },
    /// The peer could not do it.
    Failed(String),
    Found(Finding),
    /// The bulk: records of those events that the peer has, in the order of the question, until
    /// they exceed [`crate::types::limits::FETCH_BYTES_MAX`].
    Fetched,
    /// Events of the offered snapshot that are to be sent next, at most
    /// [`crate::types::limits::SNAPSHOT_KEYS_MAX`]; none: all have arrived.
    Missing {
        keys: Keys,
    },
    Room(Room),
}

/// A file that a peer wants.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Wanted {
    pub name: String,
    /// Bytes of it that arrived in an earlier attempt; send what follows.
    pub arrived: u64,
}

/// What became of an append.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) enum Appended {
    Success,
    /// Everything up to here.
    Partial(Option<RaftLogId>),
    Conflict,
    HigherVote(RaftVote),
}

/// Why a frame body is not a message.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub(super) enum RpcError {
    #[error("peer message is cut short")]
    Short,
    #[error("peer message is for group {0}, which this node does not run")]
    Group(u32),
    #[error("peer message does not parse: {0}")]
    Head(String),
    #[error("peer message announces {announced} bytes of entries but carries {carried}")]
    Bulk { announced: u64, carried: usize },
}

/// Encodes the part before the bulk; the caller appends the bulk's pieces to the frame.
pub(super) fn encode<T: Serialize>(id: u64, head: &T) -> Result<Bytes, RpcError> {
    let head = postcard::to_stdvec(head).map_err(|e| RpcError::Head(e.to_string()))?;
    let mut bytes = BytesMut::with_capacity(FIXED_BYTES + head.len());
    bytes.put_u32_le(GROUP.0);
    bytes.put_u64_le(id);
    bytes.put_u32_le(head.len() as u32);
    bytes.put_slice(&head);
    Ok(bytes.freeze())
}

/// Takes a frame body apart: request id, head and bulk.
pub(super) fn decode<T: DeserializeOwned>(mut body: Bytes) -> Result<(u64, T, Bytes), RpcError> {
    if body.len() < FIXED_BYTES {
        return Err(RpcError::Short);
    }
    let group = body.get_u32_le();
    if group != GROUP.0 {
        return Err(RpcError::Group(group));
    }
    let id = body.get_u64_le();
    let len = body.get_u32_le() as usize;
    if len > body.len() {
        return Err(RpcError::Short);
    }
    let head = body.split_to(len);
    let head = postcard::from_bytes(&head).map_err(|e| RpcError::Head(e.to_string()))?;
    Ok((id, head, body))
}

/// Gives each entry of an append its body out of the bulk.
pub(super) fn entries(heads: &[EntryHead], mut bulk: Bytes) -> Result<Vec<Entry>, RpcError> {
    let announced: u64 = heads.iter().map(|head| u64::from(head.len)).sum();
    if announced != bulk.len() as u64 {
        return Err(RpcError::Bulk { announced, carried: bulk.len() });
    }
    let body = |head: &EntryHead| Entry {
        id: head.id,
        kind: head.kind,
        body: bulk.split_to(head.len as usize),
    };
    Ok(heads.iter().map(body).collect())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use crate::types::NodeId;

    use super::super::entry::{log_id, vote};
    use super::*;

    fn append() -> (Request, Bytes) {
        let id = |index| EntryId { term: 3, node: NodeId(1), index };
        let head = AppendHead {
            vote: vote(3, NodeId(1), true),
            prev: Some(log_id(id(6))),
            commit: None,
            held: Some(log_id(id(5))),
            entries: vec![
                EntryHead { id: id(7), kind: 1, len: 2 },
                EntryHead { id: id(8), kind: 0, len: 0 },
                EntryHead { id: id(9), kind: 1, len: 3 },
            ],
        };
        (Request::Append(head), Bytes::from_static(b"abcde"))
    }

    fn frame() -> Vec<u8> {
        let (request, bulk) = append();
        let mut bytes = encode(0x0102, &request).unwrap().to_vec();
        bytes.extend_from_slice(&bulk);
        bytes
    }

    #[test]
    fn golden_append() {
        let expected: &[u8] = &[
            0, 0, 0, 0, 2, 1, 0, 0, 0, 0, 0, 0, 30, 0, 0, 0, // group, id, head length
            0, 3, 1, 1, // Append, vote T3-N1 committed
            1, 3, 1, 6, 0, // prev, no commit
            1, 3, 1, 5, // held
            3, 3, 1, 7, 1, 2, 3, 1, 8, 0, 0, 3, 1, 9, 1, 3, // three entries
            b'a', b'b', b'c', b'd', b'e',
        ];
        let mut expected = expected.to_vec();
        expected[12] = (expected.len() - FIXED_BYTES - 5) as u8;
        assert_eq!(frame(), expected);
    }

    #[test]
    fn round_trip_without_copying_bodies() {
        let (request, bulk) = append();
        let (id, head, rest) = decode::<Request>(frame().into()).unwrap();
        assert_eq!((id, &head), (0x0102, &request));
        let Request::Append(head) = head else { panic!("not an append") };
        let bodies: Vec<_> = entries(&head.entries, rest).unwrap();
        let bodies: Vec<&[u8]> = bodies.iter().map(|e| &e.body[..]).collect();
        assert_eq!(bodies, [&bulk[..2], &bulk[2..2], &bulk[2..]]);
    }

    #[test]
    fn a_bulk_of_another_length_is_refused() {
        let (Request::Append(head), bulk) = append() else { panic!("not an append") };
        let error = entries(&head.entries, bulk.slice(1..)).unwrap_err();
        assert_eq!(error, RpcError::Bulk { announced: 5, carried: 4 });
    }

    #[test]
    fn other_groups_are_refused() {
        let mut bytes = frame();
        bytes[0] = 7;
        assert_eq!(decode::<Request>(bytes.into()).unwrap_err(), RpcError::Group(7));
    }

    /// One of every message, with a bulk where it has one.
    fn messages() -> Vec<Vec<u8>> {
        let id = EntryId { term: 3, node: NodeId(1), index: 9 };
        let (vote, last) = (vote(3, NodeId(1), true), Some(log_id(id)));
        let file = FileInfo { name: "seg-1-2".into(), len: 300, crc: 7 };
        let meta = SnapshotMeta { last_log_id: last, ..SnapshotMeta::default() };
        let requests = [
            append().0,
            Request::Vote { pre: true, vote, last, leadership_transfer: false },
            Request::Transfer { from: vote, to: 2, last },
            Request::Offer { vote, meta, files: vec![file.clone(), file] },
            Request::Piece { file: "seg-1-2".into(), offset: 5, crc: 6 },
            Request::Install,
            Request::Inquiry { vote, standing: Standing::new(NodeId(2), last) },
            Request::Fetch { keys: vec![PayloadKey { index: 7, position: 1 }] },
            Request::Events,
            Request::Room,
        ];
        let wanted = Wanted { name: "seg-1-2".into(), arrived: 5 };
        let responses = [
            Response::Appended(Appended::Success),
            Response::Appended(Appended::Partial(last)),
            Response::Appended(Appended::Conflict),
            Response::Appended(Appended::HigherVote(vote)),
            Response::Voted { vote, last, granted: true },
            Response::Transferred(Err("no".into())),
            Response::Wanted { files: vec![wanted.clone(), wanted] },
            Response::Stored,
            Response::Installed { vote },
            Response::Failed("why".into()),
            Response::Found(Finding::Agrees),
            Response::Fetched,
            Response::Missing {
                keys: [PayloadKey { index: 7, position: 1 }].into_iter().collect(),
            },
            Response::Room(Room { free: 300, floor: 5, short: true }),
        ];
        let requests = requests.iter().map(|request| encode(1, request).unwrap().to_vec());
        let responses = responses.iter().map(|response| encode(1, response).unwrap().to_vec());
        requests.chain(responses).map(|head| [head, b"bulk!".to_vec()].concat()).collect()
    }

    /// Takes bytes for either kind of message; what is left of an append gets its bodies.
    fn decode_all(bytes: Bytes) -> bool {
        if let Ok((_, Request::Append(head), bulk)) = decode::<Request>(bytes.clone()) {
            let _ = entries(&head.entries, bulk);
        }
        decode::<Request>(bytes.clone()).is_ok() || decode::<Response>(bytes).is_ok()
    }

    #[test]
    fn every_truncation_of_a_head_is_refused() {
        for whole in messages() {
            assert!(decode_all(whole.clone().into()));
            let head = whole.len() - 5;
            assert!((0..head).all(|cut| !decode_all(whole[..cut].to_vec().into())), "{whole:?}");
        }
    }

    proptest! {
        #[test]
        fn mutated_bytes_never_panic(
            which: prop::sample::Index,
            edits in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
            cut in 0usize..20,
        ) {
            let mut bytes = which.get(&messages()).clone();
            for (at, value) in edits {
                let at = at.index(bytes.len());
                bytes[at] = value;
            }
            bytes.truncate(bytes.len() - cut.saturating_sub(10));
            decode_all(bytes.into());
        }

        #[test]
        fn noise_never_panics(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            decode_all(bytes.clone().into());
            // With a fixed part that fits, so that the head is reached.
            let head = (bytes.len() as u32).to_le_bytes();
            decode_all([&[0; 12], &head[..], &bytes].concat().into());
        }
    }
}
