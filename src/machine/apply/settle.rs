//! Settling events and counting attempts.

use std::sync::Arc;

use super::Answer;
use super::define::{unknown_channel, unknown_proxy};
use crate::machine::{
    Channel, DeadLetter, Machine, Proxy, Reply, Settle, SettlePart, Settled, Slot,
};
use crate::types::{
    ChannelId, Code, EventType, Outcome, ProxyId, Rejection, SeqRange, SeqRanges, limits,
};

/// A dead letter on its way to its channel, with its type.
type Letter = (Slot, Arc<EventType>, DeadLetter);

impl Machine {
    pub(in crate::machine) fn settle(&mut self, settle: &Settle) -> Answer {
        let (proxy, channel) = self.proxy_and_channel(settle.proxy)?;
        check_fencing(proxy, settle)?;
        let (mut answer, mut letters) = (Settled::default(), Vec::new());
        for part in &settle.parts {
            if is_judgement(part.outcome) && settle.revision != proxy.revision() {
                answer.stale += pending_of(proxy, channel, part);
                continue;
            }
            settle_part(proxy, channel, part, &mut answer, &mut letters);
        }
        let channel = channel.id();
        if answer.settled > 0 {
            self.touched.insert(channel);
        }
        answer.dead_letters = self.append_letters(channel, letters);
        Ok(Reply::Settled(answer))
    }

    /// Both ends of a settlement, to be written.
    fn proxy_and_channel(&mut self, id: ProxyId) -> Result<(&mut Proxy, &mut Channel), Rejection> {
        let proxy = self.proxies.get_mut(&id).ok_or_else(|| unknown_proxy(id))?;
        let channel = self.channels.get_mut(&proxy.channel());
        let channel = channel.ok_or_else(|| unknown_channel(proxy.channel()))?;
        Ok((Arc::make_mut(proxy), Arc::make_mut(channel)))
    }

    /// Appends dead letters of channel `origin` to its dead-letter channel, made if need be.
    fn append_letters(
        &mut self,
        origin: ChannelId,
        letters: Vec<Letter>,
    ) -> Option<(ChannelId, SeqRange)> {
        if letters.is_empty() {
            return None;
        }
        let name = self.channel(origin)?.name().dead_letter();
        let id = match self.names.get(&name) {
            Some(id) => *id,
            None => self.add_channel(name, DeadLetter::qos()),
        };
        let now = self.stamp;
        let channel = Arc::make_mut(self.channels.get_mut(&id)?);
        let first = channel.next_seq();
        for (slot, kind, letter) in letters {
            channel.append_letter((&slot, kind.borrow()), letter, now);
        }
        channel.trim(now);
        let last = channel.next_seq() - 1;
        let excess = channel.excess_letters();
        if !excess.is_empty() {
            channel.letters.counts.pushed_out += excess.count();
            self.take_letters(id, &excess, Outcome::Discarded);
        }
        self.touched.insert(id);
        Some((id, SeqRange { first, last }))
    }

    pub(super) fn count_attempts(&mut self, id: ProxyId, sequences: &SeqRanges) -> Answer {
        if sequences.count() > limits::ATTEMPTS_PER_COMMAND_MAX {
            return Err(Rejection::new(
                Code::BadRequest,
                format!("attempts on {} events in one command", sequences.count()),
            )
            .hint(format!("count at most {} at once", limits::ATTEMPTS_PER_COMMAND_MAX)));
        }
        let (proxy, channel) = self.proxy_and_channel(id)?;
        for range in sequences.iter() {
            let Some(range) = offered(proxy, channel, range) else { continue };
            for seq in range.first..=range.last {
                if !proxy.settled.is_settled(seq) {
                    proxy.count_attempt(seq);
                }
            }
        }
        Ok(Reply::Done)
    }
}

/// Refuses what a consumer said that does not hold an exclusive proxy any more.
fn check_fencing(proxy: &Proxy, settle: &Settle) -> Result<(), Rejection> {
    let said = settle.parts.iter().any(|part| !is_judgement(part.outcome));
    if !said || !proxy.service().exclusive || settle.fencing == proxy.fencing() {
        return Ok(());
    }
    Err(Rejection::fenced(proxy.id(), settle.fencing, proxy.fencing()))
}

/// Outcomes decided by the definition of the proxy rather than by its consumer.
fn is_judgement(outcome: Outcome) -> bool {
    matches!(outcome, Outcome::Filtered | Outcome::Expired | Outcome::Discarded)
}

/// The part of `range` that was offered to the proxy.
pub(super) fn offered(proxy: &Proxy, channel: &Channel, range: SeqRange) -> Option<SeqRange> {
    let first = range.first.max(proxy.start_seq());
    let last = range.last.min(channel.next_seq() - 1);
    (first <= last).then_some(SeqRange { first, last })
}

fn pending_of(proxy: &Proxy, channel: &Channel, part: &SettlePart) -> u64 {
    let ranges = part.sequences.iter().filter_map(|range| offered(proxy, channel, range));
    ranges.flat_map(|r| proxy.settled.unsettled(r.first, r.last)).map(|r| r.len()).sum()
}

fn settle_part(
    proxy: &mut Proxy,
    channel: &mut Channel,
    part: &SettlePart,
    answer: &mut Settled,
    letters: &mut Vec<Letter>,
) {
    // Dead letters end here: giving one up discards it. So does what is in no log.
    let ends_here = channel.is_dead_letters() || channel.admission().best_effort;
    let outcome = match part.outcome {
        Outcome::DeadLettered if ends_here => Outcome::Discarded,
        outcome => outcome,
    };
    for range in part.sequences.iter() {
        let Some(range) = offered(proxy, channel, range) else { continue };
        let mut first = Some(range.first);
        while let Some(from) = first.filter(|first| *first <= range.last) {
            let found = proxy.settled.unsettled_from(from, range.last);
            let before = found.map_or(range.last, |found| found.first.wrapping_sub(1));
            if found.is_none_or(|found| found.first > from) {
                let settled = SeqRange { first: from, last: before };
                answer.already.extend(proxy.settled.winners(settled));
            }
            let Some(found) = found else { break };
            if outcome == Outcome::DeadLettered {
                collect_letters(proxy, channel, found, &part.reason, letters);
            }
            proxy.settled.settle(found, outcome);
            proxy.drop_attempts(found);
            channel.slots.release(found);
            answer.settled += found.len();
            first = found.last.checked_add(1);
        }
    }
}

fn collect_letters(
    proxy: &Proxy,
    channel: &Channel,
    range: SeqRange,
    reason: &str,
    letters: &mut Vec<Letter>,
) {
    let reason = cut(reason, limits::DEAD_LETTER_REASON_BYTES_MAX);
    for seq in range.first..=range.last {
        let Some(slot) = channel.slot(seq) else { continue };
        let letter = DeadLetter {
            channel: channel.id(),
            proxy: proxy.id(),
            proxy_name: proxy.name().clone(),
            seq,
            attempts: proxy.attempts(seq),
            reason: reason.to_string(),
        };
        letters.push((slot, channel.type_of(&slot), letter));
    }
}

/// The beginning of `text`, at most `bytes` long.
fn cut(text: &str, bytes: usize) -> &str {
    let end = (0..=bytes.min(text.len())).rev().find(|end| text.is_char_boundary(*end));
    &text[..end.unwrap_or(0)]
}
