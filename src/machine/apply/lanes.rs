//! Opening, skipping on and expiring lanes.

use std::sync::Arc;

use super::define::unknown_channel;
use super::{Answer, Place};
use crate::machine::{Lane, LaneTarget, Machine, Reply};
use crate::planted::{Bug, planted};
use crate::types::{ChannelId, Code, LaneId, Name, Opener, Rejection, limits};

impl Machine {
    pub(super) fn open_lane(
        &mut self,
        place: Place,
        channel: ChannelId,
        target: &LaneTarget,
        opener: Opener,
    ) -> Answer {
        let found = self.channel(channel).ok_or_else(|| unknown_channel(channel))?;
        if found.is_dead_letters() {
            return Err(Rejection::new(
                Code::NotAllowed,
                format!("channel '{}' takes dead letters, not publishes", found.name()),
            ));
        }
        match target {
            LaneTarget::Fresh => self.new_lane(place, channel, None, opener),
            LaneTarget::Named(name) => match found.lanes.get(name).copied() {
                Some(lane) => self.reopen_lane(channel, lane, opener),
                None => self.new_lane(place, channel, Some(name), opener),
            },
            LaneTarget::Existing(lane) => self.reopen_lane(channel, *lane, opener),
        }
    }

    fn new_lane(
        &mut self,
        place: Place,
        channel: ChannelId,
        name: Option<&Name>,
        opener: Opener,
    ) -> Answer {
        if self.lanes.len() >= limits::LANES_MAX {
            return Err(Rejection::new(
                Code::TooManyLanes,
                format!("the cluster has {} lanes, as many as it may", self.lanes.len()),
            )
            .hint("reuse named lanes; unused ones expire after a day"));
        }
        let max = self.channel(channel).map_or(0, |channel| channel.admission().max_suppliers);
        if max > 0 {
            let lanes = self.lanes.values().filter(|lane| lane.channel() == channel).count();
            if lanes as u64 >= max {
                let message = format!("the channel has {lanes} lanes of {max} (max_suppliers)");
                return Err(Rejection::new(Code::TooManyLanes, message)
                    .hint("reuse named lanes, or raise max_suppliers of the channel"));
            }
        }
        let id = LaneId { index: place.index, position: place.command };
        if let (Some(name), Some(channel)) = (name, self.channels.get_mut(&channel)) {
            Arc::make_mut(channel).lanes.insert(name.clone(), id);
        }
        let lane = Lane::new(id, channel, name.cloned(), opener, self.stamp);
        let reply = opened(&lane);
        self.lanes.insert(id, Arc::new(lane));
        Ok(reply)
    }

    fn reopen_lane(&mut self, channel: ChannelId, id: LaneId, opener: Opener) -> Answer {
        let lane = self.lanes.get_mut(&id).filter(|lane| lane.channel() == channel);
        let lane = lane.ok_or_else(|| unknown_lane(id))?;
        // It was sent over a connection that the client has left: nobody hears the answer, and
        // whoever uses the lane now is that client.
        if lane.opener().overtakes(opener) {
            let message = "this opening was overtaken by a later one of the same supplier";
            return Err(Rejection::new(Code::LaneFenced, message));
        }
        let epoch = lane.epoch().checked_add(1).ok_or_else(|| {
            Rejection::new(Code::NotAllowed, format!("lane {id} was opened too often"))
                .hint("open another lane")
        })?;
        let lane = Arc::make_mut(lane);
        lane.reopen(epoch, opener, self.stamp);
        if planted(Bug::LaneReopensOneBack) {
            lane.forget_last();
        }
        Ok(opened(lane))
    }

    pub(super) fn skip_sequences(&mut self, id: LaneId, epoch: u32, through: u64) -> Answer {
        let lane = self.lanes.get_mut(&id).ok_or_else(|| unknown_lane(id))?;
        if epoch != lane.epoch() {
            return Err(fenced(lane, epoch));
        }
        if through == u64::MAX {
            return Err(Rejection::new(Code::BadRequest, "lane sequences end at 2^64 - 2"));
        }
        let lane = Arc::make_mut(lane);
        lane.skip(through);
        lane.last_used = self.stamp;
        Ok(Reply::Done)
    }

    pub(super) fn expire_lanes(&mut self, lanes: &[LaneId]) -> Answer {
        for id in lanes {
            let idle = self.lanes.get(id).is_some_and(|lane| lane.is_idle(self.stamp));
            if idle && let Some(lane) = self.lanes.remove(id) {
                self.forget_lane_name(&lane);
            }
        }
        Ok(Reply::Done)
    }

    fn forget_lane_name(&mut self, lane: &Lane) {
        if let (Some(name), Some(channel)) = (lane.name(), self.channels.get_mut(&lane.channel())) {
            Arc::make_mut(channel).lanes.remove(name);
        }
    }
}

fn opened(lane: &Lane) -> Reply {
    let last_sequence = lane.next_sequence() - 1;
    let (lane, epoch, held_since) = (lane.id(), lane.epoch(), lane.held_since());
    Reply::LaneOpened { lane, epoch, held_since, last_sequence }
}

pub(super) fn unknown_lane(lane: LaneId) -> Rejection {
    Rejection::new(Code::UnknownLane, format!("lane {lane} does not exist here or has expired"))
        .hint("open a new lane; whether events not yet answered were accepted is unknown")
}

pub(super) fn fenced(lane: &Lane, epoch: u32) -> Rejection {
    Rejection::new(
        Code::LaneFenced,
        format!(
            "lane {} is at epoch {}, not {epoch}: it was opened again",
            lane.id(),
            lane.epoch()
        ),
    )
    .hint("a lane has one user at a time; open it again to take over")
}
