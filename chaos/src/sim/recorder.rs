//! Takes down what happens, hashes it, and has it judged as it happens.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use xxhash_rust::xxh3::Xxh3;

use super::env::now;
use crate::history::{Record, Recorder, What};
use crate::invariants::Judge;
use crate::verdict::{Coverage, Violation, cover};

/// The recorder of one simulation. Clones share it.
#[derive(Clone)]
pub struct Scribe(Arc<Mutex<Notes>>);

struct Notes {
    judge: Option<Judge>,
    hash: Xxh3,
    records: u64,
    coverage: Coverage,
    trace: Option<BufWriter<File>>,
    first: Option<Violation>,
    line: Vec<u8>,
}

/// What a simulation leaves behind.
pub struct Findings {
    pub violations: Vec<Violation>,
    pub coverage: Coverage,
    /// Of all records, times included.
    pub trace_hash: u64,
    pub records: u64,
}

impl Scribe {
    /// With a trace, every record is also written there, a line each.
    pub fn new(judge: Judge, trace: Option<File>) -> Scribe {
        Scribe(Arc::new(Mutex::new(Notes {
            judge: Some(judge),
            hash: Xxh3::new(),
            records: 0,
            coverage: Coverage::new(),
            trace: trace.map(BufWriter::new),
            first: None,
            line: Vec::new(),
        })))
    }

    /// Whether something was found wrong.
    pub fn is_alarmed(&self) -> bool {
        self.lock().first.is_some()
    }

    /// Ends the recording. `drained`: what can only be judged at the end may be.
    pub fn finish(&self, drained: bool) -> Findings {
        let mut notes = self.lock();
        if let Some(trace) = &mut notes.trace {
            let _ = trace.flush();
        }
        let violations = notes.judge.take().map(|judge| judge.finish(drained)).unwrap_or_default();
        Findings {
            violations,
            coverage: notes.coverage.clone(),
            trace_hash: notes.hash.digest(),
            records: notes.records,
        }
    }

    fn lock(&self) -> MutexGuard<'_, Notes> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Recorder for Scribe {
    fn record(&self, by: &str, what: What) {
        let record = Record { at: now().as_micros() as u64, by: by.to_owned(), what };
        self.lock().take(&record);
    }
}

impl Notes {
    fn take(&mut self, record: &Record) {
        self.line.clear();
        // Numbers, strings and lists of them: it cannot fail.
        let _ = serde_json::to_writer(&mut self.line, record);
        self.line.push(b'\n');
        self.hash.update(&self.line);
        self.records += 1;
        cover(&mut self.coverage, record);
        if let Some(trace) = &mut self.trace {
            let _ = trace.write_all(&self.line);
        }
        if let Some(violation) = self.judge.as_mut().and_then(|judge| judge.observe(record)) {
            if let Some(trace) = &mut self.trace {
                let _ = writeln!(trace, "VIOLATION {violation:?}");
            }
            self.first.get_or_insert(violation);
        }
    }
}
