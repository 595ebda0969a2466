//! One end of a simulated stream.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Buf, Bytes};
use openraft_rt::AsyncRuntime;
use openraft_rt_sim::{SimRuntime, SimSleep};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::env::now;
use super::net::Fabric;
use super::pipe::End;

/// One end of a stream: reads one pipe, writes the other.
pub struct SimStream {
    fabric: Fabric,
    read: u64,
    write: u64,
    /// Until the next segment arrives.
    arrival: Option<(Duration, Pin<Box<SimSleep>>)>,
}

impl SimStream {
    pub(super) fn new(fabric: Fabric, read: u64, write: u64) -> SimStream {
        SimStream { fabric, read, write, arrival: None }
    }

    /// Waits until `due`.
    fn wait(&mut self, due: Duration, cx: &mut Context<'_>) -> Poll<()> {
        if self.arrival.as_ref().is_none_or(|(at, _)| *at != due) {
            self.arrival = Some((due, Box::pin(SimRuntime::sleep(due.saturating_sub(now())))));
        }
        match &mut self.arrival {
            Some((_, sleep)) => sleep.as_mut().poll(cx),
            None => Poll::Ready(()),
        }
    }
}

/// What a reader finds.
enum Found {
    Bytes(Bytes),
    Over(End),
    /// Nothing before this.
    At(Duration),
    Nothing,
}

fn reset() -> io::Error {
    io::Error::new(io::ErrorKind::ConnectionReset, "the stream was reset")
}

impl SimStream {
    fn find(&self, room: usize, cx: &mut Context<'_>) -> Found {
        let mut state = self.fabric.lock();
        let Some(link) = state.pipes.get(&self.read).map(|pipe| pipe.link.clone()) else {
            return Found::Over(End::Reset);
        };
        let blocked = state.is_blocked(&link);
        let Some(pipe) = state.pipes.get_mut(&self.read) else { return Found::Over(End::Reset) };
        if pipe.reader_gone {
            return Found::Over(End::Reset);
        }
        pipe.reader = Some(cx.waker().clone());
        if blocked {
            return Found::Nothing;
        }
        let time = now();
        match (pipe.end, pipe.segments.front_mut()) {
            (Some((due, End::Reset)), _) if due <= time => Found::Over(End::Reset),
            (_, Some((due, bytes))) if *due <= time => {
                let taken = bytes.split_to(room.min(bytes.len()));
                let empty = !bytes.has_remaining();
                if empty {
                    pipe.segments.pop_front();
                }
                pipe.queued -= taken.len();
                if let Some(writer) = pipe.writer.take() {
                    writer.wake();
                }
                Found::Bytes(taken)
            }
            (Some((due, End::Reset)), Some((at, _))) => Found::At(due.min(*at)),
            (_, Some((at, _))) => Found::At(*at),
            (Some((due, end)), None) if due <= time => Found::Over(end),
            (Some((due, _)), None) => Found::At(due),
            (None, None) => Found::Nothing,
        }
    }
}

impl AsyncRead for SimStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        loop {
            match self.find(buf.remaining(), cx) {
                Found::Bytes(bytes) => {
                    buf.put_slice(&bytes);
                    return Poll::Ready(Ok(()));
                }
                Found::Over(End::Fin) => return Poll::Ready(Ok(())),
                Found::Over(End::Reset) => return Poll::Ready(Err(reset())),
                Found::Nothing => return Poll::Pending,
                Found::At(due) => {
                    if self.wait(due, cx).is_pending() {
                        return Poll::Pending;
                    }
                }
            }
        }
    }
}

impl AsyncWrite for SimStream {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let mut state = self.fabric.lock();
        let Some(pipe) = state.pipes.get(&self.write) else { return Poll::Ready(Err(reset())) };
        let (link, room) = (pipe.link.clone(), pipe.has_room());
        let (deaf, dead) = (pipe.reader_gone, pipe.writer_gone);
        let due = state.arrival(&link);
        let broken =
            |end: &Option<(Duration, End)>| matches!(end, Some((at, End::Reset)) if *at <= now());
        if dead || state.pipes.get(&self.read).is_none_or(|pipe| broken(&pipe.end)) {
            return Poll::Ready(Err(reset()));
        }
        if deaf {
            // Answered with a reset, if the host still answers and the way back is open.
            let back = (link.1.clone(), link.0.clone());
            let answered = !state.is_dark(&link.1) && !state.is_blocked(&link);
            let heard = state.arrival(&back).saturating_sub(now()) + due;
            if let Some(pipe) = state.pipes.get_mut(&self.read).filter(|_| answered) {
                pipe.finish(End::Reset, heard);
            }
        }
        let Some(pipe) = state.pipes.get_mut(&self.write) else {
            return Poll::Ready(Err(reset()));
        };
        if !room {
            pipe.writer = Some(cx.waker().clone());
            return Poll::Pending;
        }
        pipe.send(Bytes::copy_from_slice(bytes), due);
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.hang_up();
        Poll::Ready(Ok(()))
    }
}

impl SimStream {
    fn hang_up(&self) {
        let mut state = self.fabric.lock();
        let Some(link) = state.pipes.get(&self.write).map(|pipe| pipe.link.clone()) else { return };
        let due = state.arrival(&link);
        if let Some(pipe) = state.pipes.get_mut(&self.write).filter(|pipe| !pipe.writer_gone) {
            pipe.finish(End::Fin, due);
        }
    }
}

impl Drop for SimStream {
    fn drop(&mut self) {
        self.hang_up();
        let mut state = self.fabric.lock();
        if let Some(pipe) = state.pipes.get_mut(&self.write) {
            pipe.writer_gone = true;
        }
        if let Some(pipe) = state.pipes.get_mut(&self.read) {
            pipe.reader_gone = true;
            pipe.segments.clear();
            pipe.queued = 0;
            pipe.wake();
        }
        state.sweep();
    }
}
