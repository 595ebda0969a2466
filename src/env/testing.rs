//! Time that moves when told to.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::Notify;

use super::Runtime;

/// Time that stands still until it is advanced, for clocks and sleepers alike.
#[derive(Clone)]
pub struct TestTime(Arc<(AtomicU64, Notify)>);

impl Default for TestTime {
    fn default() -> TestTime {
        TestTime(Arc::new((AtomicU64::new(1_000_000), Notify::new())))
    }
}

impl TestTime {
    pub fn advance(&self, millis: u64) {
        self.0.0.fetch_add(millis * 1000, Ordering::SeqCst);
        self.0.1.notify_waiters();
    }
}

impl Runtime for TestTime {
    fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        tokio::spawn(task);
    }

    fn sleep(&self, duration: Duration) -> impl Future<Output = ()> + Send + 'static {
        let time = self.clone();
        let due = time.monotonic() + duration;
        async move {
            loop {
                let mut moved = std::pin::pin!(time.0.1.notified());
                moved.as_mut().enable();
                if time.monotonic() >= due {
                    return;
                }
                moved.await;
            }
        }
    }

    fn monotonic(&self) -> Duration {
        Duration::from_micros(self.0.0.load(Ordering::SeqCst))
    }

    fn wall(&self) -> Duration {
        self.monotonic()
    }

    fn random(&self) -> u64 {
        4
    }

    async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Option<T> {
        Some(work())
    }
}
