//! A value that many may watch: deterministic, unlike tokio's `watch`, which wakes its waiters in
//! random order.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

struct Shared<T> {
    state: Mutex<State<T>>,
    changed: Notify,
}

struct State<T> {
    version: u64,
    closed: bool,
    value: T,
}

/// The writing end. Dropping it ends every [`Watch::changed`].
pub struct Publisher<T>(Arc<Shared<T>>);

/// The reading end; clones see changes independently.
pub struct Watch<T> {
    shared: Arc<Shared<T>>,
    seen: u64,
}

/// A watched value and its writer. The initial value counts as seen.
pub fn watch<T: Clone>(value: T) -> (Publisher<T>, Watch<T>) {
    let state = Mutex::new(State { version: 0, closed: false, value });
    let shared = Arc::new(Shared { state, changed: Notify::new() });
    (Publisher(shared.clone()), Watch { shared, seen: 0 })
}

impl<T> Shared<T> {
    fn lock(&self) -> MutexGuard<'_, State<T>> {
        // A value of plain assignments cannot be half-written by a panicking holder.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T: Clone + PartialEq> Publisher<T> {
    /// Replaces the value and wakes the watchers; nothing happens if it is equal.
    pub fn set(&self, value: T) {
        self.modify(|now| *now = value);
    }

    /// Changes the value in place and wakes the watchers; nothing happens if it stays equal.
    pub fn modify(&self, change: impl FnOnce(&mut T)) {
        let mut state = self.0.lock();
        let before = state.value.clone();
        change(&mut state.value);
        if state.value == before {
            return;
        }
        state.version += 1;
        drop(state);
        self.0.changed.notify_waiters();
    }

    /// The value now.
    pub fn get(&self) -> T {
        self.0.lock().value.clone()
    }
}

impl<T> Drop for Publisher<T> {
    fn drop(&mut self) {
        self.0.lock().closed = true;
        self.0.changed.notify_waiters();
    }
}

impl<T: Clone> Watch<T> {
    /// The value now; it counts as seen.
    pub fn get(&mut self) -> T {
        let state = self.shared.lock();
        self.seen = state.version;
        state.value.clone()
    }

    /// The value now, without marking it as seen.
    pub fn peek(&self) -> T {
        self.shared.lock().value.clone()
    }

    /// Waits for a value not seen yet. `None`: the writer is gone.
    pub async fn changed(&mut self) -> Option<T> {
        loop {
            let shared = self.shared.clone();
            let notified = shared.changed.notified();
            {
                let state = self.shared.lock();
                if state.version != self.seen {
                    self.seen = state.version;
                    return Some(state.value.clone());
                }
                if state.closed {
                    return None;
                }
            }
            notified.await;
        }
    }

    /// Waits until `wanted` holds, looking at the current value first. `None`: the writer is gone.
    pub async fn wait_for(&mut self, wanted: impl Fn(&T) -> bool) -> Option<T> {
        let mut value = self.get();
        while !wanted(&value) {
            value = self.changed().await?;
        }
        Some(value)
    }
}

impl<T> Clone for Watch<T> {
    fn clone(&self) -> Watch<T> {
        Watch { shared: self.shared.clone(), seen: self.seen }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn watchers_see_the_last_value_and_the_end() {
        let (publisher, mut watch) = watch(1);
        let mut other = watch.clone();
        publisher.set(1);
        publisher.set(2);
        publisher.modify(|v| *v += 1);
        assert_eq!(watch.changed().await, Some(3));
        assert_eq!(other.wait_for(|v| *v == 3).await, Some(3));
        drop(publisher);
        assert_eq!(watch.changed().await, None);
        assert_eq!(watch.peek(), 3);
    }
}
