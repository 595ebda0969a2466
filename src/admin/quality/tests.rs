//! What is inherited from where, against a machine.

use super::*;
use crate::machine::{Batch, LaneTarget};
use crate::types::{NodeId, Opener, Stamp, Start};

/// A machine with the admin `fast` and its proxy `p` in the default channel.
struct Rig {
    machine: Machine,
    index: u64,
}

fn name(text: &str) -> Name {
    Name::new(text).unwrap()
}

fn target(level: Level) -> Target {
    let channel = Name::default_channel();
    match level {
        Level::Channel | Level::Event => Target::Channel { channel },
        Level::Admin => Target::Admin { channel, side: Side::Consumer, admin: name("fast") },
        Level::SupplierAdmin => {
            Target::Admin { channel, side: Side::Supplier, admin: name("slow") }
        }
        Level::Lane => Target::Lane { channel, lane: name("l") },
        Level::Proxy => Target::Proxy { channel, proxy: name("p") },
    }
}

impl Rig {
    fn new() -> Rig {
        let mut rig = Rig { machine: Machine::new(), index: 0 };
        rig.apply(Command::BeginTenure { node: NodeId(1) });
        let found = rig.machine.channel_by_name(&Name::default_channel()).unwrap();
        let (channel, qos) = (found.id(), Qos::default());
        let admin = Some(name("fast"));
        for (side, name) in [(Side::Consumer, name("fast")), (Side::Supplier, name("slow"))] {
            let (qos, types) = (qos.clone(), Default::default());
            rig.apply(Command::CreateAdmin { channel, side, name, qos, types });
        }
        rig.apply(Command::OpenLane {
            channel,
            target: LaneTarget::Named(name("l")),
            opener: Opener::default(),
            admin: Some(name("slow")),
        });
        let start = Start::New;
        let (name, types) = (name("p"), Default::default());
        let made = Command::CreateProxy { channel, name, start, admin, qos, types };
        rig.apply(made);
        rig
    }

    fn apply(&mut self, command: Command) -> Reply {
        self.index += 1;
        let tenure = self.machine.tenure();
        let batch = Batch { tenure, stamp: Stamp(self.index), commands: vec![command] };
        self.machine.apply(self.index, &batch).remove(0)
    }

    fn set(&mut self, level: Level, property: Property, value: Option<i64>) {
        let target = Found::new(&self.machine, &target(level)).unwrap().target();
        let changes = vec![(property, value)];
        cut(self.apply(Command::SetQos { target, changes })).unwrap();
    }

    fn report(&self, level: Level, property: Property) -> PropertyReport {
        let report = qos_report(&self.machine, &target(level)).unwrap();
        assert_eq!(report.level, level);
        report.properties.into_iter().find(|line| line.property == property).unwrap()
    }
}

#[test]
fn each_level_says_what_it_has_and_what_it_inherits() {
    let mut rig = Rig::new();
    let order = Property::OrderPolicy;
    let word = |text: &str| PropertyValue::Word(text.into());
    let bare = rig.report(Level::Proxy, order);
    assert_eq!((bare.own, bare.effective), (None, word("any")));
    assert_eq!((bare.effective_from, bare.inherited_from), (Origin::Default, Origin::Default));

    rig.set(Level::Channel, order, Some(2));
    rig.set(Level::Proxy, order, Some(3));
    let proxy = rig.report(Level::Proxy, order);
    assert_eq!((proxy.own, proxy.effective), (Some(word("deadline")), word("deadline")));
    assert_eq!((proxy.inherited, proxy.inherited_from), (word("priority"), Origin::Channel));
    let admin = rig.report(Level::Admin, order);
    assert_eq!((admin.own, admin.effective_from), (None, Origin::Channel));

    rig.set(Level::Admin, order, Some(1));
    rig.set(Level::Proxy, order, None);
    let proxy = rig.report(Level::Proxy, order);
    assert_eq!((proxy.own, proxy.effective), (None, word("fifo")));
    assert_eq!(proxy.effective_from, Origin::Admin);
    let report = qos_report(&rig.machine, &target(Level::Proxy)).unwrap();
    assert_eq!((report.admin, report.proxy), (Some(name("fast")), Some(name("p"))));
}

#[test]
fn only_what_can_be_set_on_a_level_is_told_of_it() {
    let rig = Rig::new();
    for level in [Level::Channel, Level::Admin, Level::Proxy] {
        let report = qos_report(&rig.machine, &target(level)).unwrap();
        let told: Vec<_> = report.properties.iter().map(|line| line.property).collect();
        let settable = Property::all().iter().filter(|spec| spec.levels.contains(&level));
        assert_eq!(told, settable.map(|spec| spec.property).collect::<Vec<_>>());
    }
}

#[test]
fn what_is_not_there_is_named() {
    let rig = Rig::new();
    let refused = |target| qos_report(&rig.machine, &target).unwrap_err();
    let (channel, nobody) = (Name::default_channel(), name("nobody"));
    let rejection = refused(Target::Channel { channel: nobody.clone() });
    assert_eq!(rejection.code, Code::UnknownChannel);
    let rejection = refused(Target::Admin {
        channel: channel.clone(),
        side: Side::Consumer,
        admin: nobody.clone(),
    });
    assert_eq!(rejection.code, Code::UnknownAdmin);
    let rejection = refused(Target::Proxy { channel, proxy: nobody });
    assert_eq!(rejection.code, Code::UnknownProxy);
    assert!(rejection.message.contains("'nobody'"), "{rejection}");
}

#[test]
fn a_wish_is_understood_whole_or_refused_with_all_its_faults() {
    let wish = |pairs: &[(&str, &str)]| {
        pairs.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect()
    };
    let good = wish(&[("OrderPolicy", "priority"), ("timeout", "inherit")]);
    let changes = understand(Level::Proxy, &good, "proxy 'p'").unwrap();
    assert_eq!(changes, [(Property::OrderPolicy, Some(2)), (Property::Timeout, None)]);

    let bad = wish(&[("colour", "red"), ("max_queue_length", "inherit"), ("timeout", "-1")]);
    let rejection = understand(Level::Proxy, &bad, "proxy 'p'").unwrap_err();
    assert_eq!(rejection.code, Code::InvalidQos);
    for said in ["proxy 'p'", "bad_property", "unavailable_property", "bad_value", "4294967295"] {
        assert!(rejection.message.contains(said), "{said}: {rejection}");
    }
}
