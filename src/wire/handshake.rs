//! The first frame in each direction: who is there, what for, and in which version.
//!
//! The layout of the beginning of a hello (magic and versions) and of a refusal never changes, so
//! that any two builds can at least tell each other why they do not match.

use std::sync::atomic::{AtomicU16, Ordering};

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::codec::{Encoded, WireError, put_head, take_head, whole_head};
use crate::types::{ClusterId, NodeId, Rejection, limits};

/// The newest protocol version this build speaks. 8: sources that are polled.
pub const PROTOCOL_VERSION: u16 = 8;
/// The oldest one. Those before were of builds whose state has other facts: not of one cluster.
pub const PROTOCOL_VERSION_MIN: u16 = 7;
/// Sources are polled from this version on.
pub const POLLS_SINCE: u16 = 8;

/// The newest one that this process speaks.
static NEWEST: AtomicU16 = AtomicU16::new(PROTOCOL_VERSION);

/// From now on this process speaks no newer version than this, which must be one that it can speak:
/// so a cluster can be upgraded node by node, and back.
pub fn speak_at_most(version: u16) {
    NEWEST.store(version.clamp(PROTOCOL_VERSION_MIN, PROTOCOL_VERSION), Ordering::Relaxed);
}

/// The newest version that this process speaks.
pub fn newest_version() -> u16 {
    NEWEST.load(Ordering::Relaxed)
}

const MAGIC: [u8; 4] = *b"AQDT";
const HELLO: u8 = 0x01;
const WELCOME: u8 = 0x02;
const REFUSED: u8 = 0x03;
/// Magic and the two versions, raw.
const FIXED_BYTES: usize = 8;

/// What the dialling side wants of the connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Service {
    /// Publish and consume: [`super::ClientMessage`] and [`super::ServerMessage`].
    Data,
    /// Ask and administrate: [`super::admin`].
    Admin,
    /// Consensus between nodes of a cluster.
    Peer,
    /// A node hands a client's data connection on to the leader: as `Data` from here on.
    RelayData,
    /// The same for an admin connection.
    RelayAdmin,
}

/// The first frame on a connection, from the dialling side.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hello {
    /// Oldest protocol version spoken; travels raw, before the rest.
    #[serde(skip)]
    pub version_min: u16,
    /// Newest protocol version spoken; travels raw, before the rest.
    #[serde(skip)]
    pub version_max: u16,
    pub service: Service,
    /// The cluster the caller believes to reach; another one refuses with `wrong_cluster`.
    pub cluster: Option<ClusterId>,
    /// The calling node, for services between nodes.
    pub node: Option<NodeId>,
    /// Which life of the calling process this is; 0 for clients.
    pub incarnation: u64,
    /// Client or cluster token, at most [`limits::TOKEN_BYTES_MAX`] bytes; empty: none.
    pub token: String,
    /// What to call the peer in logs, at most [`limits::PEER_NAME_BYTES_MAX`] bytes.
    pub name: String,
}

/// The answer to an accepted hello.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Welcome {
    /// The version spoken from here on.
    pub version: u16,
    pub cluster: ClusterId,
    /// The answering node; behind a relay, the leader.
    pub node: NodeId,
    /// Which life of the answering process this is.
    pub incarnation: u64,
    /// Whether the answering node leads, as far as it knows.
    pub leader: bool,
    /// Largest event in bytes.
    pub event_bytes_max: u32,
    /// Most events of one lane sent and not answered.
    pub lane_in_flight_max: u32,
    /// The newest version that the answering side speaks.
    pub newest: u16,
}

/// The first frame on a connection, from the answering side.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Greeting {
    Welcome(Welcome),
    /// The connection is closed after it.
    Refused(Rejection),
}

impl Hello {
    /// A hello of a client of this build, without a token.
    pub fn new(service: Service, name: impl Into<String>) -> Hello {
        Hello {
            version_min: PROTOCOL_VERSION_MIN,
            version_max: newest_version(),
            service,
            cluster: None,
            node: None,
            incarnation: 0,
            token: String::new(),
            name: name.into(),
        }
    }

    /// Kind and body of the frame. Over-long tokens and names are for the other side to refuse.
    pub fn encode(&self) -> Encoded {
        let mut bytes = MAGIC.to_vec();
        bytes.extend_from_slice(&self.version_min.to_le_bytes());
        bytes.extend_from_slice(&self.version_max.to_le_bytes());
        (HELLO, vec![Bytes::from(put_head(bytes, self))])
    }

    /// Parses the first frame of a connection. Refuses a peer with no version in common.
    pub fn decode(kind: u8, body: Bytes) -> Result<Hello, WireError> {
        if kind != HELLO {
            return Err(WireError::UnknownKind(kind));
        }
        let Some((&[a, b, c, d, min_0, min_1, max_0, max_1], rest)) =
            body.split_first_chunk::<FIXED_BYTES>()
        else {
            return Err(WireError::Magic);
        };
        if [a, b, c, d] != MAGIC {
            return Err(WireError::Magic);
        }
        let min = u16::from_le_bytes([min_0, min_1]);
        let max = u16::from_le_bytes([max_0, max_1]);
        if common_version(min, max).is_none() {
            let (ours_min, ours_max) = (PROTOCOL_VERSION_MIN, newest_version());
            return Err(WireError::Version { min, max, ours_min, ours_max });
        }
        // Newer versions may append fields that this build does not know.
        let (hello, _) = take_head::<Hello>(kind, rest)?;
        bounded(kind, "bytes of token", &hello.token, limits::TOKEN_BYTES_MAX)?;
        bounded(kind, "bytes of name", &hello.name, limits::PEER_NAME_BYTES_MAX)?;
        Ok(Hello { version_min: min, version_max: max, ..hello })
    }

    /// The version to speak with this peer: the newest that both know.
    pub fn version(&self) -> u16 {
        common_version(self.version_min, self.version_max).unwrap_or(PROTOCOL_VERSION_MIN)
    }
}

fn common_version(min: u16, max: u16) -> Option<u16> {
    let newest = max.min(newest_version());
    (newest >= min.max(PROTOCOL_VERSION_MIN)).then_some(newest)
}

fn bounded(kind: u8, what: &'static str, text: &str, max: usize) -> Result<(), WireError> {
    match text.len() {
        found if found > max => Err(WireError::TooMany { kind, what, found, max }),
        _ => Ok(()),
    }
}

impl Greeting {
    /// Kind and body of the frame.
    pub fn encode(&self) -> Encoded {
        let (kind, head) = match self {
            Greeting::Welcome(welcome) => (WELCOME, put_head(Vec::new(), welcome)),
            Greeting::Refused(rejection) => (REFUSED, put_head(Vec::new(), rejection)),
        };
        (kind, vec![Bytes::from(head)])
    }

    /// Parses the answer to a hello.
    pub fn decode(kind: u8, body: Bytes) -> Result<Greeting, WireError> {
        match kind {
            WELCOME => whole_head(kind, &body).map(Greeting::Welcome),
            REFUSED => whole_head(kind, &body).map(Greeting::Refused),
            _ => Err(WireError::UnknownKind(kind)),
        }
    }

    /// The welcome, or why there is none.
    pub fn into_result(self) -> Result<Welcome, Rejection> {
        match self {
            Greeting::Welcome(welcome) => Ok(welcome),
            Greeting::Refused(rejection) => Err(rejection),
        }
    }
}
