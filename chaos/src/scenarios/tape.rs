//! The recorder of a run: one clock, one file, judged as it happens.

use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Instant;

use anyhow::{Context, Result};

use super::judgement::Judgement;
use crate::history::{Outcome, Record, Recorder, What, Writer};

/// Records that may wait to be written; beyond it those who record wait.
const WAITING_MAX: usize = 1 << 16;

/// Takes down a run. Ends with [`Tape::finish`].
pub struct Tape {
    recorder: Arc<Stamp>,
    scribe: JoinHandle<Result<Judgement>>,
}

/// The side of those who record.
struct Stamp {
    began: Instant,
    /// Held while a record is stamped and queued, so that the file is in the order of time.
    /// `None`: the tape is finished, and what comes late is dropped.
    queue: Mutex<Option<SyncSender<Record>>>,
    published: AtomicU64,
}

impl Recorder for Stamp {
    fn record(&self, by: &str, what: What) {
        if matches!(what, What::Published { outcome: Outcome::Ok(_), .. }) {
            self.published.fetch_add(1, Ordering::Relaxed);
        }
        let queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(queue) = &*queue {
            let at = self.began.elapsed().as_micros() as u64;
            // A scribe that is gone has a reason, which the end of the run tells.
            let _ = queue.send(Record { at, by: by.to_string(), what });
        }
    }
}

impl Tape {
    /// Begins the history `path`, to be judged by `judgement`.
    pub fn start(path: &Path, mut judgement: Judgement) -> Result<Tape> {
        let mut writer =
            Writer::create(path).with_context(|| format!("create {}", path.display()))?;
        let (sender, records) = sync_channel::<Record>(WAITING_MAX);
        let scribe = std::thread::Builder::new().name("scribe".into()).spawn(move || {
            for record in records {
                writer.write(&record).context("write the history")?;
                if let Some(violation) = judgement.observe(&record) {
                    tracing::error!(
                        at_us = violation.at,
                        "{}: {}",
                        violation.invariant,
                        violation.detail
                    );
                }
            }
            writer.finish().context("write the history")?;
            Ok(judgement)
        })?;
        let recorder = Arc::new(Stamp {
            began: Instant::now(),
            queue: Mutex::new(Some(sender)),
            published: AtomicU64::new(0),
        });
        Ok(Tape { recorder, scribe })
    }

    /// What takes the records.
    pub fn recorder(&self) -> Arc<dyn Recorder> {
        self.recorder.clone()
    }

    /// Events acknowledged so far.
    pub fn published(&self) -> u64 {
        self.recorder.published.load(Ordering::Relaxed)
    }

    /// Ends the history; hands back who judges it. What is recorded later is dropped.
    ///
    /// # Errors
    /// The history could not be written.
    pub fn finish(self) -> Result<Judgement> {
        drop(self.recorder.queue.lock().unwrap_or_else(PoisonError::into_inner).take());
        self.scribe.join().map_err(|_| anyhow::anyhow!("the scribe panicked"))?
    }
}
