//! Admins, and what is set for channels, admins and proxies.

use std::sync::Arc;

use super::Answer;
use super::define::{unknown_channel, unknown_proxy};
use super::subscribe::check_types;
use crate::machine::{Admin, Channel, Machine, Reply, Target};
use crate::types::{
    Admission, ChannelId, Code, Level, Name, Property, ProxyId, Qos, QosChange, Rejection, Service,
    Subscription, limits,
};

impl Machine {
    pub(super) fn create_admin(
        &mut self,
        id: ChannelId,
        name: &Name,
        qos: &Qos,
        types: &Subscription,
    ) -> Answer {
        check_qos(qos, Level::Admin, &format!("admin '{name}'"))?;
        check_types(types)?;
        let channel = self.channels.get_mut(&id).ok_or_else(|| unknown_channel(id))?;
        if channel.admin(name).is_some() {
            let message = format!("admin '{name}' exists in channel '{}'", channel.name());
            return Err(Rejection::new(Code::AdminExists, message));
        }
        if channel.admins.len() + 1 >= limits::ADMINS_PER_CHANNEL_MAX {
            let message = format!("channel '{}' has as many admins as it may", channel.name());
            return Err(
                Rejection::new(Code::TooManyAdmins, message).hint("delete admins that nobody uses")
            );
        }
        let admin = Admin { qos: qos.clone(), suspended: false, types: types.clone() };
        Arc::make_mut(channel).admins.insert(name.clone(), admin);
        Ok(self.changed(id))
    }

    pub(super) fn delete_admin(&mut self, id: ChannelId, name: &Name) -> Answer {
        let channel = self.channels.get_mut(&id).ok_or_else(|| unknown_channel(id))?;
        if *name == Name::default_admin() {
            let message = "the default admin cannot be deleted";
            return Err(Rejection::new(Code::NotAllowed, message));
        }
        let removed = Arc::make_mut(channel).admins.remove(name);
        removed.ok_or_else(|| unknown_admin(channel, name))?;
        let members = self.proxies(id).filter(|proxy| proxy.admin() == name);
        let members: Vec<ProxyId> = members.map(|proxy| proxy.id()).collect();
        for proxy in members {
            self.delete_proxy(proxy)?;
        }
        Ok(self.changed(id))
    }

    pub(super) fn set_qos(&mut self, target: &Target, changes: &[QosChange]) -> Answer {
        let (channel, what, level) = self.find(target)?;
        let mut asked = Qos::default();
        asked.change(changes);
        check_qos(&asked, level, &what)?;
        if let Target::Channel(id) = target {
            self.check_history(*id, changes)?;
        }
        match target {
            Target::Channel(id) => {
                let channel = self.channels.get_mut(id).ok_or_else(|| unknown_channel(*id))?;
                Arc::make_mut(channel).qos.change(changes);
            }
            Target::Admin(id, name) => self.admin_mut(*id, name)?.qos.change(changes),
            Target::Proxy(id) => {
                let proxy = self.proxies.get_mut(id).ok_or_else(|| unknown_proxy(*id))?;
                Arc::make_mut(proxy).qos.change(changes);
            }
        }
        Ok(self.changed(channel))
    }

    pub(super) fn suspend(&mut self, target: &Target, suspended: bool) -> Answer {
        let (channel, ..) = self.find(target)?;
        match target {
            Target::Channel(_) => {
                let message = "a channel is not suspended as a whole";
                return Err(Rejection::new(Code::NotAllowed, message).hint("suspend its admins"));
            }
            Target::Admin(id, name) => self.admin_mut(*id, name)?.suspended = suspended,
            Target::Proxy(id) => {
                let proxy = self.proxies.get_mut(id).ok_or_else(|| unknown_proxy(*id))?;
                Arc::make_mut(proxy).suspended = suspended;
            }
        }
        Ok(self.changed(channel))
    }

    /// The channel of a target, the target in words, and its level.
    pub(super) fn find(&self, target: &Target) -> Result<(ChannelId, String, Level), Rejection> {
        let known = |id: &ChannelId| self.channel(*id).ok_or_else(|| unknown_channel(*id));
        match target {
            Target::Channel(id) => {
                Ok((*id, format!("channel '{}'", known(id)?.name()), Level::Channel))
            }
            Target::Admin(id, name) => {
                let channel = known(id)?;
                channel.admin(name).ok_or_else(|| unknown_admin(channel, name))?;
                Ok((*id, format!("admin '{name}'"), Level::Admin))
            }
            Target::Proxy(id) => {
                let proxy = self.proxy(*id).ok_or_else(|| unknown_proxy(*id))?;
                Ok((proxy.channel(), format!("proxy '{}'", proxy.name()), Level::Proxy))
            }
        }
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
        name: &Name,
    ) -> Result<&mut Admin, Rejection> {
        let channel = self.channels.get_mut(&id).ok_or_else(|| unknown_channel(id))?;
        if channel.admin(name).is_none() {
            return Err(unknown_admin(channel, name));
        }
        Ok(Arc::make_mut(channel).admins.entry(name.clone()).or_default())
    }

    /// Something in this channel is defined anew: judgements made before count no more.
    pub(super) fn changed(&mut self, id: ChannelId) -> Reply {
        self.resolve(id);
        self.redefined(id);
        for proxy in self.members(id) {
            if let Some(proxy) = self.proxies.get_mut(&proxy) {
                Arc::make_mut(proxy).revision += 1;
            }
        }
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
        for proxy in channel.proxies.values() {
            let Some(proxy) = self.proxies.get_mut(proxy) else { continue };
            let admin = channel.admin(&proxy.admin).unwrap_or_default();
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

/// Refuses what cannot be set, with everything that is wrong with it.
pub(super) fn check_qos(qos: &Qos, level: Level, what: &str) -> Result<(), Rejection> {
    let wrong: Vec<String> = qos.check(level).iter().map(ToString::to_string).collect();
    if wrong.is_empty() {
        return Ok(());
    }
    Err(Rejection::new(Code::InvalidQos, format!("{what}: {}", wrong.join("; "))))
}

pub(super) fn unknown_admin(channel: &Channel, name: &Name) -> Rejection {
    let message = format!("channel '{}' has no admin '{name}'", channel.name());
    Rejection::new(Code::UnknownAdmin, message).hint("create it, or leave it out for the default")
}
