//! Random histories, compared with the naive model after each entry.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::batch;
use super::model::Model;
use super::random::{Op, op};
use crate::machine::{Batch, Channel, LetterFate, LetterRun, Machine, Reply};
use crate::types::{
    ChannelId, EventType, Interest, Outcome, Rejection, SeqRange, Service, Side, Stamp, Tenure,
};

/// One entry of the log to come.
#[derive(Debug, Clone)]
struct Entry {
    ops: Vec<Op>,
    /// Proposed in a tenure that has ended.
    late: bool,
    /// Minutes since the last entry.
    minutes: u16,
    /// The machine goes through its image first, as a node that restarts.
    restart: bool,
}

fn entry() -> impl Strategy<Value = Entry> {
    let minutes = prop_oneof![8 => Just(0u16), 2 => 0u16..3, 1 => Just(25 * 60)];
    let late = prop::bool::weighted(0.03);
    let parts = (prop::collection::vec(op(), 1..5), late, minutes, prop::bool::weighted(0.15));
    parts.prop_map(|(ops, late, minutes, restart)| Entry { ops, late, minutes, restart })
}

fn wordless(rejection: Rejection) -> Rejection {
    Rejection { expected: rejection.expected, ..Rejection::new(rejection.code, "") }
}

/// What became of each letter.
fn singly(run: LetterRun) -> Vec<LetterRun> {
    let one = |seq: u64| {
        let fate = match &run.fate {
            LetterFate::Replayed { channel, first } => {
                LetterFate::Replayed { channel: *channel, first: first + seq - run.letters.first }
            }
            LetterFate::Refused(rejection) => LetterFate::Refused(wordless(rejection.clone())),
            fate => fate.clone(),
        };
        LetterRun { letters: SeqRange::one(seq), fate }
    };
    (run.letters.first..=run.letters.last).map(one).collect()
}

/// Without words, and with per-sequence answers: what the model can be compared by.
fn plain(reply: Reply) -> Reply {
    match reply {
        Reply::Rejected(rejection) => Reply::Rejected(wordless(rejection)),
        Reply::Published(mut published) => {
            published.refused = published.refused.map(wordless);
            Reply::Published(published)
        }
        Reply::Settled(mut settled) => {
            let singly = settled.already.into_iter().flat_map(|(range, winner)| {
                (range.first..=range.last).map(move |seq| (SeqRange::one(seq), winner))
            });
            settled.already = singly.collect();
            Reply::Settled(settled)
        }
        Reply::Letters(runs) => Reply::Letters(runs.into_iter().flat_map(singly).collect()),
        Reply::Checkpoint { index, .. } => Reply::Checkpoint { index, hash: 0 },
        other => other,
    }
}

fn compare(machine: &Machine, model: &Model) {
    assert_eq!(machine.check_ledger(), Ok(()));
    assert_eq!(machine.hash(), machine.recompute_hash());
    assert_eq!((machine.stamp(), machine.tenure()), (model.stamp, model.tenure));
    let ids: Vec<ChannelId> = machine.channels().map(Channel::id).collect();
    assert_eq!(ids, model.channels.keys().copied().collect::<Vec<_>>());
    ids.into_iter().for_each(|id| compare_channel(machine, model, id));
    assert_eq!(machine.proxies.len(), model.proxies.len());
    compare_proxies(machine, model);
    let lanes: Vec<_> = machine.lanes().map(|l| (l.id(), l.epoch(), l.next_sequence())).collect();
    let expected: Vec<_> = model.lanes.iter().map(|(id, l)| (*id, l.epoch(), l.next)).collect();
    assert_eq!(lanes, expected);
    for (id, expected) in &model.lanes {
        let lane = machine.lane(*id).unwrap();
        assert_eq!((lane.admin(), lane.qos()), (&expected.admin, &expected.qos));
        assert_eq!(lane.is_suspended(), expected.suspended);
        assert!(machine.lanes_of(expected.channel).any(|lane| lane.id() == *id));
    }
    let mut keys = BTreeMap::new();
    model.channels.values().for_each(|channel| keys.extend(channel.retained().into_values()));
    let live: Vec<_> = machine.live_keys().map(|live| (live.key, live.size)).collect();
    assert_eq!(live, keys.into_iter().collect::<Vec<_>>());
}

fn compare_channel(machine: &Machine, model: &Model, id: ChannelId) {
    let (channel, expected) = (machine.channel(id).unwrap(), &model.channels[&id]);
    assert_eq!(machine.channel_by_name(&expected.name).map(Channel::id), Some(id));
    let retained = expected.retained();
    assert_eq!(channel.accepted(), expected.events.len() as u64);
    assert_eq!(channel.no_interest(), expected.no_interest);
    assert_eq!(channel.expired_proxies(), expected.expired_proxies);
    assert_eq!(channel.history_start(), expected.history_start());
    assert_eq!(channel.pending(), model.pending(id));
    assert_eq!(channel.retained().events, retained.len() as u64);
    assert_eq!(channel.letter_counts(), &expected.counts);
    let offered = channel.offered_types().map(|(_, name, count)| ((**name).clone(), count));
    assert_eq!(offered.collect::<BTreeMap<_, _>>(), expected.offered());
    let first = retained.keys().next().copied().unwrap_or(expected.next_seq());
    assert_eq!(channel.first_retained(), first);
    for seq in 0..expected.next_seq() + 2 {
        let slot = channel.slot(seq).map(|slot| (slot.key(), slot.size));
        assert_eq!(slot, retained.get(&seq).copied(), "slot {seq} of channel {id}");
        if let (Some(slot), Some(mark)) = (channel.slot(seq), expected.marks.get(&seq)) {
            assert_eq!((slot.mark.priority, slot.mark.stop), *mark, "event {seq} of channel {id}");
        }
        assert_eq!(channel.dead_letter(seq), expected.letters.get(&seq));
        let kind = channel.slot(seq).and_then(|slot| channel.event_type(slot.kind));
        let known = retained.get(&seq).map(|_| &expected.types[seq as usize - 1]);
        assert_eq!(kind.map(|kind| &**kind), known.filter(|kind| **kind != EventType::default()));
    }
}

fn compare_proxies(machine: &Machine, model: &Model) {
    for (id, expected) in &model.proxies {
        let proxy = machine.proxy(*id).unwrap();
        let channel = &model.channels[&expected.channel];
        let next = channel.next_seq();
        let (admin, rests) = &channel.admins[&(Side::Consumer, expected.admin.clone())];
        assert_eq!(*proxy.service(), Service::new(&expected.qos, admin, &channel.qos));
        assert_eq!(proxy.rests(), *rests || expected.suspended);
        let admin_types = channel.admin_types.get(&expected.admin).cloned().unwrap_or_default();
        let interest = Interest { own: expected.types.clone(), admin: admin_types };
        assert_eq!(machine.interest(proxy), interest);
        assert_eq!(proxy.picks(), !interest.is_whole());
        assert_eq!(proxy.revision(), expected.revision());
        assert_eq!((proxy.holder(), proxy.fencing()), (expected.holder, expected.fencing));
        assert_eq!(proxy.last_active(), expected.last_active);
        assert_eq!(machine.offered(proxy), next - expected.start);
        assert_eq!(proxy.counts().total(), expected.outcomes.len() as u64);
        for outcome in crate::types::Outcome::ALL {
            let count = expected.outcomes.values().filter(|o| **o == outcome).count();
            assert_eq!(proxy.counts().get(outcome), count as u64, "{outcome}");
        }
        let unsettled = |from: u64| {
            (from..next).find(|s| *s >= expected.start && !expected.outcomes.contains_key(s))
        };
        assert_eq!(
            machine.pending(proxy),
            (0..next).filter(|s| unsettled(*s) == Some(*s)).count() as u64
        );
        for seq in 0..next + 2 {
            assert_eq!(machine.next_unsettled(*id, seq), unsettled(seq), "from {seq}");
            assert_eq!(machine.is_pending(*id, seq), unsettled(seq) == Some(seq));
            let attempts = expected.attempts.get(&seq).copied().unwrap_or(0);
            assert_eq!(proxy.attempts(seq), attempts);
        }
    }
}

fn form(entry: &Entry, model: &Model, minutes: u64) -> Batch {
    let tenure = if entry.late { Tenure(model.tenure.0 + 1) } else { model.tenure };
    let commands = entry.ops.iter().map(|op| op.command(model)).collect();
    batch(tenure, Stamp::default().plus_millis(minutes * 60_000), commands)
}

fn run(entries: &[Entry]) -> Machine {
    let (mut machine, mut model) = (Machine::new(), Model::new());
    let mut minutes = 0;
    for (index, entry) in (1..).zip(entries) {
        minutes += u64::from(entry.minutes);
        let batch = form(entry, &model, minutes);
        assert_eq!(Batch::decode(batch.encode()).as_ref(), Ok(&batch));
        let before = machine.hash();
        let mut twin = if entry.restart {
            Machine::decode(&machine.encode()).unwrap()
        } else {
            machine.clone()
        };
        let replies: Vec<Reply> = machine.apply(index, &batch).into_iter().map(plain).collect();
        let expected: Vec<Reply> = model.apply(index, &batch).into_iter().map(plain).collect();
        assert_eq!(replies, expected);
        compare(&machine, &model);
        assert_eq!(twin.hash(), before, "a clone changed with its origin");
        twin.apply(index, &batch);
        assert_eq!(twin.hash(), machine.hash());
        assert_eq!(twin.touched(), machine.touched());
        if entry.restart {
            assert_eq!(twin.check_ledger(), Ok(()));
            machine = twin;
        }
    }
    machine
}

/// Gives up every `nth` live event, counted from `start`.
fn give_up(machine: &mut Machine, start: usize, nth: usize) {
    let lost: BTreeSet<_> =
        machine.live_keys().map(|live| live.key).skip(start).step_by(nth).collect();
    let settled = |machine: &Machine, outcome| -> u64 {
        machine.proxies.values().map(|proxy| proxy.counts().get(outcome)).sum()
    };
    let before = Outcome::ALL.map(|outcome| settled(machine, outcome));
    let losses = machine.give_up(&lost);
    let after = Outcome::ALL.map(|outcome| settled(machine, outcome));
    assert_eq!(machine.check_ledger(), Ok(()));
    assert_eq!(machine.hash(), machine.recompute_hash());
    assert_eq!(Machine::decode(&machine.encode()).unwrap().hash(), machine.hash());
    assert!(machine.live_keys().all(|live| !lost.contains(&live.key)));
    let waited: u64 = losses.iter().flat_map(|loss| &loss.waited).map(|(_, count)| count).sum();
    for (outcome, (before, after)) in Outcome::ALL.into_iter().zip(before.into_iter().zip(after)) {
        let expected = if outcome == Outcome::Discarded { waited } else { 0 };
        assert_eq!(after - before, expected, "{outcome:?}");
    }
    assert_eq!(losses.is_empty(), lost.is_empty());
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, max_shrink_iters: 2000, ..Default::default() })]

    #[test]
    fn behaves_like_the_naive_model(entries in prop::collection::vec(entry(), 1..80)) {
        run(&entries);
    }

    #[test]
    fn events_given_up_leave_the_ledgers_whole(
        entries in prop::collection::vec(entry(), 1..60), start in 0usize..20, nth in 1usize..7,
    ) {
        give_up(&mut run(&entries), start, nth);
    }
}
