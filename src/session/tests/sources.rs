//! Polling, message by message.

use std::time::Duration;

use super::conversation::{Rig, failed, open, publish, reopen};
use crate::delivery::Cluster;
use crate::machine::{Command, Target};
use crate::session::Effect;
use crate::types::Name;
use crate::types::{Code, LaneId, Property, Side, limits};
use crate::wire::{LaneTarget, Poll, Polled, Serve, ServerMessage};

const MS: Duration = Duration::from_millis(1);

impl Rig {
    /// The polls sent when that much time has passed since the start.
    fn polls_at(&mut self, now: Duration) -> Vec<Poll> {
        let session = &mut self.session;
        self.cluster.read(|machine| session.poll_sources(now, machine));
        let poll = |effect| match effect {
            Effect::Send(ServerMessage::Poll(poll)) => poll,
            other => panic!("{other:?}"),
        };
        self.effects().into_iter().map(poll).collect()
    }

    fn change(&mut self, target: Target, property: Property, value: i64) {
        self.cluster.apply(Command::SetQos { target, changes: vec![(property, Some(value))] });
    }

    fn source(&mut self) -> (LaneId, u32) {
        let (lane, epoch) = self.open_lane();
        assert_eq!(self.say(Serve { request: 9, lane, epoch }), []);
        (lane, epoch)
    }

    /// The answer to a poll, with events published before it.
    fn polled(&mut self, (lane, epoch): (LaneId, u32), poll: u32, count: u32) {
        assert_eq!(self.say(Polled { lane, epoch, poll, count }), []);
    }
}

#[test]
fn a_source_is_polled_in_its_interval_one_poll_at_a_time() {
    let mut rig = Rig::new();
    assert_eq!(rig.session.next_poll(), None);
    let lane = rig.source();
    let most = limits::FRAME_EVENTS_MAX as u32;
    let poll = |poll| Poll { lane: lane.0, epoch: lane.1, poll, most };
    assert_eq!(rig.polls_at(5 * MS), [poll(1)]);
    assert_eq!((rig.polls_at(900 * MS), rig.session.next_poll()), (vec![], None), "not answered");
    // It had nothing: again after the interval, counted from the poll.
    rig.polled(lane, 1, 0);
    assert_eq!(rig.session.next_poll(), Some(105 * MS));
    assert_eq!(rig.polls_at(104 * MS), []);
    assert_eq!(rig.polls_at(105 * MS), [poll(2)]);
    // Answers to other polls, epochs and lanes are none.
    rig.polled(lane, 1, 0);
    rig.polled((lane.0, lane.1 + 1), 2, 0);
    rig.polled((LaneId::default(), 1), 2, 0);
    assert_eq!(rig.session.next_poll(), None);
    // A full batch: at once.
    rig.polled(lane, 2, most);
    assert_eq!(rig.polls_at(106 * MS), [poll(3)]);
}

#[test]
fn interval_and_batch_are_properties_that_change_live() {
    let mut rig = Rig::new();
    let lane = rig.source();
    let channel = rig.cluster.read(crate::delivery::testing::default_channel);
    rig.change(Target::Channel(channel), Property::PollInterval, 40);
    rig.change(Target::Lane(lane.0), Property::MaximumBatchSize, 2);
    assert_eq!(rig.polls_at(MS)[0].most, 2);
    rig.polled(lane, 1, 1);
    assert_eq!(rig.session.next_poll(), Some(41 * MS));
    let admin = Target::Admin(channel, Side::Supplier, Name::default_admin());
    rig.change(admin, Property::PollInterval, 7);
    assert_eq!(rig.polls_at(41 * MS).len(), 1);
    rig.polled(lane, 2, 2);
    assert_eq!(rig.polls_at(41 * MS).len(), 1, "a full batch of 2");
    rig.polled(lane, 3, 0);
    assert_eq!(rig.session.next_poll(), Some(48 * MS));
}

#[test]
fn nobody_is_polled_for_what_there_is_no_room_for() {
    let mut rig = Rig::new();
    let lane = rig.source();
    let retry = Duration::from_millis(limits::POLL_RETRY_MS);
    // Suspended.
    let suspend = |suspended| Command::Suspend { target: Target::Lane(lane.0), suspended };
    rig.cluster.apply(suspend(true));
    assert_eq!((rig.polls_at(MS), rig.session.next_poll()), (vec![], Some(MS + retry)));
    rig.cluster.apply(suspend(false));
    // The channel is full.
    let channel = rig.cluster.read(crate::delivery::testing::default_channel);
    rig.say(super::conversation::durable(Default::default()));
    rig.reply();
    rig.change(Target::Channel(channel), Property::MaxQueueLength, 1);
    rig.say(publish(lane, 1, &["a"]));
    rig.reply();
    assert_eq!(rig.polls_at(MS + retry), []);
    rig.change(Target::Channel(channel), Property::MaxQueueLength, 0);
    // What it gave is not answered yet, and fills the lane.
    assert_eq!(rig.polls_at(MS + 2 * retry).len(), 1);
    let full = vec!["x"; limits::FRAME_EVENTS_MAX];
    rig.say(publish(lane, 2, &full));
    rig.say(publish(lane, 2 + full.len() as u64, &full[1..]));
    rig.polled(lane, 1, limits::FRAME_EVENTS_MAX as u32);
    assert_eq!(rig.polls_at(MS + 3 * retry), []);
    rig.reply();
    assert_eq!(rig.polls_at(MS + 4 * retry).len(), 1);
}

#[test]
fn a_source_ends_with_its_lane() {
    let mut rig = Rig::new();
    let (lane, epoch) = rig.source();
    // Only who has the lane open serves a source on it.
    for (lane, epoch, code) in
        [(LaneId::default(), 1, Code::UnknownLane), (lane, epoch + 1, Code::LaneFenced)]
    {
        assert_eq!(failed(&rig.say(Serve { request: 1, lane, epoch })), code);
    }
    // Opened anew it is one only when that is said again.
    rig.say(reopen(lane));
    rig.reply();
    assert_eq!((rig.polls_at(MS), rig.session.next_poll()), (vec![], None));
    rig.say(Serve { request: 3, lane, epoch: epoch + 1 });
    assert_eq!(rig.polls_at(MS).len(), 1);
    rig.polled((lane, epoch + 1), 1, 0);
    // Removed with its admin: the client is told.
    rig.cluster.apply(Command::ExpireLanes { lanes: vec![lane] });
    let channel = rig.cluster.read(crate::delivery::testing::default_channel);
    let (name, qos) = (Name::new("a").unwrap(), Default::default());
    let side = Side::Supplier;
    let (named, types) = (name.clone(), Default::default());
    rig.cluster.apply(Command::CreateAdmin { channel, side, name: named, qos, types });
    rig.say(crate::wire::OpenLane { admin: Some(name.clone()), ..open(LaneTarget::Fresh) });
    let opened = rig.reply();
    let [Effect::Send(ServerMessage::LaneOpened(opened))] = opened.as_slice() else { panic!() };
    rig.say(Serve { request: 5, lane: opened.lane, epoch: opened.epoch });
    rig.cluster.apply(Command::DeleteAdmin { channel, side, name });
    let session = &mut rig.session;
    rig.cluster.read(|machine| session.poll_sources(2 * MS, machine));
    assert_eq!(failed(&rig.effects()), Code::UnknownLane);
    assert_eq!(rig.polls_at(10 * MS), []);
}
