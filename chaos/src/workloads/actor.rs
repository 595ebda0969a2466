//! What all parts of a load share: a name, a world, chance, and when to stop.

use std::time::Duration;

use aqueduct::client::Client;
use aqueduct::env::{Runtime, Watch};
use aqueduct::transport::Net;

use super::{Patience, World};
use crate::history::What;

/// How far a load has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Course {
    Load,
    /// Suppliers finish.
    Quiet,
    /// Consumers settle everything.
    Drain,
    /// Everybody goes.
    Stop,
}

/// One part of a load.
pub struct Actor<N, E> {
    pub world: World<N, E>,
    /// Its name in records.
    pub by: String,
    pub patience: Patience,
    pub rng: fastrand::Rng,
    pub course: Watch<Course>,
}

/// Pause before a client that could not be made is tried again.
const AGAIN: Duration = Duration::from_millis(200);

impl<N: Net, E: Runtime> Actor<N, E> {
    pub fn record(&self, what: What) {
        self.world.recorder.record(&self.by, what);
    }

    /// Something for the coverage of the run.
    pub fn note(&self, key: &str, text: impl Into<String>) {
        self.record(What::Note { key: key.into(), count: 1, text: text.into() });
    }

    pub fn now(&self) -> Duration {
        self.world.env.monotonic()
    }

    /// Whether the load has come so far, or nobody steers it any more.
    pub fn reached(&self, course: Course) -> bool {
        self.course.peek() >= course
    }

    /// Waits until the load has come so far; also ends if nobody steers it any more.
    pub fn until(&self, course: Course) -> impl Future<Output = ()> + Send + 'static {
        let mut news = self.course.clone();
        async move {
            // `None` means that the load was dropped, which ends everything.
            news.wait_for(|now| *now >= course).await;
        }
    }

    /// Sleeps; wakes early and says no if the load comes so far before.
    pub async fn pause(&self, time: Duration, course: Course) -> bool {
        tokio::select! {
            biased;
            () = self.until(course) => false,
            () = self.world.env.sleep(time) => true,
        }
    }

    /// A client, tried for until there is one. `None`: the load came so far before.
    pub async fn client(&self, course: Course) -> Option<Client> {
        let connecting = async {
            loop {
                match self.world.client(&self.by, &self.patience).await {
                    Ok(client) => return client,
                    Err(_) => self.world.env.sleep(AGAIN).await,
                }
            }
        };
        tokio::select! {
            biased;
            () = self.until(course) => None,
            client = connecting => Some(client),
        }
    }
}

/// Waits for ever if there is no time.
pub async fn after<E: Runtime>(env: &E, time: Option<Duration>) {
    match time {
        Some(time) => env.sleep(time).await,
        None => std::future::pending().await,
    }
}
