//! Quality of service, admins and proxies: what is set, what is inherited, and changes.

use super::audit::unfit;
use super::office::Office;
use super::report;
use crate::machine::{self, Admin, Channel, Command, Lane, Machine, Proxy, Reply};
use crate::transport::Net;
use crate::types::{
    Code, EventType, Level, Name, Property, Qos, QosChange, Rejection, Side, Subscription,
    TypePattern,
};
use crate::wire::admin::{
    AdminChanged, AdminList, AdminReport, ChannelReport, Cut, OfferedType, OfferedTypes, Origin,
    PropertyReport, PropertyValue, ProxyCreated, ProxyWish, QosReport, QosSet, QosWish, Subscribed,
    Suspension, Target, read_wish, unit,
};

impl<N: Net> Office<N> {
    /// What is set for a target and what it inherits, as this node's machine has it.
    pub async fn qos(&self, target: &Target) -> Result<QosReport, Rejection> {
        self.replica().read(|machine| qos_report(machine, target))
    }

    /// Whether there is such a target.
    pub async fn locate(&self, target: &Target) -> Result<(), Rejection> {
        self.replica().read(|machine| Found::new(machine, target).map(|_| ()))
    }

    /// Sets properties; all of the wish, or nothing.
    pub async fn set_qos(&self, target: &Target, wish: &QosWish) -> Result<QosSet, Rejection> {
        let changes = understand(target.level(), wish, &target.to_string())?;
        let of = self.machine_target(target)?;
        let cut = cut(self.propose(Command::SetQos { target: of, changes }).await?)?;
        Ok(QosSet { report: self.qos(target).await?, cut })
    }

    /// Creates a channel, with what is set for it.
    pub async fn create_channel(
        &self,
        name: &Name,
        wish: &QosWish,
    ) -> Result<ChannelReport, Rejection> {
        let changes = understand(Level::Channel, wish, &format!("channel '{name}'"))?;
        let command = Command::CreateChannel { name: name.clone(), qos: qos_of(&changes) };
        match self.propose(command).await? {
            Reply::ChannelCreated { .. } => self.channel(name).await,
            other => Err(unfit(&other)),
        }
    }

    /// The admins of a channel, of both sides.
    pub async fn admins(&self, channel: &Name) -> Result<AdminList, Rejection> {
        self.replica().read(|machine| {
            let found = find_channel(machine, channel)?;
            Ok(AdminList { channel: channel.clone(), admins: report::admins(machine, found) })
        })
    }

    /// Creates an admin.
    pub async fn create_admin(
        &self,
        channel: &Name,
        side: Side,
        name: &Name,
        wish: &QosWish,
        types: Subscription,
    ) -> Result<AdminChanged, Rejection> {
        let level = side.admin_level();
        let changes = understand(level, wish, &format!("{level} '{name}'"))?;
        let id = self.replica().read(|machine| find_channel(machine, channel).map(Channel::id))?;
        let (name, qos) = (name.clone(), qos_of(&changes));
        let command = Command::CreateAdmin { channel: id, side, name: name.clone(), qos, types };
        let cut = cut(self.propose(command).await?)?;
        let admin = self.admin(channel, side, &name)?;
        Ok(AdminChanged { channel: channel.clone(), admin, cut })
    }

    /// Removes an admin with its proxies or lanes; what it was.
    pub async fn remove_admin(
        &self,
        channel: &Name,
        side: Side,
        name: &Name,
    ) -> Result<AdminChanged, Rejection> {
        let id = self.replica().read(|machine| find_channel(machine, channel).map(Channel::id))?;
        let admin = self.admin(channel, side, name)?;
        let command = Command::DeleteAdmin { channel: id, side, name: name.clone() };
        let cut = cut(self.propose(command).await?)?;
        Ok(AdminChanged { channel: channel.clone(), admin, cut })
    }

    fn admin(&self, channel: &Name, side: Side, name: &Name) -> Result<AdminReport, Rejection> {
        self.replica().read(|machine| {
            let found = find_channel(machine, channel)?;
            let mut admins = report::admins(machine, found).into_iter();
            let admin = admins.find(|admin| admin.side == side && admin.name == *name);
            admin.ok_or_else(|| unknown_admin(channel, side, name))
        })
    }

    /// Creates a durable proxy, or finds the one that is as asked for.
    pub async fn create_proxy(
        &self,
        channel: &Name,
        wish: ProxyWish,
    ) -> Result<ProxyCreated, Rejection> {
        let ProxyWish { name, start, admin, qos, types } = wish;
        let changes = understand(Level::Proxy, &qos, &format!("proxy '{name}'"))?;
        let id = self.replica().read(|machine| find_channel(machine, channel).map(Channel::id))?;
        let (qos, known) = (qos_of(&changes), name.clone());
        let command = Command::CreateProxy { channel: id, name, start, admin, qos, types };
        match self.propose(command).await? {
            Reply::ProxyReady { start_seq, created, .. } => {
                let report = self.channel(channel).await?;
                let proxy = report.proxies.into_iter().find(|proxy| proxy.name == known);
                let proxy = proxy.ok_or_else(|| unknown_proxy(channel, &known))?;
                Ok(ProxyCreated { channel: channel.clone(), created, start_seq, proxy })
            }
            other => Err(unfit(&other)),
        }
    }

    /// Suspends an admin, a proxy or a lane, or ends that.
    pub async fn suspend(&self, target: &Target, suspended: bool) -> Result<Suspension, Rejection> {
        let of = self.machine_target(target)?;
        let cut = cut(self.propose(Command::Suspend { target: of, suspended }).await?)?;
        let (channel, level, name) = (target.channel().clone(), target.level(), target.name());
        Ok(Suspension { channel, level, name: name.clone(), suspended, cut })
    }

    /// Changes which types of events an admin or a proxy wants.
    pub async fn subscribe(
        &self,
        target: &Target,
        add: Vec<TypePattern>,
        remove: Vec<TypePattern>,
    ) -> Result<Subscribed, Rejection> {
        let of = self.machine_target(target)?;
        let cut = cut(self.propose(Command::Subscribe { target: of, add, remove }).await?)?;
        let types = self.replica().read(|machine| {
            let found = Found::new(machine, target)?;
            let admin = found.admin.as_ref().map(|(_, _, admin)| &admin.types);
            let types = found.proxy.map(Proxy::types).or(admin);
            Ok::<_, Rejection>(types.cloned().unwrap_or_default())
        })?;
        let (channel, level, name) = (target.channel().clone(), target.level(), target.name());
        Ok(Subscribed { channel, level, name: name.clone(), types, cut })
    }

    /// The types of a channel's retained events.
    pub async fn offered_types(&self, channel: &Name) -> Result<OfferedTypes, Rejection> {
        self.look(|world| {
            let id = find_channel(world.facts, channel)?.id();
            let offered = find_channel(world.of(id), channel)?.offered_types();
            let offered = offered.map(|(_, name, events)| OfferedType {
                event_type: EventType::clone(name),
                events,
            });
            let mut types: Vec<OfferedType> = offered.collect();
            types.sort_by(|a, b| a.event_type.cmp(&b.event_type));
            Ok(OfferedTypes { channel: channel.clone(), types })
        })
    }

    fn machine_target(&self, target: &Target) -> Result<machine::Target, Rejection> {
        self.replica().read(|machine| Found::new(machine, target).map(|found| found.target()))
    }
}

/// A target with what it inherits from.
struct Found<'a> {
    level: Level,
    channel: &'a Channel,
    /// The admin that is meant, or that of the proxy or lane.
    admin: Option<(Side, Name, Admin)>,
    proxy: Option<&'a Proxy>,
    lane: Option<&'a Lane>,
}

impl<'a> Found<'a> {
    fn new(machine: &'a Machine, target: &Target) -> Result<Found<'a>, Rejection> {
        let name = target.channel();
        let channel = find_channel(machine, name)?;
        let (mut proxy, mut lane) = (None, None);
        let admin = match target {
            Target::Channel { .. } => None,
            Target::Admin { side, admin, .. } => Some((*side, admin)),
            Target::Proxy { proxy: known, .. } => {
                let found = channel.proxy(known).and_then(|id| machine.proxy(id));
                let found = proxy.insert(found.ok_or_else(|| unknown_proxy(name, known))?);
                Some((Side::Consumer, found.admin()))
            }
            Target::Lane { lane: known, .. } => {
                let found = channel.lane(known).and_then(|id| machine.lane(id));
                let found = lane.insert(found.ok_or_else(|| unknown_lane(name, known))?);
                Some((Side::Supplier, found.admin()))
            }
        };
        let admin = match admin {
            None => None,
            Some((side, known)) => {
                let found = channel.admins().get(side, known);
                let found = found.ok_or_else(|| unknown_admin(name, side, known))?;
                Some((side, known.clone(), found))
            }
        };
        Ok(Found { level: target.level(), channel, admin, proxy, lane })
    }

    fn target(&self) -> machine::Target {
        let channel = self.channel.id();
        match (self.proxy, self.lane, &self.admin) {
            (Some(proxy), ..) => machine::Target::Proxy(proxy.id()),
            (_, Some(lane), _) => machine::Target::Lane(lane.id()),
            (.., Some((side, name, _))) => machine::Target::Admin(channel, *side, name.clone()),
            (.., None) => machine::Target::Channel(channel),
        }
    }

    /// What is set on each level, narrowest first; its own is the first.
    fn levels(&self) -> Vec<(Origin, &Qos)> {
        let proxy = self.proxy.map(|proxy| (Origin::Proxy, proxy.qos()));
        let lane = self.lane.map(|lane| (Origin::Lane, lane.qos()));
        let admin = self.admin.as_ref().map(|(side, _, admin)| match side {
            Side::Consumer => (Origin::Admin, &admin.qos),
            Side::Supplier => (Origin::SupplierAdmin, &admin.qos),
        });
        let channel = Some((Origin::Channel, self.channel.qos()));
        [proxy, lane, admin, channel].into_iter().flatten().collect()
    }
}

fn qos_report(machine: &Machine, target: &Target) -> Result<QosReport, Rejection> {
    let found = Found::new(machine, target)?;
    let levels = found.levels();
    let settable = Property::all().iter().filter(|spec| spec.levels.contains(&found.level));
    let properties = settable.map(|spec| property_report(spec.property, &levels)).collect();
    Ok(QosReport {
        channel: found.channel.name().clone(),
        level: found.level,
        admin: found.admin.as_ref().map(|(_, name, _)| name.clone()),
        proxy: found.proxy.map(|proxy| proxy.name().clone()),
        lane: found.lane.and_then(|lane| lane.name().cloned()),
        qos: levels.first().map(|(_, own)| (*own).clone()).unwrap_or_default(),
        properties,
    })
}

fn property_report(property: Property, levels: &[(Origin, &Qos)]) -> PropertyReport {
    let spec = property.spec();
    let show = |value: i64| PropertyValue::new(property, value);
    let first = |levels: &[(Origin, &Qos)]| {
        let set = levels.iter().find_map(|(from, qos)| Some((qos.get(property)?, *from)));
        set.unwrap_or((spec.default, Origin::Default))
    };
    let own = levels.first().and_then(|(_, qos)| qos.get(property));
    let (inherited, inherited_from) = first(levels.get(1..).unwrap_or_default());
    let (effective, effective_from) = first(levels);
    PropertyReport {
        property,
        own: own.map(show),
        inherited: show(inherited),
        inherited_from,
        default: show(spec.default),
        effective: show(effective),
        effective_from,
        allowed: spec.domain.to_string(),
        unit: unit(property).into(),
        meaning: spec.meaning.into(),
    }
}

/// The changes of a wish, or a refusal with everything that is wrong with it.
fn understand(level: Level, wish: &QosWish, what: &str) -> Result<Vec<QosChange>, Rejection> {
    read_wish(level, wish).map_err(|faults| {
        let faults: Vec<String> = faults.into_iter().map(|fault| fault.message).collect();
        Rejection::new(Code::InvalidQos, format!("{what}: {}", faults.join("; ")))
            .hint("`aqueduct qos properties` has names, levels and ranges")
    })
}

fn qos_of(changes: &[QosChange]) -> Qos {
    let mut qos = Qos::default();
    qos.change(changes);
    qos
}

fn cut(reply: Reply) -> Result<Cut, Rejection> {
    match reply {
        Reply::Changed { index, next_seq } => Ok(Cut { index, next_seq }),
        other => Err(unfit(&other)),
    }
}

fn find_channel<'a>(machine: &'a Machine, name: &Name) -> Result<&'a Channel, Rejection> {
    machine.channel_by_name(name).ok_or_else(|| unknown_channel(name))
}

/// There is no channel of this name.
pub fn unknown_channel(name: &Name) -> Rejection {
    Rejection::new(Code::UnknownChannel, format!("there is no channel '{name}'"))
        .hint("list them with `aqueduct channel ls`")
}

/// The channel has no proxy of this name.
pub fn unknown_proxy(channel: &Name, proxy: &Name) -> Rejection {
    let message = format!("channel '{channel}' has no durable consumer '{proxy}'");
    Rejection::new(Code::UnknownProxy, message)
        .hint(format!("list them with `aqueduct proxy ls {channel}`"))
}

fn unknown_lane(channel: &Name, lane: &Name) -> Rejection {
    Rejection::new(Code::UnknownLane, format!("channel '{channel}' has no lane '{lane}'"))
        .hint(format!("list them with `aqueduct proxy ls {channel}`; one that is unused expires"))
}

fn unknown_admin(channel: &Name, side: Side, admin: &Name) -> Rejection {
    Rejection::new(Code::UnknownAdmin, format!("channel '{channel}' has no {side} admin '{admin}'"))
        .hint(format!("list them with `aqueduct admin ls {channel}`, or create it"))
}

#[cfg(test)]
mod tests;
