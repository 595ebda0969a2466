//! Dead letters that are replayed or given up.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::Answer;
use super::define::unknown_channel;
use super::publish::lacks;
use super::settle::offered;
use crate::machine::{Channel, DeadLetter, LetterFate, LetterRun, Machine, ReplayTo, Reply, Slot};
use crate::types::{
    ChannelId, Code, EventType, Outcome, ProxyId, Rejection, Seq, SeqRange, SeqRanges, limits,
};

/// A letter that is kept, with its type.
type Letter = (Slot, Arc<EventType>, Arc<DeadLetter>);

/// What a command has done so far.
#[derive(Default)]
struct Work {
    runs: Vec<LetterRun>,
    /// Letters that are letters no more.
    taken: SeqRanges,
    /// New events by channel, and by the only proxy that gets them, if there is one.
    replayed: BTreeMap<(ChannelId, Option<ProxyId>), SeqRanges>,
    /// A channel was full. What follows is refused, too, so that letters do not overtake each other.
    full: Option<Rejection>,
}

impl Machine {
    pub(super) fn replay_letters(
        &mut self,
        id: ChannelId,
        sequences: &SeqRanges,
        to: ReplayTo,
    ) -> Answer {
        self.check_letters_named(id, sequences)?;
        let mut work = Work::default();
        for seq in sequences.iter().flat_map(|range| range.first..=range.last) {
            let fate = match self.letter(id, seq).filter(|_| !work.taken.contains(seq)) {
                None => LetterFate::Unknown,
                Some(letter) => {
                    self.replay(letter, to, &mut work).unwrap_or_else(LetterFate::Refused)
                }
            };
            if matches!(fate, LetterFate::Replayed { .. }) {
                work.taken.insert(seq);
            }
            push_run(&mut work.runs, seq, fate);
        }
        for ((channel, only), sequences) in &work.replayed {
            self.settle_replayed(*channel, *only, sequences);
        }
        self.end_letters(id, &work.taken, |channel, count| {
            channel.letters.counts.replayed += count
        });
        Ok(Reply::Letters(work.runs))
    }

    pub(super) fn drop_letters(&mut self, id: ChannelId, sequences: &SeqRanges) -> Answer {
        self.check_letters_named(id, sequences)?;
        let mut work = Work::default();
        for seq in sequences.iter().flat_map(|range| range.first..=range.last) {
            let known = self.letter(id, seq).is_some() && !work.taken.contains(seq);
            if known {
                work.taken.insert(seq);
            }
            let fate = if known { LetterFate::Dropped } else { LetterFate::Unknown };
            push_run(&mut work.runs, seq, fate);
        }
        self.end_letters(id, &work.taken, |channel, count| channel.letters.counts.dropped += count);
        Ok(Reply::Letters(work.runs))
    }

    fn check_letters_named(&self, id: ChannelId, sequences: &SeqRanges) -> Result<(), Rejection> {
        let channel = self.channel(id).ok_or_else(|| unknown_channel(id))?;
        if !channel.is_dead_letters() {
            let message = format!("channel '{}' holds no dead letters", channel.name());
            return Err(Rejection::new(Code::NotAllowed, message).hint(format!(
                "those of its consumers are in '{}'",
                channel.name().dead_letter()
            )));
        }
        let count = sequences.iter().fold(0u64, |sum, range| sum.saturating_add(range.len()));
        if count > limits::LETTERS_PER_COMMAND_MAX {
            let message = format!("{count} dead letters in one command");
            return Err(Rejection::new(Code::BadRequest, message)
                .hint(format!("name at most {} at once", limits::LETTERS_PER_COMMAND_MAX)));
        }
        Ok(())
    }

    fn letter(&self, id: ChannelId, seq: Seq) -> Option<Letter> {
        let channel = self.channel(id)?;
        let slot = channel.slot(seq)?;
        Some((slot, channel.type_of(&slot), channel.letters.get(seq)?.clone()))
    }

    /// Makes a letter an event of its channel again.
    fn replay(
        &mut self,
        (slot, kind, letter): Letter,
        to: ReplayTo,
        work: &mut Work,
    ) -> Result<LetterFate, Rejection> {
        if let Some(full) = &work.full {
            return Err(full.clone());
        }
        let only = match to {
            ReplayTo::All => None,
            ReplayTo::Proxy if self.proxies.contains_key(&letter.proxy) => Some(letter.proxy),
            ReplayTo::Proxy => return Err(proxy_gone(&letter)),
        };
        let now = self.stamp;
        let origin = self.channels.get_mut(&letter.channel);
        let origin = Arc::make_mut(origin.ok_or_else(|| origin_gone(&letter))?);
        if origin.proxies.is_empty() {
            return Err(nobody_there(origin));
        }
        let first = origin.append_replayed((&slot, kind.borrow()), now).map_err(|lack| {
            let refusal = lacks(origin, lack);
            work.full = Some(refusal.clone());
            refusal
        })?;
        work.replayed.entry((letter.channel, only)).or_default().insert(first);
        Ok(LetterFate::Replayed { channel: letter.channel, first })
    }

    /// Events that were just replayed are for `only` this proxy: for the others they end here.
    fn settle_replayed(&mut self, id: ChannelId, only: Option<ProxyId>, sequences: &SeqRanges) {
        if let Some(only) = only {
            self.skip_all(id, sequences, Outcome::Skipped, Some(only));
        }
        if let Some(channel) = self.channels.get_mut(&id) {
            Arc::make_mut(channel).trim(self.stamp);
        }
        self.touched.insert(id);
    }

    /// Letters that were replayed or dropped leave their channel.
    fn end_letters(
        &mut self,
        id: ChannelId,
        taken: &SeqRanges,
        count: impl FnOnce(&mut Channel, u64),
    ) {
        if taken.is_empty() {
            return;
        }
        self.take_letters(id, taken, Outcome::Skipped);
        if let Some(channel) = self.channels.get_mut(&id) {
            count(Arc::make_mut(channel), taken.count());
        }
        self.touched.insert(id);
    }

    /// Letters leave their channel: for the proxies of it that wait for them they end so.
    pub(super) fn take_letters(&mut self, id: ChannelId, taken: &SeqRanges, outcome: Outcome) {
        self.skip_all(id, taken, outcome, None);
        if let Some(channel) = self.channels.get_mut(&id) {
            Arc::make_mut(channel).remove_letters(taken);
        }
    }

    /// Ends events for all proxies of a channel that wait for them, but for one.
    fn skip_all(
        &mut self,
        id: ChannelId,
        sequences: &SeqRanges,
        outcome: Outcome,
        but: Option<ProxyId>,
    ) {
        let Some(channel) = self.channels.get_mut(&id).map(Arc::make_mut) else { return };
        let others: Vec<ProxyId> = channel.proxies.values().copied().collect();
        for other in others.into_iter().filter(|other| Some(*other) != but) {
            let Some(proxy) = self.proxies.get_mut(&other) else { continue };
            let waited: Vec<SeqRange> = sequences
                .iter()
                .filter_map(|range| offered(proxy, channel, range))
                .flat_map(|range| proxy.settled.unsettled(range.first, range.last))
                .collect();
            for range in waited {
                let proxy = Arc::make_mut(proxy);
                proxy.settled.settle(range, outcome);
                proxy.drop_attempts(range);
                channel.slots.release(range);
            }
        }
    }
}

/// Adds what became of one more letter.
fn push_run(runs: &mut Vec<LetterRun>, seq: Seq, fate: LetterFate) {
    if let Some(last) = runs.last_mut()
        && last.letters.last.checked_add(1) == Some(seq)
        && goes_on(last, &fate)
    {
        last.letters.last = seq;
        return;
    }
    runs.push(LetterRun { letters: SeqRange::one(seq), fate });
}

fn goes_on(run: &LetterRun, next: &LetterFate) -> bool {
    match (&run.fate, next) {
        (
            LetterFate::Replayed { channel, first },
            LetterFate::Replayed { channel: next, first: seq },
        ) => channel == next && first.checked_add(run.letters.len()) == Some(*seq),
        (fate, next) => fate == next,
    }
}

fn origin_gone(letter: &DeadLetter) -> Rejection {
    let message = format!("channel {}, where it comes from, was deleted", letter.channel);
    Rejection::new(Code::UnknownChannel, message).hint("drop it")
}

fn proxy_gone(letter: &DeadLetter) -> Rejection {
    let message = format!("proxy '{}', which gave it up, was deleted", letter.proxy_name);
    Rejection::new(Code::UnknownProxy, message)
        .hint("replay it to all proxies of the channel it comes from, or drop it")
}

fn nobody_there(origin: &Channel) -> Rejection {
    let message = format!("channel '{}' has no durable proxy that would get it", origin.name());
    Rejection::new(Code::NotAllowed, message).hint("create a proxy first, or drop it")
}
