//! Opening, skipping on and expiring lanes.

use std::sync::Arc;

use super::define::unknown_channel;
use super::quality::unknown_admin;
use super::{Answer, Place};
use crate::machine::{Admin, Channel, Lane, LaneTarget, Machine, Reply};
use crate::planted::{Bug, planted};
use crate::types::{
    ChannelId, Code, LaneId, Name, Opener, Property, Rejection, Side, Supply, limits,
};

/// What is asked of a lane.
pub(super) struct Opening<'a> {
    pub target: &'a LaneTarget,
    pub opener: Opener,
    pub admin: Option<&'a Name>,
}

impl Machine {
    pub(super) fn open_lane(
        &mut self,
        place: Place,
        channel: ChannelId,
        asked: &Opening,
    ) -> Answer {
        let found = self.channel(channel).ok_or_else(|| unknown_channel(channel))?;
        if found.is_dead_letters() {
            return Err(Rejection::new(
                Code::NotAllowed,
                format!("channel '{}' takes dead letters, not publishes", found.name()),
            ));
        }
        match asked.target {
            LaneTarget::Fresh => self.new_lane(place, channel, None, asked),
            LaneTarget::Named(name) => match found.lane(name) {
                Some(lane) => self.reopen_lane(channel, lane, asked),
                None => self.new_lane(place, channel, Some(name), asked),
            },
            LaneTarget::Existing(lane) => self.reopen_lane(channel, *lane, asked),
        }
    }

    fn new_lane(
        &mut self,
        place: Place,
        channel: ChannelId,
        name: Option<&Name>,
        asked: &Opening,
    ) -> Answer {
        let admin = asked.admin.cloned().unwrap_or_else(Name::default_admin);
        self.check_lanes(channel, &admin)?;
        let id = LaneId { index: place.index, position: place.command };
        if let Some(channel) = self.channels.get_mut(&channel) {
            Arc::make_mut(channel).add_lane(id, name);
        }
        let lane = Lane::new(id, (channel, admin), name.cloned(), asked.opener, self.stamp);
        let reply = opened(&lane);
        self.lanes.insert(id, Arc::new(lane));
        Ok(reply)
    }

    /// Refuses one more lane than the cluster, a channel or a supplier admin may have.
    fn check_lanes(&self, id: ChannelId, admin: &Name) -> Result<(), Rejection> {
        if self.lanes.len() >= limits::LANES_MAX {
            return Err(Rejection::new(
                Code::TooManyLanes,
                format!("the cluster has {} lanes, as many as it may", self.lanes.len()),
            )
            .hint("reuse named lanes; unused ones expire after a day"));
        }
        let channel = self.channel(id).ok_or_else(|| unknown_channel(id))?;
        let set = channel.admins.get(Side::Supplier, admin);
        let set = set.ok_or_else(|| unknown_admin(channel, Side::Supplier, admin))?;
        let check = |max: u64, what: String, lanes: usize| match max > 0 && lanes as u64 >= max {
            false => Ok(()),
            true => {
                let message = format!("{what} has {lanes} lanes of {max} (max_suppliers)");
                Err(Rejection::new(Code::TooManyLanes, message)
                    .hint("reuse named lanes, or raise max_suppliers there"))
            }
        };
        let max = channel.admission().max_suppliers;
        check(max, format!("channel '{}'", channel.name()), channel.lanes.len())?;
        match set.qos.get(Property::MaxSuppliers).unwrap_or_default().unsigned_abs() {
            0 => Ok(()),
            max => {
                let lanes = self.lanes_of(id).filter(|lane| lane.admin() == admin).count();
                check(max, format!("supplier admin '{admin}'"), lanes)
            }
        }
    }

    /// What holds for a lane, its own or inherited; refused if it is suspended.
    pub(in crate::machine) fn supply_of(
        &self,
        channel: &Channel,
        lane: &Lane,
    ) -> Result<Supply, Rejection> {
        let (unset, name) = (Admin::default(), lane.admin());
        let admin = channel.admins.written(Side::Supplier, name).unwrap_or(&unset);
        let suspended = |what: String| {
            Rejection::new(Code::Suspended, format!("{what} is suspended: it takes no events"))
                .hint("nothing is lost: what is sent again after `resume` is taken")
        };
        match (lane.is_suspended(), admin.suspended) {
            (true, _) => Err(suspended(format!("lane {}", lane.id()))),
            (_, true) => Err(suspended(format!("supplier admin '{name}'"))),
            _ => Ok(Supply::new(lane.qos(), &admin.qos, channel.qos())),
        }
    }

    fn reopen_lane(&mut self, channel: ChannelId, id: LaneId, asked: &Opening) -> Answer {
        let opener = asked.opener;
        let lane = self.lanes.get_mut(&id).filter(|lane| lane.channel() == channel);
        let lane = lane.ok_or_else(|| unknown_lane(id))?;
        if let Some(admin) = asked.admin.filter(|admin| *admin != lane.admin()) {
            let message =
                format!("lane {id} is of supplier admin '{}', not '{admin}'", lane.admin());
            return Err(Rejection::new(Code::LaneExists, message)
                .hint("open it without naming an admin, or choose another name"));
        }
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
        let now = self.stamp;
        let idle = |id: &&LaneId| self.lane(**id).is_some_and(|lane| lane.is_idle(now));
        let idle: Vec<LaneId> = lanes.iter().filter(idle).copied().collect();
        self.forget_lanes(&idle);
        Ok(Reply::Done)
    }

    /// These lanes are no more. Their ids are never used again, so nobody can publish on them.
    pub(super) fn forget_lanes(&mut self, gone: &[LaneId]) {
        for lane in gone.iter().filter_map(|id| self.lanes.remove(id)) {
            if let Some(channel) = self.channels.get_mut(&lane.channel()) {
                Arc::make_mut(channel).remove_lane(lane.id(), lane.name());
            }
        }
    }
}

fn opened(lane: &Lane) -> Reply {
    let last_sequence = lane.next_sequence() - 1;
    let (lane, epoch, held_since) = (lane.id(), lane.epoch(), lane.held_since());
    Reply::LaneOpened { lane, epoch, held_since, last_sequence }
}

pub(in crate::machine) fn unknown_lane(lane: LaneId) -> Rejection {
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
