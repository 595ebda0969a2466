//! `proxy`: what consumers, and suppliers, are connected to.

use serde::Serialize;

use super::admins::subscribed;
use super::args::{Common, Proxy, ProxyCreate, ProxyName, ProxyOrLane, ProxyTypes};
use super::exit::{Exit, Failure};
use super::quality::{brief, values};
use super::{asked, connect_admin, output};
use crate::types::{Code, Level, Name, Property, QosChange, Rejection, Side, Subscription};
use crate::wire::admin::{
    ChannelReport, LaneReport, PropertyReport, ProxyReport, ProxyWish, Target, qos_wish,
};

/// Runs a `proxy` command.
pub async fn run(common: &Common, command: &Proxy) -> Result<Exit, Failure> {
    match command {
        Proxy::Create(flags) => create(common, flags).await?,
        Proxy::Ls { channel } => list(common, channel).await?,
        Proxy::Show(of) => show(common, of).await?,
        Proxy::Rm(ProxyName { channel, name }) => {
            let answer = connect_admin(common)?.remove_proxy(channel, name).await?;
            output::result(common.output, &answer, |_| {
                format!("removed proxy {name} of channel {channel}")
            });
        }
        Proxy::Subscribe(ProxyTypes { of, patterns }) => {
            let answer = connect_admin(common)?.subscribe(&target(of), patterns, &[]).await?;
            output::result(common.output, &answer, subscribed);
        }
        Proxy::Unsubscribe(ProxyTypes { of, patterns }) => {
            let answer = connect_admin(common)?.subscribe(&target(of), &[], patterns).await?;
            output::result(common.output, &answer, subscribed);
        }
        Proxy::Suspend(of) => suspend(common, of, true).await?,
        Proxy::Resume(of) => suspend(common, of, false).await?,
    }
    Ok(Exit::Ok)
}

fn target(of: &ProxyName) -> Target {
    Target::Proxy { channel: of.channel.clone(), proxy: of.name.clone() }
}

/// What is to be set: flags of their own are short for properties.
fn changes(flags: &ProxyCreate) -> Vec<QosChange> {
    let own = [
        (Property::AckWait, flags.ack_wait_ms),
        (Property::MaxDeliveries, flags.max_deliveries.map(u64::from)),
        (Property::MaxInFlight, flags.max_in_flight.map(u64::from)),
    ];
    asked::with_flags(&flags.qos, own)
}

async fn create(common: &Common, flags: &ProxyCreate) -> Result<(), Failure> {
    let changes = changes(flags);
    asked::check(Level::Proxy, &changes)?;
    let wish = ProxyWish {
        name: flags.of.name.clone(),
        start: flags.from,
        admin: flags.admin.clone(),
        qos: qos_wish(&changes),
        types: flags.types.iter().cloned().collect(),
    };
    let answer = connect_admin(common)?.create_proxy(&flags.of.channel, &wish).await?;
    output::result(common.output, &answer, |a| {
        let made = &a.value;
        let (name, channel, admin) = (&made.proxy.name, &made.channel, &made.proxy.admin);
        match made.created {
            true => format!(
                "created proxy {name} of channel {channel} under admin {admin}; it starts with \
                 sequence {}",
                made.start_seq
            ),
            false => format!("proxy {name} of channel {channel} is there already, as asked for"),
        }
    });
    Ok(())
}

async fn suspend(common: &Common, flags: &ProxyOrLane, suspended: bool) -> Result<(), Failure> {
    let ProxyName { channel, name } = &flags.of;
    let target = match flags.lane {
        true => Target::Lane { channel: channel.clone(), lane: name.clone() },
        false => target(&flags.of),
    };
    let answer = connect_admin(common)?.suspend(&target, suspended).await?;
    output::result(common.output, &answer, |_| match (suspended, flags.lane) {
        (true, false) => {
            format!("suspended proxy {name}: it delivers nothing, and keeps what comes")
        }
        (true, true) => format!("suspended lane {name}: it takes nothing"),
        (false, false) => format!("resumed proxy {name}"),
        (false, true) => format!("resumed lane {name}"),
    });
    Ok(())
}

/// What is connected to a channel in JSON: a line for each proxy, of which the default ones, that
/// clients content with the defaults share, come last.
#[derive(Serialize)]
struct Listed {
    channel: Name,
    /// Towards consumers.
    proxies: Vec<Line>,
    /// Towards suppliers.
    lanes: Vec<LaneLine>,
}

#[derive(Serialize)]
#[serde(untagged)]
enum Line {
    Durable {
        durable: bool,
        /// Why it is not the default one.
        why: &'static str,
        /// By itself or by its admin.
        state: &'static str,
        #[serde(flatten)]
        proxy: Box<ProxyReport>,
    },
    /// Plain subscribers; they acknowledge nothing, so there is no ledger.
    Shared { durable: bool, why: &'static str, name: Option<Name>, clients: u64 },
}

#[derive(Serialize)]
#[serde(untagged)]
enum LaneLine {
    Own {
        why: String,
        /// By itself or by its admin.
        state: &'static str,
        #[serde(flatten)]
        lane: Box<LaneReport>,
    },
    /// Suppliers content with the defaults.
    Shared { why: &'static str, name: Option<Name>, lanes: u64, clients: u64 },
}

/// Why clients are on a default proxy.
const SHARED: &str = "shared: push, default QoS";

async fn list(common: &Common, channel: &Name) -> Result<(), Failure> {
    let report = connect_admin(common)?.channel(channel).await?.value;
    let people = format!("{}\n\n{}", consumers(&report), suppliers(&report));
    let clients = report.subscribers;
    let shared = Line::Shared { durable: false, why: SHARED, name: None, clients };
    let durable = |proxy: &ProxyReport| {
        let (why, state) = ("own: named", state(&report, proxy));
        Line::Durable { durable: true, why, state, proxy: Box::new(proxy.clone()) }
    };
    let proxies = report.proxies.iter().map(durable).chain([shared]).collect();
    let (lanes, clients) = (report.suppliers.shared_lanes, report.suppliers.clients);
    let shared = LaneLine::Shared { why: SHARED, name: None, lanes, clients };
    let own = |lane: &LaneReport| {
        let (why, state) = (why(lane), lane_state(&report, lane));
        LaneLine::Own { why, state, lane: Box::new(lane.clone()) }
    };
    let lanes = report.suppliers.lanes.iter().map(own).chain([shared]).collect();
    let listed = Listed { channel: channel.clone(), proxies, lanes };
    output::result(common.output, &listed, |_| people);
    Ok(())
}

/// Why a lane is not part of the default one.
fn why(lane: &LaneReport) -> String {
    let pulled = lane.pulled.then(|| "pull".to_string());
    let named = lane.name.as_ref().map(|_| "named".to_string());
    let admin = (lane.admin != Name::default_admin()).then(|| format!("admin {}", lane.admin));
    let set = (!lane.qos.is_empty()).then(|| "QoS".to_string());
    let suspended = lane.suspended.then(|| "suspended".to_string());
    let reasons: Vec<String> =
        [pulled, named, admin, set, suspended].into_iter().flatten().collect();
    format!("own: {}", reasons.join(", "))
}

/// What people call a lane.
pub fn lane_name(lane: &LaneReport) -> String {
    lane.name.as_ref().map_or_else(|| lane.lane.clone(), Name::to_string)
}

fn told(itself: bool, admin: bool) -> &'static str {
    match (itself, admin) {
        (true, _) => "suspended",
        (false, true) => "suspended by admin",
        (false, false) => "active",
    }
}

fn rests(channel: &ChannelReport, side: Side, admin: &Name) -> bool {
    channel.admin(side, admin).is_some_and(|admin| admin.suspended)
}

/// Whether a proxy delivers, and if not, whose doing that is.
pub fn state(channel: &ChannelReport, proxy: &ProxyReport) -> &'static str {
    told(proxy.suspended, rests(channel, Side::Consumer, &proxy.admin))
}

/// Whether a lane takes events, and if not, whose doing that is.
fn lane_state(channel: &ChannelReport, lane: &LaneReport) -> &'static str {
    told(lane.suspended, rests(channel, Side::Supplier, &lane.admin))
}

fn consumers(channel: &ChannelReport) -> String {
    let mut table = output::table(&[
        "to consumers",
        "why",
        "admin",
        "durable",
        "clients",
        "pending",
        "in flight",
        "state",
        "types",
        "set for it",
    ]);
    for proxy in &channel.proxies {
        table.add_row(vec![
            proxy.name.to_string(),
            "own: named".into(),
            proxy.admin.to_string(),
            lasts(proxy),
            output::count(proxy.clients),
            output::count(proxy.pending),
            output::count(proxy.in_flight),
            state(channel, proxy).into(),
            proxy.types.to_string(),
            brief(&proxy.qos),
        ]);
    }
    let none = || "-".to_string();
    table.add_row(vec![
        "default".into(),
        SHARED.into(),
        none(),
        "no".into(),
        output::count(channel.subscribers),
        none(),
        none(),
        "active".into(),
        none(),
        none(),
    ]);
    table.to_string()
}

fn suppliers(channel: &ChannelReport) -> String {
    let mut table = output::table(&[
        "to suppliers",
        "why",
        "admin",
        "lanes",
        "clients",
        "last sequence",
        "last used",
        "state",
        "set for it",
    ]);
    let none = || "-".to_string();
    for lane in &channel.suppliers.lanes {
        table.add_row(vec![
            lane_name(lane),
            why(lane),
            lane.admin.to_string(),
            lane.lane.clone(),
            output::count(lane.connected.into()),
            lane.last_sequence.to_string(),
            format!("{} s ago", lane.idle_ms / 1000),
            lane_state(channel, lane).into(),
            brief(&lane.qos),
        ]);
    }
    let rests = rests(channel, Side::Supplier, &Name::default_admin());
    table.add_row(vec![
        "default".into(),
        SHARED.into(),
        Name::default_admin().to_string(),
        output::count(channel.suppliers.shared_lanes),
        output::count(channel.suppliers.clients),
        none(),
        none(),
        told(false, rests).into(),
        none(),
    ]);
    table.to_string()
}

/// A proxy with what holds for it.
#[derive(Serialize)]
struct Shown {
    channel: Name,
    #[serde(flatten)]
    proxy: ProxyReport,
    /// By itself or by its admin.
    state: &'static str,
    /// What its admin wants for its proxies.
    admin_types: Subscription,
    properties: Vec<PropertyReport>,
}

async fn show(common: &Common, of: &ProxyName) -> Result<(), Failure> {
    let asker = connect_admin(common)?;
    let properties = asker.qos(&target(of)).await?.value.properties;
    let channel = asker.channel(&of.channel).await?.value;
    let Some(proxy) = channel.proxies.iter().find(|proxy| proxy.name == of.name).cloned() else {
        let message = format!("channel '{}' has no proxy '{}' any more", of.channel, of.name);
        return Err(Rejection::new(Code::UnknownProxy, message).into());
    };
    let state = state(&channel, &proxy);
    let admin = channel.admins.iter().find(|admin| admin.name == proxy.admin);
    let admin_types = admin.map(|admin| admin.types.clone()).unwrap_or_default();
    let shown = Shown { channel: of.channel.clone(), proxy, state, admin_types, properties };
    output::result(common.output, &shown, people);
    Ok(())
}

/// Who consumes from an exclusive proxy, and who would.
fn holding(proxy: &ProxyReport) -> String {
    if !proxy.exclusive {
        return String::new();
    }
    let holder =
        proxy.holder.as_ref().map_or("nobody".to_string(), |holder| format!("client {holder}"));
    let token = proxy.fencing_token.map_or("none".to_string(), |token| token.to_string());
    let standby = match proxy.standby.as_slice() {
        [] => "nobody stands by".to_string(),
        clients => format!("{} stand by: {}", clients.len(), clients.join(" ")),
    };
    format!("held by    {holder}, fencing token {token}; {standby}\n")
}

fn span(millis: u64) -> String {
    humantime::format_duration(std::time::Duration::from_millis(millis)).to_string()
}

/// Whether it stays whoever consumes from it.
fn lasts(proxy: &ProxyReport) -> String {
    match proxy.inactivity_expiry_ms {
        0 => "yes".into(),
        idle => format!("until idle {}", span(idle)),
    }
}

/// How it delivers, in a line.
fn delivery(proxy: &ProxyReport) -> String {
    let ProxyReport { ack_wait_ms, max_in_flight, max_deliveries, .. } = proxy;
    let limit = match max_deliveries {
        0 => "deliveries without limit".to_string(),
        most => format!("{most} deliveries"),
    };
    let end = match proxy.inactivity_expiry_ms {
        0 => String::new(),
        idle => format!(", deleted after {} without a client", span(idle)),
    };
    format!("ack wait {ack_wait_ms} ms, {max_in_flight} in flight, {limit}{end}")
}

fn people(shown: &Shown) -> String {
    let proxy = &shown.proxy;
    let count = output::count;
    format!(
        "proxy      {} of channel {}, admin {}, {}\ndelivery   {}\ntypes      {}{}\n\
         events     {} offered, {} acked, {} pending, {} in flight\n\
         otherwise  {} filtered, {} expired, {} discarded, {} dead-lettered, {} skipped\n\
         clients    {}\n{}\n{}",
        proxy.name,
        shown.channel,
        proxy.admin,
        shown.state,
        delivery(proxy),
        proxy.types,
        match shown.admin_types.is_empty() {
            true => String::new(),
            false => format!("; of these what its admin wants: {}", shown.admin_types),
        },
        count(proxy.offered),
        count(proxy.acked),
        count(proxy.pending),
        count(proxy.in_flight),
        count(proxy.filtered),
        count(proxy.expired),
        count(proxy.discarded),
        count(proxy.dead_lettered),
        count(proxy.skipped),
        count(proxy.clients),
        holding(proxy),
        values(&shown.properties),
    )
}
