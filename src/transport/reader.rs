//! Bytes in, frames out.

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt};

use super::frame::{FRAME_HEADER_BYTES, Frame, FrameError, FrameHeader};

/// Read sizes adapt between these: an idle connection holds little, a busy one reads much at once.
const READ_BYTES_MIN: usize = 4 << 10;
const READ_BYTES_MAX: usize = 256 << 10;

/// Splits a byte stream into frames, without copying bodies.
#[derive(Debug)]
pub struct FrameReader<R> {
    inner: R,
    buffer: BytesMut,
    frame_bytes_max: usize,
    read_bytes: usize,
}

impl<R: AsyncRead + Unpin> FrameReader<R> {
    /// Reads frames whose bodies have at most `frame_bytes_max` bytes.
    pub fn new(inner: R, frame_bytes_max: usize) -> FrameReader<R> {
        let buffer = BytesMut::new();
        FrameReader { inner, buffer, frame_bytes_max, read_bytes: READ_BYTES_MIN }
    }

    /// Changes the limit for the frames that follow.
    pub fn set_frame_bytes_max(&mut self, frame_bytes_max: usize) {
        self.frame_bytes_max = frame_bytes_max;
    }

    /// The next frame; `None` when the stream ended between two frames. Cancel-safe. After an
    /// error the stream is of no further use.
    pub async fn read(&mut self) -> Result<Option<Frame>, FrameError> {
        loop {
            if let Some(frame) = self.buffered()? {
                return Ok(Some(frame));
            }
            if self.fill().await? == 0 {
                return self.ended();
            }
        }
    }

    /// The next frame if all of it has been read from the stream already: lets a caller take a
    /// burst without waiting.
    pub fn buffered(&mut self) -> Result<Option<Frame>, FrameError> {
        let Some(header) = self.header()? else {
            return Ok(None);
        };
        if self.buffer.len() < FRAME_HEADER_BYTES + header.body_len {
            return Ok(None);
        }
        self.buffer.advance(FRAME_HEADER_BYTES);
        header.seal(self.buffer.split_to(header.body_len).freeze()).map(Some)
    }

    /// The header at the front of the buffer, once it has arrived.
    fn header(&self) -> Result<Option<FrameHeader>, FrameError> {
        match self.buffer.first_chunk::<FRAME_HEADER_BYTES>() {
            Some(bytes) => FrameHeader::parse(bytes, self.frame_bytes_max).map(Some),
            None => Ok(None),
        }
    }

    /// Reads once; the room offered follows what has arrived lately, not what was announced.
    async fn fill(&mut self) -> Result<usize, FrameError> {
        if self.buffer.capacity() - self.buffer.len() < self.read_bytes / 2 {
            self.buffer.reserve(self.read_bytes);
        }
        let room = self.buffer.capacity() - self.buffer.len();
        let read = self.inner.read_buf(&mut self.buffer).await?;
        if read == room {
            self.read_bytes = (self.read_bytes * 2).min(READ_BYTES_MAX);
        } else if read < self.read_bytes / 4 {
            self.read_bytes = (self.read_bytes / 2).max(READ_BYTES_MIN);
        }
        Ok(read)
    }

    fn ended(&self) -> Result<Option<Frame>, FrameError> {
        if self.buffer.is_empty() {
            return Ok(None);
        }
        let body_len = self.header()?.map_or(0, |header| header.body_len);
        Err(FrameError::Truncated { have: self.buffer.len(), need: FRAME_HEADER_BYTES + body_len })
    }

    /// The stream, and the bytes read from it that belong to no frame handed out.
    pub(super) fn into_parts(self) -> (R, BytesMut) {
        (self.inner, self.buffer)
    }
}
