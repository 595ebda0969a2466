//! Histories as text: each file under `tests/machine` is a script and its reviewed trace.
//!
//! After an intended change, `UPDATE_GOLDENFILES=1 cargo test machine::tests::scripts` rewrites
//! the traces; read the diff.

use std::collections::BTreeMap;
use std::error::Error;
use std::fmt::Write as _;
use std::path::Path;

use super::{batch, block};
use crate::machine::{
    Channel, Command, LaneTarget, LetterCounts, LetterFate, LetterRun, Machine, Mark, Proxy,
    Publish, Published, ReplayTo, Reply, Settle, SettlePart, Settled, Target,
};
use crate::types::{
    ChannelId, DedupKey, Event, Interest, LaneId, Member, Name, NodeId, Opener, Outcome, Property,
    ProxyId, Qos, QosChange, SeqRange, SeqRanges, Service, Side, Stamp, Start, Tenure, TypePattern,
};

type Failure = Box<dyn Error>;

/// What a script can say.
#[derive(goldenscript::Command)]
enum Line {
    /// A leader takes office.
    Begin,
    /// Creates a channel.
    Channel {
        name: String,
        #[arg(key)]
        pending_max: Option<u64>,
        #[arg(key)]
        history: Option<u64>,
    },
    /// Deletes a channel.
    RmChannel(String),
    /// Creates a proxy `CHANNEL/NAME`.
    Proxy {
        path: String,
        #[arg(key)]
        start: Option<String>,
        #[arg(key)]
        max_deliveries: Option<u32>,
        #[arg(key)]
        admin: Option<String>,
        #[arg(key)]
        qos: Option<String>,
        #[arg(key)]
        types: Option<String>,
    },
    /// Creates a consumer admin `CHANNEL/NAME`.
    Admin {
        path: String,
        changes: Vec<String>,
        #[arg(key)]
        types: Option<String>,
    },
    /// Changes what `admin CHANNEL/NAME` or `proxy CHANNEL/NAME` wants, by patterns with commas between
    /// them.
    Subscribe {
        level: String,
        path: String,
        #[arg(key)]
        add: Option<String>,
        #[arg(key)]
        remove: Option<String>,
    },
    /// The types of what is retained.
    Types(String),
    /// What a proxy and its admin want.
    Wants(String),
    /// Deletes a consumer admin.
    RmAdmin(String),
    /// Creates a supplier admin `CHANNEL/NAME`.
    SupplierAdmin {
        path: String,
        changes: Vec<String>,
        #[arg(key)]
        types: Option<String>,
    },
    /// Deletes a supplier admin.
    RmSupplierAdmin(String),
    /// Sets properties (`PROPERTY.VALUE`) of `channel NAME`, `admin CHANNEL/NAME`,
    /// `supplier CHANNEL/NAME` (a supplier admin), `proxy CHANNEL/NAME` or `lane ALIAS`.
    Qos { level: String, path: String, changes: Vec<String> },
    /// Suspends or resumes.
    Suspend { level: String, path: String, suspended: bool },
    /// What holds for a proxy, inherited or its own.
    Service(String),
    /// Publishes events with these ids; `none`: without one.
    Ids { alias: String, first: u64, ids: Vec<String> },
    /// Seconds pass.
    Seconds(u64),
    /// Publishes one event that asks for something: `id.ID`, `priority.N`, `timeout.MS`, `start.MS`,
    /// `stop.MS`; or has a `domain.D` or a `type.T`.
    Ask { alias: String, sequence: u64, asks: Vec<String> },
    /// Deletes a proxy.
    RmProxy(String),
    /// Opens a lane in a channel for a supplier, known to the script as the alias.
    Open {
        channel: String,
        alias: String,
        #[arg(key)]
        name: Option<String>,
        #[arg(key)]
        attempt: Option<u64>,
        #[arg(key)]
        admin: Option<String>,
    },
    /// The supplier of a known lane opens it again, for the next time unless it is said for which.
    Reopen {
        alias: String,
        #[arg(key)]
        attempt: Option<u64>,
    },
    /// Publishes events of these sizes from a lane sequence on.
    Publish {
        alias: String,
        first: u64,
        sizes: Vec<u32>,
        #[arg(key)]
        epoch: Option<u32>,
    },
    /// Steps over refused sequences.
    Skip { alias: String, through: u64 },
    /// Forgets idle lanes.
    Expire(Vec<String>),
    /// Settles ranges of `CHANNEL/PROXY`.
    Settle {
        path: String,
        outcome: String,
        ranges: Vec<String>,
        #[arg(key)]
        revision: Option<u64>,
        #[arg(key)]
        token: Option<u64>,
    },
    /// From now on this client holds an exclusive proxy; 0: nobody does.
    Hold { path: String, client: u64 },
    /// Replays dead letters of a dead-letter channel, for the proxy that gave them up or for all.
    Replay {
        channel: String,
        ranges: Vec<String>,
        #[arg(key)]
        to_all: Option<bool>,
    },
    /// Drops dead letters of a dead-letter channel.
    Drop { channel: String, ranges: Vec<String> },
    /// Forgets what is too old for the history of these channels.
    Trim(Vec<String>),
    /// These proxies have clients, or had until now.
    Active(Vec<String>),
    /// Deletes these proxies, as far as nobody was there for too long.
    ExpireProxies(Vec<String>),
    /// Counts attempts.
    Attempt { path: String, ranges: Vec<String> },
    /// Time passes.
    Hours(u64),
    /// The machine goes through its image, as in a restart or a transfer.
    Restart,
    /// Asks for the hash.
    Checkpoint,
    /// What a channel and its proxies look like.
    Show(String),
}

/// A machine and the log it is fed; a follower is fed the same.
#[derive(Default)]
struct Runner {
    machine: Machine,
    follower: Machine,
    index: u64,
    stamp: Stamp,
    lanes: BTreeMap<String, LaneId>,
    /// As whom each supplier asked for its lane last.
    openers: BTreeMap<String, Opener>,
}

impl goldenscript::Runner for Runner {
    type Command = Line;

    fn run(&mut self, line: &Line, context: &goldenscript::Context) -> Result<String, Failure> {
        match line {
            Line::Seconds(seconds) => self.stamp = self.stamp.plus_millis(seconds * 1000),
            Line::Hours(hours) => self.stamp = self.stamp.plus_millis(hours * 3_600_000),
            Line::Restart => self.machine = Machine::decode(&self.machine.encode())?,
            Line::Show(channel) => return self.show(channel),
            Line::Types(channel) => return Ok(say_types(self.channel(channel)?)),
            Line::Wants(path) => {
                let Interest { own, admin } = self.machine.interest(self.proxy(path)?);
                return Ok(format!("{own}; its admin: {admin}"));
            }
            Line::Service(path) => return Ok(say_service(self.proxy(path)?.service())),
            line => {
                let command = self.command(line)?;
                let reply = self.apply(command, context.tags.contains("late"));
                if let (Line::Open { alias, .. }, Reply::LaneOpened { lane, .. }) = (line, &reply) {
                    self.lanes.insert(alias.clone(), *lane);
                }
                return Ok(say(&reply));
            }
        }
        Ok(String::new())
    }

    /// Holds after every line: the ledger, the kept hash, and what a follower has come to.
    fn end_command(&mut self, _: &Line, _: &goldenscript::Context) -> Result<String, Failure> {
        self.machine.check_ledger()?;
        assert_eq!(self.machine.hash(), self.machine.recompute_hash());
        assert_eq!(self.machine.hash(), self.follower.hash());
        Ok(String::new())
    }
}

impl Runner {
    /// Applies one entry. With `late` it was proposed in a tenure before the current one.
    fn apply(&mut self, command: Command, late: bool) -> Reply {
        let tenure = if late { Tenure(0) } else { self.machine.tenure() };
        self.index += 1;
        let batch = batch(tenure, self.stamp, vec![command]);
        let replies = self.machine.apply(self.index, &batch);
        assert_eq!(self.follower.apply(self.index, &batch), replies);
        replies.into_iter().next().unwrap()
    }

    fn channel(&self, name: &str) -> Result<&Channel, Failure> {
        let channel = self.machine.channel_by_name(&Name::new(name)?);
        channel.ok_or_else(|| format!("no channel {name}").into())
    }

    fn proxy(&self, path: &str) -> Result<&Proxy, Failure> {
        let (channel, name) = path.split_once('/').ok_or("not CHANNEL/PROXY")?;
        let id = self.channel(channel)?.proxy(&Name::new(name)?);
        id.and_then(|id| self.machine.proxy(id)).ok_or_else(|| format!("no proxy {path}").into())
    }

    fn target(&self, level: &str, path: &str) -> Result<Target, Failure> {
        let (channel, name) = path.split_once('/').unwrap_or((path, ""));
        Ok(match level {
            "channel" => Target::Channel(self.channel(path)?.id()),
            "admin" => Target::Admin(self.channel(channel)?.id(), Side::Consumer, Name::new(name)?),
            "supplier" => {
                Target::Admin(self.channel(channel)?.id(), Side::Supplier, Name::new(name)?)
            }
            "lane" => Target::Lane(self.lane(path)?),
            _ => Target::Proxy(self.proxy(path)?.id()),
        })
    }

    fn admin(&self, path: &str) -> Result<(ChannelId, Name), Failure> {
        let (channel, name) = path.split_once('/').ok_or("not CHANNEL/ADMIN")?;
        Ok((self.channel(channel)?.id(), Name::new(name)?))
    }

    fn lane(&self, alias: &str) -> Result<LaneId, Failure> {
        self.lanes.get(alias).copied().ok_or_else(|| format!("no lane {alias}").into())
    }

    fn epoch(&self, lane: LaneId) -> u32 {
        self.machine.lane(lane).map_or(1, |lane| lane.epoch())
    }

    /// As whom a supplier asks now.
    fn opener(&mut self, alias: &str, attempt: Option<u64>) -> Opener {
        let newcomer = Opener { client: self.openers.len() as u64 + 1, attempt: 0 };
        let last = self.openers.entry(alias.into()).or_insert(newcomer);
        let opener = Opener { attempt: attempt.unwrap_or(last.attempt + 1), ..*last };
        last.attempt = last.attempt.max(opener.attempt);
        opener
    }

    fn command(&mut self, line: &Line) -> Result<Command, Failure> {
        Ok(match line {
            Line::Begin => Command::BeginTenure { node: NodeId(1) },
            Line::Channel { name, pending_max, history } => {
                let mut qos = Qos::default();
                qos.set(Property::MaxQueueBytes, pending_max.map(|n| n as i64));
                qos.set(Property::HistoryEvents, history.map(|n| n as i64));
                Command::CreateChannel { name: Name::new(name)?, qos }
            }
            Line::RmChannel(name) => Command::DeleteChannel { channel: self.channel(name)?.id() },
            Line::Proxy { path, start, max_deliveries, admin, qos, types } => {
                let (channel, name) = path.split_once('/').ok_or("not CHANNEL/PROXY")?;
                let channel = self.channel(channel).map_or(ChannelId(99), Channel::id);
                let start = parse_start(start.as_deref())?;
                let admin = admin.as_deref().map(Name::new).transpose()?;
                let mut set = Qos::default();
                set.change(&parse_changes(qos.as_slice())?);
                set.set(Property::MaxDeliveries, max_deliveries.map(i64::from));
                let name = Name::new(name)?;
                let types = parse_patterns(types)?.into_iter().collect();
                Command::CreateProxy { channel, name, start, admin, qos: set, types }
            }
            Line::Admin { path, changes, types } | Line::SupplierAdmin { path, changes, types } => {
                let (channel, name) = self.admin(path)?;
                let side = match line {
                    Line::Admin { .. } => Side::Consumer,
                    _ => Side::Supplier,
                };
                let mut qos = Qos::default();
                qos.change(&parse_changes(changes)?);
                let types = parse_patterns(types)?.into_iter().collect();
                Command::CreateAdmin { channel, side, name, qos, types }
            }
            Line::Subscribe { level, path, add, remove } => Command::Subscribe {
                target: self.target(level, path)?,
                add: parse_patterns(add)?,
                remove: parse_patterns(remove)?,
            },
            Line::RmAdmin(path) => {
                let (channel, name) = self.admin(path)?;
                Command::DeleteAdmin { channel, side: Side::Consumer, name }
            }
            Line::RmSupplierAdmin(path) => {
                let (channel, name) = self.admin(path)?;
                Command::DeleteAdmin { channel, side: Side::Supplier, name }
            }
            Line::Qos { level, path, changes } => Command::SetQos {
                target: self.target(level, path)?,
                changes: parse_changes(changes)?,
            },
            Line::Suspend { level, path, suspended } => {
                let target = self.target(level, path)?;
                Command::Suspend { target, suspended: *suspended }
            }
            Line::Ask { alias, sequence, asks } => {
                let lane = self.lane(alias)?;
                let event = parse_asks(asks)?.encode()?;
                let mut events = (event.len() as u32).to_le_bytes().to_vec();
                events.extend_from_slice(event.as_bytes());
                Command::Publish(Publish {
                    channel: self.machine.lane(lane).map_or(ChannelId(1), |l| l.channel()),
                    lane,
                    epoch: self.epoch(lane),
                    first_sequence: *sequence,
                    count: 1,
                    events: events.into(),
                })
            }
            Line::Ids { alias, first, ids } => {
                let lane = self.lane(alias)?;
                let mut events = Vec::new();
                for id in ids {
                    let dedup = (id != "none").then(|| DedupKey::of("", id));
                    let event = Event { dedup, ..Event::of_body("") }.encode()?;
                    events.extend_from_slice(&(event.len() as u32).to_le_bytes());
                    events.extend_from_slice(event.as_bytes());
                }
                Command::Publish(Publish {
                    channel: self.machine.lane(lane).map_or(ChannelId(1), |l| l.channel()),
                    lane,
                    epoch: self.epoch(lane),
                    first_sequence: *first,
                    count: ids.len() as u32,
                    events: events.into(),
                })
            }
            Line::RmProxy(path) => Command::DeleteProxy { proxy: self.proxy(path)?.id() },
            Line::Open { channel, alias, name, attempt, admin } => {
                let target = match name {
                    Some(name) => LaneTarget::Named(Name::new(name)?),
                    None => LaneTarget::Fresh,
                };
                let channel = self.channel(channel)?.id();
                let admin = admin.as_deref().map(Name::new).transpose()?;
                Command::OpenLane { channel, target, opener: self.opener(alias, *attempt), admin }
            }
            Line::Reopen { alias, attempt } => {
                let lane = self.lane(alias)?;
                let channel = self.machine.lane(lane).map_or(ChannelId(1), |l| l.channel());
                let (target, opener) = (LaneTarget::Existing(lane), self.opener(alias, *attempt));
                Command::OpenLane { channel, target, opener, admin: None }
            }
            Line::Publish { alias, first, sizes, epoch } => {
                let lane = self.lane(alias)?;
                Command::Publish(Publish {
                    channel: self.machine.lane(lane).map_or(ChannelId(1), |l| l.channel()),
                    lane,
                    epoch: epoch.unwrap_or(self.epoch(lane)),
                    first_sequence: *first,
                    count: sizes.len() as u32,
                    events: block(sizes),
                })
            }
            Line::Skip { alias, through } => {
                let lane = self.lane(alias)?;
                Command::SkipSequences { lane, epoch: self.epoch(lane), through: *through }
            }
            Line::Expire(aliases) => {
                let lanes =
                    aliases.iter().map(|alias| self.lane(alias)).collect::<Result<_, _>>()?;
                Command::ExpireLanes { lanes }
            }
            Line::Settle { path, outcome, ranges, revision, token } => {
                let outcome = Outcome::ALL.into_iter().find(|o| o.as_str() == outcome);
                let outcome = outcome.ok_or("no such outcome")?;
                let reason = format!("gave up as {outcome}");
                let part = SettlePart { outcome, sequences: parse_ranges(ranges)?, reason };
                let revision = revision.unwrap_or(1);
                // A proxy that was deleted since has no id any more.
                let proxy = self.proxy(path).map_or(ProxyId(99), Proxy::id);
                let fencing = token.unwrap_or(0);
                Command::Settle(Settle { proxy, revision, fencing, parts: vec![part] })
            }
            Line::Hold { path, client } => {
                let holder = Member { client: *client, consumer: 1 };
                let holder = Some(holder).filter(|holder| holder.client > 0);
                Command::Hold { proxy: self.proxy(path)?.id(), holder }
            }
            Line::Attempt { path, ranges } => {
                let proxy = self.proxy(path)?.id();
                Command::CountAttempts { proxy, sequences: parse_ranges(ranges)? }
            }
            Line::Replay { channel, ranges, to_all } => Command::ReplayLetters {
                channel: self.channel(channel)?.id(),
                sequences: parse_ranges(ranges)?,
                to: if to_all.unwrap_or(false) { ReplayTo::All } else { ReplayTo::Proxy },
            },
            Line::Drop { channel, ranges } => Command::DropLetters {
                channel: self.channel(channel)?.id(),
                sequences: parse_ranges(ranges)?,
            },
            Line::Trim(names) => {
                let channels = names.iter().map(|name| Ok(self.channel(name)?.id()));
                Command::TrimHistory { channels: channels.collect::<Result<_, Failure>>()? }
            }
            Line::Active(paths) => {
                let proxies = paths.iter().map(|path| Ok(self.proxy(path)?.id()));
                Command::MarkActive { proxies: proxies.collect::<Result<_, Failure>>()? }
            }
            Line::ExpireProxies(paths) => {
                let proxies = paths.iter().map(|path| Ok(self.proxy(path)?.id()));
                Command::ExpireProxies { proxies: proxies.collect::<Result<_, Failure>>()? }
            }
            Line::Checkpoint => Command::Checkpoint,
            Line::Hours(_)
            | Line::Seconds(_)
            | Line::Restart
            | Line::Show(_)
            | Line::Service(_)
            | Line::Types(_)
            | Line::Wants(_) => return Err("not a command".into()),
        })
    }

    fn show(&self, name: &str) -> Result<String, Failure> {
        let channel = self.channel(name)?;
        let (retained, pending) = (channel.retained(), channel.pending());
        let mut out = String::new();
        writeln!(
            out,
            "{name}: accepted {}, no interest {}, retained {} ({} bytes), pending {} ({} bytes)",
            channel.accepted(),
            channel.no_interest(),
            retained.events,
            retained.bytes,
            pending.events,
            pending.bytes,
        )?;
        let slots = (1..channel.next_seq()).filter_map(|seq| Some((seq, channel.slot(seq)?)));
        let mark = |mark: Mark| match mark == Mark::default() {
            true => String::new(),
            false => {
                let (start, stop) = (mark.start.0 / 1000, mark.stop.0 / 1000);
                let again = if mark.again { " again" } else { "" };
                format!("[{} {start}..{stop}{again}]", mark.priority)
            }
        };
        let slots: Vec<String> =
            slots.map(|(seq, slot)| format!("{seq}@{}{}", slot.key(), mark(slot.mark))).collect();
        writeln!(out, "  retained: {}", slots.join(" "))?;
        for proxy in self.machine.proxies(channel.id()) {
            self.show_proxy(&mut out, proxy)?;
        }
        for seq in 1..channel.next_seq() {
            if let Some(letter) = channel.dead_letter(seq) {
                let (origin, proxy) = (letter.channel, &letter.proxy_name);
                let (seq_there, attempts) = (letter.seq, letter.attempts);
                let reason = &letter.reason;
                writeln!(
                    out,
                    "  letter {seq}: channel {origin} {proxy} seq {seq_there}, \
                     {attempts} attempts: {reason}"
                )?;
            }
        }
        let LetterCounts { replayed, dropped, pushed_out, lost } = *channel.letter_counts();
        if channel.letter_counts().total() > 0 {
            writeln!(
                out,
                "  letters: {replayed} replayed, {dropped} dropped, {pushed_out} pushed out, {lost} lost"
            )?;
        }
        Ok(out)
    }

    fn show_proxy(&self, out: &mut String, proxy: &Proxy) -> Result<(), Failure> {
        let counts = Outcome::ALL.map(|outcome| (outcome, proxy.counts().get(outcome)));
        let counts = counts.iter().filter(|(_, n)| *n > 0);
        let counts: Vec<String> = counts.map(|(outcome, n)| format!("{outcome} {n}")).collect();
        let pending: Vec<String> =
            std::iter::successors(self.machine.unsettled_from(proxy.id(), 0), |range| {
                self.machine.unsettled_from(proxy.id(), range.last + 1)
            })
            .map(text)
            .collect();
        writeln!(
            out,
            "  {}: offered {} from {} = {} + pending {} [{}]",
            proxy.name(),
            self.machine.offered(proxy),
            proxy.start_seq(),
            if counts.is_empty() { "nothing".into() } else { counts.join(", ") },
            self.machine.pending(proxy),
            pending.join(" "),
        )?;
        Ok(())
    }
}

fn parse_start(text: Option<&str>) -> Result<Start, Failure> {
    Ok(match text {
        None | Some("new") => Start::New,
        Some("all") => Start::All,
        Some(time) if time.starts_with('t') => Start::Time(time[1..].parse()?),
        Some(seq) => Start::Seq(seq.parse()?),
    })
}

fn parse_changes(texts: &[String]) -> Result<Vec<QosChange>, Failure> {
    let parse = |text: &String| {
        let (property, value) = text.split_once('.').ok_or("not PROPERTY.VALUE")?;
        let property: Property = property.parse()?;
        // A number is passed on as it is: the machine is to refuse it.
        let value = match value.parse() {
            Ok(number) => Some(number),
            Err(_) => Qos::parse(property, value)?,
        };
        Ok((property, value))
    };
    texts.iter().map(parse).collect()
}

fn parse_asks(texts: &[String]) -> Result<Event, Failure> {
    let mut event = Event::of_body("");
    for text in texts {
        let (what, value) = text.split_once('.').ok_or("not WHAT.NUMBER")?;
        match what {
            "priority" => event.priority = value.parse()?,
            "timeout" => event.timeout_ms = value.parse()?,
            "id" => event.dedup = Some(DedupKey::of("", value)),
            "start" => event.start_ms = value.parse()?,
            "domain" => event.header.domain = value.into(),
            "type" => event.header.kind = value.into(),
            _ => event.stop_ms = value.parse()?,
        }
    }
    Ok(event)
}

fn parse_patterns(text: &Option<String>) -> Result<Vec<TypePattern>, Failure> {
    let patterns = text.iter().flat_map(|text| text.split(','));
    Ok(patterns.map(str::parse).collect::<Result<_, _>>()?)
}

fn say_types(channel: &Channel) -> String {
    let types = channel.offered_types().map(|(id, name, count)| format!("{}:{name} {count}", id.0));
    let types: Vec<String> = types.collect();
    if types.is_empty() { "none".into() } else { types.join(", ") }
}

fn parse_ranges(texts: &[String]) -> Result<SeqRanges, Failure> {
    let parse = |text: &String| {
        let (first, last) = text.split_once("..").unwrap_or((text, text));
        Ok(SeqRange { first: first.parse()?, last: last.parse()? })
    };
    texts.iter().map(parse).collect()
}

fn text(range: SeqRange) -> String {
    if range.len() == 1 {
        range.first.to_string()
    } else {
        format!("{}..{}", range.first, range.last)
    }
}

fn say_service(service: &Service) -> String {
    let Service { order, discard, max_events, timeout_ms, batch_max, pacing_ms, .. } = service;
    let Service { ack_wait_ms, max_deliveries, max_in_flight, .. } = service;
    format!(
        "{order:?} order, {discard:?} discard, {max_events} events, timeout {timeout_ms}, \
         batches of {batch_max} in {pacing_ms} ms, {max_in_flight} in flight for {ack_wait_ms} ms, \
         {max_deliveries} deliveries"
    )
}

fn say(reply: &Reply) -> String {
    match reply {
        Reply::Rejected(rejection) => format!("refused: {rejection}"),
        Reply::TenureBegun { tenure } => format!("tenure {tenure}"),
        Reply::ChannelCreated { channel } => format!("channel {channel}"),
        Reply::ProxyReady { proxy, start_seq, created, .. } => {
            format!("proxy {proxy} from {start_seq}, created: {created}")
        }
        Reply::LaneOpened { lane, epoch, held_since, last_sequence } => {
            let held =
                if held_since < epoch { format!(" (held since {held_since})") } else { "".into() };
            format!("lane {lane}, epoch {epoch}{held}, last sequence {last_sequence}")
        }
        Reply::Published(published) => say_published(published),
        Reply::Settled(settled) => say_settled(settled),
        Reply::Checkpoint { index, hash } => format!("index {index}, hash {hash:016x}"),
        Reply::Changed { index, next_seq } => {
            format!("changed at {index}, before event {next_seq}")
        }
        Reply::Done => "done".into(),
        Reply::Letters(runs) => {
            let runs: Vec<String> = runs.iter().map(say_letters).collect();
            if runs.is_empty() { "no letters".into() } else { runs.join("; ") }
        }
        Reply::Held { fencing } => format!("token {fencing}"),
        Reply::Expired(proxies) => {
            let names: Vec<_> = proxies.iter().map(|(_, _, name)| name.to_string()).collect();
            format!("deleted {}: {}", names.len(), names.join(" "))
        }
    }
}

fn say_letters(run: &LetterRun) -> String {
    let letters = text(run.letters);
    match &run.fate {
        LetterFate::Replayed { channel, first } => {
            let last = first + run.letters.len() - 1;
            format!("{letters} -> {} of channel {channel}", text(SeqRange { first: *first, last }))
        }
        LetterFate::Dropped => format!("{letters} dropped"),
        LetterFate::Unknown => format!("{letters} unknown"),
        LetterFate::Refused(rejection) => format!("{letters} refused: {rejection}"),
    }
}

fn say_published(published: &Published) -> String {
    let runs = published.runs.iter().map(|run| {
        let last = run.first_sequence + u64::from(run.count) - 1;
        let sequences = text(SeqRange { first: run.first_sequence, last });
        let seqs =
            SeqRange { first: run.first_seq, last: run.first_seq + u64::from(run.count) - 1 };
        let mark = if run.duplicate { " (duplicate)" } else { "" };
        format!("{sequences} -> {}{mark}", text(seqs))
    });
    let refused = published.refused.iter().map(|rejection| {
        let expected = rejection.expected.map(|n| format!(", expected {n}")).unwrap_or_default();
        format!("refused: {rejection}{expected}")
    });
    runs.chain(refused).collect::<Vec<_>>().join("; ")
}

fn say_settled(settled: &Settled) -> String {
    let mut said = format!("settled {}", settled.settled);
    for (range, winner) in &settled.already {
        let winner = winner.map_or("unknown", Outcome::as_str);
        said += &format!("; {} already {winner}", text(*range));
    }
    if settled.stale > 0 {
        said += &format!("; {} judged under an old definition", settled.stale);
    }
    if let Some((channel, range)) = settled.dead_letters {
        said += &format!("; dead letters {} of channel {channel}", text(range));
    }
    said
}

#[test]
fn every_script_has_its_trace() {
    let scripts = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/machine");
    let mut paths: Vec<_> =
        std::fs::read_dir(scripts).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    assert!(paths.len() >= 14, "scripts are missing");
    for path in paths {
        goldenscript::run(&mut Runner::default(), &path).unwrap();
    }
}
