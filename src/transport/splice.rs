//! Back to plain bytes after a handshake: relaying one stream into another, or handing it to
//! another protocol.

use std::io;
use std::pin::{Pin, pin};
use std::task::{Context, Poll};

use bytes::{Buf, Bytes, BytesMut};
use futures::future::{Either, select};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf, ReadHalf, WriteHalf};

use super::{ByteStream, FrameError, Reader, Writer};

/// Bytes carried at once in each direction.
const SPLICE_BYTES: usize = 64 << 10;

/// One of the two spliced streams.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    A,
    B,
}

/// How a splice ended.
#[derive(Debug)]
pub struct SpliceEnd {
    /// The stream that ended or failed first.
    pub side: Side,
    /// Bytes carried from A to B, and from B to A.
    pub bytes: [u64; 2],
    /// `Ok` if the stream simply ended.
    pub result: io::Result<()>,
}

/// Carries bytes both ways until either stream ends, then closes both: a relay has no half-open
/// state. What the first to end has sent is delivered before. Frames read or fed but not handed
/// on are carried too.
pub async fn splice<A: ByteStream, B: ByteStream>(
    a: (Reader<A>, Writer<A>),
    b: (Reader<B>, Writer<B>),
) -> SpliceEnd {
    let (mut a, mut b) = (a, b);
    if let Err((side, error)) = flush_both(&mut a.1, &mut b.1).await {
        return SpliceEnd { side, bytes: [0, 0], result: Err(error) };
    }
    let (mut a_write, mut b_write) = (a.1.into_parts().0, b.1.into_parts().0);
    let mut bytes = [0, 0];
    let [up_bytes, down_bytes] = &mut bytes;
    let ended = {
        let up = pin!(pump((a.0, Side::A), (&mut b_write, Side::B), up_bytes));
        let down = pin!(pump((b.0, Side::B), (&mut a_write, Side::A), down_bytes));
        match select(up, down).await {
            Either::Left((ended, _)) | Either::Right((ended, _)) => ended,
        }
    };
    // Whether the peers still hear of the end is up to them.
    let _ = a_write.shutdown().await;
    let _ = b_write.shutdown().await;
    match ended {
        Ok(side) => SpliceEnd { side, bytes, result: Ok(()) },
        Err((side, error)) => SpliceEnd { side, bytes, result: Err(error) },
    }
}

async fn flush_both<A: ByteStream, B: ByteStream>(
    a: &mut Writer<A>,
    b: &mut Writer<B>,
) -> Result<(), (Side, io::Error)> {
    a.flush().await.map_err(|e| (Side::A, into_io(e)))?;
    b.flush().await.map_err(|e| (Side::B, into_io(e)))
}

fn into_io(error: FrameError) -> io::Error {
    match error {
        FrameError::Io(error) => error,
        other => io::Error::other(other),
    }
}

/// Carries everything from one stream to another, beginning with what its reader has buffered.
/// Answers which side ended it.
async fn pump<A: ByteStream, B: ByteStream>(
    (from, source): (Reader<A>, Side),
    (to, target): (&mut WriteHalf<B>, Side),
    carried: &mut u64,
) -> Result<Side, (Side, io::Error)> {
    let (mut from, mut buffer) = from.into_parts();
    loop {
        *carried += buffer.len() as u64;
        to.write_all_buf(&mut buffer).await.map_err(|e| (target, e))?;
        to.flush().await.map_err(|e| (target, e))?;
        buffer.reserve(SPLICE_BYTES);
        if from.read_buf(&mut buffer).await.map_err(|e| (source, e))? == 0 {
            return Ok(source);
        }
    }
}

/// The two ends of a framed stream as one byte stream again; bytes the reader had buffered come
/// first. Refused while frames fed to the writer are not flushed.
pub fn reunite<S: ByteStream>(reader: Reader<S>, writer: Writer<S>) -> io::Result<Rejoined<S>> {
    let (write, unsent) = writer.into_parts();
    if !unsent.is_empty() {
        return Err(io::Error::other("frames are fed and not flushed: flush before reuniting"));
    }
    let (read, buffered) = reader.into_parts();
    Ok(Rejoined { first: BytesMut::freeze(buffered), read, write })
}

/// See [`reunite`].
#[derive(Debug)]
pub struct Rejoined<S> {
    first: Bytes,
    read: ReadHalf<S>,
    write: WriteHalf<S>,
}

impl<S: ByteStream> AsyncRead for Rejoined<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.first.is_empty() {
            return Pin::new(&mut self.read).poll_read(cx, into);
        }
        let n = self.first.len().min(into.remaining());
        into.put_slice(&self.first[..n]);
        self.first.advance(n);
        Poll::Ready(Ok(()))
    }
}

impl<S: ByteStream> AsyncWrite for Rejoined<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.write).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.write).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.write).poll_shutdown(cx)
    }
}
