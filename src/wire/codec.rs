//! From values to bytes and back.

use bytes::Bytes;
use serde::Serialize;
use serde::de::DeserializeOwned;
use thiserror::Error;

use crate::types::{Code, EventError, Rejection, limits};

/// A frame's kind, and its body in parts.
pub type Encoded = (u8, Vec<Bytes>);

/// Why a body is not a message. The connection it came on is of no further use.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum WireError {
    #[error("a message of kind {0:#04x} is not expected here")]
    UnknownKind(u8),
    #[error("the body of message {kind:#04x} does not parse: {why}")]
    Malformed { kind: u8, why: String },
    #[error("message {kind:#04x} has {bytes} bytes after its end")]
    Trailing { kind: u8, bytes: usize },
    #[error("message {kind:#04x} has {bytes} bytes without event data, {max} are allowed")]
    TooLarge { kind: u8, bytes: usize, max: usize },
    #[error("message {kind:#04x} has {found} {what}, {max} are allowed")]
    TooMany { kind: u8, what: &'static str, found: usize, max: usize },
    #[error("the peer does not speak the Aqueduct protocol: its hello does not begin with 'AQDT'")]
    Magic,
    #[error(
        "the peer speaks protocol versions {min} to {max}, this build {ours_min} to {ours_max}"
    )]
    Version { min: u16, max: u16, ours_min: u16, ours_max: u16 },
    #[error("event {position} of a block is cut short or longer than the block")]
    Block { position: usize },
    #[error("event {position} is refused: {error}")]
    Event { position: usize, error: EventError },
}

impl From<WireError> for Rejection {
    fn from(error: WireError) -> Rejection {
        let (code, hint) = match &error {
            WireError::Version { .. } => {
                (Code::VersionMismatch, "upgrade whichever of the two has the lower versions")
            }
            WireError::Event { error: EventError::TooLarge { .. }, .. } => {
                (Code::EventTooLarge, "send the body another way, or raise the cluster's limit")
            }
            WireError::TooLarge { .. } | WireError::TooMany { .. } => {
                (Code::BadRequest, "split the message")
            }
            _ => (Code::BadRequest, "compare the versions of both sides"),
        };
        Rejection::new(code, error.to_string()).hint(hint)
    }
}

/// A message of one kind: a head in postcard, and for some kinds a tail of raw bytes.
pub trait Payload: Sized {
    const KIND: u8;

    /// The body, in parts that may be shared.
    fn encode_body(&self) -> Vec<Bytes>;

    /// Parses a body; raw bytes are shared with it.
    fn decode_body(body: Bytes) -> Result<Self, WireError>;

    /// Kind and body.
    fn encode(&self) -> Encoded {
        (Self::KIND, self.encode_body())
    }
}

/// The postcard encoding of a head, appended to `bytes`.
pub(super) fn put_head<T: Serialize>(bytes: Vec<u8>, head: &T) -> Vec<u8> {
    postcard::to_extend(head, bytes)
        .expect("postcard into a growing vector fails only for lengths unknown in advance")
}

/// Parses a head at the front of `body`, and says how many bytes it took.
pub(super) fn take_head<T: DeserializeOwned>(
    kind: u8,
    body: &[u8],
) -> Result<(T, usize), WireError> {
    let bounded = body.get(..limits::MESSAGE_HEAD_BYTES_MAX).unwrap_or(body);
    match postcard::take_from_bytes::<T>(bounded) {
        Ok((head, rest)) => Ok((head, bounded.len() - rest.len())),
        Err(_) if bounded.len() < body.len() => Err(too_large(kind, body.len())),
        Err(error) => Err(WireError::Malformed { kind, why: error.to_string() }),
    }
}

/// Parses a body that is all head.
pub(super) fn whole_head<T: DeserializeOwned>(kind: u8, body: &[u8]) -> Result<T, WireError> {
    if body.len() > limits::MESSAGE_HEAD_BYTES_MAX {
        return Err(too_large(kind, body.len()));
    }
    match take_head(kind, body)? {
        (head, used) if used == body.len() => Ok(head),
        (_, used) => Err(WireError::Trailing { kind, bytes: body.len() - used }),
    }
}

fn too_large(kind: u8, bytes: usize) -> WireError {
    WireError::TooLarge { kind, bytes, max: limits::MESSAGE_HEAD_BYTES_MAX }
}

/// Declares an enum of messages that are all head, except those that implement [`Payload`]
/// themselves, with its codec.
macro_rules! messages {
    ($(#[$doc:meta])* $enum:ident { $($kind:literal $name:ident $codec:ident,)+ }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq)]
        pub enum $enum {
            $($name($name),)+
        }

        $($crate::wire::codec::messages!(@$codec $name $kind);)+

        impl $enum {
            /// Every kind of this direction.
            pub const KINDS: &'static [u8] = &[$($kind),+];

            /// Kind and body; raw bytes are shared.
            pub fn encode(&self) -> $crate::wire::codec::Encoded {
                match self {
                    $($enum::$name(message) => message.encode(),)+
                }
            }

            /// Parses the body of a frame; raw bytes are shared with it.
            pub fn decode(kind: u8, body: Bytes) -> Result<$enum, WireError> {
                match kind {
                    $($kind => $name::decode_body(body).map($enum::$name),)+
                    _ => Err(WireError::UnknownKind(kind)),
                }
            }
        }

        $(impl From<$name> for $enum {
            fn from(message: $name) -> $enum {
                $enum::$name(message)
            }
        })+
    };
    (@head $name:ident $kind:literal) => {
        impl $crate::wire::codec::Payload for $name {
            const KIND: u8 = $kind;

            fn encode_body(&self) -> Vec<Bytes> {
                vec![Bytes::from($crate::wire::codec::put_head(Vec::new(), self))]
            }

            fn decode_body(body: Bytes) -> Result<$name, WireError> {
                $crate::wire::codec::whole_head($kind, &body)
            }
        }
    };
    // The module of the message implements `Payload` with this kind.
    (@tail $name:ident $kind:literal) => {
        const _: () = assert!($name::KIND == $kind);
    };
}
pub(super) use messages;
