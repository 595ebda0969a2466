//! A frame: its header, its checksum, and what can be wrong with it.
//!
//! ```text
//! 0  u32  length of the body
//! 4  u32  CRC-32 (IEEE) of everything from offset 8 to the end of the body
//! 8  u8   kind
//! 9  u8   flags
//! 10 u16  reserved, 0
//! 12 ..   body
//! ```

use bytes::Bytes;
use thiserror::Error;

/// Bytes of a frame before its body.
pub const FRAME_HEADER_BYTES: usize = 12;

/// A received frame. The body is a slice of the read buffer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    pub kind: u8,
    pub flags: u8,
    pub body: Bytes,
}

/// A frame to be sent. The body is the parts in order; none of them is copied if it is large.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FrameOut {
    pub kind: u8,
    pub flags: u8,
    pub parts: Vec<Bytes>,
}

/// Why a stream of frames ends badly. None of these is recoverable on the same stream.
#[derive(Debug, Error)]
pub enum FrameError {
    #[error(
        "a frame announces {bytes} bytes where {max} are allowed: check that the peer speaks the \
         Aqueduct protocol on this port, and split what is too large"
    )]
    Oversized { bytes: usize, max: usize },
    #[error(
        "the answer is HTTP: this is a port for /livez and /metrics; use the node's other ports"
    )]
    Http,
    #[error(
        "the checksum of a frame of kind {kind} and {bytes} bytes does not fit: it was damaged on \
         the way, or the peer does not speak the Aqueduct protocol; reconnect"
    )]
    Checksum { kind: u8, bytes: usize },
    #[error(
        "a frame of kind {kind} has {found} in its reserved field: the peer speaks a newer or \
         another protocol; compare versions"
    )]
    Reserved { kind: u8, found: u16 },
    #[error(
        "the stream ended inside a frame, {have} bytes of {need}: the peer died or the connection \
         was cut; reconnect and resend what is unconfirmed"
    )]
    Truncated { have: usize, need: usize },
    #[error(
        "the peer closed the connection instead of answering: it is stopping, or this is another \
         service's port; try again or another address"
    )]
    NoAnswer,
    #[error("the connection failed: {0}; reconnect and resend what is unconfirmed")]
    Io(#[from] std::io::Error),
}

impl FrameOut {
    /// A frame without flags.
    pub fn new(kind: u8, parts: Vec<Bytes>) -> FrameOut {
        FrameOut { kind, flags: 0, parts }
    }

    /// Bytes of the body.
    pub fn body_len(&self) -> usize {
        self.parts.iter().map(Bytes::len).sum()
    }

    /// The header that belongs before the parts; the body must be shorter than 4 GiB.
    pub(super) fn header(&self) -> [u8; FRAME_HEADER_BYTES] {
        let mut header = [0; FRAME_HEADER_BYTES];
        header[8] = self.kind;
        header[9] = self.flags;
        let mut crc = crc32fast::Hasher::new();
        crc.update(&header[8..]);
        self.parts.iter().for_each(|part| crc.update(part));
        header[..4].copy_from_slice(&(self.body_len() as u32).to_le_bytes());
        header[4..8].copy_from_slice(&crc.finalize().to_le_bytes());
        header
    }
}

impl From<(u8, Vec<Bytes>)> for FrameOut {
    fn from((kind, parts): (u8, Vec<Bytes>)) -> FrameOut {
        FrameOut::new(kind, parts)
    }
}

impl From<Frame> for FrameOut {
    fn from(frame: Frame) -> FrameOut {
        FrameOut { kind: frame.kind, flags: frame.flags, parts: vec![frame.body] }
    }
}

/// A parsed frame header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct FrameHeader {
    pub body_len: usize,
    crc: u32,
    kind: u8,
    flags: u8,
    reserved: u16,
}

impl FrameHeader {
    /// Parses a header and compares the announced length with the limit.
    pub fn parse(b: &[u8; FRAME_HEADER_BYTES], max: usize) -> Result<FrameHeader, FrameError> {
        let body_len = u32::from_le_bytes([b[0], b[1], b[2], b[3]]) as usize;
        if b.starts_with(b"HTTP") {
            return Err(FrameError::Http);
        }
        if body_len > max {
            return Err(FrameError::Oversized { bytes: body_len, max });
        }
        Ok(FrameHeader {
            body_len,
            crc: u32::from_le_bytes([b[4], b[5], b[6], b[7]]),
            kind: b[8],
            flags: b[9],
            reserved: u16::from_le_bytes([b[10], b[11]]),
        })
    }

    /// Joins header and body to a frame, if the checksum fits.
    pub fn seal(self, body: Bytes) -> Result<Frame, FrameError> {
        let FrameHeader { kind, flags, reserved, .. } = self;
        let mut crc = crc32fast::Hasher::new();
        crc.update(&[kind, flags]);
        crc.update(&reserved.to_le_bytes());
        crc.update(&body);
        if crc.finalize() != self.crc {
            return Err(FrameError::Checksum { kind, bytes: body.len() });
        }
        if reserved != 0 {
            return Err(FrameError::Reserved { kind, found: reserved });
        }
        Ok(Frame { kind, flags, body })
    }
}
