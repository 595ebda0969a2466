//! The machine as one would write it without any thought of cost.

use std::collections::{BTreeMap, BTreeSet};

use crate::machine::block::publishes;
use crate::machine::{
    Batch, Command, DeadLetter, LaneTarget, LetterCounts, LetterFate, LetterRun, Publish,
    PublishRun, Published, ReplayTo, Reply, Settle, Settled, Tally, Target, events,
};
use crate::types::{
    ChannelId, Code, DedupKey, EventType, LaneId, Level, Member, Name, Opener, Outcome, PayloadKey,
    Property, ProxyId, Qos, QosChange, Rejection, Seq, SeqRange, SeqRanges, Side, Stamp, Start,
    Subscription, Tenure, TypePattern, TypeRef, limits,
};

#[derive(Debug, Default)]
pub struct Model {
    pub stamp: Stamp,
    applied: u64,
    pub tenure: Tenure,
    last_id: u64,
    pub channels: BTreeMap<ChannelId, ChannelModel>,
    pub proxies: BTreeMap<ProxyId, ProxyModel>,
    pub lanes: BTreeMap<LaneId, LaneModel>,
}

#[derive(Debug)]
pub struct ChannelModel {
    pub name: Name,
    pub qos: Qos,
    pub admins: BTreeMap<(Side, Name), (Qos, bool)>,
    /// What each consumer admin wants for its proxies.
    pub admin_types: BTreeMap<Name, Subscription>,
    /// Event `seq` is at `seq - 1`.
    pub events: Vec<(PayloadKey, u32)>,
    /// Of published events: priority, and when they expire.
    pub marks: BTreeMap<Seq, (i16, Stamp)>,
    /// Keys of accepted events, in their order.
    keys: Vec<(DedupKey, Seq, Stamp)>,
    accepted: Vec<Stamp>,
    /// The type of each.
    pub types: Vec<EventType>,
    history_start: Seq,
    /// Events that nobody can get any more.
    gone: BTreeSet<Seq>,
    pub no_interest: u64,
    pub expired_proxies: u64,
    /// Those that are kept.
    pub letters: BTreeMap<Seq, DeadLetter>,
    pub counts: LetterCounts,
}

#[derive(Debug)]
pub struct ProxyModel {
    pub channel: ChannelId,
    name: Name,
    pub admin: Name,
    pub qos: Qos,
    pub suspended: bool,
    pub types: Subscription,
    pub holder: Option<Member>,
    /// Every token there ever was rises above those before.
    pub fencing: u64,
    pub last_active: Stamp,
    revision: u64,
    pub start: Seq,
    pub outcomes: BTreeMap<Seq, Outcome>,
    pub attempts: BTreeMap<Seq, u32>,
}

#[derive(Debug)]
pub struct LaneModel {
    pub channel: ChannelId,
    name: Option<Name>,
    pub admin: Name,
    pub qos: Qos,
    pub suspended: bool,
    /// Everybody who opened it, in order.
    openers: Vec<Opener>,
    last_used: Stamp,
    pub next: u64,
    /// Where each sequence went; `None` if skipped.
    results: BTreeMap<u64, Option<Seq>>,
}

type Answer = Result<Reply, Rejection>;

fn refuse(code: Code) -> Rejection {
    Rejection::new(code, "")
}

fn out_of_sequence(expected: u64) -> Rejection {
    Rejection { expected: Some(expected), ..refuse(Code::OutOfSequence) }
}

impl ChannelModel {
    fn is_best_effort(&self) -> bool {
        Qos::resolve(&[&self.qos], Property::EventReliability) == 1
    }

    fn new(name: Name, qos: Qos) -> ChannelModel {
        let default = |side| ((side, Name::default_admin()), (Qos::default(), false));
        ChannelModel {
            name,
            qos,
            admins: BTreeMap::from([default(Side::Consumer), default(Side::Supplier)]),
            admin_types: BTreeMap::new(),
            events: Vec::new(),
            marks: BTreeMap::new(),
            keys: Vec::new(),
            accepted: Vec::new(),
            types: Vec::new(),
            history_start: 1,
            gone: BTreeSet::new(),
            no_interest: 0,
            expired_proxies: 0,
            letters: BTreeMap::new(),
            counts: LetterCounts::default(),
        }
    }

    fn accept(&mut self, event: (PayloadKey, u32), kind: EventType, now: Stamp) {
        self.events.push(event);
        self.types.push(kind);
        self.accepted.push(now);
    }

    pub fn next_seq(&self) -> Seq {
        self.events.len() as u64 + 1
    }

    pub fn history_start(&self) -> Seq {
        self.history_start
    }

    /// What was history once may be none any more; never the other way round.
    fn trim(&mut self, now: Stamp) {
        let value = |property| Qos::resolve(&[&self.qos], property) as u64;
        let age = value(Property::HistoryAge) * 1000;
        let mut kept = Tally::default();
        let mut start = self.next_seq();
        for ((_, size), accepted) in self.events.iter().zip(&self.accepted).rev() {
            kept.events += 1;
            kept.bytes += u64::from(*size);
            if kept.events > value(Property::HistoryEvents)
                || kept.bytes > value(Property::HistoryBytes)
                || (age > 0 && accepted.0 + age <= now.0)
            {
                break;
            }
            start -= 1;
        }
        self.history_start = self.history_start.max(start);
    }

    pub fn retained(&self) -> BTreeMap<Seq, (PayloadKey, u32)> {
        let numbered = (1..).zip(self.events.iter().copied());
        numbered.filter(|(seq, _)| !self.gone.contains(seq)).collect()
    }

    /// The types of what is retained, but for none, each with how many events are of it.
    pub fn offered(&self) -> BTreeMap<EventType, u64> {
        let mut offered = BTreeMap::new();
        for seq in self.retained().into_keys() {
            *offered.entry(self.types[seq as usize - 1].clone()).or_default() += 1;
        }
        offered.remove(&EventType::default());
        offered
    }

    /// Five types at most, beside none.
    fn takes_type(&self, kind: &EventType) -> bool {
        let offered = self.offered();
        *kind == EventType::default() || offered.contains_key(kind) || offered.len() < 5
    }

    /// Where there are too many, the oldest history that nobody waits for goes, if that helps.
    fn make_way(&mut self, kind: &EventType, waited: impl Fn(Seq) -> bool) {
        let gone = self.gone.clone();
        for seq in 1..self.next_seq() {
            if self.takes_type(kind) {
                break;
            }
            if !waited(seq) && !self.letters.contains_key(&seq) {
                self.gone.insert(seq);
                if self.takes_type(kind) {
                    self.history_start = self.history_start.max(seq + 1);
                }
            }
        }
        if !self.takes_type(kind) {
            self.gone = gone;
        }
    }

    fn is_full(&self, pending: Tally, size: u32) -> bool {
        let value = |property| Qos::resolve(&[&self.qos], property) as u64;
        let length = value(Property::MaxQueueLength);
        let long = length > 0 && value(Property::RejectNewEvents) == 1 && pending.events >= length;
        long || pending.bytes + u64::from(size) > value(Property::MaxQueueBytes)
    }

    pub fn is_dead_letters(&self) -> bool {
        self.name.as_str().ends_with(".dead")
    }
}

impl ProxyModel {
    pub fn revision(&self) -> u64 {
        self.revision
    }

    pub fn floor(&self) -> Seq {
        (self.start..).find(|seq| !self.outcomes.contains_key(seq)).unwrap()
    }
}

impl LaneModel {
    pub fn epoch(&self) -> u32 {
        self.openers.len() as u32
    }

    fn held_since(&self) -> u32 {
        let last = self.openers.last().unwrap().client;
        let others = self.openers.iter().rposition(|opener| opener.client != last);
        others.map_or(1, |place| place as u32 + 2)
    }
}

impl Model {
    pub fn new() -> Model {
        let mut model = Model::default();
        model.add_channel(Name::default_channel(), Qos::default());
        model
    }

    fn next_id(&mut self) -> u64 {
        self.last_id += 1;
        self.last_id
    }

    fn add_channel(&mut self, name: Name, qos: Qos) -> ChannelId {
        let id = ChannelId(self.next_id());
        self.channels.insert(id, ChannelModel::new(name, qos));
        id
    }

    fn channel(&mut self, id: ChannelId) -> Result<&mut ChannelModel, Rejection> {
        self.channels.get_mut(&id).ok_or(refuse(Code::UnknownChannel))
    }

    pub fn waiting(&self, channel: ChannelId, seq: Seq) -> usize {
        let here = self.proxies.values().filter(|proxy| proxy.channel == channel);
        here.filter(|proxy| proxy.start <= seq && !proxy.outcomes.contains_key(&seq)).count()
    }

    pub fn pending(&self, id: ChannelId) -> Tally {
        let mut tally = Tally::default();
        for (seq, (_, size)) in (1..).zip(&self.channels[&id].events) {
            if self.waiting(id, seq) > 0 {
                tally.add(*size);
            }
        }
        tally
    }

    fn interested(&self, channel: ChannelId) -> bool {
        self.proxies.values().any(|proxy| proxy.channel == channel)
    }

    /// What some proxy waits for.
    fn waited(&self, id: ChannelId) -> BTreeSet<Seq> {
        (1..self.channels[&id].next_seq()).filter(|seq| self.waiting(id, *seq) > 0).collect()
    }

    /// What is neither waited for nor history, and no letter, is gone for good.
    fn forget(&mut self) {
        let ids: Vec<ChannelId> = self.channels.keys().copied().collect();
        for id in ids {
            let start = self.channels[&id].history_start();
            let letters = &self.channels[&id].letters;
            let free = |seq: &Seq| self.waiting(id, *seq) == 0 && !letters.contains_key(seq);
            let gone: Vec<Seq> = (1..start).filter(free).collect();
            self.channels.get_mut(&id).unwrap().gone.extend(gone);
        }
    }

    pub fn apply(&mut self, index: u64, batch: &Batch) -> Vec<Reply> {
        self.applied = index;
        if matches!(batch.commands.first(), Some(Command::BeginTenure { .. })) {
            self.tenure = Tenure(index);
        } else if batch.tenure != self.tenure {
            let refused = Reply::Rejected(refuse(Code::TenureLost));
            return batch.commands.iter().map(|_| refused.clone()).collect();
        }
        self.stamp = self.stamp.max(batch.stamp);
        let mut bases = publishes(batch).map(|(base, _)| base);
        let mut replies = Vec::new();
        for (i, command) in batch.commands.iter().enumerate() {
            let base = if let Command::Publish(_) = command { bases.next().unwrap() } else { 0 };
            let place =
                (LaneId { index, position: i as u32 }, PayloadKey { index, position: base });
            replies.push(self.step(place, command).unwrap_or_else(Reply::Rejected));
            self.forget();
        }
        replies
    }

    fn step(&mut self, place: (LaneId, PayloadKey), command: &Command) -> Answer {
        match command {
            Command::BeginTenure { .. } if place.0.position == 0 => {
                Ok(Reply::TenureBegun { tenure: self.tenure })
            }
            Command::BeginTenure { .. } => Err(refuse(Code::BadRequest)),
            Command::CreateChannel { name, qos } => self.create_channel(name, qos),
            Command::DeleteChannel { channel } => self.delete_channel(*channel),
            Command::CreateProxy { channel, name, start, admin, qos, types } => {
                self.create_proxy(*channel, (name, *start), admin.as_ref(), (qos, types))
            }
            Command::CreateAdmin { channel, side, name, qos, types } => {
                self.create_admin(*channel, (*side, name.clone()), qos, types)
            }
            Command::Subscribe { target, add, remove } => self.subscribe(target, add, remove),
            Command::DeleteAdmin { channel, side, name } => {
                self.delete_admin(*channel, (*side, name.clone()))
            }
            Command::SetQos { target, changes } => self.set_qos(target, changes),
            Command::Suspend { target, suspended } => self.suspend(target, *suspended),
            Command::DeleteProxy { proxy } => match self.proxies.remove(proxy) {
                Some(_) => Ok(Reply::Done),
                None => Err(refuse(Code::UnknownProxy)),
            },
            Command::OpenLane { channel, target, opener, admin } => {
                self.open_lane(place.0, *channel, (target, admin.as_ref()), *opener)
            }
            Command::ExpireLanes { lanes } => {
                let idle = limits::LANE_IDLE_MS * 1000;
                let now = self.stamp.0;
                self.lanes.retain(|id, lane| !lanes.contains(id) || lane.last_used.0 + idle > now);
                Ok(Reply::Done)
            }
            Command::Publish(publish) => self.publish(place.1, publish),
            Command::SkipSequences { lane, epoch, through } => self.skip(*lane, *epoch, *through),
            Command::Settle(settle) => self.settle(settle),
            Command::CountAttempts { proxy, sequences } => self.count_attempts(*proxy, sequences),
            Command::Hold { proxy, holder } => self.hold(*proxy, *holder),
            Command::MarkActive { proxies } => {
                let now = self.stamp;
                let named = self.proxies.iter_mut().filter(|(id, _)| proxies.contains(id));
                named.for_each(|(_, proxy)| proxy.last_active = now);
                Ok(Reply::Done)
            }
            Command::ExpireProxies { proxies } => Ok(self.expire_proxies(proxies)),
            Command::TrimHistory { channels } => {
                channels.iter().for_each(|id| self.trim(*id));
                Ok(Reply::Done)
            }
            Command::Checkpoint => Ok(Reply::Checkpoint { index: place.0.index, hash: 0 }),
            Command::ReplayLetters { channel, sequences, to } => {
                self.end_letters(*channel, sequences, Some(*to))
            }
            Command::DropLetters { channel, sequences } => {
                self.end_letters(*channel, sequences, None)
            }
        }
    }

    fn create_channel(&mut self, name: &Name, qos: &Qos) -> Answer {
        if !qos.check(Level::Channel).is_empty() {
            return Err(refuse(Code::InvalidQos));
        }
        if name.as_str().ends_with(".dead") {
            return Err(refuse(Code::NotAllowed));
        }
        if self.channels.values().any(|channel| channel.name == *name) {
            return Err(refuse(Code::ChannelExists));
        }
        Ok(Reply::ChannelCreated { channel: self.add_channel(name.clone(), qos.clone()) })
    }

    fn delete_channel(&mut self, id: ChannelId) -> Answer {
        if self.channel(id)?.name == Name::default_channel() {
            return Err(refuse(Code::NotAllowed));
        }
        self.channels.remove(&id);
        self.proxies.retain(|_, proxy| proxy.channel != id);
        self.lanes.retain(|_, lane| lane.channel != id);
        Ok(Reply::Done)
    }

    fn create_proxy(
        &mut self,
        channel: ChannelId,
        (name, start): (&Name, Start),
        admin: Option<&Name>,
        (qos, types): (&Qos, &Subscription),
    ) -> Answer {
        if !qos.check(Level::Proxy).is_empty() {
            return Err(refuse(Code::InvalidQos));
        }
        if types.len() > 256 {
            return Err(refuse(Code::BadRequest));
        }
        let retained: BTreeSet<Seq> = self.channel(channel)?.retained().into_keys().collect();
        let next = self.channel(channel)?.next_seq();
        let mut here = self.proxies.iter().filter(|(_, proxy)| proxy.channel == channel);
        if let Some((id, proxy)) = here.find(|(_, proxy)| proxy.name == *name) {
            let unlike = |(property, value)| proxy.qos.get(property) != Some(value);
            if admin.is_some_and(|admin| *admin != proxy.admin)
                || qos.iter().any(unlike)
                || !types.is_empty() && *types != proxy.types
            {
                return Err(refuse(Code::ProxyExists));
            }
            let (revision, start_seq) = (proxy.revision, proxy.start);
            return Ok(Reply::ProxyReady { proxy: *id, revision, start_seq, created: false });
        }
        let members = self.proxies.values().filter(|proxy| proxy.channel == channel).count();
        let admin = admin.cloned().unwrap_or(Name::default_admin());
        let host = self.channel(channel)?;
        if !host.admins.contains_key(&(Side::Consumer, admin.clone())) {
            return Err(refuse(Code::UnknownAdmin));
        }
        let max = Qos::resolve(&[&host.qos], Property::MaxConsumers) as usize;
        if max > 0 && members >= max {
            return Err(refuse(Code::TooManyProxies));
        }
        let from = match start {
            Start::New => next,
            Start::All => 0,
            Start::Seq(seq) => seq,
            Start::Time(_) => unreachable!("scripts have it"),
        };
        let start_seq = retained.range(from..).next().copied().unwrap_or(next);
        let holes = (start_seq..next).filter(|seq| !retained.contains(seq));
        let proxy = ProxyModel {
            channel,
            name: name.clone(),
            admin,
            qos: qos.clone(),
            suspended: false,
            types: types.clone(),
            holder: None,
            fencing: 0,
            last_active: self.stamp,
            revision: 1,
            start: start_seq,
            outcomes: holes.map(|seq| (seq, Outcome::Skipped)).collect(),
            attempts: BTreeMap::new(),
        };
        let id = ProxyId(self.next_id());
        self.proxies.insert(id, proxy);
        Ok(Reply::ProxyReady { proxy: id, revision: 1, start_seq, created: true })
    }

    fn create_admin(
        &mut self,
        id: ChannelId,
        key: (Side, Name),
        qos: &Qos,
        types: &Subscription,
    ) -> Answer {
        let level = if key.0 == Side::Consumer { Level::Admin } else { Level::SupplierAdmin };
        if !qos.check(level).is_empty() {
            return Err(refuse(Code::InvalidQos));
        }
        if key.0 == Side::Supplier && !types.is_empty() {
            return Err(refuse(Code::NotAllowed));
        }
        let channel = self.channel(id)?;
        if channel.admins.contains_key(&key) {
            return Err(refuse(Code::AdminExists));
        }
        let side = key.0;
        if side == Side::Consumer {
            channel.admin_types.insert(key.1.clone(), types.clone());
        }
        channel.admins.insert(key, (qos.clone(), false));
        Ok(self.changed(id, side))
    }

    fn delete_admin(&mut self, id: ChannelId, key: (Side, Name)) -> Answer {
        let channel = self.channel(id)?;
        if key.1 == Name::default_admin() {
            return Err(refuse(Code::NotAllowed));
        }
        channel.admins.remove(&key).ok_or(refuse(Code::UnknownAdmin))?;
        let (side, name) = key;
        match side {
            Side::Consumer => {
                channel.admin_types.remove(&name);
                self.proxies.retain(|_, p| p.channel != id || p.admin != name);
            }
            Side::Supplier => self.lanes.retain(|_, l| l.channel != id || l.admin != name),
        }
        Ok(self.changed(id, side))
    }

    fn set_qos(&mut self, target: &Target, changes: &[QosChange]) -> Answer {
        let (id, side, level) = self.find(target)?;
        let mut asked = Qos::default();
        asked.change(changes);
        if !asked.check(level).is_empty() {
            return Err(refuse(Code::InvalidQos));
        }
        let before = self.inactivities(id);
        let channel = self.channels.get_mut(&id).unwrap();
        let history = [Property::HistoryEvents, Property::HistoryBytes, Property::HistoryAge];
        let touches = changes.iter().any(|(property, _)| history.contains(property));
        if level == Level::Channel && channel.is_dead_letters() && touches {
            return Err(refuse(Code::InvalidQos));
        }
        if level == Level::Channel {
            let (mut wanted, is) = (channel.qos.clone(), channel.is_best_effort());
            wanted.change(changes);
            let proxies = self.proxies.values().any(|proxy| proxy.channel == id);
            let lanes = self.lanes.values().any(|lane| lane.channel == id);
            let will = Qos::resolve(&[&wanted], Property::EventReliability) == 1;
            if will != is && (channel.next_seq() > 1 || proxies || lanes) {
                return Err(refuse(Code::NotAllowed));
            }
        }
        let channel = self.channels.get_mut(&id).unwrap();
        let qos = match target {
            Target::Channel(_) => &mut channel.qos,
            Target::Admin(_, side, name) => {
                &mut channel.admins.get_mut(&(*side, name.clone())).unwrap().0
            }
            Target::Proxy(id) => &mut self.proxies.get_mut(id).unwrap().qos,
            Target::Lane(id) => &mut self.lanes.get_mut(id).unwrap().qos,
        };
        changes.iter().for_each(|(property, value)| qos.set(*property, *value));
        for (proxy, patience) in self.inactivities(id) {
            if patience > 0 && before[&proxy] == 0 {
                self.proxies.get_mut(&proxy).unwrap().last_active = self.stamp;
            }
        }
        Ok(self.changed(id, side))
    }

    fn subscribe(
        &mut self,
        target: &Target,
        add: &[TypePattern],
        remove: &[TypePattern],
    ) -> Answer {
        let id = self.find(target)?.0;
        let types = match target {
            Target::Channel(_) | Target::Lane(_) | Target::Admin(_, Side::Supplier, _) => {
                return Err(refuse(Code::NotAllowed));
            }
            Target::Admin(id, Side::Consumer, name) => {
                let channel = self.channels.get_mut(id).unwrap();
                channel.admin_types.entry(name.clone()).or_default()
            }
            Target::Proxy(id) => &mut self.proxies.get_mut(id).unwrap().types,
        };
        let kept = types.iter().filter(|pattern| !remove.contains(pattern));
        let changed: Subscription = kept.chain(add).cloned().collect();
        if changed.len() > 256 {
            return Err(refuse(Code::BadRequest));
        }
        *types = changed;
        Ok(self.changed(id, Side::Consumer))
    }

    fn suspend(&mut self, target: &Target, suspended: bool) -> Answer {
        let (id, side, _) = self.find(target)?;
        match target {
            Target::Channel(_) => return Err(refuse(Code::NotAllowed)),
            Target::Admin(id, side, name) => {
                let channel = self.channels.get_mut(id).unwrap();
                channel.admins.get_mut(&(*side, name.clone())).unwrap().1 = suspended;
            }
            Target::Proxy(id) => self.proxies.get_mut(id).unwrap().suspended = suspended,
            Target::Lane(id) => self.lanes.get_mut(id).unwrap().suspended = suspended,
        }
        Ok(self.changed(id, side))
    }

    fn find(&mut self, target: &Target) -> Result<(ChannelId, Side, Level), Rejection> {
        match target {
            Target::Channel(id) => self.channel(*id).map(|_| (*id, Side::Consumer, Level::Channel)),
            Target::Admin(id, side, name) => {
                let known = self.channel(*id)?.admins.contains_key(&(*side, name.clone()));
                match (known, side) {
                    (true, Side::Consumer) => Ok((*id, *side, Level::Admin)),
                    (true, Side::Supplier) => Ok((*id, *side, Level::SupplierAdmin)),
                    (false, _) => Err(refuse(Code::UnknownAdmin)),
                }
            }
            Target::Proxy(id) => match self.proxies.get(id) {
                Some(proxy) => Ok((proxy.channel, Side::Consumer, Level::Proxy)),
                None => Err(refuse(Code::UnknownProxy)),
            },
            Target::Lane(id) => match self.lanes.get(id) {
                Some(lane) => Ok((lane.channel, Side::Supplier, Level::Lane)),
                None => Err(refuse(Code::UnknownLane)),
            },
        }
    }

    fn trim(&mut self, id: ChannelId) {
        let now = self.stamp;
        if let Some(channel) = self.channels.get_mut(&id) {
            channel.trim(now);
        }
    }

    fn inactivity(&self, id: ProxyId) -> u64 {
        let proxy = &self.proxies[&id];
        let channel = &self.channels[&proxy.channel];
        let admin = &channel.admins[&(Side::Consumer, proxy.admin.clone())].0;
        Qos::resolve(&[&proxy.qos, admin, &channel.qos], Property::InactivityExpiry) as u64
    }

    fn inactivities(&self, channel: ChannelId) -> BTreeMap<ProxyId, u64> {
        let here = self.proxies.iter().filter(|(_, proxy)| proxy.channel == channel);
        here.map(|(id, _)| (*id, self.inactivity(*id))).collect()
    }

    fn expire_proxies(&mut self, named: &[ProxyId]) -> Reply {
        let mut expired = Vec::new();
        for id in named {
            let Some(proxy) = self.proxies.get(id) else { continue };
            let (channel, name) = (proxy.channel, proxy.name.clone());
            let patience = self.inactivity(*id);
            if patience > 0 && proxy.last_active.0 + patience * 1000 <= self.stamp.0 {
                self.proxies.remove(id);
                self.channels.get_mut(&channel).unwrap().expired_proxies += 1;
                expired.push((*id, channel, name));
            }
        }
        Reply::Expired(expired)
    }

    fn is_exclusive(&self, id: ProxyId) -> bool {
        let proxy = &self.proxies[&id];
        let admin = &self.channels[&proxy.channel].admins[&(Side::Consumer, proxy.admin.clone())].0;
        Qos::resolve(&[&proxy.qos, admin], Property::ExclusiveConsumer) == 1
    }

    fn hold(&mut self, id: ProxyId, holder: Option<Member>) -> Answer {
        self.proxies.get(&id).ok_or(refuse(Code::UnknownProxy))?;
        if !self.is_exclusive(id) {
            return Err(refuse(Code::NotAllowed));
        }
        let applied = self.applied;
        let proxy = self.proxies.get_mut(&id).unwrap();
        proxy.holder = holder;
        if holder.is_some() {
            proxy.fencing = applied.max(proxy.fencing + 1);
        }
        Ok(Reply::Held { fencing: proxy.fencing })
    }

    fn changed(&mut self, id: ChannelId, side: Side) -> Reply {
        let members = self.proxies.values_mut().filter(|proxy| proxy.channel == id);
        members.filter(|_| side == Side::Consumer).for_each(|proxy| proxy.revision += 1);
        let members = self.proxies.iter().filter(|(_, proxy)| proxy.channel == id);
        let members: Vec<ProxyId> = members.map(|(id, _)| *id).collect();
        for member in members {
            if self.is_exclusive(member) {
                continue;
            }
            let applied = self.applied;
            let proxy = self.proxies.get_mut(&member).unwrap();
            if proxy.holder.take().is_some() {
                proxy.fencing = applied.max(proxy.fencing + 1);
            }
        }
        self.trim(id);
        Reply::Changed { index: self.applied, next_seq: self.channels[&id].next_seq() }
    }

    fn open_lane(
        &mut self,
        id: LaneId,
        channel: ChannelId,
        (target, admin): (&LaneTarget, Option<&Name>),
        opener: Opener,
    ) -> Answer {
        if self.channel(channel)?.is_dead_letters() {
            return Err(refuse(Code::NotAllowed));
        }
        let name = match target {
            LaneTarget::Named(name) => Some(name.clone()),
            _ => None,
        };
        let stamp = self.stamp;
        let found = self.lanes.iter_mut().find(|(id, lane)| {
            lane.channel == channel
                && match target {
                    LaneTarget::Fresh => false,
                    LaneTarget::Named(_) => lane.name == name,
                    LaneTarget::Existing(wanted) => **id == *wanted,
                }
        });
        let (id, lane) = match (found, target) {
            (Some((id, lane)), _) => {
                if admin.is_some_and(|admin| *admin != lane.admin) {
                    return Err(refuse(Code::LaneExists));
                }
                let last = lane.openers.last().unwrap();
                if last.client == opener.client && last.attempt >= opener.attempt {
                    return Err(refuse(Code::LaneFenced));
                }
                lane.last_used = stamp;
                (*id, lane)
            }
            (None, LaneTarget::Existing(_)) => return Err(refuse(Code::UnknownLane)),
            (None, _) => {
                let admin = admin.cloned().unwrap_or(Name::default_admin());
                let host = &self.channels[&channel];
                let set = host.admins.get(&(Side::Supplier, admin.clone()));
                let set = &set.ok_or(refuse(Code::UnknownAdmin))?.0;
                let max = |qos: &Qos| Qos::resolve(&[qos], Property::MaxSuppliers) as usize;
                let here = || self.lanes.values().filter(|lane| lane.channel == channel);
                let of_admin = here().filter(|lane| lane.admin == admin).count();
                let full = |max: usize, lanes: usize| max > 0 && lanes >= max;
                if full(max(&host.qos), here().count()) || full(max(set), of_admin) {
                    return Err(refuse(Code::TooManyLanes));
                }
                let lane = LaneModel {
                    channel,
                    name,
                    admin,
                    qos: Qos::default(),
                    suspended: false,
                    openers: Vec::new(),
                    last_used: stamp,
                    next: 1,
                    results: BTreeMap::new(),
                };
                (id, self.lanes.entry(id).or_insert(lane))
            }
        };
        lane.openers.push(opener);
        let (epoch, held_since) = (lane.epoch(), lane.held_since());
        Ok(Reply::LaneOpened { lane: id, epoch, held_since, last_sequence: lane.next - 1 })
    }

    fn publish(&mut self, key: PayloadKey, publish: &Publish) -> Answer {
        if self.channel(publish.channel)?.is_best_effort() {
            return Err(refuse(Code::NotAllowed));
        }
        let stamp = self.stamp;
        let lane = self.lanes.get_mut(&publish.lane).filter(|l| l.channel == publish.channel);
        let lane = lane.ok_or(refuse(Code::UnknownLane))?;
        if publish.epoch != lane.epoch() {
            return Err(refuse(Code::LaneFenced));
        }
        if publish.first_sequence == 0
            || publish.first_sequence.checked_add(publish.count.into()).is_none()
        {
            return Err(refuse(Code::BadRequest));
        }
        lane.last_used = stamp;
        let mut answer = Published::default();
        for (i, event) in (0..).zip(events(publish)) {
            let sequence = publish.first_sequence + u64::from(i);
            let key = PayloadKey { position: key.position + i, ..key };
            match self.publish_one(publish, sequence, key, &event) {
                Ok((seq, duplicate)) => push_run(&mut answer.runs, sequence, seq, duplicate),
                Err(refusal) => {
                    answer.refused = Some(refusal);
                    break;
                }
            }
        }
        Ok(Reply::Published(answer))
    }

    fn publish_one(
        &mut self,
        publish: &Publish,
        sequence: u64,
        key: PayloadKey,
        event: &[u8],
    ) -> Result<(Seq, bool), Rejection> {
        let size = event.len() as u32;
        let interested = self.interested(publish.channel);
        let pending = self.pending(publish.channel);
        let waited = self.waited(publish.channel);
        let lane = self.lanes.get_mut(&publish.lane).unwrap();
        let channel = self.channels.get_mut(&publish.channel).unwrap();
        if sequence < lane.next {
            let seq = lane.results.get(&sequence).copied().flatten();
            return seq.map(|seq| (seq, true)).ok_or(out_of_sequence(lane.next));
        }
        if sequence > lane.next {
            return Err(out_of_sequence(lane.next));
        }
        let (admin, suspended) = channel.admins[&(Side::Supplier, lane.admin.clone())].clone();
        if lane.suspended || suspended {
            return Err(refuse(Code::Suspended));
        }
        let dedup = DedupKey::read(event);
        let window = Qos::resolve(&[&channel.qos], Property::DedupWindow) as u64;
        let same = channel.keys.iter().rev().find(|(known, ..)| Some(*known) == dedup);
        let seen = same.filter(|(.., accepted)| accepted.plus_millis(window) > self.stamp);
        if let Some((_, seq, _)) = seen {
            lane.next += 1;
            lane.results.insert(sequence, Some(*seq));
            return Ok((*seq, true));
        }
        if interested && channel.is_full(pending, size) {
            return Err(refuse(Code::ChannelFull));
        }
        let kind: EventType = TypeRef::read(event).into();
        channel.make_way(&kind, |seq| waited.contains(&seq));
        if !channel.takes_type(&kind) {
            return Err(refuse(Code::TooManyTypes));
        }
        let seq = channel.next_seq();
        let says = |property| Qos::resolve(&[&lane.qos, &admin, &channel.qos], property);
        let timeout = says(Property::Timeout) as u64;
        let stop = if timeout > 0 { self.stamp.plus_millis(timeout) } else { Stamp(0) };
        channel.marks.insert(seq, (says(Property::Priority) as i16, stop));
        channel.accept((key, size), kind, self.stamp);
        channel.trim(self.stamp);
        // Where no window is set nothing is remembered, for when one is.
        let remembered = dedup.filter(|_| window > 0);
        channel.keys.extend(remembered.map(|dedup| (dedup, seq, self.stamp)));
        channel
            .keys
            .retain(|(.., accepted)| dedup.is_none() || accepted.plus_millis(window) > self.stamp);
        channel.no_interest += u64::from(!interested);
        lane.next += 1;
        lane.results.insert(sequence, Some(seq));
        Ok((seq, false))
    }

    fn skip(&mut self, lane: LaneId, epoch: u32, through: u64) -> Answer {
        let stamp = self.stamp;
        let lane = self.lanes.get_mut(&lane).ok_or(refuse(Code::UnknownLane))?;
        if epoch != lane.epoch() {
            return Err(refuse(Code::LaneFenced));
        }
        if through == u64::MAX {
            return Err(refuse(Code::BadRequest));
        }
        lane.last_used = stamp;
        lane.next = lane.next.max(through + 1);
        Ok(Reply::Done)
    }

    /// Every sequence of `ranges` that was offered to the proxy, in their order.
    fn offered(&self, proxy: ProxyId, ranges: &SeqRanges) -> Vec<Seq> {
        let proxy = &self.proxies[&proxy];
        let next = self.channels[&proxy.channel].next_seq();
        let clipped = ranges
            .iter()
            .map(|range| range.first.max(proxy.start)..range.last.saturating_add(1).min(next));
        clipped.flatten().collect()
    }

    fn settle(&mut self, settle: &Settle) -> Answer {
        let id = settle.proxy;
        let channel = self.proxies.get(&id).ok_or(refuse(Code::UnknownProxy))?.channel;
        let said = settle.parts.iter().any(|part| {
            matches!(part.outcome, Outcome::Acked | Outcome::DeadLettered | Outcome::Skipped)
        });
        if said && self.is_exclusive(id) && settle.fencing != self.proxies[&id].fencing {
            return Err(refuse(Code::Fenced));
        }
        let mut answer = Settled::default();
        let mut letters = Vec::new();
        for part in &settle.parts {
            let mut outcome = part.outcome;
            let judged =
                matches!(outcome, Outcome::Filtered | Outcome::Expired | Outcome::Discarded);
            if outcome == Outcome::DeadLettered && self.channels[&channel].is_dead_letters() {
                outcome = Outcome::Discarded;
            }
            for seq in self.offered(id, &part.sequences) {
                let proxy = self.proxies.get_mut(&id).unwrap();
                let winner = proxy.outcomes.get(&seq).copied();
                if judged && settle.revision != proxy.revision {
                    answer.stale += u64::from(winner.is_none());
                } else if winner.is_some() {
                    let known = winner.filter(|_| seq > proxy.floor());
                    answer.already.push((SeqRange::one(seq), known));
                } else {
                    answer.settled += 1;
                    let attempts = proxy.attempts.remove(&seq).unwrap_or(0);
                    proxy.outcomes.insert(seq, outcome);
                    if outcome == Outcome::DeadLettered {
                        let proxy_name = proxy.name.clone();
                        let reason = part.reason.clone();
                        let letter =
                            DeadLetter { channel, proxy: id, proxy_name, seq, attempts, reason };
                        letters.push(letter);
                    }
                }
            }
        }
        answer.dead_letters = self.append_letters(channel, letters);
        Ok(Reply::Settled(answer))
    }

    fn append_letters(
        &mut self,
        origin: ChannelId,
        letters: Vec<DeadLetter>,
    ) -> Option<(ChannelId, SeqRange)> {
        let events = self.channels[&origin].events.clone();
        let types = self.channels[&origin].types.clone();
        let name = self.channels[&origin].name.dead_letter();
        letters.first()?;
        let found = self.channels.iter().find(|(_, channel)| channel.name == name);
        let id = match found.map(|(id, _)| *id) {
            Some(id) => id,
            None => {
                let history = [(Property::HistoryEvents, 0), (Property::HistoryBytes, 0)];
                self.add_channel(name, Qos::from(history))
            }
        };
        let interested = self.interested(id);
        let channel = self.channels.get_mut(&id).unwrap();
        let first = channel.next_seq();
        for letter in letters {
            let event = events[letter.seq as usize - 1];
            let kind = types[letter.seq as usize - 1].clone();
            channel.letters.insert(channel.next_seq(), letter);
            channel.accept(event, kind, self.stamp);
            channel.no_interest += u64::from(!interested);
        }
        channel.trim(self.stamp);
        let range = SeqRange { first, last: channel.next_seq() - 1 };
        self.push_out(id);
        Some((id, range))
    }

    /// Ten letters or 150 bytes of them may be kept, and one whatever its size.
    fn push_out(&mut self, id: ChannelId) {
        loop {
            let channel = self.channels.get_mut(&id).unwrap();
            let size = |seq: &Seq| u64::from(channel.events[*seq as usize - 1].1);
            let bytes: u64 = channel.letters.keys().map(size).sum();
            if (channel.letters.len() <= 10 && bytes <= 150) || channel.letters.len() <= 1 {
                return;
            }
            let (oldest, _) = channel.letters.pop_first().unwrap();
            channel.counts.pushed_out += 1;
            self.end_for_all(id, oldest, Outcome::Discarded, None);
        }
    }

    /// Ends an event for all proxies of a channel that wait for it, but for one.
    fn end_for_all(&mut self, id: ChannelId, seq: Seq, outcome: Outcome, but: Option<ProxyId>) {
        for (proxy_id, proxy) in &mut self.proxies {
            let waits = proxy.start <= seq && !proxy.outcomes.contains_key(&seq);
            if proxy.channel == id && waits && Some(*proxy_id) != but {
                proxy.outcomes.insert(seq, outcome);
                proxy.attempts.remove(&seq);
            }
        }
    }

    /// Letters are replayed, or dropped.
    fn end_letters(&mut self, id: ChannelId, named: &SeqRanges, to: Option<ReplayTo>) -> Answer {
        if !self.channel(id)?.is_dead_letters() {
            return Err(refuse(Code::NotAllowed));
        }
        if named.iter().map(|range| u128::from(range.len())).sum::<u128>() > 1000 {
            return Err(refuse(Code::BadRequest));
        }
        let (mut runs, mut full) = (Vec::new(), None);
        for seq in named.iter().flat_map(|range| range.first..=range.last) {
            let known = self.channels[&id].letters.get(&seq).cloned();
            let fate = match (known, to) {
                (None, _) => LetterFate::Unknown,
                (Some(_), None) => LetterFate::Dropped,
                (Some(letter), Some(to)) => match self.replay(id, seq, &letter, to, full) {
                    Ok(fate) => fate,
                    Err(refused) => {
                        if matches!(refused.code, Code::ChannelFull | Code::TooManyTypes) {
                            full = Some(refused.code);
                        }
                        LetterFate::Refused(refused)
                    }
                },
            };
            let counts = &mut self.channels.get_mut(&id).unwrap().counts;
            match fate {
                LetterFate::Dropped => counts.dropped += 1,
                LetterFate::Replayed { .. } => counts.replayed += 1,
                _ => {}
            }
            if matches!(fate, LetterFate::Dropped | LetterFate::Replayed { .. }) {
                self.channels.get_mut(&id).unwrap().letters.remove(&seq);
                self.end_for_all(id, seq, Outcome::Skipped, None);
            }
            runs.push(LetterRun { letters: SeqRange::one(seq), fate });
        }
        Ok(Reply::Letters(runs))
    }

    fn replay(
        &mut self,
        dead: ChannelId,
        seq: Seq,
        letter: &DeadLetter,
        to: ReplayTo,
        full: Option<Code>,
    ) -> Result<LetterFate, Rejection> {
        if let Some(code) = full {
            return Err(refuse(code));
        }
        if to == ReplayTo::Proxy && !self.proxies.contains_key(&letter.proxy) {
            return Err(refuse(Code::UnknownProxy));
        }
        let event = self.channels[&dead].events[seq as usize - 1];
        let kind = self.channels[&dead].types[seq as usize - 1].clone();
        let interested = self.interested(letter.channel);
        let origin = self.channel(letter.channel)?;
        if !interested {
            return Err(refuse(Code::NotAllowed));
        }
        let first = origin.next_seq();
        if self.channels[&letter.channel].is_full(self.pending(letter.channel), event.1) {
            return Err(refuse(Code::ChannelFull));
        }
        let now = self.stamp;
        let waited = self.waited(letter.channel);
        let origin = self.channel(letter.channel)?;
        origin.make_way(&kind, |seq| waited.contains(&seq));
        if !origin.takes_type(&kind) {
            return Err(refuse(Code::TooManyTypes));
        }
        origin.accept(event, kind, now);
        self.trim(letter.channel);
        if to == ReplayTo::Proxy {
            self.end_for_all(letter.channel, first, Outcome::Skipped, Some(letter.proxy));
        }
        Ok(LetterFate::Replayed { channel: letter.channel, first })
    }

    fn count_attempts(&mut self, id: ProxyId, sequences: &SeqRanges) -> Answer {
        if sequences.count() > limits::ATTEMPTS_PER_COMMAND_MAX {
            return Err(refuse(Code::BadRequest));
        }
        self.proxies.get(&id).ok_or(refuse(Code::UnknownProxy))?;
        for seq in self.offered(id, sequences) {
            let proxy = self.proxies.get_mut(&id).unwrap();
            if !proxy.outcomes.contains_key(&seq) {
                *proxy.attempts.entry(seq).or_default() += 1;
            }
        }
        Ok(Reply::Done)
    }
}

fn push_run(runs: &mut Vec<PublishRun>, sequence: u64, seq: Seq, duplicate: bool) {
    match runs.last_mut() {
        Some(run) if run.duplicate == duplicate && run.first_seq + u64::from(run.count) == seq => {
            run.count += 1;
        }
        _ => {
            runs.push(PublishRun { first_sequence: sequence, count: 1, first_seq: seq, duplicate })
        }
    }
}
