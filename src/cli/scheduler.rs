//! `scheduler`: whose turn it is in a channel, and how long each proxy waits for its own.

use serde::Serialize;

use super::args::{Common, Scheduler};
use super::exit::{Exit, Failure};
use super::{connect_admin, output};
use crate::types::{Name, Property, Qos, Side};
use crate::wire::admin::ChannelReport;

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
}

#[derive(Serialize)]
struct Contender {
    name: Name,
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
            name: proxy.name.clone(),
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
    }
}

fn people(report: &ChannelReport) -> String {
    let shown = shown(report);
    let mut table =
        output::table(&["proxy", "weight", "priority", "turns", "waits", "longest wait"]);
    for proxy in &shown.proxies {
        table.add_row(vec![
            proxy.name.to_string(),
            proxy.weight.to_string(),
            proxy.priority.to_string(),
            proxy.turns.to_string(),
            format!("{} ms", proxy.waiting_ms),
            format!("{} ms", proxy.longest_wait_ms),
        ]);
    }
    format!(
        "channel {}, scheduling {}, aging {} ms\nlongest wait of a proxy: {}\n\n{table}",
        shown.channel, shown.policy, shown.aging_ms, shown.bound
    )
}
