//! One outbound connection to a peer: dialled when needed, requests matched to answers by id.
//!
//! A link never retries a request: openraft does that. It notices a dead connection in four ways
//! (the stream ends, a write fails, requests go unanswered for [`SILENCE_MAX`], or another link met
//! another [`Life`] of the peer), fails whatever waits on it, and dials again for the next request.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use thiserror::Error;
use tokio::sync::{Notify, mpsc, oneshot};

use crate::env::Runtime;
use crate::transport::{FrameError, FrameOut, Net, Reader, Writer};
use crate::wire::Welcome;

use super::dial::Dialer;
use super::life::Life;
use super::member::Member;
use super::rpc::{self, Request, Response};

/// Frame kinds of the peer protocol.
pub(super) const REQUEST: u8 = 0x40;
pub(super) const RESPONSE: u8 = 0x41;

/// Longest time to connect and shake hands.
const CONNECT_MAX: Duration = Duration::from_secs(2);
/// A connection on which nothing was heard for this long while requests wait is given up.
const SILENCE_MAX: Duration = Duration::from_secs(1);
/// Requests waiting to be written to one peer.
const QUEUE_MAX: usize = 64;

/// Why a request has no answer.
#[derive(Debug, Clone, Error)]
pub(super) enum CallError {
    #[error("no answer within {0:?}")]
    Timeout(Duration),
    #[error("{0}")]
    Unreachable(String),
    #[error("the peer speaks an older version, in which it cannot be asked that")]
    Unspoken,
}

/// The handle: cheap to clone; the connection closes with the last one.
pub(super) struct Link<E> {
    calls: mpsc::Sender<Call>,
    shared: Arc<Shared>,
    env: E,
}

struct Call {
    id: u64,
    /// The protocol version that it takes.
    since: u16,
    frame: FrameOut,
}

type Answer = Result<(Response, Bytes), CallError>;

#[derive(Default)]
struct Shared {
    inside: Mutex<Inside>,
    /// Somebody found the connection silent for too long.
    silent: Notify,
}

#[derive(Default)]
struct Inside {
    next_id: u64,
    waiting: BTreeMap<u64, oneshot::Sender<Answer>>,
    /// When the first request after the last sign of life was made.
    asked_at: Option<Duration>,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Inside> {
        self.inside.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn answer(&self, id: u64, answer: Answer) {
        let waiting = self.lock().waiting.remove(&id);
        if let Some(tell) = waiting {
            let _ = tell.send(answer);
        }
    }

    /// Whether requests wait and nothing was heard for too long.
    fn is_silent(&self, now: Duration) -> bool {
        self.lock().asked_at.is_some_and(|at| now >= at + SILENCE_MAX)
    }

    fn fail_all(&self, error: &CallError) {
        let waiting = {
            let mut inside = self.lock();
            inside.asked_at = None;
            std::mem::take(&mut inside.waiting)
        };
        for tell in waiting.into_values() {
            let _ = tell.send(Err(error.clone()));
        }
    }
}

/// Forgets a request whose caller gave up.
struct Forget<'a>(&'a Shared, u64);

impl Drop for Forget<'_> {
    fn drop(&mut self) {
        self.0.lock().waiting.remove(&self.1);
    }
}

impl<E: Runtime> Link<E> {
    /// A link to `target`; nothing is dialled before the first request.
    pub fn new<N: Net>(target: Member, dialer: Dialer<N>, env: E) -> Link<E> {
        Link::sharing(Life::new(), target, dialer, env)
    }

    /// A link that learns from the others with this `life` when the peer began another.
    pub fn sharing<N: Net>(life: Life, target: Member, dialer: Dialer<N>, env: E) -> Link<E> {
        let (calls, queue) = mpsc::channel(QUEUE_MAX);
        let shared = Arc::new(Shared::default());
        let task = Task { target, life, dialer, env: env.clone(), shared: shared.clone(), queue };
        env.spawn(task.run());
        Link { calls, shared, env }
    }

    /// Asks and waits for the answer, at most `ttl`. The bulk follows the head in the frame,
    /// uncopied.
    pub async fn call(&self, request: &Request, bulk: Vec<Bytes>, ttl: Duration) -> Answer {
        let (tell, told) = oneshot::channel();
        let id = {
            let mut inside = self.shared.lock();
            inside.next_id += 1;
            let id = inside.next_id;
            inside.waiting.insert(id, tell);
            inside.asked_at.get_or_insert(self.env.monotonic());
            id
        };
        let _forget = Forget(&self.shared, id);
        let head = rpc::encode(id, request).map_err(|e| CallError::Unreachable(e.to_string()))?;
        let parts = std::iter::once(head).chain(bulk).collect();
        let asked = async {
            let call = Call { id, since: request.since(), frame: FrameOut::new(REQUEST, parts) };
            let gone = || CallError::Unreachable("the link is closed".into());
            self.calls.send(call).await.map_err(|_| gone())?;
            told.await.unwrap_or_else(|_| Err(gone()))
        };
        tokio::select! { biased;
            answer = asked => answer,
            () = self.env.sleep(ttl) => {
                self.suspect();
                Err(CallError::Timeout(ttl))
            }
        }
    }

    fn suspect(&self) {
        if self.shared.is_silent(self.env.monotonic()) {
            self.shared.silent.notify_one();
        }
    }
}

impl<E: Clone> Clone for Link<E> {
    fn clone(&self) -> Self {
        Link { calls: self.calls.clone(), shared: self.shared.clone(), env: self.env.clone() }
    }
}

struct Task<N, E> {
    target: Member,
    life: Life,
    dialer: Dialer<N>,
    env: E,
    shared: Arc<Shared>,
    queue: mpsc::Receiver<Call>,
}

impl<N: Net, E: Runtime> Task<N, E> {
    async fn run(mut self) {
        while let Some(first) = self.queue.recv().await {
            let end = match self.dialer.dial(&self.target, &self.env, CONNECT_MAX).await {
                Ok((welcome, reader, writer)) => {
                    self.life.meet(welcome.incarnation);
                    self.converse(first, &welcome, reader, writer).await
                }
                Err(error) => error.to_string(),
            };
            tracing::debug!(peer = %self.target.id, reason = end, "peer connection ended");
            while self.queue.try_recv().is_ok() {}
            self.shared.fail_all(&CallError::Unreachable(end));
        }
    }

    /// Speaks until the connection ends; says why it did.
    async fn converse(
        &mut self,
        first: Call,
        welcome: &Welcome,
        mut reader: Reader<N::Stream>,
        mut writer: Writer<N::Stream>,
    ) -> String {
        let shared = &self.shared;
        // The time it took to connect does not count.
        shared.lock().asked_at = Some(self.env.monotonic());
        let calls = (first, &mut self.queue);
        let writing = write_calls(calls, welcome.version, shared, &mut writer);
        tokio::select! { biased;
            end = read_answers(shared, &self.env, &mut reader) => end,
            end = writing => end,
            () = self.life.ended(welcome.incarnation) => "it has begun another life".to_string(),
            () = silence(shared, &self.env) => "nothing is heard from it any more".to_string(),
        }
    }
}

/// Completes when the connection is silent for too long, and somebody noticed.
async fn silence(shared: &Shared, env: &impl Runtime) {
    loop {
        shared.silent.notified().await;
        if shared.is_silent(env.monotonic()) {
            return;
        }
    }
}

async fn write_calls<S: crate::transport::ByteStream>(
    (first, queue): (Call, &mut mpsc::Receiver<Call>),
    version: u16,
    shared: &Shared,
    writer: &mut Writer<S>,
) -> String {
    let mut next = Some(first);
    while let Some(Call { id, since, frame }) = next {
        if since > version {
            shared.answer(id, Err(CallError::Unspoken));
            next = queue.recv().await;
            continue;
        }
        match writer.write([frame]).await {
            Ok(()) => {}
            // The caller's fault, not the connection's.
            Err(error @ FrameError::Oversized { .. }) => {
                shared.answer(id, Err(CallError::Unreachable(error.to_string())));
            }
            Err(error) => return error.to_string(),
        }
        next = queue.recv().await;
    }
    "nobody needs it any more".to_string()
}

async fn read_answers<S: crate::transport::ByteStream>(
    shared: &Shared,
    env: &impl Runtime,
    reader: &mut Reader<S>,
) -> String {
    loop {
        let frame = match reader.read().await {
            Ok(Some(frame)) if frame.kind == RESPONSE => frame,
            Ok(Some(frame)) => return format!("it sent a frame of kind {:#04x}", frame.kind),
            Ok(None) => return "it closed the connection".to_string(),
            Err(error) => return error.to_string(),
        };
        match rpc::decode::<Response>(frame.body) {
            Ok((id, response, bulk)) => {
                {
                    let mut inside = shared.lock();
                    let more = inside.waiting.keys().any(|other| *other != id);
                    inside.asked_at = more.then(|| env.monotonic());
                }
                shared.answer(id, Ok((response, bulk)));
            }
            Err(error) => return error.to_string(),
        }
    }
}

#[cfg(test)]
mod tests;
