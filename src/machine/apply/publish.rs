//! Accepting events: the rules of lanes and the channel's cap.

use std::sync::Arc;

use super::Answer;
use super::lanes::{fenced, unknown_lane};
use crate::machine::block::Lengths;
use crate::machine::slot::Lack;
use crate::machine::{Channel, Lane, Machine, Publish, PublishRun, Published, Reply};
use crate::types::{Code, DedupKey, PayloadKey, Rejection, Seq, Stamp, Supply};

impl Machine {
    /// Answers `Published` once the lane is known and not fenced, even if nothing was accepted.
    pub(super) fn publish(&mut self, key: PayloadKey, publish: &Publish) -> Answer {
        let channel = self.channel(publish.channel);
        let channel = channel.ok_or_else(|| super::define::unknown_channel(publish.channel))?;
        if channel.admission.best_effort && !self.is_transient {
            let message =
                format!("events of best-effort channel '{}' enter no log", channel.name());
            return Err(Rejection::new(Code::NotAllowed, message));
        }
        let lane = self.lane(publish.lane).filter(|lane| lane.channel() == publish.channel);
        let lane = lane.ok_or_else(|| unknown_lane(publish.lane))?;
        if publish.epoch != lane.epoch() {
            return Err(fenced(lane, publish.epoch));
        }
        if publish.first_sequence == 0
            || publish.first_sequence.checked_add(u64::from(publish.count)).is_none()
        {
            return Err(Rejection::new(
                Code::BadRequest,
                "lane sequences count from 1 to 2^64 - 2",
            ));
        }
        let supply = self.supply_of(channel, lane);
        let mut answer = Published::default();
        let repeated = repeat(lane, publish, &mut answer);
        let (Some(lane), Some(channel)) =
            (self.lanes.get_mut(&publish.lane), self.channels.get_mut(&publish.channel))
        else {
            return Err(unknown_lane(publish.lane));
        };
        let lane = Arc::make_mut(lane);
        lane.last_used = self.stamp;
        if answer.refused.is_none() && repeated < publish.count {
            let key = PayloadKey { position: key.position.saturating_add(repeated), ..key };
            let place = (key, self.stamp);
            let channel = Arc::make_mut(channel);
            accept(lane, channel, publish, repeated, (place, supply), &mut answer);
            if answer.runs.iter().any(|run| !run.duplicate) {
                self.touched.insert(publish.channel);
            }
        }
        Ok(Reply::Published(answer))
    }
}

/// Whether any event of a publish has a key by which repeats are told.
fn holds_keys(publish: &Publish) -> bool {
    let mut events = Lengths::of(&publish.events);
    events
        .any(|(start, _)| publish.events.get(start..).is_some_and(|e| DedupKey::read(e).is_some()))
}

/// Appends events one by one. One that repeats another by its key is answered with the place of that,
/// whatever lane it came on.
fn accept_keyed<'a>(
    lane: &mut Lane,
    channel: &mut Channel,
    ((key, now), supply): ((PayloadKey, Stamp), &Supply),
    events: impl Iterator<Item = (u32, &'a [u8])>,
    answer: &mut Published,
) {
    for (i, (size, event)) in (0..).zip(events) {
        let dedup = DedupKey::read(event);
        let seen = dedup.and_then(|dedup| channel.seen(dedup, now));
        let seq = match seen {
            Some(seq) => seq,
            None => {
                let seq = channel.next_seq();
                let place = PayloadKey { position: key.position.saturating_add(i), ..key };
                let one = std::iter::once((size, event));
                if let (_, Some(lack)) = channel.append((place, now), supply, one) {
                    answer.refused = Some(lacks(channel, lack));
                    return;
                }
                if let Some(dedup) = dedup {
                    channel.remember(dedup, seq, now);
                }
                seq
            }
        };
        push_run(&mut answer.runs, lane.next_sequence(), seq, seen.is_some());
        lane.accepted(1, seq);
    }
}

/// Adds the answer to one event.
fn push_run(runs: &mut Vec<PublishRun>, sequence: u64, seq: Seq, duplicate: bool) {
    if let Some(run) = runs.last_mut()
        && run.duplicate == duplicate
        && run.first_seq > 0
        && run.first_seq + u64::from(run.count) == seq
        && run.first_sequence + u64::from(run.count) == sequence
    {
        run.count += 1;
        return;
    }
    runs.push(PublishRun { first_sequence: sequence, count: 1, first_seq: seq, duplicate });
}

/// Answers the part of the publish that the lane is already past; returns how many events.
fn repeat(lane: &Lane, publish: &Publish, answer: &mut Published) -> u32 {
    let past = lane.next_sequence().saturating_sub(publish.first_sequence);
    let repeated = past.min(u64::from(publish.count)) as u32;
    if repeated > 0 {
        lane.repeat(publish.first_sequence, repeated, answer);
    }
    repeated
}

/// Appends the events after the first `repeated` ones, as far as lane and channel allow.
fn accept(
    lane: &mut Lane,
    channel: &mut Channel,
    publish: &Publish,
    repeated: u32,
    (place, supply): ((PayloadKey, Stamp), Result<Supply, Rejection>),
    answer: &mut Published,
) {
    let first = publish.first_sequence + u64::from(repeated);
    if first != lane.next_sequence() {
        answer.refused = Some(Rejection::out_of_sequence(first, lane.next_sequence()));
        return;
    }
    let supply = match supply {
        Ok(supply) => supply,
        Err(suspended) => {
            answer.refused = Some(suspended);
            return;
        }
    };
    let offered = publish.count - repeated;
    let mut lengths = Lengths::of(&publish.events);
    for _ in 0..repeated {
        lengths.next();
    }
    let events = lengths.take(offered as usize).map(|(start, length)| {
        (length, publish.events.get(start..start + length as usize).unwrap_or_default())
    });
    if holds_keys(publish) {
        return accept_keyed(lane, channel, (place, &supply), events, answer);
    }
    let first_seq = channel.next_seq();
    let (count, lack) = channel.append(place, &supply, events);
    if count > 0 {
        lane.accepted(count, first_seq);
        let run =
            PublishRun { first_sequence: first, count: count as u32, first_seq, duplicate: false };
        answer.runs.push(run);
    }
    answer.refused = lack.map(|lack| lacks(channel, lack));
}

/// The channel cannot take one more event.
pub(super) fn lacks(channel: &Channel, lack: Lack) -> Rejection {
    match lack {
        Lack::Room => full(channel),
        Lack::Types => {
            let (name, types) = (channel.name(), channel.offered_types().count());
            let message =
                format!("the events of channel '{name}' have {types} types, as many as they may");
            Rejection::new(Code::TooManyTypes, message).hint(
                "resend when events of some types were consumed; put what differs from event to \
                 event in the name or the fields, not in domain or type",
            )
        }
    }
}

/// The channel has no room for one more event.
pub(in crate::machine) fn full(channel: &Channel) -> Rejection {
    let (name, pending) = (channel.name(), channel.pending());
    let admission = channel.admission();
    let (events, length) = (pending.events, admission.max_queue_length);
    let full = if admission.reject_new_events && length > 0 && events >= length {
        format!("{events} of {length} pending events (max_queue_length)")
    } else {
        format!("{} of {} pending bytes", pending.bytes, admission.max_queue_bytes)
    };
    Rejection::new(Code::ChannelFull, format!("channel '{name}' is full: {full}"))
        .hint("resend when its consumers have caught up, or delete proxies that nobody uses")
}
