//! Slow work on disks, off the runtime's threads. It goes on when whoever waits for it gives up, so
//! whoever cleans up waits for its end.

use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Mutex, PoisonError};

use anyhow::{Context, Result};

/// See the module.
pub struct DiskWork {
    /// Each piece of work holds one of these until it is done.
    hold: Option<Sender<()>>,
    held: Mutex<Receiver<()>>,
}

impl Default for DiskWork {
    fn default() -> DiskWork {
        let (hold, held) = channel();
        DiskWork { hold: Some(hold), held: Mutex::new(held) }
    }
}

impl DiskWork {
    /// Does something slow.
    pub async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let hold = self.hold.clone();
        let working = tokio::task::spawn_blocking(move || {
            let _hold = hold;
            work()
        });
        working.await.context("work on a disk panicked")?
    }

    /// Blocks until nothing is being done any more.
    pub fn finish(&mut self) {
        self.hold = None;
        let held = self.held.get_mut().unwrap_or_else(PoisonError::into_inner);
        // Nobody sends: this ends when the last holder is gone.
        let _ = held.recv();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, Ordering};

    use super::*;

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn work_that_nobody_waits_for_is_waited_for_in_the_end() {
        let mut disk_work = DiskWork::default();
        let (begun, go_on) = (channel::<()>(), channel::<()>());
        let done = Arc::new(AtomicBool::new(false));
        let (started, proceed, is_done) = (begun.0, go_on.1, done.clone());
        let working = disk_work.run(move || {
            started.send(())?;
            proceed.recv()?;
            is_done.store(true, Ordering::SeqCst);
            Ok(())
        });
        tokio::select! {
            biased;
            _ = working => panic!("it goes on"),
            () = std::future::ready(()) => {}
        }
        begun.1.recv().unwrap();
        go_on.0.send(()).unwrap();
        disk_work.finish();
        assert!(done.load(Ordering::SeqCst));
    }
}
