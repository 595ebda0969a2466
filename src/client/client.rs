//! A client: one connection, and what hangs on it.

use std::sync::Arc;

use tokio::sync::mpsc;

use super::conversation::{Conversation, Key, Mode, Settlements, Verdict};
use super::driver::Driver;
use super::shared::Shared;
use super::{
    ConnectionEvent, Options, PublishOptions, Publisher, PullSupplier, Puller, SubscribeOptions,
    Subscriber, Token,
};
use crate::env::{Runtime, TokioRuntime};
use crate::transport::{Net, TcpNet};
use crate::types::{Code, Name, Rejection};
use crate::wire::Welcome;

/// A connection to a cluster that comes back by itself. Cheap to clone; it ends when the last
/// clone, publisher, subscriber and puller is gone.
#[derive(Clone)]
pub struct Client {
    alive: Arc<Alive>,
}

/// Ends the client when the last handle is dropped.
pub(super) struct Alive {
    pub shared: Arc<Shared>,
}

impl Drop for Alive {
    fn drop(&mut self) {
        self.shared.end();
    }
}

/// Events about the connection kept for an observer that does not look.
const OBSERVED_MAX: usize = 256;

impl Client {
    /// Connects over TCP, inside a tokio runtime.
    ///
    /// # Errors
    /// See [`Client::connect_with`].
    pub async fn connect(options: Options) -> Result<Client, Rejection> {
        Client::connect_with(TcpNet, TokioRuntime::new(), options).await
    }

    /// Connects over any network, on any runtime; returns once a server has welcomed the client.
    ///
    /// # Errors
    /// The refusal of a server that holds for all of them (`unauthorized`, `wrong_cluster`,
    /// `version_mismatch`); `no_leader` if no server welcomed the client within
    /// [`Options::connect_timeout`]; `bad_request` without servers.
    pub async fn connect_with<N: Net, E: Runtime>(
        net: N,
        env: E,
        options: Options,
    ) -> Result<Client, Rejection> {
        if options.servers.is_empty() {
            return Err(Rejection::new(Code::BadRequest, "there is no server to connect to")
                .hint("name one with --servers or AQUEDUCT_SERVERS"));
        }
        let clock = env.clone();
        let conversation = Conversation::new(options.clone(), env.random(), env.monotonic());
        let shared = Arc::new(Shared::new(conversation, Box::new(move || clock.monotonic())));
        let driver = Driver { net, env: env.clone(), options, shared: shared.clone() };
        env.spawn(driver.run());
        let client = Client { alive: Arc::new(Alive { shared }) };
        client.connected().await?;
        Ok(client)
    }

    /// Waits until the client has been welcomed once.
    async fn connected(&self) -> Result<(), Rejection> {
        let shared = &self.alive.shared;
        let outcome = shared.wait(&shared.changed, |state| match state.conversation.ended() {
            Some(rejection) => Some(Err(rejection.clone())),
            None => state.ever_connected.then_some(Ok(())),
        });
        outcome.await
    }

    /// Opens a lane on a channel and hands back its publisher.
    ///
    /// # Errors
    /// What the cluster refuses (`unknown_channel`, `unknown_lane`, `too_many_lanes`), or
    /// `no_leader` if nobody answered within the deadline of the options.
    pub async fn publisher(
        &self,
        channel: Name,
        options: impl Into<PublishOptions>,
    ) -> Result<Publisher, Rejection> {
        Publisher::open(self.alive.clone(), channel, options.into()).await
    }

    /// Opens a lane whose source this client serves: the cluster polls it.
    ///
    /// # Errors
    /// As [`Client::publisher`].
    pub async fn pull_supplier(
        &self,
        channel: Name,
        options: impl Into<PublishOptions>,
    ) -> Result<PullSupplier, Rejection> {
        let options = PublishOptions { polled: true, ..options.into() };
        self.publisher(channel, options).await.map(PullSupplier::new)
    }

    /// Attaches a consumer that is sent events as they come.
    ///
    /// # Errors
    /// What the cluster refuses (`unknown_channel`, `proxy_exists` with other settings,
    /// `too_many_proxies`), or `no_leader` if nobody answered in time.
    pub async fn subscribe(
        &self,
        channel: Name,
        options: SubscribeOptions,
    ) -> Result<Subscriber, Rejection> {
        Subscriber::open(self.alive.clone(), channel, options).await
    }

    /// Attaches a consumer that is sent events when it asks.
    ///
    /// # Errors
    /// As [`Client::subscribe`].
    pub async fn puller(
        &self,
        channel: Name,
        options: SubscribeOptions,
    ) -> Result<Puller, Rejection> {
        Puller::open(self.alive.clone(), channel, options).await
    }

    /// Settles a delivery that any client received, by its token; returns once that is committed.
    ///
    /// # Errors
    /// What the cluster refuses, such as `unknown_proxy`.
    pub async fn settle_token(
        &self,
        token: Token,
        verdict: Verdict,
    ) -> Result<Settlements, Rejection> {
        let shared = &self.alive.shared;
        let (key, news) = {
            let mut state = shared.lock();
            let key = state.conversation.settle_elsewhere(token, verdict);
            (key, state.face(key))
        };
        let left = Left { shared, key };
        shared.wake.notify_one();
        let outcome = shared.wait(&news, |state| {
            let ended = state.conversation.ended().cloned();
            let settling = state.conversation.settled_elsewhere(key)?;
            let done = settling.is_idle().then(|| settling.totals().clone());
            done.map(Ok).or(ended.map(Err))
        });
        let settlements = outcome.await?;
        drop(left);
        match settlements.last_refusal.clone() {
            Some(rejection) => Err(rejection),
            None => Ok(settlements),
        }
    }

    /// The server connected now, as it introduced itself; `None` while there is none.
    pub fn server(&self) -> Option<Welcome> {
        self.alive.shared.lock().conversation.welcome().copied()
    }

    /// Events about the connection from now on. An observer that does not keep up misses some.
    pub fn observe(&self) -> mpsc::Receiver<ConnectionEvent> {
        self.alive.shared.lock().observe(OBSERVED_MAX)
    }

    /// Waits until every event is answered and every verdict confirmed. It can take as long as the
    /// deadline of the last publish; verdicts wait for a leader without limit.
    pub async fn idle(&self) {
        let shared = &self.alive.shared;
        let ready = |state: &mut super::shared::State| {
            let over = state.conversation.is_idle() || state.conversation.ended().is_some();
            over.then_some(())
        };
        shared.wait(&shared.changed, ready).await;
    }

    /// Ends the client at once: what has no answer gets one now (unknown, if it was sent).
    pub fn close(&self) {
        self.alive.shared.end();
    }
}

/// Forgets a settlement by token, also when its future is dropped.
struct Left<'a> {
    shared: &'a Shared,
    key: Key,
}

impl Drop for Left<'_> {
    fn drop(&mut self) {
        let mut state = self.shared.lock();
        state.conversation.leave_settlement(self.key);
        state.forget(self.key);
    }
}

/// A consumer's key, from attaching to leaving.
pub(super) struct Attachment {
    pub alive: Arc<Alive>,
    pub key: Key,
    pub news: Arc<tokio::sync::Notify>,
}

impl Attachment {
    /// Attaches, and waits until the server knows the consumer.
    pub async fn open(
        alive: Arc<Alive>,
        channel: Name,
        options: SubscribeOptions,
        mode: Mode,
    ) -> Result<Attachment, Rejection> {
        let (key, news) = {
            let shared = &alive.shared;
            let mut state = shared.lock();
            let key = state.conversation.subscribe(channel, options, mode, shared.now());
            (key, state.face(key))
        };
        let attachment = Attachment { alive, key, news };
        attachment.alive.shared.wake.notify_one();
        attachment
            .wait(|consumer| match consumer.failed() {
                Some(rejection) => Some(Err(rejection.clone())),
                None => consumer.ever_attached().then_some(Ok(())),
            })
            .await?;
        Ok(attachment)
    }

    /// Waits for something of the consumer.
    pub async fn wait<T>(
        &self,
        mut ready: impl FnMut(&mut super::conversation::Consumer) -> Option<T>,
    ) -> T {
        let key = self.key;
        let shared = &self.alive.shared;
        let answer = shared.wait(&self.news, |state| ready(state.conversation.consumer(key)?));
        answer.await
    }
}

impl Drop for Attachment {
    fn drop(&mut self) {
        let shared = &self.alive.shared;
        let mut state = shared.lock();
        state.conversation.leave_consumer(self.key);
        state.forget(self.key);
        drop(state);
        shared.wake.notify_one();
    }
}
