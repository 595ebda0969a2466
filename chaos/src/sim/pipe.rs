//! One direction of a stream: what is on its way, and when it arrives.

use std::collections::VecDeque;
use std::task::Waker;
use std::time::Duration;

use bytes::Bytes;

use super::net::Link;

/// Bytes on their way before the writer waits.
const WINDOW: usize = 256 << 10;

/// How a direction ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// Nothing more will come.
    Fin,
    /// The stream is broken.
    Reset,
}

#[derive(Debug)]
pub(super) struct Pipe {
    pub link: Link,
    /// The other direction.
    pub reverse: u64,
    pub segments: VecDeque<(Duration, Bytes)>,
    pub queued: usize,
    pub end: Option<(Duration, End)>,
    last_due: Duration,
    pub reader: Option<Waker>,
    pub writer: Option<Waker>,
    pub reader_gone: bool,
    pub writer_gone: bool,
}

impl Pipe {
    pub fn new(link: Link, reverse: u64) -> Pipe {
        Pipe {
            link,
            reverse,
            segments: VecDeque::new(),
            queued: 0,
            end: None,
            last_due: Duration::ZERO,
            reader: None,
            writer: None,
            reader_gone: false,
            writer_gone: false,
        }
    }

    pub fn has_room(&self) -> bool {
        self.queued < WINDOW
    }

    /// Sends bytes that arrive at `due`, or after what was sent before.
    pub fn send(&mut self, bytes: Bytes, due: Duration) {
        self.last_due = self.last_due.max(due);
        self.queued += bytes.len();
        self.segments.push_back((self.last_due, bytes));
        self.wake_reader();
    }

    /// Ends the direction. A reset overtakes what is under way; a fin does not.
    pub fn finish(&mut self, end: End, due: Duration) {
        match self.end {
            Some((_, End::Reset)) => {}
            Some((_, End::Fin)) if end == End::Fin => {}
            _ if end == End::Reset => self.end = Some((due, end)),
            _ => self.end = Some((self.last_due.max(due), end)),
        }
        self.wake_reader();
    }

    pub fn wake_reader(&mut self) {
        if let Some(waker) = self.reader.take() {
            waker.wake();
        }
    }

    pub fn wake(&mut self) {
        self.wake_reader();
        if let Some(waker) = self.writer.take() {
            waker.wake();
        }
    }
}
