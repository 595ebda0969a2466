//! SIGTERM and SIGINT: the first asks the node to stop in order, the second ends it at once.

use tokio::signal::unix::{Signal, SignalKind, signal};
use tracing::{error, info, warn};

use crate::env::Publisher;

/// Exit code of a node that was told twice.
const TOLD_TWICE: i32 = 130;

/// Sets `stop` at the first signal and exits the process at the second. Ends never otherwise.
pub async fn relay(stop: Publisher<bool>) {
    let signals = [SignalKind::terminate(), SignalKind::interrupt()].map(signal);
    let [Ok(mut terminate), Ok(mut interrupt)] = signals else {
        error!("signals cannot be caught here: stop the node with SIGKILL");
        return std::future::pending().await;
    };
    either(&mut terminate, &mut interrupt).await;
    info!("told to stop; a second signal ends the process at once");
    stop.set(true);
    either(&mut terminate, &mut interrupt).await;
    warn!("told twice: ending at once");
    std::process::exit(TOLD_TWICE);
}

async fn either(a: &mut Signal, b: &mut Signal) {
    tokio::select! { biased;
        _ = a.recv() => {}
        _ = b.recv() => {}
    }
}
