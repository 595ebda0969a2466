//! What happened in a run, on one clock: the only thing invariants see.
//!
//! Every invocation is one record and its outcome another; an outcome that never came is unknown,
//! and so is one that says so. As JSONL a history is one [`Record`] per line.

use std::fs::File;
use std::io::{self, BufRead, BufReader, BufWriter, Read, Seek, SeekFrom, Write};
use std::path::Path;

use serde::{Deserialize, Serialize};

/// Names an event across the whole run; the first eight bytes of its body, little endian.
pub type EventId = u64;

/// One thing that happened.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// Microseconds since the run began, on the one clock of the recorder.
    pub at: u64,
    /// Who did or saw it: `supplier-1`, `worker/2`, `node-3`, `observer`, `nemesis`.
    pub by: String,
    #[serde(flatten)]
    pub what: What,
}

/// What happened. Numbers of nodes are their ids; durable consumers go by their proxy's name.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "what", rename_all = "snake_case")]
pub enum What {
    /// The run entered a phase.
    Phase {
        phase: Phase,
    },

    /// A supplier is about to publish an event: number `number` of `lane`. An event published again
    /// on the same lane with the same number is the same event.
    Publish {
        event: EventId,
        channel: String,
        lane: String,
        number: u64,
        digest: u64,
        bytes: u32,
    },
    /// How that ended.
    Published {
        event: EventId,
        outcome: Outcome<Place>,
    },

    /// A durable consumer exists from here on and is offered every event with a larger sequence.
    Subscribed {
        consumer: String,
        channel: String,
        after: u64,
        max_deliveries: Option<u32>,
        /// The lease of a delivery: not settled by then, it goes again.
        ack_wait_ms: u64,
    },
    /// A client of the consumer came or went: `by` says which.
    Attached {
        consumer: String,
    },
    Detached {
        consumer: String,
        why: String,
    },
    /// An event reached a client of the consumer.
    Delivered {
        consumer: String,
        channel: String,
        seq: u64,
        /// Lane and number as the delivery names them.
        lane: u64,
        number: u64,
        /// As read from the body; `None` if the body is not one of ours.
        event: Option<EventId>,
        digest: u64,
        /// The how many-eth delivery it claims to be, from 1.
        delivery: u32,
        /// Whether it is marked as perhaps delivered before.
        marked: bool,
    },
    /// A client is about to give a verdict on events it got.
    Settle {
        consumer: String,
        seqs: Vec<u64>,
        verdict: Verdict,
    },
    /// How that ended; `Ok` means committed.
    Settled {
        consumer: String,
        seqs: Vec<u64>,
        verdict: Verdict,
        outcome: Outcome<()>,
    },

    /// An observer is about to ask for a linearizable status.
    AskStatus {
        ask: u64,
        via: u64,
    },
    /// The answer.
    Status {
        ask: u64,
        outcome: Outcome<ClusterView>,
    },
    /// What one node says, or shows, of itself.
    Node {
        node: u64,
        view: NodeView,
    },
    /// A node that cannot be reached, or whose process is not there.
    NodeDown {
        node: u64,
    },
    /// A node's state after applying exactly the entries up to `index`.
    StateHash {
        node: u64,
        index: u64,
        hash: u64,
        ledger_ok: bool,
    },
    /// A node holds this entry, and knows it is committed.
    Committed {
        node: u64,
        index: u64,
        term: u64,
        digest: u64,
    },
    /// What a node reads of an event that it retains; `problem`: why it cannot.
    Stored {
        node: u64,
        channel: String,
        seq: u64,
        event: Option<EventId>,
        digest: u64,
        problem: Option<String>,
    },
    /// What a node's process uses.
    Usage {
        node: u64,
        rss_bytes: u64,
        descriptors: u64,
        disk_bytes: u64,
    },

    /// A fault begins, changes or ends.
    Fault {
        fault: String,
        targets: Vec<u64>,
        stage: Stage,
        detail: String,
    },
    /// Acknowledged data on this node's disk was damaged while the node was down: from its next
    /// start on it must not vote, lead or serve until it was wiped.
    Damaged {
        node: u64,
        file: String,
        how: String,
    },
    /// Bytes on this node's disk were changed while it was down. It may notice or not; if it is
    /// `harmless` the node must go on as if nothing had been.
    Touched {
        node: u64,
        file: String,
        how: String,
        harmless: bool,
    },
    /// A node's process ended by itself, and not because the cluster took the node out.
    Exited {
        node: u64,
        how: String,
    },
    /// The damaged node's disk was wiped; it may join again under another id.
    Wiped {
        node: u64,
    },
    /// Something the run says for a reader, or counts for coverage.
    Note {
        key: String,
        count: u64,
        text: String,
    },
}

/// The parts of a run, in order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// Cluster and clients come up.
    Setup,
    /// Load, and faults.
    Faults,
    /// All faults are over; load goes on.
    Heal,
    /// No more publishing; consumers settle everything.
    Drain,
    /// Final observations.
    End,
}

/// Where a fault stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Stage {
    Begin,
    End,
}

/// How an invocation ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome<T> {
    Ok(T),
    /// It certainly did not happen; the code of the refusal.
    Fail(String),
    /// It may have happened, or may yet; why nobody knows.
    Unknown(String),
}

/// Where an accepted event is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Place {
    /// Sequence in the channel; 0: accepted, but the place is not known any more.
    pub seq: u64,
    /// It had been accepted by an earlier attempt.
    pub duplicate: bool,
}

/// What a consumer says of an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    Ack,
    Nack,
    Terminate,
}

/// A node's own view.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeView {
    /// Counts the lives of this node's process, as far as the recorder knows.
    pub life: u64,
    /// `leader`, `follower`, `candidate`, `learner`, `quarantined`, `stopped`.
    pub role: String,
    pub term: u64,
    pub leader: Option<u64>,
    /// The tenure it serves, if it does.
    pub tenure: Option<u64>,
    pub applied: u64,
    pub committed: u64,
    pub snapshot_index: u64,
}

/// A cluster's status as an administrator sees it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClusterView {
    pub answered_by: u64,
    pub linearizable: bool,
    pub leader: Option<u64>,
    pub term: u64,
    pub channels: Vec<ChannelView>,
}

/// A channel's ledger.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChannelView {
    pub name: String,
    pub accepted: u64,
    pub last_seq: u64,
    pub retained: u64,
    pub proxies: Vec<ProxyView>,
}

/// A durable consumer's ledger: `offered` must be the sum of the others but `in_flight`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProxyView {
    pub name: String,
    pub offered: u64,
    pub acked: u64,
    pub filtered: u64,
    pub expired: u64,
    pub discarded: u64,
    pub dead_lettered: u64,
    pub skipped: u64,
    pub pending: u64,
    pub in_flight: u64,
}

/// Takes what happened and stamps it with the time of the run's one clock. Records of one caller
/// keep their order.
pub trait Recorder: Send + Sync + 'static {
    fn record(&self, by: &str, what: What);
}

/// Writes a history, one record per line.
pub struct Writer(BufWriter<File>);

impl Writer {
    /// A new history at `path`.
    pub fn create(path: &Path) -> io::Result<Writer> {
        Ok(Writer(BufWriter::with_capacity(1 << 20, File::create(path)?)))
    }

    pub fn write(&mut self, record: &Record) -> io::Result<()> {
        serde_json::to_writer(&mut self.0, record)?;
        self.0.write_all(b"\n")
    }

    /// Must be called at the end; errors of earlier writes show up here at the latest.
    pub fn finish(mut self) -> io::Result<()> {
        self.0.flush()
    }
}

/// Reads a history; each line that is not a record is an error with its number. A last line that
/// was not written to its end, as a run leaves it that was cut short, is passed over; [`is_torn`]
/// tells.
pub fn read(path: &Path) -> io::Result<impl Iterator<Item = io::Result<Record>>> {
    let lines = BufReader::with_capacity(1 << 20, File::open(path)?).split(b'\n');
    let torn = is_torn(path)?;
    let mut lines = lines.enumerate().peekable();
    Ok(std::iter::from_fn(move || {
        let (number, line) = lines.next()?;
        if torn && lines.peek().is_none() {
            return None;
        }
        Some(line.and_then(|line| {
            serde_json::from_slice(&line).map_err(|e| {
                io::Error::new(io::ErrorKind::InvalidData, format!("line {}: {e}", number + 1))
            })
        }))
    }))
}

/// Whether the last line of a history was not written to its end.
pub fn is_torn(path: &Path) -> io::Result<bool> {
    let mut file = File::open(path)?;
    if file.metadata()?.len() == 0 {
        return Ok(false);
    }
    let mut last = [0];
    file.seek(SeekFrom::End(-1))?;
    file.read_exact(&mut last)?;
    Ok(last != *b"\n")
}

/// Bodies of events that name themselves, so that whoever receives one can tell which it is and
/// whether it is whole.
pub mod body {
    use super::EventId;

    /// The shortest body.
    pub const BYTES_MIN: usize = 8;

    /// The body of an event, `bytes` long: its id, then filler that follows from it.
    pub fn make(event: EventId, bytes: usize) -> Vec<u8> {
        let mut body = event.to_le_bytes().to_vec();
        let mut filler = fastrand::Rng::with_seed(event);
        body.resize_with(bytes.max(BYTES_MIN), || filler.u8(..));
        body
    }

    /// Which event a body is that of.
    pub fn event(body: &[u8]) -> Option<EventId> {
        body.first_chunk().map(|id| u64::from_le_bytes(*id))
    }

    /// What [`super::What::Publish`] and [`super::What::Delivered`] compare.
    pub fn digest(body: &[u8]) -> u64 {
        xxhash_rust::xxh3::xxh3_64(body)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_history_reads_as_written() {
        let records = [
            Record {
                at: 1,
                by: "supplier-1".into(),
                what: What::Published {
                    event: 7,
                    outcome: Outcome::Ok(Place { seq: 3, duplicate: false }),
                },
            },
            Record {
                at: 2,
                by: "worker/1".into(),
                what: What::Settled {
                    consumer: "worker".into(),
                    seqs: vec![1, 2],
                    verdict: Verdict::Ack,
                    outcome: Outcome::Ok(()),
                },
            },
            Record { at: 3, by: "observer".into(), what: What::NodeDown { node: 2 } },
        ];
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("history.jsonl");
        let mut writer = Writer::create(&path).unwrap();
        records.iter().for_each(|record| writer.write(record).unwrap());
        writer.finish().unwrap();
        let found: Vec<Record> = read(&path).unwrap().collect::<io::Result<_>>().unwrap();
        assert_eq!(found, records);
        let whole = std::fs::read(&path).unwrap();
        std::fs::write(&path, &whole[..whole.len() - 9]).unwrap();
        assert!(is_torn(&path).unwrap());
        let found: Vec<Record> = read(&path).unwrap().collect::<io::Result<_>>().unwrap();
        assert_eq!(found, records[..2], "the torn last line is passed over");
        std::fs::write(&path, "{}\n").unwrap();
        assert!(read(&path).unwrap().next().unwrap().unwrap_err().to_string().contains("line 1"));
    }

    #[test]
    fn a_body_names_its_event() {
        let made = body::make(77, 100);
        assert_eq!((made.len(), body::event(&made)), (100, Some(77)));
        assert_eq!(body::event(&made[..7]), None);
        assert_ne!(body::digest(&made), body::digest(&made[..99]));
    }
}
