//! SIGINT, SIGTERM and SIGHUP: whoever runs a command wants it to end.

use std::pin::pin;

use tokio::signal::unix::{Signal, SignalKind, signal};

use super::exit::Failure;

const SIGNALS: [SignalKind; 3] =
    [SignalKind::interrupt(), SignalKind::terminate(), SignalKind::hangup()];

/// The signals that end a command; what comes after this was made is not missed.
pub struct Interrupts([Signal; 3]);

impl Interrupts {
    /// Catches them from now on.
    pub fn catch() -> Result<Interrupts, Failure> {
        let [Ok(interrupt), Ok(terminate), Ok(hangup)] = SIGNALS.map(signal) else {
            return Err(anyhow::anyhow!("signals cannot be caught here").into());
        };
        Ok(Interrupts([interrupt, terminate, hangup]))
    }

    /// Completes at the first of them.
    pub async fn any(&mut self) {
        let [interrupt, terminate, hangup] = &mut self.0;
        tokio::select! { biased;
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
            _ = hangup.recv() => {}
        }
    }
}

/// Does the work, or drops it at the first signal: what it started is cleaned up as it is dropped.
pub async fn unless_interrupted<T>(
    work: impl Future<Output = Result<T, Failure>>,
) -> Result<T, Failure> {
    let mut interrupts = Interrupts::catch()?;
    let work = pin!(work);
    tokio::select! { biased;
        () = interrupts.any() => Err(anyhow::anyhow!("interrupted").into()),
        done = work => done,
    }
}
