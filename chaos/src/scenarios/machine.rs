//! Whether the machine itself keeps up: a run on one that stands still says nothing about being in
//! time.

use std::fs::File;
use std::io::{Seek, SeekFrom, Write};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use super::judgement::note;
use crate::history::{Recorder, What};

/// Between two measurements.
const EVERY: Duration = Duration::from_millis(200);
/// A thread that wakes up so much too late had no processor.
const LATE: Duration = Duration::from_millis(300);
/// A sync of a few bytes that takes so long had no disk.
const SLOW: Duration = Duration::from_millis(400);

/// Measures until it is dropped, and records when the machine stands still.
pub struct Machine {
    over: Arc<AtomicBool>,
    measuring: Option<JoinHandle<()>>,
}

impl Machine {
    /// Begins to measure processor and disk, the latter in `dir`.
    pub fn watch(dir: &Path, recorder: Arc<dyn Recorder>) -> Result<Machine> {
        let path = dir.join("machine");
        let mut file = File::create(&path).with_context(|| format!("create {}", path.display()))?;
        let over = Arc::new(AtomicBool::new(false));
        let ends = over.clone();
        let measuring = std::thread::Builder::new().name("machine".into()).spawn(move || {
            while !ends.load(Ordering::Relaxed) {
                let began = Instant::now();
                std::thread::sleep(EVERY);
                let late = began.elapsed().saturating_sub(EVERY);
                let sync = sync(&mut file).unwrap_or_default();
                if late > LATE || sync > SLOW {
                    let text = format!("woken {late:?} late, a sync took {sync:?}");
                    let (key, count) = (note::STALLS.into(), (late + sync).as_millis() as u64);
                    recorder.record("machine", What::Note { key, count, text });
                }
            }
        })?;
        Ok(Machine { over, measuring: Some(measuring) })
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
        if let Some(measuring) = self.measuring.take() {
            let _ = measuring.join();
        }
    }
}

fn sync(file: &mut File) -> std::io::Result<Duration> {
    let began = Instant::now();
    file.seek(SeekFrom::Start(0))?;
    file.write_all(&began.elapsed().as_nanos().to_le_bytes())?;
    file.sync_data()?;
    Ok(began.elapsed())
}
