//! `scheduler`: whose turn it is in a channel, on either side, and how long each waits for its own.

use serde::Serialize;

use super::args::{Common, Scheduler};
use super::exit::{Exit, Failure};
use super::proxies::lane_name;
use super::{connect_admin, output};
use crate::types::{Name, Property, Qos, Side};
use crate::wire::admin::{ChannelReport, LaneReport};

/// Runs a `scheduler` command.
pub async fn run(common: &Common, command: &Scheduler) -> Result<Exit, Failure> {
    let Scheduler::Show { channel } = command;
    let report = connect_admin(common)?.channel(channel).await?.value;
    let people = people(&report);
    output::result(common.output, &shown(&report), |_| people);
    Ok(Exit::Ok)
}

/// How the scheduler of a channel works, and how its proxies fare.
#[derive(Serialize)]
struct Shown {
    channel: Name,
    policy: String,
    /// Under `priority`: milliseconds waited that lift a proxy by 1; 0: none do.
    aging_ms: i64,
    /// What the policy promises to those who wait.
    bound: &'static str,
    proxies: Vec<Contender>,
    /// The side of suppliers: which lane is next.
    suppliers: Supplying,
}

/// The same for lanes, which wait to go into the log.
#[derive(Serialize)]
struct Supplying {
    policy: String,
    aging_ms: i64,
    bound: &'static str,
    lanes: Vec<Contender>,
}

#[derive(Serialize)]
struct Contender {
    /// Of a lane without a name its id; `default`: all that share the default proxy.
    name: String,
    weight: i64,
    priority: i64,
    /// Turns it had in the tenure of this leader.
    turns: u64,
    waiting_ms: u64,
    longest_wait_ms: u64,
}

fn shown(report: &ChannelReport) -> Shown {
    let of_channel = |property| Qos::resolve(&[&report.qos], property);
    let place = of_channel(Property::SchedulingPolicy);
    let contender = |proxy: &crate::wire::admin::ProxyReport| {
        let admin = report.admin(Side::Consumer, &proxy.admin);
        let admin = admin.map(|admin| admin.qos.clone()).unwrap_or_default();
        let value = |property| Qos::resolve(&[&proxy.qos, &admin], property);
        Contender {
            name: proxy.name.to_string(),
            weight: value(Property::SchedulingWeight),
            priority: value(Property::SchedulingPriority),
            turns: proxy.turns,
            waiting_ms: proxy.waiting_ms,
            longest_wait_ms: proxy.longest_wait_ms,
        }
    };
    Shown {
        channel: report.name.clone(),
        policy: Property::SchedulingPolicy.spec().domain.show(place),
        aging_ms: of_channel(Property::SchedulingAging),
        bound: match place {
            1 => {
                "while a proxy of weight w waits, another of weight v takes at most a turn * v/w + a turn"
            }
            2 => {
                "(highest priority - its own) * aging, then a turn of each other proxy; aging 0: none"
            }
            3 => {
                "until a second after its next event ends, or two seconds if none does, then a turn of each other proxy"
            }
            _ => "a turn of each other proxy",
        },
        proxies: report.proxies.iter().map(contender).collect(),
        suppliers: supplying(report),
    }
}

fn supplying(report: &ChannelReport) -> Supplying {
    let of_channel = |property| Qos::resolve(&[&report.qos], property);
    let place = of_channel(Property::SupplierSchedulingPolicy);
    let of_admin = |name: &Name| {
        let admin = report.admin(Side::Supplier, name);
        admin.map(|admin| admin.qos.clone()).unwrap_or_default()
    };
    let own = |lane: &LaneReport| {
        let admin = of_admin(&lane.admin);
        let value = |property| Qos::resolve(&[&lane.qos, &admin], property);
        Contender {
            name: lane_name(lane),
            weight: value(Property::SchedulingWeight),
            priority: value(Property::SchedulingPriority),
            turns: lane.turns,
            waiting_ms: lane.waiting_ms,
            longest_wait_ms: lane.longest_wait_ms,
        }
    };
    let all = &report.suppliers;
    let admin = of_admin(&Name::default_admin());
    let shared = Contender {
        name: Name::default_admin().to_string(),
        weight: Qos::resolve(&[&admin], Property::SchedulingWeight),
        priority: Qos::resolve(&[&admin], Property::SchedulingPriority),
        turns: all.turns,
        waiting_ms: all.waiting_ms,
        longest_wait_ms: all.longest_wait_ms,
    };
    Supplying {
        policy: Property::SupplierSchedulingPolicy.spec().domain.show(place),
        aging_ms: of_channel(Property::SupplierSchedulingAging),
        bound: match place {
            1 => {
                "while a lane of weight w waits, another of weight v takes at most a turn * v/w + a turn"
            }
            2 => {
                "(highest priority - its own) * aging, then a turn of each other lane; aging 0: none"
            }
            3 => {
                "until a second after its next event ends, or two seconds if none does, then a turn of each other lane"
            }
            _ => "a turn of each other lane",
        },
        lanes: all.lanes.iter().map(own).chain([shared]).collect(),
    }
}

fn people(report: &ChannelReport) -> String {
    let shown = shown(report);
    let lanes = &shown.suppliers;
    format!(
        "channel {}, scheduling {}, aging {} ms\nlongest wait of a proxy: {}\n\n{}\n\n\
         scheduling of suppliers {}, aging {} ms\nlongest wait of a lane: {}\n\n{}",
        shown.channel,
        shown.policy,
        shown.aging_ms,
        shown.bound,
        table("proxy", &shown.proxies),
        lanes.policy,
        lanes.aging_ms,
        lanes.bound,
        table("lane", &lanes.lanes),
    )
}

fn table(what: &str, contenders: &[Contender]) -> String {
    let mut table = output::table(&[what, "weight", "priority", "turns", "waits", "longest wait"]);
    for one in contenders {
        table.add_row(vec![
            one.name.clone(),
            one.weight.to_string(),
            one.priority.to_string(),
            one.turns.to_string(),
            format!("{} ms", one.waiting_ms),
            format!("{} ms", one.longest_wait_ms),
        ]);
    }
    table.to_string()
}
