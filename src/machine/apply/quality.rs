//! Admins, and what is set for channels, admins and proxies.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::Answer;
use super::define::{unknown_channel, unknown_proxy};
use super::lanes::unknown_lane;
use super::subscribe::check_types;
use crate::machine::{Admin, Channel, Lane, Machine, Proxy, Reply, Target};
use crate::types::{
    Admission, ChannelId, Code, LaneId, Level, Name, Property, ProxyId, Qos, QosChange, Rejection,
    Service, Side, Subscription, limits,
};

impl Machine {
    pub(super) fn create_admin(
        &mut self,
        id: ChannelId,
        side: Side,
        name: &Name,
        qos: &Qos,
        types: &Subscription,
    ) -> Answer {
        let level = side.admin_level();
        check_qos(qos, level, &format!("{level} '{name}'"))?;
        check_types(types, side)?;
        let channel = self.channels.get_mut(&id).ok_or_else(|| unknown_channel(id))?;
        if channel.admins.get(side, name).is_some() {
            let message = format!("{level} '{name}' exists in channel '{}'", channel.name());
            return Err(Rejection::new(Code::AdminExists, message));
        }
        if channel.admins.iter(side).count() >= limits::ADMINS_PER_CHANNEL_MAX {
            let name = channel.name();
            let message = format!("channel '{name}' has as many {side} admins as it may");
            return Err(
                Rejection::new(Code::TooManyAdmins, message).hint("delete admins that nobody uses")
            );
        }
        let admin = Admin { qos: qos.clone(), suspended: false, types: types.clone() };
        Arc::make_mut(channel).admins.of_mut(side).insert(name.clone(), admin);
        Ok(self.changed(id, side))
    }

    pub(super) fn delete_admin(&mut self, id: ChannelId, side: Side, name: &Name) -> Answer {
        let channel = self.channels.get_mut(&id).ok_or_else(|| unknown_channel(id))?;
        if *name == Name::default_admin() {
            let message = "the default admins cannot be deleted";
            return Err(Rejection::new(Code::NotAllowed, message));
        }
        let removed = Arc::make_mut(channel).admins.of_mut(side).remove(name);
        removed.ok_or_else(|| unknown_admin(channel, side, name))?;
        match side {
            Side::Consumer => {
                let members = self.proxies(id).filter(|proxy| proxy.admin() == name);
                let members: Vec<ProxyId> = members.map(|proxy| proxy.id()).collect();
                for proxy in members {
                    self.delete_proxy(proxy)?;
                }
            }
            Side::Supplier => {
                let members = self.lanes_of(id).filter(|lane| lane.admin() == name);
                let members: Vec<LaneId> = members.map(Lane::id).collect();
                self.forget_lanes(&members);
            }
        }
        Ok(self.changed(id, side))
    }

    pub(super) fn set_qos(&mut self, target: &Target, changes: &[QosChange]) -> Answer {
        let found = self.find(target)?;
        let mut asked = Qos::default();
        asked.change(changes);
        check_qos(&asked, found.level, &found.what)?;
        if let Target::Channel(id) = target {
            self.check_history(*id, changes)?;
        }
        match target {
            Target::Channel(id) => {
                self.check_reliability(*id, changes)?;
                let channel = self.channels.get_mut(id).ok_or_else(|| unknown_channel(*id))?;
                Arc::make_mut(channel).qos.change(changes);
            }
            Target::Admin(id, side, name) => {
                self.admin_mut(*id, *side, name)?.qos.change(changes);
            }
            Target::Proxy(id) => {
                let proxy = self.proxies.get_mut(id).ok_or_else(|| unknown_proxy(*id))?;
                Arc::make_mut(proxy).qos.change(changes);
            }
            Target::Lane(id) => {
                let lane = self.lanes.get_mut(id).ok_or_else(|| unknown_lane(*id))?;
                Arc::make_mut(lane).qos.change(changes);
            }
        }
        Ok(self.changed(found.channel, found.side))
    }

    /// Events of both classes in one channel would have no common order: the class is chosen while
    /// the channel is new.
    fn check_reliability(&self, id: ChannelId, changes: &[QosChange]) -> Result<(), Rejection> {
        let channel = self.channel(id).ok_or_else(|| unknown_channel(id))?;
        let mut changes = changes.iter().rev();
        let asked = changes.find(|(property, _)| *property == Property::EventReliability);
        let Some((_, value)) = asked else { return Ok(()) };
        let best_effort = value.is_some_and(|value| value == 1);
        let has_lanes = || self.lanes.values().any(|lane| lane.channel() == id);
        let used = channel.accepted() > 0 || !channel.proxies.is_empty() || has_lanes();
        if best_effort == channel.admission().best_effort || !used {
            return Ok(());
        }
        let name = channel.name();
        let message = format!("channel '{name}' is in use: event_reliability stays as it is");
        Err(Rejection::new(Code::NotAllowed, message)
            .hint("create another channel with the reliability you want"))
    }

    pub(super) fn suspend(&mut self, target: &Target, suspended: bool) -> Answer {
        let found = self.find(target)?;
        match target {
            Target::Channel(_) => {
                let message = "a channel is not suspended as a whole";
                return Err(Rejection::new(Code::NotAllowed, message).hint("suspend its admins"));
            }
            Target::Admin(id, side, name) => {
                self.admin_mut(*id, *side, name)?.suspended = suspended;
            }
            Target::Proxy(id) => {
                let proxy = self.proxies.get_mut(id).ok_or_else(|| unknown_proxy(*id))?;
                Arc::make_mut(proxy).suspended = suspended;
            }
            Target::Lane(id) => {
                let lane = self.lanes.get_mut(id).ok_or_else(|| unknown_lane(*id))?;
                Arc::make_mut(lane).suspended = suspended;
            }
        }
        Ok(self.changed(found.channel, found.side))
    }

    pub(super) fn find(&self, target: &Target) -> Result<Found, Rejection> {
        let known = |id: &ChannelId| self.channel(*id).ok_or_else(|| unknown_channel(*id));
        Ok(match target {
            Target::Channel(id) => {
                let what = format!("channel '{}'", known(id)?.name());
                Found { channel: *id, side: Side::Consumer, level: Level::Channel, what }
            }
            Target::Admin(id, side, name) => {
                let channel = known(id)?;
                let admin = channel.admins.get(*side, name);
                admin.ok_or_else(|| unknown_admin(channel, *side, name))?;
                let level = side.admin_level();
                Found { channel: *id, side: *side, level, what: format!("{level} '{name}'") }
            }
            Target::Proxy(id) => {
                let proxy = self.proxy(*id).ok_or_else(|| unknown_proxy(*id))?;
                let (channel, what) = (proxy.channel(), format!("proxy '{}'", proxy.name()));
                Found { channel, side: Side::Consumer, level: Level::Proxy, what }
            }
            Target::Lane(id) => {
                let lane = self.lane(*id).ok_or_else(|| unknown_lane(*id))?;
                let (channel, what) = (lane.channel(), format!("lane {id}"));
                Found { channel, side: Side::Supplier, level: Level::Lane, what }
            }
        })
    }

    /// Dead letters have no history: they are kept until somebody replays or drops them.
    fn check_history(&self, id: ChannelId, changes: &[QosChange]) -> Result<(), Rejection> {
        let channel = self.channel(id).filter(|channel| channel.is_dead_letters());
        let history = [Property::HistoryEvents, Property::HistoryBytes, Property::HistoryAge];
        let changed = changes.iter().find(|(property, _)| history.contains(property));
        let (Some(channel), Some((property, _))) = (channel, changed) else { return Ok(()) };
        let message =
            format!("{property} of channel '{}': dead letters have no history", channel.name());
        Err(Rejection::new(Code::InvalidQos, message)
            .hint("they are kept until they are replayed or dropped"))
    }

    /// An admin to be changed; from then on the default one is written down, too.
    pub(super) fn admin_mut(
        &mut self,
        id: ChannelId,
        side: Side,
        name: &Name,
    ) -> Result<&mut Admin, Rejection> {
        let channel = self.channels.get_mut(&id).ok_or_else(|| unknown_channel(id))?;
        if channel.admins.get(side, name).is_none() {
            return Err(unknown_admin(channel, side, name));
        }
        Ok(Arc::make_mut(channel).admins.of_mut(side).entry(name.clone()).or_default())
    }

    /// Something in this channel is defined anew. If it is on the side of consumers, judgements
    /// made before count no more; suppliers have no say in events that are accepted already.
    pub(super) fn changed(&mut self, id: ChannelId, side: Side) -> Reply {
        if side == Side::Consumer {
            let (applied, now) = (self.applied, self.stamp);
            let lasting = self.proxies(id).filter(|proxy| proxy.service.inactivity_ms == 0);
            let lasting: BTreeSet<ProxyId> = lasting.map(Proxy::id).collect();
            self.resolve(id);
            for proxy in self.members(id) {
                if let Some(proxy) = self.proxies.get_mut(&proxy) {
                    let proxy = Arc::make_mut(proxy);
                    proxy.revision += 1;
                    // Nobody took notes before.
                    if proxy.service.inactivity_ms > 0 && lasting.contains(&proxy.id()) {
                        proxy.last_active = now;
                    }
                    if !proxy.service.exclusive && proxy.holder.take().is_some() {
                        proxy.fence(applied);
                    }
                }
            }
        }
        self.redefined(id);
        self.touched.insert(id);
        if let Some(channel) = self.channels.get_mut(&id) {
            Arc::make_mut(channel).trim(self.stamp);
        }
        let next_seq = self.channel(id).map_or(0, Channel::next_seq);
        Reply::Changed { index: self.applied, next_seq }
    }

    fn members(&self, channel: ChannelId) -> Vec<ProxyId> {
        let found = self.channels.get(&channel);
        found.map(|channel| channel.proxies.values().copied().collect()).unwrap_or_default()
    }

    /// Finds anew what the settings of a channel, its admins and proxies come to.
    pub(in crate::machine) fn resolve(&mut self, id: ChannelId) {
        let Some(channel) = self.channels.get_mut(&id) else { return };
        let admission = Admission::new(&channel.qos);
        if channel.admission != admission {
            Arc::make_mut(channel).admission = admission;
        }
        match admission.best_effort {
            true => self.best_effort.insert(id),
            false => self.best_effort.remove(&id),
        };
        for proxy in channel.proxies.values() {
            let Some(proxy) = self.proxies.get_mut(proxy) else { continue };
            let admin = channel.admins.get(Side::Consumer, &proxy.admin).unwrap_or_default();
            let service = Service::new(&proxy.qos, &admin.qos, &channel.qos);
            let rests = proxy.suspended || admin.suspended;
            let picks = !proxy.types.is_empty() || !admin.types.is_empty();
            if (proxy.service, proxy.rests, proxy.picks) != (service, rests, picks) {
                let proxy = Arc::make_mut(proxy);
                (proxy.service, proxy.rests, proxy.picks) = (service, rests, picks);
            }
        }
    }

    /// One more definition of this channel.
    pub(super) fn redefined(&mut self, id: ChannelId) {
        if let Some(channel) = self.channels.get_mut(&id) {
            Arc::make_mut(channel).definitions += 1;
        }
    }
}

/// What a target is.
pub(super) struct Found {
    pub channel: ChannelId,
    /// Whom a change concerns.
    pub side: Side,
    level: Level,
    /// In words.
    what: String,
}

/// Refuses what cannot be set, with everything that is wrong with it.
pub(super) fn check_qos(qos: &Qos, level: Level, what: &str) -> Result<(), Rejection> {
    let wrong: Vec<String> = qos.check(level).iter().map(ToString::to_string).collect();
    if wrong.is_empty() {
        return Ok(());
    }
    Err(Rejection::new(Code::InvalidQos, format!("{what}: {}", wrong.join("; "))))
}

pub(super) fn unknown_admin(channel: &Channel, side: Side, name: &Name) -> Rejection {
    let message = format!("channel '{}' has no {side} admin '{name}'", channel.name());
    Rejection::new(Code::UnknownAdmin, message).hint("create it, or leave it out for the default")
}
