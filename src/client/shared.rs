//! What the user's handles and the driver share: the conversation under a lock, and who waits.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, mpsc, oneshot};

use super::conversation::{Conversation, Key};
use super::{Ack, AckRange, ConnectionEvent, Fate, PublishError};
use crate::types::{Code, LaneId, Rejection};

/// A clock that handles can read without knowing the runtime.
type Clock = Box<dyn Fn() -> Duration + Send + Sync>;

/// What waits for an event's answer; `None` for events published in bulk.
pub type Waiter = Option<oneshot::Sender<Result<Ack, PublishError>>>;

/// Shared by all handles of a client and its driver.
pub struct Shared {
    state: Mutex<State>,
    /// Wakes the driver.
    pub wake: Notify,
    /// Wakes whoever waits for the first connection, for silence or for the end.
    pub changed: Notify,
    clock: Clock,
}

/// What the lock guards.
pub struct State {
    pub conversation: Conversation,
    faces: BTreeMap<Key, Face>,
    observers: Vec<mpsc::Sender<ConnectionEvent>>,
    pub ever_connected: bool,
}

/// The user's side of a key.
#[derive(Default)]
struct Face {
    news: Arc<Notify>,
    /// One for each event without an answer, in lane order.
    waiters: VecDeque<Waiter>,
    /// Answers to events published in bulk.
    ranges: VecDeque<AckRange>,
}

/// Answers to bulk publishes kept for the user; beyond it publishing in bulk waits.
const RANGES_MAX: usize = 4096;

impl Shared {
    pub fn new(conversation: Conversation, clock: Clock) -> Shared {
        let (faces, observers) = (BTreeMap::new(), Vec::new());
        let state = Mutex::new(State { conversation, faces, observers, ever_connected: false });
        Shared { state, wake: Notify::new(), changed: Notify::new(), clock }
    }

    /// The state, for a moment: never across an await.
    pub fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing under the lock calls foreign code that could panic half way.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Monotonic time of the client's runtime.
    pub fn now(&self) -> Duration {
        (self.clock)()
    }

    /// Waits until `ready` has something to say about the state. `news` tells when it may have.
    pub async fn wait<T>(
        &self,
        news: &Notify,
        mut ready: impl FnMut(&mut State) -> Option<T>,
    ) -> T {
        loop {
            let notified = news.notified();
            if let Some(answer) = ready(&mut self.lock()) {
                return answer;
            }
            notified.await;
        }
    }

    /// Ends the conversation: everything without an answer gets one.
    pub fn end(&self) {
        let mut state = self.lock();
        if state.conversation.ended().is_none() {
            state.conversation.end(Rejection::new(Code::ShuttingDown, "the client was closed"));
        }
        state.tell(self);
        drop(state);
        self.wake.notify_one();
    }
}

impl State {
    /// Makes a key known to the shell; hands back what tells its news.
    pub fn face(&mut self, key: Key) -> Arc<Notify> {
        self.faces.entry(key).or_default().news.clone()
    }

    /// Forgets the user's side of a key. Answers that nobody waits for are dropped.
    pub fn forget(&mut self, key: Key) {
        if self.conversation.lane(key).is_none() {
            self.faces.remove(&key);
        }
    }

    /// Notes who waits for the event queued last on a lane.
    pub fn expect(&mut self, key: Key, waiter: Waiter) {
        self.faces.entry(key).or_default().waiters.push_back(waiter);
    }

    /// Whether answers to bulk publishes find a place.
    pub fn has_room_for_ranges(&self, key: Key) -> bool {
        self.faces.get(&key).is_none_or(|face| face.ranges.len() < RANGES_MAX)
    }

    /// Answers to bulk publishes so far.
    pub fn take_ranges(&mut self, key: Key) -> Vec<AckRange> {
        self.faces.get_mut(&key).map(|face| face.ranges.drain(..).collect()).unwrap_or_default()
    }

    /// Passes on what the conversation has for the user.
    pub fn tell(&mut self, shared: &Shared) {
        let news = self.conversation.news();
        if !news.is_empty() {
            shared.changed.notify_waiters();
        }
        for key in news {
            let Some(face) = self.faces.get_mut(&key) else { continue };
            if let Some(lane) = self.conversation.lane(key) {
                let id = lane.identity().map(|identity| identity.lane).unwrap_or_default();
                while let Some(range) = lane.report() {
                    face.answer(id, range);
                }
            }
            face.news.notify_waiters();
        }
        while let Some(event) = self.conversation.poll_event() {
            self.ever_connected |= matches!(event, ConnectionEvent::Connected { .. });
            shared.changed.notify_waiters();
            // An observer that does not keep up misses some.
            self.observers.retain(|observer| {
                !matches!(
                    observer.try_send(event.clone()),
                    Err(mpsc::error::TrySendError::Closed(_))
                )
            });
        }
    }

    /// Events about the connection from now on.
    pub fn observe(&mut self, capacity: usize) -> mpsc::Receiver<ConnectionEvent> {
        let (sender, receiver) = mpsc::channel(capacity);
        self.observers.push(sender);
        receiver
    }
}

impl Face {
    /// Hands an answer to those who wait for it.
    fn answer(&mut self, lane: LaneId, range: AckRange) {
        let mut place = 0;
        while place < range.count {
            let left = (range.count - place) as usize;
            let bulk = self.waiters.iter().take(left).take_while(|w| w.is_none()).count();
            if bulk > 0 {
                self.waiters.drain(..bulk);
                self.note(range.part(place, bulk as u32));
                place += bulk as u32;
            } else {
                if let Some(Some(waiter)) = self.waiters.pop_front() {
                    // A receipt that was dropped wants no answer.
                    let _ = waiter.send(range.one(lane, place));
                }
                place += 1;
            }
        }
    }

    /// Keeps the answer to events published in bulk.
    fn note(&mut self, range: AckRange) {
        if !self.ranges.back_mut().is_some_and(|last| last.join(&range)) {
            self.ranges.push_back(range);
        }
    }
}

impl AckRange {
    /// The part of the range that begins at `place` and has `count` events.
    fn part(&self, place: u32, count: u32) -> AckRange {
        let fate = match &self.fate {
            Fate::Accepted { first_seq, duplicate } if *first_seq > 0 => {
                Fate::Accepted { first_seq: first_seq + u64::from(place), duplicate: *duplicate }
            }
            other => other.clone(),
        };
        AckRange { first_sequence: self.first_sequence + u64::from(place), count, fate }
    }

    fn one(&self, lane: LaneId, place: u32) -> Result<Ack, PublishError> {
        let AckRange { first_sequence: sequence, fate, .. } = self.part(place, 1);
        match fate {
            Fate::Accepted { first_seq: seq, duplicate } => {
                Ok(Ack { lane, sequence, seq, duplicate })
            }
            Fate::Refused(rejection) => Err(PublishError::Refused(rejection)),
            Fate::Unknown(rejection) => Err(PublishError::Unknown(rejection)),
        }
    }
}
