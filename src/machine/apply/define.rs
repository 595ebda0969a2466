//! Creating and deleting channels and proxies.

use std::sync::Arc;

use super::Answer;
use crate::machine::{Machine, Proxy, Reply};
use crate::types::{
    ChannelId, ChannelSettings, Code, Name, Outcome, ProxyId, ProxySettings, Rejection, Start,
    limits,
};

impl Machine {
    pub(super) fn create_channel(&mut self, name: &Name, settings: &ChannelSettings) -> Answer {
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
        Ok(Reply::ChannelCreated { channel: self.add_channel(name.clone(), settings.clone()) })
    }

    pub(super) fn delete_channel(&mut self, id: ChannelId) -> Answer {
        let channel = self.channel(id).ok_or_else(|| unknown_channel(id))?;
        if *channel.name() == Name::default_channel() {
            let message = "the default channel cannot be deleted";
            return Err(Rejection::new(Code::NotAllowed, message));
        }
        self.names.remove(&channel.name().clone());
        self.channels.remove(&id);
        self.proxies.retain(|_, proxy| proxy.channel() != id);
        self.lanes.retain(|_, lane| lane.channel() != id);
        self.touched.insert(id);
        Ok(Reply::Done)
    }

    pub(super) fn create_proxy(
        &mut self,
        channel: ChannelId,
        name: &Name,
        settings: &ProxySettings,
        start: Start,
    ) -> Answer {
        check_settings(settings)?;
        let found = self.channel(channel).ok_or_else(|| unknown_channel(channel))?;
        if let Some(proxy) = found.proxy(name).and_then(|id| self.proxy(id)) {
            return existing(proxy, settings);
        }
        if found.proxies.len() >= limits::PROXIES_PER_CHANNEL_MAX {
            return Err(Rejection::new(
                Code::TooManyProxies,
                format!("channel '{}' has {} proxies", found.name(), found.proxies.len()),
            )
            .hint("delete proxies that nobody uses"));
        }
        let id = ProxyId(self.next_id());
        let reply = self.add_proxy(id, channel, name, settings, start);
        reply.ok_or_else(|| unknown_channel(channel))
    }

    /// Adds a proxy that waits for every retained event from its start on. Events after its start
    /// that are gone already end as `skipped`.
    fn add_proxy(
        &mut self,
        id: ProxyId,
        channel: ChannelId,
        name: &Name,
        settings: &ProxySettings,
        start: Start,
    ) -> Option<Reply> {
        let host = Arc::make_mut(self.channels.get_mut(&channel)?);
        let next = host.next_seq();
        let start_seq = match start {
            Start::New => next,
            Start::All => host.first_retained(),
            Start::Seq(seq) => host.next_retained(seq).unwrap_or(next),
        };
        let mut proxy = Proxy::new(id, channel, name.clone(), settings.clone(), start_seq);
        for hole in host.slots.holes(start_seq) {
            proxy.settled.settle(hole, Outcome::Skipped);
        }
        for range in proxy.settled.unsettled(start_seq, next - 1) {
            host.slots.wait(range);
        }
        host.proxies.insert(name.clone(), id);
        self.touched.insert(channel);
        let revision = proxy.revision();
        self.proxies.insert(id, Arc::new(proxy));
        Some(Reply::ProxyReady { proxy: id, revision, start_seq, created: true })
    }

    pub(super) fn delete_proxy(&mut self, id: ProxyId) -> Answer {
        let proxy = self.proxies.remove(&id).ok_or_else(|| unknown_proxy(id))?;
        let Some(channel) = self.channels.get_mut(&proxy.channel()) else { return Ok(Reply::Done) };
        let channel = Arc::make_mut(channel);
        channel.proxies.remove(proxy.name());
        for range in proxy.settled.unsettled(proxy.start_seq(), channel.next_seq() - 1) {
            channel.slots.release(range);
        }
        channel.trim();
        self.touched.insert(channel.id());
        Ok(Reply::Done)
    }
}

fn existing(proxy: &Proxy, settings: &ProxySettings) -> Answer {
    if proxy.settings() != settings {
        return Err(Rejection::new(
            Code::ProxyExists,
            format!(
                "proxy '{}' exists with other settings: it has {}; asked for were {settings}",
                proxy.name(),
                proxy.settings()
            ),
        )
        .hint("attach with its settings, or delete it first"));
    }
    Ok(Reply::ProxyReady {
        proxy: proxy.id(),
        revision: proxy.revision(),
        start_seq: proxy.start_seq(),
        created: false,
    })
}

fn check_settings(settings: &ProxySettings) -> Result<(), Rejection> {
    let message = if settings.ack_wait_ms == 0 {
        "a lease of 0 ms would end before it begins".to_string()
    } else if settings.max_in_flight == 0 {
        "a proxy without deliveries in flight would deliver nothing".to_string()
    } else if settings.max_in_flight > limits::CREDIT_EVENTS_MAX {
        format!("at most {} deliveries may be in flight", limits::CREDIT_EVENTS_MAX)
    } else {
        return Ok(());
    };
    Err(Rejection::new(Code::BadRequest, message))
}

pub(super) fn unknown_channel(channel: ChannelId) -> Rejection {
    Rejection::new(Code::UnknownChannel, format!("channel {channel} does not exist"))
        .hint("it may have been deleted; create it again")
}

pub(super) fn unknown_proxy(proxy: ProxyId) -> Rejection {
    Rejection::new(Code::UnknownProxy, format!("proxy {proxy} does not exist"))
        .hint("it may have been deleted; attach again by its name")
}
