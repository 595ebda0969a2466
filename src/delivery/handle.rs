//! How sessions and the node reach the delivery task.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::{mpsc, oneshot};

use super::outbox::Outbox;
use super::request::{Request, SessionId};
use crate::types::{ChannelId, Member, ProxyId};

/// A handle on the delivery task; cheap to clone.
#[derive(Clone)]
pub struct Handle {
    /// Bounded: sessions wait here when delivery cannot keep up.
    asks: mpsc::Sender<Ask>,
    /// What may not wait: bounded by the number of sessions.
    notices: mpsc::UnboundedSender<Notice>,
    shared: Arc<Shared>,
}

#[derive(Default)]
pub(super) struct Shared {
    next_session: AtomicU64,
    subscribers: Mutex<BTreeMap<ChannelId, usize>>,
}

/// What waits its turn.
pub(super) enum Ask {
    Request(Request),
    Leave(SessionId),
    Stats(Vec<ProxyId>, oneshot::Sender<Stats>),
}

/// What goes first.
pub(super) enum Notice {
    Connect(SessionId, Outbox),
    /// A session ended without saying so: its task was dropped.
    Drop(SessionId),
}

/// What goes on at a durable proxy now.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ProxyStats {
    /// Unsettled deliveries.
    pub in_flight: u64,
    /// Clients attached.
    pub clients: u64,
    /// Turns to be served that it had.
    pub turns: u64,
    /// How long it waits for its next turn, in milliseconds; 0: nothing is to be done for it.
    pub waiting_ms: u64,
    /// The longest that it waited for one.
    pub longest_wait_ms: u64,
    /// Of an exclusive proxy: who waits to hold it, first come first.
    pub standby: Vec<Member>,
}

/// What delivery tells about now.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Stats {
    /// The proxies asked about.
    pub proxies: BTreeMap<ProxyId, ProxyStats>,
    /// Consumers attached, volatile ones included.
    pub consumers: usize,
}

impl Handle {
    pub(super) fn new(
        asks: mpsc::Sender<Ask>,
        notices: mpsc::UnboundedSender<Notice>,
        shared: Arc<Shared>,
    ) -> Handle {
        Handle { asks, notices, shared }
    }

    /// Introduces a session; what it is told goes into `outbox`.
    pub fn connect(&self, outbox: Outbox) -> Connection {
        let session = SessionId(self.shared.next_session.fetch_add(1, Ordering::Relaxed) + 1);
        // A delivery task that is gone answers nobody; the session ends by its tenure.
        let _ = self.notices.send(Notice::Connect(session, outbox));
        Connection { session, handle: self.clone(), left: false }
    }

    /// Passes a request on. Waits while delivery is behind.
    pub async fn ask(&self, request: Request) {
        let _ = self.asks.send(Ask::Request(request)).await;
    }

    /// Whether somebody subscribes to the channel now, without a durable proxy.
    pub fn has_subscribers(&self, channel: ChannelId) -> bool {
        self.shared.subscribers().contains_key(&channel)
    }

    /// How many subscribe to the channel now, without a durable proxy.
    pub fn subscribers_of(&self, channel: ChannelId) -> u64 {
        self.shared.subscribers().get(&channel).map_or(0, |count| *count as u64)
    }

    /// How much is in flight for these proxies, and how many consumers are attached. All zero on
    /// a node that does not serve.
    pub async fn stats(&self, proxies: Vec<ProxyId>) -> Stats {
        let (answer, stats) = oneshot::channel();
        let _ = self.asks.send(Ask::Stats(proxies, answer)).await;
        stats.await.unwrap_or_default()
    }
}

impl Shared {
    pub fn set_subscribers(&self, subscribers: BTreeMap<ChannelId, usize>) {
        *self.subscribers() = subscribers;
    }

    fn subscribers(&self) -> std::sync::MutexGuard<'_, BTreeMap<ChannelId, usize>> {
        self.subscribers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A session known to delivery. Dropping it takes its consumers out.
pub struct Connection {
    session: SessionId,
    handle: Handle,
    left: bool,
}

impl Connection {
    /// Which session this is.
    pub fn id(&self) -> SessionId {
        self.session
    }

    /// Takes its consumers out, after everything it asked for before.
    pub async fn leave(mut self) {
        let _ = self.handle.asks.send(Ask::Leave(self.session)).await;
        self.left = true;
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        if !self.left {
            let _ = self.handle.notices.send(Notice::Drop(self.session));
        }
    }
}
