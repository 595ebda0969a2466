//! Scenarios as text: `scripts/*.script`. `UPDATE_GOLDENFILES=1` writes the traces anew.
//!
//! Time is in milliseconds and moves only by `at`. After each command that is not an input to the
//! facts alone, the dispatcher is polled and its actions are printed. Settlements and attempts wait
//! until `commit` applies them, `refuse` refuses them for now, or `fail` for good; all of them, or
//! the one of this number.

use std::error::Error;
use std::fmt::Write as _;
use std::path::Path;

use goldenscript::{ArgumentConsumer, Command, Context, Runner};

use super::fake::{CHANNEL, FakeFacts};
use crate::dispatch::*;
use crate::types::{
    Discard, Interest, Member, Order, ProxyId, Rejection, SeqRange, SeqRanges, Service, Stamp,
    Subscription, Tenure,
};

type Result<T> = std::result::Result<T, Box<dyn Error>>;

/// The one proxy of the scripts.
const PROXY: ProxyId = ProxyId(7);

struct Script {
    facts: FakeFacts,
    tenure: Tenure,
    dispatcher: Dispatcher,
    now: Stamp,
    /// Proposed and not yet applied.
    proposed: Vec<Action>,
}

/// The remaining arguments: `3`, `5-9`.
fn ranges(args: &mut ArgumentConsumer) -> Result<SeqRanges> {
    let mut set = SeqRanges::new();
    while let Some(part) = args.next_pos() {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        set.insert_range(SeqRange { first: first.parse()?, last: last.parse()? });
    }
    Ok(set)
}

fn show(set: &SeqRanges) -> String {
    let one = |r: SeqRange| match r.len() {
        1 => r.first.to_string(),
        _ => format!("{}-{}", r.first, r.last),
    };
    set.iter().map(one).collect::<Vec<_>>().join(",")
}

fn show_delivery(event: &Delivery) -> String {
    let mark = if event.maybe_redelivered { "*" } else { "" };
    let token = if event.fencing > 0 { format!("@{}", event.fencing) } else { String::new() };
    let times = if event.delivery > 1 { format!("(x{})", event.delivery) } else { String::new() };
    format!("{}{times}{mark}{token}", event.seq)
}

fn show_action(action: &Action) -> String {
    match action {
        Action::Deliver { consumer, events, .. } => {
            let events: Vec<String> = events.iter().map(show_delivery).collect();
            format!("c{} <- {}", consumer.0, events.join(" "))
        }
        Action::Settle { revision, fencing, parts, .. } => {
            let one = |p: &Settlement| {
                let reason =
                    if p.reason.is_empty() { String::new() } else { format!(" \"{}\"", p.reason) };
                format!("{} {}{reason}", p.outcome, show(&p.sequences))
            };
            let parts: Vec<String> = parts.iter().map(one).collect();
            let token = if *fencing > 0 { format!(" @{fencing}") } else { String::new() };
            format!("settle r{revision}{token}: {}", parts.join("; "))
        }
        Action::Hold { holder: Some(holder), .. } => format!("hold by m{}", holder.client),
        Action::Hold { holder: None, .. } => "hold by nobody".into(),
        Action::CountAttempts { sequences, .. } => format!("count attempts {}", show(sequences)),
        Action::Gap { consumer, missed } => {
            format!("c{} missed {}-{}", consumer.0, missed.first, missed.last)
        }
        Action::PullDone { consumer, request, delivered } => {
            format!("c{} pull {request} done: {delivered}", consumer.0)
        }
        Action::Close { consumer, rejection } => format!("c{} closed: {rejection}", consumer.0),
    }
}

fn is_proposal(action: &Action) -> bool {
    matches!(action, Action::Settle { .. } | Action::CountAttempts { .. } | Action::Hold { .. })
}

fn policy(args: &mut ArgumentConsumer, name: &str, default: Discard) -> Discard {
    match args.take_key(name) {
        Some("fifo") => Discard::Fifo,
        Some("lifo") => Discard::Lifo,
        Some("priority") => Discard::Priority,
        Some(_) => Discard::Deadline,
        None => default,
    }
}

fn key(args: &mut ArgumentConsumer) -> Result<ConsumerKey> {
    let name = args.next_pos().ok_or("which consumer?")?;
    Ok(ConsumerKey(name.strip_prefix('c').ok_or("consumers are c1, c2, …")?.parse()?))
}

/// Patterns with commas between them.
fn patterns(text: Option<&str>) -> Result<Subscription> {
    let patterns = text.into_iter().flat_map(|text| text.split(','));
    Ok(patterns
        .filter(|text| !text.is_empty())
        .map(str::parse)
        .collect::<std::result::Result<_, _>>()?)
}

fn number(args: &mut ArgumentConsumer, name: &str, default: u64) -> Result<u64> {
    Ok(args.take_key(name).map(str::parse).transpose()?.unwrap_or(default))
}

fn from(args: &mut ArgumentConsumer) -> Result<Option<ConsumerKey>> {
    let id = args.take_key("from").map(|name| name.trim_start_matches('c').parse()).transpose()?;
    Ok(id.map(ConsumerKey))
}

impl Script {
    fn new() -> Script {
        let mut facts = FakeFacts::default();
        facts.add_proxy(PROXY, Service { ack_wait_ms: 1000, ..Service::default() });
        let tenure = Tenure(1);
        let dispatcher = Dispatcher::new(tenure);
        Script { facts, tenure, dispatcher, now: Stamp(0), proposed: Vec::new() }
    }

    /// What holds for the proxy from now on.
    fn service(&mut self, args: &mut ArgumentConsumer) -> Result<()> {
        let known = &mut self.facts.proxies.get_mut(&PROXY).ok_or("no proxy")?.facts;
        known.revision += 1;
        known.rests = number(args, "rests", known.rests.into())? > 0;
        let service = &mut known.service;
        service.order = match args.take_key("order") {
            Some("fifo") => Order::Fifo,
            Some("priority") => Order::Priority,
            Some(_) => Order::Deadline,
            None => service.order,
        };
        service.max_in_flight =
            number(args, "max_in_flight", service.max_in_flight.into())?.try_into()?;
        service.max_deliveries =
            number(args, "max_deliveries", service.max_deliveries.into())?.try_into()?;
        service.ack_wait_ms = number(args, "ack_wait_ms", service.ack_wait_ms)?;
        service.discard = policy(args, "discard", service.discard);
        service.max_events = number(args, "max_events", service.max_events)?;
        service.timeout_ms = number(args, "timeout", service.timeout_ms)?;
        service.batch_max = number(args, "batch", service.batch_max.into())? as u32;
        service.pacing_ms = number(args, "pacing", service.pacing_ms)?;
        service.start_time_supported =
            number(args, "starts", service.start_time_supported.into())? > 0;
        service.stop_time_supported =
            number(args, "stops", service.stop_time_supported.into())? > 0;
        service.rate = number(args, "rate", service.rate)?;
        service.exclusive = number(args, "exclusive", service.exclusive.into())? > 0;
        if !service.exclusive && known.holder.take().is_some() {
            known.fencing += 1;
        }
        let (first, longest) = service.redelivery_ms;
        service.redelivery_ms =
            (number(args, "redelivery", first)?, number(args, "redelivery_max", longest)?);
        let (max, channel) = self.facts.max_queue_length;
        let max = number(args, "channel_max", max)?;
        self.facts.max_queue_length = (max, policy(args, "channel_discard", channel));
        self.facts.definitions += 1;
        self.dispatcher.channel_touched(CHANNEL);
        Ok(())
    }

    /// What the proxy and its admin want from now on.
    fn subscribe(&mut self, args: &mut ArgumentConsumer) -> Result<()> {
        let own = patterns(args.take_key("own"))?;
        let admin = patterns(args.take_key("admin"))?;
        self.facts.is_scarce = number(args, "scarce", self.facts.is_scarce.into())? > 0;
        self.facts.subscribe(PROXY, Interest { own, admin });
        self.dispatcher.channel_touched(CHANNEL);
        Ok(())
    }

    fn publish(&mut self, args: &mut ArgumentConsumer) -> Result<()> {
        let count: usize = args.next_pos().unwrap_or("1").parse()?;
        let size = number(args, "size", 100)? as u32;
        let index = number(args, "index", self.tenure.0 + 1)?;
        let moment = |millis: u64| if millis > 0 { Stamp(0).plus_millis(millis) } else { Stamp(0) };
        let kind = args.take_key("type").map(str::to_owned);
        let kind = kind.map(|name| self.facts.number(&name)).unwrap_or_default();
        let event = SlotFacts {
            accepted: self.now,
            kind,
            priority: args.take_key("priority").map(str::parse).transpose()?.unwrap_or(0),
            start: moment(number(args, "start", 0)?),
            stop: moment(number(args, "stop", 0)?),
            ..FakeFacts::plain(index, size)
        };
        self.facts.events.extend(std::iter::repeat_n(event, count));
        self.dispatcher.channel_touched(CHANNEL);
        Ok(())
    }

    fn attach(&mut self, args: &mut ArgumentConsumer) -> Result<()> {
        let consumer = key(args)?;
        let member = Member { client: number(args, "member", consumer.0)?, consumer: 1 };
        let to = match args.take_key("volatile") {
            Some(next) => {
                let (next_seq, types) = (next.parse()?, patterns(args.take_key("types"))?);
                Attachment::Volatile { channel: CHANNEL, next_seq, types }
            }
            None => Attachment::Durable(PROXY),
        };
        let mode = match args.take_key("credit") {
            Some(events) => Mode::Push {
                events: events.parse()?,
                bytes: number(args, "bytes", u64::from(u32::MAX))?,
            },
            None => Mode::Pull,
        };
        Ok(self.dispatcher.attach(&self.facts, (consumer, member), to, mode)?)
    }

    fn pull(&mut self, args: &mut ArgumentConsumer) -> Result<()> {
        let pull = Pull {
            request: number(args, "request", 1)?,
            events_max: number(args, "max", 10)? as u32,
            bytes_max: number(args, "bytes", 1 << 20)?,
            deadline: self.now.plus_millis(number(args, "wait", 0)?),
        };
        Ok(self.dispatcher.pull(key(args)?, pull)?)
    }

    /// What a consumer says about events.
    fn feedback(&mut self, verb: &str, args: &mut ArgumentConsumer) -> Result<()> {
        let from = from(args)?;
        let delay = number(args, "delay", 0)?;
        let token = args.take_key("token");
        let why = args.take_key("why").unwrap_or("").to_owned();
        let set = ranges(args)?;
        if let Some(token) = token {
            self.dispatcher.check_fencing(&self.facts, PROXY, token.parse()?)?;
        }
        match verb {
            "ack" => drop(self.dispatcher.ack(&self.facts, PROXY, &set)?),
            "term" => drop(self.dispatcher.term(&self.facts, PROXY, &set, &why)?),
            "nack" => self.dispatcher.nack(PROXY, from, &set, delay, self.now),
            _ => self.dispatcher.touch(PROXY, from, &set, self.now),
        }
        Ok(())
    }

    /// Decides what becomes of proposals.
    fn decide(&mut self, verb: &str, args: &mut ArgumentConsumer) -> Result<()> {
        let decided = match args.next_pos() {
            Some(number) => vec![self.proposed.remove(number.parse::<usize>()? - 1)],
            None => std::mem::take(&mut self.proposed),
        };
        for action in decided {
            if let Action::Hold { proxy, .. } = &action {
                if verb == "commit" {
                    self.facts.apply(&action);
                    self.dispatcher.channel_touched(CHANNEL);
                }
                self.dispatcher.held(*proxy, verb == "commit", self.now);
                continue;
            }
            let (proxy, proposal) = match &action {
                Action::Settle { proxy, proposal, .. }
                | Action::CountAttempts { proxy, proposal, .. } => (*proxy, *proposal),
                other => return Err(format!("{other:?} is no proposal").into()),
            };
            match verb {
                "fail" => self.dispatcher.failed(proxy, proposal, self.now),
                "refuse" => {
                    self.dispatcher.refused(proxy, proposal, self.now);
                }
                _ => {
                    let stale = self.facts.apply(&action);
                    self.dispatcher.applied(proxy, proposal, stale, self.now);
                }
            }
        }
        Ok(())
    }

    fn poll(&mut self) -> String {
        let mut text = String::new();
        let actions = self.dispatcher.poll(&self.facts, self.now);
        for action in actions {
            writeln!(text, "{}", show_action(&action)).unwrap();
            if is_proposal(&action) {
                self.proposed.push(action);
            }
        }
        text
    }

    fn input(&mut self, verb: &str, args: &mut ArgumentConsumer) -> Result<()> {
        match verb {
            "service" => self.service(args)?,
            "subscribe" => self.subscribe(args)?,
            "publish" => self.publish(args)?,
            "attach" => self.attach(args)?,
            "pull" => self.pull(args)?,
            "credit" => {
                let consumer = key(args)?;
                let events = args.next_pos().ok_or("how much?")?.parse()?;
                let bytes = number(args, "bytes", u64::from(u32::MAX))?;
                self.dispatcher.credit(consumer, events, bytes)?;
            }
            "detach" => {
                let lost = args.take_key("lost").is_some();
                let how = if lost { Departure::Lost } else { Departure::Returned };
                self.dispatcher.detach(key(args)?, how);
            }
            "ack" | "nack" | "term" | "touch" => self.feedback(verb, args)?,
            "at" => self.now = Stamp(0).plus_millis(args.next_pos().ok_or("when?")?.parse()?),
            "commit" | "refuse" | "fail" => self.decide(verb, args)?,
            "begin" => {
                self.tenure = Tenure(args.next_pos().ok_or("which tenure?")?.parse()?);
                self.dispatcher.begin(self.tenure);
                self.proposed.clear();
            }
            "retain" => {
                self.facts.first_retained = args.next_pos().ok_or("from where?")?.parse()?
            }
            "skip" => {
                let set = ranges(args)?;
                let outcome = crate::types::Outcome::Skipped;
                let part = Settlement { outcome, sequences: set, reason: String::new() };
                self.facts.settle(PROXY, &[part]);
            }
            "remove-proxy" => {
                self.facts.proxies.clear();
                self.dispatcher.channel_touched(CHANNEL);
            }
            "remove-channel" => {
                self.facts.exists = false;
                self.facts.proxies.clear();
                self.dispatcher.channel_touched(CHANNEL);
            }
            other => return Err(format!("unknown command {other}").into()),
        }
        Ok(())
    }
}

impl Runner for Script {
    type Command = Command;

    fn run(&mut self, command: &Command, _: &Context) -> Result<String> {
        let mut args = command.consume_args();
        if command.name == "state" {
            let due = self.dispatcher.next_wakeup().map(|due| due.0 as f64 / 1000.0);
            return Ok(format!("in flight {}, due {due:?}", self.dispatcher.in_flight(PROXY)));
        }
        let text = match self.input(&command.name, &mut args) {
            Ok(()) => self.poll(),
            Err(error) => format!("refused: {}\n", error.downcast::<Rejection>()?),
        };
        args.reject_next()?;
        Ok(text.lines().map(|line| format!("{command}: {line}\n")).collect())
    }
}

#[test]
fn scenarios() {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/dispatch/tests/scripts");
    let mut paths: Vec<_> = std::fs::read_dir(dir).unwrap().map(|e| e.unwrap().path()).collect();
    paths.sort();
    assert!(paths.len() >= 10, "the scripts are gone");
    for path in paths {
        goldenscript::run(&mut Script::new(), &path).unwrap();
    }
}
