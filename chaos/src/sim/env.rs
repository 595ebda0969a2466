//! The product's view of a simulated world: virtual time, a clock of each node's own, one source
//! of chance.

use std::future::Future;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use aqueduct::consensus::RaftRuntime;
use aqueduct::env::Runtime;
use openraft_rt::AsyncRuntime;
use openraft_rt::Instant as _;
use openraft_rt_sim::{SimInstant, SimRuntime};

/// Wall time at the beginning of every simulation, since the Unix epoch.
const DAWN: Duration = Duration::from_secs(1_800_000_000);

/// Virtual time since the simulation began.
pub fn now() -> Duration {
    SimInstant::now().elapsed_since_start()
}

/// The one source of chance of a simulation; clones share it.
#[derive(Clone)]
pub struct Chance(Arc<Mutex<fastrand::Rng>>);

impl Chance {
    pub fn new(seed: u64) -> Chance {
        Chance(Arc::new(Mutex::new(fastrand::Rng::with_seed(seed))))
    }

    pub fn draw<T>(&self, draw: impl FnOnce(&mut fastrand::Rng) -> T) -> T {
        draw(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// One life of one process: its runtime ends with it.
#[derive(Clone)]
pub struct SimEnv(Arc<Life>);

struct Life {
    born: Duration,
    chance: Chance,
    alive: AtomicBool,
    /// Parts per million by which its clocks run fast.
    drift_ppm: i64,
    /// What its wall clock is ahead, in milliseconds.
    ahead_ms: AtomicI64,
    /// How long blocking work takes at most, in microseconds.
    blocking_us: AtomicU64,
}

impl SimEnv {
    /// A process that is born now.
    pub fn new(chance: Chance, drift_ppm: i64, ahead_ms: i64) -> SimEnv {
        SimEnv(Arc::new(Life {
            born: now(),
            chance,
            alive: AtomicBool::new(true),
            drift_ppm,
            ahead_ms: AtomicI64::new(ahead_ms),
            blocking_us: AtomicU64::new(0),
        }))
    }

    /// Ends the process: its tasks do nothing more.
    pub fn die(&self) {
        self.0.alive.store(false, Ordering::Relaxed);
    }

    pub fn is_alive(&self) -> bool {
        self.0.alive.load(Ordering::Relaxed)
    }

    /// Sets its wall clock ahead, or back.
    pub fn set_clock_ahead(&self, ahead_ms: i64) {
        self.0.ahead_ms.store(ahead_ms, Ordering::Relaxed);
    }

    /// Makes blocking work take up to this long.
    pub fn slow_blocking(&self, longest: Duration) {
        self.0.blocking_us.store(longest.as_micros() as u64, Ordering::Relaxed);
    }

    fn drifted(&self, elapsed: Duration) -> Duration {
        let nanos = elapsed.as_nanos() as i128;
        Duration::from_nanos((nanos + nanos * i128::from(self.0.drift_ppm) / 1_000_000) as u64)
    }
}

impl Runtime for SimEnv {
    fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        let env = self.clone();
        let mut task = Box::pin(task);
        let mortal = std::future::poll_fn(move |cx| match env.is_alive() {
            true => task.as_mut().poll(cx),
            false => std::task::Poll::Ready(()),
        });
        drop(SimRuntime::spawn(mortal));
    }

    fn sleep(&self, duration: Duration) -> impl Future<Output = ()> + Send + 'static {
        SimRuntime::sleep(duration)
    }

    fn monotonic(&self) -> Duration {
        self.drifted(now() - self.0.born)
    }

    fn wall(&self) -> Duration {
        let wall = DAWN + self.drifted(now());
        let ahead = self.0.ahead_ms.load(Ordering::Relaxed);
        let shift = Duration::from_millis(ahead.unsigned_abs());
        if ahead >= 0 { wall + shift } else { wall.saturating_sub(shift) }
    }

    fn random(&self) -> u64 {
        self.0.chance.draw(|chance| chance.u64(..))
    }

    async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Option<T> {
        let longest = self.0.blocking_us.load(Ordering::Relaxed);
        if longest > 0 {
            let taken = self.0.chance.draw(|chance| chance.u64(0..=longest));
            SimRuntime::sleep(Duration::from_micros(taken)).await;
        }
        self.is_alive().then(work)
    }
}

impl RaftRuntime for SimEnv {
    type Raft = SimRuntime;
}
