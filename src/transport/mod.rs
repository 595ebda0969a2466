//! Moves opaque frames between two ends of a byte stream.
//!
//! ```text
//! Net::dial / Listener::accept ─► stream ─► split ─► FrameReader + FrameWriter
//!                                                └─► splice / reunite (bytes again)
//! ```
//!
//! [`Net`] is where streams come from: [`TcpNet`] in the product, [`MemNet`] in tests and in the
//! simulation, which needs no tokio runtime and whose links can be cut and held. A frame is a kind,
//! flags and a body; what they mean is the business of whoever sits on top (`wire` for clients,
//! `consensus` for peers). `docs/PROTOCOL.md` has the bytes.
//!
//! Invariants:
//! - An announced length is compared with the limit before anything is allocated for it, and
//!   memory grows with the bytes that arrive, not with those announced.
//! - A body is handed out only if its checksum fits.
//! - Reading and flushing are cancel-safe: a future dropped half way loses and repeats nothing.
//! - Bodies are shared, not copied: a received body is a slice of the read buffer, large parts of a
//!   sent one go to the socket from where they lie.
//!
//! Left out: timeouts and retries (callers have clocks), encryption, and every meaning.

mod frame;
mod mem;
mod net;
mod reader;
mod splice;
#[cfg(test)]
mod tests;
mod writer;

pub use frame::{FRAME_HEADER_BYTES, Frame, FrameError, FrameOut};
pub use mem::{MemListener, MemNet, MemStream};
pub use net::{ByteStream, Listener, Net, TcpNet};
pub use reader::FrameReader;
pub use splice::{Rejoined, Side, SpliceEnd, reunite, splice};
pub use writer::FrameWriter;

use tokio::io::{ReadHalf, WriteHalf};

/// The reading end of a framed stream.
pub type Reader<S> = FrameReader<ReadHalf<S>>;
/// The writing end of a framed stream.
pub type Writer<S> = FrameWriter<WriteHalf<S>>;

/// Makes a stream a pair of framed ends. Frames are bounded by `frame_bytes_max` in both
/// directions; raise it with `set_frame_bytes_max` once the peer has shown who it is.
pub fn split<S: ByteStream>(stream: S, frame_bytes_max: usize) -> (Reader<S>, Writer<S>) {
    let (read, write) = tokio::io::split(stream);
    (FrameReader::new(read, frame_bytes_max), FrameWriter::new(write, frame_bytes_max))
}

/// The dialling side of a handshake: sends `hello`, and hands back the one frame that answers it
/// with both ends. What the answer means is the caller's to say, and so is a time limit.
pub async fn exchange<S: ByteStream>(
    stream: S,
    hello: FrameOut,
    frame_bytes_max: usize,
) -> Result<(Frame, Reader<S>, Writer<S>), FrameError> {
    let (mut reader, mut writer) = split(stream, frame_bytes_max);
    writer.write([hello]).await?;
    let answer = reader.read().await?.ok_or(FrameError::NoAnswer)?;
    Ok((answer, reader, writer))
}
