//! The ledger: every event offered to a proxy is either pending or ended exactly once.

use std::collections::BTreeMap;

use super::{Channel, Machine, Proxy, Tally};
use crate::types::{Seq, TypeId};

impl Machine {
    /// Compares, for each proxy, the events offered with outcomes plus pending ones, for each
    /// channel its kept tallies with what its slots and proxies say, and its dead letters with what
    /// became of all it ever had. Walks every retained event.
    /// The error names the first difference.
    pub fn check_ledger(&self) -> Result<(), String> {
        self.channels().try_for_each(|channel| self.check_channel(channel))?;
        match self.proxies.values().find(|proxy| self.channel(proxy.channel()).is_none()) {
            Some(proxy) => Err(format!("proxy {} has no channel", proxy.id())),
            None => Ok(()),
        }
    }

    fn check_channel(&self, channel: &Channel) -> Result<(), String> {
        let name = channel.name();
        let accepted = channel.next_seq().saturating_sub(channel.first_seq());
        if channel.accepted() != accepted {
            let counted = channel.accepted();
            return Err(format!("channel {name}: {counted} accepted, but {accepted} numbered"));
        }
        check_letters(channel)?;
        check_types(channel)?;
        let mut waits = Waits::default();
        for proxy in self.proxies(channel.id()) {
            self.check_proxy(channel, proxy, &mut waits)?;
        }
        check_slots(channel, waits)
    }

    fn check_proxy(
        &self,
        channel: &Channel,
        proxy: &Proxy,
        waits: &mut Waits,
    ) -> Result<(), String> {
        let mut pending = 0;
        let last = channel.next_seq().saturating_sub(1);
        for range in proxy.settled.unsettled(proxy.start_seq(), last) {
            pending += range.len();
            *waits.0.entry(range.first).or_default() += 1;
            *waits.0.entry(range.last.saturating_add(1)).or_default() -= 1;
        }
        let (offered, ended) = (self.offered(proxy), proxy.counts().total());
        if offered == ended.saturating_add(pending) {
            return Ok(());
        }
        Err(format!(
            "proxy {} of channel {}: offered {offered}, but {ended} ended and {pending} pending",
            proxy.name(),
            channel.name(),
        ))
    }
}

fn check_letters(channel: &Channel) -> Result<(), String> {
    let name = channel.name();
    let (kept, ended) = (channel.dead_letter_count(), channel.letter_counts().total());
    let accepted = if channel.is_dead_letters() { channel.accepted() } else { 0 };
    if accepted != kept.saturating_add(ended) {
        return Err(format!(
            "channel {name}: {accepted} letters, but {kept} kept and {ended} ended"
        ));
    }
    let missing = channel.dead_letters_from(0).find(|(seq, _)| channel.slot(*seq).is_none());
    if let Some((seq, _)) = missing {
        return Err(format!("channel {name}: letter {seq} is kept, but not retained"));
    }
    let retained = channel.retained().events;
    if channel.is_dead_letters() && retained != kept {
        return Err(format!("channel {name}: {kept} letters kept, but {retained} retained"));
    }
    Ok(())
}

/// Each type is offered by as many events as are retained of it, and by one at least.
fn check_types(channel: &Channel) -> Result<(), String> {
    let mut found: BTreeMap<TypeId, u64> = BTreeMap::new();
    let typed = channel.slots.iter_from(0).map(|(_, slot)| slot.kind);
    typed.filter(|kind| *kind != TypeId::default()).for_each(|kind| {
        *found.entry(kind).or_default() += 1;
    });
    let kept: BTreeMap<TypeId, u64> =
        channel.offered_types().map(|(id, _, count)| (id, count)).collect();
    if kept == found {
        return Ok(());
    }
    let name = channel.name();
    Err(format!("channel {name}: events by type are kept as {kept:?}, but are {found:?}"))
}

/// How many proxies wait for an event: changes at sequences, to be summed up in ascending order.
#[derive(Default)]
struct Waits(BTreeMap<Seq, i64>);

fn check_slots(channel: &Channel, waits: Waits) -> Result<(), String> {
    let name = channel.name();
    let mut changes = waits.0.into_iter().peekable();
    let (mut waiting, mut covered) = (0i64, 0u64);
    let (mut pending, mut retained) = (Tally::default(), Tally::default());
    let mut next = 0;
    for (seq, slot) in channel.slots.iter_from(0) {
        while let Some((at, change)) = changes.next_if(|(at, _)| *at <= seq) {
            covered += u64::from(waiting > 0) * at.saturating_sub(next);
            (waiting, next) = (waiting + change, at);
        }
        if i64::from(slot.waiting) != waiting {
            let kept = slot.waiting;
            return Err(format!("channel {name}: {kept} wait for {seq}, but {waiting} should"));
        }
        retained.add(slot.size);
        if waiting > 0 {
            pending.add(slot.size);
        }
    }
    for (at, change) in changes {
        covered += u64::from(waiting > 0) * at.saturating_sub(next);
        (waiting, next) = (waiting + change, at);
    }
    if covered != pending.events {
        let found = pending.events;
        return Err(format!("channel {name}: {covered} waited for, but {found} are retained"));
    }
    for (what, kept, found) in
        [("pending", channel.pending(), pending), ("retained", channel.retained(), retained)]
    {
        if kept != found {
            return Err(format!("channel {name}: {what} is kept as {kept:?}, but is {found:?}"));
        }
    }
    let first = channel.slots.iter_from(0).next().map_or(channel.next_seq(), |(seq, _)| seq);
    if channel.first_retained() != first {
        let kept = channel.first_retained();
        return Err(format!("channel {name}: first retained is kept as {kept}, but is {first}"));
    }
    Ok(())
}
