//! Dead letters: what is kept, shown, replayed and dropped.

use base64::Engine;
use base64::prelude::BASE64_STANDARD;

use super::audit::unfit;
use super::office::Office;
use super::quality::unknown_channel;
use crate::env::Runtime;
use crate::machine::{
    Channel, Command, DeadLetter, LetterFate, LetterRun, Machine, ReplayTo, Reply, Slot,
};
use crate::transport::Net;
use crate::types::{ChannelId, Code, Name, PayloadKey, Rejection, Seq, SeqRanges, limits};
use crate::wire::admin::{
    LetterLedger, LetterList, LetterOutcome, LetterReport, LetterResult, LetterShown, LettersDone,
};

impl<N: Net> Office<N> {
    /// Dead letters from `from` on, as this node's machine has them.
    pub async fn letters(
        &self,
        name: &Name,
        from: Seq,
        limit: u32,
    ) -> Result<LetterList, Rejection> {
        let limit = u64::from(limit).min(limits::LETTERS_PER_COMMAND_MAX) as usize;
        let now_us = self.now_us();
        self.replica().read(|machine| {
            let Some(channel) = find(machine, name)? else {
                let ledger = no_ledger(dead_name(name));
                return Ok(LetterList { ledger, letters: Vec::new() });
            };
            let letters = channel.dead_letters_from(from).take(limit);
            let letters = letters.filter_map(|(seq, letter)| {
                Some(report(machine, seq, letter, &channel.slot(seq)?, now_us))
            });
            Ok(LetterList { ledger: ledger(channel), letters: letters.collect() })
        })
    }

    /// A dead letter with its event.
    pub async fn letter(&self, name: &Name, seq: Seq) -> Result<LetterShown, Rejection> {
        let now_us = self.now_us();
        let (letter, key) = self.replica().read(|machine| {
            let channel = found(machine, name)?;
            let known = channel.dead_letter(seq).zip(channel.slot(seq));
            let (letter, slot) = known.ok_or_else(|| unknown_letter(channel.name(), seq))?;
            Ok::<_, Rejection>((report(machine, seq, letter, &slot, now_us), slot.key()))
        })?;
        self.with_event(letter, key).await
    }

    async fn with_event(
        &self,
        letter: LetterReport,
        key: PayloadKey,
    ) -> Result<LetterShown, Rejection> {
        let payload = match self.replica().cached_payload(key) {
            Some(payload) => payload,
            None => {
                let read = self.replica().payloads(vec![key]).await.into_iter().next();
                let missing = || "storage has no answer for it".to_string();
                let read =
                    read.ok_or_else(missing).and_then(|read| read.map_err(|e| e.to_string()));
                read.map_err(|why| {
                    let message =
                        format!("the event of letter {} cannot be read: {why}", letter.seq);
                    Rejection::new(Code::StorageFailed, message)
                        .hint("try again: damaged events are fetched from another member")
                })?
            }
        };
        Ok(LetterShown {
            letter,
            lane: payload.lane.to_string(),
            sequence: payload.sequence,
            event_base64: BASE64_STANDARD.encode(payload.event.as_bytes()),
        })
    }

    /// Makes dead letters events of the channels they come from again.
    pub async fn replay_letters(
        &self,
        name: &Name,
        sequences: SeqRanges,
        to_all: bool,
    ) -> Result<LettersDone, Rejection> {
        let (channel, dead) = self.dead_channel(name)?;
        let to = if to_all { ReplayTo::All } else { ReplayTo::Proxy };
        self.end_letters(dead, Command::ReplayLetters { channel, sequences, to }).await
    }

    /// Gives dead letters up.
    pub async fn drop_letters(
        &self,
        name: &Name,
        sequences: SeqRanges,
    ) -> Result<LettersDone, Rejection> {
        let (channel, dead) = self.dead_channel(name)?;
        self.end_letters(dead, Command::DropLetters { channel, sequences }).await
    }

    fn dead_channel(&self, name: &Name) -> Result<(ChannelId, Name), Rejection> {
        self.replica().read(|machine| {
            found(machine, name).map(|channel| (channel.id(), channel.name().clone()))
        })
    }

    async fn end_letters(&self, dead: Name, command: Command) -> Result<LettersDone, Rejection> {
        let runs = match self.propose(command).await? {
            Reply::Letters(runs) => runs,
            other => return Err(unfit(&other)),
        };
        let mut done = LettersDone::new(dead);
        self.replica().read(|machine| {
            runs.into_iter().for_each(|run| done.add(outcome(machine, run)));
        });
        Ok(done)
    }

    fn now_us(&self) -> u64 {
        self.env().wall().as_micros() as u64
    }
}

/// The dead-letter channel of a channel, named by its own or by the other's name.
fn dead_name(name: &Name) -> Name {
    match name.as_str().ends_with(limits::DEAD_LETTER_SUFFIX) {
        true => name.clone(),
        false => name.dead_letter(),
    }
}

/// The dead-letter channel that is meant; `None` if the other exists, and has no dead letters yet.
fn find<'a>(machine: &'a Machine, name: &Name) -> Result<Option<&'a Channel>, Rejection> {
    match machine.channel_by_name(&dead_name(name)) {
        None if machine.channel_by_name(name).is_none() => Err(unknown_channel(name)),
        found => Ok(found),
    }
}

fn found<'a>(machine: &'a Machine, name: &Name) -> Result<&'a Channel, Rejection> {
    find(machine, name)?.ok_or_else(|| {
        let message = format!("channel '{name}' never had a dead letter");
        Rejection::new(Code::UnknownChannel, message)
    })
}

fn unknown_letter(dead: &Name, seq: Seq) -> Rejection {
    let message = format!("channel '{dead}' has no letter {seq}, or not any more");
    Rejection::new(Code::BadRequest, message)
        .hint(format!("list them with `aqueduct dead ls {dead}`"))
}

/// What became of the letters of this dead-letter channel.
pub fn ledger(channel: &Channel) -> LetterLedger {
    let counts = channel.letter_counts();
    LetterLedger {
        dead_channel: channel.name().clone(),
        kept: channel.dead_letter_count(),
        kept_bytes: channel.retained().bytes,
        replayed: counts.replayed,
        dropped: counts.dropped,
        pushed_out: counts.pushed_out,
        lost: counts.lost,
    }
}

fn no_ledger(dead_channel: Name) -> LetterLedger {
    LetterLedger {
        dead_channel,
        kept: 0,
        kept_bytes: 0,
        replayed: 0,
        dropped: 0,
        pushed_out: 0,
        lost: 0,
    }
}

fn report(
    machine: &Machine,
    seq: Seq,
    letter: &DeadLetter,
    slot: &Slot,
    now_us: u64,
) -> LetterReport {
    LetterReport {
        seq,
        channel: machine.channel(letter.channel).map(|channel| channel.name().clone()),
        origin_seq: letter.seq,
        proxy: letter.proxy_name.clone(),
        proxy_gone: machine.proxy(letter.proxy).is_none(),
        attempts: letter.attempts,
        reason: letter.reason.clone(),
        size: slot.size,
        given_up_us: slot.accepted.0,
        age_ms: now_us.saturating_sub(slot.accepted.0) / 1000,
    }
}

fn outcome(machine: &Machine, run: LetterRun) -> LetterOutcome {
    let (mut channel, mut first_seq, mut error) = (None, None, None);
    let result = match run.fate {
        LetterFate::Replayed { channel: id, first } => {
            channel = machine.channel(id).map(|channel| channel.name().clone());
            first_seq = Some(first);
            LetterResult::Replayed
        }
        LetterFate::Dropped => LetterResult::Dropped,
        LetterFate::Unknown => LetterResult::Unknown,
        LetterFate::Refused(rejection) => {
            error = Some(rejection);
            LetterResult::Refused
        }
    };
    LetterOutcome { result, letters: run.letters, channel, first_seq, error }
}
