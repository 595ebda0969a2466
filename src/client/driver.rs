//! The one task of a client: it owns the socket and the timer, and drives the conversation.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use super::conversation::Step;
use super::shared::Shared;
use super::{Options, handshake};
use crate::env::Runtime;
use crate::transport::{ByteStream, FrameOut, Net, Reader, Writer};
use crate::types::Rejection;
use crate::wire::{ServerMessage, Service, Welcome};

/// Bytes handed to the socket before the conversation is asked for more.
const WRITE_BYTES_TARGET: usize = 512 << 10;
/// Frames taken from the socket before the conversation hears of them.
const READ_FRAMES_MAX: usize = 64;

/// Why there is no connection.
enum Failure {
    Refused(Rejection),
    Lost(String),
}

/// Drives a conversation until it ends.
pub struct Driver<N, E> {
    pub net: N,
    pub env: E,
    pub options: Options,
    pub shared: Arc<Shared>,
}

impl<N: Net, E: Runtime> Driver<N, E> {
    /// Runs until the conversation ends.
    pub async fn run(self) {
        let mut alarm = Alarm::new(self.env.clone());
        loop {
            let step = self.shared.lock().conversation.step(self.shared.now());
            match step {
                Step::Dial(server, within) => self.connect(server, within, &mut alarm).await,
                Step::WaitUntil(until) => {
                    let pause = until.saturating_sub(self.env.monotonic());
                    self.ticking(self.env.sleep(pause), &mut alarm).await;
                }
                // This task alone makes connections, so there is none in the making here.
                Step::Stay => self.lost(Failure::Lost("the connection was forgotten".into())),
                Step::End => return,
            }
        }
    }

    async fn connect(&self, server: usize, within: Duration, alarm: &mut Alarm<E>) {
        let Some(addr) = self.options.servers.get(server) else {
            return self.lost(Failure::Lost("no server is known".into()));
        };
        let Some(dialled) = self.ticking(self.dial(addr, within), alarm).await else { return };
        let failure = match dialled {
            Ok((welcome, reader, writer)) => {
                self.tell(|c, now| c.connected(addr, welcome, now));
                Failure::Lost(self.talk(reader, writer, alarm).await)
            }
            Err(failure) => failure,
        };
        self.lost(failure);
    }

    fn lost(&self, failure: Failure) {
        self.tell(|conversation, now| match failure {
            Failure::Refused(rejection) => conversation.refused(rejection, now),
            Failure::Lost(reason) => conversation.disconnected(reason, now),
        });
    }

    /// Tells the conversation something, and the user what comes of it.
    fn tell(&self, input: impl FnOnce(&mut super::conversation::Conversation, Duration)) {
        let mut state = self.shared.lock();
        input(&mut state.conversation, self.shared.now());
        state.tell(&self.shared);
    }

    /// Dials and shakes hands within the time allowed.
    async fn dial(
        &self,
        addr: &str,
        within: Duration,
    ) -> Result<(Welcome, Reader<N::Stream>, Writer<N::Stream>), Failure> {
        let options = Options { handshake_timeout: within, ..self.options.clone() };
        let answer = handshake::dial(&self.net, &self.env, addr, &options, Service::Data).await;
        answer.map_err(|error| match error {
            handshake::HandshakeError::Refused(rejection) => Failure::Refused(rejection),
            other => Failure::Lost(other.to_string()),
        })
    }

    /// Waits for `work` while time passes for the conversation. `None`: the conversation ended.
    async fn ticking<T>(&self, work: impl Future<Output = T>, alarm: &mut Alarm<E>) -> Option<T> {
        let mut work = std::pin::pin!(work);
        loop {
            let wake_at = {
                let mut state = self.shared.lock();
                state.conversation.tick(self.shared.now());
                state.tell(&self.shared);
                if state.conversation.ended().is_some() {
                    return None;
                }
                state.conversation.wake_at()
            };
            tokio::select! {
                biased;
                done = &mut work => return Some(done),
                _ = self.shared.wake.notified() => {}
                _ = alarm.at(wake_at) => {}
            }
        }
    }

    /// Talks until the connection is of no more use; says why.
    async fn talk<S: ByteStream>(
        &self,
        mut reader: Reader<S>,
        mut writer: Writer<S>,
        alarm: &mut Alarm<E>,
    ) -> String {
        loop {
            let wake_at = match self.fill(&mut writer) {
                Ok(wake_at) => wake_at,
                Err(reason) => return reason,
            };
            let pending = writer.pending_bytes();
            tokio::select! {
                biased;
                read = reader.read() => match read {
                    Ok(Some(frame)) => if let Err(reason) = self.hear(frame, &mut reader) {
                        return reason;
                    },
                    Ok(None) => return "the server closed the connection".into(),
                    Err(error) => return error.to_string(),
                },
                flushed = writer.flush(), if pending > 0 => if let Err(error) = flushed {
                    return error.to_string();
                },
                _ = self.shared.wake.notified(), if pending < WRITE_BYTES_TARGET => {
                    // Whoever is ready to publish or to settle does so before the frame is made.
                    Yield::default().await;
                }
                _ = alarm.at(wake_at) => {}
            }
        }
    }

    /// Puts what the conversation has to say before the socket. Returns when it may have more.
    fn fill<S: ByteStream>(&self, writer: &mut Writer<S>) -> Result<Option<Duration>, String> {
        let mut state = self.shared.lock();
        let now = self.shared.now();
        state.conversation.tick(now);
        let ended = state.conversation.ended().map(Rejection::to_string);
        let reason = state.conversation.should_leave().map(str::to_string).or(ended);
        state.tell(&self.shared);
        if let Some(reason) = reason {
            return Err(reason);
        }
        while writer.pending_bytes() < WRITE_BYTES_TARGET {
            let Some(message) = state.conversation.transmit(now) else { break };
            writer.feed(FrameOut::from(message.encode())).map_err(|error| error.to_string())?;
        }
        Ok(state.conversation.wake_at())
    }

    /// Hands a burst of frames to the conversation. Decoding needs no lock.
    fn hear<S: ByteStream>(
        &self,
        first: crate::transport::Frame,
        reader: &mut Reader<S>,
    ) -> Result<(), String> {
        let mut messages = Vec::new();
        let mut next = Some(first);
        while let Some(frame) = next {
            let message = ServerMessage::decode(frame.kind, frame.body);
            messages.push(message.map_err(|error| error.to_string())?);
            if messages.len() >= READ_FRAMES_MAX {
                break;
            }
            next = reader.buffered().map_err(|error| error.to_string())?;
        }
        self.tell(|conversation, now| {
            messages.into_iter().for_each(|message| conversation.message(message, now));
        });
        Ok(())
    }
}

/// A timer that is kept while its time stays the same or moves later: most never ring.
struct Alarm<E> {
    env: E,
    /// When it rings, and the sleep until then.
    set: Option<(Duration, Sleep)>,
}

type Sleep = Pin<Box<dyn Future<Output = ()> + Send>>;

impl<E: Runtime> Alarm<E> {
    fn new(env: E) -> Alarm<E> {
        Alarm { env, set: None }
    }

    /// Rings at `at` or before, never if there is no time. Cancel-safe.
    async fn at(&mut self, at: Option<Duration>) {
        let Some(at) = at else { return std::future::pending().await };
        if self.set.as_ref().is_none_or(|(rings, _)| *rings > at) {
            let pause = at.saturating_sub(self.env.monotonic());
            self.set = Some((at, Box::pin(self.env.sleep(pause))));
        }
        if let Some((_, sleep)) = &mut self.set {
            sleep.await;
        }
        self.set = None;
    }
}

/// Lets other tasks run once.
#[derive(Default)]
struct Yield {
    yielded: bool,
}

impl Future for Yield {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut std::task::Context<'_>) -> std::task::Poll<()> {
        if std::mem::replace(&mut self.yielded, true) {
            return std::task::Poll::Ready(());
        }
        cx.waker().wake_by_ref();
        std::task::Poll::Pending
    }
}
