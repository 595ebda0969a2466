//! Being told to end: SIGINT and SIGTERM while a run is under way.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use anyhow::{Context, Result};
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::scenarios::Interruption;

/// Listens for signals; the first one ends the run in order, another one at once.
pub struct Interrupt {
    int: Signal,
    term: Signal,
    told: Told,
}

/// Which signal came, if one did.
#[derive(Debug, Clone, Default)]
pub struct Told(Arc<AtomicU8>);

impl Told {
    /// The exit code of a process that a signal ended.
    pub fn exit_code(&self) -> Option<u8> {
        let code = self.0.load(Ordering::Relaxed);
        (code != 0).then_some(code)
    }
}

impl Interrupt {
    /// Begins to listen; needs a runtime.
    pub fn listen() -> Result<Interrupt> {
        let listen = |kind| signal(kind).context("listen for signals");
        let (int, term) = (listen(SignalKind::interrupt())?, listen(SignalKind::terminate())?);
        Ok(Interrupt { int, term, told: Told::default() })
    }

    pub fn told(&self) -> Told {
        self.told.clone()
    }

    /// Waits for a signal.
    pub async fn wait(mut self) -> Interruption {
        let (code, how) = self.next().await;
        self.told.0.store(code, Ordering::Relaxed);
        tracing::warn!("{how}: taking the nodes down; once more to leave them behind");
        tokio::spawn(async move {
            let (code, _) = self.next().await;
            std::process::exit(i32::from(code));
        });
        how
    }

    async fn next(&mut self) -> (u8, Interruption) {
        tokio::select! {
            _ = self.int.recv() => (130, "SIGINT"),
            _ = self.term.recv() => (143, "SIGTERM"),
        }
    }
}
