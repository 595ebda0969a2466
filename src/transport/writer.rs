//! Frames in, bytes out.

use std::collections::VecDeque;
use std::io::{self, IoSlice};

use bytes::{Buf, Bytes, BytesMut};
use tokio::io::{AsyncWrite, AsyncWriteExt};

use super::frame::{FRAME_HEADER_BYTES, FrameError, FrameOut};

/// Parts up to this size are copied together: cheaper than a slice of their own.
const COPY_BYTES_MAX: usize = 4 << 10;
/// Slices handed to the stream at once.
const SLICES_MAX: usize = 64;

/// Writes frames to a byte stream: small parts gathered, large ones from where they lie.
#[derive(Debug)]
pub struct FrameWriter<W> {
    inner: W,
    /// Sealed bytes, in order.
    queue: VecDeque<Bytes>,
    /// The gathered small parts that follow the queue.
    gathered: BytesMut,
    frame_bytes_max: usize,
}

impl<W: AsyncWrite + Unpin> FrameWriter<W> {
    /// Writes frames whose bodies have at most `frame_bytes_max` bytes.
    pub fn new(inner: W, frame_bytes_max: usize) -> FrameWriter<W> {
        let frame_bytes_max = frame_bytes_max.min(u32::MAX as usize);
        FrameWriter { inner, queue: VecDeque::new(), gathered: BytesMut::new(), frame_bytes_max }
    }

    /// Changes the limit for the frames that follow.
    pub fn set_frame_bytes_max(&mut self, frame_bytes_max: usize) {
        self.frame_bytes_max = frame_bytes_max.min(u32::MAX as usize);
    }

    /// Feeds all frames, then flushes once. Nothing is sent if one of them is too large; those
    /// before it stay fed.
    pub async fn write(
        &mut self,
        frames: impl IntoIterator<Item = FrameOut>,
    ) -> Result<(), FrameError> {
        frames.into_iter().try_for_each(|frame| self.feed(frame))?;
        self.flush().await
    }

    /// Puts a frame behind those not flushed yet; refuses one that is too large, unchanged.
    pub fn feed(&mut self, frame: FrameOut) -> Result<(), FrameError> {
        let bytes = frame.body_len();
        if bytes > self.frame_bytes_max {
            return Err(FrameError::Oversized { bytes, max: self.frame_bytes_max });
        }
        self.gathered.reserve(FRAME_HEADER_BYTES);
        self.gathered.extend_from_slice(&frame.header());
        for part in frame.parts {
            if part.len() <= COPY_BYTES_MAX {
                self.gathered.extend_from_slice(&part);
            } else {
                self.seal();
                self.queue.push_back(part);
            }
        }
        Ok(())
    }

    /// Bytes fed and not written.
    pub fn pending_bytes(&self) -> usize {
        self.queue.iter().map(Bytes::len).sum::<usize>() + self.gathered.len()
    }

    /// Writes everything fed. Cancel-safe: a later flush goes on where this one stopped.
    pub async fn flush(&mut self) -> Result<(), FrameError> {
        self.seal();
        while !self.queue.is_empty() {
            let written = {
                let mut slices = [IoSlice::new(&[]); SLICES_MAX];
                let used = self.queue.len().min(SLICES_MAX);
                for (slice, bytes) in slices.iter_mut().zip(&self.queue) {
                    *slice = IoSlice::new(bytes);
                }
                self.inner.write_vectored(&slices[..used]).await?
            };
            if written == 0 {
                return Err(io::Error::from(io::ErrorKind::WriteZero).into());
            }
            self.advance(written);
        }
        Ok(self.inner.flush().await?)
    }

    /// Flushes, then tells the peer that nothing follows.
    pub async fn close(&mut self) -> Result<(), FrameError> {
        self.flush().await?;
        Ok(self.inner.shutdown().await?)
    }

    /// Closes the run of gathered parts.
    fn seal(&mut self) {
        if !self.gathered.is_empty() {
            self.queue.push_back(self.gathered.split().freeze());
        }
    }

    /// Drops `written` bytes from the front of the queue.
    fn advance(&mut self, mut written: usize) {
        while let Some(front) = self.queue.front_mut() {
            if written < front.len() {
                front.advance(written);
                return;
            }
            written -= front.len();
            self.queue.pop_front();
        }
    }

    /// The stream, and the bytes fed and not written.
    pub(super) fn into_parts(mut self) -> (W, VecDeque<Bytes>) {
        self.seal();
        (self.inner, self.queue)
    }
}
