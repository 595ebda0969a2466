//! Quality of service: orders, limits and times, and an operator who changes them.

use std::collections::BTreeMap;

use super::crashes::kill;
use super::{DEFAULT, PLAIN};
use crate::faults::Fault;
use crate::faults::clock::Clock;
use crate::faults::whom::Whom;
use crate::scenarios::{BedNeeds, Plan, Round, Scenario};
use crate::workloads::{
    Behaviour, ConsumerSpec, ListenerSpec, Load, Mode, OperatorSpec, Span, SupplierSpec, Wants,
};

pub const ALL: &[Scenario] = &[Scenario {
    name: "quality-under-kills",
    guards: "events go in the order of their proxy, within their times, and end as they may, while \
             an operator changes orders and limits and suspends consumers, leaders die and wall \
             clocks jump",
    bed: BedNeeds { shim: true, ..PLAIN },
    load: qualified,
    plan: |_| {
        let jump = |whom, jump_ms| Fault::Clock(Clock { whom, jump_ms });
        let lasts = Span::ms(0, 1_200);
        let jumps = [jump(Whom::Leader, 30_000), jump(Whom::All, -30_000)];
        let under = |clock| {
            Round::one(clock, Span::ms(2_000, 4_000)).and(
                Span::ms(300, 1_500),
                kill(Whom::Leader),
                lasts,
            )
        };
        let mut rounds = vec![Round::one(kill(Whom::Leader), lasts)];
        rounds.extend(jumps.map(under));
        Plan { rounds, pause: Span::ms(600, 1_800), drawn: false, rounds_max: 0 }
    },
    required: &[
        ("fault:kill(leader)", 2),
        ("redefined", 10),
        ("suspensions", 2),
        ("orders_judged", 1_000),
        ("starts_judged", 100),
        ("ends_judged", 100),
    ],
    ..DEFAULT
}];

/// A consumer for each order, one that is good to its events and has none, and a listener.
fn qualified(_: &mut fastrand::Rng) -> Load {
    let supplier = SupplierSpec { asks: Wants::mixed(), ..SupplierSpec::default() };
    let consumer = |name: &str, qos: &[(&str, &str)]| ConsumerSpec {
        qos: qos.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect(),
        ..ConsumerSpec::new(name)
    };
    let limit = ("max_events_per_consumer", "500");
    let urgent = consumer("urgent", &[("order_policy", "priority"), limit]);
    let due = consumer("due", &[("order_policy", "deadline"), ("pacing_interval", "20")]);
    let fast = consumer("fast", &[("timeout", "1500"), ("discard_policy", "priority"), limit]);
    let plain = ConsumerSpec {
        behaviour: Behaviour::good(),
        clients: 1,
        qos: BTreeMap::new(),
        ..ConsumerSpec::new("plain")
    };
    Load {
        suppliers: vec![supplier.clone(), supplier],
        consumers: vec![urgent, ConsumerSpec { mode: Mode::Pull, ..due }, fast, plain],
        listeners: vec![ListenerSpec::new("tail")],
        operator: Some(OperatorSpec { every: Span::ms(100, 900), suspended: Span::ms(100, 1_500) }),
        ..Load::default()
    }
}
