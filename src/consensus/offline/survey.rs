//! The state that a stopped node's data come to: its newest readable snapshot, and after it every
//! entry of its log as far as the log is whole.
//!
//! Entries that may never have been committed are applied, too: an acknowledged event may be in
//! one of them and, now that the others are lost, nowhere else.

use std::collections::BTreeSet;
use std::ops::ControlFlow;

use crate::machine::{Batch, BatchError, ImageError, Machine};
use crate::storage::{Entry, Look, Piece, Salvaged, SnapshotInfo, StorageError};
use crate::types::{EntryId, Payload, PayloadKey};

use super::super::config::{Proposal, RaftPayload};
use super::super::entry::{EntryError, entry_id, log_id, unpack};
use super::super::payloads::EntryEvents;
use super::super::snapshot::Image;
use super::OfflineError;

/// Findings that are told one by one; of the others only the number.
const FINDINGS_MAX: usize = 50;

/// What was put together.
pub(super) struct Survey {
    pub machine: Machine,
    pub image: Image,
    /// The last entry of the snapshot it begins with.
    pub snapshot: Option<EntryId>,
    /// One more than the last index of the log, as far as it is whole.
    pub log_end: u64,
    /// The greatest index seen in the log after the place where it breaks.
    pub beyond: Option<u64>,
    pub findings: Vec<String>,
    /// The log holds the entry with which the snapshot ends, so it is the same log.
    linked: bool,
}

/// Takes the whole of a directory in; payloads are looked for later.
pub(super) fn survey(look: &Look, salvaged: &Salvaged, dir: &str) -> Result<Survey, OfflineError> {
    let mut findings = salvaged.findings.clone();
    let (machine, image) = newest(salvaged, &mut findings)?.unwrap_or_default();
    let snapshot = image.last.as_ref().map(entry_id);
    let floor = look.floor.value().copied().flatten();
    let mut replay = Replay {
        floor_fits: floor.is_some() && floor == snapshot,
        survey: Survey {
            log_end: floor.map_or(0, |floor| floor.index + 1),
            beyond: None,
            linked: false,
            machine,
            image,
            snapshot,
            findings,
        },
        broken: false,
        newer: None,
    };
    look.log(&mut |piece| replay.take(piece))?;
    if let Some(what) = replay.newer {
        return Err(OfflineError::Newer { what });
    }
    let mut survey = replay.survey;
    if survey.image.last.is_none() {
        let reason = match survey.beyond {
            Some(index) => format!(
                "no snapshot can be read, and of the log only parts (an entry {index} is there)"
            ),
            None => "neither a snapshot nor a log can be read".to_string(),
        };
        return Err(OfflineError::Nothing { dir: dir.to_owned(), reason });
    }
    let more = survey.findings.len().saturating_sub(FINDINGS_MAX);
    if more > 0 {
        survey.findings.truncate(FINDINGS_MAX);
        survey.findings.push(format!("{more} more of the kind"));
    }
    Ok(survey)
}

/// The newest snapshot that can be read and whose facts add up.
fn newest(
    salvaged: &Salvaged,
    findings: &mut Vec<String>,
) -> Result<Option<(Machine, Image)>, OfflineError> {
    for snapshot in &salvaged.snapshots {
        match decode(salvaged, snapshot) {
            Ok(found) => return Ok(Some(found)),
            Err(error @ OfflineError::Newer { .. }) => return Err(error),
            Err(error) => findings.push(format!("snapshot {}: {error}", snapshot.name)),
        }
    }
    Ok(None)
}

/// The state in a snapshot.
pub(super) fn decode(
    salvaged: &Salvaged,
    snapshot: &SnapshotInfo,
) -> Result<(Machine, Image), OfflineError> {
    let machine = Machine::decode(&salvaged.machine(snapshot)?).map_err(unsound)?;
    Ok((machine, Image::decode(&snapshot.meta)?))
}

/// An image that does not decode.
pub(super) fn unsound(error: ImageError) -> OfflineError {
    match error {
        ImageError::Version(_) => OfflineError::Newer { what: error.to_string() },
        error => OfflineError::Unsound(error.to_string()),
    }
}

/// Applies a log, entry by entry.
struct Replay {
    survey: Survey,
    /// The log was purged up to the end of the snapshot: what follows the floor follows it.
    floor_fits: bool,
    /// Nothing more can be applied.
    broken: bool,
    newer: Option<String>,
}

impl Replay {
    fn take(&mut self, piece: Piece) -> ControlFlow<()> {
        match piece {
            Piece::Damage(what) => {
                self.survey.findings.push(format!("log: {what}"));
                // Before that, it concerns what the snapshot covers.
                self.broken |= self.survey.linked;
            }
            Piece::Entry(entry) => self.enter(entry),
        }
        if self.newer.is_some() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    }

    fn enter(&mut self, entry: Entry) {
        let last = self.survey.image.last.as_ref().map(entry_id);
        let next = last.map_or(0, |last| last.index + 1);
        let id = entry.id;
        if !self.broken && id.index <= next {
            self.survey.log_end = self.survey.log_end.max(id.index + 1);
        }
        if self.broken {
            self.survey.beyond = self.survey.beyond.max(Some(id.index).filter(|i| *i >= next));
        } else if id.index + 1 == next {
            self.survey.linked = last == Some(id);
            if !self.survey.linked {
                self.stop(format!("the log holds {id} where the state ends with {last:?}"));
            }
        } else if id.index > next {
            self.survey.beyond = Some(id.index);
            self.stop(format!("entries {next} to {} of the log are missing", id.index - 1));
        } else if id.index == next {
            // Of a log that was to be discarded, no entry has a term as late as the snapshot's.
            let follows = self.survey.linked
                || self.floor_fits
                || last.is_none_or(|last| id.term >= last.term);
            match follows {
                true => self.apply(entry),
                false => self.stop(format!("{id} does not follow the snapshot")),
            }
        }
    }

    fn stop(&mut self, why: String) {
        self.survey.findings.push(format!("log: {why}; it ends here"));
        self.broken = true;
    }

    fn apply(&mut self, entry: Entry) {
        let Survey { machine, image, .. } = &mut self.survey;
        let id = entry.id;
        match unpack(entry) {
            Ok(unpacked) => match unpacked.payload {
                RaftPayload::Normal(Proposal(bytes)) => match Batch::decode(bytes) {
                    Ok(batch) => drop(machine.apply(id.index, &batch)),
                    Err(error) => return self.refuse(id, error),
                },
                RaftPayload::Membership(membership) => {
                    machine.pass(id.index);
                    image.enter(log_id(id), membership);
                }
                RaftPayload::Blank => machine.pass(id.index),
            },
            Err(error @ EntryError::Kind { .. }) => {
                self.newer = Some(error.to_string());
                return;
            }
            Err(error) => return self.stop(error.to_string()),
        }
        self.survey.image.last = Some(log_id(id));
        self.survey.linked = true;
    }

    /// The checksums of an entry fit and yet it makes no sense.
    fn refuse(&mut self, id: EntryId, error: BatchError) {
        match error {
            BatchError::Version(_) | BatchError::Tag(..) => {
                self.newer = Some(format!("log entry {id}: {error}"));
            }
            error => self.stop(format!("{id}: {error}")),
        }
    }
}

impl Survey {
    /// Finds every payload that the machine needs and hands it to `keep`; those that are nowhere
    /// are returned.
    pub fn payloads(
        &self,
        look: &Look,
        salvaged: &Salvaged,
        keep: &mut dyn FnMut(PayloadKey, &Payload) -> Result<(), StorageError>,
    ) -> Result<BTreeSet<PayloadKey>, OfflineError> {
        let covered = self.snapshot.map_or(0, |last| last.index + 1);
        let mut homeless = BTreeSet::new();
        for key in self.machine.live_keys().map(|live| live.key) {
            if key.index >= covered {
                homeless.insert(key);
                continue;
            }
            match salvaged.read(key) {
                Ok(Some(payload)) => keep(key, &payload)?,
                // Damaged or gone: the log may still have it.
                Ok(None) | Err(_) => drop(homeless.insert(key)),
            }
        }
        if homeless.is_empty() {
            return Ok(homeless);
        }
        let first = if self.linked { 0 } else { covered };
        let end = self.image.last.map_or(0, |last| last.index + 1);
        let mut failed = None;
        look.log(&mut |piece| {
            if let Piece::Entry(entry) = piece
                && (first..end).contains(&entry.id.index)
                && let Err(error) = take_from(entry, &mut homeless, keep)
            {
                failed = Some(error);
                return ControlFlow::Break(());
            }
            ControlFlow::Continue(())
        })?;
        match failed {
            Some(error) => Err(error.into()),
            None => Ok(homeless),
        }
    }
}

/// Keeps the payloads of an entry that are still looked for.
fn take_from(
    entry: Entry,
    wanted: &mut BTreeSet<PayloadKey>,
    keep: &mut dyn FnMut(PayloadKey, &Payload) -> Result<(), StorageError>,
) -> Result<(), StorageError> {
    let at = |position| PayloadKey { index: entry.id.index, position };
    let keys: Vec<PayloadKey> = wanted.range(at(0)..=at(u32::MAX)).copied().collect();
    if keys.is_empty() {
        return Ok(());
    }
    let Ok(batch) = Batch::decode(entry.body) else { return Ok(()) };
    let events = EntryEvents::new(batch);
    for key in keys {
        if let Some(payload) = events.payload(key.position) {
            keep(key, &payload)?;
            wanted.remove(&key);
        }
    }
    Ok(())
}
