//! Creating and deleting channels and proxies.

use std::sync::Arc;

use super::Answer;
use super::quality::{check_qos, unknown_admin};
use super::subscribe::check_types;
use crate::machine::{Channel, Machine, Proxy, Reply};
use crate::types::{
    ChannelId, Code, Level, Name, Outcome, ProxyId, Qos, Rejection, Side, Stamp, Start,
    Subscription, limits,
};

/// What is asked of a proxy.
pub(super) struct Wish<'a> {
    pub name: &'a Name,
    pub start: Start,
    pub admin: Option<&'a Name>,
    pub qos: &'a Qos,
    pub types: &'a Subscription,
}

impl Machine {
    pub(super) fn create_channel(&mut self, name: &Name, qos: &Qos) -> Answer {
        check_qos(qos, Level::Channel, &format!("channel '{name}'"))?;
        if name.as_str().ends_with(limits::DEAD_LETTER_SUFFIX) {
            return Err(Rejection::new(
                Code::NotAllowed,
                format!("'{name}' is a name for dead letters: such channels make themselves"),
            )
            .hint(format!("choose a name that does not end in '{}'", limits::DEAD_LETTER_SUFFIX)));
        }
        if self.names.contains_key(name) {
            let message = format!("channel '{name}' exists already");
            return Err(Rejection::new(Code::ChannelExists, message));
        }
        if self.channels.len() >= limits::CHANNELS_MAX {
            return Err(Rejection::new(
                Code::TooManyChannels,
                format!("the cluster has {} channels, as many as it may", self.channels.len()),
            )
            .hint("delete channels that nobody uses"));
        }
        Ok(Reply::ChannelCreated { channel: self.add_channel(name.clone(), qos.clone()) })
    }

    pub(super) fn delete_channel(&mut self, id: ChannelId) -> Answer {
        let channel = self.channel(id).ok_or_else(|| unknown_channel(id))?;
        if *channel.name() == Name::default_channel() {
            let message = "the default channel cannot be deleted";
            return Err(Rejection::new(Code::NotAllowed, message));
        }
        self.remove_channel(id);
        Ok(Reply::Done)
    }

    /// Removes a channel with everything in it.
    pub(in crate::machine) fn remove_channel(&mut self, id: ChannelId) {
        if let Some(channel) = self.channels.remove(&id) {
            self.names.remove(channel.name());
        }
        self.best_effort.remove(&id);
        self.proxies.retain(|_, proxy| proxy.channel() != id);
        self.lanes.retain(|_, lane| lane.channel() != id);
        self.touched.insert(id);
    }

    pub(super) fn create_proxy(&mut self, channel: ChannelId, wish: &Wish) -> Answer {
        check_qos(wish.qos, Level::Proxy, &format!("proxy '{}'", wish.name))?;
        check_types(wish.types, Side::Consumer)?;
        let found = self.channel(channel).ok_or_else(|| unknown_channel(channel))?;
        if let Some(proxy) = found.proxy(wish.name).and_then(|id| self.proxy(id)) {
            return existing(proxy, wish);
        }
        if let Some(admin) =
            wish.admin.filter(|admin| found.admins.get(Side::Consumer, admin).is_none())
        {
            return Err(unknown_admin(found, Side::Consumer, admin));
        }
        check_number(found)?;
        let id = ProxyId(self.next_id());
        let reply = self.add_proxy(id, channel, wish);
        reply.ok_or_else(|| unknown_channel(channel))
    }

    /// Adds a proxy that waits for every retained event from its start on. Events after its start
    /// that are gone already end as `skipped`.
    fn add_proxy(&mut self, id: ProxyId, channel: ChannelId, wish: &Wish) -> Option<Reply> {
        let host = Arc::make_mut(self.channels.get_mut(&channel)?);
        let next = host.next_seq();
        let start_seq = match wish.start {
            Start::New => next,
            Start::All => host.first_retained(),
            Start::Seq(seq) => host.next_retained(seq).unwrap_or(next),
            Start::Time(ms) => host.retained_since(Stamp(0).plus_millis(ms)).unwrap_or(next),
        };
        let admin = wish.admin.cloned().unwrap_or_else(Name::default_admin);
        let mut proxy = Proxy::new(id, (channel, admin), wish.name.clone(), start_seq);
        (proxy.qos, proxy.types) = (wish.qos.clone(), wish.types.clone());
        proxy.last_active = self.stamp;
        for hole in host.slots.holes(start_seq) {
            proxy.settled.settle(hole, Outcome::Skipped);
        }
        for range in proxy.settled.unsettled(start_seq, next - 1) {
            host.slots.wait(range);
        }
        host.proxies.insert(wish.name.clone(), id);
        host.definitions += 1;
        self.touched.insert(channel);
        let revision = proxy.revision();
        self.proxies.insert(id, Arc::new(proxy));
        self.resolve(channel);
        Some(Reply::ProxyReady { proxy: id, revision, start_seq, created: true })
    }

    pub(in crate::machine) fn delete_proxy(&mut self, id: ProxyId) -> Answer {
        let proxy = self.proxies.remove(&id).ok_or_else(|| unknown_proxy(id))?;
        let Some(channel) = self.channels.get_mut(&proxy.channel()) else { return Ok(Reply::Done) };
        let channel = Arc::make_mut(channel);
        channel.proxies.remove(proxy.name());
        channel.definitions += 1;
        for range in proxy.settled.unsettled(proxy.start_seq(), channel.next_seq() - 1) {
            channel.slots.release(range);
        }
        self.touched.insert(channel.id());
        Ok(Reply::Done)
    }

    pub(super) fn trim_history(&mut self, channels: &[ChannelId]) -> Answer {
        for id in channels {
            if let Some(channel) = self.channels.get_mut(id) {
                Arc::make_mut(channel).trim(self.stamp);
            }
        }
        Ok(Reply::Done)
    }
}

fn existing(proxy: &Proxy, wish: &Wish) -> Answer {
    let name = proxy.name();
    let other = |what: String| {
        Err(Rejection::new(Code::ProxyExists, format!("proxy '{name}' exists with other {what}"))
            .hint("attach with what it has, or delete it first; `qos set` changes its properties"))
    };
    if let Some(asked) = wish.admin.filter(|admin| *admin != proxy.admin()) {
        return other(format!("admin: it is of '{}', not of '{asked}'", proxy.admin()));
    }
    let differs = |(property, value): &(_, _)| proxy.qos().get(*property) != Some(*value);
    if let Some((property, value)) = wish.qos.iter().find(differs) {
        let show = |value: i64| property.spec().domain.show(value);
        let has = proxy.qos().get(property).map_or("inherited".to_string(), show);
        return other(format!("quality: its {property} is {has}; asked for was {}", show(value)));
    }
    if !wish.types.is_empty() && wish.types != proxy.types() {
        let (has, asked) = (proxy.types(), wish.types);
        return Err(Rejection::new(
            Code::ProxyExists,
            format!(
                "proxy '{name}' exists with other types: it wants {has}; asked for were {asked}"
            ),
        )
        .hint("attach with what it has, or change it with `proxy subscribe` and `unsubscribe`"));
    }
    Ok(Reply::ProxyReady {
        proxy: proxy.id(),
        revision: proxy.revision(),
        start_seq: proxy.start_seq(),
        created: false,
    })
}

/// Refuses one more proxy than a channel may have.
fn check_number(channel: &Channel) -> Result<(), Rejection> {
    let (name, has) = (channel.name(), channel.proxies.len());
    let max = channel.admission().max_consumers as usize;
    if max > 0 && has >= max {
        let message = format!("channel '{name}' has {has} proxies of {max} (max_consumers)");
        return Err(Rejection::new(Code::TooManyProxies, message)
            .hint("delete proxies that nobody uses, or raise max_consumers of the channel"));
    }
    if has >= limits::PROXIES_PER_CHANNEL_MAX {
        let message = format!("channel '{name}' has {has} proxies");
        return Err(
            Rejection::new(Code::TooManyProxies, message).hint("delete proxies that nobody uses")
        );
    }
    Ok(())
}

pub(super) fn unknown_channel(channel: ChannelId) -> Rejection {
    Rejection::new(Code::UnknownChannel, format!("channel {channel} does not exist"))
        .hint("it may have been deleted; create it again")
}

pub(super) fn unknown_proxy(proxy: ProxyId) -> Rejection {
    Rejection::new(Code::UnknownProxy, format!("proxy {proxy} does not exist"))
        .hint("it may have been deleted; attach again by its name")
}
