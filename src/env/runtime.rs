//! Time and tasks, behind a trait: tokio in the product, virtual time in a simulation.

use std::future::Future;
use std::time::Duration;

/// What a long-running component needs of the world besides disk and network. Cheap to clone.
///
/// Channels are tokio's `mpsc`, `oneshot` and `Notify`, which need no tokio runtime.
pub trait Runtime: Clone + Send + Sync + 'static {
    /// Runs `task` in the background until it ends. There is no join: components end when their
    /// shutdown is signalled and report what they must over their own channels.
    fn spawn(&self, task: impl Future<Output = ()> + Send + 'static);

    /// Completes after `duration`.
    fn sleep(&self, duration: Duration) -> impl Future<Output = ()> + Send + 'static;

    /// Monotonic time since some fixed point of this process.
    fn monotonic(&self) -> Duration;

    /// Wall time since the Unix epoch.
    fn wall(&self) -> Duration;

    /// A random number (jitter, tokens). Reproducible in a simulation.
    fn random(&self) -> u64;

    /// Runs blocking work (disk) and hands back its result; inline in a simulation. `None`: the
    /// work panicked or the runtime is stopping.
    fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> impl Future<Output = Option<T>> + Send;
}

/// [`Runtime`] on tokio.
#[derive(Clone, Debug)]
pub struct TokioRuntime {
    started: std::time::Instant,
}

impl TokioRuntime {
    /// Must be used inside a tokio runtime.
    pub fn new() -> TokioRuntime {
        TokioRuntime { started: std::time::Instant::now() }
    }
}

impl Default for TokioRuntime {
    fn default() -> TokioRuntime {
        TokioRuntime::new()
    }
}

impl Runtime for TokioRuntime {
    fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        tokio::spawn(task);
    }

    fn sleep(&self, duration: Duration) -> impl Future<Output = ()> + Send + 'static {
        tokio::time::sleep(duration)
    }

    fn monotonic(&self) -> Duration {
        self.started.elapsed()
    }

    fn wall(&self) -> Duration {
        std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default()
    }

    fn random(&self) -> u64 {
        fastrand::u64(..)
    }

    async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Option<T> {
        tokio::task::spawn_blocking(work).await.ok()
    }
}
